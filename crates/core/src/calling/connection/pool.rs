//! Who of a service is connected, what each works on, and who is given the next piece.
//!
//! Kept by all of it:
//!
//! * a connection is given nothing beyond its credit, nor the service beyond its own limit;
//! * a delivery leaves once: reported, withdrawn, past its deadline, or given up when its connection had dropped and
//!   nobody took it up again in time.

use std::collections::BTreeMap;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::lane::observed::HealthStatus;

/// What could not be given up is tried again after this, in milliseconds.
const AGAIN_MS: u64 = 5_000;
/// A store ends what is past its deadline itself; this much later nobody works on it any more, in milliseconds.
const PAST_MS: u64 = 1_000;

/// One attempt that was handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub context: ContextId,
    /// The number of the lease it is made under.
    pub lease: u64,
    pub capability: String,
    pub version: Version,
    pub deadline: Timestamp,
    #[serde(default)]
    pub handed_at: Timestamp,
    /// The connection that has it.
    #[serde(default)]
    pub connection: String,
}

impl Delivery {
    /// What it is called on connections.
    pub fn number(&self) -> String {
        format!("{}.{}", self.context, self.lease)
    }
}

#[derive(Debug, Clone)]
struct Connection {
    id: String,
    credit: u64,
    load: u64,
    status: HealthStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the connection of this slot.
    At(u32),
    /// Its connection dropped; it is given up then.
    Kept(Timestamp),
}

#[derive(Debug, Clone)]
struct Held {
    delivery: Delivery,
    place: Place,
}

/// What a connection has that said it is ready.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Deliveries it took over, as they are now.
    pub taken: Vec<Delivery>,
    /// Numbers that stand for nothing any more.
    pub unknown: Vec<String>,
}

/// What is over by time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Over {
    /// Whose connection dropped: whether they were done, nobody will say.
    pub given_up: Vec<Delivery>,
    /// Past their deadline, with the connection that works on each.
    pub past: Vec<(Delivery, Option<u32>)>,
}

#[derive(Debug, Clone, Default)]
pub struct Roster {
    connections: BTreeMap<u32, Connection>,
    deliveries: BTreeMap<String, Held>,
    grace_ms: u64,
}

impl Roster {
    /// Takes up what outlived the last instance: deliveries, of connections that may be among the living.
    pub fn restore(
        connections: impl IntoIterator<Item = (u32, String, u64, HealthStatus)>,
        deliveries: impl IntoIterator<Item = Delivery>,
        grace_ms: u64,
        now: Timestamp,
    ) -> Self {
        let mut roster = Self { grace_ms, ..Self::default() };
        for (slot, id, credit, status) in connections {
            roster.connections.insert(slot, Connection { id, credit, load: 0, status });
        }
        for delivery in deliveries {
            let at = roster.connections.iter_mut().find(|(_, connection)| connection.id == delivery.connection);
            let place = match at {
                Some((slot, connection)) => {
                    connection.load += 1;
                    Place::At(*slot)
                }
                None => Place::Kept(now.plus_ms(grace_ms)),
            };
            roster.deliveries.insert(delivery.number(), Held { delivery, place });
        }
        roster
    }

    /// How long what a dropped connection had is kept for it.
    pub fn keep_for(&mut self, grace_ms: u64) {
        self.grace_ms = grace_ms;
    }

    pub fn connected(&self) -> usize {
        self.connections.len()
    }

    pub fn slots(&self) -> Vec<u32> {
        self.connections.keys().copied().collect()
    }

    /// Deliveries under way.
    pub fn in_flight(&self) -> u64 {
        self.deliveries.len() as u64
    }

    /// The best that one of them says of itself; offline when there is none.
    pub fn health(&self) -> HealthStatus {
        let statuses = self.connections.values().map(|connection| connection.status);
        statuses.min_by_key(|status| status.rank()).unwrap_or(HealthStatus::Offline)
    }

    /// A connection, which takes nothing until it is ready.
    pub fn join(&mut self, slot: u32, id: String) {
        self.connections.insert(slot, Connection { id, credit: 0, load: 0, status: HealthStatus::Online });
    }

    pub fn says(&mut self, slot: u32, status: HealthStatus) {
        if let Some(connection) = self.connections.get_mut(&slot) {
            connection.status = status;
        }
    }

