//! The one call an object makes: a short look at a service's health, never two at a time.

use std::rc::Rc;

use futures_channel::oneshot;

use crate::core::id::ulid;
use crate::core::signature::Secret;
use crate::platform::calls::{self, Looked};
use crate::platform::http::Headers;
use crate::platform::{Failure, clock, random};

use super::Inner;
use super::messages::{ProbeError, Seen, Target};

/// A service that takes longer to say that it is well is not.
const PROBE_MS: u64 = 5_000;
/// What was seen this lately is not looked at again.
const LATELY_MS: u64 = 1_000;

impl Inner {
    /// Probes the service, or waits for the probe that is under way.
    pub(super) async fn see(self: &Rc<Self>, target: &Target) -> Result<Seen, Failure> {
        let lately = self.seen.borrow().clone().filter(|seen| clock::now().since(seen.at) < LATELY_MS);
        if let Some(seen) = lately {
            return Ok(seen);
        }
        if self.is_probing.replace(true) {
            let (sender, receiver) = oneshot::channel();
            self.watchers.borrow_mut().push(sender);
            return receiver.await.map_err(|_| Failure("the probe was given up".into()));
        }
        let seen = look(target).await;
        self.is_probing.set(false);
        self.lane.borrow_mut().probed(seen.good, seen.at);
        *self.seen.borrow_mut() = Some(seen.clone());
        for watcher in self.watchers.take() {
            // Who went away needs no word.
            let _ = watcher.send(seen.clone());
        }
        Ok(seen)
    }
}

async fn look(target: &Target) -> Seen {
    let began = clock::now();
    let id = format!("probe_{}", ulid(began, random::bytes()));
    let mut headers = Headers::default();
    headers.set("accept", "*/*");
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    headers.set("webhook-id", &id);
    headers.set("webhook-timestamp", &began.seconds().to_string());
    if let Some(secret) = Secret::parse(&target.signing_secret) {
        headers.set("webhook-signature", &secret.sign(&id, began.seconds(), b""));
    }
    if let Some(credentials) = &target.credentials {
        headers.set(&credentials.header, &credentials.value);
    }
    let looked = calls::look(&target.url, &headers, PROBE_MS).await;
    let at = clock::now();
    let (good, status_code, error) = match looked {
        Looked::Answered(status) => {
            (if target.strict { (200..300).contains(&status) } else { status < 500 }, Some(status), None)
        }
        Looked::Unreachable => (false, None, Some(ProbeError::Unreachable)),
        Looked::TimedOut => (false, None, Some(ProbeError::TimedOut)),
    };
    Seen { good, status_code, error, latency_ms: at.since(began), at }
}
