//! Numbers in schemas and values, as decimals; and `format`.

use super::*;
use proptest::prelude::*;

fn accepts(schema: &str, value: &str) -> bool {
    Schema::compile(schema).unwrap_or_else(|faults| panic!("{schema}: {faults:?}")).check(value).is_ok()
}

fn each(schema: &str, good: &[&str], bad: &[&str]) {
    for value in good {
        assert!(accepts(schema, value), "{schema} {value}");
    }
    for value in bad {
        assert!(!accepts(schema, value), "{schema} {value}");
    }
}

fn faults_of(schema: &str, value: &str) -> Vec<(String, String)> {
    let faults = Schema::compile(schema).unwrap().check(value).unwrap_err();
    faults.into_iter().map(|fault| (fault.pointer, fault.detail)).collect()
}

#[test]
fn a_multiple_is_one_of_decimals() {
    each(
        r#"{"multipleOf":0.01}"#,
        &["19.99", "4.35", "0.07", "8.61", "-1.1", "0", "1e300", "1e1", "\"x\""],
        &["0.001", "19.999", "1e-400"],
    );
    each(r#"{"multipleOf":1e-7}"#, &["0.0000003", "1", "12391239123"], &["0.00000035"]);
    each(r#"{"multipleOf":1e308}"#, &["0", "1e308"], &["1", "1e307", "1.5e308"]);
    each(
        r#"{"multipleOf":0.1234567890123456781}"#,
        &["0.1234567890123456781", "0.2469135780246913562"],
        &["0.1234567890123456782"],
    );
    each(r#"{"multipleOf":9007199254740993}"#, &["9007199254740993", "18014398509481986"], &["9007199254740992"]);
    each(
        r#"{"multipleOf":2}"#,
        &["4", "-4", "4.0", "123456789012345678901234567890", "1e20"],
        &["3", "4.5", "123456789012345678901234567891"],
    );
    assert_eq!(faults_of(r#"{"multipleOf":0.010}"#, "0.001")[0].1, "must be a multiple of 0.01");
    let many = Schema::compile(r#"{"items":{"multipleOf":0.123456789012345678911}}"#).unwrap_err();
    assert_eq!(
        (many[0].pointer.as_str(), many[0].detail.as_str()),
        ("/items/multipleOf", "must have at most 19 digits")
    );
    for wrong in ["0", "-0.01", "-123456789012345678901", "\"a\""] {
        assert_eq!(Schema::compile(&format!(r#"{{"multipleOf":{wrong}}}"#)).unwrap_err()[0].pointer, "/multipleOf");
    }
}

#[test]
fn bounds_are_exact() {
    each(
        r#"{"exclusiveMaximum":1}"#,
        &["0.9999999999999999", "0.99999999999999999999999", "-1e300"],
        &["1", "1.0", "1e0", "1.00000000000000000001"],
    );
    each(r#"{"exclusiveMinimum":0}"#, &["1e-400", "5e-324"], &["0", "-0.0", "-1e-400"]);
    each(
        r#"{"type":"integer","maximum":9007199254740992}"#,
        &["9007199254740992", "1e3"],
        &["9007199254740993", "92233720368547758081"],
    );
    each(
        r#"{"minimum":0.1234567890123456781}"#,
        &["0.1234567890123456781", "0.1234567890123456782"],
        &["0.123456789012345678"],
    );
    each(r#"{"maximum":18446744073709551615}"#, &["18446744073709551615"], &["18446744073709551616", "1e20"]);
    assert_eq!(
        faults_of(r#"{"properties":{"n":{"minimum":3,"maximum":1.50,"multipleOf":2}}}"#, r#"{"n":2.5}"#),
        [("at least 3"), ("at most 1.5"), ("a multiple of 2")].map(|what| ("/n".to_owned(), format!("must be {what}")))
    );
    assert_eq!(faults_of(r#"{"maximum":123456789012345678901}"#, "1e30")[0].1, "must be at most 123456789012345678901");
    // A value that is invalid in one branch may be valid in another.
    each(r#"{"anyOf":[{"maximum":1},{"minimum":5}]}"#, &["1", "5"], &["3"]);
    each(r#"{"not":{"multipleOf":0.1}}"#, &["0.15"], &["0.3"]);
    for wrong in [r#"{"maximum":"a"}"#, r#"{"exclusiveMaximum":true,"maximum":1}"#] {
        assert!(Schema::compile(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn equal_is_what_is_the_same_number() {
    each(
        r#"{"type":"integer"}"#,
        &["1.0", "1e3", "92233720368547758081", "1.50e1", "-0.0"],
        &["1.5", "9007199254740993.5", "0.99999999999999999999", "1e-400"],
    );
    each(
        r#"{"enum":[1,92233720368547758081,{"a":0.1234567890123456781}]}"#,
        &["1.0", "10e-1", "92233720368547758081", "92233720368547758081.0", r#"{"a":0.1234567890123456781}"#],
        &["92233720368547758082", "9.2233720368547758e19", r#"{"a":0.1234567890123456782}"#],
    );
    each(r#"{"const":[9007199254740993]}"#, &["[9007199254740993]", "[9007199254740993.0]"], &["[9007199254740992]"]);
    each(
        r#"{"uniqueItems":true}"#,
        &[
            "[92233720368547758081,92233720368547758082]",
            "[0.1234567890123456781,0.1234567890123456782]",
            "[1,\"1\",true]",
        ],
        &["[1,1.0]", "[92233720368547758081,92233720368547758081.0]", "[0,-0.0]", "[{\"a\":1e2},{\"a\":100}]"],
    );
    // More than twenty are distinguished by a hash.
    let many =
        |last: &str| format!("[{}{last}]", (0..30).map(|n| format!("9223372036854775808{n},")).collect::<String>());
    each(r#"{"uniqueItems":true}"#, &[&many("0"), &many("-1")], &[&many("92233720368547758083.0")]);
    assert_eq!(faults_of(r#"{"const":92233720368547758081}"#, "1")[0].1, "must be 92233720368547758081");
    assert_eq!(
        faults_of(r#"{"enum":["a",92233720368547758081]}"#, "1")[0].1,
        r#"must be one of "a", 92233720368547758081"#
    );
}

/// The maximum of a 32-bit count: larger ones were truncated in WebAssembly.
#[test]
fn counts_may_be_large() {
    each(
        r#"{"maxLength":4294967296,"minLength":1.0,"maxItems":18446744073709551616,"maxProperties":1e300}"#,
        &["\"ab\"", "[1]", "{\"a\":1}"],
        &["\"\""],
    );
    each(r#"{"minItems":4294967297}"#, &["1"], &["[]", "[1]"]);
    for wrong in ["-1", "1.5", "-92233720368547758081", "0.1234567890123456781"] {
        assert_eq!(
            Schema::compile(&format!(r#"{{"maxLength":{wrong}}}"#)).unwrap_err()[0].pointer,
            "/maxLength",
            "{wrong}"
        );
    }
}

#[test]
fn a_schema_may_have_as_many_different_bounds_as_subschemas() {
    let members: Vec<String> = (0..990).map(|n| format!(r#""m{n}":{{"maximum":{n}}}"#)).collect();
    let schema = Schema::compile(&format!(r#"{{"properties":{{{}}}}}"#, members.join(","))).unwrap();
    assert!(schema.check(r#"{"m0":0,"m989":989}"#).is_ok());
    assert_eq!(schema.check(r#"{"m0":1,"m500":500,"m989":990}"#).unwrap_err().len(), 2);
}

/// There is no arithmetic on large numbers.
#[test]
fn a_number_of_a_million_digits_takes_no_time() {
    let digits = "7".repeat(1_000_000);
    let schema = Schema::compile(r#"{"items":{"minimum":0.5,"enum":[1,2]}}"#).unwrap();
    assert!(schema.check(&format!("[{digits}]")).is_err());
    let schema = Schema::compile(r#"{"allOf":[{"multipleOf":7},{"multipleOf":0.7}]}"#).unwrap();
    assert!(schema.check(&digits).is_ok());
    // But within limits.
    let all: Vec<String> = (3..60).map(|n| format!(r#"{{"multipleOf":{n}}}"#)).collect();
    let schema = Schema::compile(&format!(r#"{{"allOf":[{}]}}"#, all.join(","))).unwrap();
    assert!(schema.check(&digits).unwrap_err()[0].detail.starts_with("is too large"));
    assert!(schema.check("0e-1000000000000").is_ok());
}

#[test]
fn formats_are_checked_where_that_is_asked() {
    let text = r#"{"properties":{"at":{"type":"string","format":"date-time"},"n":{"format":"int64","minimum":1},"p":{"format":"regex"}},
        "propertyNames":{"format":"hostname"}}"#;
    let value = r#"{"at":"2024-13-01T00:00:00Z","n":0,"p":"(","a_b":1}"#;
    let pointers = |formats| -> Vec<String> {
        let faults = Schema::compile_as(text, formats).unwrap().check(value).unwrap_err();
        faults.into_iter().map(|fault| format!("{} {}", fault.pointer, fault.detail.get(..14).unwrap())).collect()
    };
    assert_eq!(pointers(Formats::Annotate), ["/n must be at lea"]);
    assert_eq!(
        pointers(Formats::Assert),
        ["/a_b the name \"a_b\"", "/at must be a date", "/n must be at lea", "/p must be a regu"]
    );
    // An older draft has no higher limits.
    for draft in ["http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2019-09/schema"] {
        let text = format!(r#"{{"$schema":"{draft}","format":"date"}}"#);
        assert!(Schema::compile(&text).unwrap().check("\"x\"").is_ok());
        let faults = Schema::compile_as(&text, Formats::Assert).unwrap().check("\"x\"").unwrap_err();
        assert_eq!(faults[0].detail, "must be a date (RFC 3339), such as 2026-12-01");
    }
    // One name for both: a string that is a date, or a number.
    let both = Schema::compile_as(r#"{"format":"date","minimum":3}"#, Formats::Assert).unwrap();
    let fits = ["\"2024-01-01\"", "3", "null"].map(|value| both.check(value).is_ok());
    assert_eq!((fits, both.check("\"3\"").is_ok(), both.check("2").is_ok()), ([true; 3], false, false));
    assert!(Schema::compile(r#"{"format":5}"#).is_err());
}

#[test]
fn long_texts_are_read_for_their_form_as_long_as_that_is_quick() {
    let schema = Schema::compile_as(r#"{"items":{"format":"regex"}}"#, Formats::Assert).unwrap();
    let list = |text: &str, count: usize| serde_json::to_string(&vec![text; count]).unwrap();
    assert!(schema.check(&list("^[a-z]+$", 1000)).is_ok());
    assert!(schema.check(&list("\\p{L}", 4)).is_ok());
    assert_eq!(schema.check(&list("\\p{L}", 1000)).unwrap_err()[0].detail, "has more classes than can be checked");
    let large = schema.check(&list(&"a".repeat(100_000), 20)).unwrap_err();
    assert!(large[0].detail.starts_with("is too large"));
}

#[test]
fn a_schema_of_six_thousand_texts_is_one() {
    let texts: Vec<String> = (0..6000).map(|n| format!("text number {n:06}")).collect();
    let schema = Schema::compile(&serde_json::json!({"properties": {"a": {"enum": texts}}}).to_string()).unwrap();
    assert!(schema.check(r#"{"a":"text number 005999"}"#).is_ok());
    let faults = schema.check(r#"{"a":"text number 006000"}"#).unwrap_err();
    assert!(faults[0].detail.len() < 300, "{faults:?}");
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?(e[+-]?[0-9]{1,2})?",
        (-30i32..30).prop_map(|n| format!("{}", f64::from(n) / 10.0)),
        (9_007_199_254_740_990u64..9_007_199_254_740_996).prop_map(|n| n.to_string()),
    ]
}

proptest! {
    #[test]
    fn schemas_say_what_decimals_say(value in number(), other in number()) {
        use crate::base::decimal::Decimal;
        let (x, y) = (Decimal::parse(&value), Decimal::parse(&other));
        prop_assert_eq!(accepts(&format!(r#"{{"minimum":{other}}}"#), &value), x >= y);
        prop_assert_eq!(accepts(&format!(r#"{{"maximum":{other}}}"#), &value), x <= y);
        prop_assert_eq!(accepts(&format!(r#"{{"exclusiveMinimum":{other}}}"#), &value), x > y);
        prop_assert_eq!(accepts(&format!(r#"{{"exclusiveMaximum":{other}}}"#), &value), x < y);
        prop_assert_eq!(accepts(&format!(r#"{{"const":{other}}}"#), &value), x == y);
        prop_assert_eq!(accepts(&format!(r#"{{"enum":["a",[{other}]]}}"#), &format!("[{value}]")), x == y);
        prop_assert_eq!(accepts(r#"{"uniqueItems":true}"#, &format!("[{value},{other}]")), x != y);
        prop_assert_eq!(accepts(r#"{"type":"integer"}"#, &value), x.is_integer());
    }
}
