//! The connections of a service that opens them itself, as its lane keeps them: they outlive an instance of the lane
//! that was evicted, but not one that crashed.

use std::collections::BTreeMap;

use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::pool::{ConnectionPool, Delivery};
use narthex_core::lane::Lane;
use narthex_core::lane::observed::HealthStatus;
use narthex_core::lane::queue::QueueLimits;
use narthex_core::services::Service;

use crate::faults::Faults;
use crate::lane_actor::{LaneObject, Turn};
use crate::lane_reports::LaneReport;
use crate::messages::Event;
use crate::mutants::Mutant;
use crate::world::World;

/// The most connections that a service opens.
const MAX_CONNECTIONS: usize = 2;
/// The most work that a connection accepts at a time.
const MAX_CREDIT: u64 = 3;

/// The part of a connection's state that survives an eviction.
pub struct Connection {
    pub id: String,
    pub credit: u64,
    status: HealthStatus,
}

#[derive(Default)]
pub struct Connections {
    /// By slot.
    pub open: BTreeMap<u32, Connection>,
    pub pool: ConnectionPool,
    pub max_concurrency: Option<u64>,
    max_queue: u64,
    grace_ms: u64,
    joined: u32,
    /// The service opens no connection before.
    away_until: u64,
    /// When deliveries are checked next, by the world's clock.
    pub alarm_at: Option<u64>,
    /// The reports to stores in progress, by the number of the message.
    pub reports: BTreeMap<u64, LaneReport>,
}

impl Connections {
    pub fn new(service: &Service) -> Self {
        let grace_ms = service.transport.grace_ms().unwrap_or_default();
        let (max_concurrency, max_queue) = (service.limits.max_concurrency, service.limits.max_queue);
        Self { max_concurrency, max_queue, grace_ms, ..Self::default() }
    }

    pub fn limits(&self) -> QueueLimits {
        QueueLimits { max_concurrency: self.pool.room(self.max_concurrency), max_queue: self.max_queue }
    }

    /// A new instance of the lane knows the open connections and the stored deliveries.
    pub fn restore(&mut self, deliveries: &BTreeMap<String, Delivery>, now: Timestamp) {
        let open = self.open.iter().map(|(slot, one)| (*slot, one.id.clone(), one.credit, one.status));
        self.pool = ConnectionPool::restore(open, deliveries.values().cloned(), self.grace_ms, now);
    }

    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    pub fn has(&self, connection: &str) -> bool {
        self.open.values().any(|one| one.id == connection)
    }

    /// How much longer after this time the service is away.
    pub fn away_ms(&self, since: u64) -> u64 {
        self.away_until.saturating_sub(since)
    }

    /// A crash closes all connections.
    pub fn close_all(&mut self) {
        self.open.clear();
    }

    /// The time for which the alarm must be set now, by the world's clock.
    pub fn arm(&mut self, offset: i64, now: u64) -> Option<u64> {
        let due = self.pool.next_expiry()?.0.saturating_add_signed(-offset).max(now + 1);
        let is_earlier = self.alarm_at.is_none_or(|set| due < set);
        is_earlier.then(|| *self.alarm_at.insert(due))
    }
}

impl LaneObject {
    /// Sets the limits that apply now: those of the service, or what its connections have room for.
    pub fn apply_limits(&self, lane: &mut Lane) {
        lane.set_limits(self.connections.as_ref().map(Connections::limits).or(self.limits));
        lane.set_connection_status(self.connections.as_ref().map(|connections| connections.pool.health()));
    }
}

impl Turn<'_> {
    /// Returns the numbers of unknown deliveries.
    fn ready(&mut self, slot: u32, credit: u64, resume: &[String]) -> Vec<String> {
        let Some(connections) = self.connections.as_deref_mut() else { return Vec::new() };
        let resumed = connections.pool.ready(slot, credit, resume);
        for delivery in resumed.resumed {
            self.deliveries.insert(delivery.number(), delivery);
        }
        resumed.unknown
    }
}

impl World {
    pub fn connects(&self, service: usize) -> bool {
        self.services[service].lane.connections.is_some()
    }

    pub fn has_connection(&self, service: usize) -> bool {
        self.services[service].lane.connections.as_ref().is_some_and(Connections::is_open)
    }

    /// The service opens a connection, closes one, or reports a status; afterwards it does so again.
    pub fn connection_changes(&mut self, at: usize) {
        if !self.is_calm() && self.dice.chance(120) {
            return self.service_goes_away(at);
        }
        let closes = !self.is_calm() && self.dice.chance(400);
        let Some(connections) = &self.services[at].lane.connections else { return };
        match connections.open.first_key_value().map(|(slot, _)| *slot).filter(|_| closes) {
            Some(slot) => self.connection_closes(at, slot),
            None => self.connection_opens(at),
        }
        if self.is_calm() {
            self.report_status(at, HealthStatus::Online);
            return;
        }
        if self.dice.chance(250) {
            let status = self.dice.pick(&[HealthStatus::Online, HealthStatus::Degraded, HealthStatus::Offline]);
            self.report_status(at, status);
        }
        let next = self.now + self.dice.between(500, 12_000);
        self.schedule(next, Event::ConnectionChanges { service: at });
    }

