use super::*;
use crate::http::egress_address::Policy;
use crate::http::merge_patch::merged;
use semver::Version;
use serde_json::{Value, json};

const RULES: Rules<'static> =
    Rules { addresses: Policy::STRICT, own_hosts: &[], demo: true, bindings: None, stored: None };

fn smallest() -> Value {
    json!({
        "name": "Echo", "type": "tool",
        "transport": {"kind": "http", "url": "https://echo.example.com/run"},
        "capabilities": [{"name": "echo"}]
    })
}

fn pointers(document: &Value) -> Vec<String> {
    match read(&"echo".into(), &document.to_string(), RULES) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.into_iter().map(|fault| fault.pointer).collect(),
    }
}

#[test]
fn the_smallest_service_gets_sensible_defaults() {
    let registration = read(&"echo".into(), &smallest().to_string(), RULES).unwrap();
    let capability = &registration.service.capabilities[0];
    assert_eq!(capability.version, Version::new(1, 0, 0));
    assert!(capability.durable && !capability.idempotent);
    assert_eq!((capability.timeout_seconds, registration.service.weight, registration.service.tier), (60, 1, 0));
    assert_eq!(registration.service.status(&ObservedStatus::default()), "unknown");
}

#[test]
fn every_fault_is_named() {
    let document = json!({
        "type": "robot", "colour": "red", "tags": [1],
        "transport": {"kind": "http", "url": "http://10.0.0.1/"},
        "credentials": {"header": "Host", "value": "x"},
        "signing_secret": "secret",
        "capabilities": [
            {"name": "a b", "version": "1", "input_schema": {"type": "strin"}},
            {"name": "same"}, {"name": "same"},
            {"name": "ok", "permissions": ["a:*"], "timeout_seconds": 0}
        ],
        "retry": {"base_ms": 100, "cap_ms": 5}
    });
    let mut found = pointers(&document);
    found.sort();
    found.dedup();
    let mut expected = vec![
        "#/name",
        "#/type",
        "#/colour",
        "#/tags/0",
        "#/transport/url",
        "#/credentials/header",
        "#/signing_secret",
        "#/capabilities/0/name",
        "#/capabilities/0/version",
        "#/capabilities/0/input_schema/type",
        "#/capabilities/2/name",
        "#/capabilities/3/permissions/0",
        "#/capabilities/3/timeout_seconds",
        "#/retry/cap_ms",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_shown_document_can_be_sent_back() {
    let registration = read(&"echo".into(), &smallest().to_string(), RULES).unwrap();
    let view = registration.service.view(&ObservedStatus::default(), Timestamp(1), Timestamp(2));
    let shown = serde_json::to_string(&view).unwrap();
    assert!(read(&"echo".into(), &shown, RULES).is_ok());
}

#[test]
fn draining_is_configured_and_undone() {
    let status = |patch: Value| {
        let document = merged(&json!({"status": "online"}).to_string(), &smallest().to_string());
        read(&"echo".into(), &merged(&document, &patch.to_string()), RULES)
            .unwrap()
            .service
            .status(&ObservedStatus::default())
    };
    assert_eq!(status(json!({"status": "draining"})), "draining");
    assert_eq!(status(json!({"status": null})), "unknown");
}

#[test]
fn health_is_asked_for_at_the_origin_of_the_service_whatever_its_path() {
    let mut document = smallest();
    for (path, expected) in [
        ("/health", "https://echo.example.com/health"),
        ("/up?full=1", "https://echo.example.com/up?full=1"),
        ("//evil.example.com/", "https://echo.example.com//evil.example.com/"),
        ("/../../x#y", "https://echo.example.com/x%23y"),
        ("/@evil.example.com:1/", "https://echo.example.com/@evil.example.com:1/"),
    ] {
        document["health"] = json!({"path": path});
        let service = read(&"echo".into(), &document.to_string(), RULES).unwrap().service;
        assert_eq!(service.probe_url().as_deref(), Some(expected), "{path}");
    }
    let service = read(&"echo".into(), &smallest().to_string(), RULES).unwrap().service;
    assert_eq!(service.probe_url().as_deref(), Some("https://echo.example.com/run"));
}

#[test]
fn the_demonstration_is_registered_only_where_it_is_switched_on() {
    let mut document = smallest();
    document["transport"] = json!({"kind": "demo"});
    let registration = read(&"demo".into(), &document.to_string(), RULES).unwrap();
    assert_eq!(registration.service.transport, Transport::Demo {});
    assert_eq!(registration.service.probe_url(), None);
    let shown = serde_json::to_value(&registration.service).unwrap();
    assert_eq!(shown["transport"], json!({"kind": "demo"}));
    let faults = read(&"demo".into(), &document.to_string(), Rules { demo: false, ..RULES }).unwrap_err();
    assert_eq!(faults.first().map(|fault| fault.pointer.as_str()), Some("#/transport/kind"));
    document["transport"]["url"] = json!("https://echo.example.com/run");
    assert_eq!(pointers(&document), ["#/transport/url"]);
}

#[test]
fn openai_services_offer_the_operations_of_that_api() {
    let read_one = |more: &str| {
        let text = format!(
            r#"{{"name":"LLM","type":"llm","transport":{{"kind":"openai","url":"https://llm.example.com/v1"}}{more}}}"#
        );
        read(&"llm".into(), &text, RULES)
    };
    for absent in ["", r#","capabilities":null"#] {
        let service = read_one(absent).unwrap().service;
        let names: Vec<&str> = service.capabilities.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["chat", "embed", "models"]);
        assert_eq!(service.probe_url().as_deref(), Some("https://llm.example.com/v1/models"));
    }
    let some = read_one(r#","capabilities":[{"name":"chat","timeout_seconds":20}]"#).unwrap().service;
    assert!(some.capabilities[0].input_schema.is_some() && some.capabilities[0].output_schema.is_some());
    for (more, at) in [
        (r#","capabilities":[{"name":"sing"}]"#, "#/capabilities/0/name"),
        (r#","capabilities":[]"#, "#/capabilities"),
        (r#","capabilities":7"#, "#/capabilities"),
    ] {
        let faults = read_one(more).unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.pointer.as_str()).collect::<Vec<_>>(), [at]);
    }
}

#[test]
fn a_connected_service_has_a_grace_period_and_no_address() {
    let mut document = smallest();
    document["transport"] = json!({"kind": "socket"});
    let read = |document: &Value| read(&"echo".into(), &document.to_string(), RULES);
    assert_eq!(read(&document).unwrap().service.transport, Transport::Socket { grace_seconds: 10 });
    document["credentials"] = json!({"header": "Authorization", "value": "x"});
    document["health"] = json!({"path": "/"});
    document["transport"] = json!({"kind": "socket", "grace_seconds": 301, "url": "https://a.example.com/"});
    let mut found = pointers(&document);
    found.sort();
    assert_eq!(found, ["#/credentials", "#/health", "#/transport/grace_seconds", "#/transport/url"]);
}

#[test]
fn a_worker_is_named_by_a_binding_there_is() {
    let names = ["WORDS".to_string(), "OTHER".to_string()];
    let rules = Rules { bindings: Some(&names), ..RULES };
    let with = |transport: Value, rules: Rules<'_>| {
        let mut document = smallest();
        document["transport"] = transport;
        document["health"] = json!({"path": "//example.com/well?x=1", "interval_seconds": 5});
        read(&"echo".into(), &document.to_string(), rules).map(|read| read.service)
    };
    let service = with(json!({"kind": "binding", "binding": "WORDS"}), rules).unwrap();
    assert_eq!(service.transport, Transport::Binding { binding: "WORDS".into(), path: "/".into() });
    assert_eq!(service.probe_url().as_deref(), Some("//example.com/well?x=1"));
    let other = with(json!({"kind": "binding", "binding": "OTHER", "path": "/a"}), rules).unwrap();
    assert!(!service.transport.same_origin(&other.transport) && other.transport.same_origin(&other.transport));
    assert!(!service.transport.same_origin(&Transport::Demo {}));
    for (transport, rules, pointer) in [
        (json!({"kind": "binding", "binding": "UNKNOWN"}), rules, "#/transport/binding"),
        (json!({"kind": "binding", "binding": "WORDS"}), RULES, "#/transport/binding"),
        (json!({"kind": "binding"}), rules, "#/transport/binding"),
        (json!({"kind": "binding", "binding": "WORDS", "path": "a"}), rules, "#/transport/path"),
        (json!({"kind": "binding", "binding": "WORDS", "path": "/a#b"}), rules, "#/transport/path"),
    ] {
        let faults = with(transport, rules).unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.pointer.as_str()).collect::<Vec<_>>(), [pointer]);
    }
}
