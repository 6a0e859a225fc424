//! `ServiceLane`: the wait queue, the breaker and the health of one service; a single instance worldwide.
//!
//! A shell around `narthex_core::lane`. A change of the status or the breaker is written to disk and reported to the
//! registry before the request that caused it is answered, so that a snapshot fetched afterwards includes it. Permits
//! and counts are in memory; a restarted lane grants no permit until the earlier ones are renewed or have expired.

mod alarm;
pub mod client;
mod connections;
pub mod messages;
mod permit_waits;
mod probe;
mod reports;
mod tables;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use futures_channel::oneshot;
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

use crate::objects::reply;
use crate::platform::{Failure, clock, log, random, settings, tasks};
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::calling::connection::frame::WithdrawalReason;
use narthex_core::lane::health::StatusReason;
use narthex_core::lane::queue::Waiter;
use narthex_core::lane::{Lane, LaneRecord, PermitDecision};

use connections::Connections;
use messages::{Ask, Message, Reply, Seen, Target, Told};
use tables::{BUSY_UNTIL, STATE, TARGET, Tables};

/// The longest wait for a permit in one request, in milliseconds.
const MAX_WAIT_MS: u64 = 30_000;

/// The stored state of a lane.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    tenant: String,
    service: String,
    #[serde(default)]
    moved_at: Timestamp,
    kept: LaneRecord,
    /// When the service is probed next.
    #[serde(default)]
    probe_at: Option<Timestamp>,
    /// A status change that the registry has not received yet.
    #[serde(default)]
    untold: Option<StatusReason>,
    /// For a service that connects: how long it may be disconnected.
    #[serde(default)]
    grace_ms: Option<u64>,
    /// The service was deleted; its running deliveries may finish.
    #[serde(default)]
    is_leaving: bool,
}

#[derive(Debug, Clone)]
struct Identity {
    tenant: String,
    service: String,
}

struct Inner {
    tables: Tables,
    lane: RefCell<Lane>,
    identity: RefCell<Option<Identity>>,
    configured_at: Cell<Timestamp>,
    /// When the service was given its present address: everything else refers to the service at that address.
    moved_at: Cell<Timestamp>,
    target: RefCell<Option<Target>>,
    /// Requests that wait for a permit, by context: after a store restarts, two workers may wait for the same context.
    waiters: RefCell<HashMap<String, Vec<oneshot::Sender<PermitDecision>>>>,
    is_ticking: Cell<bool>,
    /// The stored value.
    busy_until: Cell<Timestamp>,
    is_resting: Cell<bool>,
    beat_kept: Cell<Timestamp>,
    probe_at: Cell<Option<Timestamp>>,
    is_probing: Cell<bool>,
    watchers: RefCell<Vec<oneshot::Sender<Seen>>>,
    seen: RefCell<Option<Seen>>,
    untold: Cell<Option<StatusReason>>,
    connections: Connections,
    grace_ms: Cell<Option<u64>>,
    is_leaving: Cell<bool>,
    /// The service's own concurrency limit.
    most: Cell<Option<u64>>,
    max_queue: Cell<u64>,
    alarm_at: Cell<Option<Timestamp>>,
    timing: Timing,
}

#[wasm_bindgen]
pub struct ServiceLane(Rc<Inner>);

#[wasm_bindgen]
impl ServiceLane {
    #[wasm_bindgen(constructor)]
    pub fn new(state: &JsValue, env: &JsValue) -> Result<ServiceLane, JsValue> {
        let inner = Inner::open(state, env).map_err(|failure| js_sys::Error::new(&failure.0))?;
        Ok(Self(Rc::new(inner)))
    }

    /// One message, one reply; answered synchronously unless the reply must wait or the registry must be notified
    /// first.
    pub fn call(&self, message: &str) -> Result<JsValue, JsValue> {
        let message: Message = serde_json::from_str(message).map_err(|e| js_sys::Error::new(&e.to_string()))?;
        let inner = self.0.clone();
        if matches!(message.ask, Ask::Acquire { wait_ms: 1.., .. } | Ask::Check(_)) {
            return Ok(tasks::promise(async move { reply(inner.answer_later(message).await) }));
        }
        tasks::turn(|| {
            let told = inner.know(&message).and_then(|()| inner.answer(message.ask));
            match told {
                Ok(told) if inner.settle() => Ok(tasks::promise(async move {
                    inner.tell().await;
                    reply(Ok(inner.reply(told)))
                })),
                told => reply(told.map(|told| inner.reply(told))),
            }
        })
    }

    pub fn alarm(&self) -> JsValue {
        let inner = self.0.clone();
        tasks::promise(async move {
            inner.wake().await;
            Ok(JsValue::UNDEFINED)
        })
    }
}

