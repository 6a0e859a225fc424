//! The health of a service, from probes, its own heartbeats and the calls to it.
//!
//! Without measurements the status is unknown, and old measurements expire. A flapping status is damped before it is
//! published.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::observed::HealthStatus;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;

/// Consecutive failed probes after which a service is offline.
pub const FAILURES_UNTIL_OFFLINE: u64 = 3;
/// Consecutive successful probes after which an unhealthy service is online.
pub const SUCCESSES_UNTIL_ONLINE: u64 = 2;
/// Calls within 30 s before their failure rate counts.
const MIN_CALLS: u64 = 10;
/// How long evidence is valid without renewal, in milliseconds.
pub const STALE_MS: u64 = 300_000;
/// How many intervals late a probe may be.
const LATE_INTERVALS: u64 = 3;
/// A status with more changes than this within a minute is flapping.
pub const FLAPS: usize = 5;
const FLAPPING_MS: u64 = 60_000;

/// The results of probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct ProbeRecord {
    status: HealthStatus,
    goods: u64,
    fails: u64,
    at: Timestamp,
}

/// A status that the service reported, valid until its lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Heartbeat {
    status: HealthStatus,
    until: Timestamp,
    lease_ms: u64,
}

/// The evidence that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusReason {
    Probe,
    Heartbeat,
    HeartbeatEnded,
    /// The service is connected, or is not.
    Connection,
    Calls,
    Breaker,
    /// The evidence is stale.
    Stale,
}

/// Which responses to a probe count as healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeExpectation {
    /// 2xx: the path was configured for it.
    Success,
    /// The list of models of an OpenAI-compatible endpoint: it shows whether the credentials are valid. Some endpoints
    /// do not have one.
    Models,
    /// Any response but a server error: the address was not made for GET.
    Answer,
}

/// What a probe's response status means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    Good,
    Bad,
    CredentialsRefused,
    NotMeasured,
}

impl ProbeExpectation {
    /// Classifies the status code of a probe's response.
    pub fn evaluate(self, status: u16) -> ProbeResult {
        match (self, status) {
            (_, 200..300) => ProbeResult::Good,
            (ProbeExpectation::Success | ProbeExpectation::Models, 401 | 403) => ProbeResult::CredentialsRefused,
            (ProbeExpectation::Success, _) | (_, 408 | 500..) => ProbeResult::Bad,
            // Reachable, but busy.
            (ProbeExpectation::Models, 429) | (ProbeExpectation::Answer, _) => ProbeResult::Good,
            (ProbeExpectation::Models, _) => ProbeResult::NotMeasured,
        }
    }
}

/// All evidence on one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Evidence {
    #[serde(default)]
    probed: ProbeRecord,
    #[serde(default)]
    #[serde(rename = "beat")]
    heartbeat: Option<Heartbeat>,
    /// When the last call succeeded.
    #[serde(default)]
    served_at: Timestamp,
    /// The status by its connections, of a service that connects. After a restart it is read from the remaining
    /// connections.
    #[serde(skip)]
    connected: Option<HealthStatus>,
}

impl Evidence {
    /// Records a probe.
    pub fn record_probe(&mut self, good: bool, now: Timestamp) {
        let seen = &mut self.probed;
        let first = seen.status == HealthStatus::Unknown;
        if good {
            seen.goods += 1;
            seen.fails = 0;
            if first || seen.goods >= SUCCESSES_UNTIL_ONLINE {
                seen.status = HealthStatus::Online;
            }
            // The probe is newer than an expired heartbeat.
            self.heartbeat = self.heartbeat.filter(|beat| beat.until > now);
        } else {
            seen.fails += 1;
            seen.goods = 0;
            if seen.fails >= FAILURES_UNTIL_OFFLINE {
                seen.status = HealthStatus::Offline;
            } else if first {
                seen.status = HealthStatus::Degraded;
            }
        }
        seen.at = now;
    }

    /// Records a heartbeat, valid for `lease_ms`.
    pub fn record_heartbeat(&mut self, status: HealthStatus, lease_ms: u64, now: Timestamp) {
        self.heartbeat = Some(Heartbeat { status, until: now.plus_ms(lease_ms), lease_ms });
    }

    /// Sets the status that follows from the service's connections; `None` if the service is called at an address.
    pub fn set_connection_status(&mut self, status: Option<HealthStatus>) {
        self.connected = status;
    }

    /// When the last heartbeat expires.
    pub fn heartbeat_until(&self) -> Option<Timestamp> {
        self.heartbeat.map(|beat| beat.until)
    }

    /// The form to persist: heartbeats are extended by one lease, so that not every one needs a write.
    pub fn to_record(mut self) -> Self {
        if let Some(beat) = &mut self.heartbeat {
            beat.until = beat.until.plus_ms(beat.lease_ms);
        }
        self
    }

