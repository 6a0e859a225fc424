//! The schemas in a tool's definition, as far as clients check them: input schemas at their root; output schemas as a
//! whole, since a client compiles each as it reads a list, and an invalid one invalidates the list.

use std::borrow::Cow;

use serde_json::Value;
use serde_json::value::RawValue;

use super::definitions::Misfit;
use crate::base::json::{self, kind};

/// The type of a keyword's value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeywordType {
    Schema,
    Schemas,
    Map,
    /// One schema or, in older drafts, several.
    Items,
    Text,
    Texts,
    Number,
    Flag,
    List,
    Types,
}

const TYPES: [&str; 7] = ["object", "string", "number", "integer", "boolean", "array", "null"];

/// Keywords whose value is never `null`.
fn has(keyword: &str) -> Option<KeywordType> {
    Some(match keyword {
        "not"
        | "if"
        | "then"
        | "else"
        | "contains"
        | "propertyNames"
        | "additionalProperties"
        | "additionalItems"
        | "unevaluatedItems"
        | "unevaluatedProperties" => KeywordType::Schema,
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => KeywordType::Schemas,
        "properties" | "patternProperties" | "dependentSchemas" | "$defs" | "definitions" => KeywordType::Map,
        "items" => KeywordType::Items,
        "$schema" | "$id" | "$ref" | "$comment" | "title" | "description" | "pattern" | "format" => KeywordType::Text,
        "required" => KeywordType::Texts,
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" | "minLength" | "maxLength"
        | "minItems" | "maxItems" | "minProperties" | "maxProperties" => KeywordType::Number,
        "uniqueItems" => KeywordType::Flag,
        "enum" => KeywordType::List,
        "type" => KeywordType::Types,
        _ => return None,
    })
}

/// The schema as it can be listed; `None` if it needs no change.
pub(super) fn normalized(raw: &RawValue, arguments: bool) -> Result<Option<String>, Misfit> {
    if !raw.get().starts_with('{') {
        return Err(Misfit::expected("an object", raw));
    }
    let tidied = without_nulls(raw);
    let text = tidied.as_deref().unwrap_or(raw.get());
    if arguments {
        arguments_fit(text)?;
    } else {
        let document = serde_json::from_str::<Value>(text).map_err(|_| Misfit::new("cannot be read"))?;
        sound(&document, &Document::of(&document))?;
    }
    Ok(tidied)
}

/// Without `null` keywords, here and in all subschemas; `None` if there are none.
fn without_nulls(raw: &RawValue) -> Option<String> {
    // A quick test: most schemas have none.
    if !raw.get().contains("null") {
        return None;
    }
    let members = json::members(raw.get())?;
    let mut changed = false;
    let mut kept: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(members.len());
    for (name, value) in members {
        let Some(has) = has(&name) else {
            kept.push((name, value.get().into()));
            continue;
        };
        if value.get() == "null" {
            changed = true;
            continue;
        }
        let tidied = match has {
            KeywordType::Map => map_without_nulls(value),
            KeywordType::Schema => without_nulls(value),
            KeywordType::Schemas | KeywordType::Items if value.get().starts_with('[') => list_without_nulls(value),
            KeywordType::Items => without_nulls(value),
            _ => None,
        };
        changed |= tidied.is_some();
        kept.push((name, tidied.map_or_else(|| value.get().into(), Cow::Owned)));
    }
    changed.then(|| json::object(&kept))
}

fn map_without_nulls(raw: &RawValue) -> Option<String> {
    let members = json::members(raw.get())?;
    let mut changed = false;
    let mut kept: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(members.len());
    for (name, value) in members {
        if value.get() == "null" {
            changed = true;
            continue;
        }
        let tidied = without_nulls(value);
        changed |= tidied.is_some();
        kept.push((name, tidied.map_or_else(|| value.get().into(), Cow::Owned)));
    }
    changed.then(|| json::object(&kept))
}

