use proptest::prelude::*;

use super::*;

#[test]
fn a_hub_with_room_needs_no_shard() {
    let mut shards = Shards::restore(2, []);
    assert_eq!(shards.place(0), Place::Hub);
    assert_eq!(shards.place(1), Place::Hub);
    assert_eq!(shards.place(2), Place::Shard(1));
}

#[test]
fn shards_are_filled_evenly_and_opened_when_all_are_full() {
    let mut shards = Shards::restore(2, []);
    let placed: Vec<Place> = (0..6).map(|_| shards.place(2)).collect();
    assert_eq!(placed, [1, 1, 2, 2, 3, 3].map(Place::Shard));
    shards.join(2);
    let push = shards.next(2, 1).unwrap();
    shards.heard(2, push.era, Heard::Reached { reached: 1, sockets: 0 });
    assert_eq!(shards.place(2), Place::Shard(2), "some of its sockets have closed");
}

#[test]
fn when_all_are_full_a_socket_goes_nowhere() {
    let mut shards = Shards::restore(1, []);
    for number in 1..=MAX_SHARDS {
        assert_eq!(shards.place(1), Place::Shard(number));
    }
    assert_eq!(shards.place(1), Place::Nowhere);
    assert_eq!(shards.place(0), Place::Hub);
}

#[test]
fn a_shard_that_was_let_go_while_it_joined_again_stays() {
    let mut shards = Shards::restore(1, []);
    shards.join(1);
    let push = shards.next(1, 6).unwrap();
    shards.join(1);
    assert!(!shards.heard(1, push.era, Heard::Gone), "said before it joined again");
    assert_eq!(shards.joined().collect::<Vec<_>>(), [1]);
}

#[test]
fn after_a_restart_a_shard_is_asked_how_far_it_is() {
    let mut shards = Shards::restore(1, [3]);
    assert_eq!(shards.lacking(9), [3]);
    let push = shards.next(3, 9).unwrap();
    assert_eq!(push.after, None);
    let mut reach = Reach::restore(Some(7));
    assert_eq!(reach.take(push.after, 9, true), Taken::Lacks(7));
    shards.heard(3, push.era, Heard::Reached { reached: 7, sockets: 1 });
    assert_eq!(shards.next(3, 9).unwrap().after, Some(7));
}

/// A world of one hub and one shard whose messages are lost, late and out of order; sequences stand for events.
#[derive(Default)]
struct World {
    last: u64,
    /// On the hub's disk.
    kept: Vec<u16>,
    reach: Reach,
    /// Live sockets: from where on, and what they got.
    sockets: Vec<(u64, Vec<u64>)>,
    /// Pushes under way, with the log's end when they were made.
    pushes: Vec<(Push, u64)>,
    /// What was said to a push, on its way back.
    said: Vec<(u64, Heard)>,
    joins: usize,
    joined: Vec<u64>,
    /// Sockets that wait for a joining to end.
    waiting: usize,
}

#[derive(Debug, Clone)]
enum Move {
    Append(u64),
    Open,
    Close(usize),
    /// The hub makes a push, as often as it likes: one given up may still arrive.
    Push,
    ArrivePush(usize),
    ArriveSaid(usize),
    ArriveJoin,
    ArriveJoined(usize),
    LosePush(usize),
    LoseSaid(usize),
    LoseJoin,
    RestartHub,
    EvictShard,
}

impl World {
    fn open(&mut self) {
        match self.reach.reached() {
            Some(at) => self.sockets.push((at, Vec::new())),
            None => {
                self.reach.begin_to_join();
                self.joins += 1;
                self.waiting += 1;
            }
        }
    }

    fn end_join(&mut self, last: Option<u64>) {
        self.reach.end_to_join(last);
        self.waiting -= 1;
        if let Some(at) = self.reach.reached() {
            self.sockets.push((at, Vec::new()));
        }
    }

