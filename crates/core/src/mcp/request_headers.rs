//! The headers that repeat parts of the body, so that routers and servers see the same values.
//!
//! A value that is not plain header text is sent as `=?base64?…?=`.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::error::Error;
use crate::base::json::Object;

const BEFORE: &str = "=?base64?";
const AFTER: &str = "?=";

/// The headers that repeat parts of the body.
#[derive(Debug, Default, Clone, Copy)]
pub struct Headers<'h> {
    /// `MCP-Protocol-Version`
    pub version: Option<&'h str>,
    /// `Mcp-Method`
    pub method: Option<&'h str>,
    /// `Mcp-Name`
    pub name: Option<&'h str>,
}

/// Decodes a header value; `None` if it is invalid.
pub fn decoded(value: &str) -> Option<Cow<'_, str>> {
    let value = value.trim_matches([' ', '\t']);
    if value.bytes().any(|byte| !matches!(byte, b' '..=b'~' | b'\t')) {
        return None;
    }
    let Some(encoded) = value.strip_prefix(BEFORE).and_then(|rest| rest.strip_suffix(AFTER)) else {
        return Some(Cow::Borrowed(value));
    };
    let bytes = STANDARD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Encodes a value for a header.
pub fn encoded(value: &str) -> Cow<'_, str> {
    let is_plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && value == value.trim_ascii()
        && !(value.starts_with(BEFORE) && value.ends_with(AFTER));
    if is_plain { Cow::Borrowed(value) } else { Cow::Owned(format!("{BEFORE}{}{AFTER}", STANDARD.encode(value))) }
}

/// The parameter that `Mcp-Name` repeats for a method.
fn named_by(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

/// The value of that parameter in the body.
pub fn name_in(method: &str, params: Option<&RawValue>) -> Option<String> {
    let mut params = Object::new(params?.get(), "#").ok()?;
    let name = params.raw(named_by(method)?)?;
    serde_json::from_str(name.get()).ok()
}

impl Headers<'_> {
    /// Whether the version header, if present, matches the body.
    pub fn agree_on_version(&self, version: &str) -> Result<(), Error> {
        let said = self.version.map(str::trim);
        if said.is_none_or(|said| said == version) {
            return Ok(());
        }
        Err(Error::Header("MCP-Protocol-Version differs from the version in the body".into()))
    }

    /// All headers must be present and match the body.
    pub fn check(&self, method: &str, params: Option<&RawValue>) -> Result<(), Error> {
        if self.version.is_none() {
            return Err(Error::Header("MCP-Protocol-Version is missing".into()));
        }
        equal("Mcp-Method", self.method, method)?;
        match name_in(method, params) {
            Some(name) => equal("Mcp-Name", self.name, &name),
            None => Ok(()),
        }
    }
}

fn equal(header: &str, value: Option<&str>, body: &str) -> Result<(), Error> {
    let Some(value) = value else {
        return Err(Error::Header(format!("{header} is missing")));
    };
    match decoded(value) {
        Some(said) if said == body => Ok(()),
        Some(_) => Err(Error::Header(format!("{header} does not match the body"))),
        None => Err(Error::Header(format!("{header} has invalid characters or an invalid encoding"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_is_read_as_it_was_meant() {
        for (value, meant) in [
            ("us-west1", Some("us-west1")),
            ("  padded\t", Some("padded")),
            ("=?base64?SGVsbG8sIOS4lueVjA==?=", Some("Hello, 世界")),
            ("=?base64?IHBhZGRlZCA=?=", Some(" padded ")),
            ("=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=", Some("=?base64?literal?=")),
            ("=?base64??=", Some("")),
            ("SGVsbG8=", Some("SGVsbG8=")),
            ("=?base64?SGVsbG8=", Some("=?base64?SGVsbG8=")),
            ("=?BASE64?SGVsbG8=?=", Some("=?BASE64?SGVsbG8=?=")),
            ("=?base64?SGVsbG8?=", None),
            ("=?base64?SGVs!!!bG8=?=", None),
            ("=?base64?/w==?=", None),
            ("grün", None),
            ("a\u{7f}", None),
        ] {
            assert_eq!(decoded(value).as_deref(), meant, "{value}");
        }
    }

    #[test]
    fn headers_match_the_body() {
        let params = RawValue::from_string(r#"{"name":"grüß","uri":"file:///a","taskId":"ctx_1"}"#.into()).unwrap();
        let with = |method, name| Headers { version: Some("2026-07-28"), method, name };
        let check = |headers: Headers<'_>, method| headers.check(method, Some(&params)).is_ok();
        assert!(check(with(Some("tools/call"), Some("=?base64?Z3LDvMOf?=")), "tools/call"));
        assert!(check(with(Some(" prompts/get "), Some("=?base64?Z3LDvMOf?=")), "prompts/get"));
        assert!(check(with(Some("resources/read"), Some("file:///a")), "resources/read"));
        assert!(check(with(Some("tasks/get"), Some("ctx_1")), "tasks/get"));
        assert!(check(with(Some("tools/list"), None), "tools/list"));
        assert!(!check(with(Some("TOOLS/LIST"), None), "tools/list"));
        assert!(!check(with(None, None), "tools/list"));
        assert!(!check(with(Some("tools/call"), None), "tools/call"));
        assert!(!check(with(Some("tools/call"), Some("other")), "tools/call"));
        assert!(!check(with(Some("tasks/cancel"), Some("ctx_2")), "tasks/cancel"));
        assert!(!check(Headers { method: Some("tools/list"), ..Headers::default() }, "tools/list"));
    }

    #[test]
    fn a_body_without_a_name_asks_for_no_header_of_it() {
        let headers = Headers { version: Some("2026-07-28"), method: Some("tools/call"), name: None };
        let params = RawValue::from_string(r#"{"name":7}"#.into()).unwrap();
        assert!(headers.check("tools/call", Some(&params)).is_ok());
        assert!(headers.check("tools/call", None).is_ok());
    }

    proptest! {
        /// Every text has an encoding that decodes to it, and to no other.
        #[test]
        fn encoding_round_trips(text in "\\PC{0,40}", other in "\\PC{0,40}") {
            let value = format!("{BEFORE}{}{AFTER}", STANDARD.encode(&text));
            let meant = decoded(&value);
            prop_assert_eq!(meant.as_deref(), Some(text.as_str()));
            prop_assert_eq!(meant.as_deref() == Some(other.as_str()), text == other);
            // A value that is not encoded decodes to itself, or to nothing.
            if let Some(plain) = decoded(&other) && !other.contains(BEFORE) {
                prop_assert_eq!(plain, other.trim_matches([' ', '\t']));
            }
        }
    }
}
