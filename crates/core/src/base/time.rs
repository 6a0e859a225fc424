//! Points in time, in milliseconds since 1970, written as RFC 3339 in UTC.

use chrono::DateTime;
use serde::{Deserialize, Serialize, Serializer};

/// Milliseconds since 1970. A number in storage and in messages between objects; [`Timestamp::text`] is for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// RFC 3339 with milliseconds and `Z`.
    pub fn text(self) -> String {
        // A context contains ten of these. Formatting by hand takes a tenth of the time.
        let (days, in_day) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = date_of(days.min(MAX_DAYS));
        let seconds = in_day / 1000;
        let mut text = String::with_capacity(24);
        let mut digits = |value: u64, width: u32, after: char| {
            for place in (0..width).rev() {
                text.push(char::from(b'0' + (value / 10u64.pow(place) % 10) as u8));
            }
            text.push(after);
        };
        digits(year, 4, '-');
        digits(month, 2, '-');
        digits(day, 2, 'T');
        digits(seconds / 3600, 2, ':');
        digits(seconds / 60 % 60, 2, ':');
        digits(seconds % 60, 2, '.');
        digits(in_day % 1000, 3, 'Z');
        text
    }

    /// Parses RFC 3339 with any offset. Times before 1970 become the start of 1970.
    pub fn parse(text: &str) -> Option<Self> {
        let time = DateTime::parse_from_rfc3339(text).ok()?;
        Some(Self(u64::try_from(time.timestamp_millis()).unwrap_or(0)))
    }

    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`; 0 if the clock went back.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }
}

/// The last day of the year 9999.
const MAX_DAYS: u64 = 2_932_896;

/// Year, month and day from days since 1970 (Howard Hinnant's `civil_from_days`).
pub fn date_of(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Serializes a time as text: `#[serde(serialize_with = "time::as_text")]`.
pub fn as_text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.text())
}

/// Like [`as_text`], for optional fields.
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
        assert_eq!(Timestamp::parse("0969-12-31T23:59:59Z"), Some(Timestamp(0)));
    }

    proptest! {
        #[test]
        fn text_and_back(ms in 0u64..253_402_300_800_000) {
            let text = Timestamp(ms).text();
            prop_assert_eq!(Timestamp::parse(&text), Some(Timestamp(ms)));
            let known = DateTime::from_timestamp_millis(ms as i64).unwrap();
            prop_assert_eq!(text, known.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
        }
    }
}
