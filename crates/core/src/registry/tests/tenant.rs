use super::*;
use crate::access::tenant::Retention;
use crate::registry::messages::{Establish, EstablishReply};

fn retention(days: u64) -> Retention {
    Retention { context_retention_days: Some(days), event_retention_hours: Some(2) }
}

fn establish(fixture: &mut Fixture, days: u64, key: Option<NewKey>) -> Result<EstablishReply, WriteError> {
    let request = Establish { retention: retention(days), key };
    fixture.act(|registry, turn| registry.establish(request, turn))
}

fn close(fixture: &mut Fixture) {
    fixture.act(|registry, turn| registry.close(turn)).unwrap();
}

#[test]
fn a_tenant_is_established_with_its_retention_and_its_first_key() {
    let mut fixture = Fixture::of("acme");
    assert_eq!(fixture.registry.retention(), Retention::default());
    let added = fixture.added(|fixture| {
        let reply = establish(fixture, 7, Some(new_key("k", "admin"))).unwrap();
        assert!(matches!(reply, EstablishReply::Key(key) if key.id == "k"));
    });
    assert_eq!((added.revisions, added.event_types()), (2, vec!["key.created"]));
    assert_eq!(added.notifications, [json!("retain")]);
    let actions: Vec<_> = added.audit.iter().map(|entry| (&entry["action"], &entry["object"])).collect();
    let (updated, tenant) = (json!("tenant.updated"), json!("tenant"));
    assert_eq!(actions, [(&updated, &tenant), (&json!("key.created"), &json!("keys/k"))]);
    assert_eq!(added.audit[0]["changes"]["context_retention_days"], json!({"from": null, "to": 7}));
    assert_eq!(fixture.registry.retention(), retention(7));
    let HelloReply::Revision { context_retention_days, .. } = fixture.registry.hello(store(0), at(0)).unwrap();
    assert_eq!(context_retention_days, Some(7));
}

#[test]
fn an_unchanged_retention_is_no_write() {
    let mut fixture = Fixture::of("acme");
    establish(&mut fixture, 7, None).unwrap();
    let reply = fixture.unchanged(|fixture| establish(fixture, 7, None).unwrap());
    assert!(matches!(reply, EstablishReply::Done));
    let added = fixture.added(|fixture| establish(fixture, 8, None).unwrap());
    assert_eq!((added.revisions, added.audit.len()), (1, 1));
    // The last one concerns the present retention, so one is enough.
    assert_eq!(fixture.notifications(), [json!("retain")]);
}

#[test]
fn the_first_key_of_a_tenant_is_created_once() {
    let mut fixture = Fixture::of("acme");
    establish(&mut fixture, 7, Some(new_key("k", "admin"))).unwrap();
    let refused = fixture.unchanged(|fixture| establish(fixture, 7, Some(new_key("k", "admin"))));
    assert_eq!(refusal(refused), conflict());
}

#[test]
fn the_tenant_is_remembered_from_the_first_message() {
    let mut fixture = Fixture::of("acme");
    fixture.registry.remember_tenant(&TenantId::parse("other").unwrap()).unwrap();
    assert_eq!(fixture.registry.tenant().as_str(), "acme");
    assert_eq!(fixture.restarted().registry.tenant().as_str(), "acme");
}

#[test]
fn what_would_be_lost_with_a_tenant_is_listed() {
    let mut fixture = Fixture::of("acme");
    assert_eq!(fixture.registry.holdings().unwrap(), Vec::<String>::new());
    fixture.put(DocumentKind::Limit, "one", &limit());
    for name in ["words", "bot"] {
        fixture.put_service(name, &probed());
    }
    fixture.create_key("k", "caller").unwrap();
    assert_eq!(fixture.registry.holdings().unwrap(), ["services/bot", "services/words", "keys/k"]);
}

