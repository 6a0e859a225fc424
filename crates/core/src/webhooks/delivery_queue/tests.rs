use proptest::prelude::*;

use super::*;
use crate::context::status::Status;
use crate::events::event::{Item, What};

fn courier() -> Courier {
    let mut courier = Courier::new(PAUSES_MS.to_vec());
    assert!(courier.configure("hook", 1, Filter::default(), true, None));
    courier
}

fn attempt(at: u64, status_code: u16) -> Attempt {
    Attempt { at: Timestamp(at), status_code: Some(status_code), error: None, duration_ms: 1, retry_after_ms: None }
}

fn claim(number: u64, attempt: usize) -> Claim {
    Claim { webhook: "hook".into(), number, attempt }
}

fn add(courier: &mut Courier, number: u64, at: u64) {
    courier.add("hook", number, Waiting::new(0, None, Timestamp(at)));
}

#[test]
fn an_event_is_tried_for_24_hours_and_then_the_webhook_is_disabled() {
    let mut courier = courier();
    add(&mut courier, 1, 0);
    let mut now = Timestamp(0);
    for (at, pause) in PAUSES_MS.iter().enumerate() {
        assert!(courier.to_ring(now));
        assert_eq!(courier.claim(8, now), [claim(1, at + 1)]);
        assert_eq!(courier.wakes_at(now), Some(now.plus_ms(LEASE_MS)));
        let report = courier.report("hook", 1, &attempt(now.0, 500), now, 0);
        assert_eq!(report.reported, Reported::Again { due: now.plus_ms(*pause), first_at: Timestamp(0) });
        assert_eq!((report.hook_changed, report.disables), (at == 0, None));
        assert!(!courier.to_ring(now.plus_ms(pause - 1)));
        assert_eq!(courier.wakes_at(now), Some(now.plus_ms(*pause)));
        now = now.plus_ms(*pause);
    }
    assert_eq!(now.0, 24 * 3_600_000);
    courier.claim(8, now);
    let report = courier.report("hook", 1, &attempt(now.0, 500), now, 0);
    assert_eq!((report.reported, report.disables), (Reported::GivenUp, Some(Reason::Failing)));
}

#[test]
fn what_is_given_up_disables_nothing_while_others_are_delivered() {
    let mut courier = courier();
    for number in 1..=2 {
        add(&mut courier, number, 0);
    }
    for at in 0..PAUSES_MS.len() as u64 {
        courier.report("hook", 1, &attempt(at, 500), Timestamp(at), 0);
    }
    assert_eq!(courier.report("hook", 2, &attempt(50, 204), Timestamp(50), 0).reported, Reported::Delivered);
    let last = courier.report("hook", 1, &attempt(100, 500), Timestamp(100), 0);
    assert_eq!((last.reported, last.disables), (Reported::GivenUp, None));
    assert_eq!(courier.hook("hook").unwrap().failing_since, Some(Timestamp(100)));
}

#[test]
fn an_address_that_is_gone_is_given_up_at_once() {
    let mut courier = courier();
    add(&mut courier, 1, 0);
    let report = courier.report("hook", 1, &attempt(5, 410), Timestamp(5), 0);
    assert_eq!((report.reported, report.disables), (Reported::GivenUp, Some(Reason::Gone)));
    add(&mut courier, 2, 5);
    courier.disable("hook", Timestamp(5), Reason::Gone);
    assert!(courier.claim(8, Timestamp(9)).is_empty());
    assert!(!courier.to_ring(Timestamp(9)) && courier.wakes_at(Timestamp(9)).is_none());
    assert_eq!(courier.give_up("hook"), [2]);
    assert!(!courier.configure("hook", 1, Filter::default(), true, None), "the same version is no news");
    assert!(courier.configure("hook", 2, Filter::default(), true, None));
    assert!(courier.hook("hook").unwrap().is_live(), "a new version begins anew");
}

#[test]
fn a_slow_webhook_leaves_room_for_others() {
    let mut courier = courier();
    courier.configure("other", 1, Filter::default(), true, None);
    for number in 0..100 {
        add(&mut courier, number, 0);
    }
    assert!(courier.to_ring(Timestamp(0)));
    assert_eq!(courier.claim(32, Timestamp(0)).len(), AT_ONCE);
    assert!(courier.claim(32, Timestamp(1)).is_empty());
    courier.add("other", 100, Waiting::new(0, None, Timestamp(2)));
    assert!(courier.to_ring(Timestamp(2)), "somebody else may take it");
    assert_eq!(courier.claim(32, Timestamp(3))[0].webhook, "other");
    courier.report("hook", 0, &attempt(4, 200), Timestamp(4), 0);
    assert_eq!(courier.claim(32, Timestamp(5)), [claim(8, 1)]);
}

#[test]
fn retry_after_makes_a_pause_longer_and_never_shorter() {
    for (retry_after_ms, pause) in [(Some(60_000), 60_000), (Some(1), 5_000), (None, 5_000)] {
        let mut courier = courier();
        add(&mut courier, 1, 0);
        let report = courier.report("hook", 1, &Attempt { retry_after_ms, ..attempt(0, 429) }, Timestamp(0), 0);
        assert_eq!(report.reported, Reported::Again { due: Timestamp(pause), first_at: Timestamp(0) });
    }
}

