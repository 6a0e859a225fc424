//! What an isolate knows of a service besides its document, and what it decides by that without its lane.

use std::cell::Cell;

use crate::base::time::Timestamp;
use crate::base::timing::Timing;
use crate::lane::breaker::BreakerState;
use crate::lane::call_outcome::CallOutcome;
use crate::lane::call_reporter::CallReporter;
use crate::lane::observed::ObservedStatus;
use crate::lane::retry_budget::RetryBudget;

/// State that changes without a revision of the registry, shared by all snapshots with the service.
#[derive(Debug, Default)]
pub struct Live {
    measured: Cell<ObservedStatus>,
    pub tally: Cell<CallReporter>,
    pub budget: Cell<RetryBudget>,
    /// While its breaker is not closed: the lane grants no permit before this time.
    pub blocked_until: Cell<Timestamp>,
    /// Set by `Retry-After`: other services are preferred until this time.
    pub cool_down_until: Cell<Timestamp>,
}

impl Live {
    /// The newest known status.
    pub fn measured(&self) -> ObservedStatus {
        self.measured.get()
    }

    /// Records a status from the registry or the lane if it is newer.
    pub fn update_observed(&self, measured: ObservedStatus) {
        if measured.version > self.measured.get().version {
            self.measured.set(measured);
        }
    }

    /// Counts a call without a permit. Returns the number of unreported successes before it if the lane must be
    /// notified now.
    pub fn count_call(&self, outcome: CallOutcome, timing: &Timing) -> Option<u64> {
        let measured = self.measured();
        if measured.breaker != BreakerState::Closed {
            // It is already open: calls that were in flight say nothing new.
            return None;
        }
        let mut tally = self.tally.get();
        let due = tally.count(outcome, measured.status, timing);
        self.tally.set(tally);
        due
    }

    /// Records the start of an attempt at this service: the context's first one anywhere, or at a service it has not
    /// tried yet, fills the retry budget.
    pub fn attempt_began(&self, first: bool, now: Timestamp) {
        if first {
            let mut budget = self.budget.get();
            budget.deposit(now);
            self.budget.set(budget);
        }
    }

    /// Whether a service that was already tried may be tried again; if so, takes the retry out of the budget.
    pub fn may_retry(&self, now: Timestamp) -> bool {
        let mut budget = self.budget.get();
        let may = budget.try_withdraw(now);
        self.budget.set(budget);
        may
    }

    /// When its breaker may half-open, while it blocks calls.
    pub fn half_opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        let measured = self.measured();
        let at = match measured.breaker {
            BreakerState::Closed => None,
            BreakerState::HalfOpen => Some(self.blocked_until.get()),
            BreakerState::Open => measured.breaker_until.max(Some(self.blocked_until.get())),
        };
        at.filter(|at| *at > now)
    }

    /// Until when its breaker is open, as published: until then a request for a permit is pointless.
    pub fn known_open_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.measured().breaker_until.filter(|until| *until > now)
    }

    /// The lane grants no permit before this time, because the breaker is open or its probe is in progress.
    pub fn block_until(&self, until: Timestamp) {
        self.blocked_until.set(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::call_outcome::Signal;
    use crate::lane::retry_budget::MIN_RETRIES;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn with_breaker(breaker: BreakerState, breaker_until: Option<Timestamp>) -> Live {
        let live = Live::default();
        live.update_observed(ObservedStatus { breaker, breaker_until, version: 1, ..ObservedStatus::default() });
        live
    }

    #[test]
    fn only_a_newer_status_is_recorded() {
        let live = with_breaker(BreakerState::Open, None);
        live.update_observed(ObservedStatus { version: 1, ..ObservedStatus::default() });
        assert_eq!(live.measured().breaker, BreakerState::Open);
        live.update_observed(ObservedStatus { version: 2, ..ObservedStatus::default() });
        assert_eq!(live.measured().breaker, BreakerState::Closed);
    }

    #[test]
    fn calls_are_counted_only_while_the_breaker_is_closed() {
        let failure = CallOutcome { outcome: Signal::Failure, latency_ms: 1, at: NOW };
        for (breaker, due) in
            [(BreakerState::Closed, Some(0)), (BreakerState::HalfOpen, None), (BreakerState::Open, None)]
        {
            assert_eq!(with_breaker(breaker, None).count_call(failure, &Timing::DEFAULT), due, "{breaker:?}");
        }
    }

    #[test]
    fn only_first_attempts_fill_the_retry_budget() {
        let (filled, other) = (Live::default(), Live::default());
        for _ in 0..100 {
            filled.attempt_began(true, NOW);
            other.attempt_began(false, NOW);
        }
        let retries = |live: &Live| (0..100).filter(|_| live.may_retry(NOW)).count() as u64;
        assert_eq!((retries(&filled), retries(&other)), (20, MIN_RETRIES));
    }

    #[test]
    fn a_blocked_service_half_opens_at_the_later_of_both_times() {
        let (sooner, later) = (NOW.plus_ms(10), NOW.plus_ms(20));
        for (breaker, published, by_lane, expected) in [
            (BreakerState::Closed, None, later, None),
            (BreakerState::HalfOpen, None, later, Some(later)),
            (BreakerState::HalfOpen, None, NOW, None),
            (BreakerState::Open, Some(sooner), later, Some(later)),
            (BreakerState::Open, Some(later), sooner, Some(later)),
            (BreakerState::Open, Some(NOW), NOW, None),
        ] {
            let live = with_breaker(breaker, published);
            live.block_until(by_lane);
            assert_eq!(live.half_opens_at(NOW), expected, "{breaker:?} {published:?} {by_lane:?}");
            // Only what the lane published spares a request for a permit.
            assert_eq!(live.known_open_until(NOW), published.filter(|until| *until > NOW));
        }
    }
}
