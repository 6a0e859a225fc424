//! The lane of one service: its line, its breaker and its health, decided together.
//!
//! Whoever is to call a service with a limit, or one whose breaker is not closed, asks here first. How calls ended
//! comes back here, and what is measured goes out from here. Time and randomness come in as values.

pub mod breaker;
pub mod call_outcome;
pub mod call_reporter;
pub mod health;
pub mod observed;
pub mod queue;
pub mod retry_budget;

use serde::{Deserialize, Serialize};

use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;
use crate::lane::breaker::{Breaker, BreakerState, Outcomes, Passage, Probe};
use crate::lane::call_outcome::{Sample, Signal};
use crate::lane::health::{Damped, Damper, Evidence, Reason, STALE_MS};
use crate::lane::observed::{HealthStatus, Measured};
use crate::lane::queue::{Entrant, Entry, Limits, Line, Turn};

/// An object that nobody asks for this long may be thrown out of memory.
const IDLE_MS: u64 = 10_000;
/// A new latency is told at most this often, in milliseconds.
const REFRESH_MS: u64 = 10_000;

/// What somebody who asked for a permit is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entered {
    /// No permit is needed.
    Free,
    Permit {
        number: u64,
        /// The one call that finds out whether the service works again.
        #[serde(default)]
        probe: bool,
    },
    Waiting,
    Full {
        retry_after_ms: u64,
    },
    /// The breaker is open, or its probe is under way.
    Open {
        until: Timestamp,
    },
    TooLate,
}

/// What survives a restart of the lane.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Kept {
    #[serde(default)]
    pub breaker: Breaker,
    #[serde(default)]
    pub evidence: Evidence,
    #[serde(default)]
    pub measured: Measured,
}

/// What is to be told of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    pub measured: Measured,
    pub reason: Reason,
    /// Its status or breaker changed; else only a figure did.
    pub changed: bool,
}

#[derive(Debug, Clone)]
pub struct Lane {
    line: Line,
    breaker: Breaker,
    evidence: Evidence,
    damper: Damper,
    /// As it was told last.
    measured: Measured,
    told_at: Timestamp,
    look_at: Option<Timestamp>,
    /// The last good call and the failures in a row as they are kept, and since when.
    marks: (Timestamp, u64),
    kept_at: Timestamp,
    limits: Option<Limits>,
    /// How often the service is probed, if it is.
    interval_ms: Option<u64>,
    timing: Timing,
}

impl Lane {
    /// No permit is given before `closed_until`.
    pub fn restore(kept: Kept, now: Timestamp, closed_until: Timestamp, timing: Timing) -> Self {
        let Kept { breaker, evidence, measured } = kept;
        let marks = (evidence.served_at(), breaker.in_a_row());
        Self {
            // Numbers begin at the time, so they grow over restarts: nobody gives a thousand in a millisecond.
            line: Line::new(now.0 * 1_000, closed_until, timing),
            breaker,
            evidence,
            damper: Damper::new(timing),
            measured,
            told_at: now,
            look_at: None,
            marks,
            kept_at: Timestamp(0),
            limits: None,
            interval_ms: None,
            timing,
        }
    }

    /// What is to be written now.
    pub fn keep(&mut self, now: Timestamp) -> Kept {
        self.kept_at = now;
        self.marks = (self.evidence.served_at(), self.breaker.in_a_row());
        Kept { breaker: self.breaker.clone(), evidence: self.evidence.to_keep(), measured: self.measured }
    }

    /// Whether a lane that restarts would forget too much. A lane that is asked once in a while restarts each time: it
    /// must not take a service for unknown that just served, nor begin to count its failures anew.
    pub fn forgets(&self, now: Timestamp) -> bool {
        let (served_at, in_a_row) = self.marks;
        let counts = self.breaker.in_a_row();
        // Of a service that fails now and then, not every time.
        let matters = counts.max(in_a_row) > 1 || now.since(self.kept_at) >= IDLE_MS;
        self.evidence.served_at().since(served_at) >= STALE_MS / 2 || (counts != in_a_row && matters)
    }

    pub fn measured(&self) -> Measured {
        self.measured
    }

