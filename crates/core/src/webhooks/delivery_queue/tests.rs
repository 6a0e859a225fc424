use proptest::prelude::*;

use super::*;
use crate::base::timing::Timing;
use crate::context::status::Status;
use crate::events::bundle::{EventKind, Item};
use crate::webhooks::delivery::DeliveryError;

const NOTIFY_AGAIN_MS: u64 = Timing::DEFAULT.batch_wakeup_retry_ms;

fn queue() -> DeliveryQueue {
    let mut queue = DeliveryQueue::new(PAUSES_MS.to_vec(), NOTIFY_AGAIN_MS);
    assert!(queue.configure("hook", Generation::from_number(1), Filter::default(), true, None));
    queue
}

fn attempt(at: u64, status_code: u16) -> DeliveryAttempt {
    DeliveryAttempt {
        at: Timestamp(at),
        status_code: Some(status_code),
        error: None,
        duration_ms: 1,
        retry_after_ms: None,
    }
}

fn claim(number: u64, attempt: usize) -> Claim {
    Claim { webhook: "hook".into(), number, attempt }
}

fn add(queue: &mut DeliveryQueue, number: u64, at: u64) {
    queue.add("hook", number, PendingDelivery::new(0, None, Timestamp(at)));
}

#[test]
fn an_event_is_tried_for_24_hours_and_then_the_webhook_is_disabled() {
    let mut queue = queue();
    add(&mut queue, 1, 0);
    let mut now = Timestamp(0);
    for (at, pause) in PAUSES_MS.iter().enumerate() {
        assert!(queue.take_notification(now));
        assert_eq!(queue.claim(8, now), [claim(1, at + 1)]);
        assert_eq!(queue.next_wakeup(now), Some(now.plus_ms(LEASE_MS)));
        let report = queue.report("hook", 1, &attempt(now.0, 500), now, 0);
        assert_eq!(report.disposition, Disposition::Retry { due: now.plus_ms(*pause), first_at: Timestamp(0) });
        assert_eq!((report.hook_changed, report.disables), (at == 0, None));
        assert!(!queue.take_notification(now.plus_ms(pause - 1)));
        assert_eq!(queue.next_wakeup(now), Some(now.plus_ms(*pause)));
        now = now.plus_ms(*pause);
    }
    assert_eq!(now.0, 24 * 3_600_000);
    queue.claim(8, now);
    let report = queue.report("hook", 1, &attempt(now.0, 500), now, 0);
    assert_eq!((report.disposition, report.disables), (Disposition::GivenUp, Some(DisableReason::Failing)));
}

#[test]
fn giving_up_disables_nothing_while_others_are_delivered() {
    let mut queue = queue();
    for number in 1..=2 {
        add(&mut queue, number, 0);
    }
    for at in 0..PAUSES_MS.len() as u64 {
        queue.report("hook", 1, &attempt(at, 500), Timestamp(at), 0);
    }
    assert_eq!(queue.report("hook", 2, &attempt(50, 204), Timestamp(50), 0).disposition, Disposition::Delivered);
    let last = queue.report("hook", 1, &attempt(100, 500), Timestamp(100), 0);
    assert_eq!((last.disposition, last.disables), (Disposition::GivenUp, None));
    assert_eq!(queue.hook("hook").unwrap().failing_since, Some(Timestamp(100)));
}

#[test]
fn an_address_that_is_gone_is_given_up_at_once() {
    let mut queue = queue();
    add(&mut queue, 1, 0);
    let report = queue.report("hook", 1, &attempt(5, 410), Timestamp(5), 0);
    assert_eq!((report.disposition, report.disables), (Disposition::GivenUp, Some(DisableReason::Gone)));
    add(&mut queue, 2, 5);
    queue.disable("hook", Timestamp(5), DisableReason::Gone);
    assert!(queue.claim(8, Timestamp(9)).is_empty());
    assert!(!queue.take_notification(Timestamp(9)) && queue.next_wakeup(Timestamp(9)).is_none());
    assert_eq!(queue.give_up("hook"), [2]);
    assert!(
        !queue.configure("hook", Generation::from_number(1), Filter::default(), true, None),
        "the same version changes nothing"
    );
    assert!(queue.configure("hook", Generation::from_number(2), Filter::default(), true, None));
    assert!(queue.hook("hook").unwrap().is_live(), "a new version resets the state");
}

