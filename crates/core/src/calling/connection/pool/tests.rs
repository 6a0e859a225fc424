use super::*;
use crate::base::id::{Region, StoreId};
use crate::context::fixtures::lease_number;
use proptest::prelude::*;

const GRACE_MS: u64 = 10_000;

fn at(ms: u64) -> Timestamp {
    Timestamp(1_000_000 + ms)
}

fn delivery(n: u8, lease: u64) -> Delivery {
    Delivery {
        context: ContextId::new(StoreId { region: Region::Eu, shard: 0 }, Timestamp(1_000), [n; 10]),
        lease: lease_number(lease),
        capability: "work".into(),
        version: Version::new(1, 0, 0),
        deadline: at(60_000),
        handed_at: Timestamp(0),
        connection: String::new(),
    }
}

fn pool(credits: &[u64]) -> ConnectionPool {
    let mut pool = ConnectionPool::restore([], [], GRACE_MS, at(0));
    for (slot, credit) in (0u32..).zip(credits) {
        pool.join(slot, format!("con_{slot}"));
        pool.ready(slot, *credit, &[]);
    }
    pool
}

fn dispatch(pool: &mut ConnectionPool, n: u8) -> Option<u32> {
    pool.dispatch(delivery(n, 1), None, at(0)).map(|(slot, _)| slot)
}

#[test]
fn the_connection_with_the_lowest_load_gets_the_next_delivery() {
    let mut pool = pool(&[1, 4]);
    let given: Vec<Option<u32>> = (0..6).map(|n| dispatch(&mut pool, n)).collect();
    assert_eq!(given, [Some(1), Some(0), Some(1), Some(1), Some(1), None]);
    assert_eq!((pool.room(None), pool.in_flight()), (0, 5));
}

#[test]
fn connections_that_are_not_ready_get_nothing() {
    let mut pool = pool(&[]);
    pool.join(7, "con_7".into());
    assert_eq!((dispatch(&mut pool, 1), pool.health()), (None, HealthStatus::Online));
    pool.ready(7, 1, &[]);
    assert_eq!(dispatch(&mut pool, 1), Some(7));
}

#[test]
fn the_limit_of_the_service_holds_over_what_dropped_connections_had() {
    let mut pool = pool(&[5]);
    assert!(pool.dispatch(delivery(1, 1), Some(2), at(0)).is_some());
    assert!(pool.dispatch(delivery(2, 1), Some(2), at(0)).is_some());
    pool.leave(0, at(1));
    pool.join(1, "con_1".into());
    pool.ready(1, 5, &[]);
    assert_eq!((pool.room(Some(2)), pool.room(Some(3)), pool.room(None)), (0, 1, 5));
}

#[test]
fn deliveries_of_a_dropped_connection_are_given_up_unless_resumed() {
    let mut pool = pool(&[5]);
    dispatch(&mut pool, 1);
    dispatch(&mut pool, 2);
    pool.leave(0, at(100));
    assert_eq!(pool.health(), HealthStatus::Offline);
    assert_eq!(pool.next_expiry(), Some(at(100 + GRACE_MS)));
    pool.join(1, "con_1".into());
    let resumed = pool.ready(1, 5, &[delivery(1, 1).number(), "other.9".into()]);
    assert_eq!(resumed.resumed.iter().map(Delivery::number).collect::<Vec<_>>(), [delivery(1, 1).number()]);
    assert_eq!(resumed.resumed[0].connection, "con_1");
    assert_eq!(resumed.unknown, ["other.9"]);
    let over = pool.expire(at(100 + GRACE_MS));
    assert_eq!(over.given_up.iter().map(Delivery::number).collect::<Vec<_>>(), [delivery(2, 1).number()]);
    // Until it is reported, it is given up again, but not at once.
    assert_eq!(pool.expire(at(101 + GRACE_MS)), Expiry::default());
    assert_eq!(pool.expire(at(100 + GRACE_MS + GIVE_UP_RETRY_MS)).given_up.len(), 1);
    assert!(pool.remove(&delivery(2, 1).number()).is_some());
    assert_eq!((pool.in_flight(), pool.room(None)), (1, 4));
}

