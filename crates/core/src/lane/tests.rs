use super::*;
use crate::base::id::{Region, StoreId};
use crate::context::status::Priority;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const OPEN_MS: u64 = 1_000;
const TIMING: Timing = Timing { breaker_open_ms: OPEN_MS, ..Timing::DEFAULT };

fn context(number: u64) -> ContextId {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    ContextId::new(StoreId { region: Region::default(), shard: 0 }, NOW, bytes)
}

fn entrant(number: u64) -> Entrant {
    let deadline = NOW.plus_ms(3_600_000);
    let (principal, priority) = ("key:a".into(), Priority::Normal);
    Entrant { context: context(number), principal, priority, deadline, admitted: false }
}

fn lane(max_concurrency: Option<u64>) -> Lane {
    let mut lane = Lane::restore(Kept::default(), NOW, Timestamp(0), TIMING);
    lane.limit(max_concurrency.map(|max_concurrency| Limits { max_concurrency, max_queue: 100 }));
    lane
}

fn sample(outcome: Signal, at: Timestamp) -> Sample {
    Sample { outcome, latency_ms: 0, at }
}

fn fail(lane: &mut Lane, now: Timestamp) {
    for _ in 0..5 {
        lane.report(0, sample(Signal::Failure, now), now, 20);
    }
}

#[test]
fn without_a_limit_and_with_a_closed_breaker_no_permit_is_needed() {
    assert_eq!(lane(None).enter(entrant(1), NOW, 0), Entered::Free);
}

#[test]
fn a_breaker_that_opens_is_told_once_with_its_reason_and_so_is_its_recovery() {
    let mut lane = lane(None);
    lane.report(0, sample(Signal::Success, NOW), NOW, 0);
    let online = lane.news(NOW).unwrap();
    assert_eq!((online.measured.status, online.reason, online.changed), (HealthStatus::Online, Reason::Calls, true));
    fail(&mut lane, NOW);
    let open = lane.news(NOW).unwrap();
    assert_eq!((open.measured.status, open.measured.breaker), (HealthStatus::Offline, BreakerState::Open));
    assert_eq!((open.reason, open.measured.breaker_until), (Reason::Breaker, Some(NOW.plus_ms(OPEN_MS))));
    assert_eq!(open.measured.evidence, HealthStatus::Online, "what calls say, without the breaker");
    assert!(open.measured.version > online.measured.version);
    assert_eq!(lane.news(NOW), None);
    assert_eq!(lane.next_news(NOW), Some(NOW.plus_ms(OPEN_MS)));

    let now = NOW.plus_ms(OPEN_MS);
    let half = lane.news(now).unwrap();
    assert_eq!((half.measured.status, half.measured.breaker), (HealthStatus::Degraded, BreakerState::HalfOpen));
    let Entered::Permit { number, probe: true } = lane.enter(entrant(1), now, 0) else { panic!("no probe") };
    assert_eq!(lane.enter(entrant(2), now, 0), Entered::Open { until: now.plus_ms(TIMING.probing_ms) });
    lane.release(number, sample(Signal::Success, now), now, 0);
    let closed = lane.news(now).unwrap();
    assert_eq!((closed.measured.status, closed.measured.breaker), (HealthStatus::Online, BreakerState::Closed));
    assert_eq!(lane.enter(entrant(2), now, 0), Entered::Free);
}

#[test]
fn who_waits_when_the_breaker_opens_is_told_so() {
    let mut lane = lane(Some(1));
    let Entered::Permit { number, .. } = lane.enter(entrant(1), NOW, 0) else { panic!("no permit") };
    assert_eq!(lane.enter(entrant(2), NOW, 0), Entered::Waiting);
    lane.set_present(&context(2), true);
    assert_eq!(lane.turns(NOW), []);
    fail(&mut lane, NOW);
    lane.release(number, sample(Signal::Failure, NOW), NOW, 0);
    assert_eq!(lane.turns(NOW), [(context(2), Entered::Open { until: NOW.plus_ms(OPEN_MS) })]);
    assert_eq!(lane.line().waiting(), 0);
}

#[test]
fn a_probe_counts_as_a_call_in_flight() {
    let mut lane = lane(Some(1));
    let Entered::Permit { number, .. } = lane.enter(entrant(1), NOW, 0) else { panic!("no permit") };
    fail(&mut lane, NOW);
    let now = NOW.plus_ms(OPEN_MS);
    assert_eq!(lane.enter(entrant(2), now, 0), Entered::Open { until: now.plus_ms(TIMING.probing_ms) });
    lane.release(number, sample(Signal::Neither, now), now, 0);
    assert!(matches!(lane.enter(entrant(2), now, 0), Entered::Permit { probe: true, .. }));
}

