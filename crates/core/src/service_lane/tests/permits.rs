use super::*;

#[test]
fn older_settings_change_nothing() {
    let mut fixture = Fixture::new(LaneSettings { configured_at: at(2), ..settings(Some(1)) });
    fixture.settings = settings(None);
    fixture.learn(at(3));
    fixture.permit(1, at(4));
    fixture.settings.configured_at = at(5);
    fixture.learn(at(5));
    assert_eq!(fixture.acquire(2, at(6)), PermitDecision::Free);
}

#[test]
fn a_restarted_lane_grants_nothing_while_earlier_permits_may_be_valid() {
    let mut fixture = Fixture::new(settings(Some(1)));
    let permit = fixture.permit(1, at(1));
    assert_eq!(fixture.storage.writes(), 1);
    fixture.restart(at(100));
    fixture.learn(at(100));
    assert_eq!(fixture.acquire(2, at(101)), PermitDecision::Waiting);
    fixture.turn(at(4_000), |lane| lane.renew(permit, &PrincipalId::of_key("a"), at(4_000))).unwrap();
    assert_eq!(fixture.acquire(2, at(10_200)), PermitDecision::Waiting, "that of the previous instance");
    fixture.turn(at(10_300), |lane| lane.release(permit, sample(Signal::Success, at(10_300)), at(10_300), 0));
    fixture.permit(3, at(10_301));
}

#[test]
fn a_lane_that_has_been_idle_for_a_while_may_grant_at_once_after_a_restart() {
    let mut fixture = Fixture::new(settings(Some(1)));
    let permit = fixture.permit(1, at(1));
    fixture.turn(at(2), |lane| lane.release(permit, sample(Signal::Success, at(2)), at(2), 0));
    assert!(fixture.effects.clear_busy);
    fixture.turn(at(3), |_| ());
    assert!(!fixture.effects.clear_busy, "one timer runs");
    fixture.turn(at(2_002), |lane| lane.clear_busy(at(2_002)));
    fixture.restart(at(2_003));
    fixture.learn(at(2_003));
    fixture.permit(2, at(2_004));
}

#[test]
fn there_is_a_single_probe_of_an_open_breaker_even_across_a_restart() {
    let mut fixture = Fixture::new(settings(None));
    fixture.fail(at(1));
    let half_open = fixture.lane.observed().breaker_until.unwrap();
    // Afterwards, nothing but the probe changes the status.
    fixture.turn(half_open, |_| ());
    assert!(matches!(fixture.acquire(1, half_open), PermitDecision::Permit { probe: true, .. }));
    fixture.restart(half_open.plus_ms(1));
    assert!(matches!(fixture.acquire(2, half_open.plus_ms(2)), PermitDecision::Open { .. }));
}

#[test]
fn waiting_requests_are_answered_once_and_the_newest_gets_the_permit() {
    let mut fixture = Fixture::new(settings(Some(1)));
    let permit = fixture.permit(1, at(1));
    let mut wait = |number: u64, request: u64| {
        let decision = fixture.turn(at(2), |lane| lane.acquire(waiter(number), Some(request), at(2), 0));
        assert_eq!(decision.unwrap(), PermitDecision::Waiting);
    };
    wait(2, 21);
    wait(2, 22);
    wait(3, 31);
    assert_eq!(fixture.lane.next_tick_ms(at(2)), Some(TIMING.queue_check_ms));
    fixture.turn(at(3), |lane| lane.release(permit, sample(Signal::Success, at(3)), at(3), 0));
    let [(21, PermitDecision::Waiting), (22, PermitDecision::Permit { .. })] = fixture.effects.decisions[..] else {
        panic!("{:?}", fixture.effects.decisions)
    };
    fixture.turn(at(4), |lane| lane.leave(&context(3)));
    assert_eq!(fixture.effects.decisions, [(31, PermitDecision::Waiting)]);
    assert_eq!(fixture.lane.next_tick_ms(at(5)), None);
}

#[test]
fn a_context_whose_requests_have_all_stopped_waiting_gets_no_permit() {
    let mut fixture = Fixture::new(settings(Some(1)));
    let permit = fixture.permit(1, at(1));
    fixture.turn(at(2), |lane| lane.acquire(waiter(2), Some(7), at(2), 0)).unwrap();
    fixture.turn(at(3), |lane| lane.stop_waiting(&context(2), 7));
    fixture.turn(at(4), |lane| lane.release(permit, sample(Signal::Success, at(4)), at(4), 0));
    assert_eq!((fixture.effects.decisions.len(), fixture.lane.next_tick_ms(at(5))), (0, None));
    fixture.permit(3, at(5));
}
