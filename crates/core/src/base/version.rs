//! The numbers of a document's states.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// Counts the writes of one document: 1 when it is created, and one more with each change. It is the document's entity
/// tag. A document that is deleted and created anew starts again at 1; a [`Generation`] tells the two apart. The
/// registry as a whole has a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionNumber(u64);

impl VersionNumber {
    /// No document has it. It stands for an entity tag that the gateway did not issue.
    pub const FOREIGN: Self = Self(0);
    pub const FIRST: Self = Self(1);

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Parses the form that `Display` writes: only digits.
    pub fn parse(text: &str) -> Option<Self> {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten().map(Self)
    }
}

impl fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Tells apart all states of all documents that ever had one id. A later state has a higher generation, except for
/// writes within one millisecond of which the second has a version divisible by 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(u64);

impl Generation {
    /// The generation of a document that was written as this version at this time.
    pub fn of(version: VersionNumber, written_at: Timestamp) -> Self {
        Self(written_at.0 * 1000 + version.0 % 1000)
    }

    /// Any generation, for tests.
    #[cfg(test)]
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_counted_from_one() {
        let second = VersionNumber::FIRST.next();
        assert!(VersionNumber::FOREIGN < VersionNumber::FIRST && VersionNumber::FIRST < second);
        assert_eq!((second.to_string().as_str(), VersionNumber::parse("2")), ("2", Some(second)));
        for bad in ["", "+2", "2.", "x", "18446744073709551616"] {
            assert_eq!(VersionNumber::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_document_created_anew_has_another_generation() {
        let (before, after) = (Timestamp(1_764_547_200_123), Timestamp(1_764_547_200_124));
        let first = Generation::of(VersionNumber::FIRST, before);
        assert!(first < Generation::of(VersionNumber::FIRST.next(), before));
        assert!(first < Generation::of(VersionNumber::FIRST, after));
    }

    // The versions before and after read these forms too.
    #[test]
    fn both_are_stored_as_numbers() {
        let generation = Generation::of(VersionNumber::FIRST, Timestamp(1_764_547_200_123));
        assert_eq!(serde_json::to_string(&generation).unwrap(), "1764547200123001");
        assert_eq!(serde_json::from_str::<Generation>("1764547200123001").unwrap(), generation);
        assert_eq!(serde_json::to_string(&VersionNumber::FIRST).unwrap(), "1");
        assert_eq!(serde_json::from_str::<VersionNumber>("1").unwrap(), VersionNumber::FIRST);
    }
}
