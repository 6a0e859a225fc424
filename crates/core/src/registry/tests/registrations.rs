use super::*;
use crate::access::oauth::registrations::MAX_REGISTRATIONS;
use crate::registry::size::MAX_REGISTRATION_BYTES;

fn is_known(fixture: &Fixture, id: &str) -> bool {
    fixture.document(DocumentKind::Client, id).is_some()
}

/// Registers as many clients as there may be, from one address.
fn full() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.by.address = "198.51.100.1".into();
    for number in 0..MAX_REGISTRATIONS {
        fixture.pass(1);
        fixture.register(&format!("dyn-{number:03}")).unwrap();
    }
    fixture
}

#[test]
fn a_client_registers_itself_once() {
    let mut fixture = Fixture::new();
    let added = fixture.added(|fixture| {
        let RegisterReply::Client(written) = fixture.register("dyn-a").unwrap() else { panic!("there is room") };
        assert_eq!((written.created, written.stored.version), (true, version(1)));
        let source = fingerprint(OWN, ADDRESS);
        assert_eq!(Some(source), written.stored.source.map(|source| format!("fingerprint:{source}")));
    });
    assert_eq!((added.revisions, added.events.len(), added.notifications.len()), (1, 0, 0));
    let [entry] = added.audit.as_slice() else { panic!("{:?}", added.audit) };
    assert_eq!((&entry["action"], &entry["object"]), (&json!("client.created"), &json!("clients/dyn-a")));
    assert_eq!(entry["changes"]["secret_hash"]["to"], fingerprint(OWN, "a hash"));
    let refused = fixture.unchanged(|fixture| fixture.register("dyn-a"));
    assert_eq!(refusal(refused), conflict());
}

#[test]
fn the_clients_of_one_network_have_one_source() {
    let mut fixture = Fixture::new();
    let mut source = |id: &str, address: &str| {
        fixture.by.address = address.into();
        fixture.register(id).unwrap();
        fixture.document(DocumentKind::Client, id).unwrap().source.unwrap()
    };
    let first = source("dyn-a", "2001:db8:1:2:3::1");
    assert_eq!(first, source("dyn-b", "2001:db8:1:2:4::1"));
    assert_ne!(first, source("dyn-c", "2001:db8:1:3:3::1"));
}

#[test]
fn the_oldest_unused_client_of_the_address_with_the_most_makes_room() {
    let mut fixture = full();
    fixture.storage.record_use("clients/dyn-000", fixture.now).unwrap();
    fixture.by.address = ADDRESS.into();
    fixture.pass(1);
    let added = fixture.added(|fixture| fixture.register("dyn-new").unwrap());
    assert_eq!((added.revisions, added.events.len(), added.notifications.len()), (1, 0, 0));
    let entries: Vec<_> =
        added.audit.iter().map(|entry| (&entry["action"], &entry["object"], &entry["actor"])).collect();
    let (deleted, created) = (json!("client.deleted"), json!("client.created"));
    let (first, second) = (json!("clients/dyn-001"), json!("clients/dyn-new"));
    let (gateway, ada) = (json!("gateway"), json!("key:ada"));
    assert_eq!(entries, [(&deleted, &first, &gateway), (&created, &second, &ada)]);
    assert_eq!(added.audit[0]["changes"], json!({"reason": "unused"}));
    assert!(is_known(&fixture, "dyn-000") && !is_known(&fixture, "dyn-001") && is_known(&fixture, "dyn-new"));
    assert!(fixture.storage.was_revoked("clients/dyn-001").unwrap());
    assert_eq!(fixture.registry.size().unwrap().registrations.count, MAX_REGISTRATIONS as u64);
    // The flooding address again, although the other client is the only one of its address.
    fixture.by.address = "198.51.100.1".into();
    fixture.register("dyn-newer").unwrap();
    assert!(is_known(&fixture, "dyn-new") && !is_known(&fixture, "dyn-002"));
}

#[test]
fn clients_in_use_are_never_displaced() {
    let mut fixture = full();
    for number in 0..MAX_REGISTRATIONS {
        fixture.storage.record_use(&format!("clients/dyn-{number:03}"), fixture.now).unwrap();
    }
    let reply = fixture.unchanged(|fixture| fixture.register("dyn-new").unwrap());
    assert!(matches!(reply, RegisterReply::AllInUse), "{reply:?}");
}

