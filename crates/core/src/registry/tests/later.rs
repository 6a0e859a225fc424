//! What a later version has written: it is kept, it fails nothing else, and it refuses what it would have refused.

use super::*;
use crate::access::principal::Principal;
use crate::base::principal_id::PrincipalId;
use crate::registry::copy::RegistryCopy;
use crate::registry::messages::{IndexData, ReadSnapshot, RotateKey, SnapshotReply};

fn index(fixture: &mut Fixture, known: Option<Revision>) -> IndexData {
    let request = ReadSnapshot { index: true, known, ..ReadSnapshot::default() };
    let SnapshotReply::Index(data) = fixture.registry.snapshot(&request).unwrap() else { panic!("not an index") };
    // As it is sent.
    serde_json::from_str(&serde_json::to_string(&data).unwrap()).unwrap()
}

fn copy(fixture: &mut Fixture) -> RegistryCopy {
    RegistryCopy::new(&mut index(fixture, None))
}

/// A document as a later version stores it.
fn stored(kind: &str, id: &str, document: &Value) -> Value {
    json!({"kind": kind, "id": id, "document": document, "version": 1, "created_at": START, "updated_at": START})
}

fn put(fixture: &Fixture, kind: &str, id: &str, text: &Value) {
    fixture.storage.put_text(kind, id, &text.to_string()).unwrap();
    fixture.storage.record_change(fixture.registry.revision(), kind, id).unwrap();
}

fn tokens(binds: &Value) -> Value {
    json!({"kind": "tokens", "quota": 1000, "window_seconds": 60, "binds": binds})
}

/// A key as it is stored, with these members besides.
fn key(fixture: &mut Fixture, id: &str, members: Value) -> Value {
    fixture.create_key(id, "caller").unwrap();
    let text = fixture.storage.text("key", id).unwrap().unwrap();
    with(serde_json::from_str(&text).unwrap(), members)
}

const TUBE: &str = r#"{"service":{"id":"tube","type":"tool","transport":{"tube":{"length":3}},
    "capabilities":{"settings":[{}],"names":["flow",["drip",0]]},"tools":"x"},"digest":"later","created_at":1,"updated_at":1}"#;

/// A registry of this version, in which a later one has written.
fn later() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    fixture.create_key("plain", "caller").unwrap();
    fixture.put(DocumentKind::Limit, "known", &json!({"kind": "concurrent", "quota": 5, "binds": {"role": "viewer"}}));
    fixture.put(DocumentKind::Role, "clerk", &role(&["contexts:read"]));
    let narrow = key(&mut fixture, "narrow", json!({"needs": ["addresses"], "addresses": ["10.0.0.0/8"]}));
    let strange = with(key(&mut fixture, "strange", json!({})), json!({"secrets": {"hashes": []}}));
    put(&fixture, "key", "narrow", &narrow);
    put(&fixture, "key", "strange", &strange);
    put(&fixture, "limit", "tokens", &stored("limit", "tokens", &tokens(&json!({"role": "caller"}))));
    put(&fixture, "role", "auditor", &stored("role", "auditor", &json!({"permissions": {"all": true}})));
    put(&fixture, "webhook", "mail", &stored("webhook", "mail", &json!({"address": "a@b.example"})));
    put(&fixture, "budget", "monthly", &stored("budget", "monthly", &json!({"binds": {"service": "words"}})));
    put(&fixture, "dashboard", "main", &stored("dashboard", "main", &json!({"rows": []})));
    fixture.storage.put_text("service", "tube", TUBE).unwrap();
    fixture.storage.put_outline("tube", "later", TUBE).unwrap();
    fixture.storage.record_change(fixture.registry.revision(), "service", "tube").unwrap();
    fixture
}

fn caller(key: &str, role: &str) -> Principal {
    Principal { principal: PrincipalId::of_key(key), role: role.into(), ..Principal::admin() }
}

