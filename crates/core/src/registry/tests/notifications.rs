use super::*;

fn configure(service: &str) -> Value {
    json!({"configure_lane": {"service": service}})
}

fn up_to_acme() -> Delivery {
    Delivery::UpTo { last: TenantId::parse("acme").unwrap(), failed: Vec::new(), follow: true }
}

#[test]
fn a_notification_is_stored_until_it_is_confirmed() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    assert_eq!(fixture.notifications(), [configure("words")]);
    assert_eq!(fixture.sent(), [(1, configure("words"))]);
    assert_eq!(fixture.sent(), []);
    assert_eq!(fixture.notifications(), [configure("words")]);
    fixture.notified(1, Delivery::Confirmed);
    assert_eq!((fixture.notifications(), fixture.sent()), (Vec::new(), Vec::new()));
}

#[test]
fn a_failed_notification_is_sent_again_after_growing_pauses() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    assert_eq!(fixture.sent().len(), 1);
    for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        fixture.notified(1, Delivery::Failed);
        fixture.pass(pause * SECOND - 1);
        assert_eq!(fixture.sent(), []);
        fixture.pass(1);
        assert_eq!(fixture.sent(), [(1, configure("words"))]);
        assert_eq!(fixture.notifications(), [configure("words")]);
    }
}

#[test]
fn a_confirmation_that_cannot_be_stored_is_repeated() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    assert_eq!(fixture.sent().len(), 1);
    fixture.storage.fail_write(Some(0));
    assert!(fixture.registry.notified(1, Delivery::Confirmed, at(0)).is_err());
    assert_eq!(fixture.notifications(), [configure("words")]);
    fixture.pass(SECOND);
    assert_eq!(fixture.sent(), [(1, configure("words"))]);
    fixture.notified(1, Delivery::Confirmed);
    assert_eq!(fixture.notifications(), Vec::<Value>::new());
}

#[test]
fn an_earlier_notification_of_the_same_lane_is_deleted() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    fixture.put_service("other", &probed());
    assert_eq!(fixture.sent().len(), 2);
    fixture.patch_service("words", &json!({"weight": 2}));
    assert_eq!(fixture.notifications(), [configure("other"), configure("words")]);
    fixture.try_delete_service("words", Condition::Exists).unwrap();
    let notifications = fixture.notifications();
    assert_eq!((notifications.len(), &notifications[0]), (2, &configure("other")));
    assert_eq!(notifications[1]["forget_lane"]["service"], "words");
    // The late reply to an obsolete one.
    for delivery in [Delivery::Confirmed, Delivery::Failed, up_to_acme()] {
        fixture.unchanged(|fixture| fixture.notified(1, delivery));
    }
    fixture.put_service("words", &probed());
    assert_eq!(fixture.notifications(), [configure("other"), configure("words")]);
    assert_eq!(fixture.sent(), [(5, configure("words"))]);
}

#[test]
fn a_refused_write_makes_no_notification_obsolete() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    fixture.storage.fail_write(Some(3));
    fixture.unchanged(|fixture| {
        let failed = fixture.try_put_service("words", &probed(), Condition::Exists);
        assert!(matches!(failed, Err(WriteError::Failed(_))));
    });
    fixture.storage.fail_write(None);
    assert_eq!(fixture.sent(), [(1, configure("words"))]);
    fixture.notified(1, Delivery::Confirmed);
    assert_eq!(fixture.notifications(), Vec::<Value>::new());
}

#[test]
fn a_notification_of_a_later_version_stays_and_disturbs_nothing() {
    let mut fixture = Fixture::new();
    let later = r#"{"of_a_later_version":{"service":"words"}}"#;
    fixture.storage.queue_notification(later).unwrap();
    fixture.put_service("words", &probed());
    let mut fixture = fixture.restarted();
    assert_eq!(fixture.sent(), [(2, configure("words"))]);
    fixture.notified(2, Delivery::Confirmed);
    fixture.put_service("words", &probed());
    fixture.confirm_all();
    let rows = fixture.storage.queued_notifications().unwrap();
    assert_eq!(rows, [(1, later.to_string())]);
    assert!(fixture.act(|registry, turn| registry.close(turn)).is_ok());
    assert_eq!(fixture.storage.queued_notifications().unwrap()[0], (1, later.to_string()));
}

