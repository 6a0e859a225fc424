//! Callbacks of services, and answers to their input requests.

use serde_json::value::RawValue;

use super::messages::CallbackReport;
use super::{ChangeResult, ContextStore, Storage, StorageError};
use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::context::lease::LeaseNumber;
use crate::context::status::Status;
use crate::context::{AttemptOutcome, Head, Transition};
use crate::events::bundle::last_number;

/// The result of a callback, with the context's present state.
#[derive(Debug)]
pub enum CallbackResult {
    Accepted(Box<Head>),
    /// The context has already ended under this lease: the callback was repeated because the first answer was lost.
    Repeated(Box<Head>),
    /// Another attempt has started, or the context has ended otherwise.
    LeaseLost(Box<Head>),
    NotFound,
}

impl<S: Storage> ContextStore<S> {
    /// Applies a callback under the lease number in its URL.
    pub fn callback(
        &mut self,
        id: &ContextId,
        lease: LeaseNumber,
        callback: CallbackReport,
        now: Timestamp,
        random: u64,
    ) -> Result<CallbackResult, StorageError> {
        let Some(mut head) = self.take_live(id)? else {
            let ended = self.storage.done_head(id)?;
            return Ok(ended.map_or(CallbackResult::NotFound, |head| late(head, lease)));
        };
        let known = last_number(&head);
        let (transition, result) = match callback {
            CallbackReport::Outcome { outcome, result, stated } => {
                (head.report_by_callback(lease, outcome, stated, now, random), result)
            }
            CallbackReport::Beat { lease_ms, progress } => {
                (head.heartbeat(lease, lease_ms, progress, now).map(|()| Transition::Ongoing), None)
            }
        };
        let Ok(transition) = transition else { return Ok(late(head, lease)) };
        if head.background.is_some() || head.lease.is_none() {
            self.renewed.remove(id);
        }
        let result = result.filter(|_| head.error.is_none());
        self.persist(&mut head, transition, result.as_deref(), known)?;
        if matches!(transition, Transition::Queued(_)) {
            self.enqueue_wakeup_for(&head, now);
        }
        Ok(CallbackResult::Accepted(Box::new(head)))
    }

    /// Applies a partial answer: replaces the input request `from` with the remaining one, `to`.
    pub fn narrow_input_request(
        &mut self,
        id: &ContextId,
        from: &RawValue,
        to: Box<RawValue>,
        now: Timestamp,
    ) -> Result<ChangeResult, StorageError> {
        self.change(id, |head| head.narrow_input_request(from, to, now))
    }

    /// Answers an input request. The open attempt continues with the answer; without one, the context is queued.
    pub fn answer(
        &mut self,
        id: &ContextId,
        input: Box<RawValue>,
        now: Timestamp,
    ) -> Result<ChangeResult, StorageError> {
        let changed = self.change(id, |head| head.answer(input, now))?;
        if let ChangeResult::Done(head) = &changed {
            if head.lease.is_some() {
                self.effects.settled.push(id.clone());
            } else {
                self.enqueue_wakeup_for(head, now);
            }
        }
        Ok(changed)
    }

    /// The attempt with this lease asks for input, and stays open until the answer.
    pub fn ask_for_input(
        &mut self,
        id: &ContextId,
        lease: LeaseNumber,
        request: Box<RawValue>,
        now: Timestamp,
    ) -> Result<ChangeResult, StorageError> {
        self.change(id, |head| head.ask_for_input(lease, request, now))
    }

    /// Whether the attempt with this lease is still waiting for an answer.
    pub fn awaits_input(&self, id: &ContextId, lease: LeaseNumber) -> Result<bool, StorageError> {
        let head = if self.ended.contains(id) { None } else { self.storage.live_head(id)? };
        Ok(head.is_some_and(|head| {
            head.status == Status::InputRequired && head.lease.is_some_and(|held| held.number == lease)
        }))
    }

    /// The answer for the attempt with this lease, if there is one yet. `None` if the lease is lost or the context has
    /// ended.
    pub fn input_for(&self, id: &ContextId, lease: LeaseNumber) -> Result<Option<Option<Box<RawValue>>>, StorageError> {
        let head = if self.ended.contains(id) { None } else { self.storage.live_head(id)? };
        let head = head.filter(|head| head.lease.is_some_and(|held| held.number == lease));
        Ok(head.map(|head| head.input))
    }
}

fn late(head: Head, lease: LeaseNumber) -> CallbackResult {
    // A context that ended by timeout or cancellation was not ended by this callback.
    let reported = head
        .attempts
        .last()
        .is_some_and(|last| matches!(last.outcome, AttemptOutcome::Succeeded | AttemptOutcome::Failed));
    if head.status.is_final() && head.latest_lease == Some(lease) && reported {
        CallbackResult::Repeated(Box::new(head))
    } else {
        CallbackResult::LeaseLost(Box::new(head))
    }
}
