//! The formats of strings contain each other as their standards say, and a string of another format has one fault.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use narthex_core::services::schema::{Formats, Schema};
use narthex_fuzz::two_texts;

const NAMES: [&str; 19] = [
    "date-time",
    "date",
    "time",
    "duration",
    "email",
    "idn-email",
    "hostname",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "uri",
    "uri-reference",
    "iri",
    "iri-reference",
    "uri-template",
    "uuid",
    "json-pointer",
    "relative-json-pointer",
    "regex",
];

thread_local! {
    static SCHEMAS: BTreeMap<&'static str, Schema> = NAMES
        .iter()
        .map(|name| {
            let schema = Schema::compile_as(&format!(r#"{{"format":"{name}"}}"#), Formats::Assert);
            (*name, schema.unwrap_or_else(|faults| panic!("{name}: {faults:?}")))
        })
        .collect();
}

/// Whether a text has this format.
fn is(name: &str, text: &str) -> bool {
    let value = serde_json::Value::from(text).to_string();
    SCHEMAS.with(|schemas| match schemas[name].check(&value) {
        Ok(()) => true,
        Err(faults) => {
            let [fault] = faults.as_slice() else { panic!("{name}: {faults:?}") };
            assert!(fault.pointer.is_empty() && fault.detail.len() <= 200, "{name}: {fault:?}");
            false
        }
    })
}

/// Addresses, and the references that contain them.
fn references(text: &str) {
    let (uri, iri) = (is("uri", text), is("iri", text));
    let (uri_reference, iri_reference) = (is("uri-reference", text), is("iri-reference", text));
    assert_eq!(uri, iri && text.is_ascii());
    assert_eq!(uri_reference, iri_reference && text.is_ascii());
    assert!(!iri || iri_reference);
    // A template has no apostrophe outside of expressions (RFC 6570 §2.1).
    assert!(!uri_reference || text.contains('\'') || is("uri-template", text));
}

/// Hosts and mailboxes.
fn hosts(text: &str) {
    let (host, ipv4, ipv6) = (is("hostname", text), is("ipv4", text), is("ipv6", text));
    assert!(!ipv4 || host);
    assert!(!(ipv4 && ipv6));
    // Names with two hyphens may be encoded ones (RFC 5891 §4.2.3.1).
    let is_encoded = text.contains("--");
    assert!(!host || is_encoded || is("idn-hostname", text));
    assert!(!is("email", text) || is_encoded || is("idn-email", text));
    if text.len() <= 200 && !text.contains(['@', '[', ']', ':']) {
        assert_eq!(is("email", &format!("a@{text}")), host);
        assert_eq!(is("email", &format!("a@[{text}]")), ipv4);
    }
    if text.len() <= 200 && !text.contains('@') {
        assert_eq!(is("email", &format!("a@[IPv6:{text}]")), ipv6);
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((text, other)) = two_texts(input) else { return };
    references(text);
    hosts(text);
    is("regex", text);

    let (date, time) = (is("date", text), is("time", other));
    for separator in ['T', 't'] {
        assert_eq!(is("date-time", &format!("{text}{separator}{other}")), date && time);
    }
    let digits = |text: &str| text.replacen(|c: char| c.is_ascii_digit(), "07", 1);
    assert!(!is("duration", text) || is("duration", &digits(text)));
    assert_eq!(is("uuid", text), is("uuid", &text.to_ascii_uppercase()));

    let pointer = is("json-pointer", text);
    assert!(!pointer || is("json-pointer", &format!("{text}/~0{text}")));
    if text.is_empty() || text.starts_with('/') {
        assert_eq!(is("relative-json-pointer", &format!("20{text}")), pointer);
        assert_eq!(is("relative-json-pointer", &format!("0-1{text}")), pointer);
    }
});
