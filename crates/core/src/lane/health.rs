//! Whether a service is well, from what was seen: probes, its own heartbeats, the calls that went to it.
//!
//! Nothing is claimed that nobody measured, and what was measured long ago is not claimed any more. A status that
//! flaps is damped before it is published.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::observed::HealthStatus;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;

/// Failed probes in a row until a service is offline.
pub const FAILS_UNTIL_OFFLINE: u64 = 3;
/// Good probes in a row until one that was not well is online.
pub const GOODS_UNTIL_ONLINE: u64 = 2;
/// Calls within 30 s before their share of failures says something.
const FEW_CALLS: u64 = 10;
/// Evidence that nobody renews is worth nothing after this, in milliseconds.
pub const STALE_MS: u64 = 300_000;
/// Probes may be late by this many intervals.
const LATE_INTERVALS: u64 = 3;
/// What changed more often than this within a minute flaps.
pub const FLAPS: usize = 5;
const FLAPPING_MS: u64 = 60_000;

/// What probes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Probed {
    status: HealthStatus,
    goods: u64,
    fails: u64,
    at: Timestamp,
}

/// What the service says of itself, for as long as its lease lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Beat {
    status: HealthStatus,
    until: Timestamp,
    lease_ms: u64,
}

/// Which evidence decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Probe,
    Heartbeat,
    HeartbeatEnded,
    /// It is connected, or is not.
    Connection,
    Calls,
    Breaker,
    /// What was known is too old.
    Stale,
}

/// What is good for an answer to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// 2xx: the path was configured for it.
    Success,
    /// The list of models, at an endpoint that speaks OpenAI's API: it shows whether the credentials are good. Some
    /// endpoints have none.
    Models,
    /// Any answer but a server's error: the address was not made to be read.
    Answer,
}

/// What the status of an answer to a probe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    Good,
    Bad,
    CredentialsRefused,
    NotMeasured,
}

impl Wanted {
    pub fn finding(self, status: u16) -> Finding {
        match (self, status) {
            (_, 200..300) => Finding::Good,
            (Wanted::Success | Wanted::Models, 401 | 403) => Finding::CredentialsRefused,
            (Wanted::Success, _) | (_, 408 | 500..) => Finding::Bad,
            // It is there, and busy.
            (Wanted::Models, 429) | (Wanted::Answer, _) => Finding::Good,
            (Wanted::Models, _) => Finding::NotMeasured,
        }
    }
}

/// Everything seen of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Evidence {
    #[serde(default)]
    probed: Probed,
    #[serde(default)]
    beat: Option<Beat>,
    /// The last call that went well.
    #[serde(default)]
    served_at: Timestamp,
    /// What its connections come to, of a service that connects. Who restarts sees which there still are.
    #[serde(skip)]
    connected: Option<HealthStatus>,
}

impl Evidence {
    /// Takes in a probe.
    pub fn probe(&mut self, good: bool, now: Timestamp) {
        let seen = &mut self.probed;
        let first = seen.status == HealthStatus::Unknown;
        if good {
            seen.goods += 1;
            seen.fails = 0;
            if first || seen.goods >= GOODS_UNTIL_ONLINE {
                seen.status = HealthStatus::Online;
            }
            // Newer than a heartbeat that stopped.
            self.beat = self.beat.filter(|beat| beat.until > now);
        } else {
            seen.fails += 1;
            seen.goods = 0;
            if seen.fails >= FAILS_UNTIL_OFFLINE {
                seen.status = HealthStatus::Offline;
            } else if first {
                seen.status = HealthStatus::Degraded;
            }
        }
        seen.at = now;
    }

    /// Takes in a heartbeat, whose lease lasts this long.
    pub fn beat(&mut self, status: HealthStatus, lease_ms: u64, now: Timestamp) {
        self.beat = Some(Beat { status, until: now.plus_ms(lease_ms), lease_ms });
    }

    /// Takes in what the connections of a service come to; nothing when it is one that is called.
    pub fn connected(&mut self, status: Option<HealthStatus>) {
        self.connected = status;
    }

    /// When the last heartbeat's lease ends.
    pub fn beats_until(&self) -> Option<Timestamp> {
        self.beat.map(|beat| beat.until)
    }

    /// As it is kept on disk: heartbeats last one lease longer, so that not every one of them needs to be written.
    pub fn to_keep(mut self) -> Self {
        if let Some(beat) = &mut self.beat {
            beat.until = beat.until.plus_ms(beat.lease_ms);
        }
        self
    }

