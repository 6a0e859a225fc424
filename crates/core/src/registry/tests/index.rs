use super::*;
use crate::registry::copy::RegistryCopy;
use crate::registry::messages::{
    CurrentService, Documents, IndexData, ReadServices, ReadSnapshot, Services, SnapshotReply,
};

fn read(fixture: &mut Fixture, request: ReadSnapshot) -> IndexData {
    let stores = fixture.registry.stores().unwrap().len();
    let request = ReadSnapshot { index: true, stores, ..request };
    match fixture.registry.snapshot(&request).unwrap() {
        SnapshotReply::Index(data) => *data,
        other => panic!("{other:?}"),
    }
}

fn whole(fixture: &mut Fixture) -> IndexData {
    read(fixture, ReadSnapshot::default())
}

fn since(fixture: &mut Fixture, known: Revision) -> IndexData {
    read(fixture, ReadSnapshot { known: Some(known), soft: Some(fixture.registry.soft), ..ReadSnapshot::default() })
}

fn outlined(data: &IndexData) -> Vec<String> {
    let id = |raw: &RawValue| {
        let value: Value = serde_json::from_str(raw.get()).unwrap();
        value["service"]["id"].as_str().unwrap().to_string()
    };
    data.outlines.iter().map(|raw| id(raw)).collect()
}

fn included(data: &IndexData) -> Vec<String> {
    data.services.iter().map(served).collect()
}

fn served(current: &CurrentService) -> String {
    let stored: StoredService = serde_json::from_str(current.service.get()).unwrap();
    stored.service.id.to_string()
}

fn documents(fixture: &mut Fixture, ids: &[&str], for_list: bool) -> (Vec<String>, usize) {
    let ids = ids.iter().map(|text| id(text)).collect();
    let Services::Services { services, read } =
        fixture.registry.read_services(&ReadServices { ids, for_list }).unwrap();
    (services.iter().map(served).collect(), read)
}

/// A service with so many capabilities of about 100,000 bytes each.
fn large(capabilities: usize) -> Value {
    let input_schema = json!({"description": "x".repeat(100_000)});
    let capability = |number: usize| json!({"name": format!("count-{number}"), "input_schema": input_schema});
    let capabilities: Vec<Value> = (0..capabilities).map(capability).collect();
    with(called("https://words.example/a"), json!({"capabilities": capabilities}))
}

/// What a version without an index writes.
fn write_without_index(fixture: Fixture, service: &str, form: &Value) -> Fixture {
    let mut other = Fixture::new();
    other.put_service(service, form);
    let text = other.storage.text("service", service).unwrap().unwrap();
    fixture.storage.put_text("service", service, &text).unwrap();
    fixture.storage.set_meta("revision", &fixture.registry.revision().next().to_string()).unwrap();
    fixture.restarted()
}

#[test]
fn an_index_has_outlines_of_services_and_everything_else() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    fixture.put_service("bot", &connecting());
    fixture.create_key("k", "caller").unwrap();
    fixture.put(DocumentKind::Role, "r", &role(&[]));
    fixture.registry.hello(store(3), at(0)).unwrap();
    fixture.measure("words", online(5));
    let data = whole(&mut fixture);
    assert_eq!(
        (data.since, data.revision, outlined(&data)),
        (None, fixture.registry.revision(), vec!["bot".into(), "words".into()])
    );
    assert_eq!((data.keys.len(), data.documents.len(), data.stores.clone()), (1, 1, vec![store(3)]));
    assert_eq!(data.measured, [(id("words"), online(5))]);
    let copy = RegistryCopy::new(&mut whole(&mut fixture));
    let words = copy.outline("words").unwrap();
    assert_eq!(words.service, fixture.service("words").service.outline());
    assert_eq!(words.lane_settings(), fixture.service("words").lane_settings());
    assert_eq!((copy.position("bot"), copy.position("cat")), (Some(0), None));
}

