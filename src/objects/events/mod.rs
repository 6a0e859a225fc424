//! `EventHub`: a tenant's event log and its sockets; `EventShard`: further sockets.
//!
//! Every event has one position in one sequence, without gaps. A socket is either live, and receives events as they are
//! appended, or it is catching up, and is fed from the log; it becomes live at the moment it has reached the end of the
//! log, so no event is missed or repeated. Sockets hibernate: the state of each is in its attachment. Sockets beyond a
//! limit go to shards, to which the hub pushes what it appends.

pub mod client;
mod deliveries;
mod handlers;
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

use wasm_bindgen::JsValue;

use crate::objects::alarm::ObjectAlarm;
use crate::objects::shell::{Outcome, Shell, WrittenAnswer, socket_object};
use crate::platform::{Failure, clock, settings};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::events::fanout::Shards;
use narthex_core::events::sequence::Sequence;

use deliveries::Deliveries;
use log::Log;
use messages::{Ask, Publish};
use subscribers::Subscribers;
use usage::{COUNT_INTERVAL_MS, Usage};

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
    alarm: ObjectAlarm,
    /// When events may expire next; `None` while unknown.
    sweep_at: Cell<Option<Timestamp>>,
    /// When an unreachable shard is tried again.
    push_at: Cell<Option<Timestamp>>,
    checked_at: Cell<Timestamp>,
    check_ms: u64,
}

socket_object!(EventHub: Hub);

impl Shell for Hub {
    type Message = Ask;

    fn open(state: &JsValue, env: &JsValue) -> Result<Rc<Self>, Failure> {
        let settings = settings::of(env);
        let log = Log::open(state)?;
        let (own_ms, (joined, tenant)) = (log.retention_ms()?, log.shards()?);
        let deliveries = Deliveries::open(state, &settings.webhook_pauses_ms, settings.timing)?;
        let usage = Usage::open(state)?;
        let default_retention_ms = settings.event_retention_hours.max(1) * 3_600_000;
        let hub = Rc::new(Self {
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
            alarm: ObjectAlarm::default(),
            sweep_at: Cell::new(None),
            push_at: Cell::new(None),
            checked_at: Cell::new(clock::now()),
            check_ms: settings.socket_check_ms,
        });
        hub.feed_all();
        Ok(hub)
    }

    fn answer(self: &Rc<Self>, ask: Ask) -> WrittenAnswer {
        let hub = self.clone();
        // Within a task, so that the tasks that it spawns begin after it.
        WrittenAnswer::later(async move { ask.dispatch(&hub).get().await })
    }

    fn alarm(self: &Rc<Self>) -> Outcome<()> {
        Outcome::Now(self.wake())
    }
}

impl Hub {
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
        self.alarm.fired();
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
        self.alarm.arm(due, |at| self.log.borrow().set_alarm(at));
    }
}