    /// When a call last went well.
    pub fn served_at(&self) -> Timestamp {
        self.served_at
    }

    /// A call went well.
    pub fn served(&mut self, at: Timestamp) {
        self.served_at = self.served_at.max(at);
    }

    /// What it all comes to. `calls` are the successes and failures within the last 30 s, `interval_ms` is how
    /// often the service is probed, if it is.
    pub fn judge(&self, calls: (u64, u64), interval_ms: Option<u64>, now: Timestamp) -> (HealthStatus, Reason) {
        let (successes, failures) = calls;
        let (total, of) = (successes + failures, self.explicit(interval_ms, now));
        let fails_often = total >= FEW_CALLS && failures * 10 >= total;
        match of {
            Some((status, reason)) if fails_often && status.rank() == 0 => {
                (HealthStatus::Degraded, if status == HealthStatus::Degraded { reason } else { Reason::Calls })
            }
            Some(known) => known,
            None if fails_often => (HealthStatus::Degraded, Reason::Calls),
            None if self.served_at.0 > 0 && now.since(self.served_at) < STALE_MS => {
                (HealthStatus::Online, Reason::Calls)
            }
            None => (HealthStatus::Unknown, Reason::Stale),
        }
    }

    /// What connections say; else what probes and heartbeats do, of both the worse.
    fn explicit(&self, interval_ms: Option<u64>, now: Timestamp) -> Option<(HealthStatus, Reason)> {
        if let Some(status) = self.connected {
            return Some((status, Reason::Connection));
        }
        let lasts = interval_ms.map_or(STALE_MS, |interval| interval.saturating_mul(LATE_INTERVALS));
        let known = self.probed.status != HealthStatus::Unknown && now.since(self.probed.at) < lasts;
        let probed = known.then_some((self.probed.status, Reason::Probe));
        let beat = self.beat.map(|beat| {
            if beat.until > now {
                (beat.status, Reason::Heartbeat)
            } else {
                (HealthStatus::Offline, Reason::HeartbeatEnded)
            }
        });
        match (probed, beat) {
            (Some(probed), Some(beat)) if probed.0.rank() > beat.0.rank() => Some(probed),
            (_, Some(beat)) => Some(beat),
            (probed, None) => probed,
        }
    }

    /// When it may come to something else by time alone.
    pub fn next_change(&self, interval_ms: Option<u64>, now: Timestamp) -> Option<Timestamp> {
        let lasts = interval_ms.map_or(STALE_MS, |interval| interval.saturating_mul(LATE_INTERVALS));
        let probed = (self.probed.status != HealthStatus::Unknown).then(|| self.probed.at.plus_ms(lasts));
        let served = (self.served_at.0 > 0).then(|| self.served_at.plus_ms(STALE_MS));
        [probed, self.beats_until(), served].into_iter().flatten().filter(|at| *at > now).min()
    }
}

/// What a damper says to a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damped {
    /// It is what is published already.
    Same,
    /// To be published now.
    Publish,
    /// To be looked at again then.
    Later(Timestamp),
}

/// Keeps a status that flaps from being told each time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Damper {
    /// The status last offered, with when it began.
    raw: HealthStatus,
    raw_since: Timestamp,
    published_at: Timestamp,
    /// The latest changes, published or not.
    changes: VecDeque<Timestamp>,
    timing: Timing,
}

impl Damper {
    pub fn new(timing: Timing) -> Self {
        Self { timing, ..Self::default() }
    }

    /// Offers the status there is now; `published` is the one that is known.
    pub fn offer(&mut self, status: HealthStatus, published: HealthStatus, now: Timestamp) -> Damped {
        if status != self.raw {
            self.raw = status;
            self.raw_since = now;
            self.changes.push_back(now);
            if self.changes.len() > FLAPS + 1 {
                self.changes.pop_front();
            }
        }
        if status == published {
            return Damped::Same;
        }
        let flaps = self.changes.len() > FLAPS && self.changes.front().is_some_and(|at| now.since(*at) < FLAPPING_MS);
        let is_better = status.rank() < published.rank();
        let mut from = if self.published_at.0 == 0 { now } else { self.published_at.plus_ms(self.timing.calm_ms) };
        if flaps && is_better {
            from = from.max(self.raw_since.plus_ms(self.timing.hold_ms));
        }
        if from > now {
            return Damped::Later(from);
        }
        self.published_at = now;
        Damped::Publish
    }
}

#[cfg(test)]
mod tests;