#[test]
fn a_snapshot_from_the_future_is_read() {
    let copy = copy(&mut later());
    let services: Vec<_> = copy.outlines.iter().map(|outline| outline.service.id.to_string()).collect();
    assert_eq!(services, ["tube", "words"]);
    let keys: Vec<_> = copy.keys.iter().map(|key| key.id.as_str()).collect();
    assert_eq!(keys, ["plain"]);
    let documents: Vec<_> = copy.documents.iter().map(|stored| (stored.kind.as_str(), stored.id.as_str())).collect();
    let known = [("role", "auditor"), ("role", "clerk"), ("limit", "known"), ("limit", "tokens"), ("webhook", "mail")];
    assert_eq!(documents, known);
    assert!(copy.rules.role("clerk").is_some() && copy.rules.limits.len() == 1);
    let unreadable: Vec<_> = copy.unreadable().collect();
    let expected = [
        "services/tube",
        "keys/narrow",
        "keys/strange",
        "budgets/monthly",
        "dashboards/main",
        "roles/auditor",
        "limits/tokens",
        "webhooks/mail",
    ];
    assert_eq!(unreadable, expected);
}

#[test]
fn what_it_does_not_know_refuses_what_it_binds() {
    let copy = copy(&mut later());
    let rules = &copy.rules;
    let limit = |key: &str, role: &str| rules.unknown_limit(&caller(key, role)).map(|one| one.id.as_str());
    assert_eq!((limit("plain", "caller"), limit("plain", "viewer")), (Some("tokens"), None));
    let call = |role: &str, service: &str| {
        let found = rules.unknown_restriction(Some(&caller("plain", role)), &id(service), "count");
        found.map(|one| one.id.as_str())
    };
    assert_eq!((call("viewer", "words"), call("viewer", "other")), (Some("monthly"), None));
    assert_eq!(call("caller", "other"), Some("tokens"));
    assert!(copy.has_unreadable_key("narrow") && copy.has_unreadable_key("strange"));
    assert!(!copy.has_unreadable_key("plain") && !copy.has_unreadable_key("none"));
    assert!(rules.is_unreadable("role", "auditor") && rules.role("auditor").is_none());
    assert_eq!(rules.unreadable(DocumentKind::Webhook).collect::<Vec<_>>(), ["mail"]);
}

#[test]
fn an_unknown_service_offers_what_it_offers_and_takes_no_work() {
    let copy = copy(&mut later());
    let tube = &copy.outline("tube").unwrap().service;
    let names: Vec<_> = tube.capabilities.iter().map(|capability| capability.name.as_str()).collect();
    assert!(tube.is_unreadable() && names == ["flow", "drip"]);
    assert!(!copy.outline("words").unwrap().service.is_unreadable());
}

#[test]
fn changes_from_the_future_are_read_too() {
    let mut fixture = later();
    let before = copy(&mut fixture);
    // The later version has written more: what was readable is not, and the other way round.
    let next = |fixture: &mut Fixture| fixture.put(DocumentKind::Role, "other", &role(&[]));
    next(&mut fixture);
    let plain = fixture.storage.text("key", "plain").unwrap().unwrap();
    put(&fixture, "key", "plain", &with(serde_json::from_str(&plain).unwrap(), json!({"needs": ["addresses"]})));
    put(&fixture, "key", "narrow", &with(serde_json::from_str(&plain).unwrap(), json!({"id": "narrow"})));
    put(&fixture, "limit", "known", &stored("limit", "known", &tokens(&json!({"tenant": true}))));
    let limit = json!({"kind": "concurrent", "quota": 7, "binds": {"role": "caller"}});
    put(&fixture, "limit", "tokens", &stored("limit", "tokens", &limit));
    fixture.storage.delete("budget", "monthly").unwrap();
    fixture.storage.record_change(fixture.registry.revision(), "budget", "monthly").unwrap();
    let words = TUBE.replace("tube", "words");
    fixture.storage.put_outline("words", "later", &words).unwrap();
    fixture.storage.record_change(fixture.registry.revision(), "service", "words").unwrap();

    let after = before.changed(&mut index(&mut fixture, Some(before.revision))).unwrap();
    let whole = copy(&mut fixture);
    assert_eq!(after.unreadable().collect::<Vec<_>>(), whole.unreadable().collect::<Vec<_>>());
    assert_eq!(format!("{:?} {:?}", after.keys, after.outlines), format!("{:?} {:?}", whole.keys, whole.outlines));
    let keys: Vec<_> = after.keys.iter().map(|key| key.id.as_str()).collect();
    assert_eq!((keys, after.has_unreadable_key("plain")), (vec!["narrow"], true));
    assert_eq!(after.rules.limits.iter().map(|limit| limit.name.as_str()).collect::<Vec<_>>(), ["tokens"]);
    assert_eq!(after.rules.unknown_limit(&caller("k", "viewer")).map(|one| one.id.as_str()), Some("known"));
    assert!(after.outline("words").unwrap().service.is_unreadable());
    assert!(!after.unreadable().any(|name| name == "budgets/monthly"));
}