    pub fn line(&self) -> &Line {
        &self.line
    }

    /// When the last heartbeat's lease ends.
    pub fn beats_until(&self) -> Option<Timestamp> {
        self.evidence.beats_until()
    }

    /// Whether there is a limit, so that permits must not be given twice over a restart.
    pub fn is_limited(&self) -> bool {
        self.limits.is_some()
    }

    pub fn limit(&mut self, limits: Option<Limits>) {
        self.limits = limits;
    }

    pub fn probe_every(&mut self, interval_ms: Option<u64>) {
        self.interval_ms = interval_ms;
    }

    /// Another program at another address: what was seen of the one before says nothing of it.
    pub fn start_anew(&mut self) {
        self.breaker = Breaker::default();
        self.evidence = Evidence::default();
        self.damper = Damper::new(self.timing);
        self.measured.latency_ms = None;
        self.line.forget_latencies();
    }

    /// Asks for a permit.
    pub fn enter(&mut self, who: Entrant, now: Timestamp, random: u64) -> Entered {
        match self.breaker.passage(now) {
            Passage::Blocked(until) => {
                self.line.leave(&who.context);
                Entered::Open { until: self.patience(until, now) }
            }
            Passage::AsProbe if self.limits.is_some_and(|limits| !self.line.has_room(limits, now)) => {
                // Calls from before it opened are still out.
                self.line.leave(&who.context);
                Entered::Open { until: now.plus_ms(self.timing.probing_ms) }
            }
            Passage::AsProbe => {
                let number = self.line.grant(&who.context, who.principal, now);
                self.breaker.begin_probe(Probe { permit: number, until: now.plus_ms(self.timing.permit_ms) });
                Entered::Permit { number, probe: true }
            }
            Passage::Free => match self.limits {
                None => Entered::Free,
                Some(limits) => match self.line.acquire(who, limits, now, random) {
                    Entry::Granted(number) => Entered::Permit { number, probe: false },
                    Entry::Waiting => Entered::Waiting,
                    Entry::Full { retry_after_ms } => Entered::Full { retry_after_ms },
                    Entry::TooLate => Entered::TooLate,
                },
            },
        }
    }

    fn patience(&self, until: Timestamp, now: Timestamp) -> Timestamp {
        if self.breaker.state() == BreakerState::HalfOpen {
            until.min(now.plus_ms(self.timing.probing_ms))
        } else {
            until
        }
    }

    pub fn set_present(&mut self, context: &ContextId, present: bool) {
        self.line.set_present(context, present);
    }

    pub fn leave(&mut self, context: &ContextId) {
        self.line.leave(context);
    }

    pub fn renew(&mut self, permit: u64, principal: &str, now: Timestamp) {
        let until = now.plus_ms(self.timing.permit_ms);
        self.line.renew(permit, principal, until);
        self.breaker.renew_probe(permit, until);
    }

    /// Takes a permit back, with how its call ended. One that comes twice counts once.
    pub fn release(&mut self, permit: u64, sample: Sample, now: Timestamp, random: u64) {
        let was_probe = self.breaker.end_probe(permit, sample.outcome, now, random, self.timing.breaker_open_ms);
        if !self.line.release(permit) && !was_probe {
            return;
        }
        self.learn(sample, now);
        if !was_probe {
            let outcomes = match sample.outcome {
                Signal::Success => Outcomes { successes: 1, failures: 0 },
                Signal::Failure => Outcomes { successes: 0, failures: 1 },
                Signal::Neither => return,
            };
            self.breaker.record(outcomes, sample.began(), now, random, self.timing.breaker_open_ms);
        }
    }

    /// Takes in how calls without a permit ended: `successes` before the one that `last` is of.
    pub fn report(&mut self, successes: u64, last: Sample, now: Timestamp, random: u64) {
        self.learn(last, now);
        if successes > 0 {
            self.evidence.served(now);
        }
        let outcomes = Outcomes {
            successes: successes + u64::from(last.outcome == Signal::Success),
            failures: u64::from(last.outcome == Signal::Failure),
        };
        self.breaker.record(outcomes, last.began(), now, random, self.timing.breaker_open_ms);
    }