#[test]
fn a_delivery_moves_from_a_connection_that_is_not_yet_known_to_be_dead() {
    let mut pool = pool(&[2]);
    dispatch(&mut pool, 1);
    pool.join(1, "con_1".into());
    assert_eq!(pool.ready(1, 2, &[delivery(1, 1).number()]).resumed.len(), 1);
    assert_eq!(pool.room(None), 3);
    pool.leave(0, at(5));
    assert_eq!(pool.remove(&delivery(1, 1).number()).and_then(|(_, slot)| slot), Some(1));
    assert_eq!(pool.room(None), 2);
}

#[test]
fn deliveries_end_at_their_deadline() {
    let mut pool = pool(&[2]);
    dispatch(&mut pool, 1);
    let over = pool.expire(at(60_000 + DEADLINE_GRACE_MS));
    assert_eq!(over.past.iter().map(|(_, slot)| *slot).collect::<Vec<_>>(), [Some(0)]);
    assert_eq!(pool.room(None), 2);
}

#[test]
fn a_restart_restores_connections_and_deliveries() {
    let mut before = pool(&[2, 2]);
    let handed: Vec<Delivery> =
        (1..4).filter_map(|n| before.dispatch(delivery(n, 1), None, at(0))).map(|(_, d)| d).collect();
    let kept = [(4, "con_0".to_string(), 2, HealthStatus::Online)];
    let mut after = ConnectionPool::restore(kept, handed, GRACE_MS, at(50));
    assert_eq!((after.in_flight(), after.room(None)), (3, 0));
    assert_eq!(after.expire(at(50 + GRACE_MS)).given_up.len(), 1);
}

proptest! {
    #[test]
    fn credits_and_limits_hold_and_every_delivery_leaves_once(
        steps in proptest::collection::vec((0u8..7, 0u8..12, 0u64..4, 0u64..8_000), 1..80),
        most in proptest::option::of(1u64..5),
    ) {
        let mut pool = ConnectionPool::restore([], [], GRACE_MS, at(0));
        let mut now = at(0);
        let mut left = std::collections::BTreeMap::<String, u64>::new();
        let mut handed = 0u64;
        let mut lease = 0;
        for (step, n, credit, ms) in steps {
            now = now.plus_ms(ms);
            let slot = u32::from(n % 3);
            match step {
                0 if !pool.slots().contains(&slot) => pool.join(slot, format!("con_{slot}_{}", now.0)),
                1 => {
                    let resume: Vec<String> = pool.deliveries.keys().take(credit as usize).cloned().collect();
                    pool.ready(slot, credit, &resume);
                }
                2 => pool.leave(slot, now),
                3 | 4 => {
                    lease += 1;
                    let next = Delivery { deadline: now.plus_ms(20_000), ..delivery(n, lease) };
                    let room = pool.room(most);
                    let given = pool.dispatch(next, most, now);
                    prop_assert_eq!(given.is_some(), room > 0);
                    if let Some((slot, _)) = given {
                        handed += 1;
                        let connection = &pool.connections[&slot];
                        prop_assert!(connection.load <= connection.credit);
                        prop_assert!(most.is_none_or(|most| pool.in_flight() <= most));
                    }
                }
                5 => {
                    if let Some(number) = pool.deliveries.keys().next().cloned() {
                        prop_assert!(pool.remove(&number).is_some());
                        *left.entry(number).or_default() += 1;
                    }
                }
                _ => {
                    let over = pool.expire(now);
                    for (delivery, _) in over.past {
                        *left.entry(delivery.number()).or_default() += 1;
                    }
                    prop_assert!(over.given_up.iter().all(|one| pool.find(&one.number()).is_some()));
                    prop_assert!(pool.next_expiry().is_none_or(|at| at > now));
                }
            }
            for (slot, connection) in &pool.connections {
                let has = pool.deliveries.values().filter(|entry| entry.location == Location::At(*slot)).count() as u64;
                prop_assert_eq!(connection.load, has);
            }
            let has_place = |entry: &PoolEntry| match entry.location {
                Location::At(slot) => pool.connections.contains_key(&slot),
                Location::Detached(_) => true,
            };
            prop_assert!(pool.deliveries.values().all(has_place));
            prop_assert_eq!(handed, pool.in_flight() + left.len() as u64);
        }
        prop_assert!(left.values().all(|times| *times == 1));
    }
}
