//! The permits of one service, and the line of those who wait for one.
//!
//! At most `max_concurrency` permits are out. Each is a lease: one whose holder is gone comes back. A place in the
//! line belongs to a context, not to a connection, so who comes back finds it where it was; only who is present is
//! given a permit. Next is who has the highest rank, which waiting raises: nothing starves. Within a rank the
//! principal goes first that holds the fewest permits, then the one served longest ago, then who came first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;
use crate::context::status::Priority;

/// Calls before their median is trusted.
const FEW_LATENCIES: usize = 5;
const MAX_LATENCIES: usize = 32;
/// Taken for a call's length while nobody knows.
const GUESS_MS: u64 = 1_000;
/// A median that no call has confirmed for this long says nothing any more, in milliseconds: else nobody who is in
/// a hurry would ever be started again.
const TRUST_MS: u64 = 60_000;
/// Principals remembered for when they were served last.
const MAX_SERVED: usize = 1_000;
/// Permits remembered as given back, so that a late renewal does not bring one to life again.
const MAX_RELEASED: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub max_concurrency: u64,
    pub max_queue: u64,
}

/// Who wants a permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrant {
    pub context: ContextId,
    pub principal: String,
    pub priority: Priority,
    pub deadline: Timestamp,
    /// It was accepted before and must not be turned away.
    pub admitted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    Granted(u64),
    Waiting,
    Full {
        retry_after_ms: u64,
    },
    /// What is left of its time is less than a call takes.
    TooLate,
}

/// What became of somebody in the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    Granted { context: ContextId, permit: u64 },
    TooLate { context: ContextId },
}

#[derive(Debug, Clone)]
struct Held {
    principal: String,
    until: Timestamp,
}

#[derive(Debug, Clone)]
struct Place {
    context: ContextId,
    principal: String,
    priority: Priority,
    since: Timestamp,
    deadline: Timestamp,
    present: bool,
}

/// Where a present place stands: those of one principal and priority, in the order they came.
type Lanes = BTreeMap<(String, Priority), BTreeSet<(Timestamp, u64)>>;

#[derive(Debug, Clone, Default)]
pub struct Line {
    permits: BTreeMap<u64, Held>,
    held_by: BTreeMap<String, u64>,
    places: BTreeMap<u64, Place>,
    place_of: BTreeMap<String, u64>,
    present: Lanes,
    /// Principals with when they were served last.
    served: BTreeMap<String, u64>,
    released: VecDeque<u64>,
    latencies: VecDeque<u64>,
    took_at: Timestamp,
    /// Nothing ends before this.
    ends_at: Timestamp,
    /// The number of the next permit or place.
    next: u64,
    /// No permit before this: others may still be out that are not known yet.
    closed_until: Timestamp,
    timing: Timing,
}

impl Line {
    /// `first` is larger than any number given before; `closed_until` when the last permit given before has ended.
    pub fn new(first: u64, closed_until: Timestamp, timing: Timing) -> Self {
        Self { next: first, closed_until, timing, ..Self::default() }
    }

    /// Permits that are out.
    pub fn in_flight(&self) -> u64 {
        self.permits.len() as u64
    }

    /// Whether permits may be out that are not known here.
    pub fn is_closed(&self, now: Timestamp) -> bool {
        now < self.closed_until
    }

    pub fn waiting(&self) -> u64 {
        self.places.len() as u64
    }

