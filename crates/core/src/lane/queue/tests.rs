use super::*;
use crate::base::id::{Region, StoreId};
use crate::base::principal_id::PrincipalId;
use proptest::prelude::*;

const PERMIT_MS: u64 = Timing::DEFAULT.permit_ms;
const AGEING_MS: u64 = Timing::DEFAULT.ageing_ms;
const NOW: Timestamp = Timestamp(1_800_000_000_000);
const LIMITS: QueueLimits = QueueLimits { max_concurrency: 2, max_queue: 4 };

fn context(number: u64) -> ContextId {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    ContextId::new(StoreId { region: Region::default(), shard: 0 }, NOW, bytes)
}

fn waiter(number: u64, principal: &str, priority: Priority) -> Waiter {
    let deadline = NOW.plus_ms(10 * 60_000);
    Waiter { context: context(number), principal: PrincipalId::of_key(principal), priority, deadline, admitted: false }
}

fn queue() -> WaitQueue {
    WaitQueue::new(PermitNumber::of(1), Timestamp(0), Timing::DEFAULT)
}

/// Requests a permit, and waits if queued.
fn ask(queue: &mut WaitQueue, waiter: Waiter, limits: QueueLimits, now: Timestamp) -> Acquisition {
    let context = waiter.context.clone();
    let entry = queue.acquire(waiter, limits, now, 0);
    queue.set_present(&context, true);
    entry
}

fn permit(entry: Acquisition) -> PermitNumber {
    match entry {
        Acquisition::Granted(permit) => permit,
        other => panic!("{other:?} is not a permit"),
    }
}

/// The contexts that are granted a permit now, with their permits.
fn granted(queue: &mut WaitQueue, limits: QueueLimits, now: Timestamp) -> Vec<(ContextId, PermitNumber)> {
    let grant_free = queue.grant_free(limits, now);
    grant_free
        .into_iter()
        .map(|turn| match turn {
            Departure::Granted { context, permit } => (context, permit),
            Departure::TooLate { context } => panic!("{context} came too late"),
        })
        .collect()
}

#[test]
fn critical_overtakes_and_low_that_waited_overtakes_critical() {
    let one = QueueLimits { max_concurrency: 1, ..LIMITS };
    let mut queue = queue();
    let mut held = permit(ask(&mut queue, waiter(0, "a", Priority::Normal), one, NOW));
    ask(&mut queue, waiter(1, "a", Priority::Low), one, NOW);
    ask(&mut queue, waiter(2, "a", Priority::Critical), one, NOW.plus_ms(1_000));
    let mut next = |now: Timestamp| {
        queue.release(held);
        let (context, permit) = granted(&mut queue, one, now).remove(0);
        held = permit;
        ask(&mut queue, waiter(now.0, "a", Priority::Critical), one, now);
        context
    };
    assert_eq!(next(NOW.plus_ms(1_001)), context(2));
    assert_eq!(next(NOW.plus_ms(10_000)), context(NOW.0 + 1_001));
    assert_eq!(next(NOW.plus_ms(19_000)), context(NOW.0 + 10_000));
    assert_eq!(next(NOW.plus_ms(20_000)), context(1), "it has waited 20 s, the other one");
}

#[test]
fn a_principal_that_floods_does_not_keep_others_out() {
    let many = QueueLimits { max_concurrency: 2, max_queue: 100 };
    let mut queue = queue();
    for number in 0..20 {
        ask(&mut queue, waiter(number, "flood", Priority::Normal), many, NOW);
    }
    ask(&mut queue, waiter(50, "other", Priority::Normal), many, NOW.plus_ms(1));
    ask(&mut queue, waiter(51, "third", Priority::Normal), many, NOW.plus_ms(2));
    let first = queue.permits.keys().next().copied().unwrap();
    queue.release(first);
    let (next, second) = granted(&mut queue, many, NOW.plus_ms(3)).remove(0);
    assert_eq!(next, context(50));
    queue.release(second);
    assert_eq!(granted(&mut queue, many, NOW.plus_ms(4)).remove(0).0, context(51));
}

