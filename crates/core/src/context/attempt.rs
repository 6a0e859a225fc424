//! Attempts: their start, their end, and what follows.

use super::{
    Attempt, AttemptOutcome, AttemptReport, Background, ContextError, Head, MAX_INPUT_REQUESTS, Rejection,
    ReportedOutcome, Transition,
};
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::context::lease::{Lease, LeaseNumber};
use crate::context::status::{ErrorCode, Status};

/// The outcome of an attempt that ended with an error.
fn outcome_of(code: ErrorCode) -> AttemptOutcome {
    match code {
        ErrorCode::UpstreamTimeout | ErrorCode::DeadlineExceeded => AttemptOutcome::TimedOut,
        ErrorCode::Cancelled => AttemptOutcome::Cancelled,
        ErrorCode::ServiceUnavailable
        | ErrorCode::CircuitOpen
        | ErrorCode::AddressRefused
        | ErrorCode::UpstreamError
        | ErrorCode::UpstreamInvalidResponse
        | ErrorCode::OutcomeUnknown
        | ErrorCode::ContentNotKept
        | ErrorCode::Internal => AttemptOutcome::Failed,
    }
}

impl Head {
    /// Starts an attempt whose report is due before `until`.
    pub fn lease(&mut self, now: Timestamp, until: Timestamp) -> Result<Lease, Rejection> {
        if self.status.is_final() {
            return Err(Rejection::Ended);
        }
        if self.status != Status::Queued
            || self.not_before.is_some_and(|at| at > now)
            || self.admission.expires_at <= now
        {
            return Err(Rejection::WrongState);
        }
        let number = self.latest_lease.map_or(LeaseNumber::FIRST, LeaseNumber::next);
        let lease = Lease { number, since: now, until };
        self.latest_lease = Some(number);
        self.lease = Some(lease);
        self.not_before = None;
        self.enter(Status::Executing, now);
        Ok(lease)
    }

    /// Applies the end of an attempt; `random` is for the backoff. A report under a lost lease changes nothing.
    pub fn report(&mut self, report: AttemptReport, now: Timestamp, random: u64) -> Result<Transition, Rejection> {
        if self.status.is_final() {
            return Err(Rejection::Ended);
        }
        if self.lease.is_none_or(|lease| lease.number != report.lease) {
            return Err(Rejection::LeaseLost);
        }
        self.resume(now);
        self.take_charge(&report);
        let states_cost = report.stated.as_ref().is_some_and(|stated| stated.has_cost());
        self.admission.service.clone_from(&report.service);
        let mut attempt = Attempt {
            number: self.attempts.len() as u64 + 1,
            service: report.service,
            outcome: AttemptOutcome::Succeeded,
            code: None,
            started_at: report.started_at,
            ended_at: report.ended_at,
            status_code: report.status_code,
            event: 0,
        };
        match report.outcome {
            ReportedOutcome::Succeeded | ReportedOutcome::ToolResult => {
                self.tool_result = matches!(report.outcome, ReportedOutcome::ToolResult);
                self.attempts.push(attempt);
                if !states_cost {
                    self.owe_price(false);
                }
                Ok(self.end(Status::Completed, None, now))
            }
            // The client has cancelled it. The service learns that when it reports.
            ReportedOutcome::Accepted { .. } | ReportedOutcome::InputRequired { .. } if self.cancel_requested => {
                attempt.outcome = AttemptOutcome::Cancelled;
                attempt.code = Some(ErrorCode::Cancelled);
                self.attempts.push(attempt);
                Ok(self.end_cancelled(now))
            }
            ReportedOutcome::Accepted { lease_ms, location } => {
                let Attempt { service, started_at, status_code, .. } = attempt;
                Ok(self.accept(Background { service, started_at, location, status_code }, lease_ms, now))
            }
            ReportedOutcome::InputRequired { .. } if self.input_requests() >= MAX_INPUT_REQUESTS => {
                Ok(self.asks_too_often(attempt, now, random))
            }
            ReportedOutcome::InputRequired { request, state } => {
                attempt.outcome = AttemptOutcome::InputRequired;
                self.attempts.push(attempt);
                self.lease = None;
                Ok(self.suspend(request, state, now))
            }
            ReportedOutcome::Failed { error, retryable, untouched, retry_after_ms } => {
                attempt.outcome = outcome_of(error.code);
                attempt.code = Some(error.code);
                self.attempts.push(attempt);
                Ok(self.after_failure(error, retryable, untouched, retry_after_ms, now, random))
            }
        }
    }

    /// Adds an attempt that failed before the one that is reported.
    pub fn push_failed(&mut self, report: AttemptReport) {
        self.add_spent(report.spent.as_deref());
        let code = match report.outcome {
            ReportedOutcome::Failed { error, .. } => Some(error.code),
            ReportedOutcome::Succeeded
            | ReportedOutcome::ToolResult
            | ReportedOutcome::Accepted { .. }
            | ReportedOutcome::InputRequired { .. } => None,
        };
        self.attempts.push(Attempt {
            number: self.attempts.len() as u64 + 1,
            service: report.service,
            outcome: code.map_or(AttemptOutcome::Failed, outcome_of),
            code,
            started_at: report.started_at,
            ended_at: report.ended_at,
            status_code: report.status_code,
            event: 0,
        });
    }

