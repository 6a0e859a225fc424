//! Only what was written as a cursor is read as one: under the same key, for the same filters.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use narthex_core::http::page_cursor::{CursorKey, read, write};
use narthex_fuzz::two_texts;

fuzz_target!(|input: &[u8]| {
    let key = CursorKey::new(b"a secret");
    assert_eq!(read(&key, &URL_SAFE_NO_PAD.encode(input), ""), None);
    let Some((last, filters)) = two_texts(input) else { return };
    assert_eq!(read(&key, last, filters), None);
    let cursor = write(&key, last, filters);
    // Longer texts are turned away unread.
    let expected = (cursor.len() <= 4096).then_some(last);
    assert_eq!(read(&key, &cursor, filters).as_deref(), expected);
    assert_eq!(read(&key, &cursor, &format!("{filters}&")), None);
    assert_eq!(read(&CursorKey::new(b"another"), &cursor, filters), None);
});