#[test]
fn the_queue_is_bounded_by_priority_and_admitted_contexts_are_not_rejected() {
    let mut queue = queue();
    for number in 0..2 {
        permit(ask(&mut queue, waiter(number, "a", Priority::Normal), LIMITS, NOW));
    }
    let mut number = 10;
    let mut fill = |priority| {
        let mut entries = 0;
        loop {
            number += 1;
            match ask(&mut queue, waiter(number, "a", priority), LIMITS, NOW) {
                Acquisition::Waiting => entries += 1,
                Acquisition::Full { retry_after_ms } => {
                    assert!((1_000..=60_000).contains(&retry_after_ms), "{retry_after_ms}");
                    return entries;
                }
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!([Priority::Low, Priority::Normal, Priority::High, Priority::Critical].map(&mut fill), [2, 2, 1, 1]);
    let admitted = Waiter { admitted: true, ..waiter(90, "a", Priority::Low) };
    assert_eq!(ask(&mut queue, admitted, LIMITS, NOW), Acquisition::Waiting);
    assert_eq!(
        ask(&mut queue, waiter(11, "a", Priority::Low), LIMITS, NOW),
        Acquisition::Waiting,
        "it is queued already"
    );
    for (priority, expected) in
        [(Priority::Low, 3), (Priority::Normal, 5), (Priority::High, 6), (Priority::Critical, 7)]
    {
        assert_eq!((capacity_for(priority, 0), capacity_for(priority, 5)), (0, expected), "{priority:?}");
    }
}

#[test]
fn an_expired_permit_is_free_again_and_a_renewed_one_is_not() {
    let one = QueueLimits { max_concurrency: 1, ..LIMITS };
    let mut queue = queue();
    let held = permit(ask(&mut queue, waiter(0, "a", Priority::Normal), one, NOW));
    ask(&mut queue, waiter(1, "b", Priority::Normal), one, NOW);
    queue.renew(held, &PrincipalId::of_key("a"), NOW.plus_ms(4_000 + PERMIT_MS));
    queue.expire(NOW.plus_ms(PERMIT_MS));
    assert_eq!(granted(&mut queue, one, NOW.plus_ms(PERMIT_MS)), []);
    let ends = NOW.plus_ms(4_000 + PERMIT_MS);
    assert_eq!(queue.next_change(NOW), Some(ends));
    queue.expire(ends);
    assert_eq!(granted(&mut queue, one, ends).len(), 1);
    assert!(!queue.release(held), "it is no longer in use");
    assert_eq!(queue.in_flight(), 1);
}

#[test]
fn a_context_that_asks_twice_has_one_entry_and_two_permits() {
    let one = QueueLimits { max_concurrency: 1, ..LIMITS };
    let mut queue = queue();
    let held = permit(ask(&mut queue, waiter(0, "a", Priority::Normal), one, NOW));
    for _ in 0..3 {
        assert_eq!(ask(&mut queue, waiter(1, "a", Priority::Normal), one, NOW), Acquisition::Waiting);
    }
    assert_eq!((queue.in_flight(), queue.waiting()), (1, 1));
    queue.release(held);
    queue.renew(held, &PrincipalId::of_key("a"), NOW.plus_ms(PERMIT_MS));
    assert_eq!(queue.in_flight(), 0, "a late renewal revives nothing");
    // Two Workers with one context: one returns its permit, the other keeps its own.
    let two = QueueLimits { max_concurrency: 2, ..LIMITS };
    let mut queue = self::queue();
    let first = permit(ask(&mut queue, waiter(0, "a", Priority::Normal), two, NOW));
    let second = permit(ask(&mut queue, waiter(0, "a", Priority::Normal), two, NOW));
    assert!(first != second && queue.release(second));
    assert_eq!(queue.in_flight(), 1);
}

#[test]
fn an_expired_permit_does_not_block_others() {
    let one = QueueLimits { max_concurrency: 1, ..LIMITS };
    let mut queue = queue();
    permit(ask(&mut queue, waiter(0, "a", Priority::Normal), one, NOW));
    permit(ask(&mut queue, waiter(1, "a", Priority::Normal), one, NOW.plus_ms(PERMIT_MS)));
}

#[test]
fn only_present_contexts_are_granted_permits_and_absent_ones_keep_their_entry() {
    let one = QueueLimits { max_concurrency: 1, ..LIMITS };
    let mut queue = queue();
    let held = permit(ask(&mut queue, waiter(0, "a", Priority::Normal), one, NOW));
    ask(&mut queue, waiter(1, "a", Priority::Normal), one, NOW);
    ask(&mut queue, waiter(2, "a", Priority::Normal), one, NOW.plus_ms(1));
    queue.set_present(&context(1), false);
    queue.release(held);
    let turn = granted(&mut queue, one, NOW.plus_ms(2)).remove(0);
    assert_eq!(turn.0, context(2));
    ask(&mut queue, waiter(3, "a", Priority::Normal), one, NOW.plus_ms(3));
    queue.set_present(&context(1), true);
    queue.release(turn.1);
    assert_eq!(granted(&mut queue, one, NOW.plus_ms(4)).remove(0).0, context(1));
}

#[test]
fn a_context_with_less_time_than_a_call_takes_is_not_started() {
    let one = QueueLimits { max_concurrency: 1, ..LIMITS };
    let mut queue = queue();
    let hasty = |number, ms| Waiter { deadline: NOW.plus_ms(ms), ..waiter(number, "a", Priority::Normal) };
    let held = permit(ask(&mut queue, hasty(0, 1), one, NOW));
    queue.release(held);
    for _ in 0..5 {
        queue.record_latency(2_000, NOW);
    }
    assert_eq!(ask(&mut queue, hasty(1, 1_999), one, NOW), Acquisition::TooLate);
    let held = permit(ask(&mut queue, hasty(2, 2_000), one, NOW));
    ask(&mut queue, hasty(3, 3_000), one, NOW);
    queue.release(held);
    assert_eq!(queue.grant_free(one, NOW.plus_ms(1_001)), [Departure::TooLate { context: context(3) }]);
    assert_eq!(queue.waiting(), 0);
    // No call for a minute: the median is stale.
    let late = NOW.plus_ms(MEDIAN_VALID_MS);
    let again = Waiter { deadline: late.plus_ms(1), ..waiter(4, "a", Priority::Normal) };
    permit(ask(&mut queue, again, one, late));
}

#[test]
fn expired_contexts_are_notified_and_leave_the_queue() {
    let one = QueueLimits { max_concurrency: 1, ..LIMITS };
    let mut queue = queue();
    permit(ask(&mut queue, waiter(0, "a", Priority::Normal), one, NOW));
    for number in [1, 2] {
        ask(&mut queue, Waiter { deadline: NOW.plus_ms(5), ..waiter(number, "a", Priority::Normal) }, one, NOW);
    }
    queue.set_present(&context(2), false);
    assert_eq!(queue.expire(NOW.plus_ms(4)), []);
    assert_eq!(queue.expire(NOW.plus_ms(5)), [context(1)]);
    assert_eq!((queue.waiting(), queue.in_flight()), (0, 1));
}

#[test]
fn after_a_restart_no_permit_is_given_until_the_old_ones_are_known_or_have_ended() {
    let mut queue = WaitQueue::new(PermitNumber::of(1_000), NOW.plus_ms(PERMIT_MS), Timing::DEFAULT);
    assert_eq!(ask(&mut queue, waiter(0, "a", Priority::Normal), LIMITS, NOW), Acquisition::Waiting);
    queue.renew(PermitNumber::of(7), &PrincipalId::of_key("a"), NOW.plus_ms(12_000));
    queue.renew(PermitNumber::of(8), &PrincipalId::of_key("b"), NOW.plus_ms(12_000));
    queue.renew(PermitNumber::of(9), &PrincipalId::of_key("b"), NOW.plus_ms(12_000));
    assert_eq!(queue.in_flight(), 3, "running calls count, even beyond the limit");
    let open = NOW.plus_ms(PERMIT_MS);
    assert_eq!(granted(&mut queue, LIMITS, open), []);
    queue.release(PermitNumber::of(7));
    assert_eq!(granted(&mut queue, LIMITS, open), []);
    queue.release(PermitNumber::of(8));
    let turn = granted(&mut queue, LIMITS, open);
    assert!(turn.len() == 1 && turn[0].1 > PermitNumber::of(1_000), "{turn:?}");
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
        let limits = QueueLimits { max_concurrency, max_queue };
        let mut queue = queue();
        let mut now = NOW;
        let mut out: Vec<(PermitNumber, ContextId)> = Vec::new();
        for step in steps {
            match step {
                Step::Ask { context: number, principal, priority, admitted } => {
                    let priority = PRIORITIES[priority as usize];
                    let waiter = Waiter { admitted, ..waiter(number, &principal.to_string(), priority) };
                    let (id, before) = (waiter.context.clone(), queue.waiting());
                    match ask(&mut queue, waiter, limits, now) {
                        Acquisition::Granted(permit) => {
                            if !out.iter().any(|(known, _)| *known == permit) {
                                out.push((permit, id));
                            }
                        }
                        Acquisition::Full { .. } => {
                            prop_assert!(!admitted && before >= capacity_for(priority, max_queue));
                        }
                        Acquisition::Waiting => {
                            prop_assert!(admitted || queue.waiting() == before || before < capacity_for(priority, max_queue));
                        }
                        Acquisition::TooLate => prop_assert!(false, "there is time"),
                    }
                }
                Step::Absent { context: number } => queue.set_present(&context(number), false),
                Step::Leave { context: number } => queue.leave(&context(number)),
                Step::Renew { nth } if !out.is_empty() => {
                    let (permit, _) = out[nth % out.len()];
                    queue.renew(permit, &queue.permits[&permit].principal.clone(), now.plus_ms(PERMIT_MS));
                }
                Step::Release { nth } if !out.is_empty() => {
                    let (permit, _) = out.remove(nth % out.len());
                    prop_assert!(queue.release(permit));
                }
                Step::Renew { .. } | Step::Release { .. } => {}
                Step::Pass { ms } => now = now.plus_ms(ms),
            }
            queue.expire(now);
            out.retain(|(permit, _)| queue.permits.contains_key(permit));
            out.extend(granted(&mut queue, limits, now).into_iter().map(|(context, permit)| (permit, context)));
            prop_assert_eq!(out.len() as u64, queue.in_flight());
            prop_assert!(queue.in_flight() <= max_concurrency);
            // No present context waits while there is room.
            prop_assert!(queue.in_flight() == max_concurrency || queue.present.is_empty());
            let held: u64 = queue.permits_of.values().sum();
            prop_assert_eq!(held, queue.in_flight());
            prop_assert_eq!(queue.entries.len(), queue.entry_of.len());
        }
    }

    #[test]
    fn low_priority_does_not_starve(
        priorities in prop::collection::vec((0usize..4, 0u8..3), 50..150), each in 100u64..2_000,
    ) {
        // One permit; calls take `each`; one more context comes each time, so the queue never gets shorter.
        let limits = QueueLimits { max_concurrency: 1, max_queue: 1_000 };
        let mut queue = queue();
        let mut now = NOW;
        let mut held = permit(ask(&mut queue, waiter(0, "a", Priority::Normal), limits, now));
        let first = Waiter { deadline: Timestamp(u64::MAX), ..waiter(1, "low", Priority::Low) };
        ask(&mut queue, first, limits, now);
        let mut waited = None;
        for (nth, (priority, principal)) in priorities.into_iter().enumerate() {
            now = now.plus_ms(each);
            let waiter = waiter(100 + nth as u64, &principal.to_string(), PRIORITIES[priority]);
            ask(&mut queue, waiter, limits, now);
            queue.release(held);
            let (next, permit) = granted(&mut queue, limits, now).remove(0);
            held = permit;
            if next == context(1) {
                waited = Some(now.since(NOW));
                break;
            }
        }
        // Contexts that came 20 s later are behind; at most as many as came until then are ahead.
        if let Some(waited) = waited {
            prop_assert!(waited <= 4 * AGEING_MS + each);
        } else {
            prop_assert!(now.since(NOW) <= 4 * AGEING_MS + each);
        }
    }
}
