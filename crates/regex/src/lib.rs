//! Replaces the crate `regex` for `boon`. The patterns of JSON Schema are those of ECMA-262, whose syntax differs from
//! that of the original crate; `parse.rs` reads them. `program.rs` simulates all states of a pattern at once, so the
//! time is at most the number of live states times the number of characters in the text. Every step is counted, and
//! the caller that checks a value sets the limit ([`metered`]).
//!
//! `boon` receives keys ([`key`]) instead of patterns, and [`prepared`] supplies the compiled programs. So each pattern
//! is parsed once, and never by boon's own approximation of ECMA-262.

#![forbid(unsafe_code)]

mod class;
mod node;
mod parse;
mod program;
#[cfg(test)]
mod tests;
mod transition_cache;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

pub use class::Library;
pub use program::Program;

/// The first character of every key. No pattern that people write begins with it.
const MARK: char = '\u{1}';
/// The cost of each match in steps, before any state is visited.
const CALL_STEPS: u64 = 8;

/// Why a text cannot be used as a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// It is not an ECMA-262 pattern, or it cannot run in linear time.
    Syntax(&'static str),
    /// A flag that ECMA-262 does not have.
    Flag(char),
    /// Its program would have this many states, which is more than allowed.
    TooLarge(usize),
    /// Its classes have more ranges than allowed.
    Classes,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(detail) => f.write_str(detail),
            Self::Flag(flag) => write!(f, "the flag {flag} is not part of ECMA-262"),
            Self::TooLarge(states) => write!(f, "it has {states} states"),
            Self::Classes => f.write_str("its classes are too large"),
        }
    }
}

impl std::error::Error for Error {}

/// A pattern together with the limit that applies where it is used.
#[derive(Debug, Clone)]
pub struct Regex {
    pattern: Arc<str>,
    program: Arc<Program>,
    /// Longer texts are not matched: the `maxLength` of the same schema refuses them anyway.
    max_characters: Option<u64>,
}

/// The pattern and text at which a check used up its steps.
#[derive(Debug, Clone)]
pub struct Exhausted {
    pub pattern: Arc<str>,
    /// The address of the text in memory, from which the caller finds its place in the value.
    pub text_at: usize,
    pub characters: usize,
}

thread_local! {
    static PREPARED: RefCell<Vec<Regex>> = const { RefCell::new(Vec::new()) };
    static STEPS: Cell<u64> = const { Cell::new(u64::MAX) };
    static EXHAUSTED: RefCell<Option<Exhausted>> = const { RefCell::new(None) };
}

/// Checks that a text is a pattern. From the first look-around or back-reference on, anything is accepted unread.
pub fn read(text: &str, library: &mut Library) -> Result<(), Error> {
    match parse::parse(text, library) {
        Err(error) if error == parse::NOT_LINEAR => Ok(()),
        read => read.map(drop),
    }
}

/// The key under which boon receives the prepared pattern at this index.
pub fn key(index: usize) -> String {
    format!("{MARK}{index}")
}

/// The index in a key; `None` if the text is not a key.
pub fn index_of(key: &str) -> Option<usize> {
    key.strip_prefix(MARK)?.parse().ok()
}

/// Runs `work` while [`Regex::new`] resolves keys to these patterns.
pub fn prepared<T>(patterns: Vec<Regex>, work: impl FnOnce() -> T) -> T {
    PREPARED.with_borrow_mut(|prepared| *prepared = patterns);
    let done = work();
    PREPARED.with_borrow_mut(Vec::clear);
    done
}

/// Runs `work` with a budget of steps for all its patterns together. If they do not suffice, also returns the pattern
/// that could not be matched; the result of `work` is then meaningless.
pub fn metered<T>(steps: u64, work: impl FnOnce() -> T) -> (T, Option<Exhausted>) {
    STEPS.set(steps);
    EXHAUSTED.set(None);
    let done = work();
    STEPS.set(u64::MAX);
    (done, EXHAUSTED.take())
}

impl Regex {
    /// Resolves a key; any other text is compiled as a pattern without limits. This is the constructor that boon calls.
    pub fn new(text: &str) -> Result<Self, Error> {
        match index_of(text) {
            Some(index) => {
                let known = PREPARED.with_borrow(|prepared| prepared.get(index).cloned());
                known.ok_or(Error::Syntax("it was not prepared"))
            }
            None => Ok(Self::of(text, Arc::new(Program::new(text, usize::MAX, &mut Library::new(usize::MAX))?), None)),
        }
    }

    /// A compiled pattern with the limit that applies where it is used.
    pub fn of(pattern: &str, program: Arc<Program>, max_characters: Option<u64>) -> Self {
        Self { pattern: pattern.into(), program, max_characters }
    }

    /// Whether the pattern occurs in the text. Also true if the text is too long or the steps are used up: the value is
    /// then refused for that reason.
    pub fn is_match(&self, text: &str) -> bool {
        let is_longer = |max: u64| {
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            text.len() > max && text.chars().nth(max).is_some()
        };
        // The outcome is discarded once the steps are used up.
        if self.max_characters.is_some_and(is_longer) || EXHAUSTED.with_borrow(Option::is_some) {
            return true;
        }
        let mut steps = STEPS.get();
        let matched = match steps.checked_sub(CALL_STEPS) {
            Some(left) => {
                steps = left;
                self.program.is_match(text, &mut steps)
            }
            None => None,
        };
        STEPS.set(steps);
        matched.unwrap_or_else(|| {
            let (pattern, text_at) = (self.pattern.clone(), text.as_ptr() as usize);
            EXHAUSTED.set(Some(Exhausted { pattern, text_at, characters: text.chars().count() }));
            true
        })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }
}
