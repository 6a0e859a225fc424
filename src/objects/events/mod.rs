//! `EventHub`: a tenant's event log and the sockets that watch it.
//!
//! Every event has one place in one sequence, without a gap. A socket is either live, and gets what is
//! appended as it is appended, or catching up, and is fed from the log until it has reached the end; it
//! becomes live in the same moment in which the log has nothing more for it, so nothing is missed or repeated.
//! Sockets hibernate: what is known of one lies in its attachment.

mod log;
pub mod messages;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wasm_bindgen::prelude::*;

use crate::core::event::{cloud_event, gap_event, sequence_text};
use crate::core::filter::Filter;
use crate::core::json::{MAX_DEPTH, check};
use crate::core::time::Timestamp;
use crate::objects::reply;
use crate::platform::http::{Headers, answer};
use crate::platform::settings;
use crate::platform::sockets::Sockets;
use crate::platform::{Failure, clock, die, tasks};

use log::Log;
use messages::{Ask, Open, Reply, Viewer};

/// Batches read at a time while a socket catches up.
const PIECE: u64 = 32;
/// Batches looked through for one page of a list.
const MOST_BATCHES: u64 = 500;
/// The platform's bound is 32,768; beyond this a newcomer is turned away with 4429.
const MOST_SOCKETS: usize = 20_000;
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

const CREDENTIALS_ENDED: u16 = 4401;
const GAP: u16 = 4410;
const TOO_MANY: u16 = 4429;
const BAD_MESSAGE: u16 = 1008;
const TOO_LARGE: u16 = 1009;
const LOG_UNREADABLE: u16 = 1011;

/// What outlives hibernation of a socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Subscription {
    viewer: Viewer,
    filter: Filter,
    /// The one subject it is for, whatever it subscribes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bound_to: Option<String>,
    /// Catching up: everything up to this sequence was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent: Option<u64>,
}

struct Hub {
    log: RefCell<Log>,
    sockets: Sockets,
    subscriptions: RefCell<HashMap<u32, Subscription>>,
    /// Live sockets by what they see: each filter is asked once for an event, however many share it.
    live: RefCell<HashMap<Filter, Vec<u32>>>,
    retention_ms: Cell<u64>,
    /// What it is when the tenant does not say, in milliseconds.
    usual_ms: u64,
    alarm_set: Cell<bool>,
    may_die: bool,
}

#[wasm_bindgen]
pub struct EventHub(Rc<Hub>);

#[wasm_bindgen]
impl EventHub {
    #[wasm_bindgen(constructor)]
    pub fn new(state: &JsValue, env: &JsValue) -> Result<EventHub, JsValue> {
        let log = Log::open(state).map_err(|failure| js_sys::Error::new(&failure.0))?;
        let own_ms = log.retention_ms().map_err(|failure| js_sys::Error::new(&failure.0))?;
        let usual_ms = settings::of(env).event_retention_hours.max(1) * 3_600_000;
        let (sockets, found) = Sockets::restore(state);
        let hub = Rc::new(Hub {
            log: RefCell::new(log),
            sockets,
            subscriptions: RefCell::default(),
            live: RefCell::default(),
            retention_ms: Cell::new(own_ms.unwrap_or(usual_ms)),
            usual_ms,
            alarm_set: Cell::new(false),
            may_die: settings::of(env).panic_routes,
        });
        for (slot, attachment) in found {
            if let Ok(subscription) = serde_json::from_str::<Subscription>(&attachment) {
                hub.take_up(slot, subscription);
            }
        }
        Ok(Self(hub))
    }

    pub fn call(&self, message: &str) -> Result<JsValue, JsValue> {
        let ask: Ask = serde_json::from_str(message).map_err(|e| js_sys::Error::new(&e.to_string()))?;
        tasks::turn(|| reply(self.0.answer(ask)))
    }

