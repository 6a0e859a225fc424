//! What an attempt resulted in, and what it shows about its service.

use serde_json::value::RawValue;

use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::calling::response::{self, CallResult, Verdict};
use crate::context::lease::LeaseNumber;
use crate::context::status::ErrorCode;
use crate::context::{Admission, AttemptReport, ContextError, ReportedOutcome};
use crate::lane::call_outcome::{CallOutcome, Signal, fair_ms};
use crate::services::outline::ServiceOutline;

/// The result of an attempt.
#[derive(Debug)]
pub struct AttemptResult {
    pub report: AttemptReport,
    pub result: Option<Box<RawValue>>,
    /// Only another service could complete the work.
    pub needs_other_service: bool,
    pub evidence: ServiceEvidence,
}

/// What an attempt shows about its service, besides its outcome: see `lane::call_outcome`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceEvidence {
    pub fair_ms: u64,
    pub unhealthy: bool,
}

impl AttemptResult {
    /// The outcome for the lane of the service that was called, if any. The lane itself judges deliveries to a
    /// connection when they end, except for a probe, which shows whether the service accepts any.
    pub fn sample(&self, called: Option<&ServiceOutline>, is_probe: bool) -> CallOutcome {
        let Self { report, evidence, .. } = self;
        let sample = CallOutcome::of(report, evidence.fair_ms, evidence.unhealthy);
        let connects = called.is_some_and(|service| service.transport.connects());
        if connects && !is_probe && matches!(report.outcome, ReportedOutcome::Accepted { .. }) {
            return CallOutcome { outcome: Signal::Ignored, ..sample };
        }
        sample
    }

    /// What the response of a service means. `timeout_seconds` is that of the capability.
    pub fn of_response(
        lease: LeaseNumber,
        service: ServiceId,
        (started_at, ended_at): (Timestamp, Timestamp),
        status_code: Option<u16>,
        verdict: Verdict,
        timeout_seconds: u64,
    ) -> Self {
        let Verdict { outcome, result, try_elsewhere, unhealthy } = verdict;
        let report = AttemptReport::new(lease, service, (started_at, ended_at), status_code, outcome);
        let evidence = ServiceEvidence { fair_ms: fair_ms(timeout_seconds), unhealthy };
        Self { report, result, needs_other_service: try_elsewhere, evidence }
    }

    /// An attempt that ended with an error before any service was called.
    pub fn ended_without_call(
        admission: &Admission,
        lease: LeaseNumber,
        since: Timestamp,
        now: Timestamp,
        error: ContextError,
    ) -> Self {
        let outcome = ReportedOutcome::Failed { error, retryable: true, untouched: true, retry_after_ms: None };
        Self::without_response(admission, lease, since, now, outcome)
    }

    /// An attempt for which no service can be selected.
    pub fn no_service(admission: &Admission, lease: LeaseNumber, since: Timestamp, now: Timestamp) -> Self {
        let message = "No registered service is available for this capability.".into();
        let error = ContextError { code: ErrorCode::ServiceUnavailable, message, service: None, details: None };
        Self::ended_without_call(admission, lease, since, now, error)
    }

    /// An attempt whose result no longer counts: its context was cancelled, or its lease is lost.
    pub fn cancelled(admission: &Admission, lease: LeaseNumber, since: Timestamp, now: Timestamp) -> Self {
        let verdict = response::read(&admission.service, CallResult::Cancelled, None);
        Self::without_response(admission, lease, since, now, verdict.outcome)
    }

    /// An attempt for which the deadline of its context left no time.
    pub fn out_of_time(admission: &Admission, lease: LeaseNumber, since: Timestamp, now: Timestamp) -> Self {
        let verdict = response::read(&admission.service, CallResult::TimedOut { deadline: true }, None);
        Self::without_response(admission, lease, since, now, verdict.outcome)
    }

    fn without_response(
        admission: &Admission,
        lease: LeaseNumber,
        since: Timestamp,
        now: Timestamp,
        outcome: ReportedOutcome,
    ) -> Self {
        let service = admission.service.clone();
        let report = AttemptReport::new(lease, service, (since, now), None, outcome);
        // A service that was not called, or not until its response, cannot be late.
        let evidence = ServiceEvidence { fair_ms: u64::MAX, unhealthy: false };
        Self { report, result: None, needs_other_service: false, evidence }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;
    use crate::context::fixtures::admission;
    use crate::services::outline::TransportOutline;

    const NOW: Timestamp = Timestamp(1_000_000);

    #[test]
    fn a_delivery_to_a_connection_shows_something_only_as_a_probe() {
        let mut result = AttemptResult::no_service(&admission(1, NOW), LeaseNumber::FIRST, NOW, NOW);
        result.report.outcome = ReportedOutcome::Accepted { lease_ms: None, location: None };
        let called = fixtures::known("one").service;
        let connected = ServiceOutline { transport: TransportOutline::Socket { grace_seconds: 10 }, ..called.clone() };
        for (service, is_probe, expected) in [
            (None, false, Signal::Success),
            (Some(&called), false, Signal::Success),
            (Some(&connected), false, Signal::Ignored),
            (Some(&connected), true, Signal::Success),
        ] {
            assert_eq!(result.sample(service, is_probe).outcome, expected);
        }
    }

    #[test]
    fn a_deadline_that_left_no_time_for_a_call_shows_nothing_about_the_service() {
        let admission = admission(1, NOW);
        let message = "The remaining time is shorter than a typical call to this service.".into();
        let error = ContextError { code: ErrorCode::DeadlineExceeded, message, service: None, details: None };
        let later = NOW.plus_ms(60_000);
        for result in [
            AttemptResult::out_of_time(&admission, LeaseNumber::FIRST, NOW, later),
            AttemptResult::ended_without_call(&admission, LeaseNumber::FIRST, NOW, later, error),
        ] {
            assert_eq!(result.sample(Some(&fixtures::known("one").service), false).outcome, Signal::Ignored);
        }
    }

    #[test]
    fn an_attempt_without_a_response_keeps_its_service_and_its_times() {
        let (admission, ended_at) = (admission(1, NOW), NOW.plus_ms(20));
        let cancelled = AttemptResult::cancelled(&admission, LeaseNumber::FIRST, NOW, ended_at);
        let none = AttemptResult::no_service(&admission, LeaseNumber::FIRST, NOW, ended_at);
        for (result, code, again) in
            [(cancelled, ErrorCode::Cancelled, false), (none, ErrorCode::ServiceUnavailable, true)]
        {
            let report = result.report;
            assert_eq!((&report.service, report.started_at, report.ended_at), (&admission.service, NOW, ended_at));
            let ReportedOutcome::Failed { error, retryable, untouched, .. } = report.outcome else {
                panic!("it failed");
            };
            assert_eq!((error.code, retryable, untouched), (code, again, again));
        }
    }
}
