//! The one call that an object makes: a health probe of a service, never two at a time.

use std::rc::Rc;

use futures_channel::oneshot;

use crate::objects::secrets::DecryptedSecrets;
use crate::platform::calls::{self, Looked};
use crate::platform::http::Headers;
use crate::platform::{Failure, clock, random, settings};
use narthex_core::base::id::ulid;
use narthex_core::http::egress_address::Address;
use narthex_core::lane::health::{ProbeExpectation, ProbeResult};

use super::Inner;
use super::messages::{ProbeError, Seen, Target};

/// A service that takes longer to respond is unhealthy, in milliseconds.
const PROBE_MS: u64 = 5_000;
/// A result this recent is used again, in milliseconds.
const LATELY_MS: u64 = 1_000;

impl Inner {
    /// Probes the service, or waits for the probe in progress.
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
        let seen = self.look_at(target).await;
        self.is_probing.set(false);
        let seen = seen.inspect_err(|_| self.watchers.borrow_mut().clear())?;
        if !seen.unmeasured {
            self.lane.borrow_mut().record_probe(seen.good, seen.at);
        }
        *self.seen.borrow_mut() = Some(seen.clone());
        for watcher in self.watchers.take() {
            // The waiting request may have ended.
            let _ = watcher.send(seen.clone());
        }
        Ok(seen)
    }

    /// The address rules are checked again, as before every call.
    async fn look_at(&self, target: &Target) -> Result<Seen, Failure> {
        let identity = self.identity.borrow().clone().ok_or_else(|| Failure("a lane of no service".into()))?;
        let address = match &target.binding {
            Some(binding) => settings::current().binding_address(&identity.tenant, binding, &target.url),
            None => settings::current().may_call(&target.url, None),
        };
        let Ok(address) = address else { return Ok(refused()) };
        let secrets = DecryptedSecrets::of(&identity.tenant, &identity.service, target.into(), clock::now()).await?;
        Ok(look(target, &address, &secrets).await)
    }
}

/// The result for a service whose address must not be called.
fn refused() -> Seen {
    let error = Some(ProbeError::AddressRefused);
    Seen { good: false, unmeasured: false, status_code: None, error, latency_ms: 0, at: clock::now() }
}

async fn look(target: &Target, address: &Address, secrets: &DecryptedSecrets) -> Seen {
    let began = clock::now();
    let id = format!("probe_{}", ulid(began, random::bytes()));
    let mut headers = Headers::default();
    headers.set("accept", "*/*");
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    secrets.add(&mut headers, &id, began, b"");
    let looked = calls::look(&secrets.addressed(address), &headers, PROBE_MS).await;
    let at = clock::now();
    let wanted = match (target.strict, target.lists_models) {
        (true, _) => ProbeExpectation::Success,
        (false, true) => ProbeExpectation::Models,
        (false, false) => ProbeExpectation::Answer,
    };
    let (good, status_code, error) = match looked {
        Looked::Answered(status) => {
            let finding = wanted.evaluate(status);
            let error = match finding {
                ProbeResult::Good | ProbeResult::Bad => None,
                ProbeResult::CredentialsRefused => Some(ProbeError::CredentialsRefused),
                ProbeResult::NotMeasured => Some(ProbeError::NotMeasured),
            };
            (finding == ProbeResult::Good, Some(status), error)
        }
        Looked::Unreachable => (false, None, Some(ProbeError::Unreachable)),
        Looked::TimedOut => (false, None, Some(ProbeError::TimedOut)),
    };
    let unmeasured = error == Some(ProbeError::NotMeasured);
    Seen { good, unmeasured, status_code, error, latency_ms: at.since(began), at }
}