#[test]
fn the_registry_itself_keeps_working() {
    let fixture = later();
    fixture.storage.queue_notification(r#"{"fly":{"to":"moon"}}"#).unwrap();
    let mut fixture = fixture.restarted();
    fixture.put_service("more", &probed());
    fixture.create_key("new", "clerk").unwrap();
    fixture.delete(DocumentKind::Limit, "known");
    fixture.sweep();
    let holdings = fixture.registry.holdings().unwrap();
    let expected = ["keys/narrow", "keys/new", "keys/plain", "keys/strange", "services/more", "services/tube"];
    assert!(expected.iter().all(|held| holdings.iter().any(|own| own == held)), "{holdings:?}");
    assert_eq!(
        refusal(fixture.try_delete(DocumentKind::Role, "clerk", Condition::Exists))["in_use"]["by"][0],
        "keys/new"
    );
    let notifications = fixture.notifications();
    assert!(notifications.contains(&json!({"fly": {"to": "moon"}})), "{notifications:?}");
    let texts = ["budget", "dashboard"].map(|kind| fixture.storage.texts(kind).unwrap().len());
    assert_eq!(texts, [1, 1]);
}

#[test]
fn an_unknown_document_is_not_written_over_but_a_key_is_revoked() {
    let mut fixture = later();
    let unreadable = json!({"refused": "unreadable"});
    fixture.unchanged(|fixture| {
        assert_eq!(refusal(fixture.try_put_service("tube", &probed(), Condition::Exists)), unreadable);
        assert_eq!(refusal(fixture.try_patch_service("tube", &json!({}), Condition::Exists)), unreadable);
        assert_eq!(refusal(fixture.rotate_secret("tube", 0, "x")), unreadable);
        assert_eq!(refusal(fixture.try_delete_service("tube", Condition::Exists)), unreadable);
        let rotate = RotateKey { id: "narrow".into(), overlap_seconds: 0, hash: "h".into(), last_four: "abcd".into() };
        assert_eq!(refusal(fixture.act(|registry, turn| registry.rotate_key(rotate, turn))), unreadable);
        assert_eq!(refusal(fixture.create_key("narrow", "caller")), conflict());
    });
    fixture.act(|registry, turn| registry.revoke_key("narrow", turn)).unwrap();
    assert_eq!(fixture.storage.text("key", "narrow").unwrap(), None);
    assert_eq!(fixture.last_entry()["action"], "key.revoked");
    // A limit whose content is unknown can be replaced and deleted.
    let limit = json!({"kind": "concurrent", "quota": 5, "binds": {"role": "caller"}});
    fixture.try_put(DocumentKind::Limit, "tokens", &limit, Condition::Exists).unwrap();
    assert_eq!(copy(&mut fixture).rules.limits.len(), 2);
    fixture.delete(DocumentKind::Limit, "tokens");
}

#[test]
fn members_of_a_later_version_survive_a_write() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    let text = fixture.storage.text("service", "words").unwrap().unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["service"]["owner"] = json!("team-a");
    value["service"]["capabilities"][0]["tariff"] = json!({"per_call": "0.002"});
    value["billing"] = json!(1);
    fixture.storage.put_text("service", "words", &value.to_string()).unwrap();
    let kept = |fixture: &Fixture| {
        let text = fixture.storage.text("service", "words").unwrap().unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        let tariff = value["service"]["capabilities"][0]["tariff"]["per_call"].clone();
        (value["service"]["owner"].clone(), tariff, value["billing"].clone())
    };
    let expected = (json!("team-a"), json!("0.002"), json!(1));
    fixture.patch_service("words", &json!({"weight": 7}));
    assert_eq!((fixture.service("words").service.weight, kept(&fixture)), (7, expected.clone()));
    fixture.rotate_secret("words", 60, "another secret").unwrap();
    assert_eq!(kept(&fixture), expected);
    fixture.put_service("words", &with(probed(), json!({"weight": 9})));
    assert_eq!((fixture.service("words").service.weight, kept(&fixture)), (9, expected));

    fixture.put(DocumentKind::Role, "r", &role(&[]));
    let text = fixture.storage.text("role", "r").unwrap().unwrap();
    let mut text = with(serde_json::from_str(&text).unwrap(), json!({"reviewed_by": "ada"}));
    text["document"]["colour"] = json!("red");
    fixture.storage.put_text("role", "r", &text.to_string()).unwrap();
    fixture.put(DocumentKind::Role, "r", &role(&["contexts:read"]));
    assert!(fixture.storage.text("role", "r").unwrap().unwrap().contains(r#""reviewed_by":"ada""#));
    let content = fixture.content(DocumentKind::Role, "r");
    assert_eq!((&content["permissions"][0], &content["colour"]), (&json!("contexts:read"), &json!("red")));

    fixture.put(DocumentKind::Webhook, "w", &webhook(Some(&signing(1))));
    let text = fixture.storage.text("webhook", "w").unwrap().unwrap();
    let mut text: Value = serde_json::from_str(&text).unwrap();
    text["document"]["format"] = json!("cloudevents");
    fixture.storage.put_text("webhook", "w", &text.to_string()).unwrap();
    fixture.act(|registry, turn| registry.rotate_webhook_secret("w", 60, encrypted(&signing(2)), turn)).unwrap();
    assert_eq!(fixture.content(DocumentKind::Webhook, "w")["format"], "cloudevents");
}

#[test]
fn a_document_that_cannot_be_read_at_all_can_be_deleted_and_what_it_may_have_granted_ends() {
    let mut fixture = later();
    let needing = with(stored("role", "auditor", &role(&["events:read"])), json!({"needs": ["hours"]}));
    put(&fixture, "role", "auditor", &needing);
    let needing =
        with(stored("limit", "tokens", &tokens(&json!({"tenant": true}))), json!({"needs": ["x"], "version": 4}));
    put(&fixture, "limit", "tokens", &needing);
    let copy = copy(&mut fixture);
    assert!(copy.rules.is_unreadable("limit", "tokens") && copy.rules.unknown_limit(&caller("k", "viewer")).is_some());
    let unreadable = json!({"refused": "unreadable"});
    let refused =
        fixture.unchanged(|fixture| fixture.try_put(DocumentKind::Limit, "tokens", &limit(), Condition::Exists));
    assert_eq!(refusal(refused), unreadable);
    let condition = Condition::Versions(vec![version(3)]);
    assert_eq!(refusal(fixture.try_delete(DocumentKind::Limit, "tokens", condition)), precondition_failed());
    fixture.try_delete(DocumentKind::Limit, "tokens", Condition::Versions(vec![version(4)])).unwrap();
    assert_eq!(fixture.storage.text("limit", "tokens").unwrap(), None);
    let added = fixture.added(|fixture| fixture.delete(DocumentKind::Role, "auditor"));
    assert_eq!(added.notifications[0]["revoke_dependents"]["revocation"]["permissions"]["role"], "auditor");
    assert_eq!(added.audit[0]["action"], "role.deleted");
    // A role that a key of a later version has is in use.
    let key = key(&mut fixture, "other", json!({"needs": ["addresses"], "role": "clerk"}));
    put(&fixture, "key", "other", &key);
    let refused = refusal(fixture.try_delete(DocumentKind::Role, "clerk", Condition::Exists));
    assert_eq!(refused["in_use"]["by"], json!(["keys/other"]));
}

#[test]
fn a_deleted_tenant_leaves_nothing_of_a_later_version() {
    let mut fixture = later();
    fixture.act(|registry, turn| registry.close(turn)).unwrap();
    assert!(fixture.storage.read(|disk| disk.documents.is_empty()));
}

#[test]
fn an_unknown_observed_status_is_observed_anew() {
    let mut fixture = later();
    fixture.measure("words", online(5));
    let mut data = serde_json::to_value(index(&mut fixture, None)).unwrap();
    data["measured"].as_array_mut().unwrap().push(json!(["tube", {"status": "dreaming", "version": 1}]));
    let data: IndexData = serde_json::from_str(&data.to_string()).unwrap();
    assert_eq!(data.measured, [(id("words"), online(5))]);
    let reply = json!({"measured": {"soft": 1, "measured": [["tube", {"status": "dreaming"}], ["words", online(5)]]}});
    let SnapshotReply::Measured { measured, .. } = serde_json::from_str(&reply.to_string()).unwrap() else {
        panic!("another reply");
    };
    assert_eq!(measured, [(id("words"), online(5))]);
}

#[test]
fn an_unknown_event_waits_in_its_place() {
    let mut fixture = later();
    fixture.confirm_all();
    let event = |kind: &str| {
        json!({"subject": "monthly", "items": [{"number": 0, "at": START,
            "what": {"registry": {"kind": kind, "data": {"id": "monthly"}}}}]})
    };
    for kind in ["budget.exceeded", "service.updated"] {
        fixture.storage.queue_event(&Bundle::read(&event(kind).to_string()).unwrap()).unwrap();
    }
    let mut fixture = fixture.restarted();
    let effects = fixture.effects();
    for push in effects.pushes {
        fixture.registry.pushed(push, true, fixture.now);
    }
    let batch = effects.batch.or_else(|| fixture.effects().batch).unwrap();
    assert_eq!(batch.count, 2);
    let bundles: Value = serde_json::from_str(batch.bundles.get()).unwrap();
    assert_eq!(bundles[0]["items"][0]["what"]["registry"]["kind"], "budget.exceeded");
    assert_eq!(bundles[1]["items"][0]["number"], batch.last);
}

#[test]
fn a_service_that_lists_its_models_cannot_be_read_by_a_version_that_would_ignore_the_list() {
    let mut fixture = Fixture::new();
    let transport = json!({"kind": "openai", "url": "https://llm.example/v1"});
    let document = json!({"name": "LLM", "type": "llm", "transport": transport, "models": [{"id": "small"}]});
    fixture.put_service("llm", &document);
    let needs = |fixture: &Fixture| {
        let stored = fixture.storage.text("service", "llm").unwrap().unwrap();
        serde_json::from_str::<Value>(&stored).unwrap()["needs"].clone()
    };
    assert_eq!(needs(&fixture), json!(["models"]));
    let outlines = |fixture: &mut Fixture| copy(fixture).outlines;
    let outline = outlines(&mut fixture).remove(0);
    assert!(!outline.service.is_unreadable());
    assert_eq!(serde_json::to_value(&*outline).unwrap()["needs"], json!(["models"]));
    // Without the list, any version can read it.
    fixture.patch_service("llm", &json!({"models": null}));
    assert_eq!(needs(&fixture), Value::Null);
    assert_eq!(serde_json::to_value(&*outlines(&mut fixture).remove(0)).unwrap().get("needs"), None);
}
