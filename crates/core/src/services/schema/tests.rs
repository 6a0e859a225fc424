use super::*;
use proptest::prelude::*;
use serde_json::json;

pub(super) fn schema(text: &Value) -> Schema {
    Schema::compile(&text.to_string()).unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

pub(super) fn pairs(faults: Vec<Fault>) -> Vec<(String, String)> {
    faults.into_iter().map(|f| (f.pointer, f.detail)).collect()
}

/// The faults of an invalid schema.
pub(super) fn refused(text: &str) -> Vec<(String, String)> {
    match Schema::compile(text) {
        Ok(_) => panic!("{text} is accepted"),
        Err(faults) => pairs(faults),
    }
}

pub(super) fn assert_refused(text: &Value, pointer: &str, detail: &str) {
    let faults = refused(&text.to_string());
    assert_eq!(faults.len(), 1, "{text}: {faults:?}");
    assert_eq!(faults[0].0, pointer, "{text}: {faults:?}");
    assert!(faults[0].1.contains(detail), "{text}: {faults:?}");
}

/// The faults of a value.
pub(super) fn faults(text: &Value, instance: &Value) -> Vec<(String, String)> {
    match schema(text).validate(instance) {
        Ok(()) => panic!("{instance} fits {text}"),
        Err(faults) => pairs(faults),
    }
}

pub(super) fn assert_faults(text: &Value, instance: &Value, wanted: &[(&str, &str)]) {
    let found = faults(text, instance);
    let found: Vec<_> = found.iter().map(|(p, d)| (p.as_str(), d.as_str())).collect();
    assert_eq!(found, wanted, "{instance} against {text}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of schemas")]
fn the_vocabularies_of_2020_12_are_understood() {
    let tree = json!({
        "$id": "https://acme.com/strict-tree", "$dynamicAnchor": "node",
        "$ref": "tree", "unevaluatedProperties": false,
        "$defs": {"tree": {
            "$id": "https://acme.com/tree", "$dynamicAnchor": "node", "type": "object",
            "properties": {"data": true, "children": {"type": "array", "items": {"$dynamicRef": "#node"}}}
        }}
    });
    let list_of_strings = json!({
        "$id": "https://acme.com/strings", "$ref": "list",
        "$defs": {
            "item": {"$dynamicAnchor": "item", "type": "string"},
            "list": {
                "$id": "list", "type": "array", "items": {"$dynamicRef": "#item"},
                "$defs": {"any": {"$dynamicAnchor": "item"}}
            }
        }
    });
    // Schema, valid values, invalid values.
    let table = [
        (json!(true), json!([1, null, {}]), json!([])),
        (json!(false), json!([]), json!([1, null, {}])),
        (json!({"type": "integer"}), json!([1, 1.0, -3]), json!([1.5, "1", null])),
        (json!({"type": ["string", "null"]}), json!(["", null]), json!([0, [], {}])),
        (json!({"enum": [1, "a", [2]]}), json!([1, 1.0, "a", [2]]), json!([2, "b", []])),
        (json!({"const": {"a": 1}}), json!([{"a": 1}, {"a": 1.0}]), json!([{"a": 2}, {}])),
        (json!({"multipleOf": 0.5}), json!([1, 1.5, 0, "x"]), json!([1.2])),
        (json!({"minimum": 1, "exclusiveMaximum": 3}), json!([1, 2.9]), json!([0.9, 3])),
        (json!({"exclusiveMinimum": 1, "maximum": 3}), json!([1.1, 3]), json!([1, 3.1])),
        (json!({"minLength": 2, "maxLength": 3}), json!(["äö", "abc", 1]), json!(["a", "abcd"])),
        (json!({"pattern": "^\\d+$"}), json!(["12", 1]), json!(["", "x1", "١"])),
        (json!({"pattern": "b"}), json!(["abc"]), json!(["ac"])),
        (json!({"format": "email"}), json!(["not one, and yet"]), json!([])),
        (
            json!({"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false}),
            json!([[], ["a"], ["a", 1]]),
            json!([[1], ["a", "b"], ["a", 1, 2]]),
        ),
        (
            json!({"contains": {"type": "integer"}, "minContains": 2, "maxContains": 3}),
            json!([[1, 2], [1, "a", 2, 3], "x"]),
            json!([[], [1], [1, 2, 3, 4]]),
        ),
        (json!({"contains": {"const": 1}, "minContains": 0}), json!([[], [2]]), json!([])),
        (json!({"uniqueItems": true}), json!([[1, 2], [[1], [2]]]), json!([[1, 1.0], [{}, {}]])),
        (json!({"minItems": 1, "maxItems": 2}), json!([[1], [1, 2]]), json!([[], [1, 2, 3]])),
        (json!({"prefixItems": [{}], "unevaluatedItems": {"type": "null"}}), json!([[1], [1, null]]), json!([[1, 2]])),
        (
            json!({"allOf": [{"prefixItems": [{}]}, {"contains": {"const": 7}}], "unevaluatedItems": false}),
            json!([[7], [1, 7], [1, 7, 7]]),
            json!([[1], [1, 7, 8]]),
        ),
        (
            json!({
                "properties": {"a": {"type": "string"}}, "patternProperties": {"^x-": true},
                "additionalProperties": {"type": "integer"}, "required": ["a"]
            }),
            json!([{"a": ""}, {"a": "", "x-1": [], "b": 1}]),
            json!([{}, {"a": 1}, {"a": "", "b": ""}]),
        ),
        (
            json!({"propertyNames": {"maxLength": 3}, "minProperties": 1, "maxProperties": 2}),
            json!([{"abc": 1}, 3]),
            json!([{"abcd": 1}, {}, {"a": 1, "b": 1, "c": 1}]),
        ),
        (
            json!({"dependentRequired": {"card": ["address"]}}),
            json!([{}, {"card": 1, "address": 2}]),
            json!([{"card": 1}]),
        ),
        (
            json!({"dependentSchemas": {"card": {"properties": {"n": {"type": "integer"}}}}}),
            json!([{"n": "x"}, {"card": 1, "n": 1}]),
            json!([{"card": 1, "n": "x"}]),
        ),
        (
            json!({
                "if": {"properties": {"kind": {"const": "a"}}, "required": ["kind"]},
                "then": {"required": ["x"]}, "else": {"required": ["y"]}
            }),
            json!([{"kind": "a", "x": 1}, {"y": 1}]),
            json!([{"kind": "a", "y": 1}, {"x": 1}]),
        ),
        (json!({"not": {"type": "string"}}), json!([1]), json!(["a"])),
        (json!({"anyOf": [{"type": "string"}, {"minimum": 3}]}), json!(["a", 3, null]), json!([2])),
        (json!({"oneOf": [{"type": "integer"}, {"minimum": 3}]}), json!([1, 3.5]), json!([3, 1.5])),
        (
            json!({
                "allOf": [{"properties": {"a": true}}], "anyOf": [{"properties": {"b": true}, "required": ["b"]}, true],
                "unevaluatedProperties": false
            }),
            json!([{"a": 1}, {"a": 1, "b": 1}]),
            json!([{"c": 1}, {"a": 1, "c": 1}]),
        ),
        (json!({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}, "minimum": 3}), json!([3]), json!([2, "x"])),
        (
            json!({"$ref": "#positive", "$defs": {"a/b%": {"$anchor": "positive", "minimum": 1}}}),
            json!([1]),
            json!([0]),
        ),
        (json!({"$ref": "#/$defs/a~1b%25%20", "$defs": {"a/b% ": {"minimum": 1}}}), json!([1]), json!([0])),
        (
            json!({"properties": {"next": {"$ref": "#"}}, "required": ["v"]}),
            json!([{"v": 1}, {"v": 1, "next": {"v": 2}}]),
            json!([{"v": 1, "next": {}}]),
        ),
        (
            json!({
                "$id": "https://acme.com/a", "$ref": "b",
                "$defs": {"x": {"$id": "/b", "$ref": "#/$defs/n", "$defs": {"n": {"type": "null"}}}}
            }),
            json!([null]),
            json!([1]),
        ),
        (
            json!({"$ref": "#/components/schemas/N", "components": {"schemas": {"N": {"$ref": "#/components/schemas/M"}, "M": {"type": "null"}}}}),
            json!([null]),
            json!([1]),
        ),
        (
            json!({"$ref": Dialect::Draft2020.url()}),
            json!([true, {"type": "object", "properties": {"a": {"minLength": 1}}}]),
            json!([1, {"type": "thing"}, {"properties": {"a": {"minLength": -1}}}]),
        ),
        (
            tree,
            json!([{"data": 1, "children": [{"data": 2}]}]),
            json!([{"data": 1, "children": [{"daat": 2}]}, {"x": 1}]),
        ),
        (list_of_strings, json!([["a"]]), json!([[1]])),
    ];
    for (text, fits, fits_not) in table {
        let schema = schema(&text);
        for instance in fits.as_array().unwrap() {
            assert_eq!(schema.validate(instance), Ok(()), "{instance} against {text}");
        }
        for instance in fits_not.as_array().unwrap() {
            let faults = schema.validate(instance).expect_err(&format!("{instance}, {text}"));
            assert!(!faults.is_empty());
        }
    }
}

#[test]
fn schemas_that_accept_everything_are_recognized() {
    for text in ["true", "{}", " {} ", r#"{"title": "t", "description": "d", "$id": "https://a.de/x"}"#] {
        let schema = Schema::compile(text).unwrap();
        assert!(schema.accepts_all(), "{text}");
        assert_eq!(schema.validate(&json!([1])), Ok(()));
    }
    for text in ["false", r#"{"type": "object"}"#, r#"{"not": {}}"#] {
        assert!(!Schema::compile(text).unwrap().accepts_all(), "{text}");
    }
}

#[test]
fn a_schema_shows_nothing_of_itself() {
    assert_eq!(format!("{:?}", schema(&json!({"const": "x"}))), "Schema { .. }");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z#/$.*(]{0,6}".prop_map(Value::from),
        Just(json!("#/$defs/a")),
        Just(json!("object")),
        Just(Value::Null),
    ];
    let keyword = prop_oneof![
        Just("properties"),
        Just("items"),
        Just("prefixItems"),
        Just("$ref"),
        Just("$defs"),
        Just("a"),
        Just("allOf"),
        Just("anyOf"),
        Just("not"),
        Just("type"),
        Just("pattern"),
        Just("$id"),
        Just("required"),
        Just("patternProperties"),
        Just("$dynamicRef"),
        Just("$dynamicAnchor"),
        Just("additionalProperties"),
        Just("unevaluatedProperties"),
        Just("contains"),
        Just("propertyNames"),
        Just("enum"),
        Just("minimum"),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keyword.clone(), inner), 0..4)
                .prop_map(|members| { members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect() }),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_may_be_tried_as_a_schema(text in any_json(), instance in any_json()) {
        if let Ok(schema) = Schema::compile(&text.to_string())
            && let Err(faults) = schema.validate(&instance)
        {
            prop_assert!(!faults.is_empty() && faults.len() <= 50);
            for fault in &faults {
                prop_assert!(instance.pointer(&fault.pointer).is_some(), "{:?}", fault);
            }
        }
    }

    #[test]
    fn any_text_may_be_tried_as_a_schema(text in ".*") {
        let _ = Schema::compile(&text);
    }

    #[test]
    fn any_pattern_may_be_tried(pattern in "[ab()\\[\\]{}|\\\\dp*+?^$.0-9,-]{0,24}") {
        let _ = Schema::compile(&json!({"pattern": pattern}).to_string());
    }

    #[test]
    fn every_fault_is_found_where_it_is(items in prop::collection::vec(any::<Option<u8>>(), 0..40)) {
        let text = json!({"prefixItems": [true], "items": {"type": "integer"}});
        let found = match schema(&text).validate(&json!(items)) {
            Ok(()) => Vec::new(),
            Err(faults) => faults.into_iter().map(|f| f.pointer).collect(),
        };
        let nulls = items.iter().enumerate().skip(1).filter(|(_, item)| item.is_none());
        prop_assert_eq!(found, nulls.map(|(n, _)| format!("/{n}")).collect::<Vec<_>>());
    }
}
