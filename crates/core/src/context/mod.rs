//! One context and every decision about it.
//!
//! [`Head`] is all of a context but its parameters and its result, which are large and only passed on.
//! Its methods are the lifecycle: each takes the time (and randomness) and changes the head as a whole,
//! or refuses and changes nothing. Kept by all of them:
//!
//! * a final state never changes, and one context reaches exactly one;
//! * a report is accepted only under the number of the lease that is in force;
//! * what a service works on in the background holds its lease, until the service or the clock ends it;
//! * an attempt that asks and stays open for the answer holds its lease meanwhile, and goes on under it;
//! * what is not idempotent is never begun a second time once it may have reached its service.

mod attempt;
mod background;
pub mod create_request;
pub mod http_status;
pub mod idempotency;
pub mod retry;
pub mod status;

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::context::retry::Retry;
use crate::context::status::{ErrorCode, Priority, Source, Status};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub status: Status,
    pub at: Timestamp,
    /// The number the store gave the event that tells of this step.
    pub event: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
    /// The service asked for something before it goes on.
    InputRequired,
    /// Begun, and nobody came back to say how it ended.
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub number: u64,
    pub service: String,
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
    /// Whether another service could do better.
    pub fn failed(&self) -> bool {
        match self.outcome {
            AttemptOutcome::Failed | AttemptOutcome::TimedOut | AttemptOutcome::Lost => true,
            AttemptOutcome::Succeeded | AttemptOutcome::Cancelled | AttemptOutcome::InputRequired => false,
        }
    }

    /// Whether its service would fail it in the same way again.
    pub fn is_hopeless(&self) -> bool {
        let is_refusal = |status: u16| status >= 300 && !http_status::passes(status);
        self.outcome == AttemptOutcome::Failed
            && (self.code == Some(ErrorCode::UpstreamInvalidResponse) || self.status_code.is_some_and(is_refusal))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContextError {
    pub code: ErrorCode,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<RawValue>>,
}

/// The right to run one attempt. Whoever holds the number may report; a later number ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub number: u64,
    pub since: Timestamp,
    pub until: Timestamp,
}

/// What the gateway decided about a new context.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Admission {
    pub id: ContextId,
    pub tenant: String,
    pub owner: String,
    /// What people call the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_name: Option<String>,
    /// The context that it does once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<ContextId>,
    pub capability: String,
    /// What the caller asked for: a service, a version range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_version: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked_tags: Vec<String>,
    /// What the router chose for the first attempt.
    pub service: String,
    pub version: Version,
    pub idempotent: bool,
    pub retry: Retry,
    pub priority: Priority,
    pub source: Source,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// The trace it belongs to, as a `traceparent`.
    pub trace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_state: Option<String>,
    /// What whoever waits for it can, by the capabilities of an MCP client: a service that is an MCP server is told so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Box<RawValue>>,
    /// The session of that client at the gateway, which has one of its own at a server that keeps sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// That client cannot be asked while this call runs: nothing is there to ask it on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unasked: bool,
    /// The least severe messages they want to hear of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    /// What their client says of the call for a service that is an MCP server: an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Box<RawValue>>,
    /// Where the gateway is reached, for what services call back: scheme and authority.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
}

/// Work that a service took on and ends later, by a callback or over its connection. It holds the lease in its worker's
/// place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Background {
    pub service: String,
    pub started_at: Timestamp,
    /// What the service named as the work's own address; told there when it is cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What it answered with when it took it on; nothing when it was given it over a connection.
    #[serde(default = "accepted")]
    pub status_code: Option<u16>,
}

fn accepted() -> Option<u16> {
    Some(202)
}

/// What a service last said of its work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Progress {
    pub at: Timestamp,
    pub event: u64,
    pub data: Box<RawValue>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    pub admission: Admission,
    pub status: Status,
    pub updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ContextError>,
    pub attempts: Vec<Attempt>,
    pub history: Vec<Step>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// Leases given so far; the next is one more.
    pub leases: u64,
    /// For what is queued: not before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub cancel_requested: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<Background>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What the service asked for last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_request: Option<Box<RawValue>>,
    /// What it was answered; the next attempt takes it along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Box<RawValue>>,
    /// What the service that asked wants back with the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_state: Option<String>,
    /// Its result has the form that MCP gives a tool's.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tool_result: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// How one attempt ended, as its worker saw it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub lease: u64,
    pub service: String,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The result travels beside the report.
    Succeeded,
    /// The same, and the result is one of a tool in the form of MCP (`CallToolResult`), its own failure among them.
    ToolResult,
    /// The service works on it in the background and will call back.
    Accepted {
        /// The service promises to report within this; without it the context's time is all there is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease_ms: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        location: Option<String>,
    },
    /// The service asks for something before it goes on.
    InputRequired {
        request: Box<RawValue>,
        /// What the service wants back with the answer; shown to nobody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
    },
    Failed {
        error: ContextError,
        /// Whether another attempt could do better.
        retryable: bool,
        /// Certain that the service did nothing: safe to repeat even what is not idempotent.
        untouched: bool,
        /// The service's own wish, a lower bound.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
}

