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
        ended_at: None,
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

/// As a lane does.
fn withdraw(
    pool: &mut ConnectionPool,
    context: &ContextId,
    up_to: Option<LeaseNumber>,
    now: Timestamp,
) -> Vec<(Delivery, Option<u32>)> {
    let ended = pool.of_context(context, up_to).iter().filter_map(|number| pool.end(number, now)).collect();
    if let Some(lease) = up_to {
        pool.refuse(context, lease, now);
    }
    ended
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
    assert!(pool.end(&delivery(2, 1).number(), at(20_000)).is_some());
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
    assert_eq!(pool.end(&delivery(1, 1).number(), at(6)).and_then(|(_, slot)| slot), Some(1));
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

#[test]
fn a_delivery_is_remembered_for_a_while_after_its_end() {
    let mut before = pool(&[1]);
    dispatch(&mut before, 1);
    let number = delivery(1, 1).number();
    let (ended, slot) = before.end(&number, at(500)).unwrap();
    assert_eq!((slot, ended.ended_at, ended.connection.as_str()), (Some(0), Some(at(500)), ""));
    assert_eq!(before.end(&number, at(501)), None);
    let after = ConnectionPool::restore([], [ended], GRACE_MS, at(1_000));
    let forgotten_at = at(500 + REMEMBERED_MS);
    for mut pool in [before, after] {
        // It neither occupies its connection nor can be resumed.
        assert_eq!((pool.in_flight(), pool.find(&number)), (0, None));
        assert_eq!(withdraw(&mut pool, &delivery(1, 1).context, None, at(501)), []);
        assert_eq!(pool.ready(0, 1, std::slice::from_ref(&number)).resumed, []);
        assert_eq!(pool.next_expiry(), Some(forgotten_at));
        assert_eq!(pool.expire(at(499 + REMEMBERED_MS)), Expiry::default());
        assert!(pool.was_dispatched(&number));
        assert_eq!(pool.expire(forgotten_at).forgotten, std::slice::from_ref(&number));
        assert!(!pool.was_dispatched(&number) && pool.next_expiry().is_none());
    }
}

#[test]
fn deliveries_that_have_ended_are_forgotten_together() {
    let mut pool = pool(&[2]);
    for (n, ms) in [(1, 100), (2, 900)] {
        dispatch(&mut pool, n);
        pool.end(&delivery(n, 1).number(), at(ms));
    }
    assert_eq!(pool.next_expiry(), Some(at(900 + REMEMBERED_MS)));
    assert_eq!(pool.expire(at(900 + REMEMBERED_MS)).forgotten.len(), 2);
}

#[test]
fn a_delivery_that_was_not_dispatched_after_all_is_not_remembered() {
    let mut pool = pool(&[1]);
    dispatch(&mut pool, 1);
    let number = delivery(1, 1).number();
    assert!(pool.remove(&number).is_some() && !pool.was_dispatched(&number));
    assert_eq!(dispatch(&mut pool, 1), Some(0));
}

#[test]
fn a_worker_withdraws_only_what_it_has_dispatched_itself() {
    let mut pool = pool(&[4]);
    pool.dispatch(delivery(1, 2), None, at(0)).unwrap();
    let context = delivery(1, 2).context;
    assert!(withdraw(&mut pool, &context, Some(lease_number(1)), at(10)).is_empty(), "that of the next worker stays");
    assert!(pool.was_dispatched(&delivery(1, 1).number()), "it is not dispatched then");
    assert_eq!(withdraw(&mut pool, &context, Some(lease_number(2)), at(20)).len(), 1);
    pool.dispatch(delivery(2, 1), None, at(30)).unwrap();
    assert_eq!(withdraw(&mut pool, &delivery(2, 1).context, None, at(40)).len(), 1);
    assert_eq!(pool.in_flight(), 0);
}

#[test]
fn a_late_request_of_an_earlier_attempt_is_obsolete() {
    let mut pool = pool(&[4]);
    assert!(!pool.is_obsolete(&delivery(1, 1), Some(at(100)), at(100)));
    assert!(pool.is_obsolete(&delivery(1, 1), Some(at(100)), at(101)));
    pool.dispatch(delivery(1, 2), None, at(0)).unwrap();
    assert!(pool.is_obsolete(&delivery(1, 1), None, at(10)));
    assert!(!pool.is_obsolete(&delivery(1, 3), None, at(10)) && !pool.is_obsolete(&delivery(2, 1), None, at(10)));
    pool.end(&delivery(1, 2).number(), at(20));
    assert!(pool.is_obsolete(&delivery(1, 1), None, at(30)), "also once the later one has ended");
}

#[test]
fn other_versions_read_a_stored_delivery() {
    let delivery = delivery(1, 1);
    let stored = serde_json::to_value(&delivery).unwrap();
    assert_eq!(stored.get("ended_at"), None);
    assert_eq!(serde_json::from_value::<Delivery>(stored).unwrap(), delivery);
}

/// A pool with the rows that its lane stores, and the requests that its lane has received.
struct Model {
    pool: ConnectionPool,
    most: Option<u64>,
    rows: BTreeMap<String, Delivery>,
    /// Each request to dispatch, and the number of times that it dispatched something.
    requests: Vec<(Delivery, u32)>,
    /// When each delivery ended, by its number.
    ended_at: BTreeMap<String, Vec<Timestamp>>,
}

impl Model {
    /// As the lane does for a request, new or repeated.
    fn request(&mut self, at: usize, now: Timestamp) -> Result<(), TestCaseError> {
        let (delivery, times) = &mut self.requests[at];
        if self.pool.was_dispatched(&delivery.number()) {
            return Ok(());
        }
        let has_room = self.pool.room(self.most) > 0 && delivery.deadline > now;
        let given = self.pool.dispatch(delivery.clone(), self.most, now);
        prop_assert_eq!(given.is_some(), has_room);
        if let Some((slot, delivery)) = given {
            *times += 1;
            self.rows.insert(delivery.number(), delivery);
            let connection = &self.pool.connections[&slot];
            prop_assert!(connection.load <= connection.credit);
            prop_assert!(self.most.is_none_or(|most| self.pool.in_flight() <= most));
        }
        Ok(())
    }

    /// Repeats a request, unless it is later than any that occurs.
    fn repeat(&mut self, at: usize, now: Timestamp) -> Result<(), TestCaseError> {
        let Some((delivery, _)) = self.requests.get(at) else { return Ok(()) };
        let ended_at = self.ended_at.get(&delivery.number()).and_then(|times| times.first());
        if ended_at.is_some_and(|ended_at| now.since(*ended_at) >= 60_000) {
            return Ok(());
        }
        self.request(at, now)
    }

    fn ready(&mut self, slot: u32, credit: u64) {
        let resume: Vec<String> = self.pool.deliveries.keys().take(credit as usize).cloned().collect();
        for delivery in self.pool.ready(slot, credit, &resume).resumed {
            self.rows.insert(delivery.number(), delivery);
        }
    }

    fn end_one(&mut self, now: Timestamp) {
        let number = self.pool.deliveries.keys().next().cloned();
        if let Some((delivery, _)) = number.and_then(|number| self.pool.end(&number, now)) {
            self.ended_at.entry(delivery.number()).or_default().push(now);
            self.rows.insert(delivery.number(), delivery);
        }
    }

    fn expire(&mut self, now: Timestamp) -> Result<(), TestCaseError> {
        let over = self.pool.expire(now);
        for (delivery, _) in over.past {
            self.rows.remove(&delivery.number());
            self.ended_at.entry(delivery.number()).or_default().push(now);
        }
        for number in over.forgotten {
            self.rows.remove(&number);
        }
        prop_assert!(over.given_up.iter().all(|one| self.pool.find(&one.number()).is_some()));
        prop_assert!(self.pool.next_expiry().is_none_or(|at| at > now));
        Ok(())
    }

    /// A new instance of the lane knows the open connections and the rows.
    fn restart(&mut self, now: Timestamp) {
        let open = self.pool.connections.iter();
        let open: Vec<_> = open.map(|(slot, one)| (*slot, one.id.clone(), one.credit, one.status)).collect();
        self.pool = ConnectionPool::restore(open, self.rows.values().cloned(), GRACE_MS, now);
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for (slot, connection) in &self.pool.connections {
            let is_here = |entry: &&PoolEntry| entry.location == Location::At(*slot);
            prop_assert_eq!(connection.load, self.pool.deliveries.values().filter(is_here).count() as u64);
        }
        let has_place = |entry: &PoolEntry| match entry.location {
            Location::At(slot) => self.pool.connections.contains_key(&slot),
            Location::Detached(_) => true,
        };
        prop_assert!(self.pool.deliveries.values().all(has_place));
        prop_assert_eq!(self.rows.len(), self.pool.deliveries.len() + self.pool.ended.len());
        prop_assert!(self.requests.iter().all(|(_, times)| *times <= 1));
        prop_assert!(self.ended_at.values().all(|times| times.len() == 1));
        let dispatched = self.requests.iter().filter(|(_, times)| *times == 1).count();
        prop_assert_eq!(dispatched, self.pool.deliveries.len() + self.ended_at.len());
        Ok(())
    }
}

proptest! {
    #[test]
    fn credits_and_limits_hold_and_every_delivery_is_dispatched_and_leaves_once(
        steps in proptest::collection::vec((0u8..10, 0u8..12, 0u64..4, 0u64..8_000), 1..80),
        most in proptest::option::of(1u64..5),
    ) {
        let pool = ConnectionPool::restore([], [], GRACE_MS, at(0));
        let mut model =
            Model { pool, most, rows: BTreeMap::new(), requests: Vec::new(), ended_at: BTreeMap::new() };
        let mut now = at(0);
        for (step, n, credit, ms) in steps {
            now = now.plus_ms(ms);
            let slot = u32::from(n % 3);
            match step {
                0 if !model.pool.slots().contains(&slot) => model.pool.join(slot, format!("con_{slot}_{}", now.0)),
                1 => model.ready(slot, credit),
                2 => model.pool.leave(slot, now),
                3 | 4 => {
                    // Some deadlines are later than the time for which the pool remembers.
                    let deadline = now.plus_ms(20_000 + credit * 50_000);
                    let lease = model.requests.len() as u64 + 1;
                    model.requests.push((Delivery { deadline, ..delivery(n, lease) }, 0));
                    model.request(model.requests.len() - 1, now)?;
                }
                5 => model.end_one(now),
                6 => model.restart(now),
                7 | 8 => {
                    let back = usize::from(n);
                    model.repeat(model.requests.len().saturating_sub(back), now)?;
                }
                _ => model.expire(now)?,
            }
            model.check()?;
        }
    }
}
