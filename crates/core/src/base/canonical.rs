//! The canonical form of JSON (RFC 8785), to compare bodies.
//!
//! Stricter than the RFC in one point: a number that a double cannot hold keeps its digits, so that different numbers
//! stay different. Different spellings of a number are equal: `1.0` is `1`, and `1e2` is `100`.

use std::fmt::Write as _;

use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

use super::decimal::Decimal;
use super::exact_json::{self, NumberLists, Numbers, TreeNumber};
use super::order;

/// Writes the canonical form of a text that has passed `json::check`.
fn canonical(text: &str) -> Option<String> {
    let (before, mut out) = (Numbers::default(), String::with_capacity(text.len()));
    let (value, own) = exact_json::tree(text, &before).ok()?;
    write(&value, NumberLists { before: &before, own: &own }, &mut out);
    Some(out)
}

fn write(value: &Value, numbers: NumberLists<'_>, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(number, numbers, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, numbers, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            // RFC 8785 §3.2.3: by UTF-16 code units, which differs from UTF-8 order beyond the basic plane.
            let mut names: Vec<&String> = members.keys().collect();
            order::sort_by(&mut names, |a, b| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (at, name) in names.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                if let Some(member) = members.get(name) {
                    write(member, numbers, out);
                }
            }
            out.push('}');
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    // serde_json escapes as RFC 8785 §3.2.2.2 requires: only what must be escaped, in the short forms.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Every integer below this one is a double.
const EXACT: u64 = 1 << 53;
/// Numbers below this may have been integers in serde_json.
const MAX_DIGITS: f64 = 1.8446744073709552e19;

fn write_number(number: &Number, numbers: NumberLists<'_>, out: &mut String) {
    // Writing to a string does not fail.
    let _ = match numbers.known(number) {
        TreeNumber::Listed(decimal) => {
            let text = decimal.to_string();
            // A number in the range of the stand-ins that is written exactly as its double is.
            match text.parse::<f64>() {
                Ok(double) if double.is_finite() && Decimal::of(double) == *decimal => write!(out, "{double:e}"),
                _ => write!(out, "{text}"),
            }
        }
        TreeNumber::Plain(_) if !number.is_f64() => write!(out, "{number}"),
        TreeNumber::Plain(double) if double.fract() == 0.0 && double.abs() < EXACT as f64 => {
            write!(out, "{}", double as i64)
        }
        // Written like an integer with so many digits.
        TreeNumber::Plain(double) if double.fract() == 0.0 && double.abs() < MAX_DIGITS => write!(out, "{double}"),
        TreeNumber::Plain(double) => write!(out, "{double:e}"),
    };
}

/// SHA-256 of the canonical form, in lower hex. `text` has passed `json::check`.
pub fn fingerprint(text: &str) -> Option<String> {
    canonical(text).map(|canonical| digest(&canonical))
}

/// SHA-256 in lower hex.
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The first characters of a text's digest, which tell few texts apart: four bits each.
pub fn short_digest(text: &str, length: usize) -> String {
    let mut digest = digest(text);
    digest.truncate(length);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        super::canonical(text).unwrap()
    }

    #[test]
    fn equal_documents_have_equal_forms() {
        assert_eq!(canonical(r#"{ "b": 1.0, "a": [true, null, "\u0041\n"] }"#), r#"{"a":[true,null,"A\n"],"b":1}"#);
        assert_eq!(canonical("1e2"), canonical("100"));
        assert_eq!(canonical("-0.0"), "0");
        assert_ne!(canonical("9007199254740993"), canonical("9007199254740992"));
        assert_ne!(canonical("\"1\""), canonical("1"));
    }

    /// Different numbers with the same double stay different.
    #[test]
    fn numbers_are_compared_as_decimals() {
        for (one, other) in [
            ("92233720368547758081", "92233720368547758082"),
            ("18446744073709551615", "18446744073709551616"),
            ("0.1234567890123456781", "0.1234567890123456782"),
            ("1e-400", "0"),
            ("1.7976931348623157e308", "1.7976931348623158e308"),
            ("0.99999999999999999999", "1"),
        ] {
            assert_ne!(
                canonical(&format!(r#"{{"n":[{one}]}}"#)),
                canonical(&format!(r#"{{"n":[{other}]}}"#)),
                "{one} {other}"
            );
        }
        for (one, other) in [
            ("1e19", "10000000000000000000"),
            ("-1e18", "-1000000000000000000"),
            ("12345678901234567000", "1.2345678901234567e19"),
            ("92233720368547758081", "92233720368547758081.0"),
            ("0.10", "1e-1"),
            ("123456789012345678901e-3", "123456789012345678.901"),
        ] {
            assert_eq!(canonical(one), canonical(other), "{one} {other}");
        }
    }

    /// Fingerprints stored for a day must match in the next version, including those of numbers that were read exactly
    /// before.
    #[test]
    fn the_form_of_usual_numbers_is_pinned() {
        let text = "[1,1.0,-2.50,0.1,1e22,1.5e300,9007199254740993,123456789.12345679,18446744073709551615]";
        let form = "[1,1,-2.5e0,1e-1,1e22,1.5e300,9007199254740993,1.2345678912345679e8,18446744073709551615]";
        assert_eq!(canonical(text), form);
        // The largest and the smallest double, as schemas of tools have them.
        assert_eq!(canonical("[1.7976931348623157e308,5e-324,-0]"), "[1.7976931348623157e308,5e-324,0]");
    }

    /// RFC 8785 §3.2.3.
    #[test]
    fn members_sort_by_their_utf_16_code_units() {
        let text = "{\"\\u20ac\":\"Euro\",\"\\r\":\"CR\",\"\\ufb33\":\"Dalet\",\"1\":\"One\",\"\\ud83d\\ude00\":\"Smiley\",\"\\u0080\":\"Control\",\"\\u00f6\":\"o\"}";
        let written = canonical(text);
        let order = ["CR", "One", "Control", "o", "Euro", "Smiley", "Dalet"];
        let at: Vec<usize> = order.iter().map(|word| written.find(&format!("\"{word}\"")).unwrap()).collect();
        assert!(at.is_sorted(), "{written}");
    }

    proptest! {
        #[test]
        fn spaces_and_order_do_not_matter(names in prop::collection::hash_set("[a-z]{1,4}", 1..6), n: i32) {
            let mut members: Vec<String> = names.iter().map(|name| format!(" \"{name}\" : {n}")).collect();
            let one = format!("{{{}}}", members.join(","));
            members.reverse();
            let other = format!("{{{}}} ", members.join(" , "));
            prop_assert_eq!(fingerprint(&one), fingerprint(&other));
        }
    }
}
