//! A token that is taken apart is the one that was presented, and its parts are JSON objects.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use narthex_core::access::jose::jwt::{MAX_BYTES, parse, words};
use narthex_fuzz::{text, three_parts};

fn holds(token: &str) {
    let Ok(read) = parse(token) else { return };
    assert!(token.len() <= MAX_BYTES);
    assert_eq!(format!("{}.{}", read.signed, URL_SAFE_NO_PAD.encode(&read.signature)), token);
    assert_eq!(token.split('.').count(), 3);
    assert!(read.claims.is_object() && !read.signature.is_empty());
    assert_ne!(read.algorithm.name(), "none");
    for value in read.claims.as_object().into_iter().flat_map(|claims| claims.values()) {
        words(value);
    }
}

fuzz_target!(|input: &[u8]| {
    if let Some(token) = text(input) {
        holds(token);
    }
    // The same bytes as the contents of the parts, which no mutation would find through base64.
    let [header, claims, signature] = three_parts(input).map(|part| URL_SAFE_NO_PAD.encode(part));
    holds(&format!("{header}.{claims}.{signature}"));
});
