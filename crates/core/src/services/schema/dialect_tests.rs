//! Schemas of older drafts.

use super::*;
use serde_json::json;

const DRAFT_4: &str = "http://json-schema.org/draft-04/schema#";
const DRAFT_6: &str = "http://json-schema.org/draft-06/schema#";
const DRAFT_7: &str = "http://json-schema.org/draft-07/schema#";
const DRAFT_2019: &str = "https://json-schema.org/draft/2019-09/schema";
const DRAFT_2020: &str = "https://json-schema.org/draft/2020-12/schema";

fn of(draft: &str, mut schema: Value) -> Result<Schema, Vec<Fault>> {
    if let Some(keywords) = schema.as_object_mut().filter(|_| !draft.is_empty()) {
        keywords.insert("$schema".into(), draft.into());
    }
    Schema::compile(&schema.to_string())
}

fn each(draft: &str, schema: Value, good: &[Value], bad: &[Value]) {
    let compiled = of(draft, schema.clone()).unwrap_or_else(|faults| panic!("{draft} {schema}: {faults:?}"));
    for value in good {
        assert_eq!(compiled.validate(value), Ok(()), "{draft} {schema} {value}");
    }
    for value in bad {
        assert!(compiled.validate(value).is_err(), "{draft} {schema} {value}");
    }
}

#[track_caller]
fn refused(draft: &str, schema: Value, pointer: &str, detail: &str) {
    let faults = of(draft, schema).unwrap_err();
    assert_eq!(faults[0].pointer, pointer, "{faults:?}");
    assert!(faults[0].detail.contains(detail), "{faults:?}");
}

#[test]
fn each_draft_is_known_by_its_name() {
    for draft in [DRAFT_4, DRAFT_6, DRAFT_7, DRAFT_2019, DRAFT_2020] {
        let bare = draft.trim_end_matches('#');
        let other =
            if bare.starts_with("https") { bare.replace("https", "http") } else { bare.replace("http", "https") };
        for name in [bare, &format!("{bare}#"), &other] {
            each(name, json!({"type": "object", "required": ["a"]}), &[json!({"a": 1})], &[json!({}), json!(1)]);
        }
    }
    for unknown in [
        "http://json-schema.org/draft-03/schema#",
        "http://json-schema.org/schema#",
        "https://acme.com/meta",
        "draft-07",
        "ftp://json-schema.org/draft-07/schema#",
        "http://json-schema.org/draft-07/schema#/a",
    ] {
        refused(
            unknown,
            json!({}),
            "/$schema",
            "http://json-schema.org/draft-07/schema, https://json-schema.org/draft/2019-09/schema",
        );
    }
    let nested = |inner: &str| json!({"definitions": {"a": {"$schema": inner, "type": "string"}}, "properties": {"a": {"$ref": "#/definitions/a"}}});
    each(DRAFT_7, nested(DRAFT_7), &[json!({"a": "x"})], &[json!({"a": 1})]);
    refused(
        DRAFT_7,
        nested(DRAFT_2020),
        "/definitions/a/$schema",
        "must be http://json-schema.org/draft-07/schema: a document has a single draft",
    );
    refused("", nested(DRAFT_4), "/definitions/a/$schema", "must be https://json-schema.org/draft/2020-12/schema");
    // A property of that name is not the keyword.
    each(
        DRAFT_7,
        json!({"properties": {"$schema": {"const": "x"}}}),
        &[json!({"$schema": "x"})],
        &[json!({"$schema": "y"})],
    );
}

#[test]
fn in_draft_4_bounds_are_exclusive_by_a_flag() {
    each(
        DRAFT_4,
        json!({"maximum": 3, "exclusiveMaximum": true, "minimum": 1, "exclusiveMinimum": false}),
        &[json!(1), json!(2.9)],
        &[json!(3), json!(0.9)],
    );
    each(DRAFT_4, json!({"maximum": 3}), &[json!(3)], &[json!(3.1)]);
    refused(DRAFT_4, json!({"exclusiveMaximum": true}), "", "exclusiveMaximum");
    refused(DRAFT_4, json!({"maximum": 3, "exclusiveMaximum": 3}), "/exclusiveMaximum", "must be a boolean");
    refused(DRAFT_6, json!({"maximum": 3, "exclusiveMaximum": true}), "/exclusiveMaximum", "must be a number");
    each(DRAFT_6, json!({"exclusiveMaximum": 3}), &[json!(2)], &[json!(3)]);
}

