//! Health probes: where a service is probed, when, and what a response shows.

use serde::{Deserialize, Serialize};

use super::storage::Storage;
use super::{ServiceLane, StorageError};
use crate::access::encrypted_secret::EncryptedSecret;
use crate::base::alarm::SLACK_MS;
use crate::base::time::Timestamp;
use crate::lane::health::{ProbeExpectation, ProbeResult, StatusReason};
use crate::services::RetiringSecret;
use crate::services::credentials::EncryptedCredentials;

/// A result this recent is used again, in milliseconds.
const REUSE_MS: u64 = 1_000;

/// Where and how a service is probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// A URL, or a path if there is a binding.
    pub url: String,
    #[serde(default)]
    pub binding: Option<String>,
    /// The probe interval; `None`: only on request.
    #[serde(default)]
    pub interval_ms: Option<u64>,
    /// Only 2xx counts as healthy; otherwise everything but a server error.
    pub strict: bool,
    /// The URL lists models; most endpoints require valid credentials for that: see `crate::lane::health`.
    #[serde(default)]
    pub lists_models: bool,
    #[serde(default)]
    pub credentials: Option<EncryptedCredentials>,
    pub signing_secret: EncryptedSecret,
    #[serde(default)]
    pub retiring: Option<RetiringSecret>,
}

/// The result of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    pub good: bool,
    /// The response says nothing about the service's health.
    #[serde(default)]
    pub unmeasured: bool,
    #[serde(default)]
    pub status_code: Option<u16>,
    /// Why the probe got no usable response.
    #[serde(default)]
    pub error: Option<ProbeError>,
    pub latency_ms: u64,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProbeError {
    Unreachable,
    TimedOut,
    /// The address must not be called: see `crate::http::egress_address`.
    AddressRefused,
    /// The service must connect by itself, and has not done so.
    NotConnected,
    /// It responded with 401 or 403.
    CredentialsRefused,
    /// It responded with something other than what the probe asked for, which does not show its health.
    NotMeasured,
}

impl ProbeReport {
    /// A probe without a usable response.
    pub fn failed(error: ProbeError, latency_ms: u64, at: Timestamp) -> Self {
        Self { good: false, unmeasured: false, status_code: None, error: Some(error), latency_ms, at }
    }
}

impl Target {
    /// What the status code of a response to a probe shows.
    pub fn judge(&self, status: u16, latency_ms: u64, at: Timestamp) -> ProbeReport {
        let expectation = match (self.strict, self.lists_models) {
            (true, _) => ProbeExpectation::Success,
            (false, true) => ProbeExpectation::Models,
            (false, false) => ProbeExpectation::Answer,
        };
        let result = expectation.evaluate(status);
        let error = match result {
            ProbeResult::Good | ProbeResult::Bad => None,
            ProbeResult::CredentialsRefused => Some(ProbeError::CredentialsRefused),
            ProbeResult::NotMeasured => Some(ProbeError::NotMeasured),
        };
        let (good, unmeasured) = (result == ProbeResult::Good, result == ProbeResult::NotMeasured);
        ProbeReport { good, unmeasured, status_code: Some(status), error, latency_ms, at }
    }
}

/// Identifies the program that a probe calls: a service that was given another address since is not judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probed(Timestamp);

impl<S: Storage> ServiceLane<S> {
    /// Where the service is probed from now on. The first probe follows soon: until then the health is unknown.
    ///
    /// # Errors
    /// The storage fails.
    pub fn configure(&mut self, target: Target, now: Timestamp) -> Result<(), StorageError> {
        if self.state.target.as_ref() == Some(&target) || self.is_sender_late() || self.state.is_leaving {
            return Ok(());
        }
        self.storage.put_target(&target)?;
        self.lane.set_probe_interval(target.interval_ms);
        self.state.probe_at = target.interval_ms.map(|_| now.plus_ms(self.timing.first_probe_ms));
        self.state.target = Some(target);
        // The message may be late: the registry answers a report about a service that was deleted since, and then its
        // lane, with the credentials for probes, is deleted too.
        self.state.unreported.get_or_insert(StatusReason::Stale);
        self.store(now)
    }

    /// If a probe is due: sets the time of the next one, and returns where to probe.
    pub(super) fn take_due_probe(&mut self, now: Timestamp, random: u64) -> Option<Target> {
        self.state.probe_at.filter(|at| *at <= now.plus_ms(SLACK_MS))?;
        let Some(target) = self.state.target.clone() else {
            self.state.probe_at = None;
            return None;
        };
        // 90 to 110%: services registered together are not probed together.
        self.state.probe_at = target.interval_ms.map(|interval| now.plus_ms(interval * (90 + random % 21) / 100));
        Some(target)
    }

    /// The program that the alarm's probe calls.
    pub fn present(&self) -> Probed {
        Probed(self.state.moved_at)
    }

    /// The program that the sender of the present message wants to be probed.
    pub fn of_sender(&self) -> Probed {
        Probed(self.state.sender_moved_at)
    }

    /// The last result of a probe of this program, if it is recent enough to be used again.
    pub fn recent_probe(&self, probed: Probed, now: Timestamp) -> Option<&ProbeReport> {
        let recent = self.state.last_probe.as_ref().filter(|report| now.since(report.at) < REUSE_MS);
        recent.filter(|_| probed == self.present())
    }

    /// Records the result of a probe.
    ///
    /// # Errors
    /// The storage fails.
    pub fn probed(&mut self, probed: Probed, report: &ProbeReport, now: Timestamp) -> Result<(), StorageError> {
        if probed != self.present() {
            return Ok(());
        }
        if !report.unmeasured {
            self.lane.record_probe(report.good, report.at);
        }
        self.state.last_probe = Some(report.clone());
        if self.state.probe_at.is_some() { self.store(now) } else { Ok(()) }
    }
}
