use super::*;
use crate::base::id::{Region, StoreId};
use proptest::prelude::*;

const PERMIT_MS: u64 = Timing::DEFAULT.permit_ms;
const AGEING_MS: u64 = Timing::DEFAULT.ageing_ms;
const NOW: Timestamp = Timestamp(1_800_000_000_000);
const LIMITS: Limits = Limits { max_concurrency: 2, max_queue: 4 };

fn context(number: u64) -> ContextId {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    ContextId::new(StoreId { region: Region::default(), shard: 0 }, NOW, bytes)
}

fn entrant(number: u64, principal: &str, priority: Priority) -> Entrant {
    let deadline = NOW.plus_ms(10 * 60_000);
    Entrant { context: context(number), principal: principal.into(), priority, deadline, admitted: false }
}

fn line() -> Line {
    Line::new(1, Timestamp(0), Timing::DEFAULT)
}

/// Asks, and waits when it has to.
fn ask(line: &mut Line, who: Entrant, limits: Limits, now: Timestamp) -> Entry {
    let context = who.context.clone();
    let entry = line.acquire(who, limits, now, 0);
    line.set_present(&context, true);
    entry
}

fn permit(entry: Entry) -> u64 {
    match entry {
        Entry::Granted(permit) => permit,
        other => panic!("{other:?} is no permit"),
    }
}

/// The contexts that are given a permit now, by their numbers.
fn granted(line: &mut Line, limits: Limits, now: Timestamp) -> Vec<(ContextId, u64)> {
    let turns = line.turns(limits, now);
    turns
        .into_iter()
        .map(|turn| match turn {
            Turn::Granted { context, permit } => (context, permit),
            Turn::TooLate { context } => panic!("{context} came too late"),
        })
        .collect()
}

#[test]
fn critical_overtakes_and_low_that_waited_overtakes_critical() {
    let one = Limits { max_concurrency: 1, ..LIMITS };
    let mut line = line();
    let mut held = permit(ask(&mut line, entrant(0, "a", Priority::Normal), one, NOW));
    ask(&mut line, entrant(1, "a", Priority::Low), one, NOW);
    ask(&mut line, entrant(2, "a", Priority::Critical), one, NOW.plus_ms(1_000));
    let mut next = |now: Timestamp| {
        line.release(held);
        let (context, permit) = granted(&mut line, one, now).remove(0);
        held = permit;
        ask(&mut line, entrant(now.0, "a", Priority::Critical), one, now);
        context
    };
    assert_eq!(next(NOW.plus_ms(1_001)), context(2));
    assert_eq!(next(NOW.plus_ms(10_000)), context(NOW.0 + 1_001));
    assert_eq!(next(NOW.plus_ms(19_000)), context(NOW.0 + 10_000));
    assert_eq!(next(NOW.plus_ms(20_000)), context(1), "it waited 20 s, the other one");
}

#[test]
fn a_principal_that_floods_does_not_keep_others_out() {
    let many = Limits { max_concurrency: 2, max_queue: 100 };
    let mut line = line();
    for number in 0..20 {
        ask(&mut line, entrant(number, "flood", Priority::Normal), many, NOW);
    }
    ask(&mut line, entrant(50, "other", Priority::Normal), many, NOW.plus_ms(1));
    ask(&mut line, entrant(51, "third", Priority::Normal), many, NOW.plus_ms(2));
    let first = line.permits.keys().next().copied().unwrap();
    line.release(first);
    let (next, second) = granted(&mut line, many, NOW.plus_ms(3)).remove(0);
    assert_eq!(next, context(50));
    line.release(second);
    assert_eq!(granted(&mut line, many, NOW.plus_ms(4)).remove(0).0, context(51));
}

