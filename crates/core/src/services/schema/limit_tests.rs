use super::tests::{assert_refused, refused, schema};
use super::*;
use serde_json::json;

#[test]
fn limits_are_refused() {
    let at_most = |n: usize| format!("{{{}}}", " ".repeat(n - 2));
    assert!(Schema::compile(&at_most(MAX_BYTES)).is_ok());
    assert_eq!(refused(&at_most(MAX_BYTES + 1))[0].1, "is larger than 262144 bytes");

    let nested = |n: usize| format!("{}true{}", "{\"not\":".repeat(n), "}".repeat(n));
    assert!(Schema::compile(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(refused(&nested(MAX_DEPTH + 1))[0].1, "is nested more than 32 levels deep");
    assert_eq!(refused(&nested(5_000))[0].1, "is not JSON, or is nested too deeply");
    assert_eq!(refused("{")[0].1, "is not JSON, or is nested too deeply");

    let wide = |n: usize| json!({"anyOf": vec![true; n]}).to_string();
    assert!(Schema::compile(&wide(MAX_SUBSCHEMAS - 1)).is_ok());
    assert_eq!(refused(&wide(MAX_SUBSCHEMAS))[0].1, "has more than 1000 subschemas");
}

#[test]
fn references_stay_inside_the_document() {
    let out = "refers outside of this document";
    for text in [
        "https://acme.com/other.json",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "other.json",
        "/other.json#/a",
        "//acme.com/x",
        "urn:uuid:4c6b6f6e-0000-0000-0000-000000000000",
        "http://json-schema.org/draft-07/schema#",
        "http://json-schema.org/draft/2020-12/schema",
        "https://json-schema.org/draft/2019-09/schema",
    ] {
        for keyword in ["$ref", "$dynamicRef"] {
            assert_refused(&json!({"items": {keyword: text}}), &format!("/items/{keyword}"), out);
            let hidden = json!({"$ref": "#/x", "x": {"a": 1, "items": {keyword: text}}});
            assert_refused(&hidden, &format!("/x/items/{keyword}"), out);
        }
    }
    assert_refused(&json!({"$ref": "http://["}), "/$ref", "is not a URI reference");
    assert_refused(&json!({"$ref": "#%ff"}), "/$ref", "is not a URI reference");
    assert_refused(&json!({"$ref": "#/$defs/a"}), "/$ref", "refers to nothing");
    assert_refused(&json!({"$ref": "#a"}), "/$ref", "names an unknown anchor");
    assert_refused(&json!({"$ref": "#/title", "title": "x"}), "/$ref", "not a schema");
    assert_refused(&json!({"$id": "https://acme.com/a", "$ref": "https://acme.com/b"}), "/$ref", out);
    schema(&json!({"$id": "https://acme.com/a", "items": {"$ref": "https://acme.com/a"}}));
    schema(&json!({"$id": "urn:acme:a", "items": {"$ref": "urn:acme:a#"}}));
    // Something that only looks like a reference is not one.
    schema(&json!({"const": {"$ref": "https://acme.com/b"}, "x-note": {"$ref": "other.json"}}));
    schema(&json!({"properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}}}));
}

#[test]
fn names_inside_a_document_are_unique() {
    let twice = json!({"$defs": {"a": {"$anchor": "x"}, "b": {"$dynamicAnchor": "x"}}});
    assert_refused(&twice, "/$defs/b/$dynamicAnchor", "another anchor");
    let twice = json!({"$defs": {"a": {"$id": "x"}, "b": {"$id": "x"}}});
    assert_refused(&twice, "/$defs/b/$id", "another part");
    assert_refused(&json!({"$id": "http://["}), "/$id", "is not a URI reference");
}

#[test]
fn breaches_of_the_metaschema_are_pointed_at() {
    assert_refused(&json!({"minLength": -1}), "/minLength", "must be at least 0");
    assert_refused(&json!({"properties": {"a/b": {"required": "x"}}}), "/properties/a~1b/required", "must be an array");
    assert_refused(&json!({"items": []}), "/items", "must be a boolean or an object");
    assert_refused(&json!(1), "", "must be a boolean or an object");
    assert_refused(&json!({"$ref": 5}), "/$ref", "must be a string");
    assert_refused(&json!({"$ref": "#/x/y", "x": {"y": {"minLength": "a"}}}), "/x/y/minLength", "must be an integer");
    let kinds = refused(&json!({"type": "thing"}).to_string());
    assert!(kinds.iter().all(|(pointer, _)| pointer == "/type"), "{kinds:?}");
}

#[test]
fn patterns_that_cannot_be_compiled_are_pointed_at() {
    let broken = "is not an ECMA-262 regular expression that runs in linear time";
    for pattern in ["(", "(?=a)", "(?<!a)", "(a)\\1", "[z-a]", "a{2,1}", "\\p{Nope}", "*", "\\p{L}{200}{200}"] {
        let text = json!({"items": {"pattern": pattern}});
        let faults = refused(&text.to_string());
        assert!(faults[0].1.contains(broken) || faults[0].1.contains("repeat too much"), "{faults:?}");
        if faults[0].1.contains(broken) {
            assert_eq!(faults[0].0, "/items/pattern");
        }
    }
    let names = json!({"patternProperties": {"a/(": true, "^b": {"pattern": "["}}});
    let found = refused(&names.to_string());
    assert_eq!(found[0].0, "/patternProperties/a~1(");
    assert_eq!(found[1].0, "/patternProperties/^b/pattern");
    assert_refused(&json!({"pattern": "(?ix)a"}), "/pattern", "flag x");
    assert_refused(&json!({"pattern": "a(?-i:b(?x:c))"}), "/pattern", "flag x");
    schema(&json!({"pattern": "(?:x)(?<x>y)(x)"}));
}

#[test]
fn heavy_patterns_are_refused_and_usual_ones_are_not() {
    for usual in [
        "^[\\p{L}\\p{M}' -]{1,100}$",
        "^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d{1,9})?Z$",
        "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$",
        "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        "^((25[0-5]|2[0-4]\\d|1?\\d?\\d)\\.){3}(25[0-5]|2[0-4]\\d|1?\\d?\\d)$",
        "^[A-Za-z0-9+/]{1,4000}={0,2}$",
        "^.{1,2000}$",
        "^\\{[^}]*\\}[]a]\\x{41}$",
    ] {
        schema(&json!({"pattern": usual}));
    }
    for heavy in ["((a{100}){100}){100}", "(?:.|a){4294967295}", "(?:\\p{L}{200}){200}", "[^a]{60000}"] {
        assert_refused(&json!({"items": {"pattern": heavy}}), "/items/pattern", "repeat too much");
    }
    let many: Vec<Value> = (0..300).map(|n| json!({"pattern": format!("{n}[a-z]{{400}}")})).collect();
    assert_refused(&json!({"anyOf": many}), "", "too many patterns");
}

#[test]
fn a_schema_may_not_go_in_circles() {
    let circle = "refers back to itself";
    assert_refused(&json!({"$ref": "#"}), "", circle);
    assert_refused(&json!({"anyOf": [{"type": "null"}, {"$ref": "#"}]}), "", circle);
    let two = json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}});
    assert_refused(&two, "/$defs/a", circle);
}

fn doubling(levels: usize) -> Value {
    let mut all = json!({"last": {"type": "object"}});
    for level in 0..levels {
        let next = if level + 1 == levels { "#/$defs/last".into() } else { format!("#/$defs/s{}", level + 1) };
        all[format!("s{level}")] = json!({"allOf": [{"$ref": next}, {"$ref": next}]});
    }
    json!({"$ref": "#/$defs/s0", "$defs": all})
}

#[test]
fn references_that_multiply_are_refused() {
    schema(&doubling(8));
    assert_refused(&doubling(28), "", "too many others");
    // Each level of the value is checked twice as often as the one above it.
    let node = json!({"properties": {"n": {"$ref": "#"}}});
    let text = json!({"allOf": [node, node]});
    let deep = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({"n": inner}));
    assert_eq!(schema(&text).validate(&deep(10)), Ok(()));
    let found = schema(&text).validate(&deep(40)).unwrap_err();
    assert_eq!(found[0].detail, "is too large or too deep to be checked against this schema");
}

/// The deepest accepted value has 64 levels; the usual recursive schemas must handle it.
#[test]
fn deep_values_are_checked_as_far_as_the_stack_allows() {
    let deep = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({"n": inner}));
    let plain = schema(&json!({"properties": {"n": {"$ref": "#"}}}));
    assert_eq!(plain.validate(&deep(64)), Ok(()));
    let union = schema(&json!({"properties": {"n": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}));
    assert_eq!(union.validate(&deep(64)), Ok(()));
    assert!(union.validate(&deep(120)).is_err());
    let disjoint = schema(&json!({
        "$defs": {"e": {"properties": {"l": {"$ref": "#/$defs/t"}, "n": {"$ref": "#/$defs/t"}}},
                  "t": {"properties": {"l": {"$ref": "#/$defs/e"}, "n": {"$ref": "#/$defs/e"}}}},
        "$ref": "#/$defs/e"
    }));
    assert_eq!(disjoint.validate(&deep(64)), Ok(()));
    let map = schema(&json!({"properties": {"n": {"$ref": "#"}}, "additionalProperties": {"$ref": "#"}}));
    assert_eq!(map.validate(&deep(64)), Ok(()));
    let meta = schema(&json!({"$ref": Dialect::Draft2020.url()}));
    let nots = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({"not": inner}));
    assert_eq!(meta.validate(&nots(30)), Ok(()));
    assert!(meta.validate(&nots(60)).is_err());
}
