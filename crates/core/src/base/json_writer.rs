//! Serialization of values that may contain a large part, such as a result.

use std::io::{self, Write};

use serde::Serialize;
use serde::ser::Error;

/// The size from which a part is large, in bytes.
const LARGE: usize = 64 * 1024;
/// How many bytes may follow a large part without another copy of it.
const ROOM: usize = 4 * 1024;

/// A JSON text that is written piece by piece.
pub struct JsonText(Vec<u8>);

impl Default for JsonText {
    fn default() -> Self {
        Self(Vec::with_capacity(256))
    }
}

impl JsonText {
    pub fn push_value<T: Serialize>(&mut self, value: &T) -> Result<(), serde_json::Error> {
        serde_json::to_writer(self, value)
    }

    /// Appends text as it is.
    pub fn push(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Removes this text from the end; returns false if it is not there.
    pub fn strip_suffix(&mut self, suffix: &str) -> bool {
        let stripped = self.0.strip_suffix(suffix.as_bytes()).map(<[u8]>::len);
        if let Some(length) = stripped {
            self.0.truncate(length);
        }
        stripped.is_some()
    }

    pub fn finish(self) -> Result<String, serde_json::Error> {
        String::from_utf8(self.0).map_err(serde_json::Error::custom)
    }
}

impl Write for JsonText {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if part.len() >= LARGE {
            self.0.reserve_exact(part.len() + ROOM);
        }
        self.0.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Like `serde_json::to_string`, but without a buffer of twice the size of a large part.
pub fn written<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let mut text = JsonText::default();
    text.push_value(value)?;
    text.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn a_large_part_is_given_no_more_room_than_it_needs() {
        #[derive(Serialize)]
        struct Message<'a> {
            before: &'a str,
            result: &'a RawValue,
            after: Vec<u64>,
        }
        let result = RawValue::from_string(format!("\"{}\"", "x".repeat(1024 * 1024))).unwrap();
        let message = Message { before: "\u{1}", result: &result, after: vec![7; 100] };
        let text = written(&message).unwrap();
        assert_eq!(text, serde_json::to_string(&message).unwrap());
        assert!(text.capacity() < text.len() + 2 * ROOM);
    }
}
