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
        evidence.probe(*good, now);
    }
    (evidence, now)
}

#[test]
fn a_service_that_connects_is_as_well_as_its_connections() {
    let mut evidence = Evidence::default();
    evidence.beat(HealthStatus::Online, 60_000, Timestamp(1_000));
    evidence.connected(Some(HealthStatus::Offline));
    assert_eq!(evidence.judge((0, 0), None, Timestamp(2_000)), (HealthStatus::Offline, Reason::Connection));
    evidence.connected(Some(HealthStatus::Online));
    assert_eq!(evidence.judge((0, 0), None, Timestamp(2_000)).0, HealthStatus::Online);
    assert_eq!(evidence.judge((9, 9), None, Timestamp(2_000)), (HealthStatus::Degraded, Reason::Calls));
}

#[test]
fn nobody_measured_means_unknown() {
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
fn a_heartbeat_says_how_it_is_and_its_end_says_offline() {
    let mut evidence = Evidence::default();
    evidence.beat(Degraded, 30_000, NOW);
    assert_eq!(evidence.judge(NO_CALLS, None, at(29)), (Degraded, Reason::Heartbeat));
    assert_eq!(evidence.next_change(None, NOW), Some(at(30)));
    assert_eq!(evidence.judge(NO_CALLS, None, at(30)), (Offline, Reason::HeartbeatEnded));
    evidence.beat(Online, 30_000, at(40));
    assert_eq!(evidence.judge(NO_CALLS, None, at(41)), (Online, Reason::Heartbeat));
    // One that stopped beating and is found well again.
    evidence.probe(true, at(80));
    assert_eq!(evidence.judge(NO_CALLS, None, at(81)), (Online, Reason::Probe));
}

#[test]
fn of_a_probe_and_a_heartbeat_the_worse_counts() {
    let (mut evidence, now) = probed(&[false, false, false]);
    evidence.beat(Online, 60_000, now);
    assert_eq!(evidence.judge(NO_CALLS, EVERY, now), (Offline, Reason::Probe));
    let (mut evidence, now) = probed(&[true]);
    evidence.beat(Offline, 60_000, now);
    assert_eq!(evidence.judge(NO_CALLS, EVERY, now), (Offline, Reason::Heartbeat));
}

#[test]
fn calls_count_where_nothing_else_is_known_and_many_failures_always() {
    let mut evidence = Evidence::default();
    assert_eq!(evidence.judge((0, 9), None, NOW).0, Unknown);
    assert_eq!(evidence.judge((9, 1), None, NOW), (Degraded, Reason::Calls));
    evidence.served(NOW);
    assert_eq!(evidence.judge((10, 1), None, NOW), (Online, Reason::Calls));
    let (evidence, now) = probed(&[true]);
    assert_eq!(evidence.judge((50, 50), EVERY, now), (Degraded, Reason::Calls));
    let (evidence, now) = probed(&[false, false, false]);
    assert_eq!(evidence.judge((50, 50), EVERY, now), (Offline, Reason::Probe));
}

#[test]
fn what_was_measured_long_ago_is_not_claimed() {
    let (evidence, now) = probed(&[true]);
    assert_eq!(evidence.judge(NO_CALLS, EVERY, now.plus_ms(89_999)).0, Online);
    assert_eq!(evidence.judge(NO_CALLS, EVERY, now.plus_ms(90_000)).0, Unknown);
    assert_eq!(evidence.judge(NO_CALLS, None, now.plus_ms(STALE_MS - 1)).0, Online);
    assert_eq!(evidence.judge(NO_CALLS, None, now.plus_ms(STALE_MS)).0, Unknown);
    let mut evidence = Evidence::default();
    evidence.served(NOW);
    assert_eq!(evidence.judge(NO_CALLS, None, at(300)).0, Unknown);
}

#[test]
fn what_is_kept_of_a_heartbeat_lasts_one_lease_longer() {
    let mut evidence = Evidence::default();
    evidence.beat(Online, 30_000, NOW);
    assert_eq!(evidence.to_keep().beats_until(), Some(at(60)));
}

#[test]
fn the_first_status_is_published_at_once_and_later_ones_not_too_often() {
    let mut damper = Damper::new(Timing::DEFAULT);
    assert_eq!(damper.offer(Online, Unknown, NOW), Damped::Publish);
    assert_eq!(damper.offer(Offline, Online, NOW.plus_ms(500)), Damped::Later(NOW.plus_ms(Timing::DEFAULT.calm_ms)));
    assert_eq!(damper.offer(Online, Online, NOW.plus_ms(600)), Damped::Same);
    assert_eq!(damper.offer(Offline, Online, NOW.plus_ms(Timing::DEFAULT.calm_ms)), Damped::Publish);
}

#[test]
fn what_flaps_is_believed_when_it_is_worse_and_not_at_once_when_it_is_better() {
    let mut damper = Damper::new(Timing::DEFAULT);
    let mut published = Unknown;
    for second in [0, 3, 6, 9, 12, 15] {
        let status = if second % 2 == 0 { Online } else { Offline };
        if damper.offer(status, published, at(second)) == Damped::Publish {
            published = status;
        }
    }
    assert_eq!(published, Offline);
    assert_eq!(damper.offer(Online, Offline, at(18)), Damped::Later(at(28)));
    assert_eq!(damper.offer(Online, Offline, at(28)), Damped::Publish);
    assert_eq!(damper.offer(Offline, Online, at(30)), Damped::Publish, "worse is told at once");
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
            if damped == Damped::Publish {
                assert!(last.is_none_or(|last| now.since(last) >= Timing::DEFAULT.calm_ms));
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
        while let Damped::Later(at) = offer(status, now) {
            assert!(at > now && at.since(now) <= Timing::DEFAULT.hold_ms);
            now = at;
        }
        prop_assert_eq!(offer(status, now), Damped::Same);
    }
}

#[test]
fn what_an_answer_to_a_probe_says_depends_on_what_was_asked_for() {
    use Finding::{Bad, CredentialsRefused, Good, NotMeasured};
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
        let found = [Wanted::Success, Wanted::Models, Wanted::Answer].map(|wanted| wanted.finding(status));
        assert_eq!(found, [success, models, answer], "{status}");
    }
}