fn list_without_nulls(raw: &RawValue) -> Option<String> {
    let items: Vec<&RawValue> = serde_json::from_str(raw.get()).ok()?;
    let tidied: Vec<Option<String>> = items.iter().map(|item| without_nulls(item)).collect();
    if tidied.iter().all(Option::is_none) {
        return None;
    }
    let texts: Vec<&str> = items.iter().zip(&tidied).map(|(item, own)| own.as_deref().unwrap_or(item.get())).collect();
    Some(format!("[{}]", texts.join(",")))
}

/// The schema with objects in place of boolean property schemas, which clients of 2025 do not accept; `None` if there
/// are none.
pub(super) fn with_objects(schema: &str) -> Option<String> {
    let members = json::members(schema)?;
    let properties = members.iter().find(|(name, _)| name == "properties")?.1;
    let properties = json::members(properties.get())?;
    if !properties.iter().any(|(_, value)| matches!(value.get(), "true" | "false")) {
        return None;
    }
    let as_object = |(name, value)| {
        let value: &RawValue = value;
        let value = match value.get() {
            "true" => "{}",
            "false" => r#"{"not":{}}"#,
            other => other,
        };
        (name, Cow::Borrowed(value))
    };
    let properties = json::object(&properties.into_iter().map(as_object).collect::<Vec<_>>());
    let kept = members.into_iter().map(|(name, value)| {
        let value = if name == "properties" { Cow::Borrowed(properties.as_str()) } else { value.get().into() };
        (name, value)
    });
    Some(json::object(&kept.collect::<Vec<_>>()))
}

/// What clients check in an input schema: an object with named schemas.
fn arguments_fit(text: &str) -> Result<(), Misfit> {
    for (name, value) in json::members(text).unwrap_or_default() {
        let fits = match &*name {
            "type" if value.get() == r#""object""# => Ok(()),
            "type" => Err(Misfit::new(r#"is not "object", as arguments are"#)),
            "$schema" if value.get().starts_with('"') => Ok(()),
            "$schema" => Err(Misfit::expected("a string", value)),
            "required" => strings(value),
            "properties" => named_schemas(value),
            _ => Ok(()),
        };
        fits.map_err(|misfit| misfit.within(&name))?;
    }
    Ok(())
}

fn strings(raw: &RawValue) -> Result<(), Misfit> {
    let items = serde_json::from_str::<Vec<&RawValue>>(raw.get()).map_err(|_| Misfit::expected("an array", raw))?;
    for (at, item) in items.into_iter().enumerate() {
        if !item.get().starts_with('"') {
            return Err(Misfit::expected("a string", item).within(&format!("[{at}]")));
        }
    }
    Ok(())
}

fn named_schemas(raw: &RawValue) -> Result<(), Misfit> {
    for (name, value) in json::members(raw.get()).ok_or_else(|| Misfit::expected("an object", raw))? {
        if !value.get().starts_with('{') && !matches!(value.get(), "true" | "false") {
            return Err(Misfit::expected("a schema", value).within(&name));
        }
    }
    Ok(())
}

/// Whether a schema can be compiled by the types of its keywords, and has no references outside itself.
fn sound(schema: &Value, root: &Document<'_>) -> Result<(), Misfit> {
    let keywords = match schema {
        Value::Object(keywords) => keywords,
        Value::Bool(_) => return Ok(()),
        other => return Err(Misfit::new(format!("is {}, not a schema", kind_of(other)))),
    };
    for (keyword, value) in keywords {
        let Some(has) = has(keyword) else { continue };
        keyword_sound(has, value, root).map_err(|misfit| misfit.within(keyword))?;
        if keyword == "$ref" && !root.has(value.as_str().unwrap_or_default()) {
            return Err(Misfit::new("refers to nothing in this schema").within(keyword));
        }
    }
    Ok(())
}

fn keyword_sound(has: KeywordType, value: &Value, root: &Document<'_>) -> Result<(), Misfit> {
    let expected = |what: &str| Err(Misfit::new(format!("is {}, not {what}", kind_of(value))));
    match (has, value) {
        (KeywordType::Schema, schema) => sound(schema, root),
        (KeywordType::Items, Value::Array(schemas)) | (KeywordType::Schemas, Value::Array(schemas)) => {
            for (at, schema) in schemas.iter().enumerate() {
                sound(schema, root).map_err(|misfit| misfit.within(&format!("[{at}]")))?;
            }
            Ok(())
        }
        (KeywordType::Items, schema) => sound(schema, root),
        (KeywordType::Map, Value::Object(schemas)) => {
            for (name, schema) in schemas {
                sound(schema, root).map_err(|misfit| misfit.within(name))?;
            }
            Ok(())
        }
        (KeywordType::Text, Value::String(_)) | (KeywordType::Number, Value::Number(_)) => Ok(()),
        (KeywordType::Flag, Value::Bool(_)) | (KeywordType::List, Value::Array(_)) => Ok(()),
        (KeywordType::Texts, Value::Array(texts)) if texts.iter().all(Value::is_string) => Ok(()),
        (KeywordType::Types, Value::String(name)) if TYPES.contains(&name.as_str()) => Ok(()),
        (KeywordType::Types, Value::Array(names)) if names.iter().all(is_type) => Ok(()),
        (KeywordType::Types, _) => Err(Misfit::new(format!("is not one of {}", TYPES.join(", ")))),
        (KeywordType::Schemas | KeywordType::List, _) => expected("an array"),
        (KeywordType::Texts, _) => expected("an array of strings"),
        (KeywordType::Map, _) => expected("an object"),
        (KeywordType::Text, _) => expected("a string"),
        (KeywordType::Number, _) => expected("a number"),
        (KeywordType::Flag, _) => expected("true or false"),
    }
}

fn is_type(name: &Value) -> bool {
    name.as_str().is_some_and(|name| TYPES.contains(&name))
}

fn kind_of(value: &Value) -> &'static str {
    serde_json::value::to_raw_value(value).map_or("something else", |raw| kind(&raw))
}

/// A schema as a whole, with the addresses and names of its parts.
struct Document<'d> {
    root: &'d Value,
    names: Vec<&'d str>,
    /// A part has its own address, to which the pointers within it are relative.
    embeds: bool,
}

