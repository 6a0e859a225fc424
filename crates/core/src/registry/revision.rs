//! The revision of a registry.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Numbers the states of one tenant's registry: every write to any of its documents leads to the next revision, in the
/// transaction of the write, and no two states have the same one. So of two revisions of one registry the higher one is
/// newer. Revisions of different registries cannot be compared. A single document has a version of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Revision(u64);

impl Revision {
    /// Before the first write.
    pub const INITIAL: Self = Self(0);

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// So many revisions earlier, or the first one.
    #[must_use]
    pub fn before(self, revisions: u64) -> Self {
        Self(self.0.saturating_sub(revisions))
    }

    pub fn number(self) -> u64 {
        self.0
    }

    /// The revision with a number that was stored.
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Parses the form that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_write_leads_to_a_higher_revision() {
        let second = Revision::INITIAL.next().next();
        assert!(Revision::INITIAL < Revision::INITIAL.next() && Revision::INITIAL.next() < second);
        assert_eq!((Revision::default(), second.to_string().as_str()), (Revision::INITIAL, "2"));
        assert_eq!((Revision::parse("2"), Revision::parse("x")), (Some(second), None));
    }

    // The versions before and after read this form too.
    #[test]
    fn a_revision_is_sent_as_a_number() {
        assert_eq!(serde_json::to_string(&Revision(7)).unwrap(), "7");
        assert_eq!(serde_json::from_str::<Revision>("7").unwrap(), Revision(7));
    }
}
