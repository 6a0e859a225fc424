use std::slice;

use super::*;
use crate::registry::messages::{AuditQuery, RejectedCredentials, RotateKey};

const MINUTE: u64 = 60 * SECOND;

fn rejected(key: &str, hash: &str) -> RejectedCredentials {
    RejectedCredentials { key: Some(key.into()), client: None, hash: hash.into(), count: 1, reason: None }
}

fn of_client(client: Option<&str>, reason: Option<&str>) -> RejectedCredentials {
    let (client, reason) = (client.map(Into::into), reason.map(Into::into));
    RejectedCredentials { key: None, client, hash: "h".into(), count: 1, reason }
}

fn reject(fixture: &mut Fixture, rejected: &RejectedCredentials) {
    fixture.act(|registry, turn| registry.record_rejection(rejected, turn)).unwrap();
}

/// The object, the reason and the count of each logged rejection.
fn logged(added: &Added) -> Vec<(String, String, u64)> {
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let rejections = added.audit.iter().filter(|entry| entry["action"] == "credentials.refused");
    let of = |entry: &Value| {
        let changes = &entry["changes"];
        (text(&entry["object"]), text(&changes["reason"]), changes["count"].as_u64().unwrap())
    };
    rejections.map(of).collect()
}

fn entry(object: &str, reason: &str, count: u64) -> (String, String, u64) {
    (object.into(), reason.into(), count)
}

#[test]
fn a_rejected_key_is_logged_with_the_actual_reason() {
    let mut fixture = Fixture::new();
    for id in ["revoked", "known", "rotated", "ended"] {
        fixture.create_key(id, "caller").unwrap();
    }
    fixture.act(|registry, turn| registry.revoke_key("revoked", turn)).unwrap();
    let rotate =
        RotateKey { id: "rotated".into(), overlap_seconds: 60, hash: "second".into(), last_four: "wxyz".into() };
    fixture.act(|registry, turn| registry.rotate_key(rotate, turn)).unwrap();
    fixture.pass(60 * SECOND);
    let added = fixture.added(|fixture| {
        for (key, hash) in [
            ("revoked", "hash of revoked"),
            ("never", "x"),
            ("known", "x"),
            ("rotated", "hash of rotated"),
            // Valid in the meantime.
            ("known", "hash of known"),
            ("rotated", "second"),
        ] {
            reject(fixture, &rejected(key, hash));
        }
        fixture.pass(100 * DAY);
        reject(fixture, &rejected("ended", "hash of ended"));
    });
    let expected = [
        entry("keys/revoked", "revoked", 1),
        entry("keys/never", "unknown", 1),
        entry("keys/known", "wrong", 1),
        entry("keys/rotated", "expired", 1),
        entry("keys/ended", "expired", 1),
    ];
    assert_eq!((logged(&added).as_slice(), added.revisions), (expected.as_slice(), 0));
    let first = &added.audit[0];
    assert_eq!((&first["actor"], &first["outcome"]), (&json!("unknown"), &json!("refused")));
    assert_eq!((&first["address"], &first["request_id"]), (&json!(ADDRESS), &json!("req_1")));
}

#[test]
fn a_rejected_client_is_logged_with_the_actual_reason() {
    let mut fixture = Fixture::new();
    fixture.put(DocumentKind::Client, "app", &client());
    fixture.delete(DocumentKind::Client, "app");
    let added = fixture.added(|fixture| {
        reject(fixture, &of_client(Some("app"), None));
        reject(fixture, &of_client(Some("other"), None));
        reject(fixture, &of_client(Some("other"), Some("wrong")));
        reject(fixture, &of_client(None, Some("expired")));
        reject(fixture, &of_client(None, None));
    });
    let expected = [
        entry("clients/app", "revoked", 1),
        entry("clients/other", "unknown", 1),
        entry("clients/other", "wrong", 1),
        entry("credentials", "expired", 1),
        entry("credentials", "malformed", 1),
    ];
    assert_eq!(logged(&added), expected);
}

#[test]
fn the_same_rejection_is_logged_once_in_ten_minutes() {
    let mut fixture = Fixture::new();
    let added = fixture.added(|fixture| {
        reject(fixture, &rejected("k", "x"));
        fixture.pass(10 * MINUTE - 1);
        reject(fixture, &RejectedCredentials { count: 5, ..rejected("k", "x") });
        fixture.by.address = "198.51.100.1".into();
        reject(fixture, &rejected("k", "x"));
        fixture.by.address = ADDRESS.into();
        fixture.pass(1);
        reject(fixture, &rejected("k", "x"));
    });
    let of = |count| entry("keys/k", "unknown", count);
    assert_eq!(logged(&added), [of(1), of(1), of(6)]);
    assert_eq!(added.audit[1]["address"], "198.51.100.1");
}

