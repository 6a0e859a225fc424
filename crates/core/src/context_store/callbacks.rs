//! What services say by their callbacks, and what people answer them.

use serde_json::value::RawValue;

use super::{Broken, Changed, Ledger, Shelf};
use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::context::status::Status;
use crate::context::{AttemptOutcome, Head, Outcome, Verdict};
use crate::events::bundle::last_number;

/// What a service says of a context it works on.
#[derive(Debug)]
pub enum Callback {
    /// How it ended, or that it asks for input.
    Outcome { outcome: Outcome, result: Option<Box<RawValue>> },
    /// It is still at it, and promises to report again within this.
    Beat { lease_ms: Option<u64>, progress: Option<Box<RawValue>> },
}

#[derive(Debug)]
pub enum CalledBack {
    /// It counts; this is what the context is now.
    Taken(Box<Head>),
    /// It has ended under this very lease: said twice, because the first answer was lost.
    Again(Box<Head>),
    /// Another attempt has begun, or the context has ended otherwise.
    Lost(Box<Head>),
    Absent,
}

impl<S: Shelf> Ledger<S> {
    /// Takes in a callback under the lease that its address names.
    pub fn called_back(
        &mut self,
        id: &ContextId,
        lease: u64,
        callback: Callback,
        now: Timestamp,
        random: u64,
    ) -> Result<CalledBack, Broken> {
        let Some(mut head) = self.take_live(id)? else {
            let ended = self.shelf.done_head(id)?;
            return Ok(ended.map_or(CalledBack::Absent, |head| late(head, lease)));
        };
        let known = last_number(&head);
        let (verdict, result) = match callback {
            Callback::Outcome { outcome, result } => (head.called_back(lease, outcome, now, random), result),
            Callback::Beat { lease_ms, progress } => {
                (head.beat(lease, lease_ms, progress, now).map(|()| Verdict::LivesOn), None)
            }
        };
        let Ok(verdict) = verdict else { return Ok(late(head, lease)) };
        if head.background.is_some() || head.lease.is_none() {
            self.renewed.remove(id);
        }
        let result = result.filter(|_| head.error.is_none());
        self.keep(&mut head, verdict, result.as_deref(), known)?;
        if matches!(verdict, Verdict::Waits(_)) {
            self.ring_for(&head, now);
        }
        Ok(CalledBack::Taken(Box::new(head)))
    }

    /// Takes a part of the answer: what is asked for then.
    pub fn narrowed(
        &mut self,
        id: &ContextId,
        from: &RawValue,
        to: Box<RawValue>,
        now: Timestamp,
    ) -> Result<Changed, Broken> {
        self.change(id, |head| head.narrow(from, to, now))
    }

    /// Answers what a service asked for; the context waits for its next attempt then.
    pub fn answered(&mut self, id: &ContextId, input: Box<RawValue>, now: Timestamp) -> Result<Changed, Broken> {
        let changed = self.change(id, |head| head.answer(input, now))?;
        if let Changed::Done(head) = &changed {
            if head.lease.is_some() {
                self.effects.rested.push(id.clone());
            } else {
                self.ring_for(head, now);
            }
        }
        Ok(changed)
    }

    /// The attempt under this lease asks, and stays open for the answer.
    pub fn ask(
        &mut self,
        id: &ContextId,
        lease: u64,
        request: Box<RawValue>,
        now: Timestamp,
    ) -> Result<Changed, Broken> {
        self.change(id, |head| head.ask(lease, request, now))
    }

    /// Whether the attempt under this lease still waits for an answer.
    pub fn asks(&self, id: &ContextId, lease: u64) -> Result<bool, Broken> {
        let head = if self.ended.contains(id) { None } else { self.shelf.live_head(id)? };
        Ok(head.is_some_and(|head| {
            head.status == Status::InputRequired && head.lease.is_some_and(|held| held.number == lease)
        }))
    }

    /// What the attempt under this lease was answered; nothing when the lease is lost or it has ended.
    pub fn heard(&self, id: &ContextId, lease: u64) -> Result<Option<Option<Box<RawValue>>>, Broken> {
        let head = if self.ended.contains(id) { None } else { self.shelf.live_head(id)? };
        let head = head.filter(|head| head.lease.is_some_and(|held| held.number == lease));
        Ok(head.map(|head| head.input))
    }
}

fn late(head: Head, lease: u64) -> CalledBack {
    // What the clock or its owner ended was not ended by this.
    let reported = head
        .attempts
        .last()
        .is_some_and(|last| matches!(last.outcome, AttemptOutcome::Succeeded | AttemptOutcome::Failed));
    if head.status.is_final() && head.leases == lease && reported {
        CalledBack::Again(Box::new(head))
    } else {
        CalledBack::Lost(Box::new(head))
    }
}
