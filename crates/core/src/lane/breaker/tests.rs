const OPEN_MS: u64 = 30_000;
use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const FAILURE: Outcomes = Outcomes { successes: 0, failures: 1 };
const SUCCESS: Outcomes = Outcomes { successes: 1, failures: 0 };

fn fail(breaker: &mut Breaker, times: u64, now: Timestamp) {
    for _ in 0..times {
        breaker.record(FAILURE, now, now, 20, OPEN_MS);
    }
}

fn opened(now: Timestamp) -> Breaker {
    let mut breaker = Breaker::default();
    fail(&mut breaker, FAILURES_IN_A_ROW, now);
    assert_eq!(breaker.state(), BreakerState::Open);
    breaker
}

/// Half open, with this permit as its probe.
fn probing(now: Timestamp, permit: PermitNumber) -> (Breaker, Timestamp) {
    let mut breaker = opened(now);
    let now = breaker.until().unwrap();
    assert_eq!(breaker.passage(now), Passage::AsProbe);
    breaker.begin_probe(Probe { permit, until: now.plus_ms(10_000) });
    (breaker, now)
}

#[test]
fn five_failures_in_a_row_open_it_and_a_success_between_does_not() {
    let mut breaker = Breaker::default();
    fail(&mut breaker, FAILURES_IN_A_ROW - 1, NOW);
    breaker.record(SUCCESS, NOW, NOW, 0, OPEN_MS);
    fail(&mut breaker, FAILURES_IN_A_ROW - 1, NOW);
    assert_eq!(breaker.passage(NOW), Passage::Free);
    fail(&mut breaker, 1, NOW);
    assert_eq!(breaker.passage(NOW), Passage::Blocked(NOW.plus_ms(OPEN_MS)));
}

#[test]
fn half_of_many_calls_open_it_and_fewer_do_not() {
    for (successes, failures, expected) in [(11, 9, BreakerState::Closed), (10, 10, BreakerState::Open)] {
        let mut breaker = Breaker::default();
        breaker.record(Outcomes { successes, failures: 0 }, NOW, NOW, 0, OPEN_MS);
        for nth in 0..failures {
            // Never five consecutive ones.
            breaker.record(Outcomes { successes: 0, failures: 1 }, NOW, NOW.plus_ms(nth), 0, OPEN_MS);
            breaker.consecutive_failures = 0;
        }
        assert_eq!(breaker.state(), expected, "{successes} and {failures}");
    }
    let mut breaker = Breaker::default();
    breaker.record(Outcomes { successes: 0, failures: 4 }, NOW, NOW, 0, OPEN_MS);
    breaker.consecutive_failures = 0;
    let later = NOW.plus_ms(31_000);
    breaker.record(Outcomes { successes: 10, failures: 4 }, later, later, 0, OPEN_MS);
    breaker.consecutive_failures = 0;
    breaker.record(Outcomes { successes: 0, failures: 4 }, later, later, 0, OPEN_MS);
    assert_eq!(breaker.state(), BreakerState::Closed, "older than 30 s does not count");
}

#[test]
fn the_probe_that_succeeds_closes_it_and_the_one_that_fails_opens_it_for_longer() {
    let (mut breaker, now) = probing(NOW, PermitNumber::of(1));
    assert!(breaker.end_probe(PermitNumber::of(1), Signal::Failure, now, 20, OPEN_MS));
    assert_eq!(breaker.passage(now), Passage::Blocked(now.plus_ms(2 * OPEN_MS)));
    let now = now.plus_ms(2 * OPEN_MS);
    assert_eq!(breaker.passage(now), Passage::AsProbe);
    breaker.begin_probe(Probe { permit: PermitNumber::of(2), until: now.plus_ms(10_000) });
    assert!(breaker.end_probe(PermitNumber::of(2), Signal::Success, now, 20, OPEN_MS));
    assert_eq!(breaker.passage(now), Passage::Free);
    // Another trip soon after: earlier trips count.
    fail(&mut breaker, FAILURES_IN_A_ROW, now.plus_ms(QUIET_MS - 1));
    assert_eq!(breaker.until(), Some(now.plus_ms(QUIET_MS - 1 + 3 * OPEN_MS)));
}

#[test]
fn trips_are_forgotten_after_a_quiet_while() {
    let (mut breaker, now) = probing(NOW, PermitNumber::of(1));
    breaker.end_probe(PermitNumber::of(1), Signal::Success, now, 20, OPEN_MS);
    let later = now.plus_ms(QUIET_MS);
    fail(&mut breaker, FAILURES_IN_A_ROW, later);
    assert_eq!(breaker.until(), Some(later.plus_ms(OPEN_MS)));
}

