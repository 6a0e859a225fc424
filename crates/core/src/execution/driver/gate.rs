//! The gate of a service that is called by permit: a permit from its lane, or no call now.
//!
//! A context in the wait queue is `queued`, and offered to the worker that waits for its permit. The worker renews the
//! offer, or the lease if it has one. If the worker dies, the store offers the context to another.

use crate::base::time::Timestamp;
use crate::base::timing::Timing;
use crate::context::ContextError;
use crate::context::lease::Hold;
use crate::context::status::ErrorCode;
use crate::execution::attempt_result::AttemptResult;
use crate::execution::backoff::Backoff;
use crate::execution::known_service::KnownService;
use crate::lane::PermitDecision;
use crate::lane::call_outcome::CallOutcome;

use super::{Action, Driver, Moment, Permit, Queueing, RenewResult, Renewal, State, Target, Unreachable};

/// Contexts that an open breaker sends back return over this time, in milliseconds.
const SPREAD_MS: u64 = 500;

impl Driver {
    /// Passes the gate of the service if it has one.
    pub(super) fn enter<S: KnownService>(&mut self, target: Target, moment: &Moment<'_, S>) {
        if self.permit.as_ref().is_some_and(|permit| permit.service != target.service) {
            self.release_unused(moment.now);
        }
        let is_gated = moment.services.get(target.at).is_some_and(KnownService::is_gated);
        if self.permit.is_some() || !is_gated {
            return self.lease(Some(target), moment);
        }
        self.state = State::Queueing(Queueing { target, backoff: Backoff::default(), asks_at: None, refreshes: false });
        self.ask_lane(moment);
    }

    /// Requests a permit. An open breaker that is known here costs no request.
    pub(super) fn ask_lane<S: KnownService>(&mut self, moment: &Moment<'_, S>) {
        let (now, expires_at) = (moment.now, self.wanted().expires_at);
        let State::Queueing(Queueing { target, .. }) = &self.state else { return };
        if expires_at <= now {
            // The store ends it.
            return self.finish(now);
        }
        let (at, service) = (target.at, target.service.clone());
        if let Some(until) = moment.services.get(at).and_then(|known| known.live().known_open_until(now)) {
            return self.breaker_is_open(until, moment);
        }
        let Timing { client_queue_wait_ms, queue_wait_ms, .. } = self.timing;
        let turn_ms = if self.client.is_some() { client_queue_wait_ms } else { queue_wait_ms };
        self.asked = Some(service);
        self.actions.push(Action::Acquire { at, wait_ms: turn_ms.min(expires_at.since(now)) });
    }

    /// Continues to wait if the service still takes such work; otherwise another one is selected.
    pub(super) fn ask_lane_again<S: KnownService>(&mut self, moment: &Moment<'_, S>) {
        let State::Queueing(Queueing { target, .. }) = &self.state else { return };
        let service = target.service.clone();
        if let Some(found) = self.find(&service, moment) {
            if let State::Queueing(queueing) = &mut self.state {
                queueing.target = found;
                queueing.refreshes = false;
            }
            return self.ask_lane(moment);
        }
        if let Some(at) = moment.services.iter().position(|known| known.service().id == service) {
            self.actions.push(Action::LeaveQueue { at });
        }
        self.start(moment);
    }

    pub(super) fn acquired<S: KnownService>(
        &mut self,
        reply: Result<PermitDecision, Unreachable>,
        moment: &Moment<'_, S>,
    ) {
        let Some(service) = self.asked.take() else { return };
        let stays = self.stays() || !self.work.hold.is_offered();
        let State::Queueing(queueing) = &mut self.state else {
            // The worker has left the queue, and the permit had been granted before.
            if let Ok(PermitDecision::Permit { number, probe: is_probe }) = reply {
                let permit = Permit { service, number, is_probe, granted_at: moment.now };
                self.release(permit, CallOutcome::unused(moment.now));
            }
            return;
        };
        let target = queueing.target.clone();
        match reply {
            Ok(PermitDecision::Free) => self.lease(Some(target), moment),
            Ok(PermitDecision::Permit { number, probe: is_probe }) => {
                self.permit = Some(Permit { service, number, is_probe, granted_at: moment.now });
                self.lease(Some(target), moment);
            }
            Ok(PermitDecision::Waiting | PermitDecision::Full { .. }) => {
                queueing.backoff = Backoff::default();
                if stays {
                    // The service may have been deleted since.
                    queueing.refreshes = true;
                    self.actions.push(Action::Refresh);
                } else {
                    self.put_back(None);
                }
            }
            Ok(PermitDecision::Open { until }) => {
                if let Some(known) = moment.services.get(target.at) {
                    known.live().block_until(until);
                }
                self.breaker_is_open(until, moment);
            }
            Ok(PermitDecision::TooLate) => {
                let message = "The remaining time is shorter than a typical call to this service.";
                self.refuse(ErrorCode::DeadlineExceeded, message, target, moment);
            }
            // Without a limit the permit is advisory.
            Err(Unreachable) if !target.is_limited => self.lease(Some(target), moment),
            Err(Unreachable) => {
                let pause_ms = queueing.backoff.next_ms(self.timing.lane_retry_ms);
                queueing.asks_at = Some(moment.now.plus_ms(pause_ms).min(self.work.admission.expires_at));
            }
        }
    }