    fn asks_too_often(&mut self, attempt: Attempt, now: Timestamp, random: u64) -> Transition {
        let message = format!("The service asked for input more than {MAX_INPUT_REQUESTS} times.");
        let (code, service) = (ErrorCode::UpstreamInvalidResponse, Some(attempt.service.clone()));
        self.attempts.push(Attempt { outcome: AttemptOutcome::Failed, code: Some(code), ..attempt });
        self.after_failure(ContextError { code, message, service, details: None }, false, false, None, now, random)
    }

    fn end_cancelled(&mut self, now: Timestamp) -> Transition {
        self.end(Status::Cancelled, self.error(ErrorCode::Cancelled, "The context was cancelled."), now)
    }

    fn after_failure(
        &mut self,
        error: ContextError,
        retryable: bool,
        untouched: bool,
        retry_after_ms: Option<u64>,
        now: Timestamp,
        random: u64,
    ) -> Transition {
        if self.cancel_requested {
            return self.end_cancelled(now);
        }
        if error.code == ErrorCode::Cancelled {
            // The client of a model has left, and ends its call.
            return self.end(Status::Cancelled, Some(error), now);
        }
        if now >= self.admission.expires_at || error.code == ErrorCode::DeadlineExceeded {
            let error = ContextError { code: ErrorCode::DeadlineExceeded, ..error };
            return self.end(Status::TimedOut, Some(error), now);
        }
        let safe = untouched || self.admission.idempotent;
        if retryable && safe && self.counted_attempts() < self.admission.retry.max_attempts {
            let at = now.plus_ms(self.backoff_ms(random).max(retry_after_ms.unwrap_or(0)));
            if at < self.admission.expires_at {
                return self.wait_until(at, now);
            }
        }
        if error.code == ErrorCode::OutcomeUnknown {
            self.owe_price(true);
        }
        self.end(Status::Failed, Some(error), now)
    }

    /// The attempts that count against the maximum: those that ended with an input request do not.
    fn counted_attempts(&self) -> u64 {
        self.attempts.iter().filter(|attempt| attempt.outcome != AttemptOutcome::InputRequired).count() as u64
    }

    pub(super) fn wait_until(&mut self, at: Timestamp, now: Timestamp) -> Transition {
        self.lease = None;
        self.background = None;
        self.not_before = Some(at);
        self.enter(Status::Queued, now);
        Transition::Queued(at)
    }

    /// Full jitter: between 0 and the base delay, which doubles with each attempt up to the cap. In milliseconds.
    fn backoff_ms(&self, random: u64) -> u64 {
        let retry = self.admission.retry;
        let doublings = u32::try_from(self.counted_attempts().saturating_sub(1)).unwrap_or(u32::MAX).min(32);
        let ceiling = retry.base_ms.saturating_mul(1 << doublings).min(retry.cap_ms);
        random % (ceiling + 1)
    }

    /// Time has passed: ends a context after its deadline, and a lease after its expiry.
    pub fn tick(&mut self, now: Timestamp, random: u64) -> Transition {
        if self.status.is_final() {
            return Transition::Unchanged;
        }
        let lost = self.lease.filter(|lease| lease.until <= now);
        if now < self.admission.expires_at && lost.is_none() {
            return Transition::Unchanged;
        }
        let silent = self.background.is_some();
        if now < self.admission.expires_at {
            self.resume(now);
        }
        if let Some(lease) = self.lease {
            let outcome = if lost.is_some() { AttemptOutcome::Lost } else { AttemptOutcome::TimedOut };
            self.close_attempt(lease, self.admission.service.clone(), outcome, now);
        }
        if now >= self.admission.expires_at {
            let message = "The deadline passed before the context completed.";
            return self.end(Status::TimedOut, self.error(ErrorCode::DeadlineExceeded, message), now);
        }
        let message = if silent {
            "The service that accepted the work did not report in time; whether it did the work is unknown."
        } else {
            "The worker that ran the attempt was lost; whether the service did the work is unknown."
        };
        let Some(error) = self.error(ErrorCode::OutcomeUnknown, message) else {
            return Transition::Unchanged;
        };
        // A worker that would repeat it does not have its content.
        let retryable = !self.is_bound_to_worker();
        self.after_failure(error, retryable, false, None, now, random)
    }

    /// Records an attempt that was never reported.
    pub(super) fn close_attempt(&mut self, lease: Lease, service: ServiceId, outcome: AttemptOutcome, now: Timestamp) {
        self.attempts.push(Attempt {
            number: self.attempts.len() as u64 + 1,
            service,
            outcome,
            code: None,
            started_at: lease.since,
            ended_at: now,
            status_code: None,
            event: 0,
        });
    }

    /// Ends a queued context without an attempt: it cannot start in time, or its service is unavailable.
    pub fn reject(&mut self, error: ContextError, now: Timestamp) -> Result<Transition, Rejection> {
        self.require_queued()?;
        let status = if error.code == ErrorCode::DeadlineExceeded { Status::TimedOut } else { Status::Failed };
        Ok(self.end(status, Some(error), now))
    }

    /// Keeps a queued context queued, at least until `until`.
    pub fn postpone(&mut self, until: Timestamp, now: Timestamp) -> Result<Transition, Rejection> {
        self.require_queued()?;
        self.not_before = Some(until.max(now));
        Ok(Transition::Queued(until))
    }

    fn require_queued(&self) -> Result<(), Rejection> {
        match self.status {
            Status::Queued => Ok(()),
            status if status.is_final() => Err(Rejection::Ended),
            _ => Err(Rejection::WrongState),
        }
    }
}
