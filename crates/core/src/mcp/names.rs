//! The names of tools, prompts and resources at `/mcp`, which combines many services.
//!
//! Each name identifies its service. It depends only on the service's id and the service's own name for the item, so it
//! does not change with other registrations, and no two items share a name:
//!
//! * A tool is `service__tool`, of 1 to 64 letters, digits, `_` and `-`, which is what clients accept.
//! * A prompt is `service__prompt`.
//! * A resource is `service+uri`. For the URIs of apps see [`super::app_uris`].

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::base::service_id::ServiceId;

const BETWEEN: &str = "__";
const BETWEEN_URIS: char = '+';
const MAX_NAME: usize = 64;
/// The number of hexadecimal digits that distinguish changed names.
const DIGITS: usize = 8;

/// A tool's name. One that is too long, has other characters, or could be read as another service's or as a changed
/// name, is shortened and gets a digest of the whole.
pub fn tool(service: &ServiceId, capability: &str) -> String {
    let name = format!("{service}{BETWEEN}{capability}");
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    // `a` with `b__c` and `a__b` with `c` give the same text: it is the name of the first.
    let is_the_first = name.find(BETWEEN) == Some(service.as_str().len());
    if name.len() <= MAX_NAME && is_the_first && !ends_in_digits(&name) && name.bytes().all(fits) {
        return name;
    }
    // If the first must be changed too, the text alone would give both the same digest.
    let digits = if is_the_first { digits(&name) } else { digits(&format!("{service}\0{capability}")) };
    let kept = MAX_NAME - DIGITS - 1;
    let mut short: String =
        name.bytes().take(kept).map(|byte| if fits(byte) { char::from(byte) } else { '_' }).collect();
    short.push('_');
    short.push_str(&digits);
    short
}

/// Digits of a name's digest with at least one letter, so that a date at the end of a name is not taken for them.
fn digits(name: &str) -> String {
    let mut digits = String::with_capacity(DIGITS);
    for byte in Sha256::digest(name).into_iter().take(DIGITS / 2) {
        digits.push_str(&format!("{byte:02x}"));
    }
    if digits.bytes().all(|digit| digit.is_ascii_digit()) {
        let rest = digits.split_off(1);
        let first = digits.bytes().next().map_or('a', |digit| char::from(b'a' + digit % 6));
        return format!("{first}{rest}");
    }
    digits
}

fn ends_in_digits(name: &str) -> bool {
    let Some(at) = name.len().checked_sub(DIGITS + 1) else { return false };
    let end = name.as_bytes().get(at..).and_then(<[u8]>::split_first);
    end.is_some_and(|(before, digits)| {
        let is_hex = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        *before == b'_' && digits.iter().all(is_hex) && digits.iter().any(u8::is_ascii_alphabetic)
    })
}

/// Whether a name may be that of a tool of this service; a quick test without making names.
pub fn may_be_of(name: &str, service: &ServiceId) -> bool {
    let service = service.as_str().as_bytes();
    let kept = service.len().min(MAX_NAME - DIGITS - 1);
    name.as_bytes().get(..kept) == service.get(..kept)
}

/// A service's id as the beginning of a prompt's name, which ends at the first `__`. Ids do not contain `.`.
fn head(service: &ServiceId) -> Cow<'_, str> {
    let service = service.as_str();
    if service.contains(BETWEEN) || service.ends_with('_') {
        Cow::Owned(service.replace('_', "."))
    } else {
        Cow::Borrowed(service)
    }
}

/// A prompt's name.
pub fn prompt(service: &ServiceId, own: &str) -> String {
    format!("{}{BETWEEN}{own}", head(service))
}

/// The service's own name for the prompt of this name, if it has one.
pub fn own_prompt<'t>(service: &ServiceId, name: &'t str) -> Option<&'t str> {
    name.strip_prefix(&*head(service))?.strip_prefix(BETWEEN)
}

