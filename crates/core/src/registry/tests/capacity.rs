use super::*;
use crate::registry::messages::RotateKey;
use crate::registry::size::{MAX_DOCUMENT_BYTES, MAX_INDEX_BYTES, MAX_REVOCATION_BYTES, RESERVE_BYTES, weight};

/// What a limit of this content takes beside the content.
const AROUND: u64 = 200;

fn filler(bytes: u64) -> Value {
    json!("x".repeat(usize::try_from(bytes).unwrap()))
}

fn used(fixture: &mut Fixture) -> u64 {
    fixture.registry.size().unwrap().index_bytes
}

fn stored_bytes(fixture: &Fixture, kind: &str, id: &str) -> u64 {
    fixture.storage.size(kind, id).unwrap().unwrap()
}

/// Writes a limit so that all documents together take exactly `total`.
fn fill(fixture: &mut Fixture, id: &str, total: u64) {
    let missing = total - used(fixture);
    fixture.put(DocumentKind::Limit, id, &filler(missing - AROUND));
    let rest = total - used(fixture);
    fixture.put(DocumentKind::Limit, id, &filler(missing - AROUND + rest));
    assert_eq!(used(fixture), total);
}

/// A registry of a size, with a key.
fn filled(total: u64) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.create_key("k", "caller").unwrap();
    fixture.put(DocumentKind::Webhook, "hook", &webhook(Some(&signing(1))));
    fixture.put_service("words", &called("https://words.example/a"));
    for number in 0..7 {
        fixture.put(DocumentKind::Limit, &format!("filler-{number}"), &filler(1_350_000));
    }
    for number in 7..12 {
        let missing = total.saturating_sub(used(&mut fixture));
        if missing > 1_400_000 {
            fixture.put(DocumentKind::Limit, &format!("filler-{number}"), &filler(700_000));
        }
    }
    fill(&mut fixture, "rest", total);
    fixture
}

fn rotate(fixture: &mut Fixture, hash: &str) -> Result<Box<Key>, WriteError> {
    let request = RotateKey { id: "k".into(), overlap_seconds: 60, hash: hash.into(), last_four: "wxyz".into() };
    fixture.act(|registry, turn| registry.rotate_key(request, turn))
}

fn share(used: u64, share: &str, needed: u64) -> Value {
    json!({"too_large": {"share": {"share": share, "used": used, "needed": needed}}})
}

/// Stores a limit of this size as an earlier version may have.
fn store_limit(fixture: &Fixture, id: &str, bytes: u64) {
    let (kind, now) = (DocumentKind::Limit, fixture.now);
    let (document, source) = (raw(&filler(bytes)), None);
    let (version, deleted_at) = (VersionNumber::FIRST, None);
    let stored = StoredDocument {
        kind,
        id: id.into(),
        document,
        version,
        created_at: now,
        updated_at: now,
        deleted_at,
        source,
        needs: Needs,
    };
    fixture.storage.put_text("limit", id, &storage::stored(&stored).unwrap()).unwrap();
}

#[test]
fn a_document_beyond_the_limit_is_refused() {
    let mut fixture = Fixture::new();
    fixture.put(DocumentKind::Limit, "one", &filler(MAX_DOCUMENT_BYTES - AROUND));
    let around = stored_bytes(&fixture, "limit", "one") - (MAX_DOCUMENT_BYTES - AROUND);
    fixture.put(DocumentKind::Limit, "one", &filler(MAX_DOCUMENT_BYTES - around));
    assert_eq!(stored_bytes(&fixture, "limit", "one"), MAX_DOCUMENT_BYTES);
    let refused = fixture.unchanged(|fixture| {
        fixture.try_put(DocumentKind::Limit, "one", &filler(MAX_DOCUMENT_BYTES - around + 1), Condition::Exists)
    });
    assert_eq!(refusal(refused), json!({"too_large": {"document": {"bytes": MAX_DOCUMENT_BYTES + 1}}}));
    // The refused document does not count against the next write.
    fixture.put(DocumentKind::Limit, "two", &limit());
}

#[test]
fn a_document_that_is_too_large_already_may_shrink() {
    let fixture = Fixture::new();
    store_limit(&fixture, "one", MAX_DOCUMENT_BYTES + 1_000);
    let mut fixture = fixture.restarted();
    let put = |fixture: &mut Fixture, bytes: u64| {
        fixture.try_put(DocumentKind::Limit, "one", &filler(MAX_DOCUMENT_BYTES + bytes), Condition::Exists)
    };
    let refused = fixture.unchanged(|fixture| put(fixture, 1_001));
    assert!(refusal(refused)["too_large"]["document"]["bytes"].as_u64().unwrap() > MAX_DOCUMENT_BYTES);
    assert!(put(&mut fixture, 1_000).is_ok());
    assert!(put(&mut fixture, 900).is_ok());
    fixture.put(DocumentKind::Limit, "two", &limit());
    fixture.delete(DocumentKind::Limit, "one");
}

