use super::*;
use proptest::prelude::*;

fn refused(text: &str) -> Invalid {
    match check(text.as_bytes(), MAX_DEPTH) {
        Ok(_) => panic!("accepted: {text}"),
        Err(invalid) => invalid,
    }
}

#[test]
fn ambiguous_json_is_rejected() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "'a'",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "NaN",
        "Infinity",
        "1e999",
        "-1e999",
        "tru",
        "nul",
        "\"\u{1}\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"abc",
        "[1 2]",
        "{\"a\" 1}",
        "1 2",
        "{}{}",
        "\u{feff}{}",
        "/*c*/1",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "\0",
    ] {
        refused(text);
    }
    assert!(check(b"\"\xff\"", MAX_DEPTH).is_err());
    assert!(check(b"\"\xed\xa0\x80\"", MAX_DEPTH).is_err(), "a surrogate in UTF-8");
}

#[test]
fn a_fault_has_the_pointer_of_its_place() {
    assert_eq!(refused(r#"{"a":{"b/c":[1,{"d":1,"d":2}]}}"#).pointer, "#/a/b~1c/1/d");
    assert_eq!(refused(r#"{"parameters":{"city":"\ud800"}}"#).pointer, "#/parameters/city");
    assert_eq!(refused("[[1,tru]]").pointer, "#/0/1");
}

#[test]
fn depth_is_bounded_without_recursion() {
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(check(nested(64).as_bytes(), MAX_DEPTH).is_ok());
    assert_eq!(refused(&nested(65)).reason, "nested too deeply");
    refused(&nested(100_000));
}

#[test]
fn doubled_members_are_found_among_many() {
    let mut members: Vec<String> = (0..5_000).map(|n| format!("\"k{n}\":{n}")).collect();
    assert!(check(format!("{{{}}}", members.join(",")).as_bytes(), MAX_DEPTH).is_ok());
    members.push("\"k7\":0".into());
    assert_eq!(refused(&format!("{{{}}}", members.join(","))).pointer, "#/k7");
}

#[test]
fn an_object_names_every_fault_at_once() {
    let text = r#"{"name":7,"count":-1,"extra":true,"on":"yes","list":["a",1]}"#;
    let mut object = Object::new(text, "#").unwrap();
    let name = object.string("name", 1..=10);
    object.require("name", name);
    object.integer("count", 0..=9);
    object.boolean("on");
    object.strings("list", 5, 5);
    let missing = object.string("missing", 1..=10);
    object.require("missing", missing);
    let pointers: Vec<String> = object.finish().into_iter().map(|fault| fault.pointer).collect();
    assert_eq!(pointers, ["#/name", "#/count", "#/on", "#/list/1", "#/missing", "#/extra"]);
}

#[test]
fn a_member_keeps_its_own_text() {
    let text = r#"{"parameters": {"n":  12345678901234567890123, "f": 1.0}}"#;
    let mut object = Object::new(check(text.as_bytes(), 64).unwrap(), "#").unwrap();
    assert_eq!(object.raw("parameters").unwrap().get(), r#"{"n":  12345678901234567890123, "f": 1.0}"#);
    assert!(object.finish().is_empty());
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::hash_map(any::<String>(), inner, 0..30)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_written_by_serde_is_accepted(value in any_json()) {
        let text = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(check(text.as_bytes(), MAX_DEPTH).unwrap(), text.as_str());
    }

    #[test]
    fn accepted_json_can_be_read_by_serde(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(text) = check(&bytes, MAX_DEPTH) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(text).is_ok());
        }
    }

    #[test]
    fn json_rejected_by_serde_is_rejected(text in r#"[\[\]{},:"\\u0-9a-f.eE+ -]{0,24}"#) {
        if serde_json::from_str::<serde_json::Value>(&text).is_err() {
            prop_assert!(check(text.as_bytes(), MAX_DEPTH).is_err());
        }
    }
}

#[test]
fn an_integer_may_be_written_with_a_fraction_of_nothing() {
    for (text, expected) in
        [("7", Some(7)), ("7.0", Some(7)), ("7e0", Some(7)), ("7.5", None), ("-1.0", None), ("1e300", None)]
    {
        let text = format!(r#"{{"count":{text}}}"#);
        let mut object = Object::new(&text, "#").unwrap();
        assert_eq!(object.integer("count", 0..=9), expected, "{text}");
    }
}

#[test]
fn a_byte_order_mark_is_ignored() {
    assert_eq!(without_mark(b"\xef\xbb\xbf{}".to_vec()), b"{}");
    assert_eq!(without_mark(b"{}".to_vec()), b"{}");
    // Only one, and only before the text.
    assert!(check(&without_mark(b"\xef\xbb\xbf\xef\xbb\xbf{}".to_vec()), MAX_DEPTH).is_err());
    assert!(check(&without_mark(b"{\xef\xbb\xbf}".to_vec()), MAX_DEPTH).is_err());
}

#[test]
fn an_integer_is_one_exactly() {
    let read = |number: &str| {
        let text = format!(r#"{{"n":{number}}}"#);
        Object::new(&text, "#").unwrap().integer("n", 0..=u64::MAX)
    };
    for (number, expected) in
        [("1.0", Some(1)), ("1e3", Some(1000)), ("1.50e1", Some(15)), ("0.0", Some(0)), ("-0", Some(0))]
    {
        assert_eq!(read(number), expected, "{number}");
    }
    for number in ["0.99999999999999999999", "1.00000000000000000001", "1e-400", "-1", "1e300", "\"1\"", "true"] {
        assert_eq!(read(number), None, "{number}");
    }
}
