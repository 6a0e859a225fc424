use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const EVERY: Option<u64> = Some(30_000);
const NO_CALLS: (u64, u64) = (0, 0);

use HealthStatus::{Degraded, Offline, Online, Unknown};

fn at(seconds: u64) -> Timestamp {
    NOW.plus_ms(seconds * 1_000)
}

fn probed(results: &[bool]) -> (Evidence, Timestamp) {
    let mut evidence = Evidence::default();
    let mut now = NOW;
    for good in results {
        now = now.plus_ms(30_000);
        evidence.record_probe(*good, now);
    }
    (evidence, now)
}

#[test]
fn a_service_that_connects_is_as_well_as_its_connections() {
    let mut evidence = Evidence::default();
    evidence.record_heartbeat(HealthStatus::Online, 60_000, Timestamp(1_000));
    evidence.set_connection_status(Some(HealthStatus::Offline));
    assert_eq!(evidence.judge((0, 0), None, Timestamp(2_000)), (HealthStatus::Offline, StatusReason::Connection));
    evidence.set_connection_status(Some(HealthStatus::Online));
    assert_eq!(evidence.judge((0, 0), None, Timestamp(2_000)).0, HealthStatus::Online);
    assert_eq!(evidence.judge((9, 9), None, Timestamp(2_000)), (HealthStatus::Degraded, StatusReason::Calls));
}

#[test]
fn without_measurements_the_status_is_unknown() {
    assert_eq!(Evidence::default().judge(NO_CALLS, EVERY, NOW).0, Unknown);
}

#[test]
fn probes_count_by_thresholds_but_the_first() {
    for (results, expected) in [
        (&[true][..], Online),
        (&[false], Degraded),
        (&[false, false], Degraded),
        (&[false, false, false], Offline),
        (&[true, false, false], Online),
        (&[true, false, false, false], Offline),
        (&[true, false, true, false, false], Online),
        (&[false, false, false, true], Offline),
        (&[false, false, false, true, true], Online),
        (&[false, true], Degraded),
        (&[false, true, true], Online),
    ] {
        let (evidence, now) = probed(results);
        assert_eq!(evidence.judge(NO_CALLS, EVERY, now).0, expected, "{results:?}");
    }
}

#[test]
fn a_heartbeat_sets_the_status_until_it_expires() {
    let mut evidence = Evidence::default();
    evidence.record_heartbeat(Degraded, 30_000, NOW);
    assert_eq!(evidence.judge(NO_CALLS, None, at(29)), (Degraded, StatusReason::Heartbeat));
    assert_eq!(evidence.next_change(None, NOW), Some(at(30)));
    assert_eq!(evidence.judge(NO_CALLS, None, at(30)), (Offline, StatusReason::HeartbeatEnded));
    evidence.record_heartbeat(Online, 30_000, at(40));
    assert_eq!(evidence.judge(NO_CALLS, None, at(41)), (Online, StatusReason::Heartbeat));
    // An expired heartbeat, and then a successful probe.
    evidence.record_probe(true, at(80));
    assert_eq!(evidence.judge(NO_CALLS, None, at(81)), (Online, StatusReason::Probe));
}

#[test]
fn the_worse_of_probe_and_heartbeat_counts() {
    let (mut evidence, now) = probed(&[false, false, false]);
    evidence.record_heartbeat(Online, 60_000, now);
    assert_eq!(evidence.judge(NO_CALLS, EVERY, now), (Offline, StatusReason::Probe));
    let (mut evidence, now) = probed(&[true]);
    evidence.record_heartbeat(Offline, 60_000, now);
    assert_eq!(evidence.judge(NO_CALLS, EVERY, now), (Offline, StatusReason::Heartbeat));
}

#[test]
fn calls_count_where_nothing_else_is_known_and_many_failures_always() {
    let mut evidence = Evidence::default();
    assert_eq!(evidence.judge((0, 9), None, NOW).0, Unknown);
    assert_eq!(evidence.judge((9, 1), None, NOW), (Degraded, StatusReason::Calls));
    evidence.record_success(NOW);
    assert_eq!(evidence.judge((10, 1), None, NOW), (Online, StatusReason::Calls));
    let (evidence, now) = probed(&[true]);
    assert_eq!(evidence.judge((50, 50), EVERY, now), (Degraded, StatusReason::Calls));
    let (evidence, now) = probed(&[false, false, false]);
    assert_eq!(evidence.judge((50, 50), EVERY, now), (Offline, StatusReason::Probe));
}