    /// A connection takes so much at once, and says that it still has these deliveries.
    pub fn ready(&mut self, slot: u32, credit: u64, resume: &[String]) -> Resumed {
        let mut resumed = Resumed::default();
        let Some(connection) = self.connections.get_mut(&slot) else { return resumed };
        connection.credit = credit;
        for number in resume {
            let Some(held) = self.deliveries.get_mut(number) else {
                resumed.unknown.push(number.clone());
                continue;
            };
            let before = std::mem::replace(&mut held.place, Place::At(slot));
            if before == Place::At(slot) {
                continue;
            }
            if let Some(connection) = self.connections.get_mut(&slot) {
                held.delivery.connection.clone_from(&connection.id);
                connection.load += 1;
            }
            resumed.taken.push(held.delivery.clone());
            // The connection it was on may be one that nobody knows yet to be dead.
            self.unload(before);
        }
        resumed
    }

    /// A connection dropped: what it had is kept for a while.
    pub fn leave(&mut self, slot: u32, now: Timestamp) {
        self.connections.remove(&slot);
        for held in self.deliveries.values_mut().filter(|held| held.place == Place::At(slot)) {
            held.place = Place::Kept(now.plus_ms(self.grace_ms));
        }
    }

    fn unload(&mut self, place: Place) {
        if let Place::At(slot) = place
            && let Some(connection) = self.connections.get_mut(&slot)
        {
            connection.load = connection.load.saturating_sub(1);
        }
    }

    /// How many more deliveries could be handed over now. `most`: how many the service takes at once, by its own limit.
    pub fn room(&self, most: Option<u64>) -> u64 {
        let free: u64 = self.connections.values().map(|one| one.credit.saturating_sub(one.load)).sum();
        most.map_or(free, |most| free.min(most.saturating_sub(self.in_flight())))
    }

    /// Hands a delivery to whoever is the least loaded; nothing when nobody has room. Handed over twice it stays where
    /// it is.
    pub fn hand(&mut self, delivery: Delivery, most: Option<u64>, now: Timestamp) -> Option<(u32, Delivery)> {
        if self.room(most) == 0 {
            return None;
        }
        let free = self.connections.iter_mut().filter(|(_, one)| one.load < one.credit);
        // Loads compared as shares of the credits, without a division.
        let (slot, connection) = free.min_by(|(_, one), (_, other)| {
            (one.load * other.credit).cmp(&(other.load * one.credit)).then(other.credit.cmp(&one.credit))
        })?;
        connection.load += 1;
        let delivery = Delivery { handed_at: now, connection: connection.id.clone(), ..delivery };
        let held = Held { delivery: delivery.clone(), place: Place::At(*slot) };
        let slot = *slot;
        self.deliveries.insert(delivery.number(), held);
        Some((slot, delivery))
    }

    pub fn find(&self, number: &str) -> Option<&Delivery> {
        self.deliveries.get(number).map(|held| &held.delivery)
    }

    /// The deliveries of a context.
    pub fn of_context(&self, context: &ContextId) -> Vec<String> {
        let of = self.deliveries.iter().filter(|(_, held)| held.delivery.context == *context);
        of.map(|(number, _)| number.clone()).collect()
    }

    /// A delivery is over; gives it with the connection that has it.
    pub fn end(&mut self, number: &str) -> Option<(Delivery, Option<u32>)> {
        let Held { delivery, place } = self.deliveries.remove(number)?;
        self.unload(place);
        let slot = match place {
            Place::At(slot) => Some(slot),
            Place::Kept(_) => None,
        };
        Some((delivery, slot))
    }

    /// What time alone has ended. What is given up stays until somebody says that it ended, and is given up again.
    pub fn overdue(&mut self, now: Timestamp) -> Over {
        let mut over = Over::default();
        let past: Vec<String> = self
            .deliveries
            .iter()
            .filter(|(_, held)| held.delivery.deadline.plus_ms(PAST_MS) <= now)
            .map(|(number, _)| number.clone())
            .collect();
        over.past = past.iter().filter_map(|number| self.end(number)).collect();
        for held in self.deliveries.values_mut() {
            if let Place::Kept(until) = &mut held.place
                && *until <= now
            {
                *until = now.plus_ms(AGAIN_MS);
                over.given_up.push(held.delivery.clone());
            }
        }
        over
    }

    /// When the next is over by time.
    pub fn next_over(&self) -> Option<Timestamp> {
        let each = self.deliveries.values().map(|held| {
            let past = held.delivery.deadline.plus_ms(PAST_MS);
            match held.place {
                Place::At(_) => past,
                Place::Kept(until) => until.min(past),
            }
        });
        each.min()
    }
}

#[cfg(test)]
mod tests;
