//! Points in time, in milliseconds since 1970, shown as RFC 3339 in UTC.

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize, Serializer};

/// Kept as a number in storage and between objects; [`Timestamp::text`] is for people and clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// RFC 3339 with milliseconds and `Z`.
    pub fn text(self) -> String {
        i64::try_from(self.0)
            .ok()
            .and_then(DateTime::from_timestamp_millis)
            .unwrap_or(DateTime::UNIX_EPOCH)
            .to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    /// RFC 3339 with any offset.
    pub fn parse(text: &str) -> Option<Self> {
        let time = DateTime::parse_from_rfc3339(text).ok()?;
        u64::try_from(time.timestamp_millis()).ok().map(Self)
    }

    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here; 0 when the clock went back.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }
}

/// For fields of answers: `#[serde(serialize_with = "time::as_text")]`.
pub fn as_text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.text())
}

/// As [`as_text`], for what may be absent.
pub fn as_optional_text<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => as_text(time, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offsets_are_understood() {
        assert_eq!(Timestamp::parse("1970-01-01T01:00:01+01:00"), Some(Timestamp(1000)));
        assert_eq!(Timestamp(1_764_547_200_123).text(), "2025-12-01T00:00:00.123Z");
        assert_eq!(Timestamp::parse("yesterday"), None);
        assert_eq!(Timestamp::parse("1969-12-31T23:59:59Z"), None);
    }

    proptest! {
        #[test]
        fn text_and_back(ms in 0u64..253_402_300_800_000) {
            prop_assert_eq!(Timestamp::parse(&Timestamp(ms).text()), Some(Timestamp(ms)));
        }
    }
}