#[test]
fn a_full_registry_refuses_what_grows_and_accepts_what_does_not() {
    let mut fixture = filled(MAX_INDEX_BYTES);
    let refused = fixture.unchanged(|fixture| fixture.try_put(DocumentKind::Role, "r", &role(&[]), Condition::None));
    let refused = refusal(refused);
    let needed = refused["too_large"]["share"]["needed"].as_u64().unwrap();
    assert_eq!(refused, share(MAX_INDEX_BYTES, "index", needed));
    let refused = fixture.unchanged(|fixture| fixture.create_key("k2", "caller"));
    assert_eq!(refusal(refused)["too_large"]["share"]["used"], MAX_INDEX_BYTES);
    let refused =
        fixture.unchanged(|fixture| fixture.try_patch_service("words", &json!({"tags": ["a"]}), Condition::Exists));
    assert_eq!(refusal(refused), share(MAX_INDEX_BYTES, "index", r#","tags":["a"]"#.len() as u64));
    // What only the document has does not count.
    fixture.patch_service("words", &json!({"name": "Words, and more", "description": "Long."}));
    fixture.put(DocumentKind::Limit, "filler-0", &filler(1_349_000));
    fixture.try_delete_service("words", Condition::Exists).unwrap();
    fixture.delete(DocumentKind::Limit, "filler-1");
    fixture.put(DocumentKind::Role, "r", &role(&[]));
    assert_eq!(stored_bytes(&fixture, "role", "r") + weight("role", 0), needed);
}

#[test]
fn a_registry_that_is_too_full_already_may_shrink() {
    let fixture = Fixture::new();
    for number in 0..10 {
        store_limit(&fixture, &format!("l{number}"), 1_500_000);
    }
    let mut fixture = fixture.restarted();
    assert!(used(&mut fixture) > MAX_INDEX_BYTES + RESERVE_BYTES);
    fixture.put(DocumentKind::Limit, "l0", &filler(1_499_000));
    let refused =
        fixture.unchanged(|fixture| fixture.try_put(DocumentKind::Limit, "l0", &filler(1_499_100), Condition::Exists));
    assert_eq!(refusal(refused)["too_large"]["share"]["needed"], 100);
    fixture.delete(DocumentKind::Limit, "l0");
    fixture.put(DocumentKind::Limit, "l1", &filler(1));
}

#[test]
fn secrets_can_be_rotated_in_a_full_registry() {
    let mut fixture = filled(MAX_INDEX_BYTES);
    rotate(&mut fixture, "second").unwrap();
    fixture.rotate_secret("words", 60, &signing(3)).unwrap();
    fixture.act(|registry, turn| registry.rotate_webhook_secret("hook", 60, encrypted(&signing(2)), turn)).unwrap();
    assert!(used(&mut fixture) > MAX_INDEX_BYTES);
    let refused = fixture.try_put(DocumentKind::Limit, "one", &limit(), Condition::None);
    assert_eq!(refusal(refused)["too_large"]["share"]["share"], "index");
    fixture.act(|registry, turn| registry.revoke_key("k", turn)).unwrap();
}

#[test]
fn the_reserve_ends_too() {
    let mut fixture = filled(MAX_INDEX_BYTES);
    let long = "h".repeat(usize::try_from(RESERVE_BYTES).unwrap() - 1_000);
    rotate(&mut fixture, &long).unwrap();
    let refused = fixture.unchanged(|fixture| rotate(fixture, &"h".repeat(1_000)));
    assert_eq!(refusal(refused)["too_large"]["share"]["share"], "index");
    rotate(&mut fixture, "short").unwrap();
}

#[test]
fn revocations_have_a_share_of_their_own() {
    let mut fixture = filled(MAX_INDEX_BYTES);
    fixture.put(DocumentKind::Revocation, "a", &filler(1_000_000));
    assert_eq!(used(&mut fixture), MAX_INDEX_BYTES);
    let refused =
        fixture.unchanged(|fixture| fixture.try_put(DocumentKind::Revocation, "b", &filler(600_000), Condition::None));
    let refused = refusal(refused);
    let taken = weight("revocation", stored_bytes(&fixture, "revocation", "a"));
    assert_eq!(refused["too_large"]["share"]["used"], taken);
    assert_eq!(refused["too_large"]["share"]["share"], "revocations");
    fixture.put(DocumentKind::Revocation, "b", &filler(MAX_REVOCATION_BYTES - taken - 200));
    fixture.pass(500 * SECOND);
    // Expired ones make room in the same write.
    fixture.put(DocumentKind::Revocation, "c", &filler(1_200_000));
}

/// Eight tenths, rounded up to a whole byte.
const FILLING: u64 = (MAX_INDEX_BYTES * 80).div_ceil(100);

/// The size in each event about a registry that fills up, and in each line of the log.
fn warnings(fixture: &mut Fixture, work: impl FnOnce(&mut Fixture)) -> (Vec<Value>, Vec<u64>) {
    let _ = fixture.effects();
    let events = fixture.added(work).events.into_iter().filter(|(kind, _)| kind == "registry.filling");
    let logged = fixture.effects().logs.into_iter().map(|entry| match entry {
        LogEntry::NearlyFull { bytes, .. } => bytes,
        other => panic!("{other:?}"),
    });
    (events.map(|(_, data)| data).collect(), logged.collect())
}

#[test]
fn a_warning_is_given_once_while_the_registry_is_nearly_full() {
    let mut fixture = filled(FILLING - 1);
    assert!(fixture.effects().logs.is_empty());
    let warned = |bytes: u64| (vec![json!({"bytes": bytes, "limit_bytes": MAX_INDEX_BYTES})], vec![bytes]);
    let nothing = || (Vec::new(), Vec::new());
    assert_eq!(warnings(&mut fixture, |fixture| fill(fixture, "rest-2", FILLING + AROUND + 10)).0.len(), 1);
    assert_eq!(warnings(&mut fixture, |fixture| fixture.delete(DocumentKind::Limit, "rest-2")), nothing());
    let missing = FILLING - used(&mut fixture);
    assert_eq!(missing, 1);
    let longer = fixture.content(DocumentKind::Limit, "rest").as_str().unwrap().to_string() + "x";
    let grow = |fixture: &mut Fixture| {
        fixture.put(DocumentKind::Limit, "rest", &json!(longer));
    };
    assert_eq!(warnings(&mut fixture, grow), warned(FILLING));
    assert_eq!(warnings(&mut fixture, grow), nothing());
    let mut fixture = fixture.restarted();
    let more = |fixture: &mut Fixture| {
        fixture.put(DocumentKind::Limit, "one", &limit());
    };
    assert_eq!(warnings(&mut fixture, more), nothing(), "a restart does not forget it");
}

#[test]
fn a_failed_write_gives_no_warning() {
    let mut fixture = filled(FILLING - 1);
    let _ = fixture.effects();
    for write in 0..5 {
        fixture.storage.fail_write(Some(write));
        let failed =
            fixture.unchanged(|fixture| fixture.try_put(DocumentKind::Limit, "one", &limit(), Condition::None));
        assert!(matches!(failed, Err(WriteError::Failed(_))), "{write}");
        assert_eq!(fixture.effects().logs, []);
    }
    fixture.storage.fail_write(None);
    fixture.put(DocumentKind::Limit, "one", &limit());
    assert_eq!(fixture.effects().logs.len(), 1);
}

#[test]
fn the_size_is_reported_by_kind_with_the_largest_documents() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &called("https://words.example/a"));
    fixture.create_key("k", "caller").unwrap();
    fixture.put(DocumentKind::Client, "app", &client());
    fixture.register("dyn-a").unwrap();
    fixture.put(DocumentKind::Revocation, "grant", &json!({}));
    for number in 0..30 {
        fixture.put(DocumentKind::Limit, &format!("l{number:02}"), &filler(10_000 + number));
    }
    let size = fixture.registry.size().unwrap();
    let sum = |kind: &str| {
        let of_kind = |own: &&((String, String), u64)| own.0.0 == kind && !own.0.1.starts_with("dyn-");
        let all = fixture.storage.sizes(&Default::default(), 100).unwrap();
        all.iter().filter(of_kind).map(|(_, bytes)| weight(kind, *bytes)).sum::<u64>()
    };
    let kinds: Vec<(&str, u64, u64)> =
        size.kinds.iter().map(|(kind, size)| (kind.as_str(), size.count, size.bytes)).collect();
    let expected = [("client", 1), ("key", 1), ("limit", 30), ("revocation", 1), ("service", 1)];
    assert_eq!(kinds, expected.map(|(kind, count)| (kind, count, sum(kind))));
    assert_eq!(size.bytes, ["client", "key", "limit", "service"].map(sum).iter().sum::<u64>());
    assert_eq!(size.registrations.count, 1);
    assert_eq!(size.registrations.bytes, weight("client", stored_bytes(&fixture, "client", "dyn-a")));
    let largest: Vec<&str> = size.largest.iter().map(|document| document.id.as_str()).collect();
    let expected: Vec<String> = (10..30).rev().map(|number| format!("l{number:02}")).collect();
    assert_eq!(largest, expected);
}