#[test]
fn only_what_has_changed_is_sent() {
    let mut fixture = Fixture::new();
    for name in ["bot", "cat", "words"] {
        fixture.put_service(name, &probed());
    }
    fixture.create_key("k", "caller").unwrap();
    fixture.put(DocumentKind::Role, "r", &role(&[]));
    let known = fixture.registry.revision();
    let data = since(&mut fixture, known.before(1));
    assert_eq!((outlined(&data).len(), data.keys.len(), data.documents.len()), (0, 0, 1));
    fixture.patch_service("words", &json!({"weight": 7}));
    fixture.try_delete_service("cat", Condition::Exists).unwrap();
    fixture.act(|registry, turn| registry.revoke_key("k", turn)).unwrap();
    fixture.put_service("ant", &probed());
    fixture.try_delete_service("ant", Condition::Exists).unwrap();
    let data = since(&mut fixture, known);
    assert_eq!((data.since, outlined(&data)), (Some(known), vec!["words".into()]));
    let deleted = |kind: &str, id: &str| (kind.to_string(), id.to_string());
    assert_eq!(data.deleted, [deleted("key", "k"), deleted("service", "ant"), deleted("service", "cat")]);
    assert_eq!((data.keys.len(), data.documents.len()), (0, 0));
    // A new revision of nothing else, and a new store.
    let current = fixture.registry.revision();
    fixture.registry.hello(store(1), at(0)).unwrap();
    let request = ReadSnapshot { known: Some(current), index: true, ..ReadSnapshot::default() };
    let SnapshotReply::Index(data) = fixture.registry.snapshot(&request).unwrap() else { panic!() };
    assert_eq!((data.since, data.stores.len(), data.outlines.len()), (Some(current), 1, 0));
}

#[test]
fn a_copy_that_lacks_documents_is_replaced() {
    let mut fixture = Fixture::new();
    fixture.put_service("bot", &probed());
    let known = Some(fixture.registry.revision());
    fixture.put_service("words", &probed());
    let data = read(&mut fixture, ReadSnapshot { known, incomplete: true, ..ReadSnapshot::default() });
    assert_eq!((data.since, outlined(&data).len()), (None, 2));
}

#[test]
fn changes_lead_only_from_their_beginning() {
    let mut fixture = Fixture::new();
    fixture.put_service("bot", &probed());
    let copy = RegistryCopy::new(&mut whole(&mut fixture));
    fixture.put_service("cat", &probed());
    let known = fixture.registry.revision();
    fixture.put_service("words", &probed());
    assert!(copy.changed(&mut since(&mut fixture, known)).is_none());
    let changed = copy.changed(&mut since(&mut fixture, copy.revision)).unwrap();
    assert_eq!(changed.outlines.len(), 3);
    assert!(std::rc::Rc::ptr_eq(copy.outline("bot").unwrap(), changed.outline("bot").unwrap()));
    assert!(std::rc::Rc::ptr_eq(&copy.keys, &changed.keys));
}

#[test]
fn a_revision_of_a_registry_that_was_lost_is_not_known() {
    let mut fixture = Fixture::new();
    fixture.put_service("bot", &probed());
    let later = fixture.registry.revision().next();
    assert_eq!(since(&mut fixture, later).since, None);
}

#[test]
fn an_index_is_made_anew_after_a_version_without_one_has_written() {
    let mut fixture = Fixture::new();
    fixture.put_service("bot", &probed());
    let known = fixture.registry.revision();
    let mut fixture = write_without_index(fixture, "words", &with(probed(), json!({"weight": 9})));
    let data = since(&mut fixture, known);
    assert_eq!((data.since, outlined(&data)), (None, vec!["bot".into(), "words".into()]));
    let copy = RegistryCopy::new(&mut whole(&mut fixture));
    assert_eq!(copy.outline("words").unwrap().service.weight, 9);
    // From there on, changes are known.
    let known = fixture.registry.revision();
    fixture.patch_service("words", &json!({"weight": 8}));
    assert_eq!(since(&mut fixture, known).since, Some(known));
    let before = fixture.storage.snapshot();
    let fixture = fixture.restarted();
    assert_eq!(text(&fixture.storage.snapshot()), text(&before), "it is made once");
}

