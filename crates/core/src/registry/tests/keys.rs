use super::*;
use crate::registry::messages::RotateKey;

fn rotate(fixture: &mut Fixture, overlap_seconds: u64, hash: &str) -> Result<Box<Key>, WriteError> {
    let request = RotateKey { id: "k".into(), overlap_seconds, hash: hash.into(), last_four: "wxyz".into() };
    fixture.act(|registry, turn| registry.rotate_key(request, turn))
}

fn revoke(fixture: &mut Fixture, id: &str) -> Result<(), WriteError> {
    fixture.act(|registry, turn| registry.revoke_key(id, turn))
}

fn secrets(key: &Key) -> Vec<(&str, Option<Timestamp>)> {
    key.secrets.iter().map(|secret| (secret.hash.as_str(), secret.until)).collect()
}

#[test]
fn a_key_needs_an_existing_role() {
    let mut fixture = Fixture::new();
    let refused = fixture.unchanged(|fixture| fixture.create_key("k", "auditor"));
    assert_eq!(refusal(refused), json!({"faults": [{"pointer": "#/role", "detail": "must be an existing role"}]}));
    fixture.put(DocumentKind::Role, "auditor", &role(&["audit:read"]));
    assert_eq!(fixture.create_key("k", "auditor").unwrap().role, "auditor");
    for role in ["admin", "operator", "caller", "viewer", "service"] {
        assert!(fixture.create_key(&format!("k-{role}"), role).is_ok(), "{role}");
    }
}

#[test]
fn a_key_is_created_once() {
    let mut fixture = Fixture::new();
    let added = fixture.added(|fixture| {
        let key = fixture.create_key("k", "caller").unwrap();
        assert_eq!((key.created_at, secrets(&key)), (at(0), vec![("hash of k", None)]));
    });
    assert_eq!((added.revisions, added.notifications.len()), (1, 0));
    let [entry] = added.audit.as_slice() else { panic!("{:?}", added.audit) };
    assert_eq!((&entry["action"], &entry["object"]), (&json!("key.created"), &json!("keys/k")));
    assert_eq!(entry["changes"]["role"], json!({"from": null, "to": "caller"}));
    assert_eq!(added.events, [("key.created".into(), json!({"id": "k", "name": "The key k", "role": "caller"}))]);
    let refused = fixture.unchanged(|fixture| fixture.create_key("k", "caller"));
    assert_eq!(refusal(refused), conflict());
}

#[test]
fn a_key_that_does_not_exist_cannot_be_changed() {
    let mut fixture = Fixture::new();
    fixture.unchanged(|fixture| {
        assert_eq!(refusal(rotate(fixture, 0, "other")), "absent");
        assert_eq!(refusal(revoke(fixture, "k")), "absent");
    });
}

#[test]
fn the_previous_secrets_work_until_the_overlap_is_over() {
    let mut fixture = Fixture::new();
    fixture.create_key("k", "caller").unwrap();
    let key = rotate(&mut fixture, 100, "second").unwrap();
    assert_eq!(secrets(&key), [("hash of k", Some(at(100_000))), ("second", None)]);
    fixture.pass(10 * SECOND);
    // A later rotation never gives an earlier secret more time.
    let key = rotate(&mut fixture, 200, "third").unwrap();
    let expected = [("hash of k", Some(at(100_000))), ("second", Some(at(210_000))), ("third", None)];
    assert_eq!(secrets(&key), expected);
    let key = rotate(&mut fixture, 20, "fourth").unwrap();
    let until = Some(at(30_000));
    assert_eq!(secrets(&key), [("hash of k", until), ("second", until), ("third", until), ("fourth", None)]);
    fixture.pass(20 * SECOND);
    let key = rotate(&mut fixture, 60, "fifth").unwrap();
    assert_eq!(secrets(&key), [("fourth", Some(at(90_000))), ("fifth", None)]);
    let key = rotate(&mut fixture, 0, "sixth").unwrap();
    assert_eq!(secrets(&key), [("sixth", None)]);
    assert_eq!(secrets(&fixture.registry.key("k").unwrap().unwrap()), [("sixth", None)]);
}

#[test]
fn a_rotation_has_one_revision_and_one_audit_entry_and_no_event() {
    let mut fixture = Fixture::new();
    fixture.create_key("k", "caller").unwrap();
    let added = fixture.added(|fixture| rotate(fixture, 60, "the second hash").unwrap());
    assert_eq!((added.revisions, added.events.len(), added.notifications.len()), (1, 0, 0));
    let [entry] = added.audit.as_slice() else { panic!("{:?}", added.audit) };
    assert_eq!((&entry["action"], &entry["object"]), (&json!("key.rotated"), &json!("keys/k")));
    let changes = json!({"last_four": {"from": null, "to": "wxyz"}, "overlap_seconds": {"from": null, "to": 60}});
    assert_eq!(entry["changes"], changes);
    assert!(!fixture.audit_text().contains("hash"), "{}", fixture.audit_text());
}

#[test]
fn a_revoked_key_is_deleted_and_its_sockets_are_closed() {
    let mut fixture = Fixture::new();
    fixture.create_key("k", "caller").unwrap();
    fixture.storage.record_use("k", at(5)).unwrap();
    let added = fixture.added(|fixture| revoke(fixture, "k").unwrap());
    assert_eq!((added.revisions, added.audit.len()), (1, 1));
    assert_eq!((&added.audit[0]["action"], &added.audit[0]["object"]), (&json!("key.revoked"), &json!("keys/k")));
    assert_eq!(added.events, [("key.revoked".into(), json!({"id": "k"}))]);
    assert_eq!(added.notifications, [json!({"revoke_principal": {"principal": "key:k", "at": "hub"}})]);
    assert!(fixture.registry.key("k").unwrap().is_none());
    assert_eq!(fixture.storage.last_used().unwrap(), []);
    assert!(fixture.storage.was_revoked("k").unwrap());
}

#[test]
fn the_hub_and_each_lane_with_sockets_learn_of_a_revoked_key_by_themselves() {
    let mut fixture = Fixture::of("acme");
    for (name, document) in [("bot", connecting()), ("mole", connecting()), ("words", probed())] {
        fixture.put_service(name, &document);
    }
    fixture.create_key("k", "service").unwrap();
    let added = fixture.added(|fixture| revoke(fixture, "k").unwrap());
    let revoke = |at: Value| json!({"revoke_principal": {"principal": "key:k", "at": at}});
    let expected = [revoke(json!("hub")), revoke(lane(&fixture, "bot")), revoke(lane(&fixture, "mole"))];
    assert_eq!(added.notifications, expected);
}

#[test]
fn the_use_of_a_key_changes_no_revision_and_only_grows() {
    let mut fixture = Fixture::new();
    fixture.create_key("k", "caller").unwrap();
    let added = fixture.added(|fixture| {
        for (key, ms) in [("k", 50), ("k", 20), ("unknown", 30)] {
            fixture.storage.record_use(key, at(ms)).unwrap();
        }
    });
    assert_eq!((added.revisions, added.audit.len()), (0, 0));
    assert_eq!(fixture.storage.last_used().unwrap(), [("k".to_string(), at(50))]);
}