impl Outcome {
    /// Whether it is the attempt's end, as far as its service is concerned.
    pub fn ends(&self) -> bool {
        match self {
            Outcome::Succeeded | Outcome::ToolResult | Outcome::Failed { .. } => true,
            Outcome::Accepted { .. } | Outcome::InputRequired { .. } => false,
        }
    }
}

/// What follows from a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has ended; nothing more will happen to it.
    Ended,
    /// It waits for its next attempt until this time.
    Waits(Timestamp),
    /// It changed and lives on: its service has it, or somebody is asked for input.
    LivesOn,
    /// Nothing was due.
    Unchanged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Another lease is in force, or none.
    LeaseLost,
    /// It has ended already.
    Ended,
    /// Not in a state that allows this now.
    NotNow,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// It has ended; who works on it in the background is to be told.
    Now(Option<Background>),
    /// The running attempt was asked to stop; its end decides.
    Asked,
}

/// Times a context may ask for input. All of its history lies in one row, and is to have an end.
pub const MAX_QUESTIONS: usize = 100;

impl Head {
    /// How many times its service has asked for input.
    pub fn questions(&self) -> usize {
        self.history.iter().filter(|step| step.status == Status::InputRequired).count()
    }

    /// A context that exists from now on, waiting for its first attempt.
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
            leases: 0,
            not_before,
            cancel_requested: false,
            background: None,
            progress: None,
            input_request: None,
            input: None,
            input_state: None,
            tool_result: false,
        };
        head.history.push(Step { status: Status::Created, at: now, event: 0 });
        head.enter(Status::Validated, now);
        head.enter(Status::Queued, now);
        head
    }

    /// A context that was executed under a lease only its worker knew, and is told of afterwards.
    pub fn recorded(admission: Admission, report: Report) -> Result<Self, Refused> {
        let began = report.started_at.max(admission.created_at);
        let ended = report.ended_at.max(began);
        let mut head = Self::admit(admission, began);
        head.admission.retry.max_attempts = 1;
        let lease = head.lease(began, ended)?;
        head.report(Report { lease: lease.number, ..report }, ended, 0)?;
        Ok(head)
    }

    pub fn id(&self) -> &ContextId {
        &self.admission.id
    }

    fn enter(&mut self, status: Status, now: Timestamp) {
        debug_assert!(self.status.may_become(status), "{:?} → {status:?}", self.status);
        self.status = status;
        self.updated_at = now.max(self.updated_at);
        self.history.push(Step { status, at: self.updated_at, event: 0 });
    }

    fn end(&mut self, status: Status, error: Option<ContextError>, now: Timestamp) -> Verdict {
        self.lease = None;
        self.background = None;
        self.not_before = None;
        // For an attempt to come, of which there is none.
        self.input = None;
        self.input_state = None;
        self.error = error;
        self.enter(status, now);
        Verdict::Ended
    }

    fn error(&self, code: ErrorCode, message: &str) -> Option<ContextError> {
        let service = self.attempts.last().map(|attempt| attempt.service.clone());
        Some(ContextError { code, message: message.into(), service, details: None })
    }

    /// When somebody has to look at it again: its lease ends, its attempt may begin, its time is over.
    pub fn due(&self) -> Timestamp {
        let deadline = self.admission.expires_at;
        match self.status {
            // Who asks may hold the attempt open for the answer.
            Status::Executing | Status::InputRequired => self.lease.map_or(deadline, |lease| lease.until.min(deadline)),
            Status::Queued => self.not_before.unwrap_or(self.updated_at).min(deadline),
            Status::Created | Status::Validated => deadline,
            Status::Completed | Status::Failed | Status::Cancelled | Status::TimedOut => Timestamp(u64::MAX),
        }
    }

    /// Whether an attempt could begin now.
    pub fn is_ready(&self, now: Timestamp) -> bool {
        self.status == Status::Queued && self.not_before.is_none_or(|at| at <= now) && now < self.admission.expires_at
    }

    /// Ends at once what waits or is its service's; asks the worker of what runs to stop.
    pub fn cancel(&mut self, now: Timestamp) -> Result<Cancelled, Refused> {
        if self.status.is_final() {
            return Err(Refused::Ended);
        }
        let background = self.background.take();
        if self.status == Status::Executing && background.is_none() {
            self.cancel_requested = true;
            self.updated_at = now.max(self.updated_at);
            return Ok(Cancelled::Asked);
        }
        if let (None, Some(lease)) = (&background, self.lease) {
            // It was held open for an answer: its worker finds its lease gone.
            self.leave_attempt(lease, self.admission.service.clone(), AttemptOutcome::Cancelled, now);
        }
        if let (Some(background), Some(lease)) = (&background, self.lease) {
            let began = Lease { since: background.started_at, ..lease };
            self.leave_attempt(began, background.service.clone(), AttemptOutcome::Cancelled, now);
        }
        self.end(Status::Cancelled, self.error(ErrorCode::Cancelled, "It was cancelled."), now);
        Ok(Cancelled::Now(background))
    }

    /// From the first attempt's start to the end; nothing while it lives or when nothing ran.
    pub fn execution_time_ms(&self) -> Option<u64> {
        let first = self.attempts.first()?;
        self.status.is_final().then(|| self.updated_at.since(first.started_at))
    }
}

#[cfg(test)]
mod tests;
