//! Purses and a bucket together: many isolates, messages that are late or lost, isolates and buckets that die.

use super::*;
use crate::limits::quota_pool::{Bucket, Kept, Rule};
use proptest::prelude::*;

/// What is on its way.
enum Flight {
    Ask { isolate: usize, life: u32, asked_at: Timestamp, wish: Wish },
    Reply { isolate: usize, life: u32, asked_at: Timestamp, given: Option<(Portion, Timestamp)>, standing: Standing },
    Report(Report),
}

struct World {
    now: Timestamp,
    rule: Rule,
    bucket: Bucket,
    disk: Kept,
    purses: Vec<(Purse, u32)>,
    flights: Vec<(Timestamp, Flight)>,
    /// When each request was let through: by whoever decided that.
    admitted: Vec<Timestamp>,
    asks: u64,
}

impl World {
    fn new(rule: Rule, isolates: usize) -> Self {
        let now = Timestamp(1_000_000);
        Self {
            now,
            rule,
            bucket: Bucket::new(rule, now),
            disk: Kept::default(),
            purses: vec![(Purse::default(), 0); isolates],
            flights: Vec::new(),
            admitted: Vec::new(),
            asks: 0,
        }
    }

    /// The clocks of isolates and of the bucket have nothing to do with each other.
    fn clock(&self, isolate: usize) -> Timestamp {
        self.now.plus_ms(isolate as u64 * 77_777)
    }

    fn send(&mut self, delay_ms: u64, flight: Flight) {
        self.flights.push((self.now.plus_ms(delay_ms), flight));
    }

    fn request(&mut self, isolate: usize, delay_ms: u64) {
        let clock = self.clock(isolate);
        let (purse, life) = &mut self.purses[isolate];
        let life = *life;
        match purse.take(clock) {
            Step::Taken(_) => self.admitted.push(self.now),
            Step::Ask(wish) => {
                self.asks += 1;
                self.send(delay_ms, Flight::Ask { isolate, life, asked_at: clock, wish });
            }
            Step::Wait | Step::Refused => {}
        }
    }

    /// Lets time pass and takes what arrives meanwhile; `lose` says what does not.
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
            Flight::Report(report) => self.bucket.report(report, self.now),
            Flight::Ask { isolate, life, asked_at, wish } => {
                for report in wish.reports {
                    self.bucket.report(report, self.now);
                }
                let given = self.bucket.take(wish.wanted, self.now).map(|portion| (portion, self.now));
                self.disk = self.bucket.to_keep().unwrap_or_else(|| self.disk.clone());
                let standing = self.bucket.standing(self.now);
                self.send(delay_ms, Flight::Reply { isolate, life, asked_at, given, standing });
            }
            Flight::Reply { isolate, life, asked_at, given, standing } => {
                let clock = self.clock(isolate);
                let (purse, alive) = &mut self.purses[isolate];
                if *alive != life {
                    return;
                }
                match given {
                    Some((portion, given_at)) => {
                        if purse.given(portion, standing, asked_at, clock) {
                            // A single token counts as used when the bucket gave it.
                            self.admitted.push(if portion.tokens == 1 { given_at } else { self.now });
                        }
                    }
                    None => purse.refused(standing, clock),
                }
            }
        }
    }

    fn give_up_all(&mut self, isolate: usize, delay_ms: u64) {
        let clock = self.clock(isolate);
        let (purse, _) = &mut self.purses[isolate];
        let numbers: Vec<u64> =
            purse.held.iter().map(|held| held.number).chain(purse.reports.iter().map(|one| one.number)).collect();
        let reports: Vec<Report> = numbers.into_iter().filter_map(|number| purse.give_up(number, clock)).collect();
        for report in reports {
            self.send(delay_ms, Flight::Report(report));
        }
    }

    /// The most that was let through in any window.
    fn most_in_a_window(&mut self) -> u64 {
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
    GivesUp { isolate: usize },
    IsolateDies { isolate: usize },
    BucketDies,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        20 => (0usize..4, 1usize..30).prop_map(|(isolate, count)| Happens::Requests { isolate, count }),
        3 => (0usize..4).prop_map(|isolate| Happens::GivesUp { isolate }),
        1 => (0usize..4).prop_map(|isolate| Happens::IsolateDies { isolate }),
        1 => Just(Happens::BucketDies),
    ]
}

