//! The connections of a service that takes its work over WebSockets: they hibernate in its lane and survive its
//! instance.
//!
//! A delivery is stored before it is sent and until its attempt is over. So whichever component fails (the service, its
//! connection, this object, the worker that dispatched it), the delivery is still known. Its outcome goes to the
//! context's store as a callback does, under the lease of the attempt: a late or repeated report counts once.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wasm_bindgen::prelude::*;

use crate::objects::events::messages::{Gone, Viewer};
use crate::objects::registry::snapshot;
use crate::platform::http::{Headers, answer};
use crate::platform::sockets::Sockets;
use crate::platform::{Failure, clock, log, random, tasks};
use narthex_core::base::id::ulid;
use narthex_core::base::json::{Fault, Invalid, MAX_DEPTH, check};
use narthex_core::base::json_repair;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::frame::{
    self, GatewayMessage, MAX_FRAME_BYTES, ServiceMessage, WithdrawalReason,
};
use narthex_core::calling::connection::pool::{ConnectionPool, Delivery};
use narthex_core::lane::observed::HealthStatus;
use narthex_core::lane::queue::QueueLimits;

use super::messages::{Ask, Message, ProbeError, Seen};
use super::tables::Tables;
use super::{Identity, Inner, ServiceLane};

/// Connections per service at most.
const MAX_CONNECTIONS: usize = 100;
/// The `ping` interval that services are given, in seconds.
const PING_SECONDS: u64 = 20;
/// The interval at which connections are checked, in milliseconds.
const LOOK_MS: u64 = 60_000;
/// A connection without a message for this long is considered dead, in milliseconds.
const SILENT_MS: u64 = 75_000;

const CREDENTIALS_ENDED: u16 = 4401;
const SILENT: u16 = 4408;
const TOO_MANY: u16 = 4429;
const GONE: u16 = 4404;
const BAD_MESSAGE: u16 = 1008;
const TOO_LARGE: u16 = 1009;
const CHANGED: u16 = 1012;
pub(super) const TRY_AGAIN: u16 = 1013;

/// The part of a connection's state that survives hibernation.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Attached {
    id: String,
    viewer: Viewer,
    credit: u64,
    status: HealthStatus,
    joined_at: Timestamp,
}

pub(super) struct Connections {
    sockets: Sockets,
    attached: RefCell<HashMap<u32, Attached>>,
    pub(super) pool: RefCell<ConnectionPool>,
    /// When each last sent a message, as far as this instance knows.
    heard_at: RefCell<HashMap<u32, Timestamp>>,
    look_at: Cell<Option<Timestamp>>,
}

impl Connections {
    /// Restores the connections that survived the last instance.
    pub(super) fn restore(state: &JsValue, tables: &Tables, grace_ms: u64, now: Timestamp) -> Result<Self, Failure> {
        let (sockets, found) = Sockets::restore(state);
        let mut attached = HashMap::new();
        for (slot, text) in found {
            if let Ok(known) = serde_json::from_str::<Attached>(&text) {
                attached.insert(slot, known);
            }
        }
        let living = attached.iter().map(|(slot, one)| (*slot, one.id.clone(), one.credit, one.status));
        let pool = ConnectionPool::restore(living, tables.deliveries()?, grace_ms, now);
        let look_at = (!attached.is_empty()).then(|| now.plus_ms(LOOK_MS));
        Ok(Self {
            sockets,
            attached: RefCell::new(attached),
            pool: RefCell::new(pool),
            heard_at: RefCell::default(),
            look_at: Cell::new(look_at),
        })
    }

    pub(super) fn slot(&self, socket: &JsValue) -> Option<u32> {
        self.sockets.slot(socket)
    }

    pub(super) fn tell(&self, slot: u32, saying: &GatewayMessage<'_>) {
        self.sockets.send(&[slot], &saying.text());
    }

