//! `EventHub`: a tenant's event log and its sockets; `EventShard`: further sockets.
//!
//! Every event has one position in one sequence, without gaps. A socket is either live, and receives events as they are
//! appended, or it is catching up, and is fed from the log; it becomes live at the moment it has reached the end of the
//! log, so no event is missed or repeated. Sockets hibernate: the state of each is in its attachment. Sockets beyond a
//! limit go to shards, to which the hub pushes what it appends.

mod deliveries;
mod log;
pub mod messages;
mod shard;
mod shards;
mod subscribers;
mod subscriptions;
mod usage;
mod webhooks;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use serde_json::value::RawValue;
use wasm_bindgen::prelude::*;

use crate::objects::reply;
use crate::platform::settings;
use crate::platform::{Failure, clock, tasks};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::events::fanout::Shards;
use narthex_core::events::filter::Filter;
use narthex_core::events::sequence::Sequence;

use deliveries::Deliveries;
use log::Log;
use messages::{Ask, Open, Publish, Reply};
use subscribers::Subscribers;
use usage::{COUNT_INTERVAL_MS, Usage};

/// Batches searched for one page of a list.
const MAX_BATCHES: u64 = 500;
/// Batches read at a time: each may exceed half a megabyte.
const BATCHES_AT_ONCE: u64 = 20;
/// A list of events ends early beyond this size, in bytes.
const LIST_BYTES: usize = 4 * 1024 * 1024;

struct Hub {
    log: RefCell<Log>,
    subscribers: Subscribers,
    /// Everything up to this sequence was sent to live sockets.
    sent_up_to: Cell<Sequence>,
    shards: RefCell<Shards>,
    /// Set once a shard has joined.
    tenant: RefCell<Option<TenantId>>,
    retention_ms: Cell<u64>,
    /// The retention without a setting of the tenant, in milliseconds.
    default_retention_ms: u64,
    deliveries: RefCell<Deliveries>,
    usage: Usage,
    /// When usage was last counted.
    counted_at: Cell<Timestamp>,
    alarm_at: Cell<Option<Timestamp>>,
    /// When events may expire next; `None` while unknown.
    sweep_at: Cell<Option<Timestamp>>,
    /// When an unreachable shard is tried again.
    push_at: Cell<Option<Timestamp>>,
    checked_at: Cell<Timestamp>,
    check_ms: u64,
}

#[wasm_bindgen]
pub struct EventHub(Rc<Hub>);

#[wasm_bindgen]
impl EventHub {
    #[wasm_bindgen(constructor)]
    pub fn new(state: &JsValue, env: &JsValue) -> Result<EventHub, JsValue> {
        let settings = settings::of(env);
        let open = || {
            let log = Log::open(state)?;
            let (own_ms, (joined, tenant)) = (log.retention_ms()?, log.shards()?);
            let deliveries = Deliveries::open(state, &settings.webhook_pauses_ms, settings.timing)?;
            Ok((log, own_ms, joined, tenant, deliveries))
        };
        let (log, own_ms, joined, tenant, deliveries) =
            open().map_err(|failure: Failure| js_sys::Error::new(&failure.0))?;
        let default_retention_ms = settings.event_retention_hours.max(1) * 3_600_000;
        let usage = Usage::open(state).map_err(|failure| js_sys::Error::new(&failure.0))?;
        let hub = Rc::new(Hub {
            sent_up_to: Cell::new(log.last()),
            log: RefCell::new(log),
            subscribers: Subscribers::restore(state),
            shards: RefCell::new(Shards::restore(settings.hub_sockets, joined)),
            tenant: RefCell::new(tenant),
            retention_ms: Cell::new(own_ms.unwrap_or(default_retention_ms)),
            default_retention_ms,
            deliveries: RefCell::new(deliveries),
            usage,
            counted_at: Cell::new(Timestamp(0)),
            alarm_at: Cell::new(None),
            sweep_at: Cell::new(None),
            push_at: Cell::new(None),
            checked_at: Cell::new(clock::now()),
            check_ms: settings.socket_check_ms,
        });
        hub.feed_all();
        Ok(Self(hub))
    }

