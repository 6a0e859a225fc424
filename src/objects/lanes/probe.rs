//! The one call that an object makes: a health probe of a service, never two at a time.

use std::rc::Rc;

use futures_channel::oneshot;

use crate::objects::secrets::DecryptedSecrets;
use crate::platform::calls::{self, ProbeResponse};
use crate::platform::http::Headers;
use crate::platform::{Failure, clock, random, settings};
use narthex_core::base::id::ulid;
use narthex_core::http::egress_address::Address;
use narthex_core::lane::health::{ProbeExpectation, ProbeResult};

use super::Inner;
use super::messages::{ProbeError, ProbeReport, Target};

/// A service that takes longer to respond is unhealthy, in milliseconds.
const PROBE_MS: u64 = 5_000;
/// A result this recent is used again, in milliseconds.
const REUSE_MS: u64 = 1_000;

impl Inner {
    /// Probes the service, or waits for the probe in progress.
    pub(super) async fn probe(self: &Rc<Self>, target: &Target) -> Result<ProbeReport, Failure> {
        let recent = self.state.last_probe.borrow().clone().filter(|report| clock::now().since(report.at) < REUSE_MS);
        if let Some(report) = recent {
            return Ok(report);
        }
        if self.is_probing.replace(true) {
            let (sender, receiver) = oneshot::channel();
            self.probe_waiters.borrow_mut().push(sender);
            return receiver.await.map_err(|_| Failure("the probe was abandoned".into()));
        }
        let report = self.call_service(target).await;
        self.is_probing.set(false);
        let report = report.inspect_err(|_| self.probe_waiters.borrow_mut().clear())?;
        if !report.unmeasured {
            self.lane.borrow_mut().record_probe(report.good, report.at);
        }
        *self.state.last_probe.borrow_mut() = Some(report.clone());
        for watcher in self.probe_waiters.take() {
            // The waiting request may have ended.
            let _ = watcher.send(report.clone());
        }
        Ok(report)
    }

    /// The address rules are checked again, as before every call.
    async fn call_service(&self, target: &Target) -> Result<ProbeReport, Failure> {
        let identity =
            self.state.identity.borrow().clone().ok_or_else(|| Failure("a lane without a service".into()))?;
        let address = match &target.binding {
            Some(binding) => settings::current().binding_address(&identity.tenant, binding, &target.url),
            None => settings::current().may_call(&target.url, None),
        };
        let Ok(address) = address else { return Ok(address_refused()) };
        let secrets = DecryptedSecrets::of(&identity.tenant, &identity.service, target.into(), clock::now()).await?;
        Ok(call(target, &address, &secrets).await)
    }
}

/// The result for a service whose address must not be called.
fn address_refused() -> ProbeReport {
    let error = Some(ProbeError::AddressRefused);
    ProbeReport { good: false, unmeasured: false, status_code: None, error, latency_ms: 0, at: clock::now() }
}

async fn call(target: &Target, address: &Address, secrets: &DecryptedSecrets) -> ProbeReport {
    let began = clock::now();
    let id = format!("probe_{}", ulid(began, random::bytes()));
    let mut headers = Headers::default();
    headers.set("accept", "*/*");
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    secrets.add(&mut headers, &id, began, b"");
    let looked = calls::probe_service(&secrets.addressed(address), &headers, PROBE_MS).await;
    let at = clock::now();
    let expectation = match (target.strict, target.lists_models) {
        (true, _) => ProbeExpectation::Success,
        (false, true) => ProbeExpectation::Models,
        (false, false) => ProbeExpectation::Answer,
    };
    let (good, status_code, error) = match looked {
        ProbeResponse::Answered(status) => {
            let result = expectation.evaluate(status);
            let error = match result {
                ProbeResult::Good | ProbeResult::Bad => None,
                ProbeResult::CredentialsRefused => Some(ProbeError::CredentialsRefused),
                ProbeResult::NotMeasured => Some(ProbeError::NotMeasured),
            };
            (result == ProbeResult::Good, Some(status), error)
        }
        ProbeResponse::Unreachable => (false, None, Some(ProbeError::Unreachable)),
        ProbeResponse::TimedOut => (false, None, Some(ProbeError::TimedOut)),
    };
    let unmeasured = error == Some(ProbeError::NotMeasured);
    ProbeReport { good, unmeasured, status_code, error, latency_ms: at.since(began), at }
}