#[test]
fn collected_rejections_are_logged_by_the_sweep() {
    let mut fixture = Fixture::new();
    let added = fixture.added(|fixture| {
        reject(fixture, &rejected("k", "x"));
        reject(fixture, &rejected("k", "x"));
        fixture.pass(10 * MINUTE - 1);
        fixture.act(|registry, turn| registry.sweep(turn)).unwrap();
    });
    assert_eq!(logged(&added), [entry("keys/k", "unknown", 1)]);
    fixture.pass(1);
    let added = fixture.added(|fixture| fixture.act(|registry, turn| registry.sweep(turn)).unwrap());
    assert_eq!(logged(&added), [entry("keys/k", "unknown", 1)]);
    assert_eq!((&added.audit[0]["request_id"], &added.audit[0]["address"]), (&json!(""), &json!(ADDRESS)));
}

#[test]
fn rejections_with_many_names_share_one_entry() {
    let mut fixture = Fixture::new();
    let added = fixture.added(|fixture| {
        for number in 0..100 {
            reject(fixture, &rejected(&format!("k{number}"), "x"));
        }
    });
    let entries = logged(&added);
    assert_eq!(entries.len(), 33);
    assert_eq!(entries.last(), Some(&entry("credentials", "various", 1)));
    assert_eq!(added.audit.last().unwrap()["address"], "various");
}

#[test]
fn entries_are_deleted_after_the_retention() {
    let mut fixture = Fixture::new();
    fixture.create_key("k", "caller").unwrap();
    fixture.act(|registry, turn| registry.revoke_key("k", turn)).unwrap();
    fixture.pass(DAY);
    fixture.put(DocumentKind::Limit, "one", &limit());
    fixture.pass(29 * DAY);
    fixture.act(|registry, turn| registry.sweep(turn)).unwrap();
    assert_eq!(fixture.audit().len(), 3);
    fixture.pass(1);
    fixture.act(|registry, turn| registry.sweep(turn)).unwrap();
    assert_eq!(fixture.audit().iter().map(|entry| &entry["action"]).collect::<Vec<_>>(), ["limit.created"]);
    let added = fixture.added(|fixture| reject(fixture, &rejected("k", "x")));
    assert_eq!(logged(&added), [entry("keys/k", "unknown", 1)]);
}

#[test]
fn the_log_can_be_searched() {
    let mut fixture = Fixture::new();
    fixture.put(DocumentKind::Role, "auditor", &role(&["audit:read"]));
    fixture.pass(SECOND);
    fixture.create_key("k", "auditor").unwrap();
    fixture.by.actor = "key:bob".into();
    fixture.pass(SECOND);
    fixture.put(DocumentKind::Role, "auditor", &role(&[]));
    let found = |query: AuditQuery| -> Vec<(u64, String)> {
        let entries = fixture.storage.audit(&query).unwrap().into_iter();
        let action = |entry: &RawValue| serde_json::from_str::<Value>(entry.get()).unwrap()["action"].clone();
        entries.map(|(number, entry)| (number, action(&entry).as_str().unwrap().to_string())).collect()
    };
    let all = AuditQuery { limit: 10, ..AuditQuery::default() };
    let [updated, key, created] = [(3, "role.updated"), (2, "key.created"), (1, "role.created")]
        .map(|(number, action)| (number, action.to_string()));
    assert_eq!(found(all.clone()), [updated.clone(), key.clone(), created.clone()]);
    assert_eq!(found(AuditQuery { limit: 1, ..all.clone() }), slice::from_ref(&updated));
    let actor = Some("key:bob".to_string());
    assert_eq!(found(AuditQuery { actor, ..all.clone() }), slice::from_ref(&updated));
    let action = Some("role.*".to_string());
    assert_eq!(found(AuditQuery { action, ..all.clone() }), [updated, created.clone()]);
    let object = Some("keys/k".to_string());
    assert_eq!(found(AuditQuery { object, ..all.clone() }), slice::from_ref(&key));
    let (after, before) = (Some(at(0)), Some(at(2_000)));
    assert_eq!(found(AuditQuery { after, before, ..all.clone() }), [key]);
    assert_eq!(found(AuditQuery { below: Some(2), ..all }), [created]);
}

#[test]
fn the_entries_of_one_turn_have_different_ids() {
    let mut fixture = Fixture::new();
    for number in 0..40 {
        fixture.put(DocumentKind::Limit, &format!("l{number}"), &limit());
    }
    fixture.create_key("k", "caller").unwrap();
    let by = Actor::default();
    let turn = Turn::new(&by, fixture.now, [255; 10]);
    for _ in 0..3 {
        let change = crate::registry::audit::Change { by: &by, action: "a", object: "b", changes: Default::default() };
        fixture.registry.add_audit_entry(&change, &turn, crate::access::audit::AuditOutcome::Done).unwrap();
    }
    let entries = fixture.audit();
    let ids: std::collections::BTreeSet<&str> = entries.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), entries.len()), (44, 44));
    assert!(ids.iter().all(|id| id.starts_with("aud_") && id.len() == 30));
    // What the gateway does by itself has its name.
    assert_eq!(entries[43]["actor"], "gateway");
}