    /// Waiting clients are answered at once. Other contexts return to the queue until the service may be called.
    fn breaker_is_open<S: KnownService>(&mut self, until: Timestamp, moment: &Moment<'_, S>) {
        let State::Queueing(Queueing { target, .. }) = &self.state else { return };
        let target = target.clone();
        // Spread, so that they do not return in the same moment.
        let until = until.plus_ms(moment.random % SPREAD_MS);
        if !self.stays() && self.work.hold.is_offered() && until < self.wanted().expires_at {
            return self.put_back(Some(until));
        }
        let message =
            "The circuit breaker of this service is open: it has failed too often and is not called for a while.";
        self.refuse(ErrorCode::CircuitOpen, message, target, moment);
    }

    /// Puts a context without a waiting client back into the queue while only offline services could run it, as long
    /// as its deadline allows.
    pub(super) fn wait_for_service<S: KnownService>(&mut self, moment: &Moment<'_, S>) {
        self.release_unused(moment.now);
        let pause_ms = self.timing.offline_retry_ms;
        self.put_back(Some(moment.now.plus_ms(pause_ms + moment.random % (pause_ms / 3 + 1))));
    }

    fn put_back(&mut self, until: Option<Timestamp>) {
        self.actions.push(Action::PutBack { until });
        self.state = State::Leaving;
    }

    /// Ends the attempt without a call; under an offer, also the context.
    fn refuse<S: KnownService>(&mut self, code: ErrorCode, message: &str, target: Target, moment: &Moment<'_, S>) {
        let error =
            ContextError { code, message: message.into(), service: Some(target.service.clone()), details: None };
        match self.work.hold {
            Hold::Offered => {
                self.actions.push(Action::Refuse(error));
                self.state = State::Leaving;
            }
            Hold::Leased(lease) => {
                let result = AttemptResult::ended_without_call(self.wanted(), lease, self.began, moment.now, error);
                self.end(Box::new(result), Some(&target), moment);
            }
        }
    }

    /// The store has answered a renewal. A failed one says nothing: the next may succeed in time.
    pub(super) fn renewed<S: KnownService>(
        &mut self,
        renewal: Renewal,
        reply: Result<RenewResult, Unreachable>,
        moment: &Moment<'_, S>,
    ) {
        let cancel = match reply {
            Ok(RenewResult::Renewed { cancel: false }) | Err(Unreachable) => return,
            Ok(RenewResult::Renewed { cancel: true }) => true,
            Ok(RenewResult::Nothing) => false,
        };
        if renewal != self.renewal() {
            return;
        }
        let target = match &self.state {
            State::Queueing(Queueing { target, .. }) => {
                self.actions.push(Action::LeaveQueue { at: target.at });
                target.clone()
            }
            State::Calling(target) => {
                // It may have been handed over just before.
                let target = target.clone();
                self.stop_call(&target);
                target
            }
            State::Refreshing(Some(target)) => target.clone(),
            // The attempt is over, or its lease is only being taken.
            State::New
            | State::Leasing(_)
            | State::ReleasingProbe(..)
            | State::Committing { .. }
            | State::Leaving
            | State::Pausing(_)
            | State::Refreshing(None)
            | State::Finished => return,
        };
        match self.work.hold {
            Hold::Leased(lease) if cancel => {
                let result = AttemptResult::cancelled(self.wanted(), lease, self.began, moment.now);
                self.end(Box::new(result), Some(&target), moment);
            }
            // It has ended, or belongs to another worker: the result of this attempt no longer counts.
            Hold::Leased(_) | Hold::Offered => self.finish(moment.now),
        }
    }

    /// Returns a permit without a call.
    pub(super) fn release_unused(&mut self, now: Timestamp) {
        if let Some(permit) = self.permit.take() {
            self.release(permit, CallOutcome::unused(now));
        }
    }
}