#[test]
fn a_slow_webhook_leaves_room_for_others() {
    let mut queue = queue();
    queue.configure("other", Generation::from_number(1), Filter::default(), true, None);
    for number in 0..100 {
        add(&mut queue, number, 0);
    }
    assert!(queue.take_notification(Timestamp(0)));
    assert_eq!(queue.claim(32, Timestamp(0)).len(), MAX_CONCURRENT_DELIVERIES);
    assert!(queue.claim(32, Timestamp(1)).is_empty());
    queue.add("other", 100, PendingDelivery::new(0, None, Timestamp(2)));
    assert!(queue.take_notification(Timestamp(2)), "another Worker may take it");
    assert_eq!(queue.claim(32, Timestamp(3))[0].webhook, "other");
    queue.report("hook", 0, &attempt(4, 200), Timestamp(4), 0);
    assert_eq!(queue.claim(32, Timestamp(5)), [claim(8, 1)]);
}

#[test]
fn retry_after_makes_a_pause_longer_and_never_shorter() {
    for (retry_after_ms, pause) in [(Some(60_000), 60_000), (Some(1), 5_000), (None, 5_000)] {
        let mut queue = queue();
        add(&mut queue, 1, 0);
        let report = queue.report("hook", 1, &DeliveryAttempt { retry_after_ms, ..attempt(0, 429) }, Timestamp(0), 0);
        assert_eq!(report.disposition, Disposition::Retry { due: Timestamp(pause), first_at: Timestamp(0) });
    }
}

#[test]
fn a_worker_is_notified_again_unless_it_has_claims() {
    let mut queue = queue();
    add(&mut queue, 1, 0);
    assert!(queue.take_notification(Timestamp(0)));
    assert!(!queue.take_notification(Timestamp(NOTIFY_AGAIN_MS - 1)));
    assert_eq!(queue.next_wakeup(Timestamp(5)), Some(Timestamp(NOTIFY_AGAIN_MS)));
    assert!(queue.take_notification(Timestamp(NOTIFY_AGAIN_MS)));
    let now = Timestamp(NOTIFY_AGAIN_MS + 1);
    assert_eq!(queue.claim(1, now).len(), 1);
    add(&mut queue, 2, now.0);
    assert!(!queue.take_notification(now), "the Worker that holds a claim takes the next delivery too");
    assert!(queue.take_notification(now.plus_ms(LEASE_MS)), "a claim that was lost ends");
    assert_eq!(queue.claim(8, now.plus_ms(LEASE_MS)), [claim(1, 1), claim(2, 1)]);
}

#[test]
fn live_webhooks_with_a_matching_filter_receive_events() {
    let mut queue = queue();
    let filter = Filter { types: vec!["service.*".into()], ..Filter::default() };
    queue.configure("services", Generation::from_number(1), filter, true, None);
    queue.configure("paused", Generation::from_number(1), Filter::default(), false, None);
    let item = Item { number: 1, at: Timestamp(0), kind: EventKind::Status(Status::Queued) };
    let bundle = Bundle {
        subject: "ctx_1".into(),
        owner: None,
        owner_name: None,
        replay_of: None,
        capability: None,
        service: None,
        trace: None,
        role: None,
        model: None,
        previous_number: None,
        items: Vec::new(),
    };
    assert_eq!(queue.subscribers(&bundle, &item).collect::<Vec<_>>(), ["hook"]);
    queue.remove("hook");
    queue.remove("services");
    assert!(queue.is_idle());
}

fn no_response(at: u64) -> DeliveryAttempt {
    let error = Some(DeliveryError::Unreachable);
    DeliveryAttempt { at: Timestamp(at), status_code: None, error, duration_ms: 1, retry_after_ms: None }
}

