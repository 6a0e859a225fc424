//! Positions in a tenant's event log.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The position of an event in its tenant's log: 1 for the first event, and for each further one the next, without
/// gaps. Only the hub assigns sequences, when it logs an event. The position of a reader is the sequence of the last
/// event that it has, and [`Sequence::START`] before the first. An event has another number from its publisher
/// ([`Item::number`](super::bundle::Item)), which grows with gaps and orders the events of one publisher only.
///
/// Below 2^53, so that SQL and JavaScript keep all digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(u64);

impl Sequence {
    /// The position before the first event.
    pub const START: Self = Self(0);
    pub const FIRST: Self = Self(1);

    /// The sequence that a database has stored as this number.
    pub fn from_stored(number: u64) -> Self {
        Self(number)
    }

    /// Parses what a client sends: digits, with or without leading zeros.
    pub fn parse(text: &str) -> Option<Self> {
        let is_spelt = (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        is_spelt.then(|| text.parse().ok()).flatten().filter(|number| *number < 1 << 53).map(Self)
    }

    /// 16 digits, so that the texts sort like the sequences. The form for clients; `Display` writes no leading zeros.
    pub fn text(self) -> String {
        format!("{:016}", self.0)
    }

    pub fn get(self) -> u64 {
        self.0
    }

    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The position before this event; [`Sequence::START`] stays.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The sequence `events` further on.
    #[must_use]
    pub fn plus(self, events: u64) -> Self {
        Self(self.0 + events)
    }

    /// The sequence halfway between two, rounded to the lower one.
    #[must_use]
    pub fn midpoint(self, other: Self) -> Self {
        Self(self.0.midpoint(other.0))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_read_with_or_without_leading_zeros() {
        let known = Some(Sequence(42));
        assert_eq!((Sequence::parse("0000000000000042"), Sequence::parse("42")), (known, known));
        assert_eq!(Sequence::parse("0"), Some(Sequence::START));
        assert_eq!(Sequence::parse("9007199254740991"), Some(Sequence((1 << 53) - 1)));
        for text in ["", "+42", " 42", "00000000000000042", "9007199254740992", "x"] {
            assert_eq!(Sequence::parse(text), None, "{text}");
        }
    }

    #[test]
    fn texts_sort_like_sequences() {
        assert_eq!((Sequence(42).text().as_str(), Sequence(42).to_string().as_str()), ("0000000000000042", "42"));
        assert!(Sequence(9).text() < Sequence(10).text());
        assert_eq!(Sequence::parse(&Sequence(42).text()), Some(Sequence(42)));
    }

    #[test]
    fn positions_are_counted_from_the_start() {
        assert_eq!((Sequence::START.next(), Sequence::FIRST.previous()), (Sequence::FIRST, Sequence::START));
        assert_eq!((Sequence::START.previous(), Sequence::default()), (Sequence::START, Sequence::START));
        assert_eq!((Sequence(3).plus(4), Sequence(3).midpoint(Sequence(8))), (Sequence(7), Sequence(5)));
    }

    // The versions before and after read this form too.
    #[test]
    fn a_sequence_is_stored_and_sent_as_a_number() {
        assert_eq!(serde_json::to_string(&Sequence(42)).unwrap(), "42");
        assert_eq!(serde_json::from_str::<Sequence>("42").unwrap(), Sequence(42));
    }
}
