//! The connections of a service, the deliveries on each, and which one gets the next.
//!
//! Invariants:
//!
//! * No connection gets more than its credit, and the service no more than its own limit.
//! * A delivery leaves the pool once: reported, withdrawn, past its deadline, or given up when its connection dropped
//!   and no other resumed it in time.
//! * No attempt is dispatched twice, although requests to dispatch one may be repeated and late: the pool remembers the
//!   deliveries that have ended for longer than such a request can take.

use std::collections::BTreeMap;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::context::Admission;
use crate::context::lease::LeaseNumber;
use crate::lane::observed::HealthStatus;

/// When giving up is retried after it failed, in milliseconds.
const GIVE_UP_RETRY_MS: u64 = 5_000;
/// How long after its deadline a delivery is removed, in milliseconds. The store ends the context at the deadline.
const DEADLINE_GRACE_MS: u64 = 1_000;

/// How long a delivery that has ended is remembered at least, in milliseconds. No request to dispatch it arrives after
/// that: its sender stops repeating it, and the platform stops delivering it, long before.
const REMEMBERED_MS: u64 = 60_000;

/// One attempt, dispatched to a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub context: ContextId,
    /// The lease number of the attempt.
    pub lease: LeaseNumber,
    pub capability: String,
    pub version: Version,
    pub deadline: Timestamp,
    #[serde(default)]
    pub handed_at: Timestamp,
    /// The connection that has it.
    #[serde(default)]
    pub connection: String,
    /// When it ended. It is kept for a while, so that a repeated request does not dispatch it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

impl Delivery {
    /// The attempt of a context under a lease, before it is dispatched.
    pub fn new(admission: &Admission, lease: LeaseNumber) -> Self {
        Self {
            context: admission.id.clone(),
            lease,
            capability: admission.capability.clone(),
            version: admission.version.clone(),
            deadline: admission.expires_at,
            handed_at: Timestamp::default(),
            connection: String::new(),
            ended_at: None,
        }
    }

    fn ended(self, now: Timestamp) -> Self {
        // A version that does not know `ended_at` removes it at once, because its deadline has passed.
        Self { ended_at: Some(now), deadline: now, connection: String::new(), ..self }
    }

    /// The delivery's id on connections.
    pub fn number(&self) -> String {
        number(&self.context, self.lease)
    }
}

fn number(context: &ContextId, lease: LeaseNumber) -> String {
    format!("{context}.{lease}")
}

#[derive(Debug, Clone)]
struct Connection {
    id: String,
    credit: u64,
    load: u64,
    status: HealthStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Location {
    /// On the connection in this slot.
    At(u32),
    /// Its connection dropped; it is given up at this time.
    Detached(Timestamp),
}

#[derive(Debug, Clone)]
struct PoolEntry {
    delivery: Delivery,
    location: Location,
}

/// The result of a connection becoming ready.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resumption {
    /// The deliveries that it resumed.
    pub resumed: Vec<Delivery>,
    /// Numbers of unknown deliveries.
    pub unknown: Vec<String>,
}

/// What has expired.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expiry {
    /// Deliveries of dropped connections: their outcome remains unknown.
    pub given_up: Vec<Delivery>,
    /// Deliveries past their deadline, with the slot of the connection that has each.
    pub past: Vec<(Delivery, Option<u32>)>,
    /// Numbers of deliveries that ended long ago: they need not be stored any longer.
    pub forgotten: Vec<String>,
}

/// The connections of one service and their deliveries.
#[derive(Debug, Clone, Default)]
pub struct ConnectionPool {
    connections: BTreeMap<u32, Connection>,
    deliveries: BTreeMap<String, PoolEntry>,
    /// The numbers of the deliveries that have ended, and until when each is remembered.
    ended: BTreeMap<String, Timestamp>,
    grace_ms: u64,
}

impl ConnectionPool {
    /// Restores deliveries, and the connections that outlived the previous instance.
    pub fn restore(
        connections: impl IntoIterator<Item = (u32, String, u64, HealthStatus)>,
        deliveries: impl IntoIterator<Item = Delivery>,
        grace_ms: u64,
        now: Timestamp,
    ) -> Self {
        let mut pool = Self { grace_ms, ..Self::default() };
        for (slot, id, credit, status) in connections {
            pool.connections.insert(slot, Connection { id, credit, load: 0, status });
        }
        for delivery in deliveries {
            if let Some(ended_at) = delivery.ended_at {
                pool.ended.insert(delivery.number(), ended_at.plus_ms(REMEMBERED_MS));
                continue;
            }
            let at = pool.connections.iter_mut().find(|(_, connection)| connection.id == delivery.connection);
            let location = match at {
                Some((slot, connection)) => {
                    connection.load += 1;
                    Location::At(*slot)
                }
                None => Location::Detached(now.plus_ms(grace_ms)),
            };
            pool.deliveries.insert(delivery.number(), PoolEntry { delivery, location });
        }
        pool
    }

