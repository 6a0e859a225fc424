use proptest::prelude::*;

use super::*;

fn at(sequence: u64) -> Sequence {
    Sequence::from_stored(sequence)
}

fn shard(number: u16) -> ShardNumber {
    ShardNumber::new(number).unwrap()
}

#[test]
fn a_hub_with_room_needs_no_shard() {
    let mut shards = Shards::restore(2, []);
    assert_eq!(shards.place(0), Placement::Hub);
    assert_eq!(shards.place(1), Placement::Hub);
    assert_eq!(shards.place(2), Placement::Shard(shard(1)));
}

#[test]
fn shards_are_filled_evenly_and_opened_when_all_are_full() {
    let mut shards = Shards::restore(2, []);
    let placed: Vec<Placement> = (0..6).map(|_| shards.place(2)).collect();
    assert_eq!(placed, [1, 1, 2, 2, 3, 3].map(|number| Placement::Shard(shard(number))));
    shards.join(shard(2));
    let push = shards.next(shard(2), at(1)).unwrap();
    shards.handle_reply(shard(2), push.generation, PushReply::Reached { reached: at(1), sockets: 0 });
    assert_eq!(shards.place(2), Placement::Shard(shard(2)), "some of its sockets have closed");
}

#[test]
fn when_all_are_full_a_socket_goes_nowhere() {
    let mut shards = Shards::restore(1, []);
    for number in 1..=MAX_SHARDS {
        assert_eq!(shards.place(1), Placement::Shard(shard(number)));
    }
    assert_eq!(shards.place(1), Placement::Nowhere);
    assert_eq!(shards.place(0), Placement::Hub);
}

#[test]
fn a_shard_that_was_let_go_while_it_joined_again_stays() {
    let mut shards = Shards::restore(1, []);
    shards.join(shard(1));
    let push = shards.next(shard(1), at(6)).unwrap();
    shards.join(shard(1));
    assert!(!shards.handle_reply(shard(1), push.generation, PushReply::Gone), "said before it joined again");
    assert_eq!(shards.joined().collect::<Vec<_>>(), [shard(1)]);
}

#[test]
fn after_a_restart_a_shard_is_asked_for_its_position() {
    let mut shards = Shards::restore(1, [shard(3)]);
    assert_eq!(shards.shards_behind(at(9)), [shard(3)]);
    let push = shards.next(shard(3), at(9)).unwrap();
    assert_eq!(push.after, None);
    let mut reach = ShardPosition::restore(Some(at(7)));
    assert_eq!(reach.take(push.after, at(9), true), PushDecision::Missing(at(7)));
    shards.handle_reply(shard(3), push.generation, PushReply::Reached { reached: at(7), sockets: 1 });
    assert_eq!(shards.next(shard(3), at(9)).unwrap().after, Some(at(7)));
}

/// The sequences after `from` up to `end`.
fn between(from: Sequence, end: Sequence) -> impl Iterator<Item = Sequence> {
    (from.get() + 1..=end.get()).map(at)
}

/// A world of one hub and one shard whose messages are lost, late and out of order; sequences stand for events.
#[derive(Default)]
struct World {
    last: Sequence,
    /// On the hub's disk.
    kept: Vec<ShardNumber>,
    reach: ShardPosition,
    /// Live sockets: where each began, and what it received.
    sockets: Vec<(Sequence, Vec<Sequence>)>,
    /// Pushes in transit, with the end of the log when they were made.
    pushes: Vec<(Push, Sequence)>,
    /// Replies to pushes, in transit.
    said: Vec<(u64, PushReply)>,
    joins: usize,
    joined: Vec<Sequence>,
    /// Sockets that wait for a joining to end.
    waiting: usize,
}

#[derive(Debug, Clone)]
enum Move {
    Append(u64),
    Open,
    Close(usize),
    /// The hub makes a push at any time: one that timed out may still arrive.
    Push,
    ArrivePush(usize),
    DeliverReply(usize),
    ArriveJoin,
    ArriveJoined(usize),
    LosePush(usize),
    LoseReply(usize),
    LoseJoin,
    RestartHub,
    EvictShard,
}

