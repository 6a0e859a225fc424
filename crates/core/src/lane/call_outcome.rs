//! What one attempt says about its service: that it works, that it does not, or nothing.
//!
//! The question is not whether the context got what it wanted, but whether another call would fare better
//! elsewhere. A service that refuses a call properly (4xx, an `error` of its own) works, and so does one whose answer
//! cannot be used: the caller's parameters may have provoked the answer, which must not close the
//! service to others. Only that it cannot be reached, answers too late or with 408 or 5xx, or that a web page comes in
//! its place, speaks against it.

use serde::{Deserialize, Serialize};

use crate::base::time::Timestamp;
use crate::context::status::ErrorCode;
use crate::context::{Outcome, Report};

/// A service that has not answered after this is late, whatever its capability allows, in milliseconds.
const LATE_MS: u64 = 30_000;

/// How long a service must have had before it is late, in milliseconds: two fifths of what its capability allows. An
/// attempt that had less, because its caller has no more patience, says more about the caller than about the service.
pub fn fair_ms(timeout_seconds: u64) -> u64 {
    timeout_seconds.saturating_mul(400).min(LATE_MS)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    Success,
    Failure,
    /// Cancelled, over its rate, out of time too soon: nothing to learn from.
    Neither,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub outcome: Signal,
    pub latency_ms: u64,
    /// When the attempt ended.
    pub at: Timestamp,
}

impl Sample {
    /// Reads the report of an attempt that called its service. `fair_ms`: see [`fair_ms`]; `unwell`: see
    /// the verdict that `calling::response` gives.
    pub fn of(report: &Report, fair_ms: u64, unwell: bool) -> Self {
        let latency_ms = report.ended_at.since(report.started_at);
        let outcome = match &report.outcome {
            Outcome::Failed { .. } if unwell => Signal::Failure,
            Outcome::Failed { error, .. } => signal(error.code, report.status_code, latency_ms >= fair_ms),
            _ => Signal::Success,
        };
        Self { outcome, latency_ms, at: report.ended_at }
    }

    pub fn began(&self) -> Timestamp {
        Timestamp(self.at.0.saturating_sub(self.latency_ms))
    }
}

fn signal(code: ErrorCode, status: Option<u16>, is_late: bool) -> Signal {
    match (code, status) {
        // Too many or too early: the service works, and says when to come again.
        (_, Some(425 | 429)) => Signal::Neither,
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
            | ErrorCode::Internal,
            _,
        ) => Signal::Neither,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_another_service_could_do_better_is_a_failure() {
        use ErrorCode::*;
        for (code, status, is_late, expected) in [
            (ServiceUnavailable, None, false, Signal::Failure),
            (ServiceUnavailable, Some(503), false, Signal::Failure),
            (ServiceUnavailable, Some(529), false, Signal::Failure),
            (ServiceUnavailable, Some(521), false, Signal::Failure),
            (ServiceUnavailable, Some(429), false, Signal::Neither),
            (UpstreamTimeout, Some(408), false, Signal::Failure),
            (UpstreamTimeout, Some(524), false, Signal::Failure),
            (UpstreamTimeout, None, true, Signal::Failure),
            (UpstreamTimeout, None, false, Signal::Neither),
            (UpstreamInvalidResponse, Some(200), false, Signal::Success),
            (UpstreamInvalidResponse, Some(204), false, Signal::Success),
            (UpstreamError, Some(500), false, Signal::Failure),
            (UpstreamError, Some(520), false, Signal::Failure),
            (UpstreamError, Some(401), false, Signal::Success),
            (UpstreamError, Some(425), false, Signal::Neither),
            (UpstreamError, Some(200), false, Signal::Success),
            (DeadlineExceeded, None, true, Signal::Failure),
            (DeadlineExceeded, None, false, Signal::Neither),
            (Cancelled, None, true, Signal::Neither),
        ] {
            assert_eq!(signal(code, status, is_late), expected, "{code:?} {status:?} {is_late}");
        }
    }

    #[test]
    fn a_service_is_late_by_its_own_measure() {
        assert_eq!([fair_ms(1), fair_ms(10), fair_ms(60), fair_ms(300)], [400, 4_000, 24_000, 30_000]);
    }

    #[test]
    fn an_answer_that_cannot_be_used_speaks_against_its_service_only_if_it_is_not_its_own() {
        use crate::calling::response::{Answer, read};
        let of = |answer: Answer| {
            let status_code = answer.status();
            let verdict = read("one", answer, None);
            let report = Report {
                lease: 1,
                service: "one".into(),
                started_at: Timestamp(1_000),
                ended_at: Timestamp(2_000),
                status_code,
                outcome: verdict.outcome,
            };
            Sample::of(&report, fair_ms(60), verdict.unwell).outcome
        };
        let http = |status, is_json, body: &str| {
            of(Answer::Http { status, is_json, retry_after_ms: None, location: None, body: body.into() })
        };
        for body in ["{", "[]", "{}", r#"{"error":{}}"#, r#"{"error":{"code":500,"message":"poison"}}"#, ""] {
            assert_eq!(http(200, true, body), Signal::Success, "{body}");
        }
        assert_eq!(of(Answer::TooLarge { status: 200 }), Signal::Success);
        assert_eq!(http(204, false, ""), Signal::Success);
        assert_eq!(http(200, false, "<html>"), Signal::Failure);
        assert_eq!(http(500, true, r#"{"error":{"retryable":false}}"#), Signal::Failure);
        assert_eq!(of(Answer::TooLarge { status: 500 }), Signal::Failure);
        // One second of patience is no measure.
        assert_eq!(of(Answer::TimedOut { deadline: true }), Signal::Neither);
        assert_eq!(of(Answer::TimedOut { deadline: false }), Signal::Neither);
    }
}