    /// Sets how long the deliveries of a dropped connection are kept for it.
    pub fn set_grace(&mut self, grace_ms: u64) {
        self.grace_ms = grace_ms;
    }

    /// The number of connections.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// The slots of all connections.
    pub fn slots(&self) -> Vec<u32> {
        self.connections.keys().copied().collect()
    }

    /// The number of deliveries in progress.
    pub fn in_flight(&self) -> u64 {
        self.deliveries.len() as u64
    }

    /// Whether a late request may be about a delivery that is known here: in progress, or ended not long ago.
    pub fn remembers_deliveries(&self) -> bool {
        !self.deliveries.is_empty() || !self.ended.is_empty()
    }

    /// The best status that a connection reported; offline without connections.
    pub fn health(&self) -> HealthStatus {
        let statuses = self.connections.values().map(|connection| connection.status);
        statuses.min_by_key(|status| status.rank()).unwrap_or(HealthStatus::Offline)
    }

    /// Adds a connection, which gets no work until it is ready.
    pub fn join(&mut self, slot: u32, id: String) {
        self.connections.insert(slot, Connection { id, credit: 0, load: 0, status: HealthStatus::Online });
    }

    /// Sets the status that a connection reported.
    pub fn set_status(&mut self, slot: u32, status: HealthStatus) {
        if let Some(connection) = self.connections.get_mut(&slot) {
            connection.status = status;
        }
    }

    /// Sets a connection's credit, and moves the deliveries to it that it still has.
    pub fn ready(&mut self, slot: u32, credit: u64, resume: &[String]) -> Resumption {
        let mut resumed = Resumption::default();
        let Some(connection) = self.connections.get_mut(&slot) else { return resumed };
        connection.credit = credit;
        for number in resume {
            let Some(entry) = self.deliveries.get_mut(number) else {
                resumed.unknown.push(number.clone());
                continue;
            };
            let before = std::mem::replace(&mut entry.location, Location::At(slot));
            if before == Location::At(slot) {
                continue;
            }
            if let Some(connection) = self.connections.get_mut(&slot) {
                entry.delivery.connection.clone_from(&connection.id);
                connection.load += 1;
            }
            resumed.resumed.push(entry.delivery.clone());
            // The previous connection may be dead without having been closed.
            self.unload(before);
        }
        resumed
    }

    /// Removes a connection; its deliveries are kept for the grace period.
    pub fn leave(&mut self, slot: u32, now: Timestamp) {
        self.connections.remove(&slot);
        for entry in self.deliveries.values_mut().filter(|entry| entry.location == Location::At(slot)) {
            entry.location = Location::Detached(now.plus_ms(self.grace_ms));
        }
    }

    fn unload(&mut self, location: Location) {
        if let Location::At(slot) = location
            && let Some(connection) = self.connections.get_mut(&slot)
        {
            connection.load = connection.load.saturating_sub(1);
        }
    }

    /// How many more deliveries could be dispatched now. `most` is the service's own limit.
    pub fn room(&self, most: Option<u64>) -> u64 {
        let free: u64 = self.connections.values().map(|one| one.credit.saturating_sub(one.load)).sum();
        most.map_or(free, |most| free.min(most.saturating_sub(self.in_flight())))
    }

    /// Whether this delivery was dispatched, even if it has ended since.
    pub fn was_dispatched(&self, number: &str) -> bool {
        self.deliveries.contains_key(number) || self.ended.contains_key(number)
    }

    /// Whether a request to dispatch this delivery comes too late: after the time until when it is valid, or although a
    /// later attempt of the context was dispatched.
    pub fn is_obsolete(&self, delivery: &Delivery, valid_until: Option<Timestamp>, now: Timestamp) -> bool {
        let is_later =
            |entry: &PoolEntry| entry.delivery.context == delivery.context && entry.delivery.lease > delivery.lease;
        let prefix = format!("{}.", delivery.context);
        let of_context = self.ended.range(prefix.clone()..).map_while(|(number, _)| number.strip_prefix(&prefix));
        let mut ended = of_context.filter_map(LeaseNumber::parse);
        valid_until.is_some_and(|until| until < now)
            || self.deliveries.values().any(is_later)
            || ended.any(|lease| lease > delivery.lease)
    }