#[test]
fn who_does_not_come_is_rung_for_again_and_who_is_at_it_is_not() {
    let mut courier = courier();
    add(&mut courier, 1, 0);
    assert!(courier.to_ring(Timestamp(0)));
    assert!(!courier.to_ring(Timestamp(RING_AGAIN_MS - 1)));
    assert_eq!(courier.wakes_at(Timestamp(5)), Some(Timestamp(RING_AGAIN_MS)));
    assert!(courier.to_ring(Timestamp(RING_AGAIN_MS)));
    let now = Timestamp(RING_AGAIN_MS + 1);
    assert_eq!(courier.claim(1, now).len(), 1);
    add(&mut courier, 2, now.0);
    assert!(!courier.to_ring(now), "who is at it takes the next one too");
    assert!(courier.to_ring(now.plus_ms(LEASE_MS)), "a claim that was lost ends");
    assert_eq!(courier.claim(8, now.plus_ms(LEASE_MS)), [claim(1, 1), claim(2, 1)]);
}

#[test]
fn events_are_wanted_by_live_webhooks_whose_filter_matches() {
    let mut courier = courier();
    let filter = Filter { types: vec!["service.*".into()], ..Filter::default() };
    courier.configure("services", 1, filter, true, None);
    courier.configure("paused", 1, Filter::default(), false, None);
    let item = Item { number: 1, at: Timestamp(0), what: What::Status(Status::Queued) };
    let bundle = Bundle {
        subject: "ctx_1".into(),
        owner: None,
        owner_name: None,
        replay_of: None,
        capability: None,
        service: None,
        trace: None,
        after: None,
        items: Vec::new(),
    };
    assert_eq!(courier.wanted(&bundle, &item).collect::<Vec<_>>(), ["hook"]);
    courier.remove("hook");
    courier.remove("services");
    assert!(courier.is_idle());
}

fn nobody(at: u64) -> Attempt {
    let error = Some(AttemptError::Unreachable);
    Attempt { at: Timestamp(at), status_code: None, error, duration_ms: 1, retry_after_ms: None }
}

#[test]
fn where_nobody_is_one_delivery_tries_for_all_after_growing_pauses() {
    let mut courier = courier();
    (1..=20).for_each(|number| add(&mut courier, number, 0));
    let mut now = Timestamp(0);
    assert_eq!(courier.claim(32, now).len(), AT_ONCE);
    for number in 1..=8 {
        let report = courier.report("hook", number, &nobody(now.0), now, 0);
        assert_eq!(report.reported, Reported::Again { due: Timestamp(5_000), first_at: now });
        assert_eq!(report.hook_changed, number == 1, "what was under way says nothing new");
    }
    for pause in [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 640_000, 900_000, 900_000] {
        assert!(!courier.to_ring(now.plus_ms(pause - 1)) && courier.claim(32, now.plus_ms(pause - 1)).is_empty());
        assert_eq!(courier.wakes_at(now), Some(now.plus_ms(pause)));
        now = now.plus_ms(pause);
        assert!(courier.to_ring(now));
        assert_eq!(courier.claim(32, now).iter().map(|claim| claim.number).collect::<Vec<_>>(), [1]);
        assert!(courier.claim(32, now).is_empty());
        assert_eq!(courier.wakes_at(now), Some(now.plus_ms(LEASE_MS)), "nothing else is to be done meanwhile");
        courier.report("hook", 1, &nobody(now.0), now, 0);
    }
    now = now.plus_ms(900_000);
    assert_eq!(courier.claim(32, now).len(), 1);
    assert_eq!(courier.report("hook", 1, &attempt(now.0, 204), now, 0).reported, Reported::Delivered);
    let numbers: Vec<u64> = courier.claim(32, now).iter().map(|claim| claim.number).collect();
    assert_eq!(numbers, (2..=9).collect::<Vec<_>>(), "the others follow at once, in order");
    assert_eq!(courier.hook("hook").unwrap().failing_since, None);
}

#[test]
fn who_refuses_is_there_and_only_refusals_use_up_a_deliverys_attempts() {
    let mut courier = courier();
    add(&mut courier, 1, 0);
    let mut now = Timestamp(0);
    for _ in 0..12 {
        courier.claim(8, now);
        let Reported::Again { due, .. } = courier.report("hook", 1, &nobody(now.0), now, 0).reported else {
            panic!("it is not given up");
        };
        now = due;
    }
    courier.claim(8, now);
    let report = courier.report("hook", 1, &attempt(now.0, 500), now, 0);
    assert_eq!(report.reported, Reported::Again { due: now.plus_ms(PAUSES_MS[0]), first_at: Timestamp(0) });
    assert_eq!((report.hook_changed, courier.hook("hook").unwrap().resting), (true, None));
}

