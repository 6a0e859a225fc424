//! `ServiceLane`: the wait queue, the breaker and the health of one service; a single instance worldwide.
//!
//! A shell around `narthex_core::lane`. A change of the status or the breaker is written to disk and reported to the
//! registry before the request that caused it is answered, so that a snapshot fetched afterwards includes it. Permits
//! and counts are in memory; a restarted lane grants no permit until the earlier ones are renewed or have expired.

mod alarm;
pub mod client;
mod connections;
mod handlers;
pub mod messages;
mod permit_waits;
mod probe;
mod reports;
mod state;
mod tables;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_channel::oneshot;
use serde_json::value::RawValue;
use wasm_bindgen::JsValue;

use crate::objects::protocol::Done;
use crate::objects::shell::{Answer, Outcome, Shell, WrittenAnswer, socket_object};
use crate::platform::{Failure, clock, log, random, settings, tasks};
use narthex_core::base::json_writer::written;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::lane::queue::Waiter;
use narthex_core::lane::{Lane, LaneRecord, PermitDecision};

use connections::Connections;
use messages::{Ask, LaneReply, Message, ProbeReport, Target};
use state::{Identity, ServiceState, StoredState};
use tables::{BUSY_UNTIL, STATE, TARGET, Tables};

struct Inner {
    tables: Tables,
    lane: RefCell<Lane>,
    state: ServiceState,
    connections: Connections,
    /// The service's own concurrency limit.
    max_concurrency: Cell<Option<u64>>,
    max_queue: Cell<u64>,
    is_ticking: Cell<bool>,
    is_clearing_busy: Cell<bool>,
    is_probing: Cell<bool>,
    probe_waiters: RefCell<Vec<oneshot::Sender<ProbeReport>>>,
    timing: Timing,
}

socket_object!(ServiceLane: Inner);

impl Shell for Inner {
    type Message = Message<Ask>;

    fn open(object: &JsValue, env: &JsValue) -> Result<Rc<Self>, Failure> {
        let tables = Tables::open(object)?;
        let now = clock::now();
        let timing = settings::of(env).timing;
        let known: Option<StoredState> = tables.get(STATE)?;
        let target: Option<Target> = tables.get(TARGET)?;
        let busy_until: Timestamp = tables.get(BUSY_UNTIL)?.unwrap_or_default();
        let identity = known
            .as_ref()
            .and_then(|state| Some(Identity { tenant: state.tenant.clone()?, service: state.service.clone()? }))
            .filter(|identity| !identity.service.as_str().is_empty());
        let StoredState { record, moved_at, probe_at, unreported, grace_ms, is_leaving, .. } =
            known.unwrap_or_default();
        let connections = Connections::restore(object, &tables, grace_ms.unwrap_or_default(), now)?;
        // Every permit granted before this instance expires within one permit lease from now.
        let closed_until = busy_until.min(now.plus_ms(timing.permit_ms));
        let mut lane = Lane::restore(record, now, closed_until, timing);
        lane.set_probe_interval(target.as_ref().and_then(|target| target.interval_ms));
        let stored_heartbeat = lane.heartbeat_until().unwrap_or_default();
        let state = ServiceState {
            identity: RefCell::new(identity),
            moved_at: Cell::new(moved_at),
            target: RefCell::new(target),
            busy_until: Cell::new(busy_until),
            stored_heartbeat: Cell::new(stored_heartbeat),
            probe_at: Cell::new(probe_at),
            unreported: Cell::new(unreported),
            grace_ms: Cell::new(grace_ms),
            is_leaving: Cell::new(is_leaving),
            ..ServiceState::default()
        };
        let inner = Self {
            tables,
            lane: RefCell::new(lane),
            state,
            connections,
            max_concurrency: Cell::new(None),
            max_queue: Cell::new(0),
            is_ticking: Cell::new(false),
            is_clearing_busy: Cell::new(false),
            is_probing: Cell::new(false),
            probe_waiters: RefCell::default(),
            timing,
        };
        inner.apply_limits();
        // The stored alarm covers everything that follows from the stored state, but not deliveries whose connections
        // dropped with the last instance.
        let is_idle = inner.connections.pool.borrow().in_flight() == 0;
        inner.state.alarm_at.set(inner.due(now).filter(|_| is_idle));
        Ok(Rc::new(inner))
    }

    /// The reply is written after the effects of the request have settled, and the registry has been notified of a
    /// change.
    fn answer(self: &Rc<Self>, message: Message<Ask>) -> WrittenAnswer {
        // A deleted service has no configuration to learn.
        if !matches!(message.ask, Ask::Forget)
            && let Err(failure) = self.learn_configuration(&message)
        {
            return WrittenAnswer::Now(Err(failure));
        }
        if matches!(message.ask, Ask::Forget) && message.moved_at < self.state.moved_at.get() {
            // A late message: the service was registered anew since.
            return written(&Done::Done).map_err(Failure::from).and_then(|text| self.reply(text)).into();
        }
        let inner = self.clone();
        match message.ask.dispatch(self) {
            WrittenAnswer::Now(Ok(text)) if self.settle() => Answer::later(async move {
                inner.notify_registry().await;
                inner.reply(text)
            })
            .into(),
            WrittenAnswer::Now(text) => text.and_then(|text| self.reply(text)).into(),
            WrittenAnswer::Later(text) => Answer::later(async move {
                let text = text.await?;
                if inner.settle() {
                    inner.notify_registry().await;
                }
                inner.reply(text)
            })
            .into(),
        }
    }

