//! The numbers of a lane's permits.

use serde::{Deserialize, Serialize};

use crate::base::time::Timestamp;

/// Numbers the permits of one lane, each higher than the last and none twice, also across restarts of the lane. The
/// permits of concurrency limits have numbers of their own (`LimitPermitNumber`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PermitNumber(u64);

impl PermitNumber {
    /// The number that a lane which starts at `now` counts on from. It is the time in microseconds: a lane grants fewer
    /// than a thousand permits in a millisecond, so earlier instances have not reached it.
    pub fn at_start(now: Timestamp) -> Self {
        Self(now.0 * 1_000)
    }

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Any number, for tests.
    #[cfg(any(test, feature = "test-support"))]
    pub fn of(number: u64) -> Self {
        Self(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_increase_across_restarts() {
        let mut last = PermitNumber::at_start(Timestamp(1_764_547_200_123));
        for _ in 0..999 {
            assert!(last < last.next());
            last = last.next();
        }
        assert!(last < PermitNumber::at_start(Timestamp(1_764_547_200_124)));
    }

    // The versions before and after read this form too.
    #[test]
    fn a_number_is_written_as_a_number() {
        let number = PermitNumber::at_start(Timestamp(1_764_547_200_123));
        assert_eq!(serde_json::to_string(&number).unwrap(), "1764547200123000");
        assert_eq!(serde_json::from_str::<PermitNumber>("1764547200123000").unwrap(), number);
    }
}
