//! How attempts and contexts end: reports, records, cancellation.

use serde_json::value::RawValue;

use super::messages::{Commit, Record};
use super::{ChangeResult, ContextStore, Storage, StorageError};
use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::context::status::Status;
use crate::context::{Background, Cancellation, ContextError, Head, Rejection, Transition};
use crate::events::bundle::last_number;

/// The result of a report.
#[derive(Debug)]
pub enum CommitResult {
    /// `retry_ms`: the caller leases the next attempt itself after this delay.
    Accepted { head: Box<Head>, retry_ms: Option<u64> },
    /// The lease was lost or the context had ended; this is its state.
    Rejected(Box<Head>),
}

/// The result of a request to cancel.
#[derive(Debug)]
pub enum CancelResult {
    NotFound,
    AlreadyEnded(Box<Head>),
    /// The context has ended; a service that works on it in the background must be notified.
    Cancelled(Box<Head>, Option<Background>),
    /// The running attempt was asked to stop.
    Requested(Box<Head>),
}

impl<S: Storage> ContextStore<S> {
    /// Stores how an attempt ended. The caller makes the next attempt itself if it is due within `stays_ms`; `random`
    /// is for the backoff.
    pub fn commit(&mut self, commit: Commit, now: Timestamp, random: u64) -> Result<CommitResult, StorageError> {
        let Commit { id, report, result, stays_ms, earlier } = commit;
        let id = &id;
        let Some(mut head) = self.take_live(id)? else {
            let ended =
                self.storage.done_head(id)?.ok_or_else(|| StorageError(format!("{id} is not in this store")))?;
            return Ok(CommitResult::Rejected(Box::new(ended)));
        };
        let known = last_number(&head);
        let content = head.admission.content;
        if head.lease.is_some_and(|lease| lease.number == report.lease) {
            earlier.into_iter().for_each(|attempt| head.push_failed(attempt.kept(content)));
        }
        let transition = match head.report(report.kept(content), now, random) {
            Ok(transition) => transition,
            Err(Rejection::Ended | Rejection::LeaseLost | Rejection::WrongState) => {
                return Ok(CommitResult::Rejected(Box::new(head)));
            }
        };
        let result = result.as_deref().filter(|_| head.error.is_none() && content.is_full());
        self.persist(&mut head, transition, result, known)?;
        self.renewed.remove(id);
        let retry_ms = match transition {
            Transition::Queued(at) => Some(at.since(now)).filter(|ms| *ms <= stays_ms),
            Transition::Ended | Transition::Ongoing | Transition::Unchanged => None,
        };
        if let Some(ms) = retry_ms {
            self.offered.insert(id.clone(), now.plus_ms(ms + self.timing.offer_ms));
        } else if matches!(transition, Transition::Queued(_)) {
            self.enqueue_wakeup_for(&head, now);
        }
        Ok(CommitResult::Accepted { head: Box::new(head), retry_ms })
    }

    /// Writes a decision and publishes its events.
    pub(super) fn persist(
        &mut self,
        head: &mut Head,
        transition: Transition,
        result: Option<&RawValue>,
        known: u64,
    ) -> Result<(), StorageError> {
        self.assign_numbers(head)?;
        if head.status.is_final() || head.status == Status::InputRequired {
            self.effects.settled.push(head.id().clone());
        }
        match transition {
            Transition::Ended => {
                self.storage.finish(head, result)?;
                self.ended.insert(head.id().clone());
                self.offered.remove(head.id());
                self.outbox.context_ended(last_number(head), head.id().clone());
            }
            Transition::Ongoing => {
                self.storage.update(head)?;
                // Its service may have promised a report before the alarm that is set.
                self.arm_by(head.due());
            }
            // The caller of this method arranges the next attempt.
            Transition::Queued(_) | Transition::Unchanged => self.storage.update(head)?,
        }
        self.publish(head, result, known)
    }

    /// Stores a context that was executed without being admitted first (`durable: false`).
    pub fn record(&mut self, record: Record) -> Result<(), StorageError> {
        let Record { admission, parameters, report, result, earlier } = record.kept();
        let result = result.as_deref();
        let mut head = Head::from_record(*admission, earlier, report)
            .map_err(|_| StorageError("a record that could not have ended".into()))?;
        self.assign_numbers(&mut head)?;
        if self.storage.insert_done(&head, &parameters, result)? {
            return self.publish_only(&head, result, 0);
        }
        // If it is stored already, the first reply was lost.
        let known = self.any_head(head.id())?;
        known.map(|_| ()).ok_or_else(|| StorageError(format!("another context has the row key of {}", head.id())))
    }

    /// Cancels a context: at once if no worker runs it, otherwise by asking the worker to stop.
    pub fn cancel(&mut self, id: &ContextId, now: Timestamp) -> Result<CancelResult, StorageError> {
        let Some(mut head) = self.take_live(id)? else {
            let ended = self.storage.done_head(id)?;
            return Ok(ended.map_or(CancelResult::NotFound, |head| CancelResult::AlreadyEnded(Box::new(head))));
        };
        let known = last_number(&head);
        match head.cancel(now) {
            Ok(Cancellation::Done(background)) => {
                self.persist(&mut head, Transition::Ended, None, known)?;
                Ok(CancelResult::Cancelled(Box::new(head), background))
            }
            Ok(Cancellation::Requested) => {
                self.storage.update(&head)?;
                Ok(CancelResult::Requested(Box::new(head)))
            }
            Err(_) => Ok(CancelResult::AlreadyEnded(Box::new(head))),
        }
    }

    /// Ends a queued context without an attempt.
    pub fn reject(
        &mut self,
        id: &ContextId,
        error: ContextError,
        now: Timestamp,
    ) -> Result<ChangeResult, StorageError> {
        self.change(id, |head| head.reject(error, now))
    }

    /// Changes a live context and writes it.
    pub(super) fn change(
        &mut self,
        id: &ContextId,
        decide: impl FnOnce(&mut Head) -> Result<Transition, Rejection>,
    ) -> Result<ChangeResult, StorageError> {
        let Some(mut head) = self.take_live(id)? else {
            let ended = self.storage.done_head(id)?;
            return Ok(
                ended.map_or(ChangeResult::NotFound, |head| ChangeResult::Rejected(Box::new(head), Rejection::Ended))
            );
        };
        let known = last_number(&head);
        Ok(match decide(&mut head) {
            // A repeated request.
            Ok(Transition::Unchanged) => ChangeResult::Done(Box::new(head)),
            Ok(transition) => {
                self.persist(&mut head, transition, None, known)?;
                ChangeResult::Done(Box::new(head))
            }
            Err(rejection) => ChangeResult::Rejected(Box::new(head), rejection),
        })
    }
}
