//! Leases of a context and their numbers.

use std::fmt;
use std::num::NonZeroU64;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::time::Timestamp;

/// Numbers the leases of one context: 1, 2 and so on, in the order in which they are taken. Only [`Head::lease`]
/// assigns numbers, and none twice, so a number is a fencing token: a worker that presents any other number than that
/// of the current lease has lost its own.
///
/// [`Head::lease`]: super::Head::lease
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseNumber(NonZeroU64);

impl LeaseNumber {
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// Parses the form that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl fmt::Display for LeaseNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The right to run one attempt. A report must carry its number; a lease with a higher number replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub number: LeaseNumber,
    pub since: Timestamp,
    pub until: Timestamp,
}

/// How a worker holds a context. Serialized as the number of the lease, and 0 for an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The context is queued and reserved for the worker for a short time. No lease is taken yet.
    Offered,
    Leased(LeaseNumber),
}

impl Hold {
    /// The lease, if one is taken. Only its holder calls a service and reports.
    pub fn lease(self) -> Option<LeaseNumber> {
        match self {
            Self::Offered => None,
            Self::Leased(number) => Some(number),
        }
    }

    pub fn is_offered(self) -> bool {
        self == Self::Offered
    }
}

impl From<Option<LeaseNumber>> for Hold {
    fn from(lease: Option<LeaseNumber>) -> Self {
        lease.map_or(Self::Offered, Self::Leased)
    }
}

impl Serialize for Hold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        number_or_zero::serialize(&self.lease(), serializer)
    }
}

impl<'de> Deserialize<'de> for Hold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number_or_zero::deserialize(deserializer).map(Self::from)
    }
}

/// The number of a lease, and 0 for none: `#[serde(with = "number_or_zero")]`.
pub(super) mod number_or_zero {
    use super::{Deserialize, Deserializer, LeaseNumber, NonZeroU64, Serializer};

    pub fn serialize<S: Serializer>(number: &Option<LeaseNumber>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(number.map_or(0, LeaseNumber::get))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LeaseNumber>, D::Error> {
        Ok(NonZeroU64::new(u64::deserialize(deserializer)?).map(LeaseNumber))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_start_at_one_and_increase() {
        let second = LeaseNumber::FIRST.next();
        assert_eq!((LeaseNumber::FIRST.get(), second.get(), second.to_string().as_str()), (1, 2, "2"));
        assert!(LeaseNumber::FIRST < second);
        assert_eq!(LeaseNumber(NonZeroU64::MAX).next(), LeaseNumber(NonZeroU64::MAX));
        assert_eq!(LeaseNumber::parse("2"), Some(second));
        for bad in ["", "0", "-1", "1.0", "18446744073709551616"] {
            assert_eq!(LeaseNumber::parse(bad), None, "{bad}");
        }
    }

    // The versions before and after read these forms too.
    #[test]
    fn a_number_is_written_as_a_number() {
        assert_eq!(serde_json::to_string(&LeaseNumber::FIRST.next()).unwrap(), "2");
        assert_eq!(serde_json::from_str::<LeaseNumber>("2").unwrap(), LeaseNumber::FIRST.next());
        assert_eq!(serde_json::from_str::<Option<LeaseNumber>>("null").unwrap(), None);
        assert!(serde_json::from_str::<LeaseNumber>("0").is_err());
    }

    #[test]
    fn an_offer_is_written_as_zero() {
        for (hold, text) in [(Hold::Offered, "0"), (Hold::Leased(LeaseNumber::FIRST), "1")] {
            assert_eq!(serde_json::to_string(&hold).unwrap(), text);
            assert_eq!(serde_json::from_str::<Hold>(text).unwrap(), hold);
        }
        for bad in ["null", "-1", "\"1\"", "1.5"] {
            assert!(serde_json::from_str::<Hold>(bad).is_err(), "{bad}");
        }
    }
}