#[test]
fn registered_clients_share_a_limited_space() {
    let mut fixture = Fixture::new();
    let large = json!({"name": "x".repeat(500_000)});
    let mut register = |id: &str, document: &Value| {
        fixture.pass(1);
        let request = RegisterClient { id: id.into(), document: raw(document) };
        fixture.act(|registry, turn| registry.register(request, turn)).unwrap()
    };
    for id in ["dyn-a", "dyn-b", "dyn-c", "dyn-d"] {
        assert!(matches!(register(id, &large), RegisterReply::Client(_)));
    }
    assert!(!is_known(&fixture, "dyn-a") && is_known(&fixture, "dyn-b"));
    let size = fixture.registry.size().unwrap();
    assert_eq!((size.registrations.count, size.bytes), (3, 0));
    assert!(size.registrations.bytes <= MAX_REGISTRATION_BYTES);
}

#[test]
fn unused_clients_are_deleted_sooner_than_idle_ones() {
    let mut fixture = Fixture::new();
    fixture.register("dyn-unused").unwrap();
    fixture.register("dyn-used").unwrap();
    fixture.put(DocumentKind::Client, "app", &client());
    fixture.storage.record_use("clients/dyn-used", at(0)).unwrap();
    fixture.pass(UNUSED_MS - 1);
    fixture.sweep();
    assert!(is_known(&fixture, "dyn-unused"));
    fixture.pass(1);
    let added = fixture.added(Fixture::sweep);
    assert_eq!((added.revisions, added.audit.len()), (1, 1));
    assert_eq!(
        (&added.audit[0]["action"], &added.audit[0]["object"]),
        (&json!("client.deleted"), &json!("clients/dyn-unused"))
    );
    let revocation = json!({"from": "clients/default.dyn-unused"});
    let expected = [
        json!({"revoke_dependents": {"revocation": revocation, "at": "hub"}}),
        json!({"relay": {"revocation": revocation, "tenants": {"after": ""}}}),
    ];
    assert_eq!(added.notifications, expected);
    fixture.pass(IDLE_MS - UNUSED_MS - 1);
    fixture.sweep();
    assert!(is_known(&fixture, "dyn-used"));
    fixture.pass(1);
    fixture.sweep();
    assert!(!is_known(&fixture, "dyn-used") && is_known(&fixture, "app"));
    assert!(fixture.storage.was_revoked("clients/dyn-used").unwrap());
}

#[test]
fn a_sweep_deletes_a_few_clients_and_the_next_one_more() {
    let mut fixture = Fixture::new();
    for number in 0..15 {
        fixture.register(&format!("dyn-{number:03}")).unwrap();
    }
    fixture.pass(UNUSED_MS);
    assert_eq!(fixture.added(Fixture::sweep).revisions, 10);
    assert_eq!(fixture.added(Fixture::sweep).revisions, 5);
    assert_eq!(fixture.registry.size().unwrap().registrations.count, 0);
}

#[test]
fn only_the_first_tenant_deletes_unused_clients() {
    let mut fixture = Fixture::of("acme");
    fixture.register("dyn-a").unwrap();
    fixture.pass(IDLE_MS + UNUSED_MS);
    assert_eq!(fixture.added(Fixture::sweep).revisions, 0);
    assert!(is_known(&fixture, "dyn-a"));
}

#[test]
fn a_sweep_that_cannot_delete_clients_does_the_rest() {
    let mut fixture = Fixture::new();
    fixture.register("dyn-a").unwrap();
    fixture.register("dyn-b").unwrap();
    fixture.pass(31 * DAY);
    fixture.put_service("words", &probed());
    fixture.confirm_all();
    fixture.storage.fail_write(Some(0));
    let added = fixture.added(Fixture::sweep);
    assert_eq!((added.revisions, added.notifications.len()), (0, 0));
    let Effects { logs, lanes, .. } = fixture.effects();
    let [LogEntry::RegistrationsNotDeleted { reason }] = logs.as_slice() else { panic!("{logs:?}") };
    assert_eq!((reason.as_str(), lanes), ("the disk is full", vec![id("words")]));
    // The retention of older entries is over.
    assert!(fixture.audit().iter().all(|entry| entry["object"] == "services/words"));
    assert_eq!(fixture.added(Fixture::sweep).revisions, 2);
    assert_eq!(fixture.effects().logs, []);
}
