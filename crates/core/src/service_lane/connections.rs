//! The connections of a service that takes its work over WebSockets: they hibernate with its lane and survive its
//! instance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::effects::{SocketAction, Unsaved};
use super::reports::{DeliveryReport, ReportContent};
use super::storage::Storage;
use super::{Identity, ServiceLane};
use crate::access::revocation::Revocation;
use crate::base::json::{Fault, Invalid, MAX_DEPTH, check};
use crate::base::json_repair;
use crate::base::principal_id::PrincipalId;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::calling::connection::close_code::ConnectionCloseCode;
use crate::calling::connection::frame::{self, GatewayMessage, MAX_FRAME_BYTES, ServiceMessage, WithdrawalReason};
use crate::calling::connection::pool::{ConnectionPool, Delivery};
use crate::events::viewer::Viewer;
use crate::lane::observed::HealthStatus;

/// Connections per service at most.
const MAX_CONNECTIONS: usize = 100;
/// The `ping` interval that services are given, in seconds.
const PING_SECONDS: u64 = 20;
/// The interval at which connections are checked, in milliseconds.
const CHECK_INTERVAL_MS: u64 = 60_000;
/// A connection without a message for this long is considered dead, in milliseconds.
const SILENT_MS: u64 = 75_000;

/// A connection. What is serialized survives hibernation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Connection {
    id: String,
    viewer: Viewer,
    credit: u64,
    status: HealthStatus,
    joined_at: Timestamp,
    /// When it last sent a message, as far as this instance knows.
    #[serde(skip)]
    last_message_at: Option<Timestamp>,
}

impl Connection {
    /// A connection that is about to be accepted.
    pub fn new(id: String, viewer: Viewer, now: Timestamp) -> Self {
        let (credit, status) = (0, HealthStatus::Online);
        Self { id, viewer, credit, status, joined_at: now, last_message_at: None }
    }

    /// The part of its state that survives hibernation.
    pub fn attachment(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn is_silent(&self, pinged_at: Option<Timestamp>, now: Timestamp) -> bool {
        let last = [Some(self.joined_at), pinged_at, self.last_message_at].into_iter().flatten().max();
        last.is_some_and(|last| now.since(last) >= SILENT_MS)
    }
}

#[derive(Debug)]
pub(super) struct Connections {
    by_slot: BTreeMap<u32, Connection>,
    pub(super) pool: ConnectionPool,
    check_at: Option<Timestamp>,
}

impl Connections {
    /// Restores the connections that survived the last instance. A service whose connection this version cannot read
    /// must connect again.
    pub(super) fn restore(
        attachments: impl IntoIterator<Item = (u32, String)>,
        deliveries: Vec<Delivery>,
        grace_ms: u64,
        now: Timestamp,
        actions: &mut Vec<SocketAction>,
    ) -> Self {
        let mut by_slot: BTreeMap<u32, Connection> = BTreeMap::new();
        for (slot, text) in attachments {
            match serde_json::from_str(&text) {
                Ok(connection) => drop(by_slot.insert(slot, connection)),
                Err(_) => actions.push(SocketAction::Close(slot, ConnectionCloseCode::Changed)),
            }
        }
        let living = by_slot.iter().map(|(slot, one)| (*slot, one.id.clone(), one.credit, one.status));
        let pool = ConnectionPool::restore(living, deliveries, grace_ms, now);
        let check_at = (!by_slot.is_empty()).then(|| now.plus_ms(CHECK_INTERVAL_MS));
        Self { by_slot, pool, check_at }
    }

    /// When a connection or a delivery must be checked.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let ends = self.by_slot.values().filter_map(|connection| connection.viewer.until).min();
        [self.check_at, self.pool.next_expiry(), ends].into_iter().flatten().min()
    }

    fn slots_where(&self, whose: impl Fn(u32, &Connection) -> bool) -> Vec<u32> {
        let matching = self.by_slot.iter().filter(|(slot, connection)| whose(**slot, connection));
        matching.map(|(slot, _)| *slot).collect()
    }

    /// Handles a connection that has dropped or is considered dropped.
    fn dropped(&mut self, slot: u32, now: Timestamp) {
        if self.by_slot.remove(&slot).is_none() {
            return;
        }
        self.pool.leave(slot, now);
        if self.by_slot.is_empty() {
            self.check_at = None;
        }
    }
}

impl<S: Storage> ServiceLane<S> {
    /// Whether the service has a connection.
    pub fn is_connected(&self) -> bool {
        self.connections.pool.connection_count() > 0
    }

    /// A connection was accepted in a slot. It gets no work until it has reported that it is ready.
    pub fn connect(&mut self, slot: u32, connection: Connection, now: Timestamp) {
        if self.connections.pool.connection_count() >= MAX_CONNECTIONS {
            return self.effects.sockets.push(SocketAction::Close(slot, ConnectionCloseCode::TooMany));
        }
        // Every message names the service.
        let service = match &self.state.identity {
            Some(Identity { service, .. }) => service.clone(),
            None => ServiceId::from_stored(""),
        };
        let grace_seconds = self.state.grace_ms.unwrap_or_default() / 1000;
        let welcome = GatewayMessage::Welcome {
            connection: &connection.id,
            service: &service,
            grace_seconds,
            ping_seconds: PING_SECONDS,
        };
        self.effects.sockets.push(SocketAction::Send(slot, welcome.text()));
        self.connections.pool.join(slot, connection.id.clone());
        self.connections.by_slot.insert(slot, connection);
        self.connections.check_at.get_or_insert(now.plus_ms(CHECK_INTERVAL_MS));
    }

