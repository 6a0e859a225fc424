//! Many isolates with one pool: late and lost messages, restarts of isolates and of the pool.

use super::*;
use crate::limits::quota_pool::{QuotaPool, QuotaRule, StoredPool};
use proptest::prelude::*;

/// A message in transit.
enum Flight {
    Ask { isolate: usize, life: u32, asked_at: Timestamp, request: LeaseRequest },
    Reply { isolate: usize, life: u32, asked_at: Timestamp, given: Option<(QuotaLease, Timestamp)>, state: QuotaState },
    Report(LeaseReport),
}

struct World {
    now: Timestamp,
    rule: QuotaRule,
    pool: QuotaPool,
    disk: StoredPool,
    locals: Vec<(LocalQuota, u32)>,
    flights: Vec<(Timestamp, Flight)>,
    /// When each request was admitted, by the clock of the deciding side.
    admitted: Vec<Timestamp>,
    asks: u64,
}

impl World {
    fn new(rule: QuotaRule, isolates: usize) -> Self {
        let now = Timestamp(1_000_000);
        Self {
            now,
            rule,
            pool: QuotaPool::new(rule, now),
            disk: StoredPool::default(),
            locals: vec![(LocalQuota::default(), 0); isolates],
            flights: Vec::new(),
            admitted: Vec::new(),
            asks: 0,
        }
    }

    /// The clocks of isolates and of the pool are independent.
    fn clock(&self, isolate: usize) -> Timestamp {
        self.now.plus_ms(isolate as u64 * 77_777)
    }

    fn send(&mut self, delay_ms: u64, flight: Flight) {
        self.flights.push((self.now.plus_ms(delay_ms), flight));
    }

    fn request(&mut self, isolate: usize, delay_ms: u64) {
        let clock = self.clock(isolate);
        let (local, life) = &mut self.locals[isolate];
        let life = *life;
        match local.take(clock) {
            TakeResult::Taken(_) => self.admitted.push(self.now),
            TakeResult::Request(request) => {
                self.asks += 1;
                self.send(delay_ms, Flight::Ask { isolate, life, asked_at: clock, request });
            }
            TakeResult::Wait | TakeResult::Exhausted => {}
        }
    }

    /// Lets time pass and delivers messages; `lose` decides which ones are lost.
    fn pass(&mut self, ms: u64, delay_ms: u64, mut lose: impl FnMut() -> bool) {
        let end = self.now.plus_ms(ms);
        loop {
            let next = self.flights.iter().enumerate().filter(|(_, (at, _))| *at <= end).min_by_key(|(_, (at, _))| *at);
            let Some((at, _)) = next else { break };
            let (arrives, flight) = self.flights.remove(at);
            self.now = self.now.max(arrives);
            if !lose() {
                self.arrive(flight, delay_ms);
            }
        }
        self.now = end;
    }

    fn arrive(&mut self, flight: Flight, delay_ms: u64) {
        match flight {
            Flight::Report(report) => self.pool.report(report, self.now),
            Flight::Ask { isolate, life, asked_at, request } => {
                for report in request.reports {
                    self.pool.report(report, self.now);
                }
                let given = self.pool.take(request.wanted, self.now).map(|lease| (lease, self.now));
                self.disk = self.pool.to_store().unwrap_or_else(|| self.disk.clone());
                let state = self.pool.state(self.now);
                self.send(delay_ms, Flight::Reply { isolate, life, asked_at, given, state });
            }
            Flight::Reply { isolate, life, asked_at, given, state } => {
                let clock = self.clock(isolate);
                let (local, alive) = &mut self.locals[isolate];
                if *alive != life {
                    return;
                }
                match given {
                    Some((lease, given_at)) => {
                        if local.receive(lease, state, asked_at, clock) {
                            // A single token counts as used when the pool gave it.
                            self.admitted.push(if lease.tokens == 1 { given_at } else { self.now });
                        }
                    }
                    None => local.block(state, clock),
                }
            }
        }
    }

    fn give_up_all(&mut self, isolate: usize, delay_ms: u64) {
        let clock = self.clock(isolate);
        let (local, _) = &mut self.locals[isolate];
        let numbers: Vec<QuotaLeaseNumber> =
            local.leases.iter().map(|lease| lease.number).chain(local.reports.iter().map(|one| one.number)).collect();
        let reports: Vec<LeaseReport> =
            numbers.into_iter().filter_map(|number| local.release_unused(number, clock)).collect();
        for report in reports {
            self.send(delay_ms, Flight::Report(report));
        }
    }