#[test]
fn a_limit_that_is_taken_away_lets_everybody_go() {
    let mut lane = lane(Some(1));
    lane.enter(entrant(1), NOW, 0);
    lane.enter(entrant(2), NOW, 0);
    lane.set_present(&context(2), true);
    lane.limit(None);
    assert_eq!(lane.turns(NOW), [(context(2), Entered::Free)]);
}

#[test]
fn another_address_starts_anew() {
    let mut lane = lane(None);
    fail(&mut lane, NOW);
    lane.news(NOW);
    lane.start_anew();
    let news = lane.news(NOW.plus_ms(10)).unwrap();
    assert_eq!((news.measured.status, news.measured.breaker), (HealthStatus::Unknown, BreakerState::Closed));
}

#[test]
fn a_new_latency_is_told_now_and_then_and_is_no_change() {
    let mut lane = lane(None);
    let took = |ms, now| Sample { outcome: Signal::Success, latency_ms: ms, at: now };
    for _ in 0..5 {
        lane.report(0, took(100, NOW), NOW, 0);
    }
    assert!(lane.news(NOW).unwrap().changed);
    let later = NOW.plus_ms(REFRESH_MS);
    lane.report(0, took(110, later), later, 0);
    assert_eq!(lane.news(later), None);
    for _ in 0..20 {
        lane.report(0, took(200, later), later, 0);
    }
    let news = lane.news(later).unwrap();
    assert_eq!((news.changed, news.measured.latency_ms), (false, Some(200)));
}

#[test]
fn what_is_kept_is_as_it_was() {
    let mut lane = lane(None);
    fail(&mut lane, NOW);
    lane.news(NOW);
    let text = serde_json::to_string(&lane.keep(NOW)).unwrap();
    let mut again = Lane::restore(serde_json::from_str(&text).unwrap(), NOW, Timestamp(0), TIMING);
    assert_eq!(again.measured(), lane.measured());
    assert_eq!(again.news(NOW), None);
    assert_eq!(again.enter(entrant(1), NOW, 0), Entered::Open { until: NOW.plus_ms(OPEN_MS) });
}

#[test]
fn a_lane_that_restarts_between_calls_still_counts_their_failures() {
    let mut lane = lane(None);
    let mut now = NOW;
    let mut kept = lane.keep(NOW);
    for failures in 1..=5 {
        now = now.plus_ms(60_000);
        lane.report(0, sample(Signal::Failure, now), now, 0);
        let changed = lane.news(now).is_some_and(|news| news.changed);
        if changed || lane.forgets(now) {
            kept = lane.keep(now);
        }
        assert_eq!(lane.measured().breaker == BreakerState::Open, failures == 5, "{failures}");
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
        lane.news(now);
        if lane.forgets(now) {
            lane.keep(now);
            written += 1;
        }
    }
    assert!(written <= 7, "{written}");
}

proptest! {
    /// A lane is restarted at any time; its holders renew their permits, or are gone.
    #[test]
    fn a_restart_never_lets_one_too_many_through(
        steps in prop::collection::vec((0u8..6, 0u64..3_000), 1..120), max_concurrency in 1u64..4,
    ) {
        let mut it = lane(Some(max_concurrency));
        let mut now = NOW;
        // Calls that are in flight, with the end of their permit's lease as their holder knows it.
        let mut calls: Vec<(u64, ContextId, Timestamp)> = Vec::new();
        let mut busy_until = Timestamp(0);
        let mut number = 0;
        for (step, ms) in steps {
            now = now.plus_ms(ms);
            // Every holder renews in time, as the Worker does: each 4 s.
            for (permit, _, until) in &mut calls {
                if until.since(now) < TIMING.permit_ms - 4_000 {
                    it.renew(*permit, "key:a", now);
                    *until = now.plus_ms(TIMING.permit_ms);
                }
            }
            // The object writes this down with every message, so it is on disk before it dies.
            if it.line().in_flight() > 0 {
                busy_until = busy_until.max(now.plus_ms(TIMING.permit_ms + 8_000));
            }
            match step {
                0..3 => {
                    number += 1;
                    if let Entered::Permit { number: permit, .. } = it.enter(entrant(number), now, 0) {
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
                    it = Lane::restore(it.keep(now), now, closed_until, TIMING);
                    it.limit(Some(Limits { max_concurrency, max_queue: 100 }));
                }
                _ => {}
            }
            it.turns(now);
            if it.line().in_flight() > 0 {
                busy_until = busy_until.max(now.plus_ms(TIMING.permit_ms + 8_000));
            }
            prop_assert!(calls.len() as u64 <= max_concurrency, "{} in flight", calls.len());
        }
    }
}
