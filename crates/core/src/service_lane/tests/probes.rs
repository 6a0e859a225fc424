use super::*;

#[test]
fn a_service_at_another_address_is_probed_once_the_registry_says_how() {
    let mut fixture = Fixture::new(settings(None));
    fixture.turn(NOW, |lane| lane.configure(target(Some(10_000)), NOW)).unwrap();
    assert_eq!(fixture.alarm, Some(at(TIMING.first_probe_ms)));
    fixture.settings.moved_at = at(5);
    fixture.learn(at(6));
    assert_eq!(fixture.ring(at(1_000)), None);
    fixture.restart(at(1_001));
    assert_eq!(fixture.storage.snapshot().target, None);
    fixture.turn(at(1_002), |lane| lane.configure(target(Some(10_000)), at(1_002))).unwrap();
    assert_eq!(fixture.ring(at(2_002)), Some(target(Some(10_000))));
}

#[test]
fn a_response_that_shows_nothing_does_not_change_the_health() {
    let mut fixture = Fixture::new(settings(None));
    let report = Target { strict: false, lists_models: true, ..target(None) }.judge(404, 5, at(1));
    let probed = fixture.lane.present();
    fixture.turn(at(1), |lane| lane.probed(probed, &report, at(1))).unwrap();
    assert_eq!(fixture.lane.observed().status, HealthStatus::Unknown);
}

#[test]
fn probes_follow_their_interval_and_a_known_target_changes_nothing() {
    let mut fixture = Fixture::new(settings(None));
    fixture.turn(NOW, |lane| lane.configure(target(Some(10_000)), NOW)).unwrap();
    assert_eq!(fixture.alarm, Some(at(TIMING.first_probe_ms)));
    let writes = fixture.storage.writes();
    fixture.turn(at(1), |lane| lane.configure(target(Some(10_000)), at(1))).unwrap();
    assert_eq!(fixture.storage.writes(), writes);
    fixture.answered(Some(StatusReply::Recorded), at(500));
    assert_eq!(fixture.ring(at(1_000)), Some(target(Some(10_000))));
    assert_eq!(fixture.alarm, Some(at(11_000)), "90% and a tenth of the interval");
    let probed = fixture.lane.present();
    let report = target(None).judge(200, 8, at(1_010));
    fixture.turn(at(1_010), |lane| lane.probed(probed, &report, at(1_010))).unwrap();
    assert_eq!(fixture.lane.observed().status, HealthStatus::Online);
    assert_eq!(fixture.lane.recent_probe(fixture.lane.present(), at(1_500)), Some(&report));
    assert_eq!(fixture.lane.recent_probe(fixture.lane.present(), at(2_010)), None);
    fixture.restart(at(2_000));
    assert_eq!(fixture.ring(at(11_000)), Some(target(Some(10_000))));
}

#[test]
fn what_responses_to_probes_show() {
    let strict = target(None);
    let of = |target: &Target, status| {
        let report = target.judge(status, 5, NOW);
        (report.good, report.unmeasured, report.error)
    };
    assert_eq!(of(&strict, 204), (true, false, None));
    assert_eq!(of(&strict, 404), (false, false, None));
    assert_eq!(of(&strict, 401), (false, false, Some(ProbeError::CredentialsRefused)));
    let models = Target { strict: false, lists_models: true, ..target(None) };
    assert_eq!(of(&models, 404), (false, true, Some(ProbeError::NotMeasured)));
    assert_eq!(of(&Target { strict: false, ..target(None) }, 404), (true, false, None));
}

#[test]
fn late_messages_do_not_say_how_a_service_at_another_address_is_probed() {
    let mut fixture = Fixture::new(settings(None));
    let before = fixture.settings.clone();
    fixture.settings.moved_at = at(5);
    fixture.learn(at(6));
    fixture.settings = before;
    fixture.learn(at(7));
    fixture.turn(at(7), |lane| lane.configure(target(Some(10_000)), at(7))).unwrap();
    assert_eq!(fixture.ring(at(1_007)), None);
    let (probed, report) = (fixture.lane.of_sender(), target(None).judge(503, 5, at(1_008)));
    fixture.turn(at(1_008), |lane| lane.probed(probed, &report, at(1_008))).unwrap();
    assert_eq!(fixture.lane.observed().status, HealthStatus::Unknown);
}

#[test]
fn a_target_that_cannot_be_deleted_is_deleted_with_the_next_message() {
    let mut fixture = Fixture::new(settings(None));
    fixture.turn(NOW, |lane| lane.configure(target(Some(10_000)), NOW)).unwrap();
    fixture.settings.moved_at = at(5);
    // First the target cannot be deleted, then the state cannot be stored.
    for nth in [0, 1] {
        fixture.storage.fail_write(Some(nth));
        assert!(fixture.lane.learn(&TenantId::first(), &fixture.settings, at(6)).is_err());
        fixture.storage.fail_write(None);
    }
    fixture.restart(at(7));
    assert_eq!(fixture.storage.snapshot().target, None);
    assert_eq!(fixture.ring(at(1_000)), None);
    assert!(fixture.alarm.is_none_or(|alarm| alarm > at(1_500)), "nothing is probed: {:?}", fixture.alarm);
}
