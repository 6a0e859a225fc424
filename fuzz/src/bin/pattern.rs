//! Patterns: a program is bounded by its states, a match by its steps; it means what another engine of ECMA-262 says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_fuzz::two_texts;
use regex::{Library, Program};

const STATES: usize = 2_000;
/// The other engine goes back and forth, and takes exponential time.
const SHORT: usize = 16;

fuzz_target!(|input: &[u8]| {
    let Some((pattern, text)) = two_texts(input) else { return };
    let Ok(program) = Program::new(pattern, STATES, &mut Library::new(50_000)) else { return };
    assert!(program.states() <= STATES);
    // Linear time: each state is visited at most once at each place of the text, and what is found there is remembered.
    let most = (5 * program.states() as u64 + 32) * (text.chars().count() as u64 + 2);
    let mut left = most;
    let Some(matched) = program.is_match(text, &mut left) else { panic!("{pattern:?} takes more than {most} steps") };
    let mut exactly = most - left;
    assert_eq!(program.is_match(text, &mut exactly), Some(matched), "the outcome depends on the budget");
    // We also take what is meant without the flag, and a few spellings of others: there is nothing to compare with.
    if pattern.len() <= SHORT
        && text.len() <= SHORT
        && let Ok(other) = regress::Regex::with_flags(pattern, "u")
    {
        assert_eq!(other.find(text).is_some(), matched, "{pattern:?} in {text:?}");
    }
});
