//! JSON from outside (RFC 8259, with the stricter rules of RFC 7493).
//!
//! [`check`] reads the bytes once and rejects everything that two parsers could read differently: invalid UTF-8,
//! duplicate members, lone surrogates, numbers beyond a double, excessive depth. [`Object`] then splits the text into
//! members that keep their own spelling, so that a client's parameters are forwarded byte for byte.

mod object;
mod scan;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use object::{Object, members, object};
pub use scan::{Invalid, MAX_DEPTH, check};

/// A fault in a document: its place, as a JSON Pointer fragment (`#/parameters/city`), and a description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Fault {
    pub pointer: String,
    pub detail: String,
}

impl Fault {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Appends one reference token to a JSON Pointer (RFC 6901 §3).
pub fn child(pointer: &str, token: &str) -> String {
    format!("{pointer}/{}", token.replace('~', "~0").replace('/', "~1"))
}

/// The byte order mark, which a reader of JSON may ignore (RFC 8259 §8.1).
pub const MARK: &[u8] = b"\xef\xbb\xbf";

/// Removes a byte order mark.
pub fn without_mark(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
    }
    bytes
}

/// The name of a value's type, for faults.
pub fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests;
