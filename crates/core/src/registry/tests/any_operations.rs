//! What holds after any sequence of operations, some of which are refused or fail.

use proptest::prelude::*;

use super::*;
use crate::access::revocation::Revocation;
use crate::access::tenant::Retention;
use crate::registry::copy::RegistryCopy;
use crate::registry::messages::{Establish, ReadSnapshot, RenewTools, RotateKey, SnapshotReply, StoredOutline};
use crate::registry::notifications::Tenants;
use crate::registry::size::{KindSize, MAX_DOCUMENT_BYTES, weight};
use crate::registry::storage::DocumentKey;

/// Two ids, so that operations meet.
#[derive(Debug, Clone, Copy)]
enum Operation {
    PutService { id: u8, form: u8, absent: bool },
    PatchService { id: u8, form: u8 },
    RotateSecret { id: u8, overlap: u64 },
    DeleteService { id: u8 },
    RenewTools { id: u8, form: u8 },
    Measure { id: u8, version: u64 },
    Put { kind: usize, id: u8, form: u8, absent: bool },
    Delete { kind: usize, id: u8 },
    RotateWebhook { id: u8, overlap: u64 },
    CreateKey { id: u8, role: u8 },
    RotateKey { id: u8, overlap: u64 },
    RevokeKey { id: u8 },
    Register { id: u8 },
    Use { id: u8 },
    Retain { days: u64 },
    Hello { shard: u16 },
    Relayed { id: u8 },
    Send { is_confirmed: bool },
    Close,
}

fn operation() -> impl Strategy<Value = Operation> {
    let (id, form, absent, overlap) = (0..2u8, 0..4u8, any::<bool>(), 0..100u64);
    let kind = 0..DocumentKind::ALL.len();
    let services = prop_oneof![
        (id.clone(), form.clone(), absent).prop_map(|(id, form, absent)| Operation::PutService { id, form, absent }),
        (id.clone(), form.clone()).prop_map(|(id, form)| Operation::PatchService { id, form }),
        (id.clone(), overlap.clone()).prop_map(|(id, overlap)| Operation::RotateSecret { id, overlap }),
        id.clone().prop_map(|id| Operation::DeleteService { id }),
        (id.clone(), form.clone()).prop_map(|(id, form)| Operation::RenewTools { id, form }),
        (id.clone(), 1..20u64).prop_map(|(id, version)| Operation::Measure { id, version }),
    ];
    let documents = prop_oneof![
        4 => (kind.clone(), id.clone(), form, absent)
            .prop_map(|(kind, id, form, absent)| Operation::Put { kind, id, form, absent }),
        2 => (kind, id.clone()).prop_map(|(kind, id)| Operation::Delete { kind, id }),
        1 => (id.clone(), overlap.clone()).prop_map(|(id, overlap)| Operation::RotateWebhook { id, overlap }),
    ];
    let keys = prop_oneof![
        (id.clone(), 0..3u8).prop_map(|(id, role)| Operation::CreateKey { id, role }),
        (id.clone(), overlap).prop_map(|(id, overlap)| Operation::RotateKey { id, overlap }),
        id.clone().prop_map(|id| Operation::RevokeKey { id }),
    ];
    let others = prop_oneof![
        3 => id.clone().prop_map(|id| Operation::Register { id }),
        2 => id.clone().prop_map(|id| Operation::Use { id }),
        1 => id.prop_map(|id| Operation::Relayed { id }),
        2 => (1..4u64).prop_map(|days| Operation::Retain { days }),
        2 => (0..3u16).prop_map(|shard| Operation::Hello { shard }),
        4 => any::<bool>().prop_map(|is_confirmed| Operation::Send { is_confirmed }),
        1 => Just(Operation::Close),
    ];
    prop_oneof![3 => services, 3 => documents, 2 => keys, 2 => others]
}

fn name(id: u8) -> String {
    format!("n{id}")
}

