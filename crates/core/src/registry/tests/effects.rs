use super::*;

fn limit_written(fixture: &mut Fixture, id: &str) -> Receipt {
    fixture.put(DocumentKind::Limit, id, &limit());
    fixture.registry.receipt()
}

fn is_settled(fixture: &Fixture, receipt: &Receipt) -> bool {
    fixture.registry.is_settled(receipt, fixture.now)
}

fn hello(fixture: &mut Fixture, shard: u16) -> HelloReply {
    let now = fixture.now;
    fixture.registry.hello(store(shard), now).unwrap()
}

fn pushed(fixture: &mut Fixture, push: Push, is_confirmed: bool) {
    let now = fixture.now;
    fixture.registry.pushed(push, is_confirmed, now);
}

/// A registry with two stores.
fn followed() -> Fixture {
    let mut fixture = Fixture::new();
    hello(&mut fixture, 0);
    hello(&mut fixture, 1);
    fixture
}

/// The events of a batch: their numbers and keys.
fn contents(batch: &Batch) -> Vec<(u64, String)> {
    let bundles: Vec<Bundle> = serde_json::from_str(batch.bundles.get()).unwrap();
    bundles
        .into_iter()
        .flat_map(|bundle| bundle.items.into_iter().map(move |item| (item.number, bundle.subject.clone())))
        .collect()
}

fn published(fixture: &mut Fixture, head: Option<u64>) {
    let now = fixture.now;
    fixture.registry.published(head, now).unwrap();
}

fn create_keys(fixture: &mut Fixture, numbers: std::ops::Range<u64>) {
    for number in numbers {
        fixture.create_key(&format!("k{number}"), "caller").unwrap();
    }
}

fn keys(numbers: std::ops::RangeInclusive<u64>) -> Vec<(u64, String)> {
    numbers.map(|number| (number, format!("k{number}"))).collect()
}

#[test]
fn a_store_is_known_from_its_first_question() {
    let mut fixture = Fixture::new();
    fixture.put(DocumentKind::Limit, "one", &limit());
    let HelloReply::Revision { revision, .. } = hello(&mut fixture, 3);
    assert_eq!(revision, fixture.registry.revision());
    fixture.unchanged(|fixture| {
        hello(fixture, 3);
    });
    hello(&mut fixture, 1);
    assert_eq!((fixture.registry.stores().unwrap(), fixture.revision()), (vec![store(1), store(3)], 1));
    assert_eq!(fixture.restarted().registry.stores().unwrap(), [store(1), store(3)]);
}

#[test]
fn without_stores_a_write_is_answered_at_once() {
    let mut fixture = Fixture::new();
    let receipt = limit_written(&mut fixture, "one");
    assert_eq!(receipt.revision, fixture.registry.revision());
    assert!(is_settled(&fixture, &receipt));
}

#[test]
fn a_write_is_answered_once_every_store_has_confirmed_it() {
    let mut fixture = followed();
    let receipt = limit_written(&mut fixture, "one");
    let revision = fixture.registry.revision();
    let pushes = fixture.effects().pushes;
    assert_eq!(pushes, [Push { store: store(0), revision }, Push { store: store(1), revision }]);
    pushed(&mut fixture, pushes[0], true);
    assert!(!is_settled(&fixture, &receipt));
    pushed(&mut fixture, pushes[1], true);
    assert!(is_settled(&fixture, &receipt));
    assert_eq!((fixture.effects().pushes, fixture.registry.wake_at(fixture.now)), (Vec::new(), None));
}

#[test]
fn a_write_is_answered_once_a_silent_store_may_admit_nothing() {
    let mut fixture = followed();
    fixture.pass(10 * SECOND);
    hello(&mut fixture, 0);
    let receipt = limit_written(&mut fixture, "one");
    let pushes = fixture.effects().pushes;
    pushed(&mut fixture, pushes[1], true);
    pushed(&mut fixture, pushes[0], false);
    assert_eq!(fixture.registry.wake_at(fixture.now), Some(at(10_200)));
    fixture.pass(200);
    assert_eq!(fixture.effects().pushes, [pushes[0]]);
    // The silence that a store allows itself, and a twentieth more, after its last question.
    fixture.now = at(41_499);
    assert!(!is_settled(&fixture, &receipt));
    fixture.pass(1);
    assert!(is_settled(&fixture, &receipt));
}

#[test]
fn a_later_write_is_pushed_while_an_earlier_one_is_under_way() {
    let mut fixture = followed();
    let first = limit_written(&mut fixture, "one");
    let earlier = fixture.effects().pushes;
    let second = limit_written(&mut fixture, "two");
    let later = fixture.effects().pushes;
    assert_eq!(later.iter().map(|push| push.revision).collect::<Vec<_>>(), [second.revision; 2]);
    earlier.into_iter().for_each(|push| pushed(&mut fixture, push, true));
    assert!(is_settled(&fixture, &first) && !is_settled(&fixture, &second));
    later.into_iter().for_each(|push| pushed(&mut fixture, push, true));
    assert!(is_settled(&fixture, &second));
}

