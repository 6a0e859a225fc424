//! Stands in for the crate `regex` in `boon`. Patterns of JSON Schema are ECMA-262's (`parse.rs`), which that crate
//! reads otherwise; here they run as a simulation of all states at once (`program.rs`), so that the time is the number
//! of states that are alive times the characters of the text, and each of these steps is counted. The caller that
//! checks a value sets how many it may take ([`metered`]).
//!
//! boon is not given patterns as they were written, but under keys ([`key`]), for which [`prepared`] has the patterns:
//! so none is read twice, and none by what boon takes for ECMA-262.

mod class;
mod known;
mod node;
mod parse;
mod program;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

pub use class::Library;
pub use program::Program;

/// What the name of a prepared pattern begins with. No pattern that people write does.
const MARK: char = '\u{1}';
/// What calling a pattern costs by itself, in steps.
const CALL: u64 = 8;

/// Why a text cannot be used as a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// It is not an ECMA-262 pattern, or it needs more than linear time.
    Syntax(&'static str),
    /// A flag that ECMA-262 does not have.
    Flag(char),
    /// It would have this many states.
    TooLarge(usize),
    /// Its classes have more ranges than they may.
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

/// A pattern, and how it is used in one place.
#[derive(Debug, Clone)]
pub struct Regex {
    pattern: Arc<str>,
    program: Arc<Program>,
    /// A text with more characters is refused without being matched.
    most_characters: Option<u64>,
}

/// What a check ran out of steps at.
#[derive(Debug, Clone)]
pub struct Exhausted {
    pub pattern: Arc<str>,
    /// Where the text is in memory, by which its place in a value is found.
    pub text_at: usize,
    pub characters: usize,
}

thread_local! {
    static PREPARED: RefCell<Vec<Regex>> = const { RefCell::new(Vec::new()) };
    static STEPS: Cell<u64> = const { Cell::new(u64::MAX) };
    static EXHAUSTED: RefCell<Option<Exhausted>> = const { RefCell::new(None) };
}

/// Whether a text is a pattern. What begins with a look-around or a back-reference is taken from there on, unread.
pub fn read(text: &str, library: &mut Library) -> Result<(), Error> {
    match parse::parse(text, library) {
        Err(error) if error == parse::NOT_LINEAR => Ok(()),
        read => read.map(drop),
    }
}

/// The name a prepared pattern is given to boon by.
pub fn key(index: usize) -> String {
    format!("{MARK}{index}")
}

/// The index of a name, if it is one.
pub fn index_of(key: &str) -> Option<usize> {
    key.strip_prefix(MARK)?.parse().ok()
}

/// Works with patterns that are known by their keys.
pub fn prepared<T>(patterns: Vec<Regex>, work: impl FnOnce() -> T) -> T {
    PREPARED.with_borrow_mut(|prepared| *prepared = patterns);
    let done = work();
    PREPARED.with_borrow_mut(Vec::clear);
    done
}

/// Runs `work` with this many steps for all its patterns together. If they do not suffice, also returns the pattern
/// that could not be matched: then the outcome of the work means nothing.
pub fn metered<T>(steps: u64, work: impl FnOnce() -> T) -> (T, Option<Exhausted>) {
    STEPS.set(steps);
    EXHAUSTED.set(None);
    let done = work();
    STEPS.set(u64::MAX);
    (done, EXHAUSTED.take())
}

impl Regex {
    /// What boon asks for.
    pub fn new(text: &str) -> Result<Self, Error> {
        match index_of(text) {
            Some(index) => {
                let known = PREPARED.with_borrow(|prepared| prepared.get(index).cloned());
                known.ok_or(Error::Syntax("it was not prepared"))
            }
            None => Ok(Self::of(text, Arc::new(Program::new(text, usize::MAX, &mut Library::new(usize::MAX))?), None)),
        }
    }

    /// A pattern where it is used.
    pub fn of(pattern: &str, program: Arc<Program>, most_characters: Option<u64>) -> Self {
        Self { pattern: pattern.into(), program, most_characters }
    }

    pub fn is_match(&self, text: &str) -> bool {
        let longer = |most: u64| {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            text.len() > most && text.chars().nth(most).is_some()
        };
        // Whatever is said now is not believed.
        if self.most_characters.is_some_and(longer) || EXHAUSTED.with_borrow(Option::is_some) {
            return true;
        }
        let mut steps = STEPS.get();
        let matched = match steps.checked_sub(CALL) {
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

    pub fn as_str(&self) -> &str {
        &self.pattern
    }
}