impl World {
    fn open(&mut self) {
        match self.reach.reached() {
            Some(at) => self.sockets.push((at, Vec::new())),
            None => {
                self.reach.begin_joining();
                self.joins += 1;
                self.waiting += 1;
            }
        }
    }

    fn end_join(&mut self, last: Option<Sequence>) {
        self.reach.end_joining(last);
        self.waiting -= 1;
        if let Some(at) = self.reach.reached() {
            self.sockets.push((at, Vec::new()));
        }
    }

    fn take(&mut self, push: Push, end: Sequence) -> PushReply {
        match self.reach.take(push.after, end, !self.sockets.is_empty()) {
            PushDecision::SendAfter(from) => {
                for (_, got) in &mut self.sockets {
                    got.extend(between(from, end));
                }
                PushReply::Reached { reached: self.reach.reached().unwrap(), sockets: self.sockets.len() }
            }
            PushDecision::Missing(reached) => PushReply::Reached { reached, sockets: self.sockets.len() },
            PushDecision::Joining => PushReply::Joining,
            PushDecision::Gone => PushReply::Gone,
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each move")]
    fn step(&mut self, shards: &mut Shards, step: &Move) {
        let at = |index: usize, len: usize| (len > 0).then(|| index % len.max(1));
        match *step {
            Move::Append(count) => self.last = self.last.plus(count),
            Move::Open => self.open(),
            Move::Close(index) => {
                if let Some(index) = at(index, self.sockets.len()) {
                    self.sockets.remove(index);
                }
            }
            Move::Push => {
                if let Some(push) = shards.next(shard(1), self.last) {
                    self.pushes.push((push, self.last));
                }
            }
            Move::ArrivePush(index) => {
                if let Some(index) = at(index, self.pushes.len()) {
                    let (push, end) = self.pushes.remove(index);
                    let handle_reply = self.take(push, end);
                    self.said.push((push.generation, handle_reply));
                }
            }
            Move::DeliverReply(index) => {
                if let Some(index) = at(index, self.said.len()) {
                    let (generation, handle_reply) = self.said.remove(index);
                    if shards.handle_reply(shard(1), generation, handle_reply) {
                        self.kept.clear();
                    }
                }
            }
            Move::ArriveJoin => {
                if self.joins > 0 {
                    self.joins -= 1;
                    shards.join(shard(1));
                    self.kept = vec![shard(1)];
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
            Move::LoseReply(index) => {
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
                // It no longer gets replies it waits for; joinings fail and are given up.
                self.said.clear();
                for (push, _) in &mut self.pushes {
                    push.generation = 0;
                }
                for _ in 0..std::mem::take(&mut self.joins) {
                    self.end_join(None);
                }
            }
            Move::EvictShard => {
                // An object with a running call is not evicted.
                if self.waiting == 0 {
                    self.reach = ShardPosition::restore(self.reach.reached());
                }
            }
        }
    }

    fn check(&self) {
        for (from, got) in &self.sockets {
            let end = from.plus(got.len() as u64);
            assert_eq!(*got, between(*from, end).collect::<Vec<_>>(), "in order, each once");
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
        4 => any::<usize>().prop_map(Move::DeliverReply),
        3 => Just(Move::ArriveJoin),
        3 => any::<usize>().prop_map(Move::ArriveJoined),
        1 => any::<usize>().prop_map(Move::LosePush),
        1 => any::<usize>().prop_map(Move::LoseReply),
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
        // Once nothing fails, every socket gets everything.
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
                world.step(&mut shards, &Move::DeliverReply(0));
            }
        }
        world.check();
        for (from, got) in &world.sockets {
            prop_assert_eq!(from.plus(got.len() as u64), world.last, "up to the log's end");
        }
    }
}
