//! The lane of one service: its wait queue, breaker and health, decided together.
//!
//! Every call of a service with a concurrency limit, or with a breaker that is not closed, first asks here for a
//! permit. Call outcomes are reported back, and the observed status of the service is published from here. Time and
//! randomness are arguments. The choice of a service belongs to `services::routing`, the meaning of its response to
//! `calling`.

pub mod breaker;
pub mod call_outcome;
pub mod call_reporter;
#[cfg(test)]
pub mod fixtures;
pub mod health;
pub mod live;
pub mod observed;
pub mod permit_number;
pub mod queue;
pub mod retry_budget;

use serde::{Deserialize, Serialize};

use crate::base::id::ContextId;
use crate::base::principal_id::PrincipalId;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;
use crate::lane::breaker::{Breaker, BreakerState, Outcomes, Passage, Probe};
use crate::lane::call_outcome::{CallOutcome, Signal};
use crate::lane::health::{Damper, DamperDecision, Evidence, STALE_MS, StatusReason};
use crate::lane::observed::{HealthStatus, ObservedStatus};
use crate::lane::permit_number::PermitNumber;
use crate::lane::queue::{Acquisition, Departure, QueueLimits, WaitQueue, Waiter};

/// A Durable Object without requests for this long may be evicted from memory, in milliseconds.
const IDLE_MS: u64 = 10_000;

/// The lane's answer to a request for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PermitDecision {
    /// No permit is needed.
    Free,
    Permit {
        number: PermitNumber,
        /// The one call that tests whether the service works again.
        #[serde(default)]
        probe: bool,
    },
    Waiting,
    Full {
        retry_after_ms: u64,
    },
    /// The breaker is open, or its probe is in progress.
    Open {
        until: Timestamp,
    },
    TooLate,
}

/// The state that survives a restart of the lane.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LaneRecord {
    #[serde(default)]
    pub breaker: Breaker,
    #[serde(default)]
    pub evidence: Evidence,
    #[serde(default)]
    pub measured: ObservedStatus,
}

/// A change of the observed status, to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusUpdate {
    pub measured: ObservedStatus,
    pub reason: StatusReason,
    /// True if the status or the breaker changed; false if only the latency did.
    pub changed: bool,
}

/// Permits, breaker and health of one service, without I/O.
#[derive(Debug, Clone)]
pub struct Lane {
    queue: WaitQueue,
    breaker: Breaker,
    evidence: Evidence,
    damper: Damper,
    /// As last published.
    measured: ObservedStatus,
    published_at: Timestamp,
    recheck_at: Option<Timestamp>,
    /// When the last successful call ended, and the consecutive failures, as last persisted.
    persisted_marks: (Timestamp, u64),
    persisted_at: Timestamp,
    limits: Option<QueueLimits>,
    /// The probe interval, if the service is probed.
    interval_ms: Option<u64>,
    timing: Timing,
}

impl Lane {
    /// Restores a lane. No permit is granted before `closed_until`.
    pub fn restore(kept: LaneRecord, now: Timestamp, closed_until: Timestamp, timing: Timing) -> Self {
        let LaneRecord { breaker, evidence, measured } = kept;
        let persisted_marks = (evidence.served_at(), breaker.consecutive_failures());
        Self {
            queue: WaitQueue::new(PermitNumber::at_start(now), closed_until, timing),
            breaker,
            evidence,
            damper: Damper::new(timing),
            measured,
            published_at: now,
            recheck_at: None,
            persisted_marks,
            persisted_at: Timestamp(0),
            limits: None,
            interval_ms: None,
            timing,
        }
    }

    /// The state was persisted as it is.
    pub fn persisted(&mut self, now: Timestamp) {
        self.persisted_at = now;
        self.persisted_marks = (self.evidence.served_at(), self.breaker.consecutive_failures());
    }

    /// The state to persist now.
    pub fn to_record(&self) -> LaneRecord {
        LaneRecord { breaker: self.breaker.clone(), evidence: self.evidence.to_record(), measured: self.measured }
    }

    /// Whether a restart would now lose too much. A lane with few calls restarts between them: it must neither consider
    /// a service unknown that served a call a moment ago, nor count its failures from zero.
    pub fn should_persist(&self, now: Timestamp) -> bool {
        let (served_at, consecutive_failures) = self.persisted_marks;
        let counts = self.breaker.consecutive_failures();
        // A service that fails occasionally must not cause a write each time.
        let matters = counts.max(consecutive_failures) > 1 || now.since(self.persisted_at) >= IDLE_MS;
        self.evidence.served_at().since(served_at) >= STALE_MS / 2 || (counts != consecutive_failures && matters)
    }