#[test]
fn keywords_count_from_their_draft_on() {
    // `id`, and unknown keywords.
    each(
        DRAFT_4,
        json!({"id": "http://a.de/root", "const": 1, "if": {}, "contains": {"type": "string"}, "propertyNames": false,
        "properties": {"id": {"type": "integer"}}}),
        &[json!({"id": 1}), json!([1])],
        &[json!({"id": "x"})],
    );
    each(
        DRAFT_4,
        json!({"id": "http://a.de/root", "items": {"$ref": "other"}, "definitions": {"a": {"id": "other", "type": "string"}}}),
        &[json!(["a"])],
        &[json!([1])],
    );
    each(
        DRAFT_4,
        json!({"items": {"$ref": "#here"}, "definitions": {"a": {"id": "#here", "type": "string"}}}),
        &[json!(["a"])],
        &[json!([1])],
    );
    each(
        DRAFT_7,
        json!({"items": {"$ref": "#here"}, "definitions": {"a": {"$id": "#here", "type": "string"}}}),
        &[json!(["a"])],
        &[json!([1])],
    );
    refused(
        DRAFT_7,
        json!({"items": {"$ref": "#here"}, "definitions": {"a": {"$anchor": "here"}}}),
        "/items/$ref",
        "names an unknown anchor",
    );
    each(DRAFT_6, json!({"const": 1, "if": false, "then": false}), &[json!(1)], &[json!(2)]);
    each(
        DRAFT_7,
        json!({"if": {"type": "string"}, "then": {"minLength": 2}, "dependentRequired": {"a": ["b"]}, "unevaluatedProperties": false}),
        &[json!("ab"), json!({"a": 1})],
        &[json!("a")],
    );
    each(
        DRAFT_2019,
        json!({"dependentRequired": {"a": ["b"]}, "contains": {"type": "string"}, "minContains": 2}),
        &[json!({"a": 1, "b": 1}), json!(["a", "b"])],
        &[json!({"a": 1}), json!(["a"])],
    );
    each(
        DRAFT_2019,
        json!({"properties": {"a": true}, "unevaluatedProperties": false}),
        &[json!({"a": 1})],
        &[json!({"b": 1})],
    );
    each(
        DRAFT_2019,
        json!({"$ref": "#/$defs/a", "maxLength": 3, "$defs": {"a": {"type": "string"}}}),
        &[json!("abc")],
        &[json!("abcd"), json!(1)],
    );
    refused(DRAFT_4, json!({"properties": {"a": true}}), "/properties/a", "must be an object");
    refused(DRAFT_4, json!({"required": []}), "/required", "at least 1");
}

#[test]
fn beside_a_reference_nothing_counts_up_to_draft_7() {
    let schema = json!({"properties": {"a": {"$ref": "#/definitions/A", "maxLength": 3, "pattern": "^x"}}, "definitions": {"A": {"type": "string"}}});
    for draft in [DRAFT_4, DRAFT_6, DRAFT_7] {
        each(draft, schema.clone(), &[json!({"a": "long text"})], &[json!({"a": 1})]);
    }
    for draft in [DRAFT_2019, DRAFT_2020, ""] {
        each(draft, schema.clone(), &[json!({"a": "xy"})], &[json!({"a": "long text"}), json!({"a": "y"})]);
    }
    // Not even an address; and its target exists all the same, as generators write it.
    let root = json!({"$id": "http://a.de/x", "$ref": "#/definitions/A", "definitions": {"A": {"properties": {"n": {"$ref": "#/definitions/A"}, "m": {"maximum": 1}}, "additionalProperties": false}}});
    each(DRAFT_7, root, &[json!({"n": {"n": {"m": 1}}})], &[json!({"n": {"o": 1}}), json!({"m": 2})]);
    // A cycle through an ignored keyword does not count.
    each(
        DRAFT_7,
        json!({"properties": {"a": {"$ref": "#/definitions/A", "allOf": [{"$ref": "#/properties/a"}]}}, "definitions": {"A": {}}}),
        &[json!({"a": 1})],
        &[],
    );
}

