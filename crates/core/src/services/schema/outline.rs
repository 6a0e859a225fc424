//! Shortens values for schemas that look no deeper than an object's members: of an array of a million numbers they only
//! see that it is an array.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::base::order;

/// Keywords that do not constrain a value.
const ANNOTATIONS: [&str; 7] = ["$schema", "$id", "$comment", "title", "description", "deprecated", "examples"];

/// Whether a schema only asks for the types of the value and its members, and for member names.
pub fn is_shallow(schema: &Value) -> bool {
    let Value::Object(keywords) = schema else { return false };
    keywords.iter().all(|(keyword, value)| match (keyword.as_str(), value) {
        ("type" | "required" | "additionalProperties", Value::String(_) | Value::Array(_) | Value::Bool(_)) => true,
        ("properties", Value::Object(members)) => members.values().all(asks_for_a_type),
        (keyword, _) => ANNOTATIONS.contains(&keyword),
    })
}

fn asks_for_a_type(schema: &Value) -> bool {
    match schema {
        Value::Bool(_) => true,
        Value::Object(keywords) => {
            keywords.keys().all(|keyword| keyword == "type" || ANNOTATIONS.contains(&keyword.as_str()))
        }
        _ => false,
    }
}

/// An empty value of the same type; numbers stay as they are.
fn empty(text: &str) -> &str {
    match text.as_bytes().first() {
        Some(b'{') => "{}",
        Some(b'[') => "[]",
        Some(b'"') => "\"\"",
        _ => text,
    }
}

/// The value as far as a shallow schema sees it.
pub fn outline(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    if !text.starts_with('{') {
        return Cow::Borrowed(empty(text));
    }
    let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else { return Cow::Borrowed(text) };
    let members = members.iter().map(|(name, raw)| (name.as_str(), stub(raw)));
    let members: BTreeMap<&str, &RawValue> = order::insert_all(members);
    serde_json::to_string(&members).map_or(Cow::Borrowed(text), Cow::Owned)
}

fn stub(raw: &RawValue) -> &RawValue {
    serde_json::from_str(empty(raw.get())).unwrap_or(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::schema::Schema;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn schemas_that_look_deeper_are_not_shallow() {
        for (schema, expected) in [
            (json!({"type": "object", "required": ["data"], "properties": {"data": {"type": "array"}}}), true),
            (json!({"type": ["object", "null"], "additionalProperties": false, "properties": {"a": true}}), true),
            (json!({"properties": {"data": {"type": "array", "minItems": 1}}}), false),
            (json!({"properties": {"data": {"items": {}}}}), false),
            (json!({"additionalProperties": {"type": "string"}}), false),
            (json!({"minProperties": 1}), false),
            (json!({"enum": [1]}), false),
            (json!({"$ref": "#/$defs/a", "$defs": {"a": {}}}), false),
            (json!(true), false),
        ] {
            assert_eq!(is_shallow(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn a_list_is_outlined_as_a_list() {
        assert_eq!(
            outline(r#" {"data":[1,[2]],"n":1.50,"s":"x","o":{"a":1},"z":null} "#),
            r#"{"data":[],"n":1.50,"o":{},"s":"","z":null}"#
        );
        assert_eq!(outline("[1,2]"), "[]");
        assert_eq!(outline("7"), "7");
    }

    proptest! {
        #[test]
        fn an_outline_passes_where_the_value_does(
            kind in "object|array|string|number|integer|null",
            member in "object|array|string|number|integer|null|boolean",
            value in r#"(\{("a":(1|1\.5|"x"|\[1\]|\{"b":1\}|null|true))?(,"c":2)?\}|\[1\]|"x"|1|null)"#,
            closed in any::<bool>(),
        ) {
            let value = value.replace("{,", "{");
            let schema = json!({"type": kind, "required": ["a"], "properties": {"a": {"type": member}}, "additionalProperties": !closed});
            prop_assert!(is_shallow(&schema));
            let schema = Schema::compile(&schema.to_string()).unwrap();
            let seen = |text: &str| schema.validate(&serde_json::from_str(text).unwrap()).map_err(|faults| faults.len());
            prop_assert_eq!(seen(&outline(&value)), seen(&value), "{}", value);
        }
    }
}