    fn learn(&mut self, sample: Sample, now: Timestamp) {
        if sample.outcome == Signal::Success {
            self.line.took(sample.latency_ms, now);
            self.evidence.served(now);
        }
    }

    pub fn beat(&mut self, status: HealthStatus, lease_ms: u64, now: Timestamp) {
        self.evidence.beat(status, lease_ms, now);
    }

    pub fn connected(&mut self, status: Option<HealthStatus>) {
        self.evidence.connected(status);
    }

    pub fn probed(&mut self, good: bool, now: Timestamp) {
        self.evidence.probe(good, now);
    }

    /// Time has passed. Gives who waits and need not any more, with what each is told.
    pub fn turns(&mut self, now: Timestamp) -> Vec<(ContextId, Entered)> {
        self.breaker.tick(now);
        let mut told: Vec<(ContextId, Entered)> =
            self.line.expire(now).into_iter().map(|context| (context, Entered::TooLate)).collect();
        match (self.breaker.passage(now), self.limits) {
            (Passage::Free, Some(limits)) => {
                told.extend(self.line.turns(limits, now).into_iter().map(|turn| match turn {
                    Turn::Granted { context, permit } => (context, Entered::Permit { number: permit, probe: false }),
                    Turn::TooLate { context } => (context, Entered::TooLate),
                }));
            }
            (passage, _) => {
                let entered = match passage {
                    Passage::Free => Entered::Free,
                    Passage::AsProbe => Entered::Open { until: now },
                    Passage::Blocked(until) => Entered::Open { until: self.patience(until, now) },
                };
                for context in self.line.waited_for() {
                    self.line.leave(&context);
                    told.push((context, entered));
                }
            }
        }
        told
    }

    /// When somebody who waits could be told something, without anybody asking.
    pub fn next_turn(&self, now: Timestamp) -> Option<Timestamp> {
        self.line.next_change(now)
    }

    /// What is to be told now; it counts as told.
    pub fn news(&mut self, now: Timestamp) -> Option<News> {
        self.breaker.tick(now);
        let calls = self.breaker.counted(now);
        let (raw, mut reason) = self.evidence.judge(calls, self.interval_ms, now);
        let known = self.measured;
        self.look_at = None;
        let evidence = match self.damper.offer(raw, known.evidence, now) {
            Damped::Publish => raw,
            Damped::Same => known.evidence,
            Damped::Later(at) => {
                self.look_at = Some(at);
                known.evidence
            }
        };
        let status = match self.breaker.state() {
            BreakerState::Closed => evidence,
            BreakerState::HalfOpen => evidence.worst(HealthStatus::Degraded),
            BreakerState::Open => HealthStatus::Offline,
        };
        let mut next = Measured {
            status,
            evidence,
            breaker: self.breaker.state(),
            breaker_until: self.breaker.until(),
            latency_ms: self.line.median_ms().or(known.latency_ms),
            ..known
        };
        let changed = (next.status, next.breaker, next.breaker_until, next.evidence)
            != (known.status, known.breaker, known.breaker_until, known.evidence);
        let figure = now.since(self.told_at) >= REFRESH_MS && differs(next.latency_ms, known.latency_ms);
        if !changed && !figure {
            return None;
        }
        if next.status != known.status {
            next.status_at = now;
        }
        if next.breaker != known.breaker {
            reason = Reason::Breaker;
        }
        next.version = now.0.max(known.version + 1);
        self.measured = next;
        self.told_at = now;
        Some(News { measured: next, reason, changed })
    }

    /// When there may be news by time alone.
    pub fn next_news(&self, now: Timestamp) -> Option<Timestamp> {
        let evidence = self.evidence.next_change(self.interval_ms, now);
        [evidence, self.breaker.until(), self.look_at].into_iter().flatten().min()
    }
}

/// Whether a latency is worth telling anew: by a quarter.
fn differs(new: Option<u64>, known: Option<u64>) -> bool {
    match (new, known) {
        (Some(new), Some(known)) => new.abs_diff(known) * 4 > known.max(4),
        (new, known) => new != known,
    }
}

#[cfg(test)]
mod tests;
