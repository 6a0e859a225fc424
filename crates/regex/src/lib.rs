//! Stands in for the crate `regex` in `boon`, which asks for all of it: its literal, one-pass and lazy DFA engines
//! are a tenth of the Worker's size, and only make fast what matches as well without them. The engines here are
//! that crate's own: bounded backtracking for short texts, and for long ones the simulation that is always linear.

use std::fmt;

/// As in the crate: a compiled pattern may take this many bytes.
const SIZE_LIMIT: usize = 10 * 1024 * 1024;

#[derive(Clone, Debug)]
pub struct Regex {
    pattern: String,
    engine: regex_automata::meta::Regex,
}

#[derive(Clone, Debug)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl Regex {
    pub fn new(pattern: &str) -> Result<Self, Error> {
        let config = regex_automata::meta::Config::new().nfa_size_limit(Some(SIZE_LIMIT));
        match regex_automata::meta::Builder::new().configure(config).build(pattern) {
            Ok(engine) => Ok(Self { pattern: pattern.to_owned(), engine }),
            Err(error) => Err(Error(error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string))),
        }
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.engine.is_match(text)
    }

    pub fn as_str(&self) -> &str {
        &self.pattern
    }
}
