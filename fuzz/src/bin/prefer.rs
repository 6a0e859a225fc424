//! Preferences are wishes: any text is read, and what is said to be applied is read as what was asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::http::prefer::{Prefer, parse};
use narthex_fuzz::text;

fuzz_target!(|input: &[u8]| {
    let Some(header) = text(input) else { return };
    let asked = parse(Some(header));
    assert_eq!(parse(asked.applied(asked.wait_seconds, true).as_deref()), asked);
    assert_eq!(parse(Some(&format!("{header},"))), asked);
    if asked == Prefer::default() {
        assert_eq!(asked.applied(Some(1), true), None);
    }
    // Of a preference that is given twice the first counts.
    if asked.wait_seconds.is_some() {
        assert_eq!(parse(Some(&format!("{header},wait=77"))).wait_seconds, asked.wait_seconds);
    }
});
