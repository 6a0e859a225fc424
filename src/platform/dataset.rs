//! Workers Analytics Engine, where the deployment has bound a dataset as `USAGE`.

use wasm_bindgen::prelude::*;

use super::Failure;

#[wasm_bindgen(module = "/src/platform/dataset.js")]
extern "C" {
    #[wasm_bindgen(js_name = hasDataset)]
    fn has_dataset() -> bool;
    #[wasm_bindgen(catch, js_name = writePoints)]
    fn write_points(points: &str) -> Result<(), JsValue>;
}

pub fn is_bound() -> bool {
    has_dataset()
}

/// Writes data points, given as a JSON list. The platform sends them later, so this takes no time.
pub fn write(points: &str) -> Result<(), Failure> {
    Ok(write_points(points)?)
}