    pub fn call(&self, message: &str) -> Result<JsValue, JsValue> {
        let ask: Ask = serde_json::from_str(message).map_err(|e| js_sys::Error::new(&e.to_string()))?;
        let hub = self.0.clone();
        Ok(tasks::promise(async move { reply(hub.answer(ask).await) }))
    }

    /// Opens a socket; `message` is an [`Open`].
    pub fn open(&self, message: &str) -> Result<JsValue, JsValue> {
        let open: Open = serde_json::from_str(message).map_err(|e| js_sys::Error::new(&e.to_string()))?;
        Ok(tasks::turn(|| self.0.open(open)))
    }

    /// A client's message: `{"subscribe": {…}}` replaces its filter.
    pub fn message(&self, socket: &JsValue, text: Option<String>) {
        if let Some(slot) = self.0.subscribers.slot(socket) {
            tasks::turn(|| self.0.subscribers.message(slot, text.as_deref()));
        }
    }

    pub fn closed(&self, socket: &JsValue) {
        if let Some(slot) = self.0.subscribers.slot(socket) {
            self.0.subscribers.closed(slot);
        }
    }

    pub fn alarm(&self) -> Result<(), JsValue> {
        tasks::turn(|| self.0.wake()).map_err(|failure| js_sys::Error::new(&failure.0).into())
    }
}

impl Hub {
    async fn answer(self: Rc<Self>, ask: Ask) -> Result<Reply, Failure> {
        match ask {
            Ask::Publish(publish) => {
                self.publish(&publish)?;
                Ok(Reply::Published { head: self.log.borrow().head(&publish.publisher) })
            }
            Ask::List { filter, after, since, limit, .. } => self.list(&filter, after, since, limit),
            Ask::MakeTicket { ticket_hash, viewer, until } => {
                let viewer = serde_json::to_string(&viewer)?;
                self.log.borrow().store_ticket(&ticket_hash, &viewer, until, clock::now())?;
                Ok(Reply::Done)
            }
            Ask::UseTicket { ticket_hash } => {
                let viewer = self.log.borrow().redeem_ticket(&ticket_hash, clock::now())?;
                Ok(Reply::Ticket(viewer.map(|text| serde_json::from_str(&text)).transpose()?))
            }
            Ask::Revoke { principal } => self.revoke(principal).await,
            Ask::End(revocation) => self.end(revocation).await,
            Ask::Webhooks { .. }
            | Ask::WebhookStates
            | Ask::Deliver { .. }
            | Ask::Redeliver { .. }
            | Ask::Deliveries { .. } => self.answer_webhooks(ask),
            Ask::Join { shard, tenant } => self.join(shard, tenant),
            Ask::Read { after } => Ok(Reply::Page(self.log.borrow().page(after)?)),
            Ask::Retain { hours } => {
                let own_ms = hours.map(|hours| hours * 3_600_000);
                self.log.borrow().retain(own_ms)?;
                self.retention_ms.set(own_ms.unwrap_or(self.default_retention_ms));
                self.sweep()?;
                Ok(Reply::Done)
            }
            Ask::Sweep => {
                self.sweep()?;
                Ok(Reply::Done)
            }
            Ask::Usage(query) => {
                self.count_usage()?;
                Ok(Reply::Usage(self.usage.grouped(&query)?))
            }
            Ask::UsageTotals => {
                self.count_usage()?;
                Ok(Reply::Totals { rows: self.usage.totals()?, refused: self.usage.refused()? })
            }
            Ask::Refused { codes } => {
                self.usage.count_refused(&codes)?;
                Ok(Reply::Done)
            }
        }
    }