    /// When a call last succeeded.
    pub fn served_at(&self) -> Timestamp {
        self.served_at
    }

    /// Records a successful call.
    pub fn record_success(&mut self, at: Timestamp) {
        self.served_at = self.served_at.max(at);
    }

    /// The resulting status. `calls` are the successes and failures within the last 30 s; `interval_ms` is the probe
    /// interval, if the service is probed.
    pub fn judge(&self, calls: (u64, u64), interval_ms: Option<u64>, now: Timestamp) -> (HealthStatus, StatusReason) {
        let (successes, failures) = calls;
        let (total, of) = (successes + failures, self.explicit(interval_ms, now));
        let fails_often = total >= MIN_CALLS && failures * 10 >= total;
        match of {
            Some((status, reason)) if fails_often && status.rank() == 0 => {
                (HealthStatus::Degraded, if status == HealthStatus::Degraded { reason } else { StatusReason::Calls })
            }
            Some(known) => known,
            None if fails_often => (HealthStatus::Degraded, StatusReason::Calls),
            None if self.served_at.0 > 0 && now.since(self.served_at) < STALE_MS => {
                (HealthStatus::Online, StatusReason::Calls)
            }
            None => (HealthStatus::Unknown, StatusReason::Stale),
        }
    }

    /// The status by connections; otherwise the worse of probes and heartbeats.
    fn explicit(&self, interval_ms: Option<u64>, now: Timestamp) -> Option<(HealthStatus, StatusReason)> {
        if let Some(status) = self.connected {
            return Some((status, StatusReason::Connection));
        }
        let lasts = interval_ms.map_or(STALE_MS, |interval| interval.saturating_mul(LATE_INTERVALS));
        let known = self.probed.status != HealthStatus::Unknown && now.since(self.probed.at) < lasts;
        let probed = known.then_some((self.probed.status, StatusReason::Probe));
        let beat = self.heartbeat.map(|beat| {
            if beat.until > now {
                (beat.status, StatusReason::Heartbeat)
            } else {
                (HealthStatus::Offline, StatusReason::HeartbeatEnded)
            }
        });
        match (probed, beat) {
            (Some(probed), Some(beat)) if probed.0.rank() > beat.0.rank() => Some(probed),
            (_, Some(beat)) => Some(beat),
            (probed, None) => probed,
        }
    }

    /// When the status may change by time alone.
    pub fn next_change(&self, interval_ms: Option<u64>, now: Timestamp) -> Option<Timestamp> {
        let lasts = interval_ms.map_or(STALE_MS, |interval| interval.saturating_mul(LATE_INTERVALS));
        let probed = (self.probed.status != HealthStatus::Unknown).then(|| self.probed.at.plus_ms(lasts));
        let served = (self.served_at.0 > 0).then(|| self.served_at.plus_ms(STALE_MS));
        [probed, self.heartbeat_until(), served].into_iter().flatten().filter(|at| *at > now).min()
    }
}

/// What a damper decides about a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamperDecision {
    /// It is already published.
    Same,
    /// Publish it now.
    Publish,
    /// Check again at this time.
    Later(Timestamp),
}

/// Keeps a flapping status from being published each time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Damper {
    timing: Timing,
    /// The last status offered, and when it began.
    raw: HealthStatus,
    raw_since: Timestamp,
    published_at: Timestamp,
    /// The latest changes, published or not.
    changes: VecDeque<Timestamp>,
}

impl Damper {
    /// A damper without any changes yet.
    pub fn new(timing: Timing) -> Self {
        Self { timing, ..Self::default() }
    }

    /// Offers the current status; `published` is the last published one.
    pub fn offer(&mut self, status: HealthStatus, published: HealthStatus, now: Timestamp) -> DamperDecision {
        if status != self.raw {
            self.raw = status;
            self.raw_since = now;
            self.changes.push_back(now);
            if self.changes.len() > FLAPS + 1 {
                self.changes.pop_front();
            }
        }
        if status == published {
            return DamperDecision::Same;
        }
        let flaps = self.changes.len() > FLAPS && self.changes.front().is_some_and(|at| now.since(*at) < FLAPPING_MS);
        let is_better = status.rank() < published.rank();
        let mut from =
            if self.published_at.0 == 0 { now } else { self.published_at.plus_ms(self.timing.status_interval_ms) };
        if flaps && is_better {
            from = from.max(self.raw_since.plus_ms(self.timing.status_hold_ms));
        }
        if from > now {
            return DamperDecision::Later(from);
        }
        self.published_at = now;
        DamperDecision::Publish
    }
}

#[cfg(test)]
mod tests;
