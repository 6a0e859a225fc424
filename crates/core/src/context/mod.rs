//! A context and every decision about it. What concerns several contexts of a store, and their storage, belongs to
//! `context_store`.
//!
//! [`Head`] is a context without its parameters and its result, which are large and only passed through. Its methods
//! are the lifecycle: each takes the time (and randomness) and either changes the head or returns a [`Rejection`] and
//! changes nothing. Invariants:
//!
//! * a context reaches exactly one final state, which never changes;
//! * a report is accepted only under the number of the current lease;
//! * a context that a service works on in the background keeps its lease until the service or the clock ends it;
//! * an attempt that asks for input and stays open keeps its lease and continues under it;
//! * a context that is not idempotent is never started a second time once it may have reached its service.

mod admission;
mod attempt;
mod background;
mod charge;
pub mod content;
pub mod create_request;
#[cfg(any(test, feature = "test-support"))]
pub mod fixtures;
pub mod http_status;
pub mod idempotency;
pub mod lease;
mod report;
pub mod retry;
pub mod status;
pub mod view;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::id::ContextId;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::context::lease::{Lease, LeaseNumber};
use crate::context::status::{ErrorCode, Status};
use crate::models::spent::Spent;

pub use admission::Admission;
pub use report::{AttemptReport, ReportedOutcome};

/// A status that a context entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    pub status: Status,
    pub at: Timestamp,
    /// The number of the event about this step, assigned by the store; 0 before that.
    pub event: u64,
}

/// How an attempt ended, as the history of its context shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
    /// The service asked for input before it continues.
    InputRequired,
    /// The attempt was started, and its end was never reported.
    Lost,
}

/// An attempt that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub number: u64,
    pub service: ServiceId,
    pub outcome: AttemptOutcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    pub event: u64,
}

impl Attempt {
    /// Whether the attempt failed, so that another service may succeed.
    pub fn failed(&self) -> bool {
        match self.outcome {
            AttemptOutcome::Failed | AttemptOutcome::TimedOut | AttemptOutcome::Lost => true,
            AttemptOutcome::Succeeded | AttemptOutcome::Cancelled | AttemptOutcome::InputRequired => false,
        }
    }

    /// Whether its service would fail again in the same way.
    pub fn is_hopeless(&self) -> bool {
        let is_refusal = |status: u16| status >= 300 && !http_status::passes(status);
        self.outcome == AttemptOutcome::Failed
            && (self.code == Some(ErrorCode::UpstreamInvalidResponse) || self.status_code.is_some_and(is_refusal))
    }
}

/// Why a context did not complete, as clients see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct ContextError {
    pub code: ErrorCode,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<RawValue>>,
}

/// Work that a service accepted and finishes later, by a callback or over its connection. The service holds the lease
/// in place of the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Background {
    pub service: ServiceId,
    pub started_at: Timestamp,
    /// The URL of the job, if the service gave one; a cancellation is sent there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The HTTP status with which the service accepted the work; none over a connection.
    #[serde(default = "accepted")]
    pub status_code: Option<u16>,
}

fn accepted() -> Option<u16> {
    Some(202)
}

/// The latest progress that a service reported.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Progress {
    pub at: Timestamp,
    pub event: u64,
    pub data: Box<RawValue>,
}

/// A context without its parameters and result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    pub admission: Admission,
    pub status: Status,
    pub updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ContextError>,
    pub attempts: Vec<Attempt>,
    pub history: Vec<HistoryEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// The number of the latest lease, which may have ended.
    #[serde(rename = "leases", with = "lease::number_or_zero")]
    pub latest_lease: Option<LeaseNumber>,
    /// The earliest start of the next attempt of a queued context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub cancel_requested: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<Background>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The latest input request of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_request: Option<Box<RawValue>>,
    /// The answer to it, which the next attempt sends to the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Box<RawValue>>,
    /// The state that the service wants back with the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_state: Option<String>,
    /// The result is an MCP `CallToolResult`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tool_result: bool,
    /// What it used and cost, in all its attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Box<Spent>>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The state after a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// The context has ended; nothing more happens to it.
    Ended,
    /// The context is queued, and its next attempt may begin at this time.
    Queued(Timestamp),
    /// The context changed and has not ended: a service works on it, or it waits for input.
    Ongoing,
    /// Nothing was due.
    Unchanged,
}

/// Why a decision changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// No lease is in force, or one with another number.
    LeaseLost,
    /// The context has already ended.
    Ended,
    /// The current state does not allow this.
    WrongState,
}

/// The result of a cancellation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancellation {
    /// The context has ended; the service that works on it in the background must be notified.
    Done(Option<Background>),
    /// The running attempt was asked to stop; its report decides.
    Requested,
}

/// Maximum number of input requests of a context. Its whole history is stored in one row and must be bounded.
pub const MAX_INPUT_REQUESTS: usize = 100;

impl Head {
    /// How often its service has asked for input.
    pub fn input_requests(&self) -> usize {
        self.history.iter().filter(|step| step.status == Status::InputRequired).count()
    }

