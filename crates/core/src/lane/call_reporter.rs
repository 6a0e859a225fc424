//! Calls of one service in one isolate that its lane does not know of yet, and when it is to hear of them.

use super::call_outcome::{Sample, Signal};
use super::observed::HealthStatus;
use crate::base::time::Timestamp;

/// After a failure successes are told at least this often, for as long as below, in milliseconds.
const ALERT_EVERY_MS: u64 = 1_000;
const ALERT_MS: u64 = 30_000;
/// Successes of a service that is not known to be well are told this often, in milliseconds.
const UNSURE_EVERY_MS: u64 = 2_000;
/// All others, in milliseconds.
const CALM_EVERY_MS: u64 = 30_000;

#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    successes: u64,
    told_at: Timestamp,
    failed_at: Timestamp,
}

impl Tally {
    /// Counts a call; gives the successes before it when the lane is to be told now.
    pub fn count(&mut self, sample: Sample, status: HealthStatus) -> Option<u64> {
        let every = match sample.outcome {
            Signal::Neither => return None,
            Signal::Failure => {
                self.failed_at = sample.at;
                0
            }
            Signal::Success if sample.at.since(self.failed_at) < ALERT_MS => ALERT_EVERY_MS,
            Signal::Success if status != HealthStatus::Online => UNSURE_EVERY_MS,
            Signal::Success => CALM_EVERY_MS,
        };
        if sample.at.since(self.told_at) < every {
            self.successes += 1;
            return None;
        }
        self.told_at = sample.at;
        Some(std::mem::take(&mut self.successes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(outcome: Signal, at: u64) -> Sample {
        Sample { outcome, latency_ms: 10, at: Timestamp(at) }
    }

    #[test]
    fn a_failure_is_told_at_once_with_the_successes_before_it() {
        let mut tally = Tally { told_at: Timestamp(1_000_000), ..Tally::default() };
        for at in 0..3 {
            assert_eq!(tally.count(sample(Signal::Success, 1_000_100 + at), HealthStatus::Online), None);
        }
        assert_eq!(tally.count(sample(Signal::Neither, 1_000_200), HealthStatus::Online), None);
        assert_eq!(tally.count(sample(Signal::Failure, 1_000_300), HealthStatus::Online), Some(3));
        assert_eq!(tally.count(sample(Signal::Failure, 1_000_301), HealthStatus::Online), Some(0));
    }

    #[test]
    fn successes_are_told_the_oftener_the_less_is_known() {
        for (status, failed_at, every) in [
            (HealthStatus::Online, 0, CALM_EVERY_MS),
            (HealthStatus::Unknown, 0, UNSURE_EVERY_MS),
            (HealthStatus::Degraded, 0, UNSURE_EVERY_MS),
            (HealthStatus::Online, 1_000_000, ALERT_EVERY_MS),
        ] {
            let told = Timestamp(1_000_000);
            let mut tally = Tally { told_at: told, failed_at: Timestamp(failed_at), successes: 0 };
            assert_eq!(tally.count(sample(Signal::Success, told.0 + every - 1), status), None);
            assert_eq!(tally.count(sample(Signal::Success, told.0 + every), status), Some(1), "{status:?}");
        }
    }
}
