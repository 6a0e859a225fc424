use super::fixtures::{NOW, context, waiter};
use super::*;
use crate::base::principal_id::PrincipalId;
use proptest::prelude::*;

const OPEN_MS: u64 = 1_000;
const TIMING: Timing = Timing { breaker_open_ms: OPEN_MS, ..Timing::DEFAULT };

fn lane(max_concurrency: Option<u64>) -> Lane {
    let mut lane = Lane::restore(LaneRecord::default(), NOW, Timestamp(0), TIMING);
    lane.set_limits(max_concurrency.map(|max_concurrency| QueueLimits { max_concurrency, max_queue: 100 }));
    lane
}

fn sample(outcome: Signal, at: Timestamp) -> CallOutcome {
    CallOutcome { outcome, latency_ms: 0, at }
}

fn fail(lane: &mut Lane, now: Timestamp) {
    for _ in 0..5 {
        lane.report(0, sample(Signal::Failure, now), now, 20);
    }
}

#[test]
fn without_a_limit_and_with_a_closed_breaker_no_permit_is_needed() {
    assert_eq!(lane(None).acquire(waiter(1), NOW, 0), PermitDecision::Free);
}

#[test]
fn an_opening_breaker_and_its_recovery_are_published_once_each() {
    let mut lane = lane(None);
    lane.report(0, sample(Signal::Success, NOW), NOW, 0);
    let online = lane.status_update(NOW).unwrap();
    assert_eq!(
        (online.measured.status, online.reason, online.changed),
        (HealthStatus::Online, StatusReason::Calls, true)
    );
    fail(&mut lane, NOW);
    let open = lane.status_update(NOW).unwrap();
    assert_eq!((open.measured.status, open.measured.breaker), (HealthStatus::Offline, BreakerState::Open));
    assert_eq!((open.reason, open.measured.breaker_until), (StatusReason::Breaker, Some(NOW.plus_ms(OPEN_MS))));
    assert_eq!(open.measured.evidence, HealthStatus::Online, "by calls, without the breaker");
    assert!(open.measured.version > online.measured.version);
    assert_eq!(lane.status_update(NOW), None);
    assert_eq!(lane.next_update_at(NOW), Some(NOW.plus_ms(OPEN_MS)));

    let now = NOW.plus_ms(OPEN_MS);
    let half = lane.status_update(now).unwrap();
    assert_eq!((half.measured.status, half.measured.breaker), (HealthStatus::Degraded, BreakerState::HalfOpen));
    let PermitDecision::Permit { number, probe: true } = lane.acquire(waiter(1), now, 0) else { panic!("no probe") };
    assert_eq!(lane.acquire(waiter(2), now, 0), PermitDecision::Open { until: now.plus_ms(TIMING.half_open_poll_ms) });
    lane.release(number, sample(Signal::Success, now), now, 0);
    let closed = lane.status_update(now).unwrap();
    assert_eq!((closed.measured.status, closed.measured.breaker), (HealthStatus::Online, BreakerState::Closed));
    assert_eq!(lane.acquire(waiter(2), now, 0), PermitDecision::Free);
}

#[test]
fn waiting_contexts_are_notified_when_the_breaker_opens() {
    let mut lane = lane(Some(1));
    let PermitDecision::Permit { number, .. } = lane.acquire(waiter(1), NOW, 0) else { panic!("no permit") };
    assert_eq!(lane.acquire(waiter(2), NOW, 0), PermitDecision::Waiting);
    lane.set_present(&context(2), true);
    assert_eq!(lane.grant_permits(NOW), []);
    fail(&mut lane, NOW);
    lane.release(number, sample(Signal::Failure, NOW), NOW, 0);
    assert_eq!(lane.grant_permits(NOW), [(context(2), PermitDecision::Open { until: NOW.plus_ms(OPEN_MS) })]);
    assert_eq!(lane.queue().waiting(), 0);
}

