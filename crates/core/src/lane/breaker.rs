//! The circuit breaker: one truth for each service, kept by its lane.
//!
//! Closed, calls go through and their outcomes are counted. Too many failures open it: nobody calls for a while,
//! which grows with each trip. Then it is half open: exactly one call, the probe, may try; its outcome closes or
//! opens. A probe has a lease, so one whose holder died does not wedge the breaker.

use serde::{Deserialize, Serialize};

use super::call_outcome::Signal;
use crate::base::sliding_window::Window;
use crate::base::time::Timestamp;

/// Failures in a row that open it.
pub const FAILURES_IN_A_ROW: u64 = 5;
/// Calls within 30 s before their share of failures counts.
pub const FEW_CALLS: u64 = 20;
/// The longest it is open, in milliseconds.
pub const MAX_OPEN_MS: u64 = 300_000;
/// Closed for this long, earlier trips are forgotten.
pub const QUIET_MS: u64 = 600_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    pub permit: u64,
    pub until: Timestamp,
}

/// Whether a call may be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    Free,
    /// As the probe, of which there is none now.
    AsProbe,
    /// Not before this.
    Blocked(Timestamp),
}

/// Outcomes seen since the last time: the successes came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcomes {
    pub successes: u64,
    pub failures: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Breaker {
    state: BreakerState,
    /// Open: until when.
    until: Timestamp,
    /// How often it opened without a quiet while between.
    trips: u64,
    /// When it got into this state.
    changed_at: Timestamp,
    #[serde(default)]
    probe: Option<Probe>,
    #[serde(default)]
    in_a_row: u64,
    // A share of many calls may be forgotten: where there are many, the lane does not restart.
    #[serde(skip)]
    window: Window<3000>,
}

impl Breaker {
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// When it may be tried again, while it is open.
    pub fn until(&self) -> Option<Timestamp> {
        (self.state == BreakerState::Open).then_some(self.until)
    }

    pub fn probe(&self) -> Option<Probe> {
        self.probe
    }

    /// Failures since the last success, while it is closed.
    pub fn in_a_row(&self) -> u64 {
        self.in_a_row
    }

    /// Successes and failures within the last 30 s.
    pub fn counted(&mut self, now: Timestamp) -> (u64, u64) {
        self.window.sums(now)
    }

    fn enter(&mut self, state: BreakerState, now: Timestamp) {
        self.state = state;
        self.changed_at = now;
        self.probe = None;
        self.in_a_row = 0;
        self.window = Window::default();
    }

    fn trip(&mut self, now: Timestamp, random: u64, open_ms: u64) {
        let quiet = self.state == BreakerState::Closed && now.since(self.changed_at) >= QUIET_MS;
        self.trips = if quiet { 1 } else { self.trips + 1 };
        let long = open_ms.saturating_mul(self.trips).min(MAX_OPEN_MS);
        // 80 to 120%: what failed together does not come back together.
        let long = (long * (80 + random % 41) / 100).min(MAX_OPEN_MS);
        self.enter(BreakerState::Open, now);
        self.until = now.plus_ms(long);
    }

    /// Takes in outcomes of calls that began at `began` or later. Open and half open they say nothing new, nor
    /// when they began before the breaker last closed.
    pub fn record(&mut self, outcomes: Outcomes, began: Timestamp, now: Timestamp, random: u64, open_ms: u64) {
        if self.state != BreakerState::Closed || (began < self.changed_at && outcomes.failures > 0) {
            return;
        }
        if outcomes.successes > 0 {
            self.in_a_row = 0;
        }
        self.in_a_row += outcomes.failures;
        self.window.add(now, outcomes.successes, outcomes.failures);
        let (successes, failures) = self.window.sums(now);
        let many = successes + failures >= FEW_CALLS && failures >= successes;
        if outcomes.failures > 0 && (self.in_a_row >= FAILURES_IN_A_ROW || many) {
            self.trip(now, random, open_ms);
        }
    }

    /// Time has passed: what was open long enough is half open, a probe whose holder is gone is no more.
    pub fn tick(&mut self, now: Timestamp) {
        if self.state == BreakerState::Open && self.until <= now {
            self.enter(BreakerState::HalfOpen, now);
        }
        if self.probe.is_some_and(|probe| probe.until <= now) {
            self.probe = None;
        }
    }

    /// Whether a call may be made. Who is told [`Passage::AsProbe`] makes it with [`Breaker::begin_probe`].
    pub fn passage(&mut self, now: Timestamp) -> Passage {
        self.tick(now);
        match (self.state, self.probe) {
            (BreakerState::Closed, _) => Passage::Free,
            (BreakerState::Open, _) => Passage::Blocked(self.until),
            (BreakerState::HalfOpen, None) => Passage::AsProbe,
            (BreakerState::HalfOpen, Some(probe)) => Passage::Blocked(probe.until),
        }
    }

    /// The call with this permit is the probe.
    pub fn begin_probe(&mut self, probe: Probe) {
        self.probe = Some(probe);
    }

    /// Keeps the probe alive, if this permit is the probe's.
    pub fn renew_probe(&mut self, permit: u64, until: Timestamp) {
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.permit == permit) {
            probe.until = until;
        }
    }

    /// Takes in how a probe ended; another permit's outcome decides nothing here. True when it was the probe.
    pub fn end_probe(&mut self, permit: u64, signal: Signal, now: Timestamp, random: u64, open_ms: u64) -> bool {
        if self.probe.is_none_or(|probe| probe.permit != permit) {
            return false;
        }
        match signal {
            Signal::Success => self.enter(BreakerState::Closed, now),
            Signal::Failure => self.trip(now, random, open_ms),
            // Nothing was learned: the next call is the probe.
            Signal::Neither => self.probe = None,
        }
        true
    }
}

#[cfg(test)]
mod tests;
