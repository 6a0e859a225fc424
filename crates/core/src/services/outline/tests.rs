use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn service(capabilities: &[Value], more: &Value) -> Service {
    let mut document = json!({
        "id": "words", "name": "Words", "type": "tool", "tags": ["a"], "capabilities": capabilities,
        "transport": {"kind": "http", "url": "https://words.example/"},
        "limits": {"max_concurrency": null, "max_queue": 1000},
        "retry": {"max_attempts": 3, "base_ms": 200, "cap_ms": 30_000}, "weight": 1, "tier": 0,
    });
    let members = document.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    serde_json::from_str(&document.to_string()).unwrap()
}

fn capability(name: &str, more: &Value) -> Value {
    let mut document = json!({
        "name": name, "version": "1.0.0", "idempotent": false, "durable": true, "timeout_seconds": 60,
        "permissions": [], "description": "d".repeat(500),
        "input_schema": {"type": "object", "properties": {"text": {"type": "string", "description": "t".repeat(900)}}},
    });
    document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    document
}

fn stored(outline: &ServiceOutline) -> String {
    serde_json::to_string(outline).unwrap()
}

#[test]
fn an_outline_omits_defaults_and_what_is_large() {
    let outline = service(&[capability("count", &json!({}))], &json!({"description": "long", "tags": []})).outline();
    let digest = &outline.tools;
    let form = json!({"id": "words", "type": "tool", "transport": "http",
        "capabilities": {"settings": [{}], "names": ["count"]}, "tools": digest});
    assert_eq!(serde_json::from_str::<Value>(&stored(&outline)).unwrap(), form);
    assert_eq!(digest.len(), 16);
}

#[test]
fn capabilities_keep_their_order_and_share_their_settings() {
    let slow = json!({"timeout_seconds": 300, "idempotent": true, "version": "2.0.0-rc.1"});
    let all = [
        capability("one", &json!({})),
        capability("two", &slow),
        capability("three", &json!({})),
        capability("two", &json!({"permissions": ["words:read"], "task_support": "required", "durable": false})),
        capability("four", &slow),
    ];
    let outline = service(&all, &json!({})).outline();
    let form: Value = serde_json::from_str(&stored(&outline)).unwrap();
    assert_eq!(form["capabilities"]["names"], json!(["one", ["two", 1], "three", ["two", 2], ["four", 1]]));
    let read: ServiceOutline = serde_json::from_value(form).unwrap();
    assert_eq!(read, outline);
    let second = &read.capabilities[1];
    assert_eq!((second.timeout_seconds, second.idempotent, second.durable), (300, true, true));
    assert_eq!(second.version.to_string(), "2.0.0-rc.1");
    let fourth = &read.capabilities[3];
    assert_eq!((fourth.durable, &*fourth.permissions), (false, &["words:read".to_string()][..]));
    assert_eq!(fourth.task_support, TaskSupport::Required);
}

#[test]
fn unknown_settings_are_refused() {
    let wrong = json!({"settings": [{}], "names": ["one", ["two", 1]]});
    let fault = serde_json::from_value::<Capabilities>(wrong).unwrap_err();
    assert!(fault.to_string().contains("unknown settings"), "{fault}");
}

#[test]
fn the_digest_of_tools_changes_with_what_clients_see_of_them_only() {
    let of = |capability: Value, more: Value| service(&[capability], &more).outline().tools;
    let first = of(capability("count", &json!({})), json!({}));
    assert_eq!(of(capability("count", &json!({})), json!({"weight": 9, "description": "x"})), first);
    assert_ne!(of(capability("count", &json!({"description": "other"})), json!({})), first);
    assert_ne!(of(capability("count", &json!({"input_schema": true})), json!({})), first);
}

#[test]
fn the_features_of_a_server_are_in_its_outline() {
    let catalogue = json!({"protocol_version": "2025-06-18", "server": {
        "capabilities": {"resources": {"listChanged": true}, "logging": {}, "experimental": {}},
        "instructions": "Ask.", "sessions": true}});
    let transport = json!({"kind": "mcp", "url": "https://a.example/", "timeout_seconds": 1, "refresh_seconds": 60,
        "changed_tools": "serve"});
    let app = json!({"tool": {"_meta": {"ui": {"resourceUri": "ui://one"}}}});
    let more = json!({"catalogue": catalogue, "transport": transport});
    let outline = service(&[capability("show", &app)], &more).outline();
    let server = outline.server.clone().unwrap();
    assert_eq!((server.features, server.apps), (vec!["resources".into(), "logging".into()], vec!["ui://one".into()]));
    assert!(server.sessions && server.instructions && outline.has_sessions());
    assert_eq!(server.protocol_version.as_deref(), Some("2025-06-18"));
    assert!(outline.declares("resources") && !outline.declares("prompts"));
    assert_eq!(outline.transport, TransportOutline::Mcp { refresh_seconds: 60 });
    assert_eq!(serde_json::from_str::<ServiceOutline>(&stored(&outline)).unwrap(), outline);
}

#[test]
fn a_thousand_services_with_twenty_thousand_tools_fit_into_a_mebibyte() {
    let bytes: usize = (0..1000)
        .map(|at| {
            let tool = |number| {
                let name = format!("search_documents_{number:02}");
                let hint = json!({"timeout_seconds": 300, "idempotent": number % 3 == 0});
                capability(&name, &hint)
            };
            let tools: Vec<Value> = (0..20).map(tool).collect();
            let catalogue = json!({"protocol_version": "2025-06-18",
                "server": {"capabilities": {"prompts": {}, "resources": {}}, "sessions": true}});
            let transport = json!({"kind": "mcp", "url": "https://a.example/", "timeout_seconds": 1,
                "refresh_seconds": 300, "changed_tools": "serve"});
            let more = json!({"id": format!("server-{at:04}"), "transport": transport, "catalogue": catalogue});
            stored(&service(&tools, &more).outline()).len()
        })
        .sum();
    // The rest is for the times and the digest that the registry adds to each outline.
    assert!(bytes < 850 * 1024, "{bytes} bytes");
}

proptest! {
    #[test]
    fn any_outline_survives_being_stored(
        names in proptest::collection::vec("[a-z]{1,12}", 1..8), timeouts in proptest::collection::vec(1_u64..4, 8),
        durable in any::<bool>(), weight in 1_u64..1000, tier in 0_u64..10, queue in 0_u64..2000,
        concurrency in proptest::option::of(1_u64..9), draining in any::<bool>(), attempts in 1_u64..10,
        grace in proptest::option::of(0_u64..300),
    ) {
        let capabilities: Vec<Value> = names.iter().zip(timeouts)
            .map(|(name, timeout)| capability(name, &json!({"timeout_seconds": timeout * 30, "durable": durable})))
            .collect();
        let transport = match grace {
            Some(grace) => json!({"kind": "socket", "grace_seconds": grace}),
            None => json!({"kind": "binding", "binding": "X", "path": "/"}),
        };
        let outline = service(&capabilities, &json!({
            "weight": weight, "tier": tier, "draining": draining, "transport": transport,
            "limits": {"max_concurrency": concurrency, "max_queue": queue},
            "retry": {"max_attempts": attempts, "base_ms": 200, "cap_ms": 30_000},
        })).outline();
        let read: ServiceOutline = serde_json::from_str(&stored(&outline)).unwrap();
        prop_assert_eq!(&read, &outline);
        prop_assert_eq!(read.limits.max_concurrency, concurrency);
        prop_assert_eq!(read.transport.connects(), grace.is_some());
    }
}