    /// Opens a socket; `message` is an [`Open`].
    pub fn open(&self, message: &str) -> Result<JsValue, JsValue> {
        let open: Open = serde_json::from_str(message).map_err(|e| js_sys::Error::new(&e.to_string()))?;
        Ok(tasks::turn(|| self.0.open(open)))
    }

    /// A client's message: `{"subscribe": {…}}` replaces its filter.
    pub fn message(&self, socket: &JsValue, text: Option<String>) {
        if let Some(slot) = self.0.sockets.slot(socket) {
            tasks::turn(|| self.0.message(slot, text.as_deref()));
        }
    }

    pub fn closed(&self, socket: &JsValue) {
        if let Some(slot) = self.0.sockets.slot(socket) {
            self.0.forget_socket(slot);
        }
    }

    pub fn alarm(&self) -> Result<(), JsValue> {
        self.0.alarm_set.set(false);
        self.0.sweep().map_err(|failure| js_sys::Error::new(&failure.0).into())
    }
}

impl Hub {
    fn answer(self: &Rc<Self>, ask: Ask) -> Result<Reply, Failure> {
        match ask {
            Ask::Publish(publish) => {
                let from = self.log.borrow().next();
                if self.log.borrow_mut().append(clock::now(), &publish)? {
                    self.broadcast(from)?;
                    self.arm()?;
                }
                Ok(Reply::Published { head: self.log.borrow().head(&publish.teller) })
            }
            Ask::List { viewer, filter, after, since, limit } => self.list(&viewer, &filter, after, since, limit),
            Ask::MakeTicket { ticket_hash, viewer, until } => {
                let viewer = serde_json::to_string(&viewer)?;
                self.log.borrow().keep_ticket(&ticket_hash, &viewer, until, clock::now())?;
                Ok(Reply::Done)
            }
            Ask::UseTicket { ticket_hash } => {
                let viewer = self.log.borrow().take_ticket(&ticket_hash, clock::now())?;
                Ok(Reply::Ticket(viewer.map(|text| serde_json::from_str(&text)).transpose()?))
            }
            Ask::Revoke { principal } => {
                self.log.borrow().forget_tickets(&principal)?;
                self.close_all(|viewer| viewer.principal == principal);
                Ok(Reply::Done)
            }
            Ask::Retain { hours } => {
                let own_ms = hours.map(|hours| hours * 3_600_000);
                self.log.borrow().retain(own_ms)?;
                self.retention_ms.set(own_ms.unwrap_or(self.usual_ms));
                self.sweep()?;
                Ok(Reply::Done)
            }
            Ask::Sweep => {
                self.sweep()?;
                Ok(Reply::Done)
            }
        }
    }

    fn list(
        &self,
        viewer: &Viewer,
        filter: &Filter,
        after: u64,
        since: Option<Timestamp>,
        limit: u64,
    ) -> Result<Reply, Failure> {
        let log = self.log.borrow();
        let from = match since {
            Some(at) => log.before_time(at)?.max(after),
            None => after,
        };
        let first_kept = log.first_kept()?.unwrap_or_else(|| log.next());
        let gap = (after > 0 && after + 1 < first_kept).then_some(first_kept);
        let mut events = Vec::new();
        let batches = log.after(from, MOST_BATCHES)?;
        for batch in &batches {
            for (sequence, bundle, item, before) in batch.events().filter(|(at, ..)| *at > from) {
                if filter.matches(bundle, item) {
                    let text = cloud_event(&viewer.tenant, &batch.teller, bundle, item, before, sequence);
                    events.push(RawValue::from_string(text)?);
                }
                if events.len() as u64 == limit {
                    let more = sequence + 1 < log.next();
                    return Ok(Reply::Events { events, next: more.then_some(sequence), gap });
                }
            }
        }
        // Where nothing matched for long, the next page goes on from there.
        let looked_at = batches.last().and_then(|batch| batch.events().last().map(|(sequence, ..)| sequence));
        let next = looked_at.filter(|_| batches.len() as u64 == MOST_BATCHES);
        Ok(Reply::Events { events, next, gap })
    }

