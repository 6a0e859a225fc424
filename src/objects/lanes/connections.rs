//! The connections of a service that takes its work over WebSockets: they hibernate in its lane and survive its
//! instance.
//!
//! A delivery is stored before it is sent and until its attempt has been over for a while. So whichever component fails
//! (the service, its connection, this object, the worker that dispatched it), the delivery is still known, and a
//! repeated request to dispatch it is recognized. Its outcome goes to the context's store as a callback does, under the
//! lease of the attempt: a late or repeated report counts once.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wasm_bindgen::JsValue;

use crate::objects::registry::snapshot;
use crate::objects::shell::{Outcome, SocketShell};
use crate::platform::http::{Headers, answer};
use crate::platform::sockets::Sockets;
use crate::platform::{Failure, clock, log, random, tasks};
use narthex_core::access::revocation::Revocation;
use narthex_core::base::id::ulid;
use narthex_core::base::json::{Fault, Invalid, MAX_DEPTH, check};
use narthex_core::base::json_repair;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::close_code::ConnectionCloseCode;
use narthex_core::calling::connection::frame::{
    self, GatewayMessage, MAX_FRAME_BYTES, ServiceMessage, WithdrawalReason,
};
use narthex_core::calling::connection::pool::{ConnectionPool, Delivery};
use narthex_core::events::viewer::Viewer;
use narthex_core::lane::observed::HealthStatus;
use narthex_core::lane::queue::QueueLimits;

use super::Inner;
use super::messages::{Message, Open, ProbeError, ProbeReport};
use super::state::Identity;
use super::tables::Tables;

/// Connections per service at most.
const MAX_CONNECTIONS: usize = 100;
/// The `ping` interval that services are given, in seconds.
const PING_SECONDS: u64 = 20;
/// The interval at which connections are checked, in milliseconds.
const CHECK_INTERVAL_MS: u64 = 60_000;
/// A connection without a message for this long is considered dead, in milliseconds.
const SILENT_MS: u64 = 75_000;

/// The part of a connection's state that survives hibernation.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Connection {
    id: String,
    viewer: Viewer,
    credit: u64,
    status: HealthStatus,
    joined_at: Timestamp,
}

pub(super) struct Connections {
    sockets: Sockets,
    by_slot: RefCell<HashMap<u32, Connection>>,
    pub(super) pool: RefCell<ConnectionPool>,
    /// When each last sent a message, as far as this instance knows.
    last_message_at: RefCell<HashMap<u32, Timestamp>>,
    check_at: Cell<Option<Timestamp>>,
}

impl Connections {
    /// Restores the connections that survived the last instance.
    pub(super) fn restore(state: &JsValue, tables: &Tables, grace_ms: u64, now: Timestamp) -> Result<Self, Failure> {
        let (sockets, restored) = Sockets::restore(state);
        let mut by_slot = HashMap::new();
        for (slot, text) in restored {
            if let Ok(known) = serde_json::from_str::<Connection>(&text) {
                by_slot.insert(slot, known);
            }
        }
        let living = by_slot
            .iter()
            .map(|(slot, connection)| (*slot, connection.id.clone(), connection.credit, connection.status));
        let pool = ConnectionPool::restore(living, tables.deliveries()?, grace_ms, now);
        let check_at = (!by_slot.is_empty()).then(|| now.plus_ms(CHECK_INTERVAL_MS));
        Ok(Self {
            sockets,
            by_slot: RefCell::new(by_slot),
            pool: RefCell::new(pool),
            last_message_at: RefCell::default(),
            check_at: Cell::new(check_at),
        })
    }

    pub(super) fn slot(&self, socket: &JsValue) -> Option<u32> {
        self.sockets.slot(socket)
    }

    pub(super) fn send(&self, slot: u32, message: &GatewayMessage<'_>) {
        self.sockets.send(&[slot], &message.text());
    }

    fn store_attachment(&self, slot: u32) {
        if let Some(connection) = self.by_slot.borrow().get(&slot)
            && let Ok(text) = serde_json::to_string(connection)
        {
            self.sockets.attach(slot, &text);
        }
    }