    /// The largest number of admitted requests in any window.
    fn max_in_a_window(&mut self) -> u64 {
        self.admitted.sort();
        let times = &self.admitted;
        let window = self.rule.window_ms;
        let within = |at: usize| times.iter().skip(at).take_while(move |time| time.since(times[at]) < window).count();
        (0..times.len()).map(within).max().unwrap_or(0) as u64
    }
}

#[derive(Debug, Clone)]
enum Happens {
    Requests { isolate: usize, count: usize },
    Releases { isolate: usize },
    IsolateRestarts { isolate: usize },
    PoolRestarts,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        20 => (0usize..4, 1usize..30).prop_map(|(isolate, count)| Happens::Requests { isolate, count }),
        3 => (0usize..4).prop_map(|isolate| Happens::Releases { isolate }),
        1 => (0usize..4).prop_map(|isolate| Happens::IsolateRestarts { isolate }),
        1 => Just(Happens::PoolRestarts),
    ]
}

proptest! {
    #[test]
    fn no_window_sees_more_than_the_quota_whatever_is_lost_late_or_dies(
        quota in 1u64..120,
        window_ms in 500u64..20_000,
        steps in prop::collection::vec((happens(), 0u64..1_500, 0u64..2_500, prop::bits::u8::ANY), 1..80),
    ) {
        let mut world = World::new(QuotaRule { quota, window_ms }, 4);
        for (happens, ms, delay_ms, losses) in steps {
            match happens {
                Happens::Requests { isolate, count } => {
                    for _ in 0..count {
                        world.request(isolate, delay_ms);
                    }
                }
                Happens::Releases { isolate } => world.give_up_all(isolate, delay_ms),
                Happens::IsolateRestarts { isolate } => {
                    let life = world.locals[isolate].1 + 1;
                    world.locals[isolate] = (LocalQuota::default(), life);
                }
                Happens::PoolRestarts => world.pool = QuotaPool::restore(&world.disk, world.rule, world.now),
            }
            let mut turn = 0;
            world.pass(ms, delay_ms / 2, || {
                turn += 1;
                losses >> (turn % 8) & 1 == 1 && losses % 3 == 0
            });
            let in_all = world.max_in_a_window();
            prop_assert!(in_all <= quota, "{in_all} within {window_ms} ms of at most {quota}");
        }
    }

    #[test]
    fn isolates_that_want_more_than_there_is_get_exactly_the_quota(
        quota in 1u64..400, isolates in 1usize..5, picks in prop::collection::vec(0usize..5, 50..51),
    ) {
        let mut world = World::new(QuotaRule { quota, window_ms: 3_600_000 }, isolates);
        for turn in 0..quota as usize * 3 {
            let isolate = picks[turn % picks.len()] % isolates;
            world.request(isolate, 1);
            world.pass(3, 1, || false);
        }
        // Unused tokens of one isolate come back for another.
        for _ in 0..3 {
            for isolate in 0..isolates {
                world.give_up_all(isolate, 1);
                world.give_up_all(isolate, 1);
            }
            world.pass(1_001, 1, || false);
            for _ in 0..quota {
                world.request(0, 1);
                world.pass(3, 1, || false);
            }
        }
        prop_assert_eq!(world.admitted.len() as u64, quota);
    }
}

#[test]
fn in_the_steady_state_it_asks_less_than_once_in_ten_requests() {
    for (quota, every_ms) in [(1_000, 100), (10_000, 10), (100_000, 1)] {
        let mut world = World::new(QuotaRule { quota, window_ms: 60_000 }, 1);
        let mut before = (0, 0);
        for turn in 0..3_000 {
            world.request(0, 0);
            world.pass(every_ms, 0, || false);
            if turn == 999 {
                before = (world.asks, world.admitted.len());
            }
        }
        let (asks, admitted) = (world.asks - before.0, world.admitted.len() - before.1);
        assert!(admitted >= 1_000, "{quota}: {admitted}");
        assert!(asks * 10 < admitted as u64, "{quota}: {asks} asks for {admitted}");
    }
}

