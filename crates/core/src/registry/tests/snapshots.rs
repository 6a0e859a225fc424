use super::*;
use crate::registry::messages::{ReadSnapshot, SnapshotData, SnapshotReply};
use crate::registry::size::{MAX_SENT, SAFE_BYTES};

fn full(fixture: &mut Fixture) -> SnapshotData {
    match fixture.registry.snapshot(&ReadSnapshot::default()).unwrap() {
        SnapshotReply::Snapshot(data) => *data,
        other => panic!("{other:?}"),
    }
}

fn documents(data: &SnapshotData) -> Vec<String> {
    let services = data.services.iter().map(|service| format!("services/{}", service.service.id));
    let keys = data.keys.iter().map(|key| format!("keys/{}", key.id));
    let others = data.documents.iter().map(|stored| format!("{}s/{}", stored.kind.as_str(), stored.id));
    services.chain(keys).chain(others).collect()
}

/// Stores a document of about this many bytes, whatever the limits.
fn put_text(storage: &MemoryStorage, kind: &str, id: &str, document: &str) {
    let text = json!({"kind": kind, "id": id, "document": document, "version": 1, "created_at": START,
        "updated_at": START});
    storage.put_text(kind, id, &text.to_string()).unwrap();
}

fn left_out(data: &SnapshotData) -> Vec<String> {
    data.left_out.iter().map(|document| format!("{}s/{}", document.kind, document.id)).collect()
}

#[test]
fn a_snapshot_has_everything() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    fixture.put_service("bot", &connecting());
    fixture.create_key("k", "caller").unwrap();
    for kind in DocumentKind::ALL {
        fixture.put(kind, "one", &webhook(Some(&signing(1))));
    }
    fixture.registry.hello(store(3), at(0)).unwrap();
    fixture.measure("words", online(5));
    let data = full(&mut fixture);
    let expected = [
        "services/bot",
        "services/words",
        "keys/k",
        "roles/one",
        "issuers/one",
        "clients/one",
        "limits/one",
        "revocations/one",
        "tenants/one",
        "webhooks/one",
        "schedules/one",
        "model-routes/one",
    ];
    assert_eq!(documents(&data), expected);
    assert_eq!((data.revision, data.stores, data.left_out.len()), (fixture.registry.revision(), vec![store(3)], 0));
    assert_eq!((data.measured, data.cursor_secret), (vec![(id("words"), online(5))], encrypted(OWN)));
    assert_eq!(data.soft, fixture.registry.soft);
}

#[test]
fn a_snapshot_needs_the_own_secret() {
    let mut registry = Registry::open(MemoryStorage::default(), config(), at(0)).unwrap();
    assert!(registry.snapshot(&ReadSnapshot::default()).is_err());
}

#[test]
fn only_what_the_sender_does_not_know_is_sent() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    fixture.registry.hello(store(3), at(0)).unwrap();
    let data = full(&mut fixture);
    let mut read = |known: Option<Revision>, stores: usize, soft: Option<u64>| match fixture
        .registry
        .snapshot(&ReadSnapshot { known, stores, soft, ..ReadSnapshot::default() })
        .unwrap()
    {
        SnapshotReply::Unchanged => "unchanged",
        SnapshotReply::Measured { .. } => "measured",
        SnapshotReply::Snapshot(_) => "snapshot",
        SnapshotReply::Index(_) => "index",
    };
    let (known, soft) = (Some(data.revision), Some(data.soft));
    assert_eq!(read(known, 1, soft), "unchanged");
    assert_eq!(read(known, 1, None), "unchanged");
    assert_eq!(read(known, 1, Some(data.soft - 1)), "measured");
    assert_eq!(read(known, 0, soft), "snapshot");
    assert_eq!(read(Some(Revision::INITIAL), 1, soft), "snapshot");
    assert_eq!(read(None, 1, soft), "snapshot");
    assert_eq!(read(known.map(Revision::next), 1, soft), "snapshot");
}

#[test]
fn an_observed_status_is_sent_without_the_rest() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    let data = full(&mut fixture);
    fixture.measure("words", online(5));
    let request = ReadSnapshot { known: Some(data.revision), soft: Some(data.soft), ..ReadSnapshot::default() };
    let SnapshotReply::Measured { soft, measured } = fixture.registry.snapshot(&request).unwrap() else {
        panic!("the status has changed");
    };
    assert_eq!((soft, measured), (data.soft + 1, vec![(id("words"), online(5))]));
}