    /// Handles a message of a connection; `None` if it is not text.
    pub fn message(&mut self, slot: u32, text: Option<&str>, now: Timestamp) {
        let Some(connection) = self.connections.by_slot.get_mut(&slot) else { return };
        connection.last_message_at = Some(now);
        let text = match text {
            Some(text) if text.len() <= MAX_FRAME_BYTES => text,
            Some(_) => return self.hang_up(slot, ConnectionCloseCode::TooLarge, now),
            None => return self.hang_up(slot, ConnectionCloseCode::BadMessage, now),
        };
        let read = match json_repair::json(text.as_bytes()) {
            Some(text) => frame::read(&text),
            None => Err(check(text.as_bytes(), MAX_DEPTH).err().iter().map(Invalid::fault).collect()),
        };
        match read {
            Ok(ServiceMessage::Ready { credit, resume }) => self.handle_ready(slot, credit, &resume),
            Ok(ServiceMessage::Status(status)) => {
                self.connections.pool.set_status(slot, status);
                self.change_connection(slot, |connection| connection.status = status);
            }
            Ok(ServiceMessage::Outcome { delivery, body }) => self.handle_outcome(slot, &delivery, body),
            Ok(ServiceMessage::Progress { delivery, progress }) => {
                self.handle_report(&delivery, None, ReportContent::Progress(progress));
            }
            Err(errors) => self.fault(slot, &errors),
        }
    }

    fn fault(&mut self, slot: u32, errors: &[Fault]) {
        self.send(slot, &GatewayMessage::Fault { errors });
    }

    fn handle_ready(&mut self, slot: u32, credit: u64, resume: &[String]) {
        let resumed = self.connections.pool.ready(slot, credit, resume);
        for delivery in &resumed.resumed {
            let stored = self.storage.put_delivery(delivery);
            self.keep_failure(Unsaved::Delivery, stored);
        }
        for delivery in &resumed.unknown {
            self.send(slot, &GatewayMessage::Cancel { delivery, reason: WithdrawalReason::Over });
        }
        self.change_connection(slot, |connection| connection.credit = credit);
    }

    fn handle_outcome(&mut self, slot: u32, number: &str, body: String) {
        if !self.handle_report(number, Some(slot), ReportContent::Outcome(body)) {
            self.send(slot, &GatewayMessage::Done { delivery: number, late: true });
        }
    }

    /// Returns false if the delivery is over.
    fn handle_report(&mut self, number: &str, slot: Option<u32>, content: ReportContent) -> bool {
        let Some(delivery) = self.connections.pool.find(number).cloned() else { return false };
        self.effects.reports.push(DeliveryReport { delivery, slot, content });
        true
    }

    fn change_connection(&mut self, slot: u32, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.connections.by_slot.get_mut(&slot) {
            change(connection);
            self.effects.sockets.push(SocketAction::Attach(slot, connection.attachment()));
        }
    }

    pub(super) fn send(&mut self, slot: u32, message: &GatewayMessage<'_>) {
        self.effects.sockets.push(SocketAction::Send(slot, message.text()));
    }

    /// A connection has closed.
    pub fn closed(&mut self, slot: u32, now: Timestamp) {
        self.connections.dropped(slot, now);
    }

    pub(super) fn hang_up(&mut self, slot: u32, why: ConnectionCloseCode, now: Timestamp) {
        self.effects.sockets.push(SocketAction::Close(slot, why));
        self.connections.dropped(slot, now);
    }

    /// Closes the connections of some viewers.
    pub fn close_connections(&mut self, why: ConnectionCloseCode, now: Timestamp, whose: impl Fn(&Viewer) -> bool) {
        for slot in self.connections.slots_where(|_, connection| whose(&connection.viewer)) {
            self.hang_up(slot, why, now);
        }
    }

    /// Closes the connections of a principal whose credentials have ended.
    pub fn revoke(&mut self, principal: &PrincipalId, now: Timestamp) {
        let why = ConnectionCloseCode::CredentialsEnded;
        self.close_connections(why, now, |viewer| viewer.principal == *principal);
    }

    /// Closes the connections whose credentials depend on what was revoked.
    pub fn revoke_dependents(&mut self, revocation: &Revocation, now: Timestamp) {
        let why = ConnectionCloseCode::CredentialsEnded;
        self.close_connections(why, now, |viewer| viewer.depends_on(revocation));
    }

    /// Closes the connections of expired credentials, and from time to time those that are dead.
    pub(super) fn check_connections(&mut self, now: Timestamp, pinged: impl Fn(u32) -> Option<Timestamp>) {
        let why = ConnectionCloseCode::CredentialsEnded;
        self.close_connections(why, now, |viewer| viewer.until.is_some_and(|until| until <= now));
        if self.connections.check_at.is_none_or(|at| at > now) {
            return;
        }
        self.connections.check_at = Some(now.plus_ms(CHECK_INTERVAL_MS));
        for slot in self.connections.slots_where(|slot, connection| connection.is_silent(pinged(slot), now)) {
            self.hang_up(slot, ConnectionCloseCode::Silent, now);
        }
        self.effects.check_permissions = true;
    }
}