impl Inner {
    fn open(state: &JsValue, env: &JsValue) -> Result<Self, Failure> {
        let tables = Tables::open(state)?;
        let now = clock::now();
        let timing = settings::of(env).timing;
        let known: Option<State> = tables.get(STATE)?;
        let target: Option<Target> = tables.get(TARGET)?;
        let busy_until: Timestamp = tables.get(BUSY_UNTIL)?.unwrap_or_default();
        let identity = known
            .as_ref()
            .map(|state| Identity { tenant: state.tenant.clone(), service: state.service.clone() })
            .filter(|identity| !identity.service.is_empty());
        let State { kept, moved_at, probe_at, untold, grace_ms, is_leaving, .. } = known.unwrap_or_default();
        let connections = Connections::restore(state, &tables, grace_ms.unwrap_or_default(), now)?;
        // Every permit granted before this instance expires within one permit lease from now.
        let closed_until = busy_until.min(now.plus_ms(timing.permit_ms));
        let mut lane = Lane::restore(kept, now, closed_until, timing);
        lane.set_probe_interval(target.as_ref().and_then(|target| target.interval_ms));
        let beat_kept = lane.heartbeat_until().unwrap_or_default();
        let inner = Self {
            tables,
            lane: RefCell::new(lane),
            identity: RefCell::new(identity),
            configured_at: Cell::default(),
            moved_at: Cell::new(moved_at),
            target: RefCell::new(target),
            waiters: RefCell::default(),
            is_ticking: Cell::new(false),
            busy_until: Cell::new(busy_until),
            is_resting: Cell::new(false),
            beat_kept: Cell::new(beat_kept),
            probe_at: Cell::new(probe_at),
            is_probing: Cell::new(false),
            watchers: RefCell::default(),
            seen: RefCell::default(),
            untold: Cell::new(untold),
            connections,
            grace_ms: Cell::new(grace_ms),
            is_leaving: Cell::new(is_leaving),
            most: Cell::new(None),
            max_queue: Cell::new(0),
            alarm_at: Cell::new(None),
            timing,
        };
        inner.make_room();
        // The stored alarm covers everything that follows from the stored state, but not deliveries whose connections
        // dropped with the last instance.
        let is_idle = inner.connections.pool.borrow().in_flight() == 0;
        inner.alarm_at.set(inner.due(now).filter(|_| is_idle));
        Ok(inner)
    }

    fn reply(&self, told: Told) -> Reply {
        Reply { measured: self.lane.borrow().observed(), told }
    }

    /// Learns the identity of the lane, and the sender's limits unless newer ones are known.
    fn know(&self, message: &Message) -> Result<(), Failure> {
        if matches!(message.ask, Ask::Forget) {
            return Ok(());
        }
        if self.identity.borrow().is_none() {
            let (tenant, service) = (message.tenant.clone(), message.service.clone());
            *self.identity.borrow_mut() = Some(Identity { tenant, service });
        }
        if message.moved_at > self.moved_at.get() {
            self.moved_at.set(message.moved_at);
            self.lane.borrow_mut().reset();
            self.seen.take();
            self.is_leaving.set(false);
            if message.grace_ms != self.grace_ms.get() {
                self.disconnect_all();
                self.grace_ms.set(message.grace_ms);
                self.connections.pool.borrow_mut().set_grace(message.grace_ms.unwrap_or_default());
                self.keep()?;
            }
        }
        if message.configured_at >= self.configured_at.get() {
            self.configured_at.set(message.configured_at);
            self.most.set(message.max_concurrency);
            self.max_queue.set(message.max_queue);
            self.make_room();
        }
        Ok(())
    }

    async fn answer_later(self: &Rc<Self>, message: Message) -> Result<Reply, Failure> {
        self.know(&message)?;
        let told = match message.ask {
            Ask::Check(target) => {
                let seen = self.see(&target).await?;
                if self.probe_at.get().is_some() {
                    self.keep()?;
                }
                Told::Seen(seen)
            }
            Ask::Acquire { context, principal, priority, deadline, admitted, wait_ms } => {
                let who = Waiter { context, principal, priority, deadline, admitted };
                Told::Entered(self.wait_for_turn(who, wait_ms.min(MAX_WAIT_MS)).await?)
            }
            ask => self.answer(ask)?,
        };
        if self.settle() {
            self.tell().await;
        }
        Ok(self.reply(told))
    }