    fn keep(&self, slot: u32) {
        if let Some(attached) = self.attached.borrow().get(&slot)
            && let Ok(text) = serde_json::to_string(attached)
        {
            self.sockets.attach(slot, &text);
        }
    }

    /// When a connection or a delivery must be checked.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let ends = self.attached.borrow().values().filter_map(|one| one.viewer.until).min();
        [self.look_at.get(), self.pool.borrow().next_expiry(), ends].into_iter().flatten().min()
    }

    fn who(&self, whose: impl Fn(u32, &Attached) -> bool) -> Vec<u32> {
        let attached = self.attached.borrow();
        attached.iter().filter(|(slot, one)| whose(**slot, one)).map(|(slot, _)| *slot).collect()
    }
}

#[wasm_bindgen]
impl ServiceLane {
    /// Opens a connection of the service; `message` is a [`Message`].
    pub fn open(&self, message: &str) -> Result<JsValue, JsValue> {
        let message: Message = serde_json::from_str(message).map_err(|e| js_sys::Error::new(&e.to_string()))?;
        tasks::turn(|| {
            self.0.know(&message).map_err(|failure| js_sys::Error::new(&failure.0))?;
            match message.ask {
                Ask::Connect { viewer, headers } => Ok(self.0.connect(viewer, &headers)),
                _ => Err(js_sys::Error::new("only connections are opened").into()),
            }
        })
    }

    pub fn message(&self, socket: &JsValue, text: Option<String>) {
        if let Some(slot) = self.0.connections.slot(socket) {
            tasks::turn(|| self.0.heard(slot, text.as_deref()));
        }
    }

    pub fn closed(&self, socket: &JsValue) {
        if let Some(slot) = self.0.connections.slot(socket) {
            tasks::turn(|| {
                self.0.dropped(slot);
                self.0.settle_and_tell();
            });
        }
    }
}

impl Inner {
    /// Applies the present limit: the service's own, or for a service that connects, the capacity of its connections.
    pub(super) fn make_room(&self) {
        let (most, max_queue) = (self.most.get(), self.max_queue.get());
        let pool = self.connections.pool.borrow();
        let connects = self.grace_ms.get().is_some();
        let max_concurrency = if connects { Some(pool.room(most)) } else { most };
        let mut lane = self.lane.borrow_mut();
        lane.set_limits(max_concurrency.map(|max_concurrency| QueueLimits { max_concurrency, max_queue }));
        lane.set_connection_status(connects.then(|| pool.health()));
    }

    pub(super) fn is_connected(&self, at: Timestamp) -> Seen {
        let good = self.connections.pool.borrow().connection_count() > 0;
        let error = (!good).then_some(ProbeError::NotConnected);
        Seen { good, unmeasured: false, status_code: None, error, latency_ms: 0, at }
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
        let attached = Attached { id: id.clone(), viewer, credit: 0, status, joined_at: now };
        let Ok(text) = serde_json::to_string(&attached) else { return answer(500, &headers, None) };
        let (response, slot) = self.connections.sockets.accept(&text, &headers);
        if self.connections.pool.borrow().connection_count() >= MAX_CONNECTIONS {
            self.connections.sockets.close(slot, TOO_MANY, "too many connections of this service");
            return response;
        }
        self.connections.attached.borrow_mut().insert(slot, attached);
        self.connections.pool.borrow_mut().join(slot, id.clone());
        if self.connections.look_at.get().is_none() {
            self.connections.look_at.set(Some(now.plus_ms(LOOK_MS)));
        }
        let service = self.identity.borrow().as_ref().map(|identity| identity.service.clone()).unwrap_or_default();
        let grace_seconds = self.grace_ms.get().unwrap_or_default() / 1000;
        let welcome =
            GatewayMessage::Welcome { connection: &id, service: &service, grace_seconds, ping_seconds: PING_SECONDS };
        self.connections.tell(slot, &welcome);
        self.settle_and_tell();
        response
    }

