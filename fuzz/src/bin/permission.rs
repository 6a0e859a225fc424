//! What two permissions both cover, each of them covers; and it is the same whichever comes first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::access::permission::{covers, meet, valid};
use narthex_fuzz::two_texts;

fuzz_target!(|input: &[u8]| {
    let Some((a, b)) = two_texts(input) else { return };
    if !valid(a) || !valid(b) {
        return;
    }
    assert!(covers(a, a) && covers("*", a));
    let both = meet(a, b);
    if let Some(both) = &both {
        assert!(covers(a, both) && covers(b, both), "{a} {b} {both}");
    }
    if covers(a, b) {
        assert!(both.as_deref().is_some_and(|both| covers(both, b)), "{a} {b} {both:?}");
    }
    let turned = meet(b, a);
    match (&both, &turned) {
        (Some(one), Some(other)) => assert!(covers(one, other) && covers(other, one), "{a} {b}: {one} {other}"),
        (None, None) => {}
        _ => panic!("{a} {b}: {both:?} {turned:?}"),
    }
});