    fn open(self: &Rc<Self>, open: Open) -> JsValue {
        let mut headers = Headers::default();
        let mut lines = open.headers.split('\n');
        while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
            headers.set(name, value);
        }
        let next = self.log.borrow().next();
        // From the future there is nothing to resume: such a client starts at the end.
        let sent = open.after.filter(|after| after + 1 < next);
        let subscription = Subscription { viewer: open.viewer, filter: open.filter, bound_to: open.bound_to, sent };
        let Ok(attachment) = serde_json::to_string(&subscription) else {
            return answer(500, &headers, None);
        };
        let full = self.subscriptions.borrow().len() >= MOST_SOCKETS;
        let (response, slot) = self.sockets.accept(&attachment, &headers);
        if full {
            self.sockets.close(slot, TOO_MANY, "too many sockets; try again later");
        } else {
            self.take_up(slot, subscription);
        }
        response
    }

    fn take_up(self: &Rc<Self>, slot: u32, subscription: Subscription) {
        let catching_up = subscription.sent.is_some();
        if !catching_up {
            self.live.borrow_mut().entry(subscription.filter.clone()).or_default().push(slot);
        }
        self.subscriptions.borrow_mut().insert(slot, subscription);
        if catching_up {
            let hub = self.clone();
            tasks::spawn(async move { hub.catch_up(slot).await });
        }
    }

    /// Feeds a socket from the log, piece by piece, until it has everything.
    async fn catch_up(self: Rc<Self>, slot: u32) {
        while self.feed(slot) {
            // Others get their turn between two pieces.
            clock::pause(0).await;
        }
    }

    /// Sends a socket one piece of the log; true when more is to come. At the log's end it becomes live.
    fn feed(&self, slot: u32) -> bool {
        let known = self.subscriptions.borrow().get(&slot).cloned();
        let Some(Subscription { viewer, filter, bound_to, sent: Some(sent) }) = known else {
            return false;
        };
        let log = self.log.borrow();
        let first_kept = log.first_kept().ok().flatten().unwrap_or_else(|| log.next());
        if sent + 1 < first_kept {
            let text = gap_event(&viewer.tenant, clock::now(), sent, first_kept);
            self.sockets.send(&[slot], &text);
            self.close(slot, GAP, &format!("resume after {}", sequence_text(first_kept - 1)));
            return false;
        }
        let Ok(piece) = log.after(sent, PIECE) else {
            self.close(slot, LOG_UNREADABLE, "the log could not be read");
            return false;
        };
        let mut reached = None;
        for batch in &piece {
            for (sequence, bundle, item, before) in batch.events().filter(|(at, ..)| *at > sent) {
                reached = Some(sequence);
                if filter.matches(bundle, item) {
                    let text = cloud_event(&viewer.tenant, &batch.teller, bundle, item, before, sequence);
                    self.sockets.send(&[slot], &text);
                }
            }
        }
        let sent = reached.filter(|reached| reached + 1 < log.next());
        let subscription = Subscription { viewer, filter, bound_to, sent };
        if let Ok(attachment) = serde_json::to_string(&subscription) {
            self.sockets.attach(slot, &attachment);
        }
        if sent.is_none() {
            self.live.borrow_mut().entry(subscription.filter.clone()).or_default().push(slot);
        }
        self.subscriptions.borrow_mut().insert(slot, subscription);
        sent.is_some()
    }

    /// Sends what was appended from this sequence on to whoever is live.
    fn broadcast(self: &Rc<Self>, from: u64) -> Result<(), Failure> {
        if self.subscriptions.borrow().is_empty() {
            return Ok(());
        }
        let now = clock::now();
        self.close_all(|viewer| viewer.until.is_some_and(|until| until <= now));
        let live = self.live.borrow();
        let appended = self.log.borrow().after(from - 1, 1)?;
        let events = appended.iter().flat_map(|batch| batch.events().map(move |event| (batch, event)));
        for (batch, (sequence, bundle, item, before)) in events {
            let slots: Vec<u32> = live
                .iter()
                .filter(|(filter, _)| filter.matches(bundle, item))
                .flat_map(|(_, slots)| slots.iter().copied())
                .collect();
            if !slots.is_empty() {
                let text = cloud_event(&batch.tenant, &batch.teller, bundle, item, before, sequence);
                self.sockets.send(&slots, &text);
            }
        }
        Ok(())
    }

    fn message(self: &Rc<Self>, slot: u32, text: Option<&str>) {
        let Some(subscription) = self.subscriptions.borrow().get(&slot).cloned() else {
            return;
        };
        let text = match text {
            Some(text) if text.len() <= MAX_MESSAGE_BYTES => text,
            Some(_) => return self.close(slot, TOO_LARGE, "messages have at most 64 KiB"),
            None => return self.close(slot, BAD_MESSAGE, "messages are text"),
        };
        if self.may_die && text == "die" {
            die();
        }
        let viewer = &subscription.viewer;
        let filter = match check(text.as_bytes(), MAX_DEPTH) {
            Ok(text) => Filter::from_message(text, &viewer.principal, viewer.sees_all),
            Err(invalid) => Err(vec![invalid.fault()]),
        };
        match filter {
            Ok(mut filter) => {
                if subscription.bound_to.is_some() {
                    filter.subject.clone_from(&subscription.bound_to);
                }
                let changed = Subscription { filter, ..subscription };
                self.leave(slot);
                if let Ok(attachment) = serde_json::to_string(&changed) {
                    self.sockets.attach(slot, &attachment);
                }
                let catching_up = changed.sent.is_some();
                if catching_up {
                    // Whoever feeds it reads the new filter with the next piece.
                    self.subscriptions.borrow_mut().insert(slot, changed);
                } else {
                    self.take_up(slot, changed);
                }
            }
            Err(faults) => {
                let problem = BTreeMap::from([("errors", faults)]);
                self.sockets.send(&[slot], &serde_json::to_string(&problem).unwrap_or_default());
            }
        }
    }

    fn leave(&self, slot: u32) {
        let mut live = self.live.borrow_mut();
        for slots in live.values_mut() {
            slots.retain(|other| *other != slot);
        }
        live.retain(|_, slots| !slots.is_empty());
    }

    fn forget_socket(&self, slot: u32) {
        self.leave(slot);
        self.subscriptions.borrow_mut().remove(&slot);
    }

    fn close(&self, slot: u32, code: u16, reason: &str) {
        self.sockets.close(slot, code, reason);
        self.forget_socket(slot);
    }

    fn close_all(&self, whose: impl Fn(&Viewer) -> bool) {
        let ended: Vec<u32> = {
            let subscriptions = self.subscriptions.borrow();
            subscriptions.iter().filter(|(_, sub)| whose(&sub.viewer)).map(|(slot, _)| *slot).collect()
        };
        for slot in ended {
            self.close(slot, CREDENTIALS_ENDED, "the credentials have ended");
        }
    }

    fn sweep(&self) -> Result<(), Failure> {
        let before = Timestamp(clock::now().0.saturating_sub(self.retention_ms.get()));
        if self.log.borrow().forget(before)? {
            self.log.borrow().set_alarm(clock::now().plus_ms(1_000));
            self.alarm_set.set(true);
        }
        self.arm()
    }

    /// Wakes when the oldest events are past their time.
    fn arm(&self) -> Result<(), Failure> {
        if !self.alarm_set.get()
            && let Some(oldest) = self.log.borrow().oldest_at()?
        {
            let due = oldest.plus_ms(self.retention_ms.get()).max(clock::now().plus_ms(self.retention_ms.get() / 24));
            self.log.borrow().set_alarm(due);
            self.alarm_set.set(true);
        }
        Ok(())
    }
}