    /// As [`Inner::settle`]; the registry is notified in the background.
    pub(super) fn settle_and_tell(self: &Rc<Self>) {
        if self.settle() {
            let inner = self.clone();
            tasks::spawn(async move { inner.tell().await });
        }
    }

    /// Handles a message of a connection.
    pub(super) fn heard(self: &Rc<Self>, slot: u32, text: Option<&str>) {
        if !self.connections.attached.borrow().contains_key(&slot) {
            return;
        }
        self.connections.heard_at.borrow_mut().insert(slot, clock::now());
        let text = match text {
            Some(text) if text.len() <= MAX_FRAME_BYTES => text,
            Some(_) => return self.hang_up(&[slot], TOO_LARGE, "messages have at most 1 MiB"),
            None => return self.hang_up(&[slot], BAD_MESSAGE, "messages are text"),
        };
        let said = match json_repair::json(text.as_bytes()) {
            Some(text) => frame::read(&text),
            None => Err(check(text.as_bytes(), MAX_DEPTH).err().iter().map(Invalid::fault).collect()),
        };
        match said {
            Ok(ServiceMessage::Ready { credit, resume }) => self.take_ready(slot, credit, &resume),
            Ok(ServiceMessage::Status(status)) => {
                self.connections.pool.borrow_mut().set_status(slot, status);
                if let Some(attached) = self.connections.attached.borrow_mut().get_mut(&slot) {
                    attached.status = status;
                }
                self.connections.keep(slot);
            }
            Ok(ServiceMessage::Outcome { delivery, body }) => self.take_outcome(slot, &delivery, body),
            Ok(ServiceMessage::Progress { delivery, progress }) => self.take_progress(&delivery, progress),
            Err(errors) => self.fault(slot, &errors),
        }
        self.settle_and_tell();
    }

    fn fault(&self, slot: u32, errors: &[Fault]) {
        self.connections.tell(slot, &GatewayMessage::Fault { errors });
    }

    fn take_ready(&self, slot: u32, credit: u64, resume: &[String]) {
        let resumed = self.connections.pool.borrow_mut().ready(slot, credit, resume);
        for delivery in &resumed.resumed {
            if let Err(failure) = self.tables.put_delivery(delivery) {
                self.log(log::Message::DeliveryNotSaved, &failure);
            }
        }
        for delivery in &resumed.unknown {
            self.connections.tell(slot, &GatewayMessage::Cancel { delivery, reason: WithdrawalReason::Over });
        }
        if let Some(attached) = self.connections.attached.borrow_mut().get_mut(&slot) {
            attached.credit = credit;
        }
        self.connections.keep(slot);
    }

    /// Dispatches work; returns false if no connection has capacity. The row is written first: the platform holds a
    /// message back until earlier writes are on disk.
    pub(super) fn hand(self: &Rc<Self>, delivery: Delivery, work: &RawValue) -> Result<bool, Failure> {
        let number = delivery.number();
        if self.connections.pool.borrow().find(&number).is_some() {
            // A repeated request, because the first reply was lost.
            return Ok(true);
        }
        // A new attempt of the same context: an earlier attempt that is still running is late.
        let before = self.connections.pool.borrow().of_context(&delivery.context);
        self.withdraw(&before, Some(WithdrawalReason::Over))?;
        let most = self.most.get();
        let handed = self.connections.pool.borrow_mut().dispatch(delivery, most, clock::now());
        let Some((slot, delivery)) = handed else { return Ok(false) };
        if let Err(failure) = self.tables.put_delivery(&delivery) {
            self.connections.pool.borrow_mut().remove(&number);
            return Err(failure);
        }
        self.connections.tell(slot, &GatewayMessage::Work { delivery: &number, work });
        Ok(true)
    }

    /// Removes deliveries whose attempts are over. With a reason, the services that work on them are notified.
    pub(super) fn withdraw(&self, numbers: &[String], reason: Option<WithdrawalReason>) -> Result<(), Failure> {
        for number in numbers {
            let ended = self.connections.pool.borrow_mut().remove(number);
            self.tables.drop_delivery(number)?;
            if let (Some((_, Some(slot))), Some(reason)) = (ended, reason) {
                self.connections.tell(slot, &GatewayMessage::Cancel { delivery: number, reason });
            }
        }
        Ok(())
    }