#[test]
fn many_notifications_are_sent_in_parts() {
    let mut fixture = Fixture::new();
    for number in 0..60 {
        fixture.put_service(&format!("s{number}"), &probed());
    }
    assert_eq!(fixture.sent().len(), 50);
    assert_eq!(fixture.sent(), []);
    fixture.notified(1, Delivery::Confirmed);
    fixture.notified(2, Delivery::Failed);
    let next: Vec<u64> = fixture.sent().into_iter().map(|(number, _)| number).collect();
    assert_eq!(next, [51, 52]);
}

#[test]
fn the_sweep_configures_the_lanes_that_work_by_themselves() {
    let mut fixture = Fixture::new();
    fixture.put_service("bot", &connecting());
    fixture.put_service("probed", &probed());
    fixture.put_service("words", &with(called("https://words.example/a"), json!({"limits": {"max_concurrency": 1}})));
    fixture.confirm_all();
    let added = fixture.added(|fixture| fixture.sweep());
    assert_eq!((added.revisions, added.notifications.len()), (0, 0));
    assert_eq!(fixture.effects().lanes, [id("bot"), id("probed")]);
    assert_eq!(fixture.effects().lanes, []);
}

#[test]
fn the_last_word_to_a_lane_is_sent_once_the_reply_to_the_word_before_is_here() {
    for delivery in [Delivery::Confirmed, Delivery::Failed] {
        let mut fixture = Fixture::new();
        fixture.put_service("words", &probed());
        let first = fixture.registry.receipt();
        assert_eq!(fixture.sent(), [(1, configure("words"))]);
        fixture.patch_service("words", &json!({"weight": 2}));
        let second = fixture.registry.receipt();
        fixture.pass(60 * SECOND);
        assert_eq!(fixture.sent(), []);
        fixture.notified(1, delivery);
        assert_eq!(fixture.sent(), [(2, configure("words"))]);
        // The lane has the earlier word at most, so the first write waits too.
        let is_settled = |fixture: &Fixture, receipt| fixture.registry.is_settled(receipt, fixture.now);
        assert!(!is_settled(&fixture, &first) && !is_settled(&fixture, &second));
        fixture.notified(2, Delivery::Failed);
        assert!(is_settled(&fixture, &first) && is_settled(&fixture, &second));
    }
}

#[test]
fn after_a_restart_the_last_word_waits_for_nothing() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &probed());
    assert_eq!(fixture.sent().len(), 1);
    fixture.patch_service("words", &json!({"weight": 2}));
    assert_eq!(fixture.sent(), []);
    assert_eq!(fixture.restarted().sent(), [(2, configure("words"))]);
}

#[test]
fn equal_notifications_are_sent_once() {
    let mut fixture = Fixture::new();
    let change = |fixture: &mut Fixture, name: &str| fixture.put(DocumentKind::Client, "app", &json!({"name": name}));
    for name in ["first", "second", "third", "fourth"] {
        change(&mut fixture, name);
    }
    let expected = json!({"revoke_dependents": {"revocation": {"from": "clients/default.app"}, "at": "hub"}});
    assert_eq!((fixture.notifications(), fixture.sent()), (vec![expected.clone()], vec![(3, expected.clone())]));
    // One that is under way may have come before the change.
    change(&mut fixture, "fifth");
    assert_eq!((fixture.notifications(), fixture.sent()), (vec![expected.clone()], Vec::new()));
    fixture.notified(3, Delivery::Confirmed);
    assert_eq!((fixture.notifications(), fixture.sent()), (vec![expected.clone()], vec![(4, expected)]));
    fixture.notified(4, Delivery::Confirmed);
    assert_eq!(fixture.notifications(), Vec::<Value>::new());
}

#[test]
fn recipients_that_fail_for_long_delay_no_others() {
    let mut fixture = Fixture::new();
    for number in 0..50 {
        fixture.put_service(&format!("s{number}"), &probed());
    }
    for (number, _) in fixture.sent() {
        fixture.notified(number, Delivery::Failed);
    }
    fixture.pass(SECOND);
    fixture.put_service("words", &probed());
    let sent = fixture.sent();
    assert_eq!((sent.len(), &sent[0]), (50, &(51, configure("words"))));
}
