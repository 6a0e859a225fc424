use serde_json::{Value, json};

use super::*;
use crate::http::egress_address::Policy;
use crate::services;

const RULES: Rules<'_> = Rules { addresses: Policy::STRICT, own_hosts: &[], demo: true, bindings: None, stored: None };

fn read_with(credentials: &Value, rules: Rules<'_>) -> Result<Vec<(CredentialPlace, Option<String>)>, Vec<String>> {
    let document = json!({
        "name": "LLM", "type": "llm", "credentials": credentials,
        "transport": {"kind": "http", "url": "https://llm.example.com/v1?known=1"}, "capabilities": [{"name": "a"}],
    });
    let each = |read: Option<Credentials>| read.map(|read| read.each).unwrap_or_default();
    match services::read(&"llm".into(), &document.to_string(), rules) {
        Ok(read) => Ok(each(read.credentials).into_iter().map(|one| (one.place, one.value)).collect()),
        Err(faults) => Err(faults.into_iter().map(|fault| fault.pointer).collect()),
    }
}

fn header(name: &str) -> CredentialPlace {
    CredentialPlace::Header(name.into())
}

fn query(name: &str) -> CredentialPlace {
    CredentialPlace::Query(name.into())
}

fn stored(places: &[CredentialPlace]) -> EncryptedCredentials {
    let encrypted = |place: &CredentialPlace| EncryptedCredential {
        place: place.clone(),
        value: EncryptedSecret::plaintext(format!("{place:?}")),
    };
    EncryptedCredentials::new(places.iter().map(encrypted).collect(), None).unwrap()
}

#[test]
fn there_may_be_one_or_several() {
    let some = |value: &str| Some(value.to_string());
    for (credentials, expected) in [
        (json!(null), Ok(vec![])),
        (json!({"header": "Api-Key", "value": "a"}), Ok(vec![(header("Api-Key"), some("a"))])),
        (json!({"query": "key", "value": "a b&c"}), Ok(vec![(query("key"), some("a b&c"))])),
        (
            json!([{"header": "api-key", "value": "a"}, {"query": "api-version", "value": "b"}]),
            Ok(vec![(header("api-key"), some("a")), (query("api-version"), some("b"))]),
        ),
        (json!([]), Err(vec!["#/credentials"])),
        (json!(7), Err(vec!["#/credentials"])),
        (json!([7]), Err(vec!["#/credentials/0"])),
        (json!(vec![json!({"query": "a", "value": "a"}); 9]), Err(vec!["#/credentials"])),
        (json!({"value": "a"}), Err(vec!["#/credentials/header"])),
        (json!({"header": "a"}), Err(vec!["#/credentials/value"])),
        (json!([{"query": "a"}]), Err(vec!["#/credentials/0/value"])),
        (json!({"header": "cookie", "value": "a"}), Err(vec!["#/credentials/header"])),
        (json!({"query": "a b", "value": "a"}), Err(vec!["#/credentials/query"])),
        (json!({"query": "known", "value": "a"}), Err(vec!["#/credentials/query"])),
        (json!({"query": "a", "value": "é"}), Err(vec!["#/credentials/value"])),
        (json!({"query": "a", "header": "b", "value": "a"}), Err(vec!["#/credentials/header"])),
        (json!([{"header": "A", "value": "a"}, {"header": "a", "value": "b"}]), Err(vec!["#/credentials/1/header"])),
        (json!([{"query": "a", "value": "a", "more": 1}]), Err(vec!["#/credentials/0/more"])),
    ] {
        let expected = expected.map_err(|at: Vec<&str>| at.into_iter().map(String::from).collect::<Vec<_>>());
        assert_eq!(read_with(&credentials, RULES), expected, "{credentials}");
    }
}

#[test]
fn a_value_may_be_left_out_where_one_is_stored() {
    let stored = stored(&[query("key"), header("Api-Key")]);
    let rules = Rules { stored: Some(&stored), ..RULES };
    let shown = serde_json::to_value(stored.names()).unwrap();
    assert_eq!(shown, json!([{"header": "Api-Key"}, {"query": "key"}]));
    assert_eq!(read_with(&shown, rules), Ok(vec![(header("Api-Key"), None), (query("key"), None)]));
    assert_eq!(read_with(&json!({"header": "api-key"}), rules), Ok(vec![(header("api-key"), None)]));
    assert_eq!(read_with(&json!({"header": "key"}), rules), Err(vec!["#/credentials/value".into()]));
    assert!(stored.of(&header("API-KEY")).is_some() && stored.of(&query("KEY")).is_none());
}

