//! The time. On the platform it stands still between I/O; nothing here measures CPU.

use wasm_bindgen::prelude::*;

use super::tasks::Awaited;
use crate::core::time::Timestamp;

#[wasm_bindgen(module = "/src/platform/boundary.js")]
extern "C" {
    fn sleep(token: u32, milliseconds: f64) -> f64;
    fn wake(timer: f64);
}

pub fn now() -> Timestamp {
    Timestamp(js_sys::Date::now() as u64)
}

/// Lets at least this many milliseconds pass.
pub async fn pause(milliseconds: u64) {
    struct Timer(f64);
    impl Drop for Timer {
        fn drop(&mut self) {
            wake(self.0);
        }
    }
    let mut timer = Timer(0.0);
    let slept = Awaited::new(|token| timer.0 = sleep(token, milliseconds as f64));
    // A timer never fails.
    let _ = slept.await;
}
