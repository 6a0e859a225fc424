//! `x-mcp-header`: tool parameters that a modern client repeats as `Mcp-Param-…` headers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::error::Error;
use super::request_headers::{decoded, encoded};
use crate::base::order;

const MARK: &str = "x-mcp-header";
/// How many levels of properties are searched.
const MAX_DEPTH: usize = 8;
/// The largest integer that is compared as a number (2^53 − 1).
const MAX_INTEGER: f64 = 9_007_199_254_740_991.0;

/// A parameter with its header.
#[derive(Debug, PartialEq)]
struct HeaderParam {
    path: Vec<String>,
    header: String,
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn collect(schema: &Value, path: &mut Vec<String>, found: &mut Vec<HeaderParam>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object).filter(|_| path.len() < MAX_DEPTH)
    else {
        return;
    };
    for (name, property) in properties {
        path.push(name.clone());
        if let Some(header) = property.get(MARK).and_then(Value::as_str).filter(|header| is_token(header)) {
            found
                .push(HeaderParam { path: path.clone(), header: format!("mcp-param-{}", header.to_ascii_lowercase()) });
        }
        collect(property, path, found);
        path.pop();
    }
}

fn says(header: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => header == text,
        Value::Bool(value) => header == if *value { "true" } else { "false" },
        // A client may write 42 as 42.0.
        Value::Number(number) => {
            let number = number.as_f64().filter(|number| number.abs() <= MAX_INTEGER);
            number.is_some() && header.parse().ok() == number
        }
        _ => false,
    }
}

/// Whether the headers repeat the arguments where the tool's schema requires it. `header` returns a header by its
/// lower-case name.
pub fn check<'h>(schema: &str, arguments: &str, header: impl Fn(&str) -> Option<&'h str>) -> Result<(), Error> {
    // Most schemas have none, and are not parsed.
    if !schema.contains(MARK) {
        return Ok(());
    }
    let (Ok(schema), Ok(arguments)) = (serde_json::from_str(schema), serde_json::from_str::<Value>(arguments)) else {
        return Ok(());
    };
    let mut found = Vec::new();
    collect(&schema, &mut Vec::new(), &mut found);
    for HeaderParam { path, header: name } in found {
        let value = path.iter().try_fold(&arguments, |at, member| at.get(member)).filter(|value| !value.is_null());
        let agrees = match (value, header(&name)) {
            (None, None) => true,
            (Some(value), Some(text)) => decoded(text).is_some_and(|text| says(&text, value)),
            _ => false,
        };
        if !agrees {
            let parameter = path.join(".");
            return Err(Error::Header(format!(
                "{name} must repeat the argument {parameter}, and must be absent without it"
            )));
        }
    }
    Ok(())
}

/// The headers that repeat the arguments, for a server whose tool has this schema.
pub fn headers(schema: &str, arguments: &str) -> Vec<(String, String)> {
    if !schema.contains(MARK) {
        return Vec::new();
    }
    let (Ok(schema), Ok(arguments)) = (serde_json::from_str(schema), serde_json::from_str::<Value>(arguments)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    collect(&schema, &mut Vec::new(), &mut found);
    let said = found.into_iter().filter_map(|HeaderParam { path, header }| {
        let value = path.iter().try_fold(&arguments, |at, member| at.get(member))?;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            _ => return None,
        };
        Some((header, encoded(&text).into_owned()))
    });
    said.collect()
}

/// The number of marks in a schema, wherever they are.
fn marks(schema: &Value) -> usize {
    match schema {
        Value::Object(members) => usize::from(members.contains_key(MARK)) + members.values().map(marks).sum::<usize>(),
        Value::Array(items) => items.iter().map(marks).sum(),
        _ => 0,
    }
}