    fn list(&self, filter: &Filter, after: Sequence, since: Option<Timestamp>, limit: u64) -> Result<Reply, Failure> {
        let log = self.log.borrow();
        let from = match since {
            Some(at) => log.before_time(at)?.max(after),
            None => after,
        };
        let first_kept = log.first_kept()?.unwrap_or_else(|| log.next());
        let gap = (after > Sequence::START && after.next() < first_kept).then_some(first_kept);
        let (mut events, mut bytes, mut position, mut batches_seen) = (Vec::new(), 0, from, 0);
        loop {
            let batches = log.after(position, BATCHES_AT_ONCE)?;
            batches_seen += batches.len() as u64;
            for batch in &batches {
                let after = position;
                for (sequence, bundle, item, before) in batch.events().filter(|(at, ..)| *at > after) {
                    position = sequence;
                    if filter.matches(bundle, item) {
                        let text = batch.event(bundle, item, before, sequence);
                        bytes += text.len();
                        events.push(RawValue::from_string(text)?);
                    }
                    if events.len() as u64 == limit || bytes >= LIST_BYTES {
                        let more = sequence.next() < log.next();
                        return Ok(Reply::Events { events, next: more.then_some(sequence), gap });
                    }
                }
            }
            if (batches.len() as u64) < BATCHES_AT_ONCE {
                return Ok(Reply::Events { events, next: None, gap });
            }
            // When nothing has matched for long, the next page continues from here.
            if batches_seen >= MAX_BATCHES {
                return Ok(Reply::Events { events, next: Some(position), gap });
            }
        }
    }

    /// Appends a batch together with its webhook deliveries, and sends it to the sockets.
    fn publish(self: &Rc<Self>, publish: &Publish) -> Result<(), Failure> {
        let now = clock::now();
        let from = self.log.borrow().next();
        let no_deliveries = self.deliveries.borrow().queue.is_idle();
        let appended = match no_deliveries {
            true => self.log.borrow_mut().append(now, publish)?,
            false => self.append_for_webhooks(now, publish)?,
        };
        if appended {
            self.write_points(from);
            self.broadcast()?;
            self.settle();
        }
        Ok(())
    }

    fn count_usage(&self) -> Result<(), Failure> {
        self.counted_at.set(clock::now());
        self.usage.catch_up(&self.log.borrow())
    }

    fn wake(self: &Rc<Self>) -> Result<(), Failure> {
        let now = clock::now();
        self.alarm_at.set(None);
        self.subscribers.close_expired(now);
        self.push_at.set(self.push_at.get().filter(|at| *at > now));
        if self.sweep_at.get().is_none_or(|at| at <= now) {
            return self.sweep();
        }
        self.settle();
        Ok(())
    }

    fn sweep(self: &Rc<Self>) -> Result<(), Failure> {
        let before = Timestamp(clock::now().0.saturating_sub(self.retention_ms.get()));
        // Usage is counted before events are deleted.
        if clock::now().since(self.counted_at.get()) >= COUNT_INTERVAL_MS {
            self.count_usage()?;
            self.usage.delete_old(clock::now())?;
        }
        let more = self.log.borrow().delete_old(before)?;
        self.deliveries.borrow().delete_old(before)?;
        self.sweep_at.set(more.then(|| clock::now().plus_ms(1_000)));
        self.settle();
        Ok(())
    }

    /// After any change: notifies consumers of due deliveries, pushes to shards, and sets the alarm.
    fn settle(self: &Rc<Self>) {
        self.notify_consumers();
        self.push_out();
        self.arm();
    }

    /// Sets the alarm for expiring events, expiring credentials, and due retries.
    fn arm(&self) {
        let now = clock::now();
        if self.sweep_at.get().is_none()
            && let Ok(Some(oldest)) = self.log.borrow().oldest_at()
        {
            let kept_ms = self.retention_ms.get();
            self.sweep_at.set(Some(oldest.plus_ms(kept_ms).max(now.plus_ms(kept_ms / 24))));
        }
        let delivers_at = self.deliveries.borrow().queue.next_wakeup(now);
        let due = [self.sweep_at.get(), delivers_at, self.subscribers.next_expiry(), self.push_at.get()];
        let due = due.into_iter().flatten().min();
        if let Some(due) = due.filter(|due| self.alarm_at.get().is_none_or(|set| *due < set)) {
            self.log.borrow().set_alarm(due);
            self.alarm_at.set(Some(due));
        }
    }
}