#[test]
fn stored_credentials_stay_readable_for_versions_with_one_header() {
    let before = r#"{"header":"Authorization","value":"Bearer x"}"#;
    let read: EncryptedCredentials = serde_json::from_str(before).unwrap();
    assert_eq!(read.each().map(|(place, _)| place).collect::<Vec<_>>(), [header("Authorization")]);
    assert_eq!(serde_json::to_string(&read).unwrap(), before);
    let several = stored(&[query("key"), header("a"), header("b")]);
    let text = serde_json::to_string(&several).unwrap();
    assert!(text.starts_with(r#"{"header":"a","value""#), "{text}");
    assert_eq!(serde_json::from_str::<EncryptedCredentials>(&text).unwrap(), several);
    assert_eq!(several.each().map(|(place, _)| place).collect::<Vec<_>>(), [header("a"), query("key"), header("b")]);
    assert_eq!(stored(&[query("key")]).each().map(|(place, _)| place).collect::<Vec<_>>(), [query("key")]);
    assert!(EncryptedCredentials::new(Vec::new(), None).is_none());
}

#[test]
fn a_value_is_found_in_a_text_however_it_is_written() {
    for (value, text, expected) in [
        ("Bearer sk-1234567", "no such key: sk-1234567", true),
        ("a/b+c=d&e", "GET /v1?key=a%2Fb%2Bc%3Dd%26e", true),
        ("quote\"and\\more", r#"{"message":"quote\"and\\more"}"#, true),
        ("sk-1234567", "no such key: sk-123", false),
        ("short", "short", false),
        ("Bearer ", "Bearer", false),
    ] {
        assert_eq!(shows(value, text), expected, "{value} in {text}");
    }
}

#[test]
fn a_secret_is_found_as_it_is_as_json_writes_it_and_cut_off() {
    let secret = "sk-se/cret\"1234567";
    for text in [
        r#"no sk-se/cret"1234567 here"#,
        r#"{"error":"sk-se/cret\"1234567"}"#,
        r#"{"error":"sk-se\/cret"1234567"}"#,
        r#""… Bearer sk-se/cr""#,
        "Bearer sk-se/cret…",
    ] {
        assert!(shows(secret, text), "{text}");
    }
    for text in ["", "sk-se", r#""sk-se/cr was cut""#, "Bearer sk-se/"] {
        assert!(!shows(secret, text), "{text}");
    }
}

#[test]
fn all_values_are_found_wherever_they_are_given() {
    for (given, expected) in [
        (r#"{"header":"a","value":"1"}"#, vec!["1"]),
        (r#"{"header":"a"}"#, vec![]),
        (r#"{"token_url":"u","client_secret":"2","value":null}"#, vec!["2"]),
        (r#"[{"header":"a","value":"1"},{"query":"b"},{"query":"c","value":"3"}]"#, vec!["1", "3"]),
        (r#"{"query":{"z":"1","b":null},"headers":{"y":"2","a":"1"}}"#, vec!["2", "1"]),
        (r#"{"query":{"z":"1"}}"#, vec!["1"]),
        (r#"{"query":"z","value":"1"}"#, vec!["1"]),
        ("7", vec![]),
    ] {
        assert_eq!(values(&format!(r#"{{"name":"n","credentials":{given}}}"#)), expected, "{given}");
    }
    assert!(values("{}").is_empty());
}

fn credentials(given: &str) -> Result<Credentials, String> {
    let document = format!(
        r#"{{"name":"n","type":"llm","credentials":{given},"capabilities":[{{"name":"a"}}],
            "transport":{{"kind":"http","url":"https://llm.example.com/"}}}}"#
    );
    let read = services::read(&"llm".into(), &document, RULES);
    let pointers = |faults: Vec<crate::base::json::Fault>| {
        faults.into_iter().map(|fault| fault.pointer).collect::<Vec<_>>().join(" ")
    };
    read.map(|read| read.credentials.unwrap()).map_err(pointers)
}

#[test]
fn credentials_may_be_given_by_place() {
    let given = r#"{"query":{"z":"1"},"headers":{"api-key":"2","X-More":"3"}}"#;
    let all = credentials(given).unwrap();
    let names: Vec<String> = all.each.iter().map(|one| format!("{:?}", one.place)).collect();
    assert_eq!(names, [r#"Header("api-key")"#, r#"Header("X-More")"#, r#"Query("z")"#]);
    for (given, pointers) in [
        (r#"{"headers":{}}"#, "#/credentials/headers"),
        (r#"{"headers":{"Host":"1"}}"#, "#/credentials/headers/Host"),
        (r#"{"headers":{"a":1}}"#, "#/credentials/headers/a"),
        (r#"{"headers":{"a":null}}"#, "#/credentials/headers/a"),
        (r#"{"headers":{"a":"1"},"query":{"b c":"2"}}"#, "#/credentials/query/b c"),
        (r#"{"headers":{"a":"1","A":"2"}}"#, "#/credentials/headers/A"),
        (r#"{"headers":{"a":"1"},"value":"2"}"#, "#/credentials/value"),
    ] {
        assert_eq!(credentials(given).unwrap_err(), pointers, "{given}");
    }
}
