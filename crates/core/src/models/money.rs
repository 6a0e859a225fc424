//! Amounts of money: decimal texts outside, integers of 10⁻⁹ of a currency inside.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The places behind the point.
const PLACES: usize = 9;
const UNIT: u64 = 1_000_000_000;

/// An amount in 10⁻⁹ of its currency, from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(pub u64);

impl Money {
    /// Parses a decimal such as `0.25`, with at most nine places.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str, most: usize| {
            (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !digits(whole, 9) || !digits(fraction, PLACES) {
            return None;
        }
        let places: u64 = format!("{fraction:0<PLACES$}").parse().ok()?;
        Some(Self(whole.parse::<u64>().ok()? * UNIT + places))
    }

    /// The price of so many tokens, where this is the price of a million, in 10⁻⁹ × 10⁻⁶.
    pub(super) fn of_tokens(self, tokens: u64) -> u128 {
        u128::from(self.0) * u128::from(tokens)
    }

    /// In units of the currency, as exactly as a double can be: for where amounts are not added up.
    pub fn units(self) -> f64 {
        self.0 as f64 / UNIT as f64
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0 / UNIT, self.0 % UNIT);
        // At least two places, as people write amounts.
        let least = text.len() - (PLACES - 2);
        let end = text.trim_end_matches('0').len().max(least);
        f.write_str(text.get(..end).unwrap_or(&text))
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Sums have more digits before the point than prices.
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
        let places = Self::parse(&format!("0.{fraction}"));
        let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(UNIT));
        let sum = whole.zip(places).and_then(|(whole, places)| whole.checked_add(places.0));
        sum.map(Self).ok_or_else(|| serde::de::Error::custom("not an amount of money"))
    }
}

#[cfg(any(test, feature = "schema"))]
impl schemars::JsonSchema for Money {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Money".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string"})
    }
}

/// Whether a text is a currency (ISO 4217): three capital letters.
pub fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_decimals() {
        for (text, nanos, written) in [
            ("0.25", 250_000_000, "0.25"),
            ("2", 2_000_000_000, "2.00"),
            ("0.000000001", 1, "0.000000001"),
            ("0.1230", 123_000_000, "0.123"),
        ] {
            assert_eq!(Money::parse(text), Some(Money(nanos)));
            assert_eq!(Money(nanos).to_string(), written);
        }
        for text in ["", ".", "1.", ".5", "-1", "1e3", "0.0000000001", "1234567890", "1,5", " 1"] {
            assert_eq!(Money::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn an_amount_is_read_as_it_was_written(nanos in any::<u64>()) {
            let text = serde_json::to_string(&Money(nanos)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&text).unwrap(), Money(nanos));
        }
    }
}