proptest! {
    #[test]
    fn no_window_sees_more_than_the_quota_whatever_is_lost_late_or_dies(
        quota in 1u64..120,
        window_ms in 500u64..20_000,
        steps in prop::collection::vec((happens(), 0u64..1_500, 0u64..2_500, prop::bits::u8::ANY), 1..80),
    ) {
        let mut world = World::new(Rule { quota, window_ms }, 4);
        for (happens, ms, delay_ms, losses) in steps {
            match happens {
                Happens::Requests { isolate, count } => {
                    for _ in 0..count {
                        world.request(isolate, delay_ms);
                    }
                }
                Happens::GivesUp { isolate } => world.give_up_all(isolate, delay_ms),
                Happens::IsolateDies { isolate } => {
                    let life = world.purses[isolate].1 + 1;
                    world.purses[isolate] = (Purse::default(), life);
                }
                Happens::BucketDies => world.bucket = Bucket::restore(&world.disk, world.rule, world.now),
            }
            let mut turn = 0;
            world.pass(ms, delay_ms / 2, || {
                turn += 1;
                losses >> (turn % 8) & 1 == 1 && losses % 3 == 0
            });
            let in_all = world.most_in_a_window();
            prop_assert!(in_all <= quota, "{in_all} within {window_ms} ms of at most {quota}");
        }
    }

    #[test]
    fn isolates_that_want_more_than_there_is_get_exactly_the_quota(
        quota in 1u64..400, isolates in 1usize..5, picks in prop::collection::vec(0usize..5, 50..51),
    ) {
        let mut world = World::new(Rule { quota, window_ms: 3_600_000 }, isolates);
        for turn in 0..quota as usize * 3 {
            let isolate = picks[turn % picks.len()] % isolates;
            world.request(isolate, 1);
            world.pass(3, 1, || false);
        }
        // What one has and does not want comes back for another.
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
        let mut world = World::new(Rule { quota, window_ms: 60_000 }, 1);
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
fn others_wait_for_the_one_that_asks_unless_little_is_left() {
    let now = Timestamp(1_000);
    let mut purse = Purse::default();
    let ask = |purse: &mut Purse| match purse.take(now) {
        Step::Ask(wish) => wish.wanted,
        other => panic!("{other:?}"),
    };
    // Nothing is known yet: everybody asks.
    assert_eq!((ask(&mut purse), ask(&mut purse)), (1, 1));
    let standing = Standing { left: 500, reset_ms: 9_000 };
    assert!(purse.given(Portion { number: 1, tokens: 1, scarce: false }, standing, now, now));
    assert_eq!(ask(&mut purse), 2);
    assert_eq!(purse.take(now), Step::Wait);
    assert!(purse.given(Portion { number: 2, tokens: 2, scarce: false }, standing, now, now));
    assert_eq!(purse.standing(now), Standing { left: 501, reset_ms: 9_000 });
    assert_eq!(purse.take(now), Step::Taken(2));
    assert_eq!(ask(&mut purse), 4);
    assert!(purse.given(Portion { number: 3, tokens: 1, scarce: true }, standing, now, now));
    assert_eq!((ask(&mut purse), ask(&mut purse)), (1, 1));
    // Who was to ask and did not come back does not keep others for ever.
    purse.scarce = false;
    assert_eq!(purse.take(now), Step::Wait);
    assert!(matches!(purse.take(now.plus_ms(PATIENCE_MS)), Step::Ask(_)));
}

#[test]
fn a_refusal_is_believed_for_a_moment() {
    let now = Timestamp(1_000);
    let mut purse = Purse::default();
    assert!(matches!(purse.take(now), Step::Ask(_)));
    purse.refused(Standing { left: 0, reset_ms: 30_000 }, now);
    assert_eq!(purse.take(now.plus_ms(SHUT_MS - 1)), Step::Refused);
    assert!(purse.is_spent(now.plus_ms(29_999)) && !purse.is_spent(now.plus_ms(30_000)));
    assert!(matches!(purse.take(now.plus_ms(SHUT_MS)), Step::Ask(_)));
}

#[test]
fn a_token_that_was_not_needed_is_there_for_the_next() {
    let now = Timestamp(1_000);
    let mut purse = Purse::default();
    purse.given(Portion { number: 5, tokens: 3, scarce: false }, Standing::default(), now, now);
    assert_eq!(purse.take(now), Step::Taken(5));
    assert_eq!(purse.put_back(5), None);
    assert_eq!(purse.standing(now).left, 2);
    assert_eq!(purse.put_back(4), Some(Report { number: 4, used: 0 }));
    assert!(purse.has(5));
    // Used since: it is kept. Not used since: it is given up.
    assert_eq!(purse.give_up(5, now), None);
    assert_eq!(purse.give_up(5, now), Some(Report { number: 5, used: 1 }));
    assert!(!purse.has(5));
}

#[test]
fn a_portion_that_was_too_long_on_its_way_is_not_used() {
    let now = Timestamp(1_000);
    let mut purse = Purse::default();
    let late = now.plus_ms(PORTION_MS);
    assert!(!purse.given(Portion { number: 5, tokens: 3, scarce: false }, Standing::default(), now, late));
    match purse.take(late) {
        Step::Ask(wish) => assert_eq!(wish.reports, [Report { number: 5, used: 0 }]),
        other => panic!("{other:?}"),
    }
}
