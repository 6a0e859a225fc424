//! The boundary to the platform, one function per operation.
//!
//! A crossing from Wasm costs more than most operations, so each operation is one import with flat data, instead of
//! objects of the platform that are built step by step. A Rust file imports from the JavaScript file of the same name,
//! and one of `relay/` from `relay.js`; `secret_box.rs` has none, and imports from `settings.js` and `crypto.js`;
//! `stopping.rs` imports nothing.
//! Functions that can fail return a [`Failure`].
//!
//! Nothing here makes decisions: rules belong in the core, and what calls services or objects in which order in
//! `execution`, `transport` and `objects`.

pub mod calls;
pub mod clock;
pub mod crypto;
pub mod dataset;
pub mod http;
pub mod log;
pub mod memory;
pub mod objects;
pub mod random;
pub mod relay;
pub mod secret_box;
pub mod settings;
pub mod sockets;
pub mod sql;
pub mod stopping;
pub mod streams;
pub mod tasks;
pub mod zones;

use wasm_bindgen::JsValue;

pub(crate) use log::log_event;

use narthex_core::base::storage_error::StorageError;

/// A failed operation of the platform. The text is for the log.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl From<JsValue> for Failure {
    fn from(value: JsValue) -> Self {
        let text = js_sys::Reflect::get(&value, &JsValue::from_str("message"))
            .ok()
            .and_then(|message| message.as_string())
            .or_else(|| value.as_string())
            .unwrap_or_else(|| format!("{value:?}"));
        Failure(text)
    }
}

impl From<StorageError> for Failure {
    fn from(broken: StorageError) -> Self {
        Failure(broken.0)
    }
}

impl From<Failure> for StorageError {
    fn from(failure: Failure) -> Self {
        StorageError(failure.0)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Failure(error.to_string())
    }
}
