//! What one attempt says about its service: that it works, that it does not, or nothing.
//!
//! The question is not whether the context got what it wanted, but whether another call would fare better
//! elsewhere. A service that refuses a call properly (4xx, an `error` of its own) works.

use serde::{Deserialize, Serialize};

use super::context::{Outcome, Report};
use super::lifecycle::ErrorCode;
use super::time::Timestamp;

/// A deadline that passes sooner than this says more about the caller's patience than about the service.
pub const FAIR_MS: u64 = 5_000;

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
    /// Reads the report of an attempt that called its service.
    pub fn of(report: &Report) -> Self {
        let latency_ms = report.ended_at.since(report.started_at);
        let outcome = match &report.outcome {
            Outcome::Failed { error, .. } => signal(error.code, report.status_code, latency_ms),
            _ => Signal::Success,
        };
        Self { outcome, latency_ms, at: report.ended_at }
    }

    pub fn began(&self) -> Timestamp {
        Timestamp(self.at.0.saturating_sub(self.latency_ms))
    }
}

fn signal(code: ErrorCode, status: Option<u16>, latency_ms: u64) -> Signal {
    match (code, status) {
        // Too many or too early: the service works, and says when to come again.
        (_, Some(425 | 429)) => Signal::Neither,
        (ErrorCode::ServiceUnavailable | ErrorCode::UpstreamTimeout | ErrorCode::UpstreamInvalidResponse, _) => {
            Signal::Failure
        }
        (ErrorCode::UpstreamError, Some(500..)) => Signal::Failure,
        (ErrorCode::UpstreamError, _) => Signal::Success,
        (ErrorCode::DeadlineExceeded, _) if latency_ms >= FAIR_MS => Signal::Failure,
        (
            ErrorCode::DeadlineExceeded
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
        for (code, status, latency, expected) in [
            (ServiceUnavailable, None, 1, Signal::Failure),
            (ServiceUnavailable, Some(503), 1, Signal::Failure),
            (ServiceUnavailable, Some(429), 1, Signal::Neither),
            (UpstreamTimeout, Some(408), 1, Signal::Failure),
            (UpstreamTimeout, None, 1, Signal::Failure),
            (UpstreamInvalidResponse, Some(200), 1, Signal::Failure),
            (UpstreamError, Some(500), 1, Signal::Failure),
            (UpstreamError, Some(401), 1, Signal::Success),
            (UpstreamError, Some(425), 1, Signal::Neither),
            (UpstreamError, Some(200), 1, Signal::Success),
            (DeadlineExceeded, None, FAIR_MS, Signal::Failure),
            (DeadlineExceeded, None, FAIR_MS - 1, Signal::Neither),
            (Cancelled, None, 60_000, Signal::Neither),
        ] {
            assert_eq!(signal(code, status, latency), expected, "{code:?} {status:?} {latency}");
        }
    }
}