#[test]
fn old_measurements_expire() {
    let (evidence, now) = probed(&[true]);
    assert_eq!(evidence.judge(NO_CALLS, EVERY, now.plus_ms(89_999)).0, Online);
    assert_eq!(evidence.judge(NO_CALLS, EVERY, now.plus_ms(90_000)).0, Unknown);
    assert_eq!(evidence.judge(NO_CALLS, None, now.plus_ms(STALE_MS - 1)).0, Online);
    assert_eq!(evidence.judge(NO_CALLS, None, now.plus_ms(STALE_MS)).0, Unknown);
    let mut evidence = Evidence::default();
    evidence.record_success(NOW);
    assert_eq!(evidence.judge(NO_CALLS, None, at(300)).0, Unknown);
}

#[test]
fn a_stored_heartbeat_lasts_one_lease_longer() {
    let mut evidence = Evidence::default();
    evidence.record_heartbeat(Online, 30_000, NOW);
    assert_eq!(evidence.to_record().heartbeat_until(), Some(at(60)));
}

#[test]
fn the_first_status_is_published_at_once_and_later_ones_not_too_often() {
    let mut damper = Damper::new(Timing::DEFAULT);
    assert_eq!(damper.offer(Online, Unknown, NOW), DamperDecision::Publish);
    assert_eq!(
        damper.offer(Offline, Online, NOW.plus_ms(500)),
        DamperDecision::Later(NOW.plus_ms(Timing::DEFAULT.status_interval_ms))
    );
    assert_eq!(damper.offer(Online, Online, NOW.plus_ms(600)), DamperDecision::Same);
    assert_eq!(damper.offer(Offline, Online, NOW.plus_ms(Timing::DEFAULT.status_interval_ms)), DamperDecision::Publish);
}

#[test]
fn a_flapping_status_worsens_at_once_and_improves_later() {
    let mut damper = Damper::new(Timing::DEFAULT);
    let mut published = Unknown;
    for second in [0, 3, 6, 9, 12, 15] {
        let status = if second % 2 == 0 { Online } else { Offline };
        if damper.offer(status, published, at(second)) == DamperDecision::Publish {
            published = status;
        }
    }
    assert_eq!(published, Offline);
    assert_eq!(damper.offer(Online, Offline, at(18)), DamperDecision::Later(at(28)));
    assert_eq!(damper.offer(Online, Offline, at(28)), DamperDecision::Publish);
    assert_eq!(damper.offer(Offline, Online, at(30)), DamperDecision::Publish, "a worse status is published at once");
}

proptest! {
    #[test]
    fn a_status_is_published_at_most_every_two_seconds_and_in_the_end_it_is_the_true_one(
        steps in prop::collection::vec((0u64..4_000, 0usize..3), 1..100),
    ) {
        let mut damper = Damper::new(Timing::DEFAULT);
        let (mut published, mut last, mut now) = (Unknown, None::<Timestamp>, NOW);
        let mut offer = |status, now: Timestamp| {
            let damped = damper.offer(status, published, now);
            if damped == DamperDecision::Publish {
                assert!(last.is_none_or(|last| now.since(last) >= Timing::DEFAULT.status_interval_ms));
                last = Some(now);
                published = status;
            }
            damped
        };
        let mut status = Online;
        for (ms, which) in steps {
            now = now.plus_ms(ms);
            status = [Online, Degraded, Offline][which];
            offer(status, now);
        }
        while let DamperDecision::Later(at) = offer(status, now) {
            assert!(at > now && at.since(now) <= Timing::DEFAULT.status_hold_ms);
            now = at;
        }
        prop_assert_eq!(offer(status, now), DamperDecision::Same);
    }
}

#[test]
fn a_probe_response_is_judged_by_the_expectation() {
    use ProbeResult::{Bad, CredentialsRefused, Good, NotMeasured};
    for (status, success, models, answer) in [
        (200, Good, Good, Good),
        (204, Good, Good, Good),
        (302, Bad, NotMeasured, Good),
        (401, CredentialsRefused, CredentialsRefused, Good),
        (403, CredentialsRefused, CredentialsRefused, Good),
        (404, Bad, NotMeasured, Good),
        (405, Bad, NotMeasured, Good),
        (408, Bad, Bad, Bad),
        (429, Bad, Good, Good),
        (500, Bad, Bad, Bad),
        (529, Bad, Bad, Bad),
    ] {
        let found = [ProbeExpectation::Success, ProbeExpectation::Models, ProbeExpectation::Answer]
            .map(|wanted| wanted.evaluate(status));
        assert_eq!(found, [success, models, answer], "{status}");
    }
}