    /// The median of the latest calls, when there were enough.
    pub fn median_ms(&self) -> Option<u64> {
        if self.latencies.len() < FEW_LATENCIES {
            return None;
        }
        let mut sorted: Vec<u64> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// A call took this long.
    pub fn took(&mut self, latency_ms: u64, now: Timestamp) {
        self.took_at = now;
        if self.latencies.len() >= MAX_LATENCIES {
            self.latencies.pop_front();
        }
        self.latencies.push_back(latency_ms);
    }

    pub fn forget_latencies(&mut self) {
        self.latencies.clear();
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn is_too_late(&self, deadline: Timestamp, now: Timestamp) -> bool {
        let median = self.median_ms().filter(|_| now.since(self.took_at) < TRUST_MS);
        deadline <= now || median.is_some_and(|median| deadline.since(now) < median)
    }

    pub fn has_room(&self, limits: Limits, now: Timestamp) -> bool {
        now >= self.closed_until && self.in_flight() < limits.max_concurrency
    }

    /// Asks for a permit. Who is not given one has a place, is turned away, or comes too late. Who asks twice has two
    /// permits: it may be two workers with one context, of whom one will give its permit back while the other calls.
    pub fn acquire(&mut self, who: Entrant, limits: Limits, now: Timestamp, random: u64) -> Entry {
        if now >= self.ends_at {
            // A permit that has ended keeps nobody waiting.
            self.drop_ended(now);
        }
        let known = self.place_of.contains_key(who.context.as_str());
        if self.is_too_late(who.deadline, now) {
            self.leave(&who.context);
            return Entry::TooLate;
        }
        if !known && self.present.is_empty() && self.has_room(limits, now) {
            return Entry::Granted(self.grant(&who.context, who.principal, now));
        }
        if !known && !who.admitted && self.waiting() >= bound(who.priority, limits.max_queue) {
            return Entry::Full { retry_after_ms: self.retry_after_ms(limits, random) };
        }
        if !known {
            let number = self.number();
            let Entrant { context, principal, priority, deadline, .. } = who;
            self.place_of.insert(context.to_string(), number);
            let place = Place { context, principal, priority, since: now, deadline, present: false };
            self.places.insert(number, place);
            self.ends_at = self.ends_at.min(deadline);
        }
        Entry::Waiting
    }

    /// Somebody waits for this context's turn, or nobody any more.
    pub fn set_present(&mut self, context: &ContextId, present: bool) {
        let Some(number) = self.place_of.get(context.as_str()).copied() else { return };
        let Some(place) = self.places.get_mut(&number) else { return };
        place.present = present;
        let lane = (place.principal.clone(), place.priority);
        let spot = (place.since, number);
        if present {
            self.present.entry(lane).or_default().insert(spot);
        } else if let Some(spots) = self.present.get_mut(&lane) {
            spots.remove(&spot);
            if spots.is_empty() {
                self.present.remove(&lane);
            }
        }
    }

    /// Gives a place up.
    pub fn leave(&mut self, context: &ContextId) {
        self.set_present(context, false);
        if let Some(number) = self.place_of.remove(context.as_str()) {
            self.places.remove(&number);
        }
    }

    /// A permit outside the line: the breaker's probe of a service without a limit. Also what every grant ends in.
    pub fn grant(&mut self, context: &ContextId, principal: String, now: Timestamp) -> u64 {
        let permit = self.number();
        self.leave(context);
        if self.served.len() >= MAX_SERVED && !self.served.contains_key(&principal) {
            // Who is not remembered counts as served long ago.
            self.served.clear();
        }
        self.served.insert(principal.clone(), permit);
        self.hold(permit, principal, now.plus_ms(self.timing.permit_ms));
        permit
    }

    fn hold(&mut self, permit: u64, principal: String, until: Timestamp) {
        *self.held_by.entry(principal.clone()).or_default() += 1;
        self.permits.insert(permit, Held { principal, until });
        self.ends_at = self.ends_at.min(until);
    }

    /// Keeps a permit alive. One that is not known any more is taken up again, even beyond the limit: its call is
    /// in flight, whatever was thought of it.
    pub fn renew(&mut self, permit: u64, principal: &str, until: Timestamp) {
        match self.permits.get_mut(&permit) {
            Some(held) => held.until = until.max(held.until),
            None if self.released.contains(&permit) => {}
            None => {
                // Numbers of an instance before this one: the next ones stay beyond them.
                self.next = self.next.max(permit);
                self.hold(permit, principal.to_string(), until);
            }
        }
    }

    /// Gives a permit back; true when it was out.
    pub fn release(&mut self, permit: u64) -> bool {
        if self.released.len() >= MAX_RELEASED {
            self.released.pop_front();
        }
        self.released.push_back(permit);
        self.drop_permit(permit)
    }

    fn drop_permit(&mut self, permit: u64) -> bool {
        let Some(held) = self.permits.remove(&permit) else { return false };
        if let Some(count) = self.held_by.get_mut(&held.principal) {
            *count -= 1;
            if *count == 0 {
                self.held_by.remove(&held.principal);
            }
        }
        true
    }

    fn drop_ended(&mut self, now: Timestamp) {
        let gone: Vec<u64> =
            self.permits.iter().filter(|(_, held)| held.until <= now).map(|(permit, _)| *permit).collect();
        for permit in gone {
            self.drop_permit(permit);
        }
    }

    /// Takes back permits whose holders are gone, and the places of those whose time is over; gives those of them
    /// that somebody waits for.
    pub fn expire(&mut self, now: Timestamp) -> Vec<ContextId> {
        if now < self.ends_at {
            return Vec::new();
        }
        self.drop_ended(now);
        let over: Vec<(ContextId, bool)> = self
            .places
            .values()
            .filter(|place| place.deadline <= now)
            .map(|place| (place.context.clone(), place.present))
            .collect();
        for (context, _) in &over {
            self.leave(context);
        }
        let ends = self.permits.values().map(|held| held.until);
        self.ends_at =
            ends.chain(self.places.values().map(|place| place.deadline)).min().unwrap_or(Timestamp(u64::MAX));
        over.into_iter().filter(|(_, present)| *present).map(|(context, _)| context).collect()
    }

    /// Hands out what is free, to those whose turn it is.
    pub fn turns(&mut self, limits: Limits, now: Timestamp) -> Vec<Turn> {
        let mut turns = Vec::new();
        while self.has_room(limits, now) {
            let Some(number) = self.foremost(now) else { break };
            let Some(place) = self.places.get(&number) else { break };
            let (context, principal, deadline) = (place.context.clone(), place.principal.clone(), place.deadline);
            if self.is_too_late(deadline, now) {
                self.leave(&context);
                turns.push(Turn::TooLate { context });
            } else {
                let permit = self.grant(&context, principal, now);
                turns.push(Turn::Granted { context, permit });
            }
        }
        turns
    }

    /// Whose turn it is, among those present.
    fn foremost(&self, now: Timestamp) -> Option<u64> {
        let best = self.present.iter().filter_map(|((principal, priority), spots)| {
            let (since, number) = *spots.first()?;
            let rank = step(*priority) + now.since(since) / self.timing.ageing_ms;
            let held = self.held_by.get(principal).copied().unwrap_or(0);
            let served = self.served.get(principal).copied().unwrap_or(0);
            Some((std::cmp::Reverse(rank), held, served, since, number))
        });
        best.min().map(|(.., number)| number)
    }

    /// Everyone somebody waits for.
    pub fn waited_for(&self) -> Vec<ContextId> {
        self.places.values().filter(|place| place.present).map(|place| place.context.clone()).collect()
    }

    /// When a permit ends, or the first may be given: whoever waits is to look again then.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let ends = self.permits.values().map(|held| held.until);
        ends.chain((self.closed_until > now).then_some(self.closed_until)).min()
    }

    /// How long until there is room in the line again, roughly: 1 to 60 s.
    fn retry_after_ms(&self, limits: Limits, random: u64) -> u64 {
        let each = self.median_ms().unwrap_or(GUESS_MS);
        let long = self.waiting().saturating_mul(each) / limits.max_concurrency.max(1);
        // Who is sent away together does not come back together.
        (long.saturating_mul(80 + random % 41) / 100).clamp(1_000, 60_000)
    }
}

fn step(priority: Priority) -> u64 {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
        Priority::Critical => 3,
    }
}

/// Places there may be before one of this priority is turned away: the less it matters, the earlier.
pub fn bound(priority: Priority, max_queue: u64) -> u64 {
    match priority {
        Priority::Low => max_queue.div_ceil(2),
        Priority::Normal => max_queue,
        Priority::High => max_queue.saturating_mul(5) / 4,
        Priority::Critical => max_queue.saturating_mul(3) / 2,
    }
}

#[cfg(test)]
mod tests;
