use super::tests::{assert_faults, faults};
use super::*;
use serde_json::json;

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
        (json!({"dependentRequired": {"a": ["b", "c"]}}), json!({"a": 1}), "", "needs \"b\", \"c\" when it has \"a\""),
        (json!({"minItems": 1}), json!([]), "", "must have at least 1 item, has 0"),
        (json!({"contains": {"const": 1}}), json!([2]), "", "has no item of the kind it must contain"),
        (json!({"contains": true, "minContains": 2}), json!([2]), "", "must contain at least 2 items of a kind, has 1"),
        (
            json!({"contains": true, "maxContains": 1}),
            json!([2, 3]),
            "",
            "must contain at most 1 item of a kind, has 2",
        ),
        (json!({"uniqueItems": true}), json!([1, 2, 1]), "", "must not have equal items, but items 0 and 2 are equal"),
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
        // For a deeper error, the pointer follows; through a reference as well.
        let deeper = json!({"properties": {"x": {"items": {"$ref": "#/$defs/d"}}}, "$defs": {"d": text}});
        let moved = format!("/x/1{pointer}");
        assert_faults(&text, &instance, &[(pointer, detail)]);
        let found = faults(&deeper, &json!({"x": [instance, instance]}));
        assert_eq!(found.last().unwrap(), &(moved, detail.to_owned()), "{text}");
    }
}

/// boon's own positions of these errors are wrong or missing.
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