#[test]
fn a_failed_beginning_leaves_the_storage_as_it_was() {
    let mut fixture = Fixture::new();
    fixture.put_service("bot", &probed());
    let storage = fixture.storage.clone();
    storage.set_meta("revision", "9").unwrap();
    let before = text(&storage.snapshot());
    for write in 0..3 {
        storage.fail_write(Some(write));
        assert!(Registry::open(storage.clone(), config(), at(0)).is_err(), "{write}");
        assert_eq!(text(&storage.snapshot()), before);
    }
}

#[test]
fn a_service_that_this_version_cannot_read_is_in_the_index_and_logged() {
    let mut fixture = Fixture::new();
    fixture.put_service("bot", &probed());
    fixture
        .storage
        .put_text("service", "later", r#"{"service": {"id": "later", "transport": {"kind": "tube"}}}"#)
        .unwrap();
    fixture.storage.set_meta("revision", "9").unwrap();
    let mut registry = Registry::open(fixture.storage.clone(), config(), at(0)).unwrap();
    let logs = registry.take_effects(at(0)).logs;
    assert_eq!(logs, [LogEntry::ServiceNotRead { service: "later".into() }]);
    let unreadable: Vec<bool> =
        registry.outlines().unwrap().iter().map(|outline| outline.service.is_unreadable()).collect();
    assert_eq!(unreadable, [false, true]);
    // The next start may be that of a version that can.
    let known = registry.revision();
    assert!(registry.changes_since(known.before(1)).unwrap().is_none());
    let registry = Registry::open(fixture.storage.clone(), config(), at(0)).unwrap();
    assert!(registry.outlines().unwrap()[1].service.is_unreadable());
    fixture.storage.put_text("service", "later", &fixture.storage.text("service", "bot").unwrap().unwrap()).unwrap();
    let registry = Registry::open(fixture.storage.clone(), config(), at(0)).unwrap();
    assert!(registry.outlines().unwrap().iter().all(|outline| !outline.service.is_unreadable()));
    assert_eq!(fixture.storage.meta("unreadable_services").unwrap().as_deref(), Some("[]"));
}

#[test]
fn an_index_in_another_form_is_made_anew() {
    let mut fixture = Fixture::new();
    fixture.put_service("bot", &probed());
    assert_eq!(fixture.storage.meta("index_form").unwrap().as_deref(), Some("1"));
    let outline = RegistryCopy::new(&mut whole(&mut fixture)).outlines;
    fixture.storage.set_meta("index_form", "2").unwrap();
    fixture.storage.put_outline("bot", "other", "{}").unwrap();
    let mut fixture = fixture.restarted();
    assert_eq!(RegistryCopy::new(&mut whole(&mut fixture)).outlines, outline);
    assert_eq!(fixture.storage.meta("index_form").unwrap().as_deref(), Some("1"));
}

#[test]
fn a_service_whose_change_cannot_be_read_is_unavailable() {
    let mut fixture = Fixture::new();
    fixture.put_service("bot", &probed());
    fixture.put_service("words", &probed());
    let copy = RegistryCopy::new(&mut whole(&mut fixture));
    fixture.patch_service("words", &json!({"weight": 2}));
    let later = r#"{"service": {"id": "words", "transport": "tube"}}"#;
    fixture.storage.put_outline("words", "later", later).unwrap();
    let changed = copy.changed(&mut since(&mut fixture, copy.revision)).unwrap();
    let unreadable = |id: &str| changed.outline(id).unwrap().service.is_unreadable();
    assert_eq!((changed.outlines.len(), unreadable("words"), unreadable("bot")), (2, true, false));
    assert_eq!(RegistryCopy::new(&mut whole(&mut fixture)).outlines, changed.outlines);
}

#[test]
fn documents_of_unknown_kinds_are_sent() {
    let mut fixture = Fixture::new();
    let known = fixture.registry.revision();
    fixture.put(DocumentKind::Role, "r", &role(&[]));
    let known = known.next();
    fixture.put(DocumentKind::Role, "s", &role(&[]));
    fixture.storage.put_text("policy", "p", "{}").unwrap();
    fixture.storage.record_change(fixture.registry.revision(), "policy", "p").unwrap();
    let data = since(&mut fixture, known);
    assert_eq!((data.since, data.documents.len(), data.deleted.len()), (Some(known), 2, 0));
}

#[test]
fn the_snapshot_of_an_earlier_version_has_the_same_content() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &connecting());
    fixture.put_service("bot", &probed());
    fixture.create_key("k", "caller").unwrap();
    fixture.put(DocumentKind::Role, "r", &role(&[]));
    let SnapshotReply::Snapshot(data) = fixture.registry.snapshot(&ReadSnapshot::default()).unwrap() else { panic!() };
    let (earlier, copy) = (RegistryCopy::of_snapshot(*data), RegistryCopy::new(&mut whole(&mut fixture)));
    let services = |copy: &RegistryCopy| copy.outlines.iter().map(|one| one.service.clone()).collect::<Vec<_>>();
    assert_eq!(services(&earlier), services(&copy));
    assert_eq!(earlier.outline("bot").unwrap().lane_settings(), copy.outline("bot").unwrap().lane_settings());
    assert_eq!((earlier.revision, earlier.keys.len(), earlier.documents.len()), (copy.revision, 1, 1));
}