#[test]
fn while_unreachable_one_delivery_probes_for_all() {
    let mut queue = queue();
    (1..=20).for_each(|number| add(&mut queue, number, 0));
    let mut now = Timestamp(0);
    assert_eq!(queue.claim(32, now).len(), MAX_CONCURRENT_DELIVERIES);
    for number in 1..=8 {
        let report = queue.report("hook", number, &no_response(now.0), now, 0);
        assert_eq!(report.disposition, Disposition::Retry { due: Timestamp(5_000), first_at: now });
        assert_eq!(report.hook_changed, number == 1, "what was under way says nothing new");
    }
    for pause in [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 640_000, 900_000, 900_000] {
        assert!(!queue.take_notification(now.plus_ms(pause - 1)) && queue.claim(32, now.plus_ms(pause - 1)).is_empty());
        assert_eq!(queue.next_wakeup(now), Some(now.plus_ms(pause)));
        now = now.plus_ms(pause);
        assert!(queue.take_notification(now));
        assert_eq!(queue.claim(32, now).iter().map(|claim| claim.number).collect::<Vec<_>>(), [1]);
        assert!(queue.claim(32, now).is_empty());
        assert_eq!(queue.next_wakeup(now), Some(now.plus_ms(LEASE_MS)), "nothing else is due until then");
        queue.report("hook", 1, &no_response(now.0), now, 0);
    }
    now = now.plus_ms(900_000);
    assert_eq!(queue.claim(32, now).len(), 1);
    assert_eq!(queue.report("hook", 1, &attempt(now.0, 204), now, 0).disposition, Disposition::Delivered);
    let numbers: Vec<u64> = queue.claim(32, now).iter().map(|claim| claim.number).collect();
    assert_eq!(numbers, (2..=9).collect::<Vec<_>>(), "the others follow at once, in order");
    assert_eq!(queue.hook("hook").unwrap().failing_since, None);
}

#[test]
fn only_rejections_use_up_a_deliverys_attempts() {
    let mut queue = queue();
    add(&mut queue, 1, 0);
    let mut now = Timestamp(0);
    for _ in 0..12 {
        queue.claim(8, now);
        let Disposition::Retry { due, .. } = queue.report("hook", 1, &no_response(now.0), now, 0).disposition else {
            panic!("it is not given up");
        };
        now = due;
    }
    queue.claim(8, now);
    let report = queue.report("hook", 1, &attempt(now.0, 500), now, 0);
    assert_eq!(report.disposition, Disposition::Retry { due: now.plus_ms(PAUSES_MS[0]), first_at: Timestamp(0) });
    assert_eq!((report.hook_changed, queue.hook("hook").unwrap().cool_down), (true, None));
}

#[test]
fn nothing_is_lost_while_unreachable_for_24_hours() {
    let mut queue = queue();
    add(&mut queue, 1, 0);
    let mut now = Timestamp(0);
    loop {
        if now.0 < 24 * 3_600_000 {
            add(&mut queue, now.0 + 2, now.0);
        }
        let before = queue.count("hook");
        let claimed = queue.claim(8, now);
        assert_eq!(claimed.first().map(|claim| claim.number), Some(1), "at {}", now.0);
        let mut last = None;
        for Claim { number, .. } in claimed {
            last = Some(queue.report("hook", number, &no_response(now.0), now, 7));
        }
        match last.unwrap() {
            ReportEffect { disposition: Disposition::Retry { due, .. }, disables: None, .. } => {
                assert_eq!(queue.count("hook"), before);
                now = due;
            }
            report => {
                assert_eq!((report.disposition, report.disables), (Disposition::GivenUp, Some(DisableReason::Failing)));
                break;
            }
        }
    }
    assert_eq!(now.0, 24 * 3_600_000);
}