#[test]
fn lists_of_items_are_those_of_their_draft() {
    for draft in [DRAFT_4, DRAFT_6, DRAFT_7, DRAFT_2019] {
        let list = json!({"items": [{"type": "string"}, {"type": "integer"}], "additionalItems": {"type": "null"}});
        each(draft, list.clone(), &[json!(["a", 1, null]), json!([])], &[json!([1]), json!(["a", "b"])]);
        let faults = of(draft, list).unwrap().validate(&json!(["a", 1, null, 2, {"x": 1}])).unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.pointer.as_str()).collect::<Vec<_>>(), ["/3", "/4"], "{draft}");
        let closed = of(draft, json!({"items": [{}], "additionalItems": false})).unwrap();
        assert_eq!(
            closed.validate(&json!([1, 2, 3])).unwrap_err()[0].detail,
            "must not have more items than are listed, has 2 more"
        );
        each(
            draft,
            json!({"items": {"type": "string"}, "additionalItems": false}),
            &[json!(["a", "b"])],
            &[json!([1])],
        );
    }
    refused(DRAFT_2020, json!({"items": [{}]}), "/items", "must be a boolean or an object");
}

#[test]
fn dependencies_are_names_or_schemas() {
    for draft in [DRAFT_4, DRAFT_6, DRAFT_7] {
        let both = json!({"dependencies": {"a": ["b"], "c": {"properties": {"d": {"type": "string"}}}}});
        each(
            draft,
            both,
            &[json!({"a": 1, "b": 1}), json!({"c": 1, "d": "x"})],
            &[json!({"a": 1}), json!({"c": 1, "d": 1})],
        );
    }
}

#[test]
fn a_recursive_reference_leads_to_the_root() {
    let tree = json!({"$recursiveAnchor": true, "type": "object", "properties": {"n": {"$recursiveRef": "#"}, "v": {"type": "integer"}}, "additionalProperties": false});
    each(
        DRAFT_2019,
        tree,
        &[json!({"n": {"n": {"v": 1}}})],
        &[json!({"n": {"n": {"v": "x"}}}), json!({"n": {"o": 1}})],
    );
    let plain = json!({"properties": {"n": {"$recursiveRef": "#"}, "v": {"type": "integer"}}});
    each(DRAFT_2019, plain.clone(), &[json!({"n": {"v": 1}})], &[json!({"n": {"v": "x"}})]);
    // In 2020-12 it no longer has a meaning.
    each(DRAFT_2020, plain, &[json!({"n": {"v": "x"}})], &[json!({"v": "x"})]);
    let inner = json!({"$ref": "#/$defs/a", "$defs": {"a": {"$id": "a", "$recursiveAnchor": true, "items": {"$recursiveRef": "#"}}}});
    refused(DRAFT_2019, inner, "/$defs/a/items/$recursiveRef", "leads to a $recursiveAnchor");
}

#[test]
fn a_metaschema_is_that_of_the_same_draft() {
    for draft in [DRAFT_4, DRAFT_6, DRAFT_7, DRAFT_2019, DRAFT_2020] {
        each(
            draft,
            json!({"properties": {"s": {"$ref": draft}}}),
            &[json!({"s": {"minLength": 1}})],
            &[json!({"s": {"minLength": -1}})],
        );
    }
    refused(DRAFT_7, json!({"items": {"$ref": DRAFT_4}}), "/items/$ref", "refers outside of this document");
}

/// In a metaschema, `format` is an annotation as elsewhere. Only patterns must be valid, within limits.
#[test]
fn a_metaschema_asserts_no_formats() {
    let costly = "\\cA".repeat(60_000);
    for draft in [DRAFT_4, DRAFT_6, DRAFT_7, DRAFT_2019, DRAFT_2020] {
        each(
            draft,
            json!({"properties": {"s": {"$ref": draft}}}),
            &[
                json!({"s": {"pattern": "\\cA\\cB", "title": "\\cA".repeat(100)}}),
                json!({"s": {"$id": "a b", "id": "a b", "$schema": "a b"}}),
            ],
            &[
                json!({"s": {"pattern": 1}}),
                json!({"s": {"pattern": costly}}),
                json!({"s": {"patternProperties": {&costly: {}}}}),
            ],
        );
    }
}

