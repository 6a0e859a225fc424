//! One folder per Durable Object: the messages it understands, its tables, and a thin shell around the core.
//!
//! Objects decide and remember; they never call a service. A shell reads a message, lets the core decide,
//! writes once, and answers. What a message or a row says must be understood by the version before and
//! after: a deploy runs both for a while, so members are only ever added, with defaults.

pub mod contexts;
pub mod events;
pub mod grants;
pub mod lanes;
pub mod limits;
pub mod registry;
pub mod schedules;
pub mod secrets;
pub mod sessions;

use serde::Serialize;
use wasm_bindgen::JsValue;

use crate::platform::Failure;
use narthex_core::base::json_writer::written;
use narthex_core::registry::size::{SAFE_BYTES, sent};

/// A reply on its way out of an object; a large one in the encoding that takes the fewest bytes there.
fn reply<R: Serialize>(reply: Result<R, Failure>) -> Result<JsValue, JsValue> {
    reply
        .and_then(|reply| Ok(written(&reply)?))
        .map(|text| match text.len() as u64 > SAFE_BYTES {
            true => JsValue::from_str(&sent(&text)),
            false => JsValue::from_str(&text),
        })
        .map_err(|failure| js_sys::Error::new(&failure.0).into())
}