#[test]
fn services_that_did_not_fit_are_there_after_reading_all() {
    let mut fixture = Fixture::new();
    for name in ["ant", "bot", "cat"] {
        fixture.put_service(name, &probed());
    }
    let whole = RegistryCopy::new(&mut whole(&mut fixture));
    let outlines = [0, 2].map(|at: usize| whole.outlines[at].clone()).to_vec();
    let partial = RegistryCopy { outlines, ..whole.clone() };
    let Documents::Documents { page, .. } = fixture.registry.documents(&Default::default()).unwrap();
    let completed = partial.completed(*page);
    assert_eq!(completed.outlines, whole.outlines);
}

#[test]
fn changes_are_kept_for_a_while() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    for number in 0..1_300 {
        fixture.put(DocumentKind::Limit, &format!("l{}", number % 3), &json!(number));
    }
    let (first, last) = fixture.storage.recorded_revisions().unwrap().unwrap();
    assert_eq!(last, fixture.registry.revision());
    assert!((1_000..1_100).contains(&(last.number() - first.number())), "{first} {last}");
    assert_eq!(since(&mut fixture, first.before(1)).since, None);
    assert_eq!(since(&mut fixture, last.before(400)).since, Some(last.before(400)));
    // More changes than are worth sending one by one.
    assert_eq!(since(&mut fixture, last.before(900)).since, None);
}

#[test]
fn what_is_left_of_a_deleted_tenant_is_sent_as_a_whole() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    let known = fixture.registry.revision();
    fixture.act(|registry, turn| registry.close(turn)).unwrap();
    let data = since(&mut fixture, known);
    assert_eq!((data.since, data.outlines.len()), (None, 0));
}

#[test]
fn an_encryption_that_is_renewed_changes_no_index() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    let before = RegistryCopy::new(&mut whole(&mut fixture));
    let stored = fixture.service("words");
    let after = StoredService { signing_secret: encrypted("again"), ..stored.clone() };
    fixture.registry.store_service_again(&stored, &after, at(0)).unwrap();
    assert_eq!(fixture.service("words").signing_secret, encrypted("again"));
    let copy = RegistryCopy::new(&mut whole(&mut fixture));
    assert_eq!((copy.revision, copy.outline("words")), (before.revision, before.outline("words")));
}

