//! The connections of a service that opens them itself, as the platform keeps them for its lane: they outlive an
//! instance of the lane that was evicted, but not one that crashed.

use std::collections::BTreeMap;

use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::events::viewer::Viewer;
use narthex_core::service_lane::Connection;
use serde_json::{Value, json};

use crate::faults::Faults;
use crate::lane_reports::LaneReport;
use crate::messages::{Call, Event};
use crate::mutants::Mutant;
use crate::world::World;

/// The most connections that a service opens.
const MAX_CONNECTIONS: usize = 2;
/// The most work that a connection accepts at a time.
const MAX_CREDIT: u64 = 3;

/// A connection, as its service and the platform know it.
pub struct OpenConnection {
    pub id: String,
    pub credit: u64,
    /// What survives hibernation.
    attachment: String,
}

#[derive(Default)]
pub struct Connections {
    /// By slot.
    pub open: BTreeMap<u32, OpenConnection>,
    joined: u32,
    /// The service opens no connection before.
    away_until: u64,
    /// The reports to stores in progress, by the number of the message.
    pub reports: BTreeMap<u64, LaneReport>,
    /// The service waits for the confirmation of these outcomes, by the delivery's number.
    pub unconfirmed: BTreeMap<String, Vec<Call>>,
}

impl Connections {
    pub fn attachments(&self) -> Vec<(u32, String)> {
        self.open.iter().map(|(slot, one)| (*slot, one.attachment.clone())).collect()
    }

    pub fn attach(&mut self, slot: u32, attachment: String) {
        if let Some(one) = self.open.get_mut(&slot) {
            one.attachment = attachment;
        }
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
}

fn viewer() -> Viewer {
    Viewer {
        tenant: TenantId::first(),
        principal: PrincipalId::of_key("service"),
        sees_all: false,
        until: None,
        from: Vec::new(),
        by: Vec::new(),
        notify_only: false,
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
            self.send_status(at, "online");
            return;
        }
        if self.dice.chance(250) {
            let status = self.dice.pick(&["online", "degraded"]);
            self.send_status(at, status);
        }
        let next = self.now + self.dice.between(500, 12_000);
        self.schedule(next, Event::ConnectionChanges { service: at });
    }

    /// The service opens a connection and resumes work of those that dropped.
    pub fn connection_opens(&mut self, at: usize) {
        // Before the platform has the socket: an instance that starts later would know it by its attachment.
        self.wake_lane(at);
        let is_registered = self.is_registered(&self.services[at].name);
        let is_calm = self.is_calm();
        let credit = if is_calm { MAX_CREDIT } else { self.dice.between(1, MAX_CREDIT) };
        let resume = self.resumable(at);
        let settings = self.settings_of(at);
        let Some(connections) = &mut self.services[at].lane.connections else { return };
        let is_away = connections.away_until > self.now;
        if is_away || !is_registered || connections.open.len() >= MAX_CONNECTIONS {
            return;
        }
        connections.joined += 1;
        let (slot, id) = (connections.joined, format!("con{}", connections.joined));
        self.note(|| format!("s{at} opens {id} with credit {credit}, and resumes {resume:?}"));
        let connection = Connection::new(id.clone(), viewer(), self.lane_clock(at));
        if let Some(connections) = &mut self.services[at].lane.connections {
            connections.open.insert(slot, OpenConnection { id, credit, attachment: connection.attachment() });
        }
        self.learn_settings(at, &settings);
        let excess = u64::from(self.mutant == Some(Mutant::ExceedsCredits));
        let ready = json!({"type": "ready", "credit": credit + excess, "resume": resume}).to_string();
        self.lane_change(at, |lane, now, _| lane.connect(slot, connection, now));
        self.lane_receives(at, slot, &ready);
    }

    /// A message of the service arrives at its lane. Returns false if the connection has closed.
    pub fn lane_receives(&mut self, at: usize, slot: u32, text: &str) -> bool {
        let connections = self.services[at].lane.connections.as_ref();
        if !connections.is_some_and(|connections| connections.open.contains_key(&slot)) {
            return false;
        }
        self.note(|| format!("the lane of s{at} receives {text}"));
        self.lane_change(at, |lane, now, _| lane.message(slot, Some(text), now));
        true
    }

    /// A message of the lane arrives at the service.
    pub fn service_receives(&mut self, at: usize, slot: u32, text: &str) {
        let connections = self.services[at].lane.connections.as_ref();
        if !connections.is_some_and(|connections| connections.open.contains_key(&slot)) {
            return;
        }
        let message: Value = serde_json::from_str(text).unwrap();
        let number = message["delivery"].as_str().unwrap_or_default().to_string();
        self.note(|| format!("s{at} receives {text}"));
        match message["type"].as_str() {
            Some("work") => self.service_gets_work(at, &number),
            Some("done") => self.confirm_outcome(at, &number, message["late"] == true),
            // Some services work to the end although their work is cancelled.
            Some("cancel") if message["reason"] == "over" || self.dice.chance(500) => self.job_is_over(at, &number),
            Some("fault") => self.violate(format!("the lane of s{at} does not understand its service: {text}")),
            _ => {}
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
        self.note(|| format!("connection {slot} of s{at} closes"));
        if let Some(connections) = &mut self.services[at].lane.connections {
            connections.open.remove(&slot);
        }
        self.lane_change(at, |lane, now, _| lane.closed(slot, now));
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

    fn send_status(&mut self, at: usize, status: &str) {
        let reports_all = self.is_calm();
        let Some(connections) = &self.services[at].lane.connections else { return };
        let most = if reports_all { MAX_CONNECTIONS } else { 1 };
        let slots: Vec<u32> = connections.open.keys().rev().take(most).copied().collect();
        let message = json!({"type": "status", "status": status}).to_string();
        for slot in slots {
            self.lane_receives(at, slot, &message);
        }
    }
}
