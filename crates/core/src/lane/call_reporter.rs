//! Calls of one service in one isolate that are not yet reported to its lane, and when to report them.

use super::call_outcome::{CallOutcome, Signal};
use super::observed::HealthStatus;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;

/// Decides which calls are reported to the lane at once and which are counted for later.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallReporter {
    successes: u64,
    reported_at: Timestamp,
    failed_at: Timestamp,
}

impl CallReporter {
    /// Counts a call. Returns the number of unreported successes before it if a report is due now.
    pub fn count(&mut self, sample: CallOutcome, status: HealthStatus, timing: &Timing) -> Option<u64> {
        let every = match sample.outcome {
            Signal::Ignored => return None,
            Signal::Failure => {
                self.failed_at = sample.at;
                0
            }
            Signal::Success if sample.at.since(self.failed_at) < timing.alert_ms => timing.alert_report_ms,
            Signal::Success if status != HealthStatus::Online => timing.unsure_report_ms,
            Signal::Success => timing.healthy_report_ms,
        };
        if sample.at.since(self.reported_at) < every {
            self.successes += 1;
            return None;
        }
        self.reported_at = sample.at;
        Some(std::mem::take(&mut self.successes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing::DEFAULT;

    fn sample(outcome: Signal, at: u64) -> CallOutcome {
        CallOutcome { outcome, latency_ms: 10, at: Timestamp(at) }
    }

    #[test]
    fn a_failure_is_reported_at_once_with_the_successes_before_it() {
        let mut tally = CallReporter { reported_at: Timestamp(1_000_000), ..CallReporter::default() };
        for at in 0..3 {
            assert_eq!(tally.count(sample(Signal::Success, 1_000_100 + at), HealthStatus::Online, &TIMING), None);
        }
        assert_eq!(tally.count(sample(Signal::Ignored, 1_000_200), HealthStatus::Online, &TIMING), None);
        assert_eq!(tally.count(sample(Signal::Failure, 1_000_300), HealthStatus::Online, &TIMING), Some(3));
        assert_eq!(tally.count(sample(Signal::Failure, 1_000_301), HealthStatus::Online, &TIMING), Some(0));
    }

    #[test]
    fn successes_are_reported_more_often_the_less_is_known() {
        for (status, failed_at, every) in [
            (HealthStatus::Online, 0, TIMING.healthy_report_ms),
            (HealthStatus::Unknown, 0, TIMING.unsure_report_ms),
            (HealthStatus::Degraded, 0, TIMING.unsure_report_ms),
            (HealthStatus::Online, 1_000_000, TIMING.alert_report_ms),
        ] {
            let reported = Timestamp(1_000_000);
            let mut tally = CallReporter { reported_at: reported, failed_at: Timestamp(failed_at), successes: 0 };
            assert_eq!(tally.count(sample(Signal::Success, reported.0 + every - 1), status, &TIMING), None);
            assert_eq!(
                tally.count(sample(Signal::Success, reported.0 + every), status, &TIMING),
                Some(1),
                "{status:?}"
            );
        }
    }
}
