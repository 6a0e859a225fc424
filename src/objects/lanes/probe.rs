//! The one call that an object makes: a health probe of a service, never two at a time.

use std::rc::Rc;

use futures_channel::oneshot;

use crate::objects::secrets::DecryptedSecrets;
use crate::platform::calls::{self, ProbeResponse};
use crate::platform::http::Headers;
use crate::platform::log::Message;
use crate::platform::{Failure, clock, random, settings};
use narthex_core::base::id::ulid;
use narthex_core::http::egress_address::Address;
use narthex_core::models::endpoint::ANTHROPIC_VERSION;
use narthex_core::service_lane::Identity;
use narthex_core::service_lane::probing::{ProbeError, ProbeReport, Probed, Target};

use super::Inner;

/// A service that takes longer to respond is unhealthy, in milliseconds.
const PROBE_MS: u64 = 5_000;

impl Inner {
    /// The probe of the alarm, for which no request waits.
    pub(super) async fn probe_on_time(self: &Rc<Self>, target: &Target) {
        let probed = self.lane.borrow().present();
        if let Err(failure) = self.probe(probed, target).await {
            self.log(Message::ProbeNotSaved, &failure);
        }
    }

    /// Probes the service, or waits for the probe in progress.
    pub(super) async fn probe(self: &Rc<Self>, probed: Probed, target: &Target) -> Result<ProbeReport, Failure> {
        loop {
            if let Some(recent) = self.lane.borrow().recent_probe(probed, clock::now()) {
                return Ok(recent.clone());
            }
            let Some(in_progress) = self.probing.get() else { break };
            let (sender, receiver) = oneshot::channel();
            self.probe_waiters.borrow_mut().push(sender);
            let report = receiver.await.map_err(|_| Failure("the probe was abandoned".into()));
            // Otherwise it was a probe of another address.
            if in_progress == probed {
                return report;
            }
        }
        self.probing.set(Some(probed));
        let report = self.call_service(target).await;
        self.probing.set(None);
        let report = report.inspect_err(|_| self.probe_waiters.borrow_mut().clear())?;
        let recorded = self.lane.borrow_mut().probed(probed, &report, clock::now());
        for watcher in self.probe_waiters.take() {
            // The waiting request may have ended.
            let _ = watcher.send(report.clone());
        }
        recorded?;
        Ok(report)
    }

    /// The address rules are checked again, as before every call.
    async fn call_service(&self, target: &Target) -> Result<ProbeReport, Failure> {
        let identity = self.lane.borrow().identity().cloned();
        let Identity { tenant, service } = identity.ok_or_else(|| Failure("a lane without a service".into()))?;
        let address = match &target.binding {
            Some(binding) => settings::current().binding_address(&tenant, binding, &target.url),
            None => settings::current().may_call(&target.url, None),
        };
        let Ok(address) = address else {
            return Ok(ProbeReport::failed(ProbeError::AddressRefused, 0, clock::now()));
        };
        let secrets = DecryptedSecrets::of(&tenant, &service, target.into(), clock::now()).await?;
        Ok(call(target, &address, &secrets).await)
    }
}

async fn call(target: &Target, address: &Address, secrets: &DecryptedSecrets) -> ProbeReport {
    let began = clock::now();
    let id = format!("probe_{}", ulid(began, random::bytes()));
    let mut headers = Headers::default();
    headers.set("accept", "*/*");
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    if target.lists_models {
        // Anthropic refuses requests without it; others ignore it.
        headers.set("anthropic-version", ANTHROPIC_VERSION);
    }
    secrets.add(&mut headers, &id, began, b"");
    let looked = calls::probe_service(&secrets.addressed(address), &headers, PROBE_MS).await;
    let at = clock::now();
    let latency_ms = at.since(began);
    match looked {
        ProbeResponse::Answered(status) => target.judge(status, latency_ms, at),
        ProbeResponse::Unreachable => ProbeReport::failed(ProbeError::Unreachable, latency_ms, at),
        ProbeResponse::TimedOut => ProbeReport::failed(ProbeError::TimedOut, latency_ms, at),
    }
}