    fn answer(self: &Rc<Self>, ask: Ask) -> Result<Told, Failure> {
        let now = clock::now();
        match ask {
            Ask::Acquire { context, principal, priority, deadline, admitted, .. } => {
                return Ok(Told::Entered(self.enter(Waiter { context, principal, priority, deadline, admitted })?));
            }
            Ask::Renew { permit, principal } => self.lane.borrow_mut().renew(permit, &principal, now),
            Ask::Release { permit, sample } => self.lane.borrow_mut().release(permit, sample, now, random::number()),
            Ask::Report { successes, last } => self.lane.borrow_mut().report(successes, last, now, random::number()),
            Ask::Leave { context } => {
                self.waiters.borrow_mut().remove(context.as_str());
                self.lane.borrow_mut().leave(&context);
            }
            Ask::Heartbeat { status, lease_ms } => {
                self.lane.borrow_mut().heartbeat(status, lease_ms, now);
                let until = now.plus_ms(lease_ms);
                if until > self.beat_kept.get() {
                    self.keep()?;
                }
                return Ok(Told::Beats { until });
            }
            Ask::Configure(target) => self.configure(target, now)?,
            Ask::Connects => self.catch_up(now),
            Ask::Hand { delivery, work } => return Ok(Told::Handed(self.hand(delivery, &work)?)),
            Ask::Withdraw { context, cancelled } => {
                let numbers = self.connections.pool.borrow().of_context(&context);
                self.withdraw(&numbers, cancelled.then_some(WithdrawalReason::Cancelled))?;
            }
            Ask::Look => return Ok(Told::Seen(self.is_connected(now))),
            Ask::Revoke { principal } => self.revoke(|viewer| viewer.principal == principal),
            Ask::End(gone) => self.revoke_with(&gone),
            Ask::Connect { .. } => return Err(Failure("a connection is opened otherwise".into())),
            Ask::Forget => self.forget()?,
            Ask::Check(_) => return Err(Failure("a probe has to be waited for".into())),
        }
        Ok(Told::Done)
    }

    fn enter(&self, who: Waiter) -> Result<PermitDecision, Failure> {
        self.make_room();
        let entered = self.lane.borrow_mut().acquire(who, clock::now(), random::number());
        if matches!(entered, PermitDecision::Permit { probe: true, .. }) {
            // The single probe is stored, so that a restart does not grant another.
            self.keep()?;
        }
        Ok(entered)
    }

    /// After every change: grants permits, stores what must be stored, and sets the alarm. Returns true if the registry
    /// must be notified before the reply.
    fn settle(self: &Rc<Self>) -> bool {
        let now = clock::now();
        if self.is_leaving.get() && self.connections.pool.borrow().in_flight() == 0 {
            if let Err(failure) = self.forget() {
                self.log(log::Message::LaneNotDeleted, &failure);
            }
            return false;
        }
        self.make_room();
        let turns = self.lane.borrow_mut().grant_permits(now);
        for (context, entered) in turns {
            self.take_turn(&context, entered);
        }
        self.stay_busy(now);
        let news = self.lane.borrow_mut().status_update(now);
        let mut tells = false;
        if let Some(news) = news {
            if news.changed {
                self.untold.set(Some(news.reason));
                tells = self.keep().is_ok();
            } else {
                let inner = self.clone();
                tasks::spawn(async move { inner.tell_figures().await });
            }
        }
        let forgets = self.lane.borrow().should_persist(now);
        if forgets && let Err(failure) = self.keep() {
            self.log(log::Message::LaneNotSaved, &failure);
        }
        self.arm(now);
        tells
    }

    /// Stores the lane's state.
    fn keep(&self) -> Result<(), Failure> {
        let Some(Identity { tenant, service }) = self.identity.borrow().clone() else {
            return Ok(());
        };
        let kept = self.lane.borrow_mut().to_record(clock::now());
        self.beat_kept.set(kept.evidence.heartbeat_until().unwrap_or_default());
        let (moved_at, probe_at, untold) = (self.moved_at.get(), self.probe_at.get(), self.untold.get());
        let (grace_ms, is_leaving) = (self.grace_ms.get(), self.is_leaving.get());
        self.tables.put(STATE, &State { tenant, service, moved_at, kept, probe_at, untold, grace_ms, is_leaving })
    }

    fn configure(&self, target: Target, now: Timestamp) -> Result<(), Failure> {
        let is_known = self.target.borrow().as_ref() == Some(&target);
        if is_known {
            self.catch_up(now);
            return Ok(());
        }
        self.lane.borrow_mut().set_probe_interval(target.interval_ms);
        // The first probe follows soon: until then the health is unknown.
        self.probe_at.set(target.interval_ms.map(|_| now.plus_ms(self.timing.first_probe_ms)));
        self.tables.put(TARGET, &target)?;
        *self.target.borrow_mut() = Some(target);
        self.keep()
    }

    /// Deletes the lane's state, after running deliveries have finished.
    fn forget(&self) -> Result<(), Failure> {
        if self.connections.pool.borrow().in_flight() > 0 {
            self.is_leaving.set(true);
            return self.keep();
        }
        self.let_go();
        self.grace_ms.set(None);
        self.is_leaving.set(false);
        self.make_room();
        let now = clock::now();
        *self.lane.borrow_mut() = Lane::restore(LaneRecord::default(), now, Timestamp(0), self.timing);
        self.identity.take();
        self.target.take();
        self.seen.take();
        self.waiters.borrow_mut().clear();
        self.configured_at.set(Timestamp(0));
        self.moved_at.set(Timestamp(0));
        self.busy_until.set(Timestamp(0));
        self.beat_kept.set(Timestamp(0));
        self.probe_at.set(None);
        self.untold.set(None);
        self.alarm_at.set(None);
        self.tables.forget_all()
    }
}
