//! Attempts: beginning one, taking in how it ended, and what follows from it.

use super::{
    Attempt, AttemptOutcome, Background, ContextError, Head, Lease, MAX_QUESTIONS, Outcome, Refused, Report, Verdict,
};
use crate::base::time::Timestamp;
use crate::context::status::{ErrorCode, Status};

impl Head {
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
        self.go_on(now);
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
            Outcome::Succeeded | Outcome::ToolResult => {
                self.tool_result = matches!(report.outcome, Outcome::ToolResult);
                self.attempts.push(attempt);
                Ok(self.end(Status::Completed, None, now))
            }
            Outcome::Accepted { lease_ms, location } => {
                let Attempt { service, started_at, status_code, .. } = attempt;
                Ok(self.take_on(Background { service, started_at, location, status_code }, lease_ms, now))
            }
            Outcome::InputRequired { .. } if self.questions() >= MAX_QUESTIONS => {
                attempt.outcome = AttemptOutcome::Failed;
                attempt.code = Some(ErrorCode::UpstreamInvalidResponse);
                let message = format!("The service asks for input more than {MAX_QUESTIONS} times.");
                let (code, service) = (ErrorCode::UpstreamInvalidResponse, Some(attempt.service.clone()));
                self.attempts.push(attempt);
                let error = ContextError { code, message, service, details: None };
                Ok(self.after_failure(error, false, false, None, now, random))
            }
            Outcome::InputRequired { request, state } => {
                attempt.outcome = AttemptOutcome::InputRequired;
                self.attempts.push(attempt);
                self.lease = None;
                Ok(self.ask_for(request, state, now))
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
        if retryable && safe && self.tries() < self.admission.retry.max_attempts {
            let at = now.plus_ms(self.backoff_ms(random).max(retry_after_ms.unwrap_or(0)));
            if at < self.admission.expires_at {
                return self.wait_until(at, now);
            }
        }
        self.end(Status::Failed, Some(error), now)
    }

    /// Attempts that count: one that ended with a question is no try that failed.
    fn tries(&self) -> u64 {
        self.attempts.iter().filter(|attempt| attempt.outcome != AttemptOutcome::InputRequired).count() as u64
    }

    pub(super) fn wait_until(&mut self, at: Timestamp, now: Timestamp) -> Verdict {
        self.lease = None;
        self.background = None;
        self.not_before = Some(at);
        self.enter(Status::Queued, now);
        Verdict::Waits(at)
    }

    /// Full jitter: anywhere from nothing to the base doubled per attempt, up to the cap.
    fn backoff_ms(&self, random: u64) -> u64 {
        let retry = self.admission.retry;
        let doublings = u32::try_from(self.tries().saturating_sub(1)).unwrap_or(u32::MAX).min(32);
        let ceiling = retry.base_ms.saturating_mul(1 << doublings).min(retry.cap_ms);
        random % (ceiling + 1)
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
        let silent = self.background.is_some();
        if now < self.admission.expires_at {
            self.go_on(now);
        }
        if let Some(lease) = self.lease {
            let outcome = if lost.is_some() { AttemptOutcome::Lost } else { AttemptOutcome::TimedOut };
            self.leave_attempt(lease, self.admission.service.clone(), outcome, now);
        }
        if now >= self.admission.expires_at {
            let message = "Its time was over before it ended.";
            return self.end(Status::TimedOut, self.error(ErrorCode::DeadlineExceeded, message), now);
        }
        let message = if silent {
            "The service that took it on has not reported in time; whether it did the work is not known."
        } else {
            "The worker that ran it was lost; whether the service did the work is not known."
        };
        let Some(error) = self.error(ErrorCode::OutcomeUnknown, message) else {
            return Verdict::Unchanged;
        };
        self.after_failure(error, true, false, None, now, random)
    }

    /// Writes down an attempt that nobody reported.
    pub(super) fn leave_attempt(&mut self, lease: Lease, service: String, outcome: AttemptOutcome, now: Timestamp) {
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

    /// Ends what waits without an attempt: it cannot be begun in time, or its service is closed off.
    pub fn refuse(&mut self, error: ContextError, now: Timestamp) -> Result<Verdict, Refused> {
        self.must_wait()?;
        let status = if error.code == ErrorCode::DeadlineExceeded { Status::TimedOut } else { Status::Failed };
        Ok(self.end(status, Some(error), now))
    }

    /// What waits waits on, at least until then.
    pub fn put_off(&mut self, until: Timestamp, now: Timestamp) -> Result<Verdict, Refused> {
        self.must_wait()?;
        self.not_before = Some(until.max(now));
        Ok(Verdict::Waits(until))
    }

    fn must_wait(&self) -> Result<(), Refused> {
        match self.status {
            Status::Queued => Ok(()),
            status if status.is_final() => Err(Refused::Ended),
            _ => Err(Refused::NotNow),
        }
    }
}