    /// When a connection or a delivery must be checked.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let ends = self.by_slot.borrow().values().filter_map(|connection| connection.viewer.until).min();
        [self.check_at.get(), self.pool.borrow().next_expiry(), ends].into_iter().flatten().min()
    }

    fn slots_where(&self, whose: impl Fn(u32, &Connection) -> bool) -> Vec<u32> {
        let by_slot = self.by_slot.borrow();
        by_slot.iter().filter(|(slot, connection)| whose(**slot, connection)).map(|(slot, _)| *slot).collect()
    }
}

impl SocketShell for Inner {
    type Open = Message<Open>;

    /// Opens a connection of the service.
    fn open_socket(self: &Rc<Self>, message: Message<Open>) -> Outcome<JsValue> {
        let learned = self.learn_configuration(&message);
        let Open::Connect { viewer, headers } = message.ask;
        Outcome::Now(learned.map(|()| self.connect(viewer, &headers)))
    }

    fn slot(&self, socket: &JsValue) -> Option<u32> {
        self.connections.slot(socket)
    }

    fn handle_message(self: &Rc<Self>, slot: u32, text: Option<&str>) {
        self.handle_frame(slot, text);
    }

    fn handle_close(self: &Rc<Self>, slot: u32) {
        self.dropped(slot);
        self.settle_and_notify();
    }
}

impl Inner {
    /// Applies the present limit: the service's own, or for a service that connects, the capacity of its connections.
    pub(super) fn apply_limits(&self) {
        let (most, max_queue) = (self.max_concurrency.get(), self.max_queue.get());
        let pool = self.connections.pool.borrow();
        let connects = self.state.grace_ms.get().is_some();
        let max_concurrency = if connects { Some(pool.room(most)) } else { most };
        let mut lane = self.lane.borrow_mut();
        lane.set_limits(max_concurrency.map(|max_concurrency| QueueLimits { max_concurrency, max_queue }));
        lane.set_connection_status(connects.then(|| pool.health()));
    }

    pub(super) fn is_connected(&self, at: Timestamp) -> ProbeReport {
        let good = self.connections.pool.borrow().connection_count() > 0;
        let error = (!good).then_some(ProbeError::NotConnected);
        ProbeReport { good, unmeasured: false, status_code: None, error, latency_ms: 0, at }
    }

