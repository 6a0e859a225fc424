//! The circuit breaker: one for each service, owned by its lane.
//!
//! Closed: calls pass and their outcomes are counted. Too many failures open it: no calls for a period that grows with
//! each trip. Then it is half open: exactly one call, the probe, may try, and its outcome closes or opens the breaker.
//! A probe has a lease, so that a crashed holder does not block the breaker forever.

use serde::{Deserialize, Serialize};

use super::call_outcome::Signal;
use super::permit_number::PermitNumber;
use crate::base::sliding_window::SlidingWindow;
use crate::base::time::Timestamp;

/// Consecutive failures that open the breaker.
pub const FAILURES_IN_A_ROW: u64 = 5;
/// Calls within 30 s before the failure rate counts.
pub const MIN_CALLS: u64 = 20;
/// The longest open period, in milliseconds.
pub const MAX_OPEN_MS: u64 = 300_000;
/// After being closed for this long, earlier trips are forgotten, in milliseconds.
pub const QUIET_MS: u64 = 600_000;

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    #[default]
    Closed,
    Open,
    HalfOpen,
}

/// The one call that may try, and when it counts as lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    pub permit: PermitNumber,
    pub until: Timestamp,
}

/// Whether a call may be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    Free,
    /// As the probe; there is none now.
    AsProbe,
    /// Not before this time.
    Blocked(Timestamp),
}

/// Outcomes since the last report: the successes came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcomes {
    pub successes: u64,
    pub failures: u64,
}

/// The state of one circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Breaker {
    state: BreakerState,
    /// The end of the open period.
    until: Timestamp,
    /// Trips without a quiet period between them.
    trips: u64,
    /// When the current state began.
    changed_at: Timestamp,
    #[serde(default)]
    probe: Option<Probe>,
    #[serde(default)]
    #[serde(rename = "in_a_row")]
    consecutive_failures: u64,
    // The failure rate may be lost: a lane with that many calls does not restart.
    #[serde(skip)]
    window: SlidingWindow<3000>,
}

impl Breaker {
    /// The current state, without regard to time passed since the last [`Breaker::tick`].
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// When an open breaker may be tried again.
    pub fn until(&self) -> Option<Timestamp> {
        (self.state == BreakerState::Open).then_some(self.until)
    }

    /// The current probe, if there is one.
    pub fn probe(&self) -> Option<Probe> {
        self.probe
    }

    /// Failures since the last success, while closed.
    pub fn consecutive_failures(&self) -> u64 {
        self.consecutive_failures
    }

    /// Successes and failures within the last 30 s.
    pub fn counted(&mut self, now: Timestamp) -> (u64, u64) {
        self.window.sums(now)
    }

    fn enter(&mut self, state: BreakerState, now: Timestamp) {
        self.state = state;
        self.changed_at = now;
        self.probe = None;
        self.consecutive_failures = 0;
        self.window = SlidingWindow::default();
    }

    fn trip(&mut self, now: Timestamp, random: u64, open_ms: u64) {
        let quiet = self.state == BreakerState::Closed && now.since(self.changed_at) >= QUIET_MS;
        self.trips = if quiet { 1 } else { self.trips + 1 };
        let long = open_ms.saturating_mul(self.trips).min(MAX_OPEN_MS);
        // 80 to 120%: services that failed together must not be tried again together.
        let long = (long * (80 + random % 41) / 100).min(MAX_OPEN_MS);
        self.enter(BreakerState::Open, now);
        self.until = now.plus_ms(long);
    }

    /// Records outcomes of calls that began at `began` or later. They are ignored while the breaker is open or half
    /// open, and failures are if they began before it last closed.
    pub fn record(&mut self, outcomes: Outcomes, began: Timestamp, now: Timestamp, random: u64, open_ms: u64) {
        if self.state != BreakerState::Closed || (began < self.changed_at && outcomes.failures > 0) {
            return;
        }
        if outcomes.successes > 0 {
            self.consecutive_failures = 0;
        }
        self.consecutive_failures += outcomes.failures;
        self.window.add(now, outcomes.successes, outcomes.failures);
        let (successes, failures) = self.window.sums(now);
        let many = successes + failures >= MIN_CALLS && failures >= successes;
        if outcomes.failures > 0 && (self.consecutive_failures >= FAILURES_IN_A_ROW || many) {
            self.trip(now, random, open_ms);
        }
    }

    /// Advances the time: an open period ends, and an expired probe is dropped.
    pub fn tick(&mut self, now: Timestamp) {
        if self.state == BreakerState::Open && self.until <= now {
            self.enter(BreakerState::HalfOpen, now);
        }
        if self.probe.is_some_and(|probe| probe.until <= now) {
            self.probe = None;
        }
    }

    /// Whether a call may be made. After [`Passage::AsProbe`], the call must be announced with
    /// [`Breaker::begin_probe`].
    pub fn passage(&mut self, now: Timestamp) -> Passage {
        self.tick(now);
        match (self.state, self.probe) {
            (BreakerState::Closed, _) => Passage::Free,
            (BreakerState::Open, _) => Passage::Blocked(self.until),
            (BreakerState::HalfOpen, None) => Passage::AsProbe,
            (BreakerState::HalfOpen, Some(probe)) => Passage::Blocked(probe.until),
        }
    }

    /// Makes the call with this permit the probe.
    pub fn begin_probe(&mut self, probe: Probe) {
        self.probe = Some(probe);
    }

    /// Renews the probe's lease, if this permit is the probe's. Returns whether it is.
    pub fn renew_probe(&mut self, permit: PermitNumber, until: Timestamp) -> bool {
        let probe = self.probe.as_mut().filter(|probe| probe.permit == permit);
        probe.map(|probe| probe.until = until).is_some()
    }

    /// Records the outcome of the probe; outcomes under other permits are ignored. Returns true if the permit was the
    /// probe's.
    pub fn end_probe(
        &mut self,
        permit: PermitNumber,
        signal: Signal,
        now: Timestamp,
        random: u64,
        open_ms: u64,
    ) -> bool {
        if self.probe.is_none_or(|probe| probe.permit != permit) {
            return false;
        }
        match signal {
            Signal::Success => self.enter(BreakerState::Closed, now),
            Signal::Failure => self.trip(now, random, open_ms),
            // Inconclusive: the next call is the probe.
            Signal::Ignored => self.probe = None,
        }
        true
    }
}

#[cfg(test)]
mod tests;
