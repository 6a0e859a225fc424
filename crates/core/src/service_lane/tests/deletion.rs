use super::*;

#[test]
fn an_unchanged_status_of_a_service_that_was_registered_anew_is_reported() {
    let mut fixture = Fixture::new(settings(None));
    fixture.succeed(at(1));
    fixture.answered(Some(StatusReply::Recorded), at(2));
    fixture.settings.moved_at = at(5);
    fixture.lane.learn(&TenantId::first(), &fixture.settings, at(10)).unwrap();
    fixture.succeed(at(10));
    assert_eq!(fixture.lane.observed().status, HealthStatus::Online);
    assert!(fixture.effects.must_report);
    fixture.restart(at(11));
    assert_eq!(fixture.lane.status_report().unwrap().moved_at, Some(at(5)));
}

#[test]
fn a_deleted_service_is_forgotten_once_its_calls_have_ended() {
    let mut fixture = Fixture::new(settings(Some(1)));
    let permit = fixture.permit(1, at(1));
    fixture.forget(at(2)).unwrap();
    assert!(matches!(fixture.acquire(2, at(3)), PermitDecision::Waiting), "the limit still holds");
    fixture.restart(at(10));
    fixture.turn(at(11), |lane| lane.renew(permit, &PrincipalId::of_key("a"), at(11))).unwrap();
    assert!(fixture.lane.identity().is_some() && fixture.alarm.is_some());
    fixture.turn(at(9_000), |lane| lane.release(permit, sample(Signal::Success, at(9_000)), at(9_000), 0));
    assert!(fixture.lane.identity().is_some(), "another permit of the previous instance may be in use");
    let ends = at(10 + TIMING.permit_ms);
    fixture.ring(ends);
    assert_eq!((fixture.lane.identity(), fixture.storage.snapshot()), (None, memory::Disk::default()));
    assert_eq!(fixture.alarm, None);
}

#[test]
fn a_deletion_that_cannot_be_stored_is_repeated() {
    let mut fixture = Fixture::new(settings(None));
    fixture.succeed(at(1));
    fixture.storage.fail_write(Some(0));
    assert!(fixture.forget(at(2)).is_err());
    assert!(fixture.lane.identity().is_some() && fixture.storage.snapshot().state.is_some());
    fixture.forget(at(3)).unwrap();
    assert_eq!(fixture.storage.snapshot(), memory::Disk::default());
}

#[test]
fn a_lane_that_is_no_longer_needed_is_deleted_by_its_alarm_until_that_succeeds() {
    let mut fixture = Fixture::new(settings(Some(1)));
    fixture.permit(1, at(1));
    fixture.forget(at(2)).unwrap();
    fixture.storage.fail_write(Some(0));
    fixture.ring(at(1 + TIMING.permit_ms));
    assert!(matches!(fixture.effects.failures[..], [(Unsaved::Deletion, _)]));
    let again = fixture.alarm.unwrap();
    fixture.ring(again);
    assert_eq!(fixture.storage.snapshot(), memory::Disk::default());
}

#[test]
fn a_deletion_deletes_also_what_a_lane_without_a_state_has_stored() {
    let mut fixture = Fixture::new(settings(Some(1)));
    fixture.permit(1, at(1));
    fixture.restart(at(2));
    assert!(fixture.lane.identity().is_none() && fixture.storage.snapshot().busy_until > at(2));
    fixture.forget(at(3)).unwrap();
    let ends = fixture.alarm.unwrap();
    fixture.ring(ends);
    assert_eq!(fixture.storage.snapshot(), memory::Disk::default());
}

#[test]
fn a_leaving_lane_lets_no_request_wait_and_reports_nothing() {
    let mut fixture = Fixture::new(settings(Some(1)));
    let permit = fixture.permit(1, at(1));
    fixture.turn(at(2), |lane| lane.acquire(waiter(2), Some(7), at(2), 0)).unwrap();
    fixture.forget(at(3)).unwrap();
    assert_eq!(fixture.effects.decisions, [(7, PermitDecision::Waiting)], "its worker looks for another service");
    fixture.turn(at(4), |lane| lane.acquire(waiter(2), Some(8), at(4), 0)).unwrap();
    fixture.turn(at(500), |_| ());
    assert!(fixture.effects.decisions.is_empty(), "workers that do not know it yet must not ask all the time");
    fixture.turn(at(1_004), |_| ());
    assert_eq!(fixture.effects.decisions, [(8, PermitDecision::Waiting)]);
    fixture.fail(at(1_100));
    assert!(!fixture.effects.must_report && fixture.lane.status_report().is_none());
    fixture.turn(at(1_200), |lane| lane.release(permit, sample(Signal::Success, at(1_200)), at(1_200), 0));
    assert_eq!(fixture.lane.identity(), None);
}

