//! The canonical form of JSON (RFC 8785), for telling whether two bodies say the same.
//!
//! One step stricter than the RFC: an integer that a double cannot hold keeps its own digits, so two that
//! differ there are two.

use std::fmt::Write as _;

use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

/// Writes a value in its canonical form.
pub fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            // RFC 8785 §3.2.3: by UTF-16 code units, which differs from UTF-8 beyond the basic plane.
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (at, name) in names.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                if let Some(member) = members.get(name) {
                    write(member, out);
                }
            }
            out.push('}');
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    // serde_json escapes what must be, in the short forms, and nothing else: as RFC 8785 §3.2.2.2 has it.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// The largest integer below which every integer is a double.
const EXACT: u64 = 1 << 53;

fn write_number(number: &Number, out: &mut String) {
    let whole = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
    // Writing to a string does not fail.
    let _ = match (whole, number.as_f64()) {
        (Some(_), _) => write!(out, "{number}"),
        (None, Some(double)) if double.fract() == 0.0 && double.abs() < EXACT as f64 => {
            write!(out, "{}", double as i64)
        }
        (None, Some(double)) => write!(out, "{double:e}"),
        (None, None) => write!(out, "{number}"),
    };
}

/// SHA-256 of the canonical form, in lower hex. `text` has passed `json::check`.
pub fn fingerprint(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let mut canonical = String::with_capacity(text.len());
    write(&value, &mut canonical);
    Some(digest(&canonical))
}

/// SHA-256 in lower hex.
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        let mut out = String::new();
        write(&serde_json::from_str(text).unwrap(), &mut out);
        out
    }

    #[test]
    fn what_says_the_same_is_written_the_same() {
        assert_eq!(canonical(r#"{ "b": 1.0, "a": [true, null, "\u0041\n"] }"#), r#"{"a":[true,null,"A\n"],"b":1}"#);
        assert_eq!(canonical("1e2"), canonical("100"));
        assert_eq!(canonical("-0.0"), "0");
        assert_ne!(canonical("9007199254740993"), canonical("9007199254740992"));
        assert_ne!(canonical("\"1\""), canonical("1"));
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
