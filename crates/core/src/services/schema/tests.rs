use super::*;
use proptest::prelude::*;
use serde_json::json;

fn schema(text: &Value) -> Schema {
    Schema::compile(&text.to_string()).unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

fn pairs(faults: Vec<Fault>) -> Vec<(String, String)> {
    faults.into_iter().map(|f| (f.pointer, f.detail)).collect()
}

/// Why a schema is refused.
fn refused(text: &str) -> Vec<(String, String)> {
    match Schema::compile(text) {
        Ok(_) => panic!("{text} is accepted"),
        Err(faults) => pairs(faults),
    }
}

fn assert_refused(text: &Value, pointer: &str, detail: &str) {
    let faults = refused(&text.to_string());
    assert_eq!(faults.len(), 1, "{text}: {faults:?}");
    assert_eq!(faults[0].0, pointer, "{text}: {faults:?}");
    assert!(faults[0].1.contains(detail), "{text}: {faults:?}");
}

/// What is wrong with a value.
fn faults(text: &Value, instance: &Value) -> Vec<(String, String)> {
    match schema(text).validate(instance) {
        Ok(()) => panic!("{instance} fits {text}"),
        Err(faults) => pairs(faults),
    }
}

fn assert_faults(text: &Value, instance: &Value, wanted: &[(&str, &str)]) {
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
    // Schema, values that fit, values that do not.
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
fn faults_say_where_and_what() {
    let order = json!({
        "type": "object", "required": ["city", "zip"], "additionalProperties": false,
        "properties": {
            "city": {"type": "string", "minLength": 2}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
            "lines": {"type": "array", "maxItems": 3, "items": {"$ref": "#/$defs/line"}}
        },
        "$defs": {"line": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}}
    });
    assert_faults(
        &order,
        &json!({"a/b~": 1, "city": "x", "lines": [{"n": 1}, {"n": 0}, {}, 5]}),
        &[
            ("", "needs the member \"zip\""),
            ("/a~1b~0", "is not a member allowed here"),
            ("/city", "must have at least 2 characters, has 1"),
            ("/lines", "must have at most 3 items, has 4"),
            ("/lines/1/n", "must be at least 1"),
            ("/lines/2", "needs the member \"n\""),
            ("/lines/3", "must be an object, not a number"),
        ],
    );
    assert_faults(&order, &json!([]), &[("", "must be an object, not an array")]);
}

#[test]
fn every_kind_of_fault_has_words() {
    for (text, instance, pointer, detail) in [
        (json!(false), json!(1), "", "is not allowed here"),
        (json!({"type": ["string", "null"]}), json!(1), "", "must be null or a string, not a number"),
        (json!({"enum": ["a", 1]}), json!(0), "", "must be one of \"a\", 1"),
        (json!({"const": null}), json!(0), "", "must be null"),
        (json!({"minProperties": 1}), json!({}), "", "must have at least 1 member, has 0"),
        (json!({"maxProperties": 0}), json!({"a": 1}), "", "must have at most 0 members, has 1"),
        (
            json!({"dependentRequired": {"a": ["b", "c"]}}),
            json!({"a": 1}),
            "",
            "needs \"b\", \"c\" where there is \"a\"",
        ),
        (json!({"minItems": 1}), json!([]), "", "must have at least 1 item, has 0"),
        (json!({"contains": {"const": 1}}), json!([2]), "", "has no item of the kind it must contain"),
        (json!({"contains": true, "minContains": 2}), json!([2]), "", "must contain at least 2 items of a kind, has 1"),
        (
            json!({"contains": true, "maxContains": 1}),
            json!([2, 3]),
            "",
            "must contain at most 1 item of a kind, has 2",
        ),
        (json!({"uniqueItems": true}), json!([1, 2, 1]), "", "must not have equal items, but 0 and 2 are"),
        (json!({"maxLength": 1}), json!("ab"), "", "must have at most 1 character, has 2"),
        (json!({"pattern": "^a"}), json!("b"), "", "must match the pattern ^a"),
        (json!({"maximum": 1}), json!(2), "", "must be at most 1"),
        (json!({"exclusiveMinimum": 1}), json!(1), "", "must be greater than 1"),
        (json!({"exclusiveMaximum": 1}), json!(1), "", "must be less than 1"),
        (json!({"multipleOf": 2}), json!(1), "", "must be a multiple of 2"),
        (json!({"not": {}}), json!(1), "", "is of a form that is not allowed here"),
        (
            json!({"oneOf": [true, true]}),
            json!(1),
            "",
            "matches forms 0 and 1 (counted from 0), where only one may match",
        ),
        (
            json!({"propertyNames": {"pattern": "^a"}}),
            json!({"b": 1}),
            "/b",
            "the name \"b\" must match the pattern ^a",
        ),
        (json!({"propertyNames": false}), json!({"b": 1}), "/b", "the name \"b\" is not allowed here"),
        (json!({"unevaluatedProperties": false}), json!({"b": 1}), "/b", "is not allowed here"),
        (json!({"unevaluatedItems": false}), json!([1]), "/0", "is not allowed here"),
    ] {
        // Where the error stands deeper, the pointer follows; and through a reference as well.
        let deeper = json!({"properties": {"x": {"items": {"$ref": "#/$defs/d"}}}, "$defs": {"d": text}});
        let moved = format!("/x/1{pointer}");
        assert_faults(&text, &instance, &[(pointer, detail)]);
        let found = faults(&deeper, &json!({"x": [instance, instance]}));
        assert_eq!(found.last().unwrap(), &(moved, detail.to_owned()), "{text}");
    }
}

/// What boon says of these places is wrong or missing.
#[test]
fn items_after_prefix_items_are_counted_from_the_first() {
    let number = "must be a number, not a string";
    let plain = json!({"prefixItems": [true, true], "items": {"type": "number"}});
    assert_faults(&plain, &json!([1, 2, 3, "a", 4, "b"]), &[("/3", number), ("/5", number)]);
    let nested = json!({
        "$ref": "#/$defs/r",
        "$defs": {
            "r": {"properties": {"m": {"allOf": [true, {"prefixItems": [true], "items": {"$ref": "#/$defs/row"}}]}}},
            "row": {"prefixItems": [true, true], "items": {"properties": {"v": {"type": "number"}}}}
        }
    });
    assert_faults(
        &nested,
        &json!({"m": [0, [0, 0, {"v": 1}, {"v": "x"}], [0, 0, {"v": "x"}]]}),
        &[("/m/1/3/v", number), ("/m/2/2/v", number)],
    );
    let beside = json!({"prefixItems": [{"type": "number"}], "contains": {"const": 0}});
    assert_faults(&beside, &json!(["x", 0]), &[("/0", number)]);
}

#[test]
fn a_wrong_name_is_found_where_it_is() {
    let text = json!({"additionalProperties": {"items": {"propertyNames": {"maxLength": 1}}}});
    let detail = "the name \"long\" must have at most 1 character, has 4";
    assert_faults(
        &text,
        &json!({"a": [{"b": 1}, {"long": 1}], "long": [{"long": 1}]}),
        &[("/a/1/long", detail), ("/long/0/long", detail)],
    );
    assert_faults(&text, &json!({"a": [{"long": 1}, {"long": 1}]}), &[("/a/0/long", detail), ("/a/1/long", detail)]);
}

#[test]
fn branches_are_explained_if_that_is_short() {
    let two = json!({"properties": {"x": {"anyOf": [{"type": "string"}, {"type": "object", "required": ["a"]}]}}});
    assert_faults(
        &two,
        &json!({"x": {"b": 1}}),
        &[
            ("/x", "matches none of the 2 forms allowed here"),
            ("/x", "must be a string, not an object"),
            ("/x", "needs the member \"a\""),
        ],
    );
    let many = json!({"oneOf": [
        {"required": ["a", "b", "c"]}, {"required": ["d", "e", "f"]}
    ]});
    assert_faults(&many, &json!({}), &[("", "matches none of the 2 forms allowed here")]);
    let single = json!({"oneOf": [{"required": ["a"]}]});
    assert_faults(&single, &json!({}), &[("", "needs the member \"a\"")]);
}

#[test]
fn faults_are_in_order_at_most_fifty_and_none_twice() {
    let text = json!({"items": {"allOf": [{"type": "string"}, {"type": "string"}]}});
    let instance: Value = (0..200).collect::<Vec<u32>>().into();
    let found = faults(&text, &instance);
    let pointers: Vec<String> = (0..50).map(|n| format!("/{n}")).collect();
    assert_eq!(found.iter().map(|(p, _)| p.clone()).collect::<Vec<_>>(), pointers);
}

#[test]
fn little_of_the_value_is_repeated() {
    let long = "ß".repeat(5000);
    let all = json!({
        "properties": {"s": {"type": "string", "maxLength": 3, "pattern": "^a", "enum": ["a"]}, "n": {"const": 1}},
        "propertyNames": {"maxLength": 10}, "additionalProperties": false
    });
    let mut instance = json!({"s": long, "n": 1234567890123456789u64});
    instance[&long] = json!(1);
    for (pointer, detail) in faults(&all, &instance) {
        assert!(detail.matches('ß').count() <= 80, "{detail}");
        assert!(pointer.len() <= 1000 && detail.chars().count() <= 300, "{pointer} {detail}");
    }
}

#[test]
fn limits_are_refused() {
    let at_most = |n: usize| format!("{{{}}}", " ".repeat(n - 2));
    assert!(Schema::compile(&at_most(MAX_BYTES)).is_ok());
    assert_eq!(refused(&at_most(MAX_BYTES + 1))[0].1, "is larger than 262144 bytes");

    let nested = |n: usize| format!("{}true{}", "{\"not\":".repeat(n), "}".repeat(n));
    assert!(Schema::compile(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(refused(&nested(MAX_DEPTH + 1))[0].1, "is nested more than 32 levels deep");
    assert_eq!(refused(&nested(5_000))[0].1, "is not JSON, or nested too deeply");
    assert_eq!(refused("{")[0].1, "is not JSON, or nested too deeply");

    let wide = |n: usize| json!({"anyOf": vec![true; n]}).to_string();
    assert!(Schema::compile(&wide(MAX_SUBSCHEMAS - 1)).is_ok());
    assert_eq!(refused(&wide(MAX_SUBSCHEMAS))[0].1, "has more than 1000 subschemas");
}

#[test]
fn references_stay_inside_the_document() {
    let out = "leads out of this document";
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
    assert_refused(&json!({"$ref": "#/$defs/a"}), "/$ref", "leads to nothing");
    assert_refused(&json!({"$ref": "#a"}), "/$ref", "names no anchor");
    assert_refused(&json!({"$ref": "#/title", "title": "x"}), "/$ref", "not a schema");
    assert_refused(&json!({"$id": "https://acme.com/a", "$ref": "https://acme.com/b"}), "/$ref", out);
    schema(&json!({"$id": "https://acme.com/a", "items": {"$ref": "https://acme.com/a"}}));
    schema(&json!({"$id": "urn:acme:a", "items": {"$ref": "urn:acme:a#"}}));
    // What only looks like a reference is none.
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
    let broken = "is not a regular expression that runs in linear time";
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
    assert_refused(&json!({"anyOf": many}), "", "too many of them");
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
    // Every level of the value is checked twice as often as the one above it.
    let node = json!({"properties": {"n": {"$ref": "#"}}});
    let text = json!({"allOf": [node, node]});
    let deep = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({"n": inner}));
    assert_eq!(schema(&text).validate(&deep(10)), Ok(()));
    let found = schema(&text).validate(&deep(40)).unwrap_err();
    assert_eq!(found[0].detail, "is too large or too deep to be checked against this schema");
}

/// The deepest value that comes in has 64 levels; recursive schemas of the usual forms have to
/// take it.
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

#[test]
fn a_schema_that_accepts_everything_says_so() {
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
