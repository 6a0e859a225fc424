//! One stream over several objects: the hub, which has the log, and shards, which hold the sockets it has no room for.
//!
//! A shard joins before its first socket, and from then on the hub pushes what follows what the shard has, one push at
//! a time. The shard remembers on disk how far it is (`reached`): its live sockets have everything up to there, once.
//! So the hub needs to remember only which shards there are, and asks after a restart. A shard without sockets says
//! so when it is pushed something, and is let go. Every joining begins an era: what is heard of an older one is void.

use std::collections::BTreeMap;

/// A tenant's shards at most.
pub const MAX_SHARDS: u16 = 15;

/// Where a new socket goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Hub,
    Shard(u16),
    Nowhere,
}

/// What a shard says to a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Reached {
        reached: u64,
        sockets: usize,
    },
    /// Its joining is under way.
    Joining,
    /// It has no sockets.
    Gone,
}

/// A push to be made: what follows `after`. Without it the shard is only asked how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Push {
    pub era: u64,
    pub after: Option<u64>,
}

#[derive(Debug, Default)]
struct Shard {
    /// Nothing before it has joined.
    era: Option<u64>,
    reached: Option<u64>,
    /// As it said last, and those sent there since.
    sockets: usize,
    pushing: bool,
}

/// The shards as the hub knows them.
#[derive(Debug)]
pub struct Shards {
    known: BTreeMap<u16, Shard>,
    /// Sockets an object holds before others go elsewhere.
    bound: usize,
    eras: u64,
}

impl Shards {
    /// With the shards that had joined before.
    pub fn restore(bound: usize, joined: impl IntoIterator<Item = u16>) -> Self {
        let mut shards = Self { known: BTreeMap::new(), bound, eras: 0 };
        for number in joined {
            let era = shards.next_era();
            shards.known.insert(number, Shard { era: Some(era), ..Shard::default() });
        }
        shards
    }

    fn next_era(&mut self) -> u64 {
        self.eras += 1;
        self.eras
    }

    /// Where a socket goes when the hub has so many of its own. The shard with the fewest is filled first.
    pub fn place(&mut self, own: usize) -> Place {
        if own < self.bound {
            return Place::Hub;
        }
        let with_room = self.known.iter_mut().filter(|(_, shard)| shard.sockets < self.bound);
        if let Some((number, shard)) = with_room.min_by_key(|(_, shard)| shard.sockets) {
            shard.sockets += 1;
            return Place::Shard(*number);
        }
        match (1..=MAX_SHARDS).find(|number| !self.known.contains_key(number)) {
            Some(number) => {
                self.known.insert(number, Shard { sockets: 1, ..Shard::default() });
                Place::Shard(number)
            }
            None => Place::Nowhere,
        }
    }

    /// A shard joins. It may have joined before, so only itself knows how far it is.
    pub fn join(&mut self, number: u16) {
        let era = self.next_era();
        let shard = self.known.entry(number).or_default();
        shard.era = Some(era);
        shard.reached = None;
    }

    pub fn joined(&self) -> impl Iterator<Item = u16> {
        self.known.iter().filter(|(_, shard)| shard.era.is_some()).map(|(number, _)| *number)
    }

    /// Those nobody is pushing to and who lack something of a log that ends with `last`; whoever asks pushes now.
    pub fn lacking(&mut self, last: u64) -> Vec<u16> {
        let lacks = |shard: &Shard| shard.era.is_some() && !shard.pushing && shard.reached != Some(last);
        let lacking = self.known.iter_mut().filter(|(_, shard)| lacks(shard));
        lacking
            .map(|(number, shard)| {
                shard.pushing = true;
                *number
            })
            .collect()
    }

    /// The next push to a shard; nothing when it has everything or is gone.
    pub fn next(&mut self, number: u16, last: u64) -> Option<Push> {
        let shard = self.known.get_mut(&number)?;
        shard.pushing = false;
        let era = shard.era?;
        if shard.reached == Some(last) {
            return None;
        }
        shard.pushing = true;
        Some(Push { era, after: shard.reached })
    }

    /// What a shard said to a push; true when it was let go.
    pub fn heard(&mut self, number: u16, era: u64, heard: Heard) -> bool {
        let Some(shard) = self.known.get_mut(&number).filter(|shard| shard.era == Some(era)) else {
            return false;
        };
        match heard {
            Heard::Reached { reached, sockets } => {
                shard.reached = Some(reached);
                shard.sockets = sockets;
                false
            }
            Heard::Joining => false,
            Heard::Gone => {
                self.known.remove(&number);
                true
            }
        }
    }

    /// Nobody is pushing to it any more, for now.
    pub fn rest(&mut self, number: u16) {
        if let Some(shard) = self.known.get_mut(&number) {
            shard.pushing = false;
        }
    }
}

/// What a shard does with a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Sends its live sockets what lies behind this; nothing may.
    After(u64),
    /// Something before the push is missing.
    Lacks(u64),
    Joining,
    Gone,
}

/// How far a shard is.
#[derive(Debug, Default)]
pub struct Reach {
    reached: Option<u64>,
    joining: usize,
}

impl Reach {
    /// As it is on disk.
    pub fn restore(reached: Option<u64>) -> Self {
        Self { reached, joining: 0 }
    }

    pub fn reached(&self) -> Option<u64> {
        self.reached
    }

    pub fn begin_to_join(&mut self) {
        self.joining += 1;
    }

    /// The hub has answered, or not.
    pub fn end_to_join(&mut self, last: Option<u64>) {
        self.joining -= 1;
        self.reached = self.reached.or(last);
    }

    /// What lies before is no longer to be had.
    pub fn skip_to(&mut self, reached: u64) {
        self.reached = self.reached.map(|before| before.max(reached));
    }

    /// What was taken could not be kept.
    pub fn take_back(&mut self, reached: u64) {
        self.reached = Some(reached);
    }

    /// A push of what lies behind `after` up to `last`.
    pub fn take(&mut self, after: Option<u64>, last: u64, has_sockets: bool) -> Taken {
        if self.joining > 0 && self.reached.is_none() {
            return Taken::Joining;
        }
        // Who is joining is about to have one.
        let Some(reached) = self.reached.filter(|_| has_sockets || self.joining > 0) else {
            self.reached = None;
            return Taken::Gone;
        };
        match after {
            Some(after) if after <= reached => {
                self.reached = Some(reached.max(last));
                Taken::After(reached)
            }
            _ => Taken::Lacks(reached),
        }
    }
}

#[cfg(test)]
mod tests;
