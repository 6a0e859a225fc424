use super::*;

#[test]
fn a_status_is_stored_before_it_is_reported_and_reported_until_the_registry_has_it() {
    let mut fixture = Fixture::new(settings(None));
    assert_eq!((fixture.lane.status_report(), fixture.storage.writes()), (None, 0), "nothing is known yet");
    fixture.succeed(at(1));
    assert!(fixture.effects.must_report);
    let report = fixture.lane.status_report().unwrap();
    assert_eq!((report.measured.status, report.moved_at), (HealthStatus::Online, Some(NOW)));
    fixture.answered(None, at(5));
    assert_eq!(fixture.alarm, Some(at(1 + TIMING.status_retry_ms)));
    fixture.restart(at(10));
    assert_eq!(fixture.lane.status_report(), Some(report));
    fixture.ring(at(2_001));
    assert!(fixture.effects.must_report);
    fixture.answered(Some(StatusReply::Recorded), at(2_010));
    fixture.restart(at(2_020));
    assert_eq!(fixture.lane.status_report(), None);
}

#[test]
fn a_status_that_cannot_be_stored_is_not_reported() {
    let mut fixture = Fixture::new(settings(None));
    fixture.storage.set_full(true);
    fixture.succeed(at(1));
    assert!(!fixture.effects.must_report);
    assert!(matches!(fixture.effects.failures[..], [(Unsaved::State, _), ..]));
    fixture.ring(at(2_001));
    assert!(!fixture.effects.must_report, "a restarted lane would not know that the registry has it");
    let again = fixture.alarm.unwrap();
    fixture.storage.set_full(false);
    fixture.ring(again);
    assert!(fixture.effects.must_report);
}

#[test]
fn a_status_that_changed_while_it_was_reported_is_reported_again() {
    let mut fixture = Fixture::new(settings(None));
    fixture.succeed(at(1));
    let first = fixture.lane.status_report().unwrap();
    fixture.fail(at(2));
    assert!(fixture.lane.observed().version > first.measured.version);
    fixture.turn(at(3), |lane| lane.status_reported(&first, Some(&StatusReply::Recorded), at(3)));
    assert_eq!(fixture.lane.status_report().unwrap().measured.status, HealthStatus::Offline);
}

#[test]
fn a_service_at_another_address_is_not_judged_by_the_previous_one() {
    let mut fixture = Fixture::new(settings(None));
    fixture.turn(NOW, |lane| lane.configure(target(Some(10_000)), NOW)).unwrap();
    fixture.succeed(at(1));
    fixture.answered(Some(StatusReply::Recorded), at(2));
    let before = fixture.lane.present();
    fixture.settings.moved_at = at(5);
    fixture.learn(at(3_000));
    assert!(fixture.effects.must_report, "the registry may have registered the service anew");
    assert_eq!(fixture.lane.observed().status, HealthStatus::Unknown);
    let report = ProbeReport::failed(ProbeError::Unreachable, 5, at(3_001));
    fixture.turn(at(3_001), |lane| lane.probed(before, &report, at(3_001))).unwrap();
    assert_eq!(fixture.lane.recent_probe(fixture.lane.present(), at(3_001)), None);
    fixture.restart(at(3_002));
    let writes = fixture.storage.writes();
    fixture.learn(at(3_003));
    assert_eq!(fixture.storage.writes(), writes, "the move is known");
}

#[test]
fn calls_and_heartbeats_at_an_earlier_address_say_nothing_about_the_service() {
    let mut fixture = Fixture::new(settings(Some(1)));
    let (permit, before) = (fixture.permit(1, at(1)), fixture.settings.clone());
    fixture.settings.moved_at = at(5);
    fixture.learn(at(6));
    let settings = std::mem::replace(&mut fixture.settings, before);
    fixture.learn(at(7));
    fixture.fail(at(7));
    fixture.succeed(at(7));
    fixture.turn(at(7), |lane| lane.heartbeat(HealthStatus::Degraded, 30_000, at(7))).unwrap();
    fixture.turn(at(7), |lane| lane.release(permit, sample(Signal::Success, at(7)), at(7), 0));
    let observed = fixture.lane.observed();
    assert_eq!((observed.status, observed.version), (HealthStatus::Unknown, 0));
    fixture.settings = settings;
    fixture.learn(at(8));
    fixture.permit(2, at(9));
    fixture.succeed(at(9));
    assert_eq!(fixture.lane.observed().status, HealthStatus::Online);
}

#[test]
fn a_move_that_cannot_be_stored_is_repeated() {
    let mut fixture = Fixture::new(settings(Some(1)));
    fixture.permit(1, at(1));
    fixture.forget(at(2)).unwrap();
    fixture.settings.moved_at = at(5);
    fixture.storage.fail_write(Some(0));
    assert!(fixture.lane.learn(&TenantId::first(), &fixture.settings, at(6)).is_err());
    fixture.settle(at(6));
    fixture.learn(at(7));
    fixture.restart(at(8));
    fixture.turn(at(60_000), |_| ());
    assert!(fixture.lane.identity().is_some(), "it was registered anew");
}

#[test]
fn a_reply_to_a_late_report_does_not_count() {
    let mut fixture = Fixture::new(settings(None));
    fixture.succeed(at(1));
    let report = fixture.lane.status_report().unwrap();
    fixture.settings.moved_at = at(5);
    fixture.lane.learn(&TenantId::first(), &fixture.settings, at(6)).unwrap();
    fixture.succeed(at(6));
    fixture.turn(at(7), |lane| lane.status_reported(&report, Some(&StatusReply::Recorded), at(7)));
    assert_eq!(fixture.lane.status_report().map(|report| report.moved_at), Some(Some(at(5))));
}

#[test]
fn an_alarm_that_was_missed_is_set_again() {
    let mut fixture = Fixture::new(settings(None));
    fixture.turn(NOW, |lane| lane.configure(target(Some(10_000)), NOW)).unwrap();
    fixture.turn(at(5_000), |_| ());
    assert_eq!(fixture.effects.alarm, None, "it may still fire");
    fixture.turn(at(6_001), |_| ());
    assert_eq!(fixture.effects.alarm, Some(at(6_001 + SLACK_MS)));
}

#[test]
fn a_heartbeat_is_written_only_when_the_stored_one_would_end() {
    let mut fixture = Fixture::new(settings(None));
    let mut beat = |ms: u64| {
        let before = fixture.storage.writes();
        fixture.turn(at(ms), |lane| lane.heartbeat(HealthStatus::Online, 30_000, at(ms))).unwrap();
        fixture.storage.writes() > before
    };
    assert_eq!([beat(0), beat(10_000), beat(20_000), beat(31_000)], [true, false, false, true]);
}

#[test]
fn a_later_change_that_cannot_be_stored_is_not_reported_in_place_of_an_earlier_one() {
    let mut fixture = Fixture::new(settings(None));
    fixture.succeed(at(1));
    fixture.answered(None, at(2));
    fixture.storage.set_full(true);
    fixture.fail(at(3));
    fixture.ring(at(2_001));
    assert_eq!(fixture.lane.status_report(), None);
}
