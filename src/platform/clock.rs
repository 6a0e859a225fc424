//! The time. On the platform it stands still between I/O; nothing here measures CPU.

use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::core::time::Timestamp;

#[wasm_bindgen(module = "/src/platform/boundary.js")]
extern "C" {
    fn sleep(milliseconds: f64) -> js_sys::Promise;
}

pub fn now() -> Timestamp {
    Timestamp(js_sys::Date::now() as u64)
}

/// Lets at least this many milliseconds pass.
pub async fn pause(milliseconds: u64) {
    // A timer never rejects.
    let _ = JsFuture::from(sleep(milliseconds as f64)).await;
}