#[test]
fn a_refusal_waits_for_earlier_writes() {
    let mut fixture = followed();
    fixture.put(DocumentKind::Limit, "one", &limit());
    let _ = fixture.registry.receipt();
    let refused = fixture.try_put(DocumentKind::Limit, "one", &limit(), Condition::Absent);
    assert_eq!(refusal(refused), precondition_failed());
    let receipt = fixture.registry.receipt();
    let pushes = fixture.effects().pushes;
    assert!(!is_settled(&fixture, &receipt) && pushes.len() == 2);
    pushes.into_iter().for_each(|push| pushed(&mut fixture, push, true));
    assert!(is_settled(&fixture, &receipt));
}

#[test]
fn after_a_restart_a_refusal_waits_too() {
    let mut fixture = followed();
    fixture.put(DocumentKind::Limit, "one", &limit());
    let mut fixture = fixture.restarted();
    assert_eq!((fixture.revision(), fixture.effects().pushes), (1, Vec::new()), "no answer waits");
    assert_eq!(refusal(fixture.try_delete(DocumentKind::Limit, "two", Condition::Exists)), "absent");
    let receipt = fixture.registry.receipt();
    let pushes = fixture.effects().pushes;
    assert!(!is_settled(&fixture, &receipt) && pushes.len() == 2);
    fixture.confirm_all();
    assert!(!is_settled(&fixture, &receipt), "these two are not confirmed");
    pushes.into_iter().for_each(|push| pushed(&mut fixture, push, true));
    assert!(is_settled(&fixture, &receipt));
}

#[test]
fn a_write_is_answered_once_its_notifications_were_tried() {
    for delivery in [Delivery::Confirmed, Delivery::Failed] {
        let mut fixture = Fixture::new();
        fixture.put_service("words", &probed());
        let receipt = fixture.registry.receipt();
        assert!(!is_settled(&fixture, &receipt));
        let sent = fixture.effects().notifications;
        assert!(!is_settled(&fixture, &receipt));
        fixture.registry.notified(sent[0].0, delivery, at(0)).unwrap();
        assert!(is_settled(&fixture, &receipt));
    }
}

#[test]
fn a_write_does_not_wait_for_the_notifications_of_others() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    let _ = fixture.registry.receipt();
    let receipt = limit_written(&mut fixture, "one");
    assert!(is_settled(&fixture, &receipt));
}

#[test]
fn what_others_have_added_does_not_concern_a_write() {
    let mut fixture = Fixture::new();
    fixture.register("dyn-a").unwrap();
    fixture.pass(UNUSED_MS);
    fixture.sweep();
    assert_eq!(fixture.notifications().len(), 2);
    fixture.registry.begin_write();
    let receipt = limit_written(&mut fixture, "one");
    assert!(is_settled(&fixture, &receipt));
    assert_eq!(fixture.effects().notifications.len(), 2);
}

#[test]
fn events_are_published_once_the_stores_know_the_change() {
    let mut fixture = followed();
    create_keys(&mut fixture, 1..2);
    let Effects { pushes, batch, .. } = fixture.effects();
    assert!(pushes.len() == 2 && batch.is_none());
    assert_eq!(fixture.storage.alarm(), Some(at(5_000)));
    pushed(&mut fixture, pushes[0], true);
    assert!(fixture.effects().batch.is_none());
    pushed(&mut fixture, pushes[1], true);
    assert_eq!(contents(&fixture.effects().batch.unwrap()), keys(1..=1));
}

#[test]
fn events_do_not_wait_for_stores_that_cannot_be_reached() {
    let mut fixture = followed();
    create_keys(&mut fixture, 1..2);
    let pushes = fixture.effects().pushes;
    pushed(&mut fixture, pushes[0], true);
    pushed(&mut fixture, pushes[1], false);
    let receipt = fixture.registry.receipt();
    assert!(!is_settled(&fixture, &receipt) && fixture.effects().batch.is_some());
}

#[test]
fn the_alarm_is_set_while_events_wait_for_stores() {
    let mut fixture = followed();
    create_keys(&mut fixture, 1..2);
    // The pushes have no reply.
    assert_eq!(fixture.effects().pushes.len(), 2);
    for rings in 1..7 {
        assert_eq!(fixture.storage.alarm(), Some(at(rings * 5_000)));
        fixture.ring();
        assert!(fixture.effects().batch.is_none());
    }
    fixture.now = at(31_500);
    assert!(fixture.effects().batch.is_some(), "the stores may admit nothing");
}

