//! What is repaired passes the strict reader, is repaired once, and says what another parser reads in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::base::json::{MARK, MAX_DEPTH, check};
use narthex_core::base::json_repair::json;
use narthex_fuzz::tree;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let repaired = json(input);
    let bare = input.strip_prefix(MARK).unwrap_or(input);
    if let Some(text) = &repaired {
        assert_eq!(check(text.as_bytes(), MAX_DEPTH), Ok(&**text));
        assert_eq!(json(text.as_bytes()).as_deref(), Some(&**text));
        // An escape is six bytes for one.
        assert!(text.len() <= 6 * input.len());
    }
    // Of doubled members both take the last.
    if let (Ok(value), Some(text)) = (serde_json::from_slice::<Value>(bare), &repaired) {
        assert_eq!(tree(text), value);
    }
    if let Ok(text) = check(bare, MAX_DEPTH) {
        assert_eq!(repaired.as_deref(), Some(text), "what is good stays as it is");
    }
});