fn service(form: u8) -> Value {
    match form {
        0 => {
            with(called("https://words.example/a"), json!({"credentials": {"header": "X-Key", "value": "credential"}}))
        }
        1 => probed(),
        2 => connecting(),
        _ => json!({"name": "Tools", "type": "tool", "transport": {"kind": "mcp", "url": "https://mcp.example/mcp"}}),
    }
}

fn document(kind: DocumentKind, form: u8) -> Value {
    let document = match kind {
        DocumentKind::Role => role(&["events:read"]),
        DocumentKind::Issuer => issuer("n0", None, None),
        _ => webhook((form != 2).then(|| signing(form)).as_deref()),
    };
    let padding = "x".repeat([0, 1_000, 10, usize::try_from(MAX_DOCUMENT_BYTES).unwrap()][usize::from(form)]);
    with(document, json!({"padding": padding}))
}

fn tools(form: u8) -> RenewTools {
    let capability = json!({"name": format!("t{form}"), "version": "1.0.0", "idempotent": false, "durable": false,
        "timeout_seconds": 60, "permissions": []});
    let length = if form == 3 { usize::try_from(MAX_DOCUMENT_BYTES).unwrap() } else { 64 };
    let read = json!({"protocol_version": "2025-11-25", "server": {}, "left_out": [],
        "tools": [{"capability": capability, "digest": "d".repeat(length)}]});
    RenewTools { id: id("n0"), url: "https://mcp.example/mcp".into(), read: Ok(serde_json::from_value(read).unwrap()) }
}

fn condition(absent: bool) -> Condition {
    if absent { Condition::Absent } else { Condition::Exists }
}

/// Whether anything failed; a refusal is none.
fn is_failed<T>(outcome: Result<T, WriteError>) -> bool {
    matches!(outcome, Err(WriteError::Failed(_)))
}

/// What cannot be stored is sent again.
fn send(fixture: &mut Fixture, is_confirmed: bool) {
    let (effects, now) = (fixture.effects(), fixture.now);
    for push in effects.pushes {
        fixture.registry.pushed(push, is_confirmed, now);
    }
    if let Some(batch) = effects.batch {
        let _ = fixture.registry.published(is_confirmed.then_some(batch.last), now);
    }
    for (number, notification) in effects.notifications {
        let delivery = match notification {
            Notification::Relay { tenants: Tenants::After(last), .. } if is_confirmed && last.is_empty() => {
                let tenant = |id: &str| TenantId::parse(id).unwrap();
                Delivery::UpTo { last: tenant("m"), failed: vec![tenant("acme"), tenant("bank")], follow: true }
            }
            _ if is_confirmed => Delivery::Confirmed,
            _ => Delivery::Failed,
        };
        let _ = fixture.registry.notified(number, delivery, now);
    }
}

fn change_service(fixture: &mut Fixture, operation: Operation) -> bool {
    match operation {
        Operation::PutService { id, form, absent } => {
            is_failed(fixture.try_put_service(&name(id), &service(form), condition(absent)))
        }
        Operation::PatchService { id, form } => {
            is_failed(fixture.try_patch_service(&name(id), &service(form), Condition::Exists))
        }
        Operation::RotateSecret { id, overlap } => is_failed(fixture.rotate_secret(&name(id), overlap, &signing(1))),
        Operation::DeleteService { id } => is_failed(fixture.try_delete_service(&name(id), Condition::Exists)),
        Operation::RenewTools { id: service, form } => {
            let request = RenewTools { id: id(&name(service)), ..tools(form) };
            is_failed(fixture.act(|registry, turn| registry.renew_tools(request, turn)))
        }
        Operation::Measure { id: service, version } => {
            let report =
                ReportStatus { service: id(&name(service)), measured: online(version), moved_at: None, reason: None };
            fixture.registry.measure(&report, fixture.now).is_err()
        }
        other => change_document(fixture, other),
    }
}