/// A service's id as a URI scheme, which has no `_` and begins with a letter.
pub fn scheme(service: &ServiceId) -> String {
    let scheme = service.as_str().replace('_', ".");
    if scheme.starts_with(|first: char| first.is_ascii_digit()) { format!("x{BETWEEN_URIS}{scheme}") } else { scheme }
}

/// The URI of a resource, or its template.
pub fn uri(service: &ServiceId, own: &str) -> String {
    format!("{}{BETWEEN_URIS}{own}", scheme(service))
}

/// The service's own URI for this one, if it can be its. If several services match, the one with the longest [`scheme`]
/// is meant.
pub fn own_uri<'t>(service: &ServiceId, uri: &'t str) -> Option<&'t str> {
    uri.strip_prefix(&scheme(service))?.strip_prefix(BETWEEN_URIS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tool(service: &str, capability: &str) -> String {
        super::tool(&service.into(), capability)
    }

    fn may_be_of(name: &str, service: &str) -> bool {
        super::may_be_of(name, &service.into())
    }

    fn prompt(service: &str, own: &str) -> String {
        super::prompt(&service.into(), own)
    }

    fn own_prompt<'t>(service: &str, name: &'t str) -> Option<&'t str> {
        super::own_prompt(&service.into(), name)
    }

    fn scheme(service: &str) -> String {
        super::scheme(&service.into())
    }

    fn uri(service: &str, own: &str) -> String {
        super::uri(&service.into(), own)
    }

    fn own_uri<'t>(service: &str, uri: &'t str) -> Option<&'t str> {
        super::own_uri(&service.into(), uri)
    }

    #[test]
    fn a_name_that_fits_is_the_two_names() {
        assert_eq!(tool("llm", "generate_text"), "llm__generate_text");
        assert_eq!(tool("llm", "report_20261129"), "llm__report_20261129");
        let odd = tool("llm", "v1.chat");
        assert_ne!(odd, tool("llm", "v1_chat"));
        assert!(odd.starts_with("llm__v1_chat_"), "{odd}");
        let long = tool(&"a".repeat(40), &"b".repeat(40));
        assert_eq!(long.len(), 64);
        assert_ne!(long, tool(&"a".repeat(40), &"b".repeat(41)));
    }

    #[test]
    fn services_and_tools_that_read_alike_have_names_of_their_own() {
        assert_eq!(tool("a", "b__c"), "a__b__c");
        assert!(tool("a__b", "c").starts_with("a__b__c_"));
        assert_eq!(tool("a", "_b"), "a___b");
        assert_ne!(tool("a_", "b"), tool("a", "_b"));
        // A tool whose own name is the changed name of another.
        let changed = tool("a__b", "c");
        let copy = changed.strip_prefix("a__").unwrap();
        assert_ne!(tool("a", copy), changed);
        let changed = tool("llm", "v1.chat");
        assert_ne!(tool("llm", changed.strip_prefix("llm__").unwrap()), changed);
    }

    #[test]
    fn names_that_have_to_be_changed_differ_where_they_read_alike() {
        let long = "x".repeat(60);
        for (one, other) in [
            (("a", "b__c.d"), ("a__b", "c.d")),
            (("a", "_b.c"), ("a_", "b.c")),
            (("a", &*format!("b__{long}")), ("a__b", &*long)),
            (("a", "b__c_1234abcd"), ("a__b", "c_1234abcd")),
            (("a_", "_b.c"), ("a", "__b.c")),
        ] {
            assert_eq!(format!("{}__{}", one.0, one.1), format!("{}__{}", other.0, other.1));
            assert_ne!(tool(one.0, one.1), tool(other.0, other.1));
        }
        // A name in changed form is changed again.
        assert_eq!(tool("llm", "v1.chat"), format!("llm__v1_chat_{}", digits("llm__v1.chat")));
    }

    #[test]
    fn prompts_that_read_alike_have_names_of_their_own() {
        assert_eq!(prompt("my_files", "greet"), "my_files__greet");
        assert_eq!((prompt("a", "b__c"), prompt("a__b", "c")), ("a__b__c".into(), "a..b__c".into()));
        assert_eq!((prompt("a", "_b"), prompt("a_", "b")), ("a___b".into(), "a.__b".into()));
    }

    #[test]
    fn a_uri_begins_with_a_scheme() {
        assert_eq!(uri("my_files", "file:///a"), "my.files+file:///a");
        assert_eq!(uri("1st", "demo://a"), "x+1st+demo://a");
        assert_eq!(own_uri("1st", "x+1st+demo://a"), Some("demo://a"));
    }

    fn services() -> impl Strategy<Value = String> {
        prop_oneof!["[ab][ab_]{0,4}", "[a-z0-9][a-z0-9_-]{0,63}"]
    }

    fn tools() -> impl Strategy<Value = String> {
        prop_oneof!["[ab_.]{1,5}", "[a-zA-Z0-9_.-]{1,128}"]
    }

    /// The services and tools that a text can be read as.
    fn readings(text: &str) -> Vec<(&str, &str)> {
        let cuts = (1..text.len().saturating_sub(BETWEEN.len())).filter(|at| text[*at..].starts_with(BETWEEN));
        cuts.map(|at| (&text[..at], &text[at + BETWEEN.len()..])).collect()
    }

    /// Texts with several places where a service's id may end.
    fn ambiguous() -> impl Strategy<Value = String> {
        let part = prop_oneof!["_{0,2}", "[ab]{1,3}", "x{50,60}"];
        let last = prop_oneof!["_{0,2}[ab]", "[ab.]{1,4}", "x{50,70}", "[ab]_[0-9a-f]{8}", "[ab]_{1,3}"];
        (proptest::collection::vec(part, 1..4), last).prop_map(|(parts, last)| format!("a{}__{last}", parts.join("__")))
    }

    proptest! {
        /// Wherever a text is split into service and tool, the names differ.
        #[test]
        fn names_differ_for_all_readings_of_one_text(text in ambiguous()) {
            let mut names: Vec<String> = readings(&text).into_iter().map(|(service, own)| tool(service, own)).collect();
            prop_assert!(names.iter().all(|name| name.len() <= MAX_NAME));
            let count = names.len();
            prop_assert!(count > 0);
            names.sort_unstable();
            names.dedup();
            prop_assert_eq!(names.len(), count);
        }

        /// Clients accept every name, and no two tools share one.
        #[test]
        fn names_of_tools_are_taken_by_clients_and_differ(one in (services(), tools()), other in (services(), tools())) {
            let name = tool(&one.0, &one.1);
            prop_assert!((1..=64).contains(&name.len()));
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
            prop_assert!(may_be_of(&name, &one.0));
            prop_assert_eq!(name == tool(&other.0, &other.1), one == other);
            // Nor does a tool whose own name is the other's.
            let copy = name.get(one.0.len() + 2..).unwrap_or_default();
            prop_assert!(copy.is_empty() || copy == one.1 || tool(&one.0, copy) != name);
        }

        /// A prompt's name leads to its service and to no other.
        #[test]
        fn names_of_prompts_lead_to_one_service(one in services(), other in services(), own in "[ab_.+]{1,6}") {
            let name = prompt(&one, &own);
            prop_assert_eq!(own_prompt(&one, &name), Some(own.as_str()));
            prop_assert!(one == other || own_prompt(&other, &name).is_none());
        }

        /// A resource's URI leads to its service: a URI never begins with a digit.
        #[test]
        fn names_of_resources_lead_to_one_service(one in services(), other in services(), own in "[ab][ab+:/.]{0,6}") {
            let name = uri(&one, &own);
            prop_assert_eq!(own_uri(&one, &name), Some(own.as_str()));
            let longest = scheme(&one).len();
            prop_assert!(one == other || own_uri(&other, &name).is_none() || scheme(&other).len() < longest);
        }
    }
}