    /// Opens a connection. It gets no work until it has reported that it is ready.
    pub(super) fn connect(self: &Rc<Self>, viewer: Viewer, flat: &str) -> JsValue {
        let mut headers = Headers::default();
        let mut lines = flat.split('\n');
        while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
            headers.set(name, value);
        }
        let now = clock::now();
        let id = format!("con_{}", ulid(now, random::bytes()));
        let status = HealthStatus::Online;
        let connection = Connection { id: id.clone(), viewer, credit: 0, status, joined_at: now };
        let Ok(text) = serde_json::to_string(&connection) else { return answer(500, &headers, None) };
        let (response, slot) = self.connections.sockets.accept(&text, &headers);
        if self.connections.pool.borrow().connection_count() >= MAX_CONNECTIONS {
            let why = ConnectionCloseCode::TooMany;
            self.connections.sockets.close(slot, why.code(), why.reason());
            return response;
        }
        self.connections.by_slot.borrow_mut().insert(slot, connection);
        self.connections.pool.borrow_mut().join(slot, id.clone());
        if self.connections.check_at.get().is_none() {
            self.connections.check_at.set(Some(now.plus_ms(CHECK_INTERVAL_MS)));
        }
        let identity = self.state.identity.borrow().clone();
        // Every message names it.
        let service = identity.map_or_else(|| ServiceId::from_stored(""), |identity| identity.service);
        let grace_seconds = self.state.grace_ms.get().unwrap_or_default() / 1000;
        let welcome =
            GatewayMessage::Welcome { connection: &id, service: &service, grace_seconds, ping_seconds: PING_SECONDS };
        self.connections.send(slot, &welcome);
        self.settle_and_notify();
        response
    }

    /// As [`Inner::settle`]; the registry is notified in the background.
    pub(super) fn settle_and_notify(self: &Rc<Self>) {
        if self.settle() {
            let inner = self.clone();
            tasks::spawn(async move { inner.notify_registry().await });
        }
    }

    /// Handles a message of a connection.
    fn handle_frame(self: &Rc<Self>, slot: u32, text: Option<&str>) {
        if !self.connections.by_slot.borrow().contains_key(&slot) {
            return;
        }
        self.connections.last_message_at.borrow_mut().insert(slot, clock::now());
        let text = match text {
            Some(text) if text.len() <= MAX_FRAME_BYTES => text,
            Some(_) => return self.hang_up(&[slot], ConnectionCloseCode::TooLarge),
            None => return self.hang_up(&[slot], ConnectionCloseCode::BadMessage),
        };
        let read = match json_repair::json(text.as_bytes()) {
            Some(text) => frame::read(&text),
            None => Err(check(text.as_bytes(), MAX_DEPTH).err().iter().map(Invalid::fault).collect()),
        };
        match read {
            Ok(ServiceMessage::Ready { credit, resume }) => self.handle_ready(slot, credit, &resume),
            Ok(ServiceMessage::Status(status)) => {
                self.connections.pool.borrow_mut().set_status(slot, status);
                if let Some(connection) = self.connections.by_slot.borrow_mut().get_mut(&slot) {
                    connection.status = status;
                }
                self.connections.store_attachment(slot);
            }
            Ok(ServiceMessage::Outcome { delivery, body }) => self.handle_outcome(slot, &delivery, body),
            Ok(ServiceMessage::Progress { delivery, progress }) => self.handle_progress(&delivery, progress),
            Err(errors) => self.fault(slot, &errors),
        }
        self.settle_and_notify();
    }

    fn fault(&self, slot: u32, errors: &[Fault]) {
        self.connections.send(slot, &GatewayMessage::Fault { errors });
    }

    fn handle_ready(&self, slot: u32, credit: u64, resume: &[String]) {
        let resumed = self.connections.pool.borrow_mut().ready(slot, credit, resume);
        for delivery in &resumed.resumed {
            if let Err(failure) = self.tables.put_delivery(delivery) {
                self.log(log::Message::DeliveryNotSaved, &failure);
            }
        }
        for delivery in &resumed.unknown {
            self.connections.send(slot, &GatewayMessage::Cancel { delivery, reason: WithdrawalReason::Over });
        }
        if let Some(connection) = self.connections.by_slot.borrow_mut().get_mut(&slot) {
            connection.credit = credit;
        }
        self.connections.store_attachment(slot);
    }

    /// Dispatches work; returns false if no connection has capacity. The row is written first: the platform holds a
    /// message back until earlier writes are on disk.
    pub(super) fn dispatch(
        self: &Rc<Self>,
        delivery: Delivery,
        until: Option<Timestamp>,
        work: &RawValue,
    ) -> Result<bool, Failure> {
        let number = delivery.number();
        if self.connections.pool.borrow().was_dispatched(&number) {
            // A repeated request, because the first reply was lost. The delivery may have ended in the meantime.
            return Ok(true);
        }
        if self.connections.pool.borrow().is_obsolete(&delivery, until, clock::now()) {
            return Ok(false);
        }
        // A new attempt of the same context: an earlier attempt that is still running is late.
        let before = self.connections.pool.borrow_mut().withdraw(&delivery.context, None, clock::now());
        self.store_ended(before, Some(WithdrawalReason::Over))?;
        let most = self.max_concurrency.get();
        let handed = self.connections.pool.borrow_mut().dispatch(delivery, most, clock::now());
        let Some((slot, delivery)) = handed else { return Ok(false) };
        if let Err(failure) = self.tables.put_delivery(&delivery) {
            self.connections.pool.borrow_mut().remove(&number);
            return Err(failure);
        }
        self.connections.send(slot, &GatewayMessage::Work { delivery: &number, work });
        Ok(true)
    }

    /// Stores deliveries that have ended, each with the slot of its connection, whose service is notified if there is
    /// a reason. Their rows stay for as long as the pool remembers them, so that a repeated request dispatches nothing
    /// again, even after a restart.
    pub(super) fn store_ended(
        &self,
        ended: Vec<(Delivery, Option<u32>)>,
        reason: Option<WithdrawalReason>,
    ) -> Result<(), Failure> {
        for (delivery, slot) in ended {
            self.tables.put_delivery(&delivery)?;
            if let (Some(slot), Some(reason)) = (slot, reason) {
                self.connections.send(slot, &GatewayMessage::Cancel { delivery: &delivery.number(), reason });
            }
        }
        Ok(())
    }

    /// Handles a connection that has dropped or is considered dropped.
    pub(super) fn dropped(&self, slot: u32) {
        if self.connections.by_slot.borrow_mut().remove(&slot).is_none() {
            return;
        }
        self.connections.last_message_at.borrow_mut().remove(&slot);
        self.connections.pool.borrow_mut().leave(slot, clock::now());
        if self.connections.by_slot.borrow().is_empty() {
            self.connections.check_at.set(None);
        }
    }

    pub(super) fn hang_up(&self, slots: &[u32], why: ConnectionCloseCode) {
        for slot in slots {
            self.connections.sockets.close(*slot, why.code(), why.reason());
            self.dropped(*slot);
        }
    }

    /// Closes all connections because the service has another transport or must start anew.
    pub(super) fn disconnect_all(&self) {
        self.hang_up(&self.connections.slots_where(|_, _| true), ConnectionCloseCode::Changed);
    }

    /// The service was deleted: idle connections are closed; running work may finish.
    pub(super) fn close_idle(&self) {
        if self.connections.pool.borrow().in_flight() == 0 {
            self.hang_up(&self.connections.slots_where(|_, _| true), ConnectionCloseCode::Gone);
        }
    }

    /// Closes the connections of ended credentials.
    pub(super) fn revoke(&self, whose: impl Fn(&Viewer) -> bool) {
        let slots = self.connections.slots_where(|_, connection| whose(&connection.viewer));
        self.hang_up(&slots, ConnectionCloseCode::CredentialsEnded);
    }

    pub(super) fn revoke_dependents(&self, revocation: &Revocation) {
        self.revoke(|viewer| viewer.depends_on(revocation));
    }

    /// Handles expired credentials, dead connections, and deliveries that are overdue or ended long ago.
    pub(super) fn check_all(self: &Rc<Self>, now: Timestamp) {
        self.revoke(|viewer| viewer.until.is_some_and(|until| until <= now));
        if self.connections.check_at.get().is_some_and(|at| at <= now) {
            self.connections.check_at.set(Some(now.plus_ms(CHECK_INTERVAL_MS)));
            let last_messages = self.connections.last_message_at.borrow().clone();
            let silent = self.connections.slots_where(|slot, connection| {
                let pinged = self.connections.sockets.pinged_at(slot);
                let last =
                    [Some(connection.joined_at), pinged, last_messages.get(&slot).copied()].into_iter().flatten().max();
                last.is_some_and(|last| now.since(last) >= SILENT_MS)
            });
            self.hang_up(&silent, ConnectionCloseCode::Silent);
            let inner = self.clone();
            tasks::spawn(async move { inner.check_permissions().await });
        }
        self.expire_deliveries(now);
    }

    fn expire_deliveries(self: &Rc<Self>, now: Timestamp) {
        let over = self.connections.pool.borrow_mut().expire(now);
        for (delivery, slot) in over.past {
            let number = delivery.number();
            self.delete_delivery(&number);
            if let Some(slot) = slot {
                self.connections
                    .send(slot, &GatewayMessage::Cancel { delivery: &number, reason: WithdrawalReason::Deadline });
            }
        }
        for number in over.forgotten {
            self.delete_delivery(&number);
        }
        for delivery in over.given_up {
            self.give_up(delivery);
        }
    }

    /// A row that cannot be deleted is deleted by a later instance, when the delivery expires there.
    fn delete_delivery(&self, number: &str) {
        if let Err(failure) = self.tables.delete_delivery(number) {
            self.log(log::Message::DeliveryNotDeleted, &failure);
        }
    }

    /// Closes the connections whose credentials no longer permit them, as far as the registry knows, in case a
    /// revocation message was lost.
    async fn check_permissions(self: Rc<Self>) {
        let Some(Identity { tenant, service }) = self.state.identity.borrow().clone() else { return };
        let Ok(snapshot) = snapshot::refreshed(&tenant).await else { return };
        let needed = format!("services:connect:{service}");
        self.revoke(|viewer| {
            viewer.principal.key().is_some()
                && snapshot.principal(&tenant, &viewer.principal).is_none_or(|principal| !principal.may(&needed))
        });
        self.settle_and_notify();
    }
}