#[test]
fn a_probe_counts_as_a_call_in_flight() {
    let mut lane = lane(Some(1));
    let PermitDecision::Permit { number, .. } = lane.acquire(waiter(1), NOW, 0) else { panic!("no permit") };
    fail(&mut lane, NOW);
    let now = NOW.plus_ms(OPEN_MS);
    assert_eq!(lane.acquire(waiter(2), now, 0), PermitDecision::Open { until: now.plus_ms(TIMING.half_open_poll_ms) });
    lane.release(number, sample(Signal::Ignored, now), now, 0);
    assert!(matches!(lane.acquire(waiter(2), now, 0), PermitDecision::Permit { probe: true, .. }));
}

#[test]
fn a_limit_that_is_taken_away_lets_everybody_go() {
    let mut lane = lane(Some(1));
    lane.acquire(waiter(1), NOW, 0);
    lane.acquire(waiter(2), NOW, 0);
    lane.set_present(&context(2), true);
    lane.set_limits(None);
    assert_eq!(lane.grant_permits(NOW), [(context(2), PermitDecision::Free)]);
}

#[test]
fn a_new_address_resets_the_observations() {
    let mut lane = lane(None);
    fail(&mut lane, NOW);
    lane.status_update(NOW);
    lane.reset();
    let status_update = lane.status_update(NOW.plus_ms(10)).unwrap();
    assert_eq!(
        (status_update.measured.status, status_update.measured.breaker),
        (HealthStatus::Unknown, BreakerState::Closed)
    );
}

#[test]
fn a_new_latency_is_published_now_and_then_and_is_not_a_change() {
    let mut lane = lane(None);
    let took = |ms, now| CallOutcome { outcome: Signal::Success, latency_ms: ms, at: now };
    for _ in 0..5 {
        lane.report(0, took(100, NOW), NOW, 0);
    }
    assert!(lane.status_update(NOW).unwrap().changed);
    let later = NOW.plus_ms(Timing::DEFAULT.latency_interval_ms);
    lane.report(0, took(110, later), later, 0);
    assert_eq!(lane.status_update(later), None);
    for _ in 0..20 {
        lane.report(0, took(200, later), later, 0);
    }
    let status_update = lane.status_update(later).unwrap();
    assert_eq!((status_update.changed, status_update.measured.latency_ms), (false, Some(200)));
}

#[test]
fn a_restored_lane_is_equal() {
    let mut lane = lane(None);
    fail(&mut lane, NOW);
    lane.status_update(NOW);
    let text = serde_json::to_string(&lane.to_record()).unwrap();
    let mut again = Lane::restore(serde_json::from_str(&text).unwrap(), NOW, Timestamp(0), TIMING);
    assert_eq!(again.observed(), lane.observed());
    assert_eq!(again.status_update(NOW), None);
    assert_eq!(again.acquire(waiter(1), NOW, 0), PermitDecision::Open { until: NOW.plus_ms(OPEN_MS) });
}

#[test]
fn a_lane_that_restarts_between_calls_still_counts_their_failures() {
    let mut lane = lane(None);
    let mut now = NOW;
    let mut kept = lane.to_record();
    for failures in 1..=5 {
        now = now.plus_ms(60_000);
        lane.report(0, sample(Signal::Failure, now), now, 0);
        let changed = lane.status_update(now).is_some_and(|status_update| status_update.changed);
        if changed || lane.should_persist(now) {
            kept = lane.to_record();
            lane.persisted(now);
        }
        assert_eq!(lane.observed().breaker == BreakerState::Open, failures == 5, "{failures}");
        lane = Lane::restore(kept.clone(), now, Timestamp(0), TIMING);
    }
}

#[test]
fn failures_now_and_then_are_not_written_each_time() {
    let mut lane = lane(None);
    let mut written = 0;
    for second in 0..60 {
        let now = NOW.plus_ms(second * 1_000);
        lane.report(5, sample(if second % 2 == 0 { Signal::Failure } else { Signal::Success }, now), now, 0);
        lane.status_update(now);
        if lane.should_persist(now) {
            lane.persisted(now);
            written += 1;
        }
    }
    assert!(written <= 7, "{written}");
}