#[test]
fn nothing_is_lost_within_24_hours_in_which_nobody_is_there() {
    let mut courier = courier();
    add(&mut courier, 1, 0);
    let mut now = Timestamp(0);
    loop {
        if now.0 < 24 * 3_600_000 {
            add(&mut courier, now.0 + 2, now.0);
        }
        let before = courier.count("hook");
        let claimed = courier.claim(8, now);
        assert_eq!(claimed.first().map(|claim| claim.number), Some(1), "at {}", now.0);
        let mut last = None;
        for Claim { number, .. } in claimed {
            last = Some(courier.report("hook", number, &nobody(now.0), now, 7));
        }
        match last.unwrap() {
            Report { reported: Reported::Again { due, .. }, disables: None, .. } => {
                assert_eq!(courier.count("hook"), before);
                now = due;
            }
            report => {
                assert_eq!((report.reported, report.disables), (Reported::GivenUp, Some(Reason::Failing)));
                break;
            }
        }
    }
    assert_eq!(now.0, 24 * 3_600_000);
}

proptest! {
    /// However answers, silence and restarts follow each other: what waits is claimed sooner or later.
    #[test]
    fn a_webhook_that_rests_is_woken_again(
        steps in prop::collection::vec((0u8..4, 0u64..2_000_000), 1..100)
    ) {
        let mut courier = courier();
        (0..12).for_each(|number| add(&mut courier, number, 0));
        let mut now = Timestamp(0);
        for (step, random) in steps {
            let Some(wakes) = courier.wakes_at(now) else { break };
            now = now.max(wakes);
            for Claim { number, .. } in courier.claim(8, now) {
                let attempt = match step {
                    0 => attempt(now.0, 204),
                    1 => attempt(now.0, 500),
                    2 => nobody(now.0),
                    // Lost on the way.
                    _ => continue,
                };
                courier.report("hook", number, &attempt, now, random);
            }
            prop_assert_eq!(courier.wakes_at(now).is_some(), courier.count("hook") > 0);
        }
        // When everybody answers, all that is left is delivered.
        for _ in 0..100 {
            let Some(wakes) = courier.wakes_at(now) else { break };
            now = now.max(wakes);
            for Claim { number, .. } in courier.claim(8, now) {
                courier.report("hook", number, &attempt(now.0, 204), now, 0);
            }
        }
        prop_assert_eq!(courier.count("hook"), 0);
    }

    /// Whatever is lost, late or doubled: a delivery waits until it was delivered or tried often enough.
    #[test]
    fn nothing_is_forgotten(steps in prop::collection::vec((0u8..6, 0u64..400_000, 0u64..6), 0..200)) {
        let mut courier = courier();
        let (mut now, mut next) = (Timestamp(0), 0);
        let mut open = std::collections::BTreeMap::new();
        for (step, later, number) in steps {
            now = now.plus_ms(later);
            match step {
                0 => {
                    add(&mut courier, next, now.0);
                    open.insert(next, 0usize);
                    next += 1;
                }
                1 => {
                    for claim in courier.claim(2, now) {
                        prop_assert_eq!(claim.attempt, open[&claim.number] + 1);
                    }
                }
                2 | 3 => {
                    let known = open.contains_key(&number);
                    let report = courier.report("hook", number, &attempt(now.0, 500), now, later);
                    prop_assert_eq!(report.reported != Reported::Unknown, known);
                    if let Some(tried) = open.get_mut(&number) {
                        *tried += 1;
                        if *tried > PAUSES_MS.len() {
                            prop_assert_eq!(&report.reported, &Reported::GivenUp);
                            open.remove(&number);
                        }
                    }
                }
                4 => {
                    let report = courier.report("hook", number, &attempt(now.0, 200), now, later);
                    prop_assert_eq!(report.reported == Reported::Delivered, open.remove(&number).is_some());
                }
                _ => {
                    courier.to_ring(now);
                }
            }
            prop_assert_eq!(courier.count("hook"), open.len());
            // Somebody is rung for, or the alarm sees to it, as long as anything waits.
            prop_assert_eq!(courier.wakes_at(now).is_some(), !open.is_empty());
        }
    }
}

#[test]
fn a_webhook_rests_where_an_edge_answers_for_a_receiver_that_is_away() {
    for status in [502, 503, 504, 520, 521, 523, 525, 529, 530] {
        let mut courier = courier();
        add(&mut courier, 1, 0);
        courier.report("hook", 1, &attempt(0, status), Timestamp(0), 0);
        assert!(courier.hook("hook").unwrap().resting.is_some(), "{status}");
    }
    for status in [301, 404, 408, 429, 500, 501, 531] {
        let mut courier = courier();
        add(&mut courier, 1, 0);
        courier.report("hook", 1, &attempt(0, status), Timestamp(0), 0);
        assert!(courier.hook("hook").unwrap().resting.is_none(), "{status}");
    }
}

#[test]
fn a_receiver_may_ask_for_a_day_and_no_longer() {
    let mut courier = courier();
    add(&mut courier, 1, 0);
    let late = Attempt { retry_after_ms: Some(u64::MAX), ..attempt(0, 429) };
    let report = courier.report("hook", 1, &late, Timestamp(0), 0);
    assert_eq!(report.reported, Reported::Again { due: Timestamp(86_400_000), first_at: Timestamp(0) });
}
