//! Revocations on their way to other tenants, and from there.

use super::*;
use crate::access::revocation::Revocation;

fn up_to(last: &str, failed: &[&str], follow: bool) -> Delivery {
    let tenant = |id: &str| TenantId::parse(id).unwrap();
    Delivery::UpTo { last: tenant(last), failed: failed.iter().map(|id| tenant(id)).collect(), follow }
}

fn from(path: &str) -> Value {
    json!({"from": path})
}

fn at_hub(revocation: &Value) -> Value {
    json!({"revoke_dependents": {"revocation": revocation, "at": "hub"}})
}

/// To other tenants: the client was changed.
fn relay(tenants: &Value) -> Value {
    json!({"relay": {"revocation": from("clients/default.dyn-app"), "tenants": tenants}})
}

fn one(tenant: &str) -> Value {
    relay(&json!({"one": tenant}))
}

fn after(tenant: &str) -> Value {
    relay(&json!({"after": tenant}))
}

/// A client of all tenants has changed, and the own hub has closed its sockets.
fn relaying() -> (Fixture, Receipt) {
    let mut fixture = Fixture::new();
    fixture.put(DocumentKind::Client, "dyn-app", &client());
    fixture.put(DocumentKind::Client, "dyn-app", &json!({"name": "Other"}));
    let receipt = fixture.registry.receipt();
    assert_eq!(fixture.sent(), [(1, at_hub(&from("clients/default.dyn-app"))), (2, after(""))]);
    fixture.notified(1, Delivery::Confirmed);
    (fixture, receipt)
}

#[test]
fn a_revocation_reaches_all_tenants_although_some_cannot_be_reached() {
    let (mut fixture, receipt) = relaying();
    assert!(!fixture.registry.is_settled(&receipt, fixture.now));
    fixture.notified(2, up_to("m", &["acme", "bank"], true));
    assert!(fixture.registry.is_settled(&receipt, fixture.now));
    assert_eq!(fixture.notifications(), [after("m"), one("acme"), one("bank")]);
    fixture.pass(499);
    assert_eq!(fixture.sent(), []);
    fixture.pass(1);
    assert_eq!(fixture.sent(), [(2, after("m"))]);
    // Those two have failed once.
    fixture.pass(499);
    assert_eq!(fixture.sent(), []);
    fixture.pass(1);
    assert_eq!(fixture.sent(), [(3, one("acme")), (4, one("bank"))]);
    fixture.notified(3, Delivery::Confirmed);
    fixture.notified(2, up_to("zoo", &["zoo"], false));
    assert_eq!(fixture.notifications(), [one("bank"), one("zoo")]);
}

#[test]
fn a_tenant_that_has_failed_is_notified_again_after_growing_pauses() {
    let (mut fixture, _) = relaying();
    fixture.notified(2, up_to("zoo", &["acme"], false));
    for pause in [1, 2, 4, 8] {
        fixture.pass(pause * SECOND - 1);
        assert_eq!(fixture.sent(), []);
        fixture.pass(1);
        assert_eq!(fixture.sent(), [(3, one("acme"))]);
        fixture.notified(3, Delivery::Failed);
    }
}

#[test]
fn no_write_waits_for_a_tenant_that_has_failed() {
    let (mut fixture, _) = relaying();
    fixture.notified(2, up_to("m", &["acme"], true));
    fixture.put(DocumentKind::Limit, "one", &limit());
    let receipt = fixture.registry.receipt();
    assert!(fixture.registry.is_settled(&receipt, fixture.now));
}

#[test]
fn a_relay_without_other_tenants_ends() {
    let (mut fixture, _) = relaying();
    assert_eq!(fixture.registry.next_tenants("").unwrap(), (Vec::new(), false));
    fixture.notified(2, Delivery::Confirmed);
    assert_eq!(fixture.notifications(), Vec::<Value>::new());
}

#[test]
fn progress_that_cannot_be_stored_is_repeated() {
    let (mut fixture, _) = relaying();
    for write in [0, 1] {
        fixture.storage.fail_write(Some(write));
        fixture.unchanged(|fixture| {
            assert!(fixture.registry.notified(2, up_to("m", &["acme"], true), fixture.now).is_err());
        });
        fixture.pass(10 * SECOND);
        assert_eq!(fixture.sent(), [(2, after(""))]);
    }
}

#[test]
fn a_restart_sends_what_is_not_confirmed() {
    let (mut fixture, _) = relaying();
    fixture.put_service("words", &probed());
    fixture.put_service("other", &probed());
    assert_eq!(fixture.sent().len(), 2);
    fixture.notified(2, up_to("m", &["acme"], true));
    fixture.notified(4, Delivery::Confirmed);
    fixture.notified(3, Delivery::Failed);
    let mut fixture = fixture.restarted();
    let words = json!({"configure_lane": {"service": "words"}});
    assert_eq!(fixture.sent(), [(2, after("m")), (3, words), (5, one("acme"))]);
    assert!(fixture.storage.alarm().is_some());
}

