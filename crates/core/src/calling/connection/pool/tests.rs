use super::*;
use crate::base::id::{Region, StoreId};
use proptest::prelude::*;

const GRACE_MS: u64 = 10_000;

fn at(ms: u64) -> Timestamp {
    Timestamp(1_000_000 + ms)
}

fn delivery(n: u8, lease: u64) -> Delivery {
    Delivery {
        context: ContextId::new(StoreId { region: Region::Eu, shard: 0 }, Timestamp(1_000), [n; 10]),
        lease,
        capability: "work".into(),
        version: Version::new(1, 0, 0),
        deadline: at(60_000),
        handed_at: Timestamp(0),
        connection: String::new(),
    }
}

fn roster(credits: &[u64]) -> Roster {
    let mut roster = Roster::restore([], [], GRACE_MS, at(0));
    for (slot, credit) in (0u32..).zip(credits) {
        roster.join(slot, format!("con_{slot}"));
        roster.ready(slot, *credit, &[]);
    }
    roster
}

fn hand(roster: &mut Roster, n: u8) -> Option<u32> {
    roster.hand(delivery(n, 1), None, at(0)).map(|(slot, _)| slot)
}

#[test]
fn who_is_least_loaded_for_its_credit_is_given_the_next() {
    let mut roster = roster(&[1, 4]);
    let given: Vec<Option<u32>> = (0..6).map(|n| hand(&mut roster, n)).collect();
    assert_eq!(given, [Some(1), Some(0), Some(1), Some(1), Some(1), None]);
    assert_eq!((roster.room(None), roster.in_flight()), (0, 5));
}

#[test]
fn nobody_who_is_not_ready_is_given_anything() {
    let mut roster = roster(&[]);
    roster.join(7, "con_7".into());
    assert_eq!((hand(&mut roster, 1), roster.health()), (None, HealthStatus::Online));
    roster.ready(7, 1, &[]);
    assert_eq!(hand(&mut roster, 1), Some(7));
}

#[test]
fn the_limit_of_the_service_holds_over_what_dropped_connections_had() {
    let mut roster = roster(&[5]);
    assert!(roster.hand(delivery(1, 1), Some(2), at(0)).is_some());
    assert!(roster.hand(delivery(2, 1), Some(2), at(0)).is_some());
    roster.leave(0, at(1));
    roster.join(1, "con_1".into());
    roster.ready(1, 5, &[]);
    assert_eq!((roster.room(Some(2)), roster.room(Some(3)), roster.room(None)), (0, 1, 5));
}

#[test]
fn what_a_dropped_connection_had_is_given_up_after_a_while_unless_taken_up_again() {
    let mut roster = roster(&[5]);
    hand(&mut roster, 1);
    hand(&mut roster, 2);
    roster.leave(0, at(100));
    assert_eq!(roster.health(), HealthStatus::Offline);
    assert_eq!(roster.next_over(), Some(at(100 + GRACE_MS)));
    roster.join(1, "con_1".into());
    let resumed = roster.ready(1, 5, &[delivery(1, 1).number(), "other.9".into()]);
    assert_eq!(resumed.taken.iter().map(Delivery::number).collect::<Vec<_>>(), [delivery(1, 1).number()]);
    assert_eq!(resumed.taken[0].connection, "con_1");
    assert_eq!(resumed.unknown, ["other.9"]);
    let over = roster.overdue(at(100 + GRACE_MS));
    assert_eq!(over.given_up.iter().map(Delivery::number).collect::<Vec<_>>(), [delivery(2, 1).number()]);
    // Until somebody has heard of it, it is given up again, but not at once.
    assert_eq!(roster.overdue(at(101 + GRACE_MS)), Over::default());
    assert_eq!(roster.overdue(at(100 + GRACE_MS + AGAIN_MS)).given_up.len(), 1);
    assert!(roster.end(&delivery(2, 1).number()).is_some());
    assert_eq!((roster.in_flight(), roster.room(None)), (1, 4));
}

