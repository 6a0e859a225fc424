//! Patterns: a program is bounded by its states, a match by its steps, and the outcome does not depend on the budget.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_fuzz::two_texts;
use regex::{Library, Program};

const STATES: usize = 2_000;

fuzz_target!(|input: &[u8]| {
    let Some((pattern, text)) = two_texts(input) else { return };
    let Ok(program) = Program::new(pattern, STATES, &mut Library::new(50_000)) else { return };
    assert!(program.states() <= STATES);
    // Linear time: each state is visited at most once at each place of the text.
    let most = (program.states() as u64 + 8) * (text.chars().count() as u64 + 2);
    let mut left = most;
    let Some(matched) = program.is_match(text, &mut left) else { panic!("{pattern:?} takes more than {most} steps") };
    let mut exactly = most - left;
    assert_eq!(program.is_match(text, &mut exactly), Some(matched));
    let any = format!("(?:{pattern})|^");
    if let Ok(program) = Program::new(&any, 2 * STATES, &mut Library::new(100_000)) {
        assert_eq!(program.is_match(text, &mut u64::MAX.clone()), Some(true), "{any:?}");
    }
});