#[test]
fn after_an_inconclusive_or_expired_probe_the_next_call_tries() {
    let (mut breaker, now) = probing(NOW, PermitNumber::of(1));
    assert_eq!(breaker.passage(now), Passage::Blocked(now.plus_ms(10_000)));
    breaker.end_probe(PermitNumber::of(1), Signal::Ignored, now, 0, OPEN_MS);
    assert_eq!(breaker.passage(now), Passage::AsProbe);
    breaker.begin_probe(Probe { permit: PermitNumber::of(2), until: now.plus_ms(10_000) });
    breaker.renew_probe(PermitNumber::of(2), now.plus_ms(14_000));
    breaker.renew_probe(PermitNumber::of(1), now.plus_ms(99_000));
    assert_eq!(breaker.passage(now.plus_ms(13_999)), Passage::Blocked(now.plus_ms(14_000)));
    assert_eq!(breaker.passage(now.plus_ms(14_000)), Passage::AsProbe);
    assert!(!breaker.end_probe(PermitNumber::of(2), Signal::Failure, now.plus_ms(14_001), 0, OPEN_MS), "it was lost");
    assert_eq!(breaker.passage(now.plus_ms(14_001)), Passage::AsProbe);
}

#[test]
fn calls_from_before_it_opened_change_nothing_later() {
    let (mut breaker, now) = probing(NOW, PermitNumber::of(1));
    fail(&mut breaker, 10, now);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    breaker.end_probe(PermitNumber::of(1), Signal::Success, now, 20, OPEN_MS);
    for _ in 0..10 {
        breaker.record(FAILURE, Timestamp(now.0 - 1), now.plus_ms(5), 0, OPEN_MS);
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn stored_state_survives_with_its_probe() {
    let (breaker, now) = probing(NOW, PermitNumber::of(1));
    let text = serde_json::to_string(&breaker).unwrap();
    let mut again: Breaker = serde_json::from_str(&text).unwrap();
    assert_eq!(again.passage(now), Passage::Blocked(now.plus_ms(10_000)));
    assert!(again.end_probe(PermitNumber::of(1), Signal::Success, now, 0, OPEN_MS));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Call { fails: bool },
    Probe { signal: Signal },
    Lose,
    Pass { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let signal = prop_oneof![Just(Signal::Success), Just(Signal::Failure), Just(Signal::Ignored)];
    prop_oneof![
        4 => any::<bool>().prop_map(|fails| Step::Call { fails }),
        2 => signal.prop_map(|signal| Step::Probe { signal }),
        1 => Just(Step::Lose),
        3 => (0u64..100_000).prop_map(|ms| Step::Pass { ms }),
    ]
}

proptest! {
    #[test]
    fn there_is_never_a_second_probe_and_it_is_never_open_for_long(
        steps in prop::collection::vec((step(), any::<u64>()), 1..300),
    ) {
        let mut breaker = Breaker::default();
        let mut now = NOW;
        let mut permit = PermitNumber::of(0);
        let mut out: Option<(PermitNumber, Timestamp)> = None;
        for (step, random) in steps {
            out = out.filter(|(_, until)| *until > now);
            match step {
                Step::Pass { ms } => now = now.plus_ms(ms),
                Step::Lose => {
                    // Its holder crashes; its lease expires.
                    if let Some((_, until)) = out.take() {
                        now = now.max(until);
                    }
                }
                Step::Call { fails } => match breaker.passage(now) {
                    Passage::Free => {
                        let outcomes = if fails { FAILURE } else { SUCCESS };
                        breaker.record(outcomes, now, now, random, OPEN_MS);
                    }
                    Passage::AsProbe => {
                        prop_assert_eq!(out, None);
                        permit = permit.next();
                        let until = now.plus_ms(10_000);
                        breaker.begin_probe(Probe { permit, until });
                        out = Some((permit, until));
                    }
                    Passage::Blocked(until) => prop_assert!(until > now),
                },
                Step::Probe { signal } => {
                    if let Some((permit, _)) = out.take() {
                        prop_assert!(breaker.end_probe(permit, signal, now, random, OPEN_MS));
                    }
                }
            }
            if let Some(until) = breaker.until() {
                prop_assert!(until.since(now) <= MAX_OPEN_MS);
            }
            breaker.tick(now);
            prop_assert!(out.is_none() || breaker.state() == BreakerState::HalfOpen);
        }
    }
}