    fn alarm(self: &Rc<Self>) -> Outcome<()> {
        let inner = self.clone();
        Outcome::later(async move {
            inner.wake().await;
            Ok(())
        })
    }
}

impl Inner {
    /// A reply, written already, with the present status.
    fn reply(&self, text: String) -> Result<LaneReply<Box<RawValue>>, Failure> {
        Ok(LaneReply { observed: self.lane.borrow().observed(), reply: RawValue::from_string(text)? })
    }

    /// Learns the identity of the lane, and the sender's limits unless newer ones are known.
    fn learn_configuration<A>(&self, message: &Message<A>) -> Result<(), Failure> {
        if self.state.identity.borrow().is_none() {
            let (tenant, service) = (message.tenant.clone(), message.service.clone());
            *self.state.identity.borrow_mut() = Some(Identity { tenant, service });
        }
        if message.moved_at > self.state.moved_at.get() {
            self.state.moved_at.set(message.moved_at);
            self.lane.borrow_mut().reset();
            self.state.last_probe.take();
            self.state.is_leaving.set(false);
            if message.grace_ms != self.state.grace_ms.get() {
                self.disconnect_all();
                self.state.grace_ms.set(message.grace_ms);
                self.connections.pool.borrow_mut().set_grace(message.grace_ms.unwrap_or_default());
                self.store()?;
            }
        }
        if message.configured_at >= self.state.configured_at.get() {
            self.state.configured_at.set(message.configured_at);
            self.max_concurrency.set(message.max_concurrency);
            self.max_queue.set(message.max_queue);
            self.apply_limits();
        }
        Ok(())
    }

    fn acquire(&self, waiter: Waiter) -> Result<PermitDecision, Failure> {
        self.apply_limits();
        let decision = self.lane.borrow_mut().acquire(waiter, clock::now(), random::number());
        if matches!(decision, PermitDecision::Permit { probe: true, .. }) {
            // The single probe is stored, so that a restart does not grant another.
            self.store()?;
        }
        Ok(decision)
    }

    /// After every change: grants permits, stores what must be stored, and sets the alarm. Returns true if the registry
    /// must be notified before the reply.
    fn settle(self: &Rc<Self>) -> bool {
        let now = clock::now();
        if self.state.is_leaving.get() && self.connections.pool.borrow().in_flight() == 0 {
            if let Err(failure) = self.delete() {
                self.log(log::Message::LaneNotDeleted, &failure);
            }
            return false;
        }
        self.apply_limits();
        let decisions = self.lane.borrow_mut().grant_permits(now);
        for (context, decision) in decisions {
            self.deliver_decision(&context, decision);
        }
        self.update_busy_until(now);
        let update = self.lane.borrow_mut().status_update(now);
        let mut must_notify = false;
        if let Some(update) = update {
            if update.changed {
                self.state.unreported.set(Some(update.reason));
                must_notify = self.store().is_ok();
            } else {
                let inner = self.clone();
                tasks::spawn(async move { inner.notify_registry_of_latency().await });
            }
        }
        let must_store = self.lane.borrow().should_persist(now);
        if must_store && let Err(failure) = self.store() {
            self.log(log::Message::LaneNotSaved, &failure);
        }
        self.arm(now);
        must_notify
    }

    /// Stores the lane's state.
    fn store(&self) -> Result<(), Failure> {
        let Some(Identity { tenant, service }) = self.state.identity.borrow().clone() else {
            return Ok(());
        };
        let record = self.lane.borrow_mut().to_record(clock::now());
        self.state.stored_heartbeat.set(record.evidence.heartbeat_until().unwrap_or_default());
        let (moved_at, probe_at, unreported) =
            (self.state.moved_at.get(), self.state.probe_at.get(), self.state.unreported.get());
        let (grace_ms, is_leaving) = (self.state.grace_ms.get(), self.state.is_leaving.get());
        self.tables.put(
            STATE,
            &StoredState {
                tenant: Some(tenant),
                service: Some(service),
                moved_at,
                record,
                probe_at,
                unreported,
                grace_ms,
                is_leaving,
            },
        )
    }

    fn configure(&self, target: Target, now: Timestamp) -> Result<(), Failure> {
        let is_known = self.state.target.borrow().as_ref() == Some(&target);
        if is_known {
            self.rearm_if_missed(now);
            return Ok(());
        }
        self.lane.borrow_mut().set_probe_interval(target.interval_ms);
        // The first probe follows soon: until then the health is unknown.
        self.state.probe_at.set(target.interval_ms.map(|_| now.plus_ms(self.timing.first_probe_ms)));
        self.tables.put(TARGET, &target)?;
        *self.state.target.borrow_mut() = Some(target);
        self.store()
    }

    /// Deletes the lane's state, after running deliveries have finished.
    fn delete(&self) -> Result<(), Failure> {
        if self.connections.pool.borrow().in_flight() > 0 {
            self.state.is_leaving.set(true);
            return self.store();
        }
        self.close_idle();
        self.state.clear();
        self.apply_limits();
        *self.lane.borrow_mut() = Lane::restore(LaneRecord::default(), clock::now(), Timestamp(0), self.timing);
        self.tables.delete_all()
    }
}
