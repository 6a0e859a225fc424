//! The time. On the platform the clock advances only with I/O, so CPU time cannot be measured.

use super::tasks::PlatformCall;
use narthex_core::base::time::Timestamp;

pub fn now() -> Timestamp {
    Timestamp(js_sys::Date::now() as u64)
}

/// Lets at least this many milliseconds pass.
pub async fn pause(milliseconds: u64) {
    // No operation is started, so only the time-out ends it.
    let _ = PlatformCall::within(milliseconds as f64, |_| {}).await;
}

/// As [`pause`], without a turn of the event loop if the pause is 0.
pub async fn pause_if_any(milliseconds: u64) {
    if milliseconds > 0 {
        pause(milliseconds).await;
    }
}
