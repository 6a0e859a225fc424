//! When the alarm is armed, and what it does.

use super::*;

fn rings_at(fixture: &mut Fixture) -> Option<Timestamp> {
    let _ = fixture.effects();
    fixture.storage.alarm()
}

#[test]
fn the_alarm_is_set_while_anything_is_to_be_sent() {
    let mut fixture = Fixture::new();
    assert_eq!(rings_at(&mut fixture), None);
    fixture.create_key("k", "caller").unwrap();
    assert_eq!(rings_at(&mut fixture), Some(at(5_000)));
    fixture.confirm_all();
    fixture.registry.published(Some(1), at(0)).unwrap();
    fixture.ring();
    assert_eq!(rings_at(&mut fixture), None, "everything was sent");
    fixture.put(DocumentKind::Revocation, "grant", &json!({}));
    assert_eq!((fixture.sent().len(), fixture.storage.alarm()), (1, Some(at(10_000))));
    fixture.ring();
    assert_eq!(rings_at(&mut fixture), Some(at(15_000)), "it is still under way");
    fixture.notified(1, Delivery::Confirmed);
    fixture.ring();
    assert_eq!(rings_at(&mut fixture), None);
}

#[test]
fn the_alarm_is_set_while_a_batch_is_under_way() {
    let mut fixture = Fixture::new();
    fixture.create_key("k", "caller").unwrap();
    assert!(fixture.effects().batch.is_some());
    for rings in 1..4 {
        assert_eq!(fixture.storage.alarm(), Some(at(rings * 5_000)));
        fixture.ring();
        assert!(fixture.effects().batch.is_none());
    }
    fixture.registry.published(Some(1), fixture.now).unwrap();
    assert!(fixture.effects().batch.is_none());
    fixture.ring();
    assert_eq!(rings_at(&mut fixture), None);
}

#[test]
fn the_alarm_sends_what_has_failed_when_it_is_due() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    assert_eq!(fixture.sent().len(), 1);
    for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        fixture.notified(1, Delivery::Failed);
        let failed_at = fixture.now;
        // Never later than the time after which anything is repeated.
        let soon = (pause * SECOND).min(5_000);
        while fixture.sent().is_empty() {
            assert!(fixture.storage.alarm().unwrap().since(fixture.now) <= soon);
            fixture.ring();
        }
        assert_eq!(fixture.now.since(failed_at), pause * SECOND);
    }
}

#[test]
fn the_alarm_is_set_to_the_rest_of_the_tenants() {
    let mut fixture = Fixture::new();
    fixture.put(DocumentKind::Client, "dyn-app", &client());
    fixture.delete(DocumentKind::Client, "dyn-app");
    fixture.registry.begin_write();
    assert_eq!(fixture.sent().len(), 2);
    fixture.notified(1, Delivery::Confirmed);
    let last = TenantId::parse("m").unwrap();
    fixture.notified(2, Delivery::UpTo { last, failed: Vec::new(), follow: true });
    assert_eq!(rings_at(&mut fixture), Some(at(500)));
    fixture.ring();
    assert_eq!(fixture.sent().len(), 1);
}

#[test]
fn a_sweep_does_what_a_lost_alarm_would_have_done() {
    let mut fixture = Fixture::new();
    fixture.create_key("k", "caller").unwrap();
    fixture.put_service("words", &probed());
    let Effects { batch, notifications, .. } = fixture.effects();
    assert!(batch.is_some() && notifications.len() == 1);
    fixture.registry.published(None, at(0)).unwrap();
    fixture.notified(1, Delivery::Failed);
    fixture.storage.set_alarm(None);
    fixture.pass(SECOND / 2);
    fixture.sweep();
    let Effects { batch, notifications, .. } = fixture.effects();
    assert!(batch.is_some() && notifications.is_empty());
    assert_eq!(fixture.storage.alarm(), Some(at(1_000)));
}