    /// Creates a context that is queued for its first attempt.
    pub fn admit(admission: Admission, now: Timestamp) -> Self {
        let not_before = admission.run_at.filter(|at| *at > now);
        let mut head = Self {
            admission,
            status: Status::Created,
            updated_at: now,
            error: None,
            attempts: Vec::new(),
            history: Vec::with_capacity(6),
            lease: None,
            latest_lease: None,
            not_before,
            cancel_requested: false,
            background: None,
            progress: None,
            input_request: None,
            input: None,
            input_state: None,
            tool_result: false,
            spent: None,
        };
        head.history.push(HistoryEntry { status: Status::Created, at: now, event: 0 });
        head.enter(Status::Validated, now);
        head.enter(Status::Queued, now);
        head
    }

    /// Creates a context from the reports of a worker that ran it before the store knew of it: `earlier` attempts
    /// failed.
    pub fn from_record(
        admission: Admission,
        earlier: Vec<AttemptReport>,
        report: AttemptReport,
    ) -> Result<Self, Rejection> {
        // A call may have begun at the deadline; it is recorded as one that had no time.
        let last = Timestamp(admission.expires_at.0.saturating_sub(1));
        let first = earlier.first().map_or(report.started_at, |attempt| attempt.started_at);
        let began = first.min(last).max(admission.created_at);
        let ended = report.ended_at.max(began);
        let mut head = Self::admit(admission, began);
        head.admission.retry.max_attempts = 1;
        for failed in earlier {
            head.push_failed(failed);
        }
        let lease = head.lease(began, ended)?;
        head.report(AttemptReport { lease: lease.number, ..report }, ended, 0)?;
        Ok(head)
    }

    pub fn id(&self) -> &ContextId {
        &self.admission.id
    }

    fn enter(&mut self, status: Status, now: Timestamp) {
        debug_assert!(self.status.may_become(status), "{:?} → {status:?}", self.status);
        self.status = status;
        self.updated_at = now.max(self.updated_at);
        self.history.push(HistoryEntry { status, at: self.updated_at, event: 0 });
    }

    fn end(&mut self, status: Status, error: Option<ContextError>, now: Timestamp) -> Transition {
        self.lease = None;
        self.background = None;
        self.not_before = None;
        // These are for a next attempt, and there is none.
        self.input = None;
        self.input_state = None;
        self.error = error;
        self.enter(status, now);
        Transition::Ended
    }

    fn error(&self, code: ErrorCode, message: &str) -> Option<ContextError> {
        let service = self.attempts.last().map(|attempt| attempt.service.clone());
        Some(ContextError { code, message: message.into(), service, details: None })
    }

    /// When the context needs attention: its lease expires, its attempt may start, or its deadline passes. `u64::MAX`
    /// for an ended context.
    pub fn due(&self) -> Timestamp {
        let deadline = self.admission.expires_at;
        match self.status {
            // An attempt that asks for input may stay open until the answer.
            Status::Executing | Status::InputRequired => self.lease.map_or(deadline, |lease| lease.until.min(deadline)),
            Status::Queued => self.not_before.unwrap_or(self.updated_at).min(deadline),
            Status::Created | Status::Validated => deadline,
            Status::Completed | Status::Failed | Status::Cancelled | Status::TimedOut => Timestamp(u64::MAX),
        }
    }

    /// Whether an attempt may start now.
    pub fn is_ready(&self, now: Timestamp) -> bool {
        self.status == Status::Queued && self.not_before.is_none_or(|at| at <= now) && now < self.admission.expires_at
    }

    /// Ends the context at once if it is queued, waits for input or runs in the background; otherwise asks the worker
    /// that runs it to stop.
    pub fn cancel(&mut self, now: Timestamp) -> Result<Cancellation, Rejection> {
        if self.status.is_final() {
            return Err(Rejection::Ended);
        }
        let background = self.background.take();
        if self.status == Status::Executing && background.is_none() {
            self.cancel_requested = true;
            self.updated_at = now.max(self.updated_at);
            return Ok(Cancellation::Requested);
        }
        if let (None, Some(lease)) = (&background, self.lease) {
            // The attempt was open for an answer: its worker finds its lease gone.
            self.close_attempt(lease, self.admission.service.clone(), AttemptOutcome::Cancelled, now);
        }
        if let (Some(background), Some(lease)) = (&background, self.lease) {
            let began = Lease { since: background.started_at, ..lease };
            self.close_attempt(began, background.service.clone(), AttemptOutcome::Cancelled, now);
        }
        self.end(Status::Cancelled, self.error(ErrorCode::Cancelled, "The context was cancelled."), now);
        Ok(Cancellation::Done(background))
    }

    /// Milliseconds from the start of the first attempt to the end. `None` if the context has not ended or had no
    /// attempt.
    pub fn execution_time_ms(&self) -> Option<u64> {
        let first = self.attempts.first()?;
        self.status.is_final().then(|| self.updated_at.since(first.started_at))
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod charge_tests;