    /// The observed status, as last published.
    pub fn observed(&self) -> ObservedStatus {
        self.measured
    }

    /// The wait queue and its permits.
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    /// When the last heartbeat expires.
    pub fn heartbeat_until(&self) -> Option<Timestamp> {
        self.evidence.heartbeat_until()
    }

    /// Whether there is a concurrency limit, so that permits must not be granted twice across a restart.
    pub fn is_limited(&self) -> bool {
        self.limits.is_some()
    }

    /// Sets the concurrency limit; `None` removes it.
    pub fn set_limits(&mut self, limits: Option<QueueLimits>) {
        self.limits = limits;
    }

    /// Sets the probe interval in milliseconds; `None` if the service is not probed.
    pub fn set_probe_interval(&mut self, interval_ms: Option<u64>) {
        self.interval_ms = interval_ms;
    }

    /// Forgets all observations: another program runs at another address, and those of the previous one do not apply.
    pub fn reset(&mut self) {
        self.breaker = Breaker::default();
        self.evidence = Evidence::default();
        self.damper = Damper::new(self.timing);
        self.measured.latency_ms = None;
        self.queue.forget_latencies();
    }

    /// Requests a permit.
    pub fn acquire(&mut self, waiter: Waiter, now: Timestamp, random: u64) -> PermitDecision {
        match self.breaker.passage(now) {
            Passage::Blocked(until) => {
                self.queue.leave(&waiter.context);
                PermitDecision::Open { until: self.retry_at(until, now) }
            }
            Passage::AsProbe if self.limits.is_some_and(|limits| !self.queue.has_room(limits, now)) => {
                // Calls from before the breaker opened are still in flight.
                self.queue.leave(&waiter.context);
                PermitDecision::Open { until: now.plus_ms(self.timing.half_open_poll_ms) }
            }
            Passage::AsProbe => {
                let number = self.queue.grant(&waiter.context, waiter.principal, now);
                self.breaker.begin_probe(Probe { permit: number, until: now.plus_ms(self.timing.permit_ms) });
                PermitDecision::Permit { number, probe: true }
            }
            Passage::Free => match self.limits {
                None => PermitDecision::Free,
                Some(limits) => match self.queue.acquire(waiter, limits, now, random) {
                    Acquisition::Granted(number) => PermitDecision::Permit { number, probe: false },
                    Acquisition::Waiting => PermitDecision::Waiting,
                    Acquisition::Full { retry_after_ms } => PermitDecision::Full { retry_after_ms },
                    Acquisition::TooLate => PermitDecision::TooLate,
                },
            },
        }
    }

    fn retry_at(&self, until: Timestamp, now: Timestamp) -> Timestamp {
        if self.breaker.state() == BreakerState::HalfOpen {
            until.min(now.plus_ms(self.timing.half_open_poll_ms))
        } else {
            until
        }
    }

    /// Sets whether a Worker waits for this context's permit.
    pub fn set_present(&mut self, context: &ContextId, present: bool) {
        self.queue.set_present(context, present);
    }

    /// Removes a context from the wait queue.
    pub fn leave(&mut self, context: &ContextId) {
        self.queue.leave(context);
    }

    /// Renews the lease of a permit. Returns whether the lane must be persisted: a restarted one must not grant a
    /// second probe beside one that was renewed.
    pub fn renew(&mut self, permit: PermitNumber, principal: &PrincipalId, now: Timestamp) -> bool {
        let until = now.plus_ms(self.timing.permit_ms);
        self.queue.renew(permit, principal, until);
        self.breaker.renew_probe(permit, until)
    }

    /// Returns a permit with the outcome of its call. A permit that is returned twice counts once.
    pub fn release(&mut self, permit: PermitNumber, sample: CallOutcome, now: Timestamp, random: u64) {
        let was_probe = self.breaker.end_probe(permit, sample.outcome, now, random, self.timing.breaker_open_ms);
        if !self.queue.release(permit) && !was_probe {
            return;
        }
        self.record_success(sample, now);
        if !was_probe {
            let outcomes = match sample.outcome {
                Signal::Success => Outcomes { successes: 1, failures: 0 },
                Signal::Failure => Outcomes { successes: 0, failures: 1 },
                Signal::Ignored => return,
            };
            self.breaker.record(outcomes, sample.began(), now, random, self.timing.breaker_open_ms);
        }
    }

    /// Records the outcomes of calls without a permit: `successes` earlier ones, and the `last`.
    pub fn report(&mut self, successes: u64, last: CallOutcome, now: Timestamp, random: u64) {
        self.record_success(last, now);
        if successes > 0 {
            self.evidence.record_success(now);
        }
        let outcomes = Outcomes {
            successes: successes + u64::from(last.outcome == Signal::Success),
            failures: u64::from(last.outcome == Signal::Failure),
        };
        self.breaker.record(outcomes, last.began(), now, random, self.timing.breaker_open_ms);
    }