#[test]
fn events_are_published_in_order_and_stored_until_then() {
    let mut fixture = Fixture::new();
    create_keys(&mut fixture, 1..4);
    let batch = fixture.effects().batch.unwrap();
    assert_eq!((batch.first, batch.last, batch.count), (1, 3, 3));
    assert_eq!(contents(&batch), keys(1..=3));
    create_keys(&mut fixture, 4..6);
    assert!(fixture.effects().batch.is_none(), "one at a time");
    assert_eq!(fixture.storage.read(|disk| disk.outbox.len()), 5);
    published(&mut fixture, Some(3));
    assert_eq!(fixture.storage.read(|disk| disk.outbox.len()), 2);
    let batch = fixture.effects().batch.unwrap();
    assert_eq!((contents(&batch), batch.first, batch.count), (keys(4..=5), 4, 2));
    published(&mut fixture, Some(5));
    assert!(fixture.effects().batch.is_none() && fixture.storage.read(|disk| disk.outbox.is_empty()));
}

#[test]
fn many_events_are_published_in_several_batches() {
    let mut fixture = Fixture::new();
    create_keys(&mut fixture, 1..206);
    let first = fixture.effects().batch.unwrap();
    assert_eq!((contents(&first), first.last, first.count), (keys(1..=200), 200, 200));
    published(&mut fixture, Some(200));
    let second = fixture.effects().batch.unwrap();
    assert_eq!((contents(&second), second.first, second.count), (keys(201..=205), 201, 5));
}

#[test]
fn the_hub_may_have_less_or_more_of_a_batch() {
    let mut fixture = Fixture::new();
    create_keys(&mut fixture, 1..4);
    assert!(fixture.effects().batch.is_some());
    published(&mut fixture, Some(1));
    assert_eq!(contents(&fixture.effects().batch.unwrap()), keys(2..=3));
    // The reply to an earlier batch was lost.
    published(&mut fixture, Some(3));
    assert!(fixture.effects().batch.is_none());
}

#[test]
fn the_alarm_publishes_again_what_the_hub_did_not_confirm() {
    let mut fixture = Fixture::new();
    create_keys(&mut fixture, 1..3);
    for _ in 0..3 {
        assert_eq!(contents(&fixture.effects().batch.unwrap()), keys(1..=2));
        published(&mut fixture, None);
        assert!(fixture.effects().batch.is_none());
        assert_eq!(fixture.storage.alarm(), Some(fixture.now.plus_ms(5_000)));
        fixture.ring();
    }
    assert!(fixture.effects().batch.is_some());
    published(&mut fixture, None);
    // So do a sweep and the next write.
    fixture.sweep();
    assert_eq!(contents(&fixture.effects().batch.unwrap()), keys(1..=2));
    published(&mut fixture, None);
    create_keys(&mut fixture, 3..4);
    assert_eq!(contents(&fixture.effects().batch.unwrap()), keys(1..=3));
}

#[test]
fn published_events_that_cannot_be_deleted_are_published_again() {
    let mut fixture = Fixture::new();
    create_keys(&mut fixture, 1..3);
    assert!(fixture.effects().batch.is_some());
    fixture.storage.fail_write(Some(0));
    assert!(fixture.registry.published(Some(2), at(0)).is_err());
    fixture.ring();
    assert_eq!(contents(&fixture.effects().batch.unwrap()), keys(1..=2));
}

#[test]
fn a_restart_publishes_what_is_stored() {
    let mut fixture = Fixture::new();
    create_keys(&mut fixture, 1..3);
    assert!(fixture.effects().batch.is_some());
    let mut fixture = fixture.restarted();
    assert_eq!(contents(&fixture.effects().batch.unwrap()), keys(1..=2));
    published(&mut fixture, Some(2));
    create_keys(&mut fixture, 3..4);
    assert_eq!(contents(&fixture.restarted().effects().batch.unwrap()), keys(3..=3), "numbers are not used again");
}

#[test]
fn a_restart_loses_no_write() {
    let mut fixture = followed();
    fixture.put_service("words", &probed());
    fixture.create_key("k", "caller").unwrap();
    fixture.put(DocumentKind::Limit, "one", &limit());
    let (revision, documents) = (fixture.revision(), fixture.storage.read(|disk| disk.documents.clone()));
    let mut fixture = fixture.restarted();
    assert_eq!((fixture.revision(), revision), (3, 3));
    fixture.put(DocumentKind::Limit, "two", &limit());
    assert_eq!(fixture.revision(), 4);
    let after = fixture.storage.read(|disk| disk.documents.clone());
    assert!(documents.iter().all(|(key, text)| after.get(key) == Some(text)));
}