// The versions before and after read these forms too.
#[test]
fn a_permit_is_sent_and_stored_by_its_number() {
    let mut lane = lane(None);
    fail(&mut lane, NOW);
    let now = NOW.plus_ms(OPEN_MS);
    let decision = lane.acquire(waiter(1), now, 0);
    let sent = r#"{"permit":{"number":1800000000000001,"probe":true}}"#;
    assert_eq!(serde_json::to_string(&decision).unwrap(), sent);
    assert_eq!(serde_json::from_str::<PermitDecision>(sent).unwrap(), decision);
    let stored = serde_json::to_value(lane.to_record()).unwrap();
    assert_eq!(stored["breaker"]["probe"]["permit"].as_u64(), Some(1_800_000_000_000_001));
    let read: LaneRecord = serde_json::from_value(stored).unwrap();
    assert_eq!(read.breaker.probe().map(|probe| probe.permit), Some(PermitNumber::at_start(NOW).next()));
}

proptest! {
    /// A lane restarts at any time; permit holders renew, or have crashed.
    #[test]
    fn a_restart_never_lets_one_too_many_through(
        steps in prop::collection::vec((0u8..6, 0u64..3_000), 1..120), max_concurrency in 1u64..4,
    ) {
        let mut it = lane(Some(max_concurrency));
        let mut now = NOW;
        // Calls in flight, each with the end of its permit's lease as its holder knows it.
        let mut calls: Vec<(PermitNumber, ContextId, Timestamp)> = Vec::new();
        let mut busy_until = Timestamp(0);
        let mut number = 0;
        for (step, ms) in steps {
            now = now.plus_ms(ms);
            // Every holder renews in time, as the Worker does: every 4 s.
            for (permit, _, until) in &mut calls {
                if until.since(now) < TIMING.permit_ms - 4_000 {
                    it.renew(*permit, &PrincipalId::of_key("a"), now);
                    *until = now.plus_ms(TIMING.permit_ms);
                }
            }
            // The object writes this with every message, so it is on disk before a crash.
            if it.queue().in_flight() > 0 {
                busy_until = busy_until.max(now.plus_ms(TIMING.permit_ms + 8_000));
            }
            match step {
                0..3 => {
                    number += 1;
                    if let PermitDecision::Permit { number: permit, .. } = it.acquire(waiter(number), now, 0) {
                        calls.push((permit, context(number), now.plus_ms(TIMING.permit_ms)));
                    }
                    it.leave(&context(number));
                }
                3 if !calls.is_empty() => {
                    let (permit, ..) = calls.remove(0);
                    it.release(permit, sample(Signal::Success, now), now, 0);
                }
                4 => {
                    let closed_until = busy_until.min(now.plus_ms(TIMING.permit_ms));
                    it = Lane::restore(it.to_record(), now, closed_until, TIMING);
                    it.set_limits(Some(QueueLimits { max_concurrency, max_queue: 100 }));
                }
                _ => {}
            }
            it.grant_permits(now);
            if it.queue().in_flight() > 0 {
                busy_until = busy_until.max(now.plus_ms(TIMING.permit_ms + 8_000));
            }
            prop_assert!(calls.len() as u64 <= max_concurrency, "{} in flight", calls.len());
        }
    }
}

#[test]
fn a_restarted_lane_grants_no_second_probe_beside_one_that_was_renewed() {
    let mut lane = lane(None);
    for _ in 0..5 {
        lane.report(0, sample(Signal::Failure, NOW), NOW, 0);
    }
    let half_open = NOW.plus_ms(OPEN_MS * 2);
    let PermitDecision::Permit { number, probe: true } = lane.acquire(waiter(1), half_open, 0) else {
        panic!("a probe")
    };
    let renewed = half_open.plus_ms(TIMING.permit_ms - 1_000);
    assert!(lane.renew(number, &PrincipalId::of_key("a"), renewed), "it must be persisted");
    assert!(!lane.renew(PermitNumber::of(1), &PrincipalId::of_key("a"), renewed), "another permit");
    let restart = half_open.plus_ms(TIMING.permit_ms + 1_000);
    let mut restarted = Lane::restore(lane.to_record(), restart, Timestamp(0), TIMING);
    assert!(matches!(restarted.acquire(waiter(2), restart, 0), PermitDecision::Open { .. }));
}
