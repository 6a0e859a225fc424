//! Time zones of the platform.

use wasm_bindgen::prelude::*;

use narthex_core::base::time::Timestamp;

#[wasm_bindgen(module = "/src/platform/zones.js")]
extern "C" {
    #[wasm_bindgen(js_name = zoneOffset)]
    fn zone_offset(zone: &str, time: f64) -> f64;
}

/// Seconds that a zone is ahead of UTC at a time. `None` for an unknown zone.
pub fn offset(zone: &str, at: Timestamp) -> Option<i64> {
    let seconds = zone_offset(zone, at.0 as f64);
    seconds.is_finite().then_some(seconds as i64)
}