/// Whether a tool with this schema may be offered: each mark is a distinct token, on a string, an integer or a boolean
/// that is reached through properties only.
pub fn is_valid(schema: &str) -> bool {
    if !schema.contains(MARK) {
        return true;
    }
    let Ok(schema) = serde_json::from_str::<Value>(schema) else { return false };
    let mut found = Vec::new();
    collect(&schema, &mut Vec::new(), &mut found);
    let primitive = |mirrored: &HeaderParam| {
        let property = mirrored.path.iter().try_fold(&schema, |at, name| at.get("properties")?.get(name));
        let of_type = property.and_then(|property| property.get("type")).and_then(Value::as_str);
        matches!(of_type, Some("string" | "integer" | "boolean"))
    };
    let names: BTreeSet<&str> = order::insert_all(found.iter().map(|mirrored| mirrored.header.as_str()));
    names.len() == found.len() && found.len() == marks(&schema) && found.iter().all(primitive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCHEMA: &str = r#"{"type":"object","properties":{
        "region":{"type":"string","x-mcp-header":"Region"},
        "count":{"type":"integer","x-mcp-header":"Count"},
        "dry":{"type":"boolean","x-mcp-header":"Dry"},
        "bad":{"type":"string","x-mcp-header":"not a token"},
        "list":{"type":"array","items":{"properties":{"a":{"x-mcp-header":"Never"}}}},
        "deep":{"type":"object","properties":{"key":{"type":"string","x-mcp-header":"Key"}}}}}"#;

    fn agrees(arguments: &str, headers: &[(&str, &str)]) -> bool {
        let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        match check(SCHEMA, arguments, header) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!((error.code(), error.status()), (-32020, 400));
                false
            }
        }
    }

    #[test]
    fn headers_repeat_the_arguments_they_are_for() {
        let region = |value| [("mcp-param-region", value)];
        assert!(agrees("{}", &[]));
        assert!(agrees(r#"{"region":null}"#, &[]));
        assert!(agrees(r#"{"region":"eu"}"#, &region("eu")));
        assert!(agrees(r#"{"region":"Hello"}"#, &region("=?base64?SGVsbG8=?=")));
        assert!(agrees(r#"{"region":"SGVsbG8="}"#, &region("SGVsbG8=")));
        assert!(agrees(r#"{"region":"=?base64?SGVsbG8="}"#, &region("=?base64?SGVsbG8=")));
        assert!(agrees(r#"{"count":42}"#, &[("mcp-param-count", "42.0")]));
        assert!(agrees(r#"{"dry":true}"#, &[("mcp-param-dry", "true")]));
        assert!(agrees(r#"{"deep":{"key":"a"}}"#, &[("mcp-param-key", "a")]));
        assert!(agrees(r#"{"list":[{"a":1}],"bad":"x"}"#, &[]));
        assert!(!agrees(r#"{"region":"eu"}"#, &[]));
        assert!(!agrees(r#"{"region":"eu"}"#, &region("us")));
        assert!(!agrees("{}", &region("eu")));
        assert!(!agrees(r#"{"region":"Hello"}"#, &region("=?base64?SGVsbG8?=")));
        assert!(!agrees(r#"{"region":"Hello"}"#, &region("=?base64?SGVs!!!bG8=?=")));
        assert!(!agrees(r#"{"count":42}"#, &[("mcp-param-count", "41")]));
        assert!(!agrees(r#"{"dry":true}"#, &[("mcp-param-dry", "True")]));
        assert!(!agrees(r#"{"deep":{"key":"a"}}"#, &[]));
    }

    #[test]
    fn a_schema_that_marks_nothing_asks_for_nothing() {
        assert!(check(r#"{"type":"object"}"#, r#"{"a":1}"#, |_| Some("x")).is_ok());
    }

    proptest! {
        /// Only the exact value is accepted, however it is encoded.
        #[test]
        fn a_header_matches_only_its_argument(value in "\\PC{0,12}", other in "\\PC{0,12}") {
            use base64::Engine;
            let arguments = serde_json::json!({"region": value}).to_string();
            let header = format!("=?base64?{}?=", base64::engine::general_purpose::STANDARD.encode(&other));
            prop_assert_eq!(agrees(&arguments, &[("mcp-param-region", &header)]), value == other);
        }
    }

    #[test]
    fn forwarded_headers_pass_the_check() {
        let arguments = r#"{"region":"grüß","count":42,"dry":false,"deep":{"key":" a"},"list":[{"a":1}]}"#;
        let headers = headers(SCHEMA, arguments);
        let said = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert!(check(SCHEMA, arguments, said).is_ok(), "{headers:?}");
        assert_eq!(headers.len(), 4);
        assert!(super::headers(SCHEMA, "{}").is_empty());
    }

    #[test]
    fn a_mark_that_cannot_be_followed_makes_a_tool_useless() {
        let with = |property: &str| is_valid(&format!(r#"{{"type":"object","properties":{{"a":{property}}}}}"#));
        assert!(with(r#"{"type":"string","x-mcp-header":"A"}"#) && with(r#"{"type":"string"}"#));
        assert!(with(r#"{"type":"object","properties":{"b":{"type":"boolean","x-mcp-header":"B"}}}"#));
        for property in [
            r#"{"type":"number","x-mcp-header":"A"}"#,
            r#"{"type":"string","x-mcp-header":""}"#,
            r#"{"type":"string","x-mcp-header":"not a token"}"#,
            r#"{"type":"string","x-mcp-header":7}"#,
            r#"{"type":"array","items":{"type":"string","x-mcp-header":"A"}}"#,
            r#"{"anyOf":[{"type":"string","x-mcp-header":"A"}]}"#,
            r#"{"type":"object","properties":{"b":{"type":"string","x-mcp-header":"A"},"c":{"type":"string","x-mcp-header":"a"}}}"#,
        ] {
            assert!(!with(property), "{property}");
        }
    }
}
