//! The alarm of an object: one time, which is only ever moved to an earlier one, because every move writes a row.

use super::time::Timestamp;

/// An alarm this close to the wanted time is not moved, in milliseconds.
pub const SLACK_MS: u64 = 50;

/// When the alarm fires, as far as this instance knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alarm(Option<Timestamp>);

impl Alarm {
    /// The alarm that an earlier instance has set.
    pub fn set_before(at: Option<Timestamp>) -> Self {
        Self(at)
    }

    pub fn at(&self) -> Option<Timestamp> {
        self.0
    }

    /// Ensures that the alarm fires at `at` or earlier, give or take [`SLACK_MS`]. Returns the time to set it to, if it
    /// must be set or moved.
    pub fn by(&mut self, at: Timestamp) -> Option<Timestamp> {
        let is_earlier = self.0.is_none_or(|set| at.plus_ms(SLACK_MS) < set);
        is_earlier.then(|| *self.0.insert(at))
    }

    /// The alarm fired or was lost: none is set any longer. Returns when it was set for.
    pub fn take(&mut self) -> Option<Timestamp> {
        self.0.take()
    }

    /// Takes the alarm as lost if it was set for a time before `at`.
    pub fn drop_before(&mut self, at: Timestamp) {
        self.0 = self.0.filter(|set| *set >= at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_only_moved_to_an_earlier_time() {
        let mut alarm = Alarm::default();
        assert_eq!(alarm.by(Timestamp(1_000)), Some(Timestamp(1_000)));
        for later in [2_000, 1_000, 1_000 - SLACK_MS] {
            assert_eq!(alarm.by(Timestamp(later)), None, "{later}");
        }
        assert_eq!(alarm.by(Timestamp(900)), Some(Timestamp(900)));
        assert_eq!(alarm.at(), Some(Timestamp(900)));
        assert_eq!(alarm.take(), Some(Timestamp(900)));
        assert_eq!(alarm.by(Timestamp(2_000)), Some(Timestamp(2_000)));
        alarm.drop_before(Timestamp(2_000));
        assert_eq!(alarm.at(), Some(Timestamp(2_000)));
        alarm.drop_before(Timestamp(2_001));
        assert_eq!(alarm.at(), None);
    }
}