#[test]
fn the_documents_of_a_small_registry_come_with_its_index() {
    let mut fixture = Fixture::new();
    fixture.put_service("bot", &probed());
    fixture.put_service("words", &connecting());
    let data = whole(&mut fixture);
    assert_eq!(included(&data), ["bot", "words"]);
    let copy = RegistryCopy::new(&mut whole(&mut fixture));
    let digests = data.services.iter().map(|current| current.digest.clone());
    assert_eq!(digests.collect::<Vec<_>>(), ["bot", "words"].map(|id| copy.outline(id).unwrap().digest.clone()));
}

#[test]
fn documents_that_others_have_read_come_with_the_index_of_a_large_registry() {
    let mut fixture = Fixture::new();
    for name in ["a", "b", "c", "d"] {
        fixture.put_service(name, &large(1));
    }
    assert_eq!(included(&whole(&mut fixture)), [""; 0]);
    assert_eq!(documents(&mut fixture, &["c"], true), (vec!["c".into()], 1));
    assert_eq!(included(&whole(&mut fixture)), [""; 0]);
    assert_eq!(documents(&mut fixture, &["d", "none", "a"], false), (vec!["d".into(), "a".into()], 3));
    assert_eq!(documents(&mut fixture, &["b"], false), (vec!["b".into()], 1));
    // The last ones first, as far as there is room.
    assert_eq!(included(&whole(&mut fixture)), ["b", "a"]);
    let known = fixture.registry.revision();
    fixture.patch_service("c", &json!({"weight": 2}));
    fixture.patch_service("d", &json!({"weight": 2}));
    assert_eq!(included(&since(&mut fixture, known)), ["d"]);
}

#[test]
fn after_a_start_the_documents_of_services_that_were_called_last_come_with_the_index() {
    let mut fixture = Fixture::new();
    for name in ["a", "b", "c", "d"] {
        fixture.put_service(name, &large(1));
    }
    for (name, version) in [("d", 3), ("a", 9), ("c", 7)] {
        fixture.measure(name, online(version));
    }
    let mut fixture = fixture.restarted();
    assert_eq!(included(&whole(&mut fixture)), ["a", "c"]);
    documents(&mut fixture, &["b"], false);
    assert_eq!(included(&whole(&mut fixture)), ["b", "a"]);
}

#[test]
fn large_documents_are_read_in_parts() {
    let mut fixture = Fixture::new();
    for name in ["a", "b", "c", "d", "e"] {
        fixture.put_service(name, &large(14));
    }
    let all = ["a", "b", "c", "d", "e"];
    assert_eq!(documents(&mut fixture, &all, true), (vec!["a".into(), "b".into(), "c".into()], 3));
    assert_eq!(documents(&mut fixture, &all[3..], true), (vec!["d".into(), "e".into()], 2));
}

#[test]
fn only_statuses_that_have_changed_are_sent() {
    let mut fixture = Fixture::new();
    fixture.put_service("bot", &probed());
    fixture.put_service("words", &probed());
    fixture.measure("bot", online(5));
    let (known, soft) = (Some(fixture.registry.revision()), fixture.registry.soft);
    fixture.measure("words", online(6));
    let mut measured = |soft: u64| {
        let request = ReadSnapshot { known, soft: Some(soft), ..ReadSnapshot::default() };
        match fixture.registry.snapshot(&request).unwrap() {
            SnapshotReply::Measured { measured, .. } => measured.into_iter().map(|(id, _)| id.to_string()).collect(),
            other => panic!("{other:?}"),
        }
    };
    let (both, one): (Vec<String>, Vec<String>) = (measured(soft - 1), measured(soft));
    assert_eq!((both, one), (vec!["bot".to_string(), "words".into()], vec!["words".to_string()]));
    // From a time before this instance began, nothing is known.
    assert_eq!(measured(1).len(), 2);
}
