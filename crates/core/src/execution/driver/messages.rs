//! What a [`Driver`](super::Driver) learns, and what it wants done.

use std::rc::Rc;

use serde_json::value::RawValue;

use crate::base::content::Content;
use crate::base::id::ContextId;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::context::lease::{Hold, LeaseNumber};
use crate::context::{AttemptReport, ContextError, ReportedOutcome};
use crate::context_store::messages::{self, Record};
use crate::context_store::replies::Work;
use crate::execution::attempt_result::AttemptResult;
use crate::lane::PermitDecision;
use crate::lane::call_outcome::CallOutcome;
use crate::lane::permit_number::PermitNumber;

/// An object did not reply, after all retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreachable;

/// Something that happened. Each action that says so is followed by exactly one event, unless the Worker dies.
#[derive(Debug)]
pub enum Event {
    /// The work begins.
    Started,
    /// The time of [`Driver::wake_at`](super::Driver::wake_at) has come.
    TimePassed,
    /// The client was answered without the driver: the service has asked it for input.
    ClientAnswered,
    /// Follows [`Action::Acquire`].
    Acquired(Result<PermitDecision, Unreachable>),
    /// Follows [`Action::Lease`].
    Leased(Result<LeaseResult, Unreachable>),
    /// Follows [`Action::Renew`].
    Renewed(Renewal, Result<RenewResult, Unreachable>),
    /// Follows [`Action::Call`], unless it was stopped.
    Responded(Box<AttemptResult>),
    /// Follows [`Action::Release`].
    Released(Permit),
    /// Follows [`Action::ReportCalls`].
    CallsReported,
    /// Follows [`Action::Admit`].
    Admitted(Result<AdmissionResult, Unreachable>),
    /// Follows [`Action::Commit`].
    Committed(Result<CommitReceipt, Unreachable>),
    /// Follows [`Action::Record`].
    Recorded(Result<(), Unreachable>),
    /// Follows [`Action::PutBack`].
    PutBack(Result<(), Unreachable>),
    /// Follows [`Action::Refuse`].
    Refused(Result<RefusalReceipt, Unreachable>),
    /// Follows [`Action::Refresh`].
    Refreshed(Result<(), Unreachable>),
}

/// Something to do. The index `at` is one of the services that the driver was given with the event.
#[derive(Debug)]
pub enum Action {
    /// Request a permit from the lane of a service, and wait in its queue at most `wait_ms`.
    Acquire { at: usize, wait_ms: u64 },
    /// Leave the queue of that lane. The request for a permit may still be answered.
    LeaveQueue { at: usize },
    /// Lease the context. The services must then be those of a revision that the store accepts.
    Lease,
    /// Tell the client's stream that another attempt begins, which invalidates the pieces of the one before.
    AnnounceAttempt { number: u64 },
    /// Call the service.
    Call(Call),
    /// Stop the call. With `withdraw`, the lane of the service takes the work under this lease back from the connection
    /// that has it.
    StopCall { at: usize, withdraw: Option<LeaseNumber> },
    /// Renew the lease or the offer.
    Renew(Renewal),
    /// Renew the permit.
    RenewPermit(Permit),
    /// Return the permit with the outcome of its call.
    Release { permit: Permit, outcome: CallOutcome },
    /// Report calls without a permit to the lane: this many successes, and then this one.
    ReportCalls { at: usize, successes: u64, last: CallOutcome },
    /// Admit the context, which runs already, under the first lease.
    Admit(Rc<Work>),
    /// Report the end of the attempt.
    Commit(Box<Commit>),
    /// Answer the client with the end of the context, which is not stored, and then store both.
    Record(Box<Record>),
    /// Return the context to the queue, where it stays until this time.
    PutBack { until: Option<Timestamp> },
    /// End the context without an attempt.
    Refuse(ContextError),
    /// Fetch the services again if they are not fresh.
    Refresh,
    /// Answer the client.
    Answer(ClientAnswer),
}

/// A call of a service.
#[derive(Debug, Clone)]
pub struct Call {
    pub at: usize,
    pub work: Rc<Work>,
    pub lease: LeaseNumber,
    /// How long the context has, and how much of it the service has until its response begins, in milliseconds.
    pub left_ms: u64,
    pub answer_timeout_ms: u64,
}

/// The report of an attempt, for the store.
#[derive(Debug)]
pub struct Commit {
    pub report: AttemptReport,
    pub result: Option<Box<RawValue>>,
    /// This worker would make the next attempt if it starts within this time.
    pub stays_ms: u64,
    pub content: Content,
}

/// What only the client gets of an attempt, as its content is not kept.
#[derive(Debug, Default)]
pub struct Withheld {
    pub result: Option<Box<RawValue>>,
    /// The error with the words of its service.
    pub error: Option<ContextError>,
}

impl Commit {
    /// The report as it is sent to the store, and what is withheld from it.
    pub fn split(self, id: ContextId) -> (messages::Commit, Withheld) {
        let Self { report, result, stays_ms, content } = self;
        if content.is_full() {
            return (messages::Commit { id, report, result, stays_ms, earlier: Vec::new() }, Withheld::default());
        }
        let error = match &report.outcome {
            ReportedOutcome::Failed { error, .. } => Some(error.clone()),
            _ => None,
        };
        let report = report.without_words(content);
        (messages::Commit { id, report, result: None, stays_ms, earlier: Vec::new() }, Withheld { result, error })
    }
}

/// The right to make one call of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    pub service: ServiceId,
    pub number: PermitNumber,
    /// The call tests whether the service works again.
    pub is_probe: bool,
    pub granted_at: Timestamp,
}

/// Which hold of which attempt is renewed. A reply about an earlier one says nothing about the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    pub hold: Hold,
    pub attempt: u64,
}

#[derive(Debug)]
pub enum LeaseResult {
    Leased(Box<Work>),
    /// Another worker has the context, or it has ended.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewResult {
    Renewed {
        /// The context is to be cancelled.
        cancel: bool,
    },
    /// The worker no longer holds the context.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmissionResult {
    /// Under this lease.
    Admitted(Option<LeaseNumber>),
    Rejected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitReceipt {
    Ended,
    /// The context has not ended, and the next step is not this worker's.
    Ongoing,
    /// This worker makes the next attempt after this time.
    Retry {
        ms: u64,
    },
    /// The lease was lost, or the context had ended.
    Rejected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReceipt {
    Ended,
    /// The context has another state than the worker knew.
    Rejected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAnswer {
    /// The context has ended, as the last receipt says.
    Ended,
    /// The wait is over, or the context is no longer this worker's: the client finds it at the store.
    Continues,
    /// The context could not be stored, so that there is nothing to find.
    NotStored,
}