#[test]
fn the_counter_of_statuses_grows_across_restarts() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    fixture.measure("words", online(5));
    let before = full(&mut fixture).soft;
    fixture.pass(SECOND);
    assert!(full(&mut fixture.restarted()).soft > before);
}

#[test]
fn a_snapshot_beyond_the_safe_size_still_has_everything_that_can_be_sent() {
    let fixture = Fixture::new();
    for number in 0..20 {
        put_text(&fixture.storage, "limit", &format!("l{number:02}"), &"x".repeat(1_500_000));
    }
    let mut fixture = fixture.restarted();
    assert!(fixture.registry.size().unwrap().bytes > SAFE_BYTES);
    let data = full(&mut fixture);
    assert_eq!((data.documents.len(), data.left_out.len()), (20, 0));
    assert_eq!(fixture.effects().logs, []);
}

/// More than can be sent, and documents of all kinds.
fn oversized() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    fixture.create_key("k", "caller").unwrap();
    for kind in DocumentKind::ALL {
        fixture.put(kind, "one", &webhook(Some(&signing(1))));
    }
    fixture.register("dyn-unused").unwrap();
    fixture.register("dyn-used").unwrap();
    fixture.storage.record_use("clients/dyn-used", at(0)).unwrap();
    let large = "x".repeat(1_500_000);
    for number in 0..15 {
        put_text(&fixture.storage, "tenant", &format!("t{number:02}"), &large);
        put_text(&fixture.storage, "schedule", &format!("s{number:02}"), &large);
    }
    fixture.restarted()
}

#[test]
fn documents_that_deny_access_go_first_into_a_snapshot_that_cannot_hold_all() {
    let mut fixture = oversized();
    let data = full(&mut fixture);
    let sent: u64 = MAX_SENT / 1_500_000;
    let left: Vec<String> = (sent - 15..15).map(|number| format!("schedules/s{number:02}")).collect();
    assert_eq!(left_out(&data), left);
    assert!(data.left_out.iter().all(|document| document.bytes > 1_500_000));
    // Small documents of later kinds fit into the rest.
    let included = documents(&data);
    for object in
        ["services/words", "keys/k", "revocations/one", "limits/one", "clients/dyn-used", "clients/dyn-unused"]
    {
        assert!(included.contains(&object.to_string()), "{object}");
    }
    assert_eq!(included.len() + left.len(), fixture.storage.read(|disk| disk.documents.len()));
}

#[test]
fn self_registered_clients_are_left_out_first_and_unused_ones_before() {
    let fixture = Fixture::new();
    let large = "x".repeat(1_500_000);
    for number in 0..20 {
        put_text(&fixture.storage, "revocation", &format!("r{number:02}"), &large);
    }
    for (id, kib) in [("app", 1_000), ("dyn-a", 1_000), ("dyn-b", 1_000), ("dyn-c", 1_000)] {
        put_text(&fixture.storage, "client", id, &"x".repeat(kib * 1024));
    }
    for id in ["dyn-b", "dyn-c"] {
        fixture.storage.record_use(&format!("clients/{id}"), at(0)).unwrap();
    }
    let mut fixture = fixture.restarted();
    let data = full(&mut fixture);
    assert_eq!(left_out(&data), ["clients/dyn-c", "clients/dyn-a"]);
    assert!(documents(&data).contains(&"clients/app".to_string()));
}

#[test]
fn characters_beyond_latin_1_take_more_room() {
    let fixture = Fixture::new();
    for number in 0..12 {
        // Three bytes in storage and six in a message.
        put_text(&fixture.storage, "limit", &format!("l{number:02}"), &"語".repeat(500_000));
    }
    let mut fixture = fixture.restarted();
    assert_eq!(left_out(&full(&mut fixture)), ["limits/l10", "limits/l11"]);
}

#[test]
fn an_incomplete_snapshot_is_logged_once_per_revision() {
    let mut fixture = oversized();
    let count = full(&mut fixture).left_out.len();
    let logs = fixture.effects().logs;
    let first: Vec<String> = left_out(&full(&mut fixture)).into_iter().take(5).collect();
    assert_eq!(logs, [LogEntry::DocumentsLeftOut { count, first }]);
    assert_eq!(fixture.effects().logs, []);
    fixture.delete(DocumentKind::Limit, "one");
    let _ = fixture.effects();
    full(&mut fixture);
    assert_eq!(fixture.effects().logs.len(), 1);
}
