//! One stream over several objects: the hub, which has the log, and shards, which hold the sockets that the hub has no
//! room for.
//!
//! A shard joins before its first socket; from then on the hub pushes the events after the shard's position, one push
//! at a time. The shard persists its position (`reached`): its live sockets have received everything up to there
//! exactly once. So the hub only needs to remember which shards exist, and asks them for their positions after a
//! restart. A shard without sockets reports that when it receives a push, and is removed. Every joining begins a
//! generation; replies of an older generation are ignored.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::sequence::Sequence;

/// The maximum number of shards of a tenant.
pub const MAX_SHARDS: u16 = 15;

/// The number of a shard, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardNumber(NonZeroU16);

impl ShardNumber {
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for ShardNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which object a new socket goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    Hub,
    Shard(ShardNumber),
    Nowhere,
}

/// A shard's reply to a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushReply {
    Reached {
        reached: Sequence,
        sockets: usize,
    },
    /// The shard is joining.
    Joining,
    /// The shard has no sockets.
    Gone,
}

/// A push: the events after `after`. Without `after`, the shard is only asked for its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Push {
    pub generation: u64,
    pub after: Option<Sequence>,
}

#[derive(Debug, Default)]
struct Shard {
    /// `None` until it has joined.
    generation: Option<u64>,
    reached: Option<Sequence>,
    /// As last reported, plus the sockets sent there since.
    sockets: usize,
    pushing: bool,
}

/// The shards as the hub knows them.
#[derive(Debug)]
pub struct Shards {
    known: BTreeMap<ShardNumber, Shard>,
    /// The maximum number of sockets in one object.
    bound: usize,
    generations: u64,
}

impl Shards {
    /// Restores the shards that had joined.
    pub fn restore(bound: usize, joined: impl IntoIterator<Item = ShardNumber>) -> Self {
        let mut shards = Self { known: BTreeMap::new(), bound, generations: 0 };
        for number in joined {
            let generation = shards.next_era();
            shards.known.insert(number, Shard { generation: Some(generation), ..Shard::default() });
        }
        shards
    }

    fn next_era(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }

    /// Where a new socket goes if the hub holds `own` sockets. The shard with the fewest sockets is filled first.
    pub fn place(&mut self, own: usize) -> Placement {
        if own < self.bound {
            return Placement::Hub;
        }
        let with_room = self.known.iter_mut().filter(|(_, shard)| shard.sockets < self.bound);
        if let Some((number, shard)) = with_room.min_by_key(|(_, shard)| shard.sockets) {
            shard.sockets += 1;
            return Placement::Shard(*number);
        }
        match (1..=MAX_SHARDS).filter_map(ShardNumber::new).find(|number| !self.known.contains_key(number)) {
            Some(number) => {
                self.known.insert(number, Shard { sockets: 1, ..Shard::default() });
                Placement::Shard(number)
            }
            None => Placement::Nowhere,
        }
    }

    /// Records that a shard joined. It may have joined before, so only the shard knows its position.
    pub fn join(&mut self, number: ShardNumber) {
        let generation = self.next_era();
        let shard = self.known.entry(number).or_default();
        shard.generation = Some(generation);
        shard.reached = None;
    }

    /// The numbers of the shards that have joined.
    pub fn joined(&self) -> impl Iterator<Item = ShardNumber> {
        self.known.iter().filter(|(_, shard)| shard.generation.is_some()).map(|(number, _)| *number)
    }

    /// The shards that lack events of a log that ends with `last` and are not being pushed to; the caller must push to
    /// them now.
    pub fn shards_behind(&mut self, last: Sequence) -> Vec<ShardNumber> {
        let lacks = |shard: &Shard| shard.generation.is_some() && !shard.pushing && shard.reached != Some(last);
        let shards_behind = self.known.iter_mut().filter(|(_, shard)| lacks(shard));
        shards_behind
            .map(|(number, shard)| {
                shard.pushing = true;
                *number
            })
            .collect()
    }

    /// The next push to a shard; `None` if it has everything or is gone.
    pub fn next(&mut self, number: ShardNumber, last: Sequence) -> Option<Push> {
        let shard = self.known.get_mut(&number)?;
        shard.pushing = false;
        let generation = shard.generation?;
        if shard.reached == Some(last) {
            return None;
        }
        shard.pushing = true;
        Some(Push { generation, after: shard.reached })
    }

    /// Handles a shard's reply to a push; true if the shard was removed.
    pub fn handle_reply(&mut self, number: ShardNumber, generation: u64, reply: PushReply) -> bool {
        let Some(shard) = self.known.get_mut(&number).filter(|shard| shard.generation == Some(generation)) else {
            return false;
        };
        match reply {
            PushReply::Reached { reached, sockets } => {
                shard.reached = Some(reached);
                shard.sockets = sockets;
                false
            }
            PushReply::Joining => false,
            PushReply::Gone => {
                self.known.remove(&number);
                true
            }
        }
    }

    /// Stops pushing to a shard for now.
    pub fn pause(&mut self, number: ShardNumber) {
        if let Some(shard) = self.known.get_mut(&number) {
            shard.pushing = false;
        }
    }
}

/// What a shard does with a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushDecision {
    /// It sends its live sockets the events after this one, if there are any.
    SendAfter(Sequence),
    /// Events before the push are missing.
    Missing(Sequence),
    Joining,
    Gone,
}

/// The position of a shard.
#[derive(Debug, Default)]
pub struct ShardPosition {
    reached: Option<Sequence>,
    joining: usize,
}

impl ShardPosition {
    /// Restores the persisted position.
    pub fn restore(reached: Option<Sequence>) -> Self {
        Self { reached, joining: 0 }
    }

    /// The position, if the shard has joined.
    pub fn reached(&self) -> Option<Sequence> {
        self.reached
    }

    /// Begins to join.
    pub fn begin_joining(&mut self) {
        self.joining += 1;
    }

    /// Ends a joining with the hub's answer, if there was one.
    pub fn end_joining(&mut self, last: Option<Sequence>) {
        self.joining -= 1;
        self.reached = self.reached.or(last);
    }

    /// Skips events that have been deleted.
    pub fn skip_to(&mut self, reached: Sequence) {
        self.reached = self.reached.map(|before| before.max(reached));
    }

    /// Reverts to a position, after events that were taken could not be stored.
    pub fn revert_to(&mut self, reached: Sequence) {
        self.reached = Some(reached);
    }

    /// Decides about a push of the events after `after` up to `last`.
    pub fn take(&mut self, after: Option<Sequence>, last: Sequence, has_sockets: bool) -> PushDecision {
        if self.joining > 0 && self.reached.is_none() {
            return PushDecision::Joining;
        }
        // A joining shard is about to get a socket.
        let Some(reached) = self.reached.filter(|_| has_sockets || self.joining > 0) else {
            self.reached = None;
            return PushDecision::Gone;
        };
        match after {
            Some(after) if after <= reached => {
                self.reached = Some(reached.max(last));
                PushDecision::SendAfter(reached)
            }
            _ => PushDecision::Missing(reached),
        }
    }
}

#[cfg(test)]
mod tests;
