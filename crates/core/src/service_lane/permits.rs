//! Permits: they are in memory, and what must be known of them after a restart is stored.

use super::effects::Unsaved;
use super::storage::Storage;
use super::{RequestNumber, ServiceLane, StorageError};
use crate::base::id::ContextId;
use crate::base::principal_id::PrincipalId;
use crate::base::time::Timestamp;
use crate::lane::PermitDecision;
use crate::lane::call_outcome::CallOutcome;
use crate::lane::permit_number::PermitNumber;
use crate::lane::queue::Waiter;

/// While requests wait, the queue is checked no more often than this, in milliseconds.
const MIN_TICK_MS: u64 = 10;

impl<S: Storage> ServiceLane<S> {
    /// Requests a permit. With a number, the request waits for it: its answer is among the effects of a later turn,
    /// unless [`Self::stop_waiting`] comes first.
    ///
    /// # Errors
    /// The storage fails.
    pub fn acquire(
        &mut self,
        waiter: Waiter,
        request: Option<RequestNumber>,
        now: Timestamp,
        random: u64,
    ) -> Result<PermitDecision, StorageError> {
        self.apply_limits();
        let context = waiter.context.clone();
        let decision = self.lane.acquire(waiter, now, random);
        match (decision, request) {
            (PermitDecision::Waiting, Some(request)) => {
                self.lane.set_present(&context, true);
                self.state.waits.add(context, request, now);
            }
            // The single probe is stored, so that a restart does not grant another.
            (PermitDecision::Permit { probe: true, .. }, _) => self.store(now)?,
            _ => {}
        }
        Ok(decision)
    }

    /// A request has stopped waiting; the context keeps its place while others wait for it.
    pub fn stop_waiting(&mut self, context: &ContextId, request: RequestNumber) {
        if self.state.waits.stop(context, request) {
            self.lane.set_present(context, false);
        }
    }

    /// Renews a permit.
    ///
    /// # Errors
    /// The storage fails.
    pub fn renew(&mut self, permit: PermitNumber, principal: &PrincipalId, now: Timestamp) -> Result<(), StorageError> {
        if self.lane.renew(permit, principal, now) { self.store(now) } else { Ok(()) }
    }

    /// Returns a permit with the outcome of its call, which says nothing about the service if it was called at an
    /// earlier address.
    pub fn release(&mut self, permit: PermitNumber, sample: CallOutcome, now: Timestamp, random: u64) {
        let sample = if self.is_sender_late() { CallOutcome::unused(sample.at) } else { sample };
        self.lane.release(permit, sample, now, random);
    }

    /// Records the outcomes of calls without a permit: `successes` earlier ones, and the `last`.
    pub fn report_calls(&mut self, successes: u64, last: CallOutcome, now: Timestamp, random: u64) {
        if !self.is_sender_late() {
            self.lane.report(successes, last, now, random);
        }
    }

    /// A context leaves the wait queue.
    pub fn leave(&mut self, context: &ContextId) {
        self.effects.decisions.extend(self.state.waits.answer(context, PermitDecision::Waiting));
        self.lane.leave(context);
    }

    /// Ends the waits that have begun by then: their workers look for another service, or ask again.
    pub(super) fn end_waits(&mut self, begun: Timestamp) {
        for context in self.state.waits.since(begun) {
            self.leave(&context);
        }
    }

    /// While requests wait: after how many milliseconds [`Self::settle`] is due again.
    pub fn next_tick_ms(&self, now: Timestamp) -> Option<u64> {
        if self.state.waits.is_empty() {
            return None;
        }
        let check_ms = self.timing.queue_check_ms;
        let next = self.lane.next_grant_at(now);
        Some(next.map_or(check_ms, |at| at.since(now)).clamp(check_ms.min(MIN_TICK_MS), check_ms))
    }

    /// While permits of a limited service are out, stores the time until which one may be valid: a restarted lane
    /// grants none before.
    pub(super) fn update_busy_until(&mut self, now: Timestamp) {
        if self.state.grace_ms.is_some() {
            // Each delivery is stored by itself.
            return;
        }
        let queue = self.lane.queue();
        let (in_flight, is_closed) = (queue.in_flight(), queue.is_closed(now));
        if in_flight > 0 && self.lane.is_limited() {
            let ends = now.plus_ms(self.timing.permit_ms);
            if self.state.busy_until < ends {
                self.store_busy_until(ends.plus_ms(self.timing.busy_margin_ms));
            }
        } else if in_flight == 0 && !is_closed && self.state.busy_until > now && !self.is_clearing_busy {
            self.is_clearing_busy = true;
            self.effects.clear_busy = true;
        }
    }

    /// Stores that a lane that has been idle for a while is no longer busy.
    pub fn clear_busy(&mut self, now: Timestamp) {
        self.is_clearing_busy = false;
        if self.lane.queue().in_flight() == 0 && self.state.busy_until > now {
            self.store_busy_until(Timestamp(0));
        }
    }

    fn store_busy_until(&mut self, until: Timestamp) {
        let stored = self.storage.put_busy_until(until);
        if stored.is_ok() {
            self.state.busy_until = until;
        }
        self.keep_failure(Unsaved::State, stored);
    }
}
