//! One context and every decision about it.
//!
//! [`Head`] is all of a context but its parameters and its result, which are large and only passed on.
//! Its methods are the lifecycle: each takes the time (and randomness) and changes the head as a whole,
//! or refuses and changes nothing. Kept by all of them:
//!
//! * a final state never changes, and one context reaches exactly one;
//! * a report is accepted only under the number of the lease that is in force;
//! * what is not idempotent is never begun a second time once it may have reached its service.

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::id::ContextId;
use super::lifecycle::{ErrorCode, Priority, Source, Status};
use super::service::Retry;
use super::time::Timestamp;

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
    pub capability: String,
    /// What the caller asked for: a service, a version range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_version: Option<String>,
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
    #[serde(default)]
    pub cancel_requested: bool,
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

/// What follows from a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has ended; nothing more will happen to it.
    Ended,
    /// It waits for its next attempt until this time.
    Waits(Timestamp),
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    Now,
    /// The running attempt was asked to stop; its end decides.
    Asked,
}

impl Head {
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
        self.not_before = None;
        self.error = error;
        self.enter(status, now);
        Verdict::Ended
    }

    fn error(&self, code: ErrorCode, message: &str) -> Option<ContextError> {
        let service = self.attempts.last().map(|attempt| attempt.service.clone());
        Some(ContextError { code, message: message.into(), service, details: None })
    }

    /// Begins an attempt that must report before `until`.
    pub fn lease(&mut self, now: Timestamp, until: Timestamp) -> Result<Lease, Refused> {
        if self.status.is_final() {
            return Err(Refused::Ended);
        }
        if self.status != Status::Queued
            || self.not_before.is_some_and(|at| at > now)
            || self.admission.expires_at <= now
        {
            return Err(Refused::NotNow);
        }
        self.leases += 1;
        let lease = Lease { number: self.leases, since: now, until };
        self.lease = Some(lease);
        self.not_before = None;
        self.enter(Status::Executing, now);
        Ok(lease)
    }

    /// Takes in how an attempt ended. A report under a lost lease changes nothing.
    pub fn report(&mut self, report: Report, now: Timestamp, random: u64) -> Result<Verdict, Refused> {
        if self.status.is_final() {
            return Err(Refused::Ended);
        }
        if self.lease.is_none_or(|lease| lease.number != report.lease) {
            return Err(Refused::LeaseLost);
        }
        self.admission.service.clone_from(&report.service);
        let number = self.attempts.len() as u64 + 1;
        let mut attempt = Attempt {
            number,
            service: report.service,
            outcome: AttemptOutcome::Succeeded,
            code: None,
            started_at: report.started_at,
            ended_at: report.ended_at,
            status_code: report.status_code,
            event: 0,
        };
        match report.outcome {
            Outcome::Succeeded => {
                self.attempts.push(attempt);
                Ok(self.end(Status::Completed, None, now))
            }
            Outcome::Failed { error, retryable, untouched, retry_after_ms } => {
                attempt.outcome = match error.code {
                    ErrorCode::UpstreamTimeout | ErrorCode::DeadlineExceeded => AttemptOutcome::TimedOut,
                    ErrorCode::Cancelled => AttemptOutcome::Cancelled,
                    _ => AttemptOutcome::Failed,
                };
                attempt.code = Some(error.code);
                self.attempts.push(attempt);
                Ok(self.after_failure(error, retryable, untouched, retry_after_ms, now, random))
            }
        }
    }

    fn after_failure(
        &mut self,
        error: ContextError,
        retryable: bool,
        untouched: bool,
        retry_after_ms: Option<u64>,
        now: Timestamp,
        random: u64,
    ) -> Verdict {
        if self.cancel_requested {
            return self.end(Status::Cancelled, self.error(ErrorCode::Cancelled, "It was cancelled."), now);
        }
        if now >= self.admission.expires_at || error.code == ErrorCode::DeadlineExceeded {
            let error = ContextError { code: ErrorCode::DeadlineExceeded, ..error };
            return self.end(Status::TimedOut, Some(error), now);
        }
        let safe = untouched || self.admission.idempotent;
        if retryable && safe && (self.attempts.len() as u64) < self.admission.retry.max_attempts {
            let at = now.plus_ms(self.backoff_ms(random).max(retry_after_ms.unwrap_or(0)));
            if at < self.admission.expires_at {
                return self.wait_until(at, now);
            }
        }
        self.end(Status::Failed, Some(error), now)
    }

    fn wait_until(&mut self, at: Timestamp, now: Timestamp) -> Verdict {
        self.lease = None;
        self.not_before = Some(at);
        self.enter(Status::Queued, now);
        Verdict::Waits(at)
    }

    /// Full jitter: anywhere from nothing to the base doubled per attempt, up to the cap.
    fn backoff_ms(&self, random: u64) -> u64 {
        let retry = self.admission.retry;
        let doublings = u32::try_from(self.attempts.len().saturating_sub(1)).unwrap_or(u32::MAX).min(32);
        let ceiling = retry.base_ms.saturating_mul(1 << doublings).min(retry.cap_ms);
        random % (ceiling + 1)
    }

    /// When somebody has to look at it again: its lease ends, its attempt may begin, its time is over.
    pub fn due(&self) -> Timestamp {
        let deadline = self.admission.expires_at;
        match self.status {
            Status::Executing => self.lease.map_or(deadline, |lease| lease.until.min(deadline)),
            Status::Queued => self.not_before.unwrap_or(self.updated_at).min(deadline),
            Status::Created | Status::Validated | Status::InputRequired => deadline,
            Status::Completed | Status::Failed | Status::Cancelled | Status::TimedOut => Timestamp(u64::MAX),
        }
    }

    /// Whether an attempt could begin now.
    pub fn is_ready(&self, now: Timestamp) -> bool {
        self.status == Status::Queued && self.not_before.is_none_or(|at| at <= now) && now < self.admission.expires_at
    }

    /// Time has passed: ends what is past its deadline, takes back leases whose holder is gone.
    pub fn tick(&mut self, now: Timestamp, random: u64) -> Verdict {
        if self.status.is_final() {
            return Verdict::Unchanged;
        }
        let lost = self.lease.filter(|lease| lease.until <= now);
        if now < self.admission.expires_at && lost.is_none() {
            return Verdict::Unchanged;
        }
        if let Some(lease) = self.lease {
            self.attempts.push(Attempt {
                number: self.attempts.len() as u64 + 1,
                service: self.admission.service.clone(),
                outcome: if lost.is_some() { AttemptOutcome::Lost } else { AttemptOutcome::TimedOut },
                code: None,
                started_at: lease.since,
                ended_at: now,
                status_code: None,
                event: 0,
            });
        }
        if now >= self.admission.expires_at {
            let message = "Its time was over before it ended.";
            return self.end(Status::TimedOut, self.error(ErrorCode::DeadlineExceeded, message), now);
        }
        let message = "The worker that ran it was lost; whether the service did the work is not known.";
        let Some(error) = self.error(ErrorCode::OutcomeUnknown, message) else {
            return Verdict::Unchanged;
        };
        self.after_failure(error, true, false, None, now, random)
    }

    /// Ends what waits at once; asks what runs to stop.
    pub fn cancel(&mut self, now: Timestamp) -> Result<Cancelled, Refused> {
        if self.status.is_final() {
            return Err(Refused::Ended);
        }
        if self.status == Status::Executing {
            self.cancel_requested = true;
            self.updated_at = now.max(self.updated_at);
            return Ok(Cancelled::Asked);
        }
        self.end(Status::Cancelled, self.error(ErrorCode::Cancelled, "It was cancelled."), now);
        Ok(Cancelled::Now)
    }

    /// From the first attempt's start to the end; nothing while it lives or when nothing ran.
    pub fn execution_time_ms(&self) -> Option<u64> {
        let first = self.attempts.first()?;
        self.status.is_final().then(|| self.updated_at.since(first.started_at))
    }
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