    fn record_success(&mut self, sample: CallOutcome, now: Timestamp) {
        if sample.outcome == Signal::Success {
            self.queue.record_latency(sample.latency_ms, now);
            self.evidence.record_success(now);
        }
    }

    /// Records a heartbeat that is valid for `lease_ms`.
    pub fn heartbeat(&mut self, status: HealthStatus, lease_ms: u64, now: Timestamp) {
        self.evidence.record_heartbeat(status, lease_ms, now);
    }

    /// Sets the status that follows from the service's connections; `None` if the service is called at an address.
    pub fn set_connection_status(&mut self, status: Option<HealthStatus>) {
        self.evidence.set_connection_status(status);
    }

    /// Records the result of a health probe.
    pub fn record_probe(&mut self, good: bool, now: Timestamp) {
        self.evidence.record_probe(good, now);
    }

    /// Advances the time. Returns the contexts that need not wait any longer, each with its decision.
    pub fn grant_permits(&mut self, now: Timestamp) -> Vec<(ContextId, PermitDecision)> {
        self.breaker.tick(now);
        let mut decisions: Vec<(ContextId, PermitDecision)> =
            self.queue.expire(now).into_iter().map(|context| (context, PermitDecision::TooLate)).collect();
        match (self.breaker.passage(now), self.limits) {
            (Passage::Free, Some(limits)) => {
                decisions.extend(self.queue.grant_free(limits, now).into_iter().map(|turn| match turn {
                    Departure::Granted { context, permit } => {
                        (context, PermitDecision::Permit { number: permit, probe: false })
                    }
                    Departure::TooLate { context } => (context, PermitDecision::TooLate),
                }));
            }
            (passage, _) => {
                let entered = match passage {
                    Passage::Free => PermitDecision::Free,
                    Passage::AsProbe => PermitDecision::Open { until: now },
                    Passage::Blocked(until) => PermitDecision::Open { until: self.retry_at(until, now) },
                };
                for context in self.queue.present_contexts() {
                    self.queue.leave(&context);
                    decisions.push((context, entered));
                }
            }
        }
        decisions
    }

    /// When a waiting context may get a decision without another request.
    pub fn next_grant_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.queue.next_change(now)
    }

    /// The change to publish, if any; it then counts as published.
    pub fn status_update(&mut self, now: Timestamp) -> Option<StatusUpdate> {
        self.breaker.tick(now);
        let calls = self.breaker.counted(now);
        let (raw, mut reason) = self.evidence.judge(calls, self.interval_ms, now);
        let known = self.measured;
        self.recheck_at = None;
        let evidence = match self.damper.offer(raw, known.evidence, now) {
            DamperDecision::Publish => raw,
            DamperDecision::Same => known.evidence,
            DamperDecision::Later(at) => {
                self.recheck_at = Some(at);
                known.evidence
            }
        };
        let status = match self.breaker.state() {
            BreakerState::Closed => evidence,
            BreakerState::HalfOpen => evidence.worst(HealthStatus::Degraded),
            BreakerState::Open => HealthStatus::Offline,
        };
        let mut next = ObservedStatus {
            status,
            evidence,
            breaker: self.breaker.state(),
            breaker_until: self.breaker.until(),
            latency_ms: self.queue.median_ms().or(known.latency_ms),
            ..known
        };
        let changed = (next.status, next.breaker, next.breaker_until, next.evidence)
            != (known.status, known.breaker, known.breaker_until, known.evidence);
        let figure = now.since(self.published_at) >= self.timing.latency_interval_ms
            && differs(next.latency_ms, known.latency_ms);
        if !changed && !figure {
            return None;
        }
        if next.status != known.status {
            next.status_at = now;
        }
        if next.breaker != known.breaker {
            reason = StatusReason::Breaker;
        }
        next.version = now.0.max(known.version + 1);
        self.measured = next;
        self.published_at = now;
        Some(StatusUpdate { measured: next, reason, changed })
    }

    /// When the status may change by time alone.
    pub fn next_update_at(&self, now: Timestamp) -> Option<Timestamp> {
        let evidence = self.evidence.next_change(self.interval_ms, now);
        [evidence, self.breaker.until(), self.recheck_at].into_iter().flatten().min()
    }
}

/// Whether a latency differs enough to be published: by a quarter.
fn differs(new: Option<u64>, known: Option<u64>) -> bool {
    match (new, known) {
        (Some(new), Some(known)) => new.abs_diff(known) * 4 > known.max(4),
        (new, known) => new != known,
    }
}

#[cfg(test)]
mod tests;