#[test]
fn a_lane_that_a_late_message_has_configured_learns_that_its_service_was_deleted() {
    let mut fixture = Fixture::new(settings(None));
    fixture.turn(NOW, |lane| lane.configure(target(None), NOW)).unwrap();
    assert_eq!(fixture.alarm, Some(at(TIMING.status_retry_ms)));
    fixture.ring(at(TIMING.status_retry_ms));
    assert!(fixture.effects.must_report);
    fixture.answered(Some(StatusReply::Absent), at(2_010));
    assert_eq!(fixture.storage.snapshot(), memory::Disk::default());
}

#[test]
fn late_messages_do_not_delete_a_service_that_was_registered_anew() {
    let mut fixture = Fixture::new(settings(None));
    fixture.succeed(at(1));
    let report = fixture.lane.status_report().unwrap();
    let earlier = fixture.settings.clone();
    fixture.settings.moved_at = at(5);
    fixture.learn(at(6));
    fixture.turn(at(6), |lane| lane.forget(&TenantId::first(), &earlier, at(6))).unwrap();
    assert!(fixture.lane.identity().is_some());
    fixture.turn(at(7), |lane| lane.status_reported(&report, Some(&StatusReply::Absent), at(7)));
    assert!(fixture.lane.identity().is_some());
    fixture.answered(Some(StatusReply::Absent), at(8));
    assert_eq!(fixture.lane.identity(), None);
}

#[test]
fn a_service_that_is_registered_anew_while_it_leaves_stays() {
    let mut fixture = Fixture::new(settings(Some(1)));
    fixture.permit(1, at(1));
    fixture.forget(at(2)).unwrap();
    fixture.settings.moved_at = at(5);
    fixture.learn(at(6));
    fixture.restart(at(7));
    fixture.turn(at(60_000), |_| ());
    assert!(fixture.lane.identity().is_some());
}

#[test]
fn a_deletion_that_fails_after_a_report_is_repeated_by_the_alarm() {
    for has_calls in [false, true] {
        let mut fixture = Fixture::new(settings(Some(1)));
        fixture.succeed(at(1));
        if has_calls {
            fixture.permit(1, at(1));
        }
        let report = fixture.lane.status_report().unwrap();
        fixture.storage.fail_write(Some(0));
        fixture.turn(at(2), |lane| lane.status_reported(&report, Some(&StatusReply::Absent), at(2)));
        fixture.storage.fail_write(None);
        let again = fixture.alarm.unwrap();
        fixture.ring(again);
        assert!(fixture.effects.must_report, "calls: {has_calls}");
        fixture.answered(Some(StatusReply::Absent), again);
        fixture.ring(at(60_000));
        assert_eq!(fixture.storage.snapshot(), memory::Disk::default());
    }
}

#[test]
fn a_leaving_lane_that_restarts_wakes_although_its_permits_are_gone() {
    // The permits of a service that connects are not stored: its deliveries are.
    let mut fixture = Fixture::new(LaneSettings { grace_ms: Some(5_000), ..settings(None) });
    let viewer = connections::viewer("bot", None);
    fixture.turn(at(1), |lane| lane.connect(1, Connection::new("con_1".into(), viewer, at(1)), at(1)));
    fixture.turn(at(1), |lane| lane.message(1, Some(r#"{"type":"ready","credit":1}"#), at(1)));
    fixture.permit(1, at(1));
    fixture.forget(at(2)).unwrap();
    fixture.ring(at(2_000));
    assert_eq!(fixture.alarm, Some(at(1 + TIMING.permit_ms)));
    fixture.storage.set_full(true);
    fixture.restart(at(2_001));
    assert!(matches!(fixture.effects.failures[..], [(Unsaved::Deletion, _)]));
    fixture.storage.set_full(false);
    assert_eq!(fixture.alarm, Some(at(2_001 + TIMING.status_retry_ms)));
    fixture.ring(at(2_001 + TIMING.status_retry_ms));
    assert_eq!(fixture.storage.snapshot(), memory::Disk::default());
}

#[test]
fn a_deletion_is_about_the_registration_that_it_names() {
    let mut fixture = Fixture::new(settings(Some(1)));
    fixture.permit(1, at(1));
    fixture.settings.moved_at = at(5);
    fixture.forget(at(6)).unwrap();
    fixture.learn(at(7));
    fixture.ring(at(1 + TIMING.permit_ms));
    assert_eq!(fixture.storage.snapshot(), memory::Disk::default(), "a late message does not keep it");
}
