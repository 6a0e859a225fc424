//! Rules for query parameters (WHATWG URL §5.1) that all paths share.

use std::borrow::Cow;
use std::collections::HashSet;

/// The first parameter that occurs more than once, which is ambiguous.
pub fn repeated(query: &str) -> Option<String> {
    // A set, because this runs before authentication: the cost must be linear even for thousands of names.
    let mut seen = HashSet::new();
    let mut names = url::form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
    names.find(|name| !seen.insert(name.clone())).map(Cow::into_owned)
}

/// A number in its only accepted spelling: digits without sign or leading zeros.
pub fn integer(text: &str) -> Option<u64> {
    let is_spelt = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_spelt.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_comes_twice_is_named() {
        for (query, name) in [
            ("", None),
            ("limit=5&cursor=5", None),
            ("limit=5&limit=6", Some("limit")),
            ("type=tool&tag=eu&type=llm", Some("type")),
            ("limit=5&%6Cimit=5", Some("limit")),
            ("a&a=", Some("a")),
            ("limit=5&Limit=5", None),
        ] {
            assert_eq!(repeated(query).as_deref(), name, "{query}");
        }
    }

    #[test]
    fn a_parameter_is_found_among_thousands() {
        let mut query = (0..20_000).map(|at| format!("{at:x}")).collect::<Vec<_>>().join("&");
        assert_eq!(repeated(&query), None);
        query.push_str("&4e1f=1");
        assert_eq!(repeated(&query).as_deref(), Some("4e1f"));
    }

    #[test]
    fn a_number_has_one_spelling() {
        for (text, number) in [("5", Some(5)), ("0", Some(0)), ("200", Some(200))] {
            assert_eq!(integer(text), number);
        }
        for text in ["", "+5", "-5", "05", "00", " 5", "5 ", "5.0", "1e2", "0x5", "٥", "99999999999999999999999"] {
            assert_eq!(integer(text), None, "{text}");
        }
    }
}