    fn take(&mut self, push: Push, end: u64) -> Heard {
        match self.reach.take(push.after, end, !self.sockets.is_empty()) {
            Taken::After(from) => {
                for (_, got) in &mut self.sockets {
                    got.extend(from + 1..=end);
                }
                Heard::Reached { reached: self.reach.reached().unwrap(), sockets: self.sockets.len() }
            }
            Taken::Lacks(reached) => Heard::Reached { reached, sockets: self.sockets.len() },
            Taken::Joining => Heard::Joining,
            Taken::Gone => Heard::Gone,
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each move")]
    fn step(&mut self, shards: &mut Shards, step: &Move) {
        let at = |index: usize, len: usize| (len > 0).then(|| index % len.max(1));
        match *step {
            Move::Append(count) => self.last += count,
            Move::Open => self.open(),
            Move::Close(index) => {
                if let Some(index) = at(index, self.sockets.len()) {
                    self.sockets.remove(index);
                }
            }
            Move::Push => {
                if let Some(push) = shards.next(1, self.last) {
                    self.pushes.push((push, self.last));
                }
            }
            Move::ArrivePush(index) => {
                if let Some(index) = at(index, self.pushes.len()) {
                    let (push, end) = self.pushes.remove(index);
                    let heard = self.take(push, end);
                    self.said.push((push.era, heard));
                }
            }
            Move::ArriveSaid(index) => {
                if let Some(index) = at(index, self.said.len()) {
                    let (era, heard) = self.said.remove(index);
                    if shards.heard(1, era, heard) {
                        self.kept.clear();
                    }
                }
            }
            Move::ArriveJoin => {
                if self.joins > 0 {
                    self.joins -= 1;
                    shards.join(1);
                    self.kept = vec![1];
                    self.joined.push(self.last);
                }
            }
            Move::ArriveJoined(index) => {
                if let Some(index) = at(index, self.joined.len()) {
                    let last = self.joined.remove(index);
                    self.end_join(Some(last));
                }
            }
            Move::LosePush(index) => {
                if let Some(index) = at(index, self.pushes.len()) {
                    self.pushes.remove(index);
                }
            }
            Move::LoseSaid(index) => {
                if let Some(index) = at(index, self.said.len()) {
                    self.said.remove(index);
                }
            }
            Move::LoseJoin => {
                if self.joins > 0 {
                    self.joins -= 1;
                    self.end_join(None);
                }
            }
            Move::RestartHub => {
                *shards = Shards::restore(1, self.kept.clone());
                // What it waited for it does not hear any more; joinings fail and are given up.
                self.said.clear();
                for (push, _) in &mut self.pushes {
                    push.era = 0;
                }
                for _ in 0..std::mem::take(&mut self.joins) {
                    self.end_join(None);
                }
            }
            Move::EvictShard => {
                // An object with a call under way is not evicted.
                if self.waiting == 0 {
                    self.reach = Reach::restore(self.reach.reached());
                }
            }
        }
    }

    fn check(&self) {
        for (from, got) in &self.sockets {
            let end = from + got.len() as u64;
            assert_eq!(*got, (from + 1..=end).collect::<Vec<_>>(), "in order, each once");
            assert_eq!(Some(end), self.reach.reached(), "a live socket has what its shard has");
        }
    }
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => (1u64..5).prop_map(Move::Append),
        2 => Just(Move::Open),
        2 => any::<usize>().prop_map(Move::Close),
        4 => Just(Move::Push),
        4 => any::<usize>().prop_map(Move::ArrivePush),
        4 => any::<usize>().prop_map(Move::ArriveSaid),
        3 => Just(Move::ArriveJoin),
        3 => any::<usize>().prop_map(Move::ArriveJoined),
        1 => any::<usize>().prop_map(Move::LosePush),
        1 => any::<usize>().prop_map(Move::LoseSaid),
        1 => Just(Move::LoseJoin),
        1 => Just(Move::RestartHub),
        1 => Just(Move::EvictShard),
    ]
}

proptest! {
    #[test]
    fn every_live_socket_gets_every_event_once_and_in_order(steps in proptest::collection::vec(moves(), 0..120)) {
        let mut world = World::default();
        let mut shards = Shards::restore(1, []);
        for step in &steps {
            world.step(&mut shards, step);
            world.check();
        }
        // When nothing goes wrong any more, everybody gets everything.
        for _ in 0..world.joins {
            world.step(&mut shards, &Move::ArriveJoin);
        }
        while !world.joined.is_empty() {
            world.step(&mut shards, &Move::ArriveJoined(0));
        }
        for _ in 0..6 {
            world.step(&mut shards, &Move::Push);
            while !world.pushes.is_empty() {
                world.step(&mut shards, &Move::ArrivePush(0));
            }
            while !world.said.is_empty() {
                world.step(&mut shards, &Move::ArriveSaid(0));
            }
        }
        world.check();
        for (from, got) in &world.sockets {
            prop_assert_eq!(from + got.len() as u64, world.last, "up to the log's end");
        }
    }
}