#[test]
fn the_line_is_bounded_by_priority_and_who_was_admitted_is_not_turned_away() {
    let mut line = line();
    for number in 0..2 {
        permit(ask(&mut line, entrant(number, "a", Priority::Normal), LIMITS, NOW));
    }
    let mut number = 10;
    let mut fill = |priority| {
        let mut places = 0;
        loop {
            number += 1;
            match ask(&mut line, entrant(number, "a", priority), LIMITS, NOW) {
                Entry::Waiting => places += 1,
                Entry::Full { retry_after_ms } => {
                    assert!((1_000..=60_000).contains(&retry_after_ms), "{retry_after_ms}");
                    return places;
                }
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!([Priority::Low, Priority::Normal, Priority::High, Priority::Critical].map(&mut fill), [2, 2, 1, 1]);
    let admitted = Entrant { admitted: true, ..entrant(90, "a", Priority::Low) };
    assert_eq!(ask(&mut line, admitted, LIMITS, NOW), Entry::Waiting);
    assert_eq!(ask(&mut line, entrant(11, "a", Priority::Low), LIMITS, NOW), Entry::Waiting, "it has a place");
    for (priority, expected) in
        [(Priority::Low, 3), (Priority::Normal, 5), (Priority::High, 6), (Priority::Critical, 7)]
    {
        assert_eq!((bound(priority, 0), bound(priority, 5)), (0, expected), "{priority:?}");
    }
}

#[test]
fn a_permit_nobody_keeps_alive_comes_back_and_one_kept_alive_stays() {
    let one = Limits { max_concurrency: 1, ..LIMITS };
    let mut line = line();
    let held = permit(ask(&mut line, entrant(0, "a", Priority::Normal), one, NOW));
    ask(&mut line, entrant(1, "b", Priority::Normal), one, NOW);
    line.renew(held, "a", NOW.plus_ms(4_000 + PERMIT_MS));
    line.expire(NOW.plus_ms(PERMIT_MS));
    assert_eq!(granted(&mut line, one, NOW.plus_ms(PERMIT_MS)), []);
    let ends = NOW.plus_ms(4_000 + PERMIT_MS);
    assert_eq!(line.next_change(NOW), Some(ends));
    line.expire(ends);
    assert_eq!(granted(&mut line, one, ends).len(), 1);
    assert!(!line.release(held), "it is not out any more");
    assert_eq!(line.in_flight(), 1);
}

#[test]
fn who_asks_twice_has_one_place_and_permits_of_its_own() {
    let one = Limits { max_concurrency: 1, ..LIMITS };
    let mut line = line();
    let held = permit(ask(&mut line, entrant(0, "a", Priority::Normal), one, NOW));
    for _ in 0..3 {
        assert_eq!(ask(&mut line, entrant(1, "a", Priority::Normal), one, NOW), Entry::Waiting);
    }
    assert_eq!((line.in_flight(), line.waiting()), (1, 1));
    line.release(held);
    line.renew(held, "a", NOW.plus_ms(PERMIT_MS));
    assert_eq!(line.in_flight(), 0, "a late renewal brings nothing to life");
    // Two workers with one context: what the one gives back, the other keeps.
    let two = Limits { max_concurrency: 2, ..LIMITS };
    let mut line = self::line();
    let first = permit(ask(&mut line, entrant(0, "a", Priority::Normal), two, NOW));
    let second = permit(ask(&mut line, entrant(0, "a", Priority::Normal), two, NOW));
    assert!(first != second && line.release(second));
    assert_eq!(line.in_flight(), 1);
}

#[test]
fn a_permit_that_has_ended_keeps_nobody_waiting() {
    let one = Limits { max_concurrency: 1, ..LIMITS };
    let mut line = line();
    permit(ask(&mut line, entrant(0, "a", Priority::Normal), one, NOW));
    permit(ask(&mut line, entrant(1, "a", Priority::Normal), one, NOW.plus_ms(PERMIT_MS)));
}

#[test]
fn only_who_is_present_is_given_a_permit_and_finds_the_place_again() {
    let one = Limits { max_concurrency: 1, ..LIMITS };
    let mut line = line();
    let held = permit(ask(&mut line, entrant(0, "a", Priority::Normal), one, NOW));
    ask(&mut line, entrant(1, "a", Priority::Normal), one, NOW);
    ask(&mut line, entrant(2, "a", Priority::Normal), one, NOW.plus_ms(1));
    line.set_present(&context(1), false);
    line.release(held);
    let turn = granted(&mut line, one, NOW.plus_ms(2)).remove(0);
    assert_eq!(turn.0, context(2));
    ask(&mut line, entrant(3, "a", Priority::Normal), one, NOW.plus_ms(3));
    line.set_present(&context(1), true);
    line.release(turn.1);
    assert_eq!(granted(&mut line, one, NOW.plus_ms(4)).remove(0).0, context(1));
}

#[test]
fn who_has_less_time_left_than_a_call_takes_is_not_started() {
    let one = Limits { max_concurrency: 1, ..LIMITS };
    let mut line = line();
    let hasty = |number, ms| Entrant { deadline: NOW.plus_ms(ms), ..entrant(number, "a", Priority::Normal) };
    let held = permit(ask(&mut line, hasty(0, 1), one, NOW));
    line.release(held);
    for _ in 0..5 {
        line.took(2_000, NOW);
    }
    assert_eq!(ask(&mut line, hasty(1, 1_999), one, NOW), Entry::TooLate);
    let held = permit(ask(&mut line, hasty(2, 2_000), one, NOW));
    ask(&mut line, hasty(3, 3_000), one, NOW);
    line.release(held);
    assert_eq!(line.turns(one, NOW.plus_ms(1_001)), [Turn::TooLate { context: context(3) }]);
    assert_eq!(line.waiting(), 0);
    // Nobody was started for a minute: what calls took then says nothing any more.
    let late = NOW.plus_ms(TRUST_MS);
    let again = Entrant { deadline: late.plus_ms(1), ..entrant(4, "a", Priority::Normal) };
    permit(ask(&mut line, again, one, late));
}

#[test]
fn whose_time_is_over_is_told_and_has_no_place_any_more() {
    let one = Limits { max_concurrency: 1, ..LIMITS };
    let mut line = line();
    permit(ask(&mut line, entrant(0, "a", Priority::Normal), one, NOW));
    for number in [1, 2] {
        ask(&mut line, Entrant { deadline: NOW.plus_ms(5), ..entrant(number, "a", Priority::Normal) }, one, NOW);
    }
    line.set_present(&context(2), false);
    assert_eq!(line.expire(NOW.plus_ms(4)), []);
    assert_eq!(line.expire(NOW.plus_ms(5)), [context(1)]);
    assert_eq!((line.waiting(), line.in_flight()), (0, 1));
}

#[test]
fn after_a_restart_no_permit_is_given_until_the_old_ones_are_known_or_have_ended() {
    let mut line = Line::new(1_000, NOW.plus_ms(PERMIT_MS), Timing::DEFAULT);
    assert_eq!(ask(&mut line, entrant(0, "a", Priority::Normal), LIMITS, NOW), Entry::Waiting);
    line.renew(7, "a", NOW.plus_ms(12_000));
    line.renew(8, "b", NOW.plus_ms(12_000));
    line.renew(9, "b", NOW.plus_ms(12_000));
    assert_eq!(line.in_flight(), 3, "what runs is counted, even beyond the limit");
    let open = NOW.plus_ms(PERMIT_MS);
    assert_eq!(granted(&mut line, LIMITS, open), []);
    line.release(7);
    assert_eq!(granted(&mut line, LIMITS, open), []);
    line.release(8);
    let turn = granted(&mut line, LIMITS, open);
    assert!(turn.len() == 1 && turn[0].1 > 1_000, "{turn:?}");
}

#[derive(Debug, Clone)]
enum Step {
    Ask { context: u64, principal: u8, priority: u8, admitted: bool },
    Absent { context: u64 },
    Leave { context: u64 },
    Renew { nth: usize },
    Release { nth: usize },
    Pass { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..40, 0u8..4, 0u8..4, any::<bool>())
            .prop_map(|(context, principal, priority, admitted)| Step::Ask { context, principal, priority, admitted }),
        1 => (0u64..40).prop_map(|context| Step::Absent { context }),
        1 => (0u64..40).prop_map(|context| Step::Leave { context }),
        2 => any::<usize>().prop_map(|nth| Step::Renew { nth }),
        3 => any::<usize>().prop_map(|nth| Step::Release { nth }),
        2 => (0u64..6_000).prop_map(|ms| Step::Pass { ms }),
    ]
}

const PRIORITIES: [Priority; 4] = [Priority::Low, Priority::Normal, Priority::High, Priority::Critical];

proptest! {
    #[test]
    fn never_more_permits_than_the_limit_and_the_bound_holds(
        steps in prop::collection::vec(step(), 1..200), max_concurrency in 1u64..5, max_queue in 0u64..8,
    ) {
        let limits = Limits { max_concurrency, max_queue };
        let mut line = line();
        let mut now = NOW;
        let mut out: Vec<(u64, ContextId)> = Vec::new();
        for step in steps {
            match step {
                Step::Ask { context: number, principal, priority, admitted } => {
                    let priority = PRIORITIES[priority as usize];
                    let who = Entrant { admitted, ..entrant(number, &principal.to_string(), priority) };
                    let (id, before) = (who.context.clone(), line.waiting());
                    match ask(&mut line, who, limits, now) {
                        Entry::Granted(permit) => {
                            if !out.iter().any(|(known, _)| *known == permit) {
                                out.push((permit, id));
                            }
                        }
                        Entry::Full { .. } => {
                            prop_assert!(!admitted && before >= bound(priority, max_queue));
                        }
                        Entry::Waiting => {
                            prop_assert!(admitted || line.waiting() == before || before < bound(priority, max_queue));
                        }
                        Entry::TooLate => prop_assert!(false, "there is time"),
                    }
                }
                Step::Absent { context: number } => line.set_present(&context(number), false),
                Step::Leave { context: number } => line.leave(&context(number)),
                Step::Renew { nth } if !out.is_empty() => {
                    let (permit, _) = out[nth % out.len()];
                    line.renew(permit, &line.permits[&permit].principal.clone(), now.plus_ms(PERMIT_MS));
                }
                Step::Release { nth } if !out.is_empty() => {
                    let (permit, _) = out.remove(nth % out.len());
                    prop_assert!(line.release(permit));
                }
                Step::Renew { .. } | Step::Release { .. } => {}
                Step::Pass { ms } => now = now.plus_ms(ms),
            }
            line.expire(now);
            out.retain(|(permit, _)| line.permits.contains_key(permit));
            out.extend(granted(&mut line, limits, now).into_iter().map(|(context, permit)| (permit, context)));
            prop_assert_eq!(out.len() as u64, line.in_flight());
            prop_assert!(line.in_flight() <= max_concurrency);
            // Nobody who is present waits while there is room.
            prop_assert!(line.in_flight() == max_concurrency || line.present.is_empty());
            let held: u64 = line.held_by.values().sum();
            prop_assert_eq!(held, line.in_flight());
            prop_assert_eq!(line.places.len(), line.place_of.len());
        }
    }

    #[test]
    fn nobody_starves_however_many_come_with_a_higher_priority(
        priorities in prop::collection::vec((0usize..4, 0u8..3), 50..150), each in 100u64..2_000,
    ) {
        // One permit; calls take `each`; one more comes each time, so the line never gets shorter.
        let limits = Limits { max_concurrency: 1, max_queue: 1_000 };
        let mut line = line();
        let mut now = NOW;
        let mut held = permit(ask(&mut line, entrant(0, "a", Priority::Normal), limits, now));
        let first = Entrant { deadline: Timestamp(u64::MAX), ..entrant(1, "low", Priority::Low) };
        ask(&mut line, first, limits, now);
        let mut waited = None;
        for (nth, (priority, principal)) in priorities.into_iter().enumerate() {
            now = now.plus_ms(each);
            let who = entrant(100 + nth as u64, &principal.to_string(), PRIORITIES[priority]);
            ask(&mut line, who, limits, now);
            line.release(held);
            let (next, permit) = granted(&mut line, limits, now).remove(0);
            held = permit;
            if next == context(1) {
                waited = Some(now.since(NOW));
                break;
            }
        }
        // Whoever came 20 s later is behind; those before it are at most as many as came until then.
        if let Some(waited) = waited {
            prop_assert!(waited <= 4 * AGEING_MS + each);
        } else {
            prop_assert!(now.since(NOW) <= 4 * AGEING_MS + each);
        }
    }
}
