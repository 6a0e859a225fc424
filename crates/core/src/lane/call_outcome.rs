//! What one attempt shows about its service: success, failure, or nothing.
//!
//! The criterion is not whether the context succeeded, but whether another call would do better elsewhere. A service
//! that properly rejects a call (4xx, or an `error` of its own) works; so does one with an unusable response, since the
//! caller's parameters may have provoked it and must not close the service to others. Only these count as failures: the
//! service is unreachable, responds too late or with 408 or 5xx, or returns a web page instead.

use serde::{Deserialize, Serialize};

use crate::base::time::Timestamp;
use crate::context::status::ErrorCode;
use crate::context::{AttemptReport, ReportedOutcome};

/// A service that has not responded after this time is late, whatever its capability allows, in milliseconds.
const LATE_MS: u64 = 30_000;

/// The minimum time a service must have had before it counts as late, in milliseconds: two fifths of its capability's
/// timeout. An attempt that had less, because its caller is impatient, tells more about the caller than about the
/// service.
pub fn fair_ms(timeout_seconds: u64) -> u64 {
    timeout_seconds.saturating_mul(400).min(LATE_MS)
}

/// What a call shows about its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    Success,
    Failure,
    /// Cancelled, rate-limited, or out of time too soon: inconclusive.
    #[serde(rename = "neither")]
    Ignored,
}

/// One call of a service, as its lane learns of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallOutcome {
    pub outcome: Signal,
    pub latency_ms: u64,
    /// When the attempt ended.
    pub at: Timestamp,
}

impl CallOutcome {
    /// Classifies the report of an attempt that called its service. For `fair_ms` see [`fair_ms`]; `unhealthy` is set
    /// by `calling::response`.
    pub fn of(report: &AttemptReport, fair_ms: u64, unhealthy: bool) -> Self {
        let latency_ms = report.ended_at.since(report.started_at);
        let outcome = match &report.outcome {
            ReportedOutcome::Failed { .. } if unhealthy => Signal::Failure,
            ReportedOutcome::Failed { error, .. } => signal(error.code, report.status_code, latency_ms >= fair_ms),
            _ => Signal::Success,
        };
        Self { outcome, latency_ms, at: report.ended_at }
    }

    /// For a permit without a call.
    pub fn unused(at: Timestamp) -> Self {
        Self { outcome: Signal::Ignored, latency_ms: 0, at }
    }

    /// When the attempt began.
    pub fn began(&self) -> Timestamp {
        Timestamp(self.at.0.saturating_sub(self.latency_ms))
    }
}

fn signal(code: ErrorCode, status: Option<u16>, is_late: bool) -> Signal {
    match (code, status) {
        // Too many requests, or too early: the service works, and states when to try again.
        (_, Some(425 | 429)) => Signal::Ignored,
        (ErrorCode::ServiceUnavailable, _) | (ErrorCode::UpstreamTimeout, Some(_)) => Signal::Failure,
        (ErrorCode::UpstreamError, Some(500..=599)) => Signal::Failure,
        (ErrorCode::UpstreamError | ErrorCode::UpstreamInvalidResponse, _) => Signal::Success,
        (ErrorCode::DeadlineExceeded | ErrorCode::UpstreamTimeout, _) if is_late => Signal::Failure,
        (
            ErrorCode::DeadlineExceeded
            | ErrorCode::UpstreamTimeout
            | ErrorCode::CircuitOpen
            | ErrorCode::AddressRefused
            | ErrorCode::OutcomeUnknown
            | ErrorCode::Cancelled
            | ErrorCode::ContentNotKept
            | ErrorCode::Internal,
            _,
        ) => Signal::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::lease::LeaseNumber;

    #[test]
    fn only_what_another_service_could_do_better_is_a_failure() {
        use ErrorCode::*;
        for (code, status, is_late, expected) in [
            (ServiceUnavailable, None, false, Signal::Failure),
            (ServiceUnavailable, Some(503), false, Signal::Failure),
            (ServiceUnavailable, Some(529), false, Signal::Failure),
            (ServiceUnavailable, Some(521), false, Signal::Failure),
            (ServiceUnavailable, Some(429), false, Signal::Ignored),
            (UpstreamTimeout, Some(408), false, Signal::Failure),
            (UpstreamTimeout, Some(524), false, Signal::Failure),
            (UpstreamTimeout, None, true, Signal::Failure),
            (UpstreamTimeout, None, false, Signal::Ignored),
            (UpstreamInvalidResponse, Some(200), false, Signal::Success),
            (UpstreamInvalidResponse, Some(204), false, Signal::Success),
            (UpstreamError, Some(500), false, Signal::Failure),
            (UpstreamError, Some(520), false, Signal::Failure),
            (UpstreamError, Some(401), false, Signal::Success),
            (UpstreamError, Some(425), false, Signal::Ignored),
            (UpstreamError, Some(200), false, Signal::Success),
            (DeadlineExceeded, None, true, Signal::Failure),
            (DeadlineExceeded, None, false, Signal::Ignored),
            (Cancelled, None, true, Signal::Ignored),
        ] {
            assert_eq!(signal(code, status, is_late), expected, "{code:?} {status:?} {is_late}");
        }
    }

    #[test]
    fn a_service_is_late_by_its_own_measure() {
        assert_eq!([fair_ms(1), fair_ms(10), fair_ms(60), fair_ms(300)], [400, 4_000, 24_000, 30_000]);
    }

    #[test]
    fn an_unusable_response_counts_as_a_failure_only_if_it_is_not_the_services_own() {
        use crate::calling::response::{CallResult, read};
        let of = |answer: CallResult| {
            let status_code = answer.status();
            let verdict = read(&"one".into(), answer, None);
            let report = AttemptReport::new(
                LeaseNumber::FIRST,
                "one".into(),
                (Timestamp(1_000), Timestamp(2_000)),
                status_code,
                verdict.outcome,
            );
            CallOutcome::of(&report, fair_ms(60), verdict.unhealthy).outcome
        };
        let http = |status, is_json, body: &str| {
            of(CallResult::Http { status, is_json, retry_after_ms: None, location: None, body: body.into() })
        };
        for body in ["{", "[]", "{}", r#"{"error":{}}"#, r#"{"error":{"code":500,"message":"poison"}}"#, ""] {
            assert_eq!(http(200, true, body), Signal::Success, "{body}");
        }
        assert_eq!(of(CallResult::TooLarge { status: 200 }), Signal::Success);
        assert_eq!(http(204, false, ""), Signal::Success);
        assert_eq!(http(200, false, "<html>"), Signal::Failure);
        assert_eq!(http(500, true, r#"{"error":{"retryable":false}}"#), Signal::Failure);
        assert_eq!(of(CallResult::TooLarge { status: 500 }), Signal::Failure);
        // One second of patience proves nothing.
        assert_eq!(of(CallResult::TimedOut { deadline: true }), Signal::Ignored);
        assert_eq!(of(CallResult::TimedOut { deadline: false }), Signal::Ignored);
    }
}