proptest! {
    /// Whatever the order of responses, time-outs and restarts: waiting deliveries are claimed sooner or later.
    #[test]
    fn a_webhook_that_rests_is_woken_again(
        steps in prop::collection::vec((0u8..4, 0u64..2_000_000), 1..100)
    ) {
        let mut queue = queue();
        (0..12).for_each(|number| add(&mut queue, number, 0));
        let mut now = Timestamp(0);
        for (step, random) in steps {
            let Some(wakes) = queue.next_wakeup(now) else { break };
            now = now.max(wakes);
            for Claim { number, .. } in queue.claim(8, now) {
                let attempt = match step {
                    0 => attempt(now.0, 204),
                    1 => attempt(now.0, 500),
                    2 => no_response(now.0),
                    // Lost in transit.
                    _ => continue,
                };
                queue.report("hook", number, &attempt, now, random);
            }
            prop_assert_eq!(queue.next_wakeup(now).is_some(), queue.count("hook") > 0);
        }
        // Once the receivers respond, the rest is delivered.
        for _ in 0..100 {
            let Some(wakes) = queue.next_wakeup(now) else { break };
            now = now.max(wakes);
            for Claim { number, .. } in queue.claim(8, now) {
                queue.report("hook", number, &attempt(now.0, 204), now, 0);
            }
        }
        prop_assert_eq!(queue.count("hook"), 0);
    }

    /// Whatever is lost, late or repeated: a delivery waits until it was delivered or tried often enough.
    #[test]
    fn nothing_is_forgotten(steps in prop::collection::vec((0u8..6, 0u64..400_000, 0u64..6), 0..200)) {
        let mut queue = queue();
        let (mut now, mut next) = (Timestamp(0), 0);
        let mut open = std::collections::BTreeMap::new();
        for (step, later, number) in steps {
            now = now.plus_ms(later);
            match step {
                0 => {
                    add(&mut queue, next, now.0);
                    open.insert(next, 0usize);
                    next += 1;
                }
                1 => {
                    for claim in queue.claim(2, now) {
                        prop_assert_eq!(claim.attempt, open[&claim.number] + 1);
                    }
                }
                2 | 3 => {
                    let known = open.contains_key(&number);
                    let report = queue.report("hook", number, &attempt(now.0, 500), now, later);
                    prop_assert_eq!(report.disposition != Disposition::Unknown, known);
                    if let Some(tried) = open.get_mut(&number) {
                        *tried += 1;
                        if *tried > PAUSES_MS.len() {
                            prop_assert_eq!(&report.disposition, &Disposition::GivenUp);
                            open.remove(&number);
                        }
                    }
                }
                4 => {
                    let report = queue.report("hook", number, &attempt(now.0, 200), now, later);
                    prop_assert_eq!(report.disposition == Disposition::Delivered, open.remove(&number).is_some());
                }
                _ => {
                    queue.take_notification(now);
                }
            }
            prop_assert_eq!(queue.count("hook"), open.len());
            // While anything waits, a Worker is notified or the alarm is set.
            prop_assert_eq!(queue.next_wakeup(now).is_some(), !open.is_empty());
        }
    }
}

#[test]
fn a_webhook_rests_where_an_edge_answers_for_a_receiver_that_is_away() {
    for status in [502, 503, 504, 520, 521, 523, 525, 529, 530] {
        let mut queue = queue();
        add(&mut queue, 1, 0);
        queue.report("hook", 1, &attempt(0, status), Timestamp(0), 0);
        assert!(queue.hook("hook").unwrap().cool_down.is_some(), "{status}");
    }
    for status in [301, 404, 408, 429, 500, 501, 531] {
        let mut queue = queue();
        add(&mut queue, 1, 0);
        queue.report("hook", 1, &attempt(0, status), Timestamp(0), 0);
        assert!(queue.hook("hook").unwrap().cool_down.is_none(), "{status}");
    }
}

#[test]
fn a_receiver_may_ask_for_a_day_and_no_longer() {
    let mut queue = queue();
    add(&mut queue, 1, 0);
    let late = DeliveryAttempt { retry_after_ms: Some(u64::MAX), ..attempt(0, 429) };
    let report = queue.report("hook", 1, &late, Timestamp(0), 0);
    assert_eq!(report.disposition, Disposition::Retry { due: Timestamp(86_400_000), first_at: Timestamp(0) });
}

// The versions of the Worker before and after read this form too.
#[test]
fn the_generation_is_stored_as_version() {
    let queue = queue();
    let hook = queue.hook("hook").unwrap();
    let stored = serde_json::to_value(hook).unwrap();
    assert_eq!(stored["version"].as_u64(), Some(1));
    assert_eq!(serde_json::from_value::<WebhookState>(stored).unwrap(), *hook);
}

#[test]
fn the_deliveries_of_a_webhook_that_is_set_aside_wait_and_others_do_not() {
    let mut queue = queue();
    assert!(queue.configure("other", Generation::from_number(1), Filter::default(), true, None));
    add(&mut queue, 1, 0);
    queue.set_aside(["hook".to_string()]);
    let now = Timestamp(0);
    assert!(queue.is_set_aside("hook") && !queue.is_set_aside("other"));
    assert!(!queue.take_notification(now) && queue.claim(8, now).is_empty() && queue.next_wakeup(now).is_none());
    queue.add("other", 2, PendingDelivery::new(0, None, now));
    assert!(queue.take_notification(now));
    assert_eq!(queue.claim(8, now), [Claim { webhook: "other".into(), number: 2, attempt: 1 }]);
    // Its events are still queued.
    let bundle = Bundle {
        items: vec![Item { number: 1, at: now, kind: EventKind::Status(Status::Queued) }],
        ..Bundle::default()
    };
    assert_eq!(queue.subscribers(&bundle, &bundle.items[0]).collect::<Vec<_>>(), ["hook", "other"]);
    queue.set_aside([]);
    assert_eq!(queue.claim(8, now), [claim(1, 1)]);
}