#[test]
fn others_wait_for_a_request_unless_tokens_are_scarce() {
    let now = Timestamp(1_000);
    let mut local = LocalQuota::default();
    let ask = |local: &mut LocalQuota| match local.take(now) {
        TakeResult::Request(request) => request.wanted,
        other => panic!("{other:?}"),
    };
    // Nothing is known yet: every caller requests a token.
    assert_eq!((ask(&mut local), ask(&mut local)), (1, 1));
    let state = QuotaState { left: 500, reset_ms: 9_000 };
    assert!(local.receive(QuotaLease { number: QuotaLeaseNumber::of(1), tokens: 1, scarce: false }, state, now, now));
    assert_eq!(ask(&mut local), 2);
    assert_eq!(local.take(now), TakeResult::Wait);
    assert!(local.receive(QuotaLease { number: QuotaLeaseNumber::of(2), tokens: 2, scarce: false }, state, now, now));
    assert_eq!(local.state(now), QuotaState { left: 501, reset_ms: 9_000 });
    assert_eq!(local.take(now), TakeResult::Taken(QuotaLeaseNumber::of(2)));
    assert_eq!(ask(&mut local), 4);
    assert!(local.receive(QuotaLease { number: QuotaLeaseNumber::of(3), tokens: 1, scarce: true }, state, now, now));
    assert_eq!((ask(&mut local), ask(&mut local)), (1, 1));
    // A request that does not return blocks others only for a while.
    local.scarce = false;
    assert_eq!(local.take(now), TakeResult::Wait);
    assert!(matches!(local.take(now.plus_ms(REQUEST_TIMEOUT_MS)), TakeResult::Request(_)));
}

#[test]
fn an_empty_pool_is_not_asked_again_for_a_moment() {
    let now = Timestamp(1_000);
    let mut local = LocalQuota::default();
    assert!(matches!(local.take(now), TakeResult::Request(_)));
    local.block(QuotaState { left: 0, reset_ms: 30_000 }, now);
    assert_eq!(local.take(now.plus_ms(MAX_BLOCK_MS - 1)), TakeResult::Exhausted);
    assert!(local.is_exhausted(now.plus_ms(29_999)) && !local.is_exhausted(now.plus_ms(30_000)));
    assert!(matches!(local.take(now.plus_ms(MAX_BLOCK_MS)), TakeResult::Request(_)));
}

#[test]
fn a_returned_token_can_be_used_again() {
    let now = Timestamp(1_000);
    let mut local = LocalQuota::default();
    local.receive(
        QuotaLease { number: QuotaLeaseNumber::of(5), tokens: 3, scarce: false },
        QuotaState::default(),
        now,
        now,
    );
    assert_eq!(local.take(now), TakeResult::Taken(QuotaLeaseNumber::of(5)));
    assert_eq!(local.return_token(QuotaLeaseNumber::of(5)), None);
    assert_eq!(local.state(now).left, 2);
    assert_eq!(
        local.return_token(QuotaLeaseNumber::of(4)),
        Some(LeaseReport { number: QuotaLeaseNumber::of(4), used: 0 })
    );
    assert!(local.has_unreported(QuotaLeaseNumber::of(5)));
    // Used since the last call: kept. Not used: released.
    assert_eq!(local.release_unused(QuotaLeaseNumber::of(5), now), None);
    assert_eq!(
        local.release_unused(QuotaLeaseNumber::of(5), now),
        Some(LeaseReport { number: QuotaLeaseNumber::of(5), used: 1 })
    );
    assert!(!local.has_unreported(QuotaLeaseNumber::of(5)));
}

#[test]
fn a_lease_that_arrives_too_late_is_not_used() {
    let now = Timestamp(1_000);
    let mut local = LocalQuota::default();
    let late = now.plus_ms(QUOTA_LEASE_MS);
    assert!(!local.receive(
        QuotaLease { number: QuotaLeaseNumber::of(5), tokens: 3, scarce: false },
        QuotaState::default(),
        now,
        late
    ));
    match local.take(late) {
        TakeResult::Request(request) => {
            assert_eq!(request.reports, [LeaseReport { number: QuotaLeaseNumber::of(5), used: 0 }])
        }
        other => panic!("{other:?}"),
    }
}