impl<'d> Document<'d> {
    fn of(root: &'d Value) -> Self {
        let mut names = Vec::new();
        collect(root, &mut names);
        let own = root.get("$id").and_then(Value::as_str);
        let embeds = names.iter().any(|name| Some(*name) != own && !name.starts_with('#'));
        Self { root, names, embeds }
    }

    /// Whether a reference leads to something in here: by a pointer, an address or a name.
    fn has(&self, reference: &str) -> bool {
        match reference.strip_prefix('#') {
            Some("") => true,
            Some(pointer) if pointer.starts_with('/') => {
                self.embeds || self.root.pointer(&percent_decoded(pointer)).is_some()
            }
            Some(name) => self.names.iter().any(|given| given.strip_prefix('#').unwrap_or(given) == name),
            None => {
                let address = reference.split('#').next().unwrap_or_default();
                let last = address.rsplit('/').next().unwrap_or_default();
                self.names.iter().any(|given| *given == address || given.trim_end_matches('#').ends_with(last))
            }
        }
    }
}

/// The names and addresses of all parts of a schema.
fn collect<'d>(value: &'d Value, names: &mut Vec<&'d str>) {
    match value {
        Value::Object(all) => {
            for (name, value) in all {
                if matches!(name.as_str(), "$anchor" | "$dynamicAnchor" | "$id") {
                    names.extend(value.as_str());
                }
                collect(value, names);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        _ => {}
    }
}

fn percent_decoded(text: &str) -> Cow<'_, str> {
    match text.contains('%') {
        // As in a form, except for the plus.
        true => {
            let escaped = text.replace('+', "%2B");
            let pairs = url::form_urlencoded::parse(escaped.as_bytes()).next();
            Cow::Owned(pairs.map(|(name, _)| name.into_owned()).unwrap_or_default())
        }
        false => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(schema: &Value, arguments: bool) -> Result<Value, String> {
        let raw = RawValue::from_string(schema.to_string()).unwrap();
        match normalized(&raw, arguments) {
            Ok(None) => Ok(schema.clone()),
            Ok(Some(text)) => Ok(serde_json::from_str(&text).unwrap()),
            Err(misfit) => Err(misfit.to_string()),
        }
    }

    #[test]
    fn the_checked_parts_of_an_input_schema_are_valid() {
        for (schema, wrong) in [
            (json!({"type": ["object", "null"]}), r#"its type is not "object", as arguments are"#),
            (json!({"type": "object", "properties": []}), "its properties is an array, not an object"),
            (json!({"type": "object", "properties": {"a": "string"}}), "its properties.a is a string, not a schema"),
            (json!({"type": "object", "required": "a"}), "its required is a string, not an array"),
            (json!({"type": "object", "required": ["a", 1]}), "its required[1] is a number, not a string"),
            (json!({"type": "object", "$schema": 7}), "its $schema is a number, not a string"),
            (json!(true), "is a boolean, not an object"),
        ] {
            assert_eq!(of(&schema, true), Err(wrong.into()), "{schema}");
        }
        for schema in [
            json!({"type": "object", "properties": {"a": {"type": "strin", "$ref": "https://a.example/"}, "b": true}}),
            json!({"oneOf": [{"required": ["a"]}]}),
            json!({}),
        ] {
            assert_eq!(of(&schema, true), Ok(schema.clone()));
        }
    }

    #[test]
    fn a_keyword_that_is_null_is_left_out() {
        let schema = json!({"type": "object", "properties": {"b": {"type": "string", "format": null, "default": null},
            "a": null, "c": {"anyOf": [{"type": "null", "title": null}, {"items": {"enum": null}}], "const": null}},
            "required": null, "title": null, "x-own": null, "examples": [null]});
        let expected = json!({"type": "object", "properties": {"b": {"type": "string", "default": null},
            "c": {"anyOf": [{"type": "null"}, {"items": {}}], "const": null}}, "x-own": null, "examples": [null]});
        for arguments in [true, false] {
            assert_eq!(of(&schema, arguments), Ok(expected.clone()));
        }
        // The order of its members stays: models read it.
        let text = r#"{"type":"object","properties":{"z":{"type":"string"},"a":{"title":null}},"required":null}"#;
        let raw = RawValue::from_string(text.into()).unwrap();
        let expected = r#"{"type":"object","properties":{"z":{"type":"string"},"a":{}}}"#;
        assert_eq!(normalized(&raw, true).unwrap().as_deref(), Some(expected));
    }

    #[test]
    fn a_schema_of_results_can_be_compiled() {
        let within = |schema: Value| json!({"type": "object", "properties": {"a": schema}});
        for (schema, wrong) in [
            (json!({"type": "strin"}), "type is not one of object, string, number, integer, boolean, array, null"),
            (json!({"type": []}), ""),
            (json!({"$ref": "#/$defs/missing"}), "$ref refers to nothing in this schema"),
            (json!({"$ref": "https://a.example/schema"}), "$ref refers to nothing in this schema"),
            (json!({"minimum": "1"}), "minimum is a string, not a number"),
            (json!({"exclusiveMinimum": true}), "exclusiveMinimum is a boolean, not a number"),
            (json!({"enum": {}}), "enum is an object, not an array"),
            (json!({"items": [{}, 7]}), "items[1] is a number, not a schema"),
            (json!({"required": [1]}), "required is an array, not an array of strings"),
        ] {
            let expected =
                if wrong.is_empty() { Ok(within(schema.clone())) } else { Err(format!("its properties.a.{wrong}")) };
            assert_eq!(of(&within(schema.clone()), false), expected, "{schema}");
        }
        for schema in [
            json!({"$ref": "#"}),
            json!({"$ref": "#/properties/a"}),
            json!({"$anchor": "here", "not": {"$ref": "#here"}}),
            json!({"$id": "https://a.example/own", "not": {"$ref": "own#/x"}}),
            json!({"$id": "https://a.example/own", "$defs": {"x": {}}, "not": {"$ref": "#/$defs/x"}}),
            json!({"type": ["string", "null"], "pattern": "^(?=a)", "x-own": 7}),
        ] {
            assert!(of(&within(schema.clone()), false).is_ok(), "{schema}");
        }
        let spaced = json!({"$defs": {"a b+c": {}}, "allOf": [{"$ref": "#/$defs/a%20b+c"}]});
        assert!(of(&spaced, false).is_ok());
    }
}