    /// Handles a connection that has dropped or is considered dropped.
    pub(super) fn dropped(&self, slot: u32) {
        if self.connections.attached.borrow_mut().remove(&slot).is_none() {
            return;
        }
        self.connections.heard_at.borrow_mut().remove(&slot);
        self.connections.pool.borrow_mut().leave(slot, clock::now());
        if self.connections.attached.borrow().is_empty() {
            self.connections.look_at.set(None);
        }
    }

    pub(super) fn hang_up(&self, slots: &[u32], code: u16, reason: &str) {
        for slot in slots {
            self.connections.sockets.close(*slot, code, reason);
            self.dropped(*slot);
        }
    }

    /// Closes all connections because the service has another transport or must start anew.
    pub(super) fn disconnect_all(&self) {
        self.hang_up(&self.connections.who(|_, _| true), CHANGED, "the service was changed: connect again");
    }

    /// The service was deleted: idle connections are closed; running work may finish.
    pub(super) fn let_go(&self) {
        if self.connections.pool.borrow().in_flight() == 0 {
            self.hang_up(&self.connections.who(|_, _| true), GONE, "there is no such service any more");
        }
    }

    /// Closes the connections of ended credentials.
    pub(super) fn revoke(&self, whose: impl Fn(&Viewer) -> bool) {
        let ended = self.connections.who(|_, one| whose(&one.viewer));
        self.hang_up(&ended, CREDENTIALS_ENDED, "the credentials have ended");
    }

    pub(super) fn revoke_with(&self, gone: &Gone) {
        self.revoke(|viewer| viewer.ends_with(gone));
    }

    /// Handles expired credentials, dead connections and overdue deliveries.
    pub(super) fn look_over(self: &Rc<Self>, now: Timestamp) {
        self.revoke(|viewer| viewer.until.is_some_and(|until| until <= now));
        if self.connections.look_at.get().is_some_and(|at| at <= now) {
            self.connections.look_at.set(Some(now.plus_ms(LOOK_MS)));
            let heard = self.connections.heard_at.borrow().clone();
            let silent = self.connections.who(|slot, one| {
                let pinged = self.connections.sockets.pinged_at(slot);
                let last = [Some(one.joined_at), pinged, heard.get(&slot).copied()].into_iter().flatten().max();
                last.is_some_and(|last| now.since(last) >= SILENT_MS)
            });
            self.hang_up(&silent, SILENT, "nothing was heard for 75 s: send ping every 20 s");
            let inner = self.clone();
            tasks::spawn(async move { inner.check_standing().await });
        }
        let over = self.connections.pool.borrow_mut().expire(now);
        for (delivery, slot) in over.past {
            let number = delivery.number();
            if let Err(failure) = self.tables.drop_delivery(&number) {
                self.log(log::Message::DeliveryNotDeleted, &failure);
            }
            if let Some(slot) = slot {
                self.connections
                    .tell(slot, &GatewayMessage::Cancel { delivery: &number, reason: WithdrawalReason::Deadline });
            }
        }
        for delivery in over.given_up {
            self.give_up(delivery);
        }
    }

    /// Closes the connections whose credentials no longer permit them, as far as the registry knows, in case a
    /// revocation message was lost.
    async fn check_standing(self: Rc<Self>) {
        let Some(Identity { tenant, service }) = self.identity.borrow().clone() else { return };
        let Ok(snapshot) = snapshot::refreshed(&tenant).await else { return };
        let needed = format!("services:connect:{service}");
        self.revoke(|viewer| {
            viewer.principal.starts_with("key:")
                && snapshot.principal(&tenant, &viewer.principal).is_none_or(|principal| !principal.may(&needed))
        });
        self.settle_and_tell();
    }
}
