//! The fingerprint of a body does not change with its layout, nor with what a member's name is spelled like.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::base::canonical::fingerprint;
use narthex_core::base::json::{MAX_DEPTH, check};

/// The same JSON with a space before and after each sign that is outside of strings.
fn laid_out(text: &str) -> String {
    let (mut out, mut is_string, mut is_escaped) = (String::new(), false, false);
    for c in text.chars() {
        let is_sign = !is_string && "{}[],:".contains(c);
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_string = !is_string,
            _ => {}
        }
        if is_sign {
            out.extend([' ', c, '\n']);
        } else {
            out.push(c);
        }
    }
    out
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = check(input, MAX_DEPTH) else { return };
    let fingerprinted = fingerprint(text);
    assert!(fingerprinted.is_some(), "{text:?}");
    assert_eq!(fingerprint(&laid_out(text)), fingerprinted, "{text:?}");
    // One that is different stays different.
    assert_ne!(fingerprint(&format!("[{text}]")), fingerprinted);
});