fn change_document(fixture: &mut Fixture, operation: Operation) -> bool {
    match operation {
        Operation::Put { kind, id, form, absent } => {
            let kind = DocumentKind::ALL[kind];
            is_failed(fixture.try_put(kind, &name(id), &document(kind, form), condition(absent)))
        }
        Operation::Delete { kind, id } => {
            is_failed(fixture.try_delete(DocumentKind::ALL[kind], &name(id), Condition::Exists))
        }
        Operation::RotateWebhook { id, overlap } => is_failed(
            fixture
                .act(|registry, turn| registry.rotate_webhook_secret(&name(id), overlap, encrypted(&signing(9)), turn)),
        ),
        Operation::CreateKey { id, role } => {
            is_failed(fixture.create_key(&name(id), ["n0", "caller", "n1"][usize::from(role)]))
        }
        Operation::RotateKey { id, overlap } => {
            let (hash, last_four) = ("other".into(), "wxyz".into());
            let request = RotateKey { id: name(id), overlap_seconds: overlap, hash, last_four };
            is_failed(fixture.act(|registry, turn| registry.rotate_key(request, turn)))
        }
        Operation::RevokeKey { id } => is_failed(fixture.act(|registry, turn| registry.revoke_key(&name(id), turn))),
        other => do_other(fixture, other),
    }
}

fn do_other(fixture: &mut Fixture, operation: Operation) -> bool {
    match operation {
        Operation::Register { id } => is_failed(fixture.register(&format!("dyn-{id}"))),
        Operation::Relayed { id } => {
            let revocation = Revocation::Document(format!("clients/default.dyn-{id}"));
            fixture.registry.relayed(&revocation, fixture.now).is_err()
        }
        Operation::Use { id } => fixture.storage.record_use(&format!("clients/dyn-{id}"), fixture.now).is_err(),
        Operation::Retain { days } => {
            let retention = Retention { context_retention_days: Some(days), event_retention_hours: None };
            let request = Establish { retention, key: None };
            is_failed(fixture.act(|registry, turn| registry.establish(request, turn)))
        }
        Operation::Hello { shard } => fixture.registry.hello(store(shard), fixture.now).is_err(),
        Operation::Close => is_failed(fixture.act(|registry, turn| registry.close(turn))),
        other => panic!("{other:?}"),
    }
}

/// The documents on the disk, counted: of users by kind, and self-registered clients.
fn recount(storage: &MemoryStorage) -> (BTreeMap<String, KindSize>, KindSize) {
    let (mut kinds, mut registrations) = (BTreeMap::<String, KindSize>::new(), KindSize::default());
    storage.read(|disk| {
        for ((kind, id), text) in &disk.documents {
            let registers_itself = kind == "client" && id.starts_with("dyn-");
            let size = if registers_itself { &mut registrations } else { kinds.entry(kind.clone()).or_default() };
            size.count += 1;
            size.bytes += weight(kind, text.len() as u64);
        }
    });
    (kinds, registrations)
}

fn counted(registry: &mut Registry<MemoryStorage>) -> (BTreeMap<String, KindSize>, KindSize) {
    let size = registry.size().unwrap();
    (size.kinds.into_iter().collect(), size.registrations)
}

/// What isolates learn of a registry.
fn snapshot(registry: &mut Registry<MemoryStorage>) -> Value {
    let reply = registry.snapshot(&ReadSnapshot::default()).unwrap();
    let SnapshotReply::Snapshot(data) = reply else { panic!("nothing is known") };
    with(serde_json::to_value(data).unwrap(), json!({"soft": 0}))
}

/// A copy of the registry as an isolate has it after reading, with everything that the reply did not need to send.
fn read_copy(registry: &mut Registry<MemoryStorage>, known: Option<&RegistryCopy>) -> RegistryCopy {
    let request = ReadSnapshot {
        known: known.map(|known| known.revision),
        stores: known.map_or(0, |known| known.stores.len()),
        index: true,
        ..ReadSnapshot::default()
    };
    match (registry.snapshot(&request).unwrap(), known) {
        (SnapshotReply::Unchanged, Some(known)) => known.clone(),
        (SnapshotReply::Index(mut data), known) => {
            let first = registry.storage().recorded_revisions().unwrap().map(|(first, _)| first);
            let is_recorded = known.is_some_and(|known| first.is_some_and(|first| known.revision >= first));
            assert_eq!(data.since.is_some(), is_recorded, "only changes are sent where that is possible");
            match known {
                Some(known) if is_recorded => known.changed(&mut data).unwrap(),
                _ => RegistryCopy::new(&mut data),
            }
        }
        (other, _) => panic!("{other:?}"),
    }
}