#[test]
fn with_a_tenant_everything_is_deleted() {
    let mut fixture = Fixture::of("acme");
    fixture.put_service("words", &called("https://words.example/a"));
    fixture.put_service("bot", &connecting());
    fixture.create_key("k", "caller").unwrap();
    for kind in DocumentKind::ALL {
        fixture.put(kind, "one", &webhook(Some(&signing(1))));
    }
    assert!(!fixture.registry.is_closed().unwrap());
    let added = fixture.added(close);
    assert_eq!((added.revisions, added.events.len()), (1, 0));
    let [entry] = added.audit.as_slice() else { panic!("{:?}", added.audit) };
    assert_eq!((&entry["action"], &entry["object"]), (&json!("tenant.deleted"), &json!("tenant")));
    assert_eq!(entry["changes"]["services"], json!({"from": 2, "to": null}));
    assert_eq!(entry["changes"]["keys"], json!({"from": 1, "to": null}));
    assert!(fixture.storage.read(|disk| disk.documents.is_empty()));
    assert!(fixture.registry.is_closed().unwrap());
    assert_eq!(fixture.registry.retention(), Retention::ENDED);
    let size = fixture.registry.size().unwrap();
    assert_eq!((size.kinds.len(), size.bytes, size.registrations.count), (0, 0, 0));
    let settings = |service: &str, grace_ms: Option<u64>| {
        json!({"forget_lane": {"service": service, "configured_at": START, "moved_at": START,
            "max_concurrency": null, "max_queue": 1000, "grace_ms": grace_ms}})
    };
    let expected = [
        settings("bot", Some(10_000)),
        settings("words", None),
        json!({"revoke_dependents": {"revocation": "tenant", "at": "hub"}}),
        json!("retain"),
    ];
    assert_eq!(added.notifications, expected);
    // What the lane of the deleted service should have learned is obsolete.
    assert!(!fixture.notifications().contains(&json!({"configure_lane": {"service": "bot"}})));
}

#[test]
fn a_tenant_is_deleted_once_and_stays_deleted() {
    let mut fixture = Fixture::of("acme");
    fixture.create_key("k", "caller").unwrap();
    close(&mut fixture);
    fixture.unchanged(close);
    let fixture = fixture.restarted();
    assert!(fixture.registry.is_closed().unwrap());
    assert_eq!(fixture.registry.retention(), Retention::ENDED);
}

#[test]
fn all_learn_once_of_a_tenant_that_an_earlier_version_has_deleted() {
    let fixture = Fixture::of("acme");
    fixture.storage.set_meta("closed", "true").unwrap();
    let mut fixture = fixture.restarted();
    assert!(fixture.registry.is_closed().unwrap());
    fixture.storage.fail_write(Some(1));
    let failed = fixture.unchanged(|fixture| fixture.act(|registry, turn| registry.close(turn)));
    assert!(matches!(failed, Err(WriteError::Failed(_))));
    let added = fixture.added(close);
    assert_eq!((added.revisions, added.audit.len(), added.events.len()), (0, 0, 0));
    let expected = [json!({"revoke_dependents": {"revocation": "tenant", "at": "hub"}}), json!("retain")];
    assert_eq!(added.notifications, expected);
    let receipt = fixture.registry.receipt();
    assert!(!fixture.registry.is_settled(&receipt, fixture.now));
    fixture.confirm_all();
    assert!(fixture.registry.is_settled(&receipt, fixture.now));
    fixture.unchanged(close);
    fixture.restarted().unchanged(close);
}

#[test]
fn a_deleted_tenant_accepts_no_write() {
    let mut fixture = Fixture::of("acme");
    fixture.put_service("words", &probed());
    close(&mut fixture);
    let mut fixture = fixture.restarted();
    fixture.unchanged(|fixture| {
        assert_eq!(refusal(fixture.try_put_service("words", &probed(), Condition::None)), "absent");
        assert_eq!(refusal(fixture.try_delete_service("words", Condition::Exists)), "absent");
        for kind in DocumentKind::ALL {
            let document = webhook(Some(&signing(1)));
            assert_eq!(refusal(fixture.try_put(kind, "one", &document, Condition::None)), "absent");
        }
        assert_eq!(refusal(fixture.create_key("k", "caller")), "absent");
        assert_eq!(refusal(fixture.register("dyn-a")), "absent");
        assert_eq!(refusal(establish(fixture, 7, None)), "absent");
    });
}
