//! Decimals have one form each, and one order, which doubles never contradict.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::base::decimal::{Decimal, Divisor};
use narthex_core::base::json::check;
use narthex_fuzz::two_texts;

/// A number of JSON, and nothing around it.
fn number(text: &str) -> Option<&str> {
    let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    check(text.as_bytes(), 1).ok().filter(|_| is_number).map(str::trim_end)
}

fuzz_target!(|input: &[u8]| {
    let Some((left, right)) = two_texts(input) else { return };
    let (Some(left), Some(right)) = (number(left), number(right)) else { return };
    let (a, b) = (Decimal::parse(left), Decimal::parse(right));
    for one in [&a, &b] {
        let written = one.to_string();
        assert_eq!(Decimal::parse(&written), *one, "{written}");
    }
    assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
    assert_eq!(a == b, a.cmp(&b).is_eq());
    let (x, y): (f64, f64) = (left.parse().unwrap_or(0.0), right.parse().unwrap_or(0.0));
    assert!(x >= y || a < b, "{left} {right}");
    assert!(x <= y || a > b, "{left} {right}");
    if let Some(divisor) = Divisor::new(&b) {
        assert!(b.is_multiple_of(&divisor));
        if let (Ok(value), Some(by)) = (left.parse::<i64>(), divisor.whole()) {
            assert_eq!(a.is_multiple_of(&divisor), value % by == 0, "{left} by {right}");
        }
    }
});