fn shown(copy: &RegistryCopy) -> Value {
    let outlines: Vec<&StoredOutline> = copy.outlines.iter().map(|outline| &**outline).collect();
    json!({"revision": copy.revision, "outlines": outlines, "keys": *copy.keys, "documents": *copy.documents,
        "stores": copy.stores})
}

/// The outlines that the documents on the disk have.
fn outlined(storage: &MemoryStorage) -> BTreeMap<String, Value> {
    storage.read(|disk| {
        let services = disk.documents.iter().filter(|((kind, _), _)| kind == "service");
        let outline = |((_, id), text): (&DocumentKey, &std::rc::Rc<str>)| {
            let stored: StoredService = serde_json::from_str(text).unwrap();
            (id.clone(), json!(stored.service.outline()))
        };
        services.map(outline).collect()
    })
}

/// The accepted writes in the audit log: clients that make room for others are deleted in the write of the other.
fn writes(fixture: &Fixture) -> u64 {
    let is_write = |entry: &&Value| entry["outcome"] == "done" && entry["changes"]["reason"] != "unused";
    fixture.audit().iter().filter(is_write).count() as u64
}

fn is_to_be_sent(storage: &MemoryStorage) -> bool {
    storage.read(|disk| !disk.outbox.is_empty() || !disk.notifications.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_invariants_hold(
        operations in prop::collection::vec((operation(), prop::option::of(0..8u32), 0..20_000u64), 1..60),
    ) {
        let (mut fixture, mut copy) = (Fixture::new(), None::<RegistryCopy>);
        for (operation, fails, pause_ms) in operations {
            fixture.pass(pause_ms);
            let before = (text(&fixture.storage.snapshot()), fixture.revision());
            fixture.storage.fail_write(fails);
            let failed = match operation {
                // Several independent writes, so a failed one changes a part.
                Operation::Send { is_confirmed } => {
                    send(&mut fixture, is_confirmed);
                    false
                }
                other => change_service(&mut fixture, other),
            };
            fixture.storage.fail_write(None);
            if failed {
                prop_assert_eq!(&(text(&fixture.storage.snapshot()), fixture.revision()), &before);
            }
            prop_assert_eq!(counted(&mut fixture.registry), recount(&fixture.storage));
            prop_assert_eq!(fixture.revision(), writes(&fixture));
            if !matches!(operation, Operation::Send { .. }) {
                let _ = fixture.registry.receipt();
                let effects = fixture.registry.take_effects(fixture.now);
                prop_assert!(!is_to_be_sent(&fixture.storage) || fixture.registry.alarm.at().is_some(), "{:?}", effects);
                if let Some(batch) = effects.batch {
                    fixture.registry.published(Some(batch.last - 1), fixture.now).unwrap();
                }
                for (number, _) in effects.notifications {
                    fixture.registry.notified(number, Delivery::Failed, fixture.now).unwrap();
                }
            }
            let whole = read_copy(&mut fixture.registry, None);
            copy = Some(read_copy(&mut fixture.registry, copy.as_ref()));
            prop_assert_eq!(copy.as_ref().map(shown), Some(shown(&whole)));
            let outlines = whole.outlines.iter().map(|outline| (outline.service.id.to_string(), json!(outline.service)));
            prop_assert_eq!(outlines.collect::<BTreeMap<_, _>>(), outlined(&fixture.storage));
            let mut reopened = Fixture::on(fixture.storage.clone(), fixture.now);
            prop_assert_eq!(snapshot(&mut reopened.registry), snapshot(&mut fixture.registry));
            prop_assert_eq!(reopened.revision(), fixture.revision());
        }
    }
}