#[test]
fn what_another_tenant_relays_is_passed_to_all_that_hold_sockets() {
    let mut fixture = Fixture::of("acme");
    fixture.put_service("bot", &connecting());
    fixture.put_service("words", &probed());
    fixture.confirm_all();
    let revocation = Revocation::Document("clients/default.dyn-app".into());
    fixture.storage.fail_write(Some(1));
    fixture.unchanged(|fixture| assert!(fixture.registry.relayed(&revocation, fixture.now).is_err()));
    let added = fixture.added(|fixture| fixture.registry.relayed(&revocation, fixture.now).unwrap());
    assert_eq!((added.revisions, added.audit.len(), added.events.len()), (0, 0, 0));
    let of = |at: Value| json!({"revoke_dependents": {"revocation": from("clients/default.dyn-app"), "at": at}});
    assert_eq!(added.notifications, [of(json!("hub")), of(lane(&fixture, "bot"))]);
    // A repeated one has no further effect.
    fixture.registry.relayed(&revocation, fixture.now).unwrap();
    assert_eq!(fixture.notifications(), added.notifications);
}

#[test]
fn a_relay_is_confirmed_once_all_that_hold_sockets_were_tried() {
    let mut fixture = Fixture::of("acme");
    fixture.put_service("bot", &connecting());
    fixture.confirm_all();
    fixture.registry.hello(store(0), fixture.now).unwrap();
    fixture.put(DocumentKind::Limit, "one", &limit());
    fixture.registry.begin_write();
    fixture.registry.relayed(&Revocation::Tenant, fixture.now).unwrap();
    let receipt = fixture.registry.receipt_of_notifications();
    let sent = fixture.sent();
    assert_eq!(sent.len(), 2);
    for (number, _) in sent {
        assert!(!fixture.registry.is_settled(&receipt, fixture.now));
        fixture.notified(number, Delivery::Failed);
    }
    // The store does not know the limit yet, which does not concern it.
    assert!(fixture.registry.is_settled(&receipt, fixture.now));
    assert!(!fixture.registry.followers.know(fixture.registry.revision(), fixture.now));
}

/// As an earlier version has stored it.
const EARLIER_QUEUE: &str = include_str!("endings.json");

fn earlier(queue: &str) -> MemoryStorage {
    let fixture = Fixture::new();
    fixture.storage.set_meta("endings", queue).unwrap();
    fixture.storage
}

#[test]
fn revocations_that_an_earlier_version_has_queued_are_taken_over_once() {
    let mut fixture = Fixture::on(earlier(EARLIER_QUEUE), at(0));
    let relay = |path: &str, after: &str| json!({"relay": {"revocation": from(path), "tenants": {"after": after}}});
    let expected = [relay("issuers/a", "globex"), at_hub(&from("clients/b")), relay("clients/b", "")];
    let expected: Vec<(u64, Value)> = (1..).zip(expected).collect();
    assert_eq!(fixture.sent(), expected);
    assert_eq!((fixture.revision(), fixture.storage.alarm().is_some()), (0, true));
    let mut fixture = fixture.restarted();
    assert_eq!(fixture.sent(), expected);
    for (number, _) in expected {
        fixture.notified(number, Delivery::Confirmed);
    }
    let mut fixture = fixture.restarted();
    assert_eq!((fixture.sent(), fixture.notifications()), (Vec::new(), Vec::new()));
}

#[test]
fn the_lanes_learn_of_revocations_that_no_tenant_knew() {
    let mut fixture = Fixture::new();
    fixture.put_service("bot", &connecting());
    fixture.confirm_all();
    fixture.storage.set_meta("endings", EARLIER_QUEUE).unwrap();
    let fixture = fixture.restarted();
    let expected = json!({"revoke_dependents": {"revocation": from("clients/b"), "at": lane(&fixture, "bot")}});
    assert_eq!((fixture.notifications().len(), &fixture.notifications()[2]), (4, &expected));
}

#[test]
fn a_failed_take_over_loses_nothing() {
    for write in 0..4 {
        let storage = earlier(EARLIER_QUEUE);
        storage.fail_write(Some(write));
        assert!(Registry::open(storage.clone(), config(), at(0)).is_err());
        assert_eq!(Fixture::on(storage, at(0)).sent().len(), 3);
    }
}

#[test]
fn a_queue_that_cannot_be_read_stays_and_disturbs_nothing() {
    let of_another_version = EARLIER_QUEUE.replace("clients/b", "clients/b\", \"of\": \"another version");
    for queue in ["", "[{}]", &of_another_version] {
        let mut fixture = Fixture::on(earlier(queue), at(0));
        assert_eq!(fixture.sent(), []);
        fixture.put(DocumentKind::Limit, "one", &limit());
        assert_eq!(fixture.storage.meta("endings").unwrap().as_deref(), Some(queue));
    }
}
