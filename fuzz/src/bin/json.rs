//! The JSON reader accepts what `serde_json` accepts, less what parsers read differently; its parts are those of the
//! tree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::base::json::{MAX_DEPTH, check};
use narthex_core::base::json_parts::members;
use narthex_fuzz::{assert_pointer, tree};
use serde_json::Value;

/// What `serde_json` takes and we refuse.
const STRICTER: [&str; 2] = ["the member is named twice", "nested too deeply"];

fuzz_target!(|input: &[u8]| match check(input, MAX_DEPTH) {
    Ok(text) => {
        assert_eq!(text.as_bytes(), input);
        let value = tree(text);
        let parts = members(text);
        assert_eq!(parts.is_some(), value.is_object());
        for part in parts.unwrap_or_default() {
            assert_eq!(value.get(&*part.name), Some(&tree(part.value)), "{text:?} {part:?}");
            assert_eq!(tree(part.key), Value::from(&*part.name));
        }
    }
    Err(invalid) => {
        assert!(invalid.offset <= input.len());
        assert_pointer(&invalid.pointer);
        let accepted = serde_json::from_slice::<Value>(input).is_ok();
        assert!(!accepted || STRICTER.contains(&invalid.reason), "{invalid} but serde_json accepts it");
    }
});
