//! The time. On the platform it stands still between I/O; nothing here measures CPU.

use super::tasks::Awaited;
use narthex_core::base::time::Timestamp;

pub fn now() -> Timestamp {
    Timestamp(js_sys::Date::now() as u64)
}

/// Lets at least this many milliseconds pass.
pub async fn pause(milliseconds: u64) {
    // Nothing is begun, so it ends by its time alone.
    let _ = Awaited::within(milliseconds as f64, |_| {}).await;
}
