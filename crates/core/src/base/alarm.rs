//! The alarm of an object: one time, which is only ever moved to an earlier one, because every move writes a row.

use super::time::Timestamp;

/// An alarm this close to the wanted time is not moved, in milliseconds.
pub const SLACK_MS: u64 = 50;

/// How early an alarm may fire by the object's clock, in milliseconds.
const EARLY_MS: u64 = 500;

/// When the alarm fires, as far as this instance knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alarm {
    set: Option<Timestamp>,
    /// No time until then can be set.
    after: Timestamp,
}

impl Alarm {
    /// The alarm that an earlier instance has set.
    pub fn set_before(at: Option<Timestamp>) -> Self {
        Self { set: at, after: Timestamp(0) }
    }

    pub fn at(&self) -> Option<Timestamp> {
        self.set
    }

    /// Ensures that the alarm fires at `at` or earlier, give or take [`SLACK_MS`]. Returns the time to set it to, if it
    /// must be set or moved.
    pub fn by(&mut self, at: Timestamp) -> Option<Timestamp> {
        let at = at.max(self.after);
        let is_earlier = self.set.is_none_or(|set| at.plus_ms(SLACK_MS) < set);
        is_earlier.then(|| *self.set.insert(at))
    }

    /// The alarm fires: the next one is set for a later time.
    pub fn fired(&mut self, now: Timestamp) {
        self.after = self.take_running(now, true).plus_ms(1);
    }

    /// The alarm fires. Returns the latest time that it may have been set for: while it runs, the platform takes
    /// another for that time for the same, and removes it in the end. By this clock it may fire shortly before its
    /// time, or a second time long before the next. The time of a repeated alarm is unknown, and so is that of any to
    /// an instance that was started by it, or between the two: it does not know the time (`knows`).
    pub fn take_running(&mut self, now: Timestamp, knows: bool) -> Timestamp {
        let set = self.set.take().filter(|at| knows && at.since(now) < EARLY_MS);
        set.unwrap_or(now.plus_ms(EARLY_MS))
    }

    /// The alarm was lost: none is set. Returns when it was set for.
    pub fn take(&mut self) -> Option<Timestamp> {
        self.set.take()
    }

    /// Takes the alarm as lost if it was set for a time before `at`.
    pub fn drop_before(&mut self, at: Timestamp) {
        self.set = self.set.filter(|set| *set >= at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_alarm_is_set_for_the_time_of_the_one_that_runs() {
        let mut alarm = Alarm::default();
        alarm.by(Timestamp(1_000));
        // It fires early by this clock.
        alarm.fired(Timestamp(900));
        assert_eq!(alarm.by(Timestamp(1_000)), Some(Timestamp(1_001)));
        // The same a second time: its time is unknown.
        alarm.by(Timestamp(950));
        alarm.by(Timestamp(9_000));
        alarm.fired(Timestamp(1_002));
        alarm.fired(Timestamp(1_010));
        assert_eq!(alarm.by(Timestamp(1_100)), Some(Timestamp(1_511)));
        // An instance that knows of no alarm.
        let mut alarm = Alarm::default();
        alarm.fired(Timestamp(2_000));
        assert_eq!(alarm.by(Timestamp(2_001)), Some(Timestamp(2_501)));
        assert_eq!(alarm.at(), Some(Timestamp(2_501)));
    }

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
