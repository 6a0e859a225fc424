//! An idempotency key is visible ASCII, bare or as a structured-field string, and both spellings are one key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::context::idempotency::parse;
use narthex_fuzz::text;

fuzz_target!(|input: &[u8]| {
    let Some(key) = text(input).and_then(parse) else { return };
    assert!((1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()));
    let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
    assert_eq!(parse(&quoted), Some(key.clone()));
    if !key.starts_with('"') {
        assert_eq!(parse(&format!(" {key} ")), Some(key));
    }
});