    /// The service opens a connection and resumes work of those that dropped.
    pub fn connection_opens(&mut self, at: usize) {
        self.wake_lane(at);
        let is_calm = self.is_calm();
        let credit = if is_calm { MAX_CREDIT } else { self.dice.between(1, MAX_CREDIT) };
        let resume = self.resumable(at);
        let Some(connections) = &mut self.services[at].lane.connections else { return };
        let is_away = connections.away_until > self.now;
        if is_away || connections.open.len() >= MAX_CONNECTIONS {
            return;
        }
        connections.joined += 1;
        let (slot, id) = (connections.joined, format!("con{}", connections.joined));
        let status = HealthStatus::Online;
        connections.open.insert(slot, Connection { id: id.clone(), credit, status });
        connections.pool.join(slot, id.clone());
        self.note(|| format!("s{at} opens {id} with credit {credit}, and resumes {resume:?}"));
        let excess = u64::from(self.mutant == Some(Mutant::ExceedsCredits));
        if let Some(unknown) = self.lane_turn(at, |turn| (turn.ready(slot, credit + excess, &resume), false)) {
            self.jobs_are_over(at, &unknown);
        }
    }

    /// The service closes its connections, for longer than a hand-over takes.
    fn service_goes_away(&mut self, at: usize) {
        let until = self.now + self.dice.between(14_000, 26_000);
        self.connections_close(at);
        if let Some(connections) = &mut self.services[at].lane.connections {
            connections.away_until = until;
        }
        self.schedule(until, Event::ConnectionChanges { service: at });
    }

    /// The connection that had room when a permit was granted may be gone when the work is dispatched.
    pub fn connections_drop(&mut self, at: usize) {
        let Faults { lose, double, delay, .. } = self.faults;
        if !self.has_connection(at) {
            return;
        }
        if self.dice.chance(lose * 2) {
            self.connections_close(at);
            self.reconnect_after(at, 50, 3_000);
        } else if double > 0 && delay > 0 && self.dice.chance(400) {
            // Then a late copy of a request to dispatch may arrive after the end of its hand-over.
            self.connections_close(at);
            self.reconnect_after(at, 15_500, 18_000);
        }
    }

    fn connections_close(&mut self, at: usize) {
        let connections = self.services[at].lane.connections.as_ref();
        let slots = connections.map(|connections| connections.open.keys().copied().collect::<Vec<u32>>());
        for slot in slots.unwrap_or_default() {
            self.connection_closes(at, slot);
        }
    }

    fn connection_closes(&mut self, at: usize, slot: u32) {
        self.wake_lane(at);
        self.note(|| format!("connection {slot} of s{at} closes"));
        if let Some(connections) = &mut self.services[at].lane.connections {
            connections.open.remove(&slot);
        }
        self.lane_turn(at, |turn| {
            if let Some(connections) = turn.connections.as_deref_mut() {
                connections.pool.leave(slot, turn.now);
            }
            ((), false)
        });
    }

    /// The lane closes a connection whose report it could not pass on; the service opens another.
    pub fn hang_up(&mut self, at: usize, id: &str) {
        let Some(connections) = &self.services[at].lane.connections else { return };
        if let Some(slot) = connections.open.iter().find(|(_, one)| one.id == id).map(|(slot, _)| *slot) {
            self.connection_closes(at, slot);
            self.reconnect(at);
        }
    }

    /// The service has lost connections: it opens one soon, or is gone for longer than a hand-over takes.
    pub fn reconnect(&mut self, at: usize) {
        let is_long = !self.is_calm() && self.dice.chance(300);
        let (least, most) = if is_long { (14_000, 26_000) } else { (50, 3_000) };
        self.reconnect_after(at, least, most);
    }

    fn reconnect_after(&mut self, at: usize, least: u64, most: u64) {
        let pause_ms = self.dice.between(least, most);
        let Some(connections) = &mut self.services[at].lane.connections else { return };
        connections.away_until = self.now + pause_ms;
        self.schedule(self.now + pause_ms, Event::ConnectionOpens { service: at });
    }

    fn report_status(&mut self, at: usize, status: HealthStatus) {
        self.wake_lane(at);
        let reports_all = self.is_calm();
        let Some(connections) = &mut self.services[at].lane.connections else { return };
        for (slot, one) in connections.open.iter_mut().rev().take(if reports_all { MAX_CONNECTIONS } else { 1 }) {
            one.status = status;
            connections.pool.set_status(*slot, status);
        }
        self.note(|| format!("s{at} reports {status:?}"));
        self.lane_turn(at, |_| ((), false));
    }
}
