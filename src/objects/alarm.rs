//! The alarm of an object that decides about it in its shell.

use std::cell::Cell;

use crate::platform::clock;
use narthex_core::base::alarm::Alarm;
use narthex_core::base::time::Timestamp;

#[derive(Default)]
pub struct ObjectAlarm(Cell<Alarm>);

impl ObjectAlarm {
    /// Ensures that the alarm fires by the time that is due. `set` sets it at the platform.
    pub fn arm(&self, due: Option<Timestamp>, set: impl FnOnce(Timestamp)) {
        let mut alarm = self.0.get();
        if let Some(at) = due.and_then(|due| alarm.by(due)) {
            set(at);
        }
        self.0.set(alarm);
    }

    /// The alarm fires.
    pub fn fired(&self) {
        let mut alarm = self.0.get();
        alarm.fired(clock::now());
        self.0.set(alarm);
    }
}