#[test]
fn a_delivery_moves_from_a_connection_that_is_not_yet_known_to_be_dead() {
    let mut roster = roster(&[2]);
    hand(&mut roster, 1);
    roster.join(1, "con_1".into());
    assert_eq!(roster.ready(1, 2, &[delivery(1, 1).number()]).taken.len(), 1);
    assert_eq!(roster.room(None), 3);
    roster.leave(0, at(5));
    assert_eq!(roster.end(&delivery(1, 1).number()).and_then(|(_, slot)| slot), Some(1));
    assert_eq!(roster.room(None), 2);
}

#[test]
fn what_is_past_its_deadline_is_over() {
    let mut roster = roster(&[2]);
    hand(&mut roster, 1);
    let over = roster.overdue(at(60_000 + PAST_MS));
    assert_eq!(over.past.iter().map(|(_, slot)| *slot).collect::<Vec<_>>(), [Some(0)]);
    assert_eq!(roster.room(None), 2);
}

#[test]
fn a_restart_knows_who_has_what() {
    let mut before = roster(&[2, 2]);
    let handed: Vec<Delivery> =
        (1..4).filter_map(|n| before.hand(delivery(n, 1), None, at(0))).map(|(_, d)| d).collect();
    let kept = [(4, "con_0".to_string(), 2, HealthStatus::Online)];
    let mut after = Roster::restore(kept, handed, GRACE_MS, at(50));
    assert_eq!((after.in_flight(), after.room(None)), (3, 0));
    assert_eq!(after.overdue(at(50 + GRACE_MS)).given_up.len(), 1);
}

proptest! {
    #[test]
    fn credits_and_limits_hold_and_every_delivery_leaves_once(
        steps in proptest::collection::vec((0u8..7, 0u8..12, 0u64..4, 0u64..8_000), 1..80),
        most in proptest::option::of(1u64..5),
    ) {
        let mut roster = Roster::restore([], [], GRACE_MS, at(0));
        let mut now = at(0);
        let mut left = std::collections::BTreeMap::<String, u64>::new();
        let mut handed = 0u64;
        let mut lease = 0;
        for (step, n, credit, ms) in steps {
            now = now.plus_ms(ms);
            let slot = u32::from(n % 3);
            match step {
                0 if !roster.slots().contains(&slot) => roster.join(slot, format!("con_{slot}_{}", now.0)),
                1 => {
                    let resume: Vec<String> = roster.deliveries.keys().take(credit as usize).cloned().collect();
                    roster.ready(slot, credit, &resume);
                }
                2 => roster.leave(slot, now),
                3 | 4 => {
                    lease += 1;
                    let next = Delivery { deadline: now.plus_ms(20_000), ..delivery(n, lease) };
                    let room = roster.room(most);
                    let given = roster.hand(next, most, now);
                    prop_assert_eq!(given.is_some(), room > 0);
                    if let Some((slot, _)) = given {
                        handed += 1;
                        let connection = &roster.connections[&slot];
                        prop_assert!(connection.load <= connection.credit);
                        prop_assert!(most.is_none_or(|most| roster.in_flight() <= most));
                    }
                }
                5 => {
                    if let Some(number) = roster.deliveries.keys().next().cloned() {
                        prop_assert!(roster.end(&number).is_some());
                        *left.entry(number).or_default() += 1;
                    }
                }
                _ => {
                    let over = roster.overdue(now);
                    for (delivery, _) in over.past {
                        *left.entry(delivery.number()).or_default() += 1;
                    }
                    prop_assert!(over.given_up.iter().all(|one| roster.find(&one.number()).is_some()));
                    prop_assert!(roster.next_over().is_none_or(|at| at > now));
                }
            }
            for (slot, connection) in &roster.connections {
                let has = roster.deliveries.values().filter(|held| held.place == Place::At(*slot)).count() as u64;
                prop_assert_eq!(connection.load, has);
            }
            let has_place = |held: &Held| match held.place {
                Place::At(slot) => roster.connections.contains_key(&slot),
                Place::Kept(_) => true,
            };
            prop_assert!(roster.deliveries.values().all(has_place));
            prop_assert_eq!(handed, roster.in_flight() + left.len() as u64);
        }
        prop_assert!(left.values().all(|times| *times == 1));
    }
}
