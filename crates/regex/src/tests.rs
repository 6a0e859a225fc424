use crate::{Error, Library, Program, Regex, index_of, key, metered, prepared, read};
use std::sync::Arc;

fn library() -> Library {
    Library::new(50_000)
}

fn program(pattern: &str) -> Program {
    Program::new(pattern, 2_000, &mut library()).unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

/// Whether a pattern occurs in a text, and how many steps it takes to decide.
fn run(pattern: &str, text: &str) -> (bool, u64) {
    let mut left = u64::MAX;
    let matched = program(pattern).is_match(text, &mut left).unwrap();
    (matched, u64::MAX - left)
}

#[test]
fn the_cache_changes_no_outcome() {
    let patterns =
        ["a+b", "^a+b$", "^(a|b)*$", "b$", "é{2}", "(a|é)b", r"\bb", "(?m:^b$)", "^$", "", "(?:a{1,3}é)+b", "^[^é]*$"];
    for pattern in patterns {
        for unit in ["a", "b", "é", "ab", "aé", "a\n"] {
            for end in ["", "b", "éé", "\nb"] {
                // More characters of the same kind lead from a text without the cache to one with it.
                let [short, long] = [10, 100].map(|count| unit.repeat(count) + end);
                assert_eq!(run(pattern, &short).0, run(pattern, &long).0, "{pattern:?} in {unit:?}, … {end:?}");
            }
        }
    }
}

#[test]
fn a_full_cache_begins_anew() {
    // Random letters, so that the live states rarely recur.
    let mut random = 1_u64;
    let mut letter = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if random >> 63 == 0 { 'a' } else { 'b' }
    };
    let text: String = (0..10_000).map(|_| letter()).collect();
    let (matched, steps) = run("a.{12}c", &text);
    assert!(!matched && steps > 100_000, "{steps}");
    assert!(run("a.{12}c", &(text + "aaaaaaaaaaaaac")).0);
}

#[test]
fn the_outcome_does_not_depend_on_the_budget_if_it_suffices() {
    for (pattern, text) in [("(a*)*b", "a".repeat(40)), ("(a*)*b", "a".repeat(400)), ("a|b", "xxb".into())] {
        let (matched, steps) = run(pattern, &text);
        assert_eq!(program(pattern).is_match(&text, &mut steps.clone()), Some(matched));
        assert_eq!(program(pattern).is_match(&text, &mut (steps - 1)), None, "{pattern} in {} bytes", text.len());
    }
}

#[test]
fn a_program_has_at_most_the_states_that_are_allowed() {
    let states = |pattern: &str, max| Program::new(pattern, max, &mut library()).map(|program| program.states());
    assert_eq!(states("a{10}", 11), Ok(11));
    assert_eq!(states("a{10}", 10), Err(Error::TooLarge(11)));
    assert_eq!(states("(?:){1000000}", 1), Ok(1));
    assert!(matches!(states("((a{1000}){1000}){1000000}", 2_000), Err(Error::TooLarge(_))));
}

#[test]
fn work_on_classes_is_bounded() {
    let mut library = Library::new(100);
    assert_eq!(Program::new(r"\p{L}", 100, &mut library).err(), Some(Error::Classes));
    assert!(library.is_spent());
}

#[test]
fn look_around_and_back_references_are_read_but_not_compiled() {
    for pattern in ["(?=a)", "(?<!a)b", r"(a)\1", r"(?<n>a)\k<n>"] {
        assert_eq!(read(pattern, &mut library()), Ok(()), "{pattern}");
        assert!(matches!(Program::new(pattern, 100, &mut library()), Err(Error::Syntax(_))), "{pattern}");
    }
    for pattern in ["(", "a**", "[b-a]", "(?x)a", r"\p{Nonsense}", "a{2,1}"] {
        assert!(read(pattern, &mut library()).is_err(), "{pattern}");
    }
}

#[test]
fn a_key_stands_for_a_prepared_pattern() {
    let pattern = Regex::of("^a$", Arc::new(program("^a$")), None);
    prepared(vec![pattern], || {
        let prepared = Regex::new(&key(0)).unwrap();
        assert_eq!(prepared.as_str(), "^a$");
        assert!(prepared.is_match("a") && !prepared.is_match("b"));
        assert!(Regex::new(&key(1)).is_err());
    });
    assert!(Regex::new(&key(0)).is_err(), "the patterns are forgotten");
    assert_eq!((index_of(&key(7)), index_of("7")), (Some(7), None));
}

#[test]
fn a_text_that_is_too_long_is_not_matched() {
    let pattern = Regex::of("^é*$", Arc::new(program("^é*$")), Some(3));
    assert_eq!(["ééé", "bbb", "bbbb"].map(|text| pattern.is_match(text)), [true, false, true]);
}

#[test]
fn all_patterns_of_a_check_share_its_steps() {
    let pattern = Regex::new("(a|b)*c").unwrap();
    let (first, exhausted) = metered(1_000, || pattern.is_match("ab"));
    assert!(!first && exhausted.is_none());
    let text = "abc".repeat(2);
    let (_, exhausted) = metered(60, || (0..10).map(|_| pattern.is_match(&text)).collect::<Vec<_>>());
    let exhausted = exhausted.unwrap();
    assert_eq!((&*exhausted.pattern, exhausted.characters), ("(a|b)*c", 6));
    assert_eq!(exhausted.text_at, text.as_ptr() as usize);
    assert!(!pattern.is_match("ab"), "without a meter there is no limit");
}