    /// Dispatches a delivery to the connection with the lowest load; `None` if there is no room, or if the deadline has
    /// passed. It must not have been dispatched before: see [`Self::was_dispatched`].
    pub fn dispatch(&mut self, delivery: Delivery, most: Option<u64>, now: Timestamp) -> Option<(u32, Delivery)> {
        if self.room(most) == 0 || delivery.deadline <= now {
            return None;
        }
        let free = self.connections.iter_mut().filter(|(_, one)| one.load < one.credit);
        // Loads are compared as shares of the credits, without division.
        let (slot, connection) = free.min_by(|(_, one), (_, other)| {
            (one.load * other.credit).cmp(&(other.load * one.credit)).then(other.credit.cmp(&one.credit))
        })?;
        connection.load += 1;
        let delivery = Delivery { handed_at: now, connection: connection.id.clone(), ..delivery };
        let entry = PoolEntry { delivery: delivery.clone(), location: Location::At(*slot) };
        let slot = *slot;
        self.deliveries.insert(delivery.number(), entry);
        Some((slot, delivery))
    }

    /// The delivery with this number.
    pub fn find(&self, number: &str) -> Option<&Delivery> {
        self.deliveries.get(number).map(|entry| &entry.delivery)
    }

    /// A delivery in progress, as it must be stored if it ends now.
    pub fn ended(&self, number: &str, now: Timestamp) -> Option<Delivery> {
        Some(self.find(number)?.clone().ended(now))
    }

    /// Ends a delivery, and returns it as it must be stored, with the slot of the connection it had. It is remembered
    /// for a while.
    pub fn end(&mut self, number: &str, now: Timestamp) -> Option<(Delivery, Option<u32>)> {
        let (delivery, slot) = self.remove(number)?;
        self.ended.insert(number.into(), now.plus_ms(REMEMBERED_MS));
        Some((delivery.ended(now), slot))
    }

    /// The numbers of a context's deliveries in progress, those of later leases than `up_to` excepted.
    pub fn of_context(&self, context: &ContextId, up_to: Option<LeaseNumber>) -> Vec<String> {
        let is_over =
            |delivery: &&Delivery| delivery.context == *context && up_to.is_none_or(|lease| delivery.lease <= lease);
        self.deliveries.values().map(|entry| &entry.delivery).filter(is_over).map(Delivery::number).collect()
    }

    /// An attempt that is still to be dispatched under this lease is not dispatched then.
    pub fn refuse(&mut self, context: &ContextId, lease: LeaseNumber, now: Timestamp) {
        self.ended.insert(number(context, lease), now.plus_ms(REMEMBERED_MS));
    }

    /// Removes a delivery that was not dispatched after all, and returns it with the slot of its connection.
    pub fn remove(&mut self, number: &str) -> Option<(Delivery, Option<u32>)> {
        let PoolEntry { delivery, location } = self.deliveries.remove(number)?;
        self.unload(location);
        let slot = match location {
            Location::At(slot) => Some(slot),
            Location::Detached(_) => None,
        };
        Some((delivery, slot))
    }

    /// Removes deliveries past their deadline, which need not be remembered because [`Self::dispatch`] refuses them.
    /// Forgets those that ended long ago, and lists those to give up; they stay until they are reported as ended, and
    /// are listed again later.
    pub fn expire(&mut self, now: Timestamp) -> Expiry {
        let mut over = Expiry::default();
        let past: Vec<String> = self
            .deliveries
            .iter()
            .filter(|(_, entry)| entry.delivery.deadline.plus_ms(DEADLINE_GRACE_MS) <= now)
            .map(|(number, _)| number.clone())
            .collect();
        over.past = past.iter().filter_map(|number| self.remove(number)).collect();
        over.forgotten = self.ended.extract_if(.., |_, until| *until <= now).map(|(number, _)| number).collect();
        for entry in self.deliveries.values_mut() {
            if let Location::Detached(until) = &mut entry.location
                && *until <= now
            {
                *until = now.plus_ms(GIVE_UP_RETRY_MS);
                over.given_up.push(entry.delivery.clone());
            }
        }
        over
    }

    /// When [`Self::expire`] is due. Deliveries that have ended are forgotten together: otherwise each would cost an
    /// alarm.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        let each = self.deliveries.values().map(|entry| {
            let past = entry.delivery.deadline.plus_ms(DEADLINE_GRACE_MS);
            match entry.location {
                Location::At(_) => past,
                Location::Detached(until) => until.min(past),
            }
        });
        each.chain(self.ended.values().copied().max()).min()
    }
}

#[cfg(test)]
mod tests;