/// The metaschema checks the siblings of a reference, so they are limited as elsewhere.
#[test]
fn siblings_of_a_reference_add_no_cost() {
    let nested = |levels: usize| (0..levels % 30).fold(json!(levels), |inner, _| json!([inner]));
    let alike: Vec<Value> = (0..2_000).map(nested).collect();
    for draft in [DRAFT_4, DRAFT_6, DRAFT_7] {
        for (place, at) in [(true, ""), (false, "/items")] {
            let put = |keyword: &str, value: Value| {
                let part = json!({"$ref": "#/definitions/a", keyword: value});
                let mut whole = if place { part } else { json!({"items": part}) };
                whole["definitions"] = json!({"a": {}});
                whole
            };
            refused(draft, put("pattern", "\\cA".repeat(60_000).into()), &format!("{at}/pattern"), "");
            let named = put("patternProperties", json!({"\\cA".repeat(60_000): {}}));
            assert!(of(draft, named).unwrap_err()[0].pointer.starts_with(&format!("{at}/patternProperties/")));
            refused(draft, put("enum", alike.clone().into()), &format!("{at}/enum"), "arrays of arrays");
        }
    }
}

fn doubling(levels: usize, keyword: &str, defs: &str) -> Value {
    let mut all = json!({"last": {"type": "object"}});
    for level in 0..levels {
        let next = if level + 1 == levels { format!("#/{defs}/last") } else { format!("#/{defs}/s{}", level + 1) };
        all[format!("s{level}")] = json!({"allOf": [{keyword: next}, {keyword: next}]});
    }
    json!({"allOf": [{keyword: format!("#/{defs}/s0")}], defs: all})
}

/// A limit in one draft is a limit in all.
#[test]
fn nothing_escapes_its_bounds_by_an_older_draft() {
    for draft in [DRAFT_4, DRAFT_6, DRAFT_7] {
        refused(draft, doubling(28, "$ref", "definitions"), "", "too many others");
        refused(draft, json!({"allOf": [{"$ref": "#"}]}), "", "refers back to itself");
        refused(draft, json!({"items": [{"pattern": "(?=a)"}]}), "/items/0/pattern", "linear time");
        refused(
            draft,
            json!({"additionalItems": {"pattern": "((a{100}){100}){100}"}}),
            "/additionalItems/pattern",
            "repeat too much",
        );
        refused(draft, json!({"items": vec![json!({}); MAX_SUBSCHEMAS]}), "", "more than 1000 subschemas");
        refused(draft, json!({"items": [{"$ref": "http://169.254.169.254/"}]}), "/items/0/$ref", "refers outside");
    }
    refused(DRAFT_2019, doubling(28, "$recursiveRef", "$defs"), "", "too many others");
    refused(DRAFT_2019, json!({"allOf": [{"$recursiveRef": "#"}]}), "", "refers back to itself");
    // boon treats it as a reference in 2020-12 too.
    assert!(of(DRAFT_2020, doubling(28, "$recursiveRef", "$defs")).unwrap().validate(&json!({})).is_ok());
    // Each level of the value is checked twice as often as the one above it.
    let node = json!({"items": [{"$ref": "#"}]});
    let deep = (0..40).fold(json!([]), |inner, _| json!([inner]));
    let twice = of(DRAFT_7, json!({"allOf": [node, node]})).unwrap();
    assert_eq!(
        twice.validate(&deep).unwrap_err()[0].detail,
        "is too large or too deep to be checked against this schema"
    );
    let names: Vec<Value> = (0..3000).map(|n| (0..n % 20).fold(json!([]), |inner, _| json!([inner]))).collect();
    for keyword in ["required", "enum", "type"] {
        refused(DRAFT_4, json!({keyword: names}), &format!("/{keyword}"), "too many items");
    }
    refused("", json!({"dependentRequired": {"a": names}}), "/dependentRequired/a", "too many items");
}
