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
mod state;
mod tables;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_channel::oneshot;
use wasm_bindgen::prelude::*;

use crate::objects::reply;
use crate::platform::{Failure, clock, log, random, settings, tasks};
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::calling::connection::frame::WithdrawalReason;
use narthex_core::lane::queue::Waiter;
use narthex_core::lane::{Lane, LaneRecord, PermitDecision};

use connections::Connections;
use messages::{Ask, LaneResult, Message, ProbeReport, Reply, Target};
use state::{Identity, ServiceState, StoredState};
use tables::{BUSY_UNTIL, STATE, TARGET, Tables};

/// The longest wait for a permit in one request, in milliseconds.
const MAX_WAIT_MS: u64 = 30_000;

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
            let result = inner.learn_configuration(&message).and_then(|()| inner.answer(message.ask));
            match result {
                Ok(result) if inner.settle() => Ok(tasks::promise(async move {
                    inner.notify_registry().await;
                    reply(Ok(inner.reply(result)))
                })),
                result => reply(result.map(|result| inner.reply(result))),
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
    fn open(object: &JsValue, env: &JsValue) -> Result<Self, Failure> {
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
        Ok(inner)
    }

    fn reply(&self, result: LaneResult) -> Reply {
        Reply { observed: self.lane.borrow().observed(), result }
    }

    /// Learns the identity of the lane, and the sender's limits unless newer ones are known.
    fn learn_configuration(&self, message: &Message) -> Result<(), Failure> {
        if matches!(message.ask, Ask::Forget) {
            return Ok(());
        }
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

    async fn answer_later(self: &Rc<Self>, message: Message) -> Result<Reply, Failure> {
        self.learn_configuration(&message)?;
        let result = match message.ask {
            Ask::Check(target) => {
                let report = self.probe(&target).await?;
                if self.state.probe_at.get().is_some() {
                    self.store()?;
                }
                LaneResult::Probe(report)
            }
            Ask::Acquire { context, principal, priority, deadline, admitted, wait_ms } => {
                let waiter = Waiter { context, principal, priority, deadline, admitted };
                LaneResult::Permit(self.wait_for_permit(waiter, wait_ms.min(MAX_WAIT_MS)).await?)
            }
            ask => self.answer(ask)?,
        };
        if self.settle() {
            self.notify_registry().await;
        }
        Ok(self.reply(result))
    }

    fn answer(self: &Rc<Self>, ask: Ask) -> Result<LaneResult, Failure> {
        let now = clock::now();
        match ask {
            Ask::Acquire { context, principal, priority, deadline, admitted, .. } => {
                return Ok(LaneResult::Permit(self.acquire(Waiter {
                    context,
                    principal,
                    priority,
                    deadline,
                    admitted,
                })?));
            }
            Ask::Renew { permit, principal } => self.lane.borrow_mut().renew(permit, &principal, now),
            Ask::Release { permit, sample } => self.lane.borrow_mut().release(permit, sample, now, random::number()),
            Ask::Report { successes, last } => self.lane.borrow_mut().report(successes, last, now, random::number()),
            Ask::Leave { context } => {
                self.state.waiters.borrow_mut().remove(context.as_str());
                self.lane.borrow_mut().leave(&context);
            }
            Ask::Heartbeat { status, lease_ms } => {
                self.lane.borrow_mut().heartbeat(status, lease_ms, now);
                let until = now.plus_ms(lease_ms);
                if until > self.state.stored_heartbeat.get() {
                    self.store()?;
                }
                return Ok(LaneResult::Heartbeat { until });
            }
            Ask::Configure(target) => self.configure(target, now)?,
            Ask::Connects => self.rearm_if_missed(now),
            Ask::Hand { delivery, work } => return Ok(LaneResult::Dispatched(self.dispatch(delivery, &work)?)),
            Ask::Withdraw { context, cancelled } => {
                let numbers = self.connections.pool.borrow().of_context(&context);
                self.withdraw(&numbers, cancelled.then_some(WithdrawalReason::Cancelled))?;
            }
            Ask::Look => return Ok(LaneResult::Probe(self.is_connected(now))),
            Ask::Revoke { principal } => self.revoke(|viewer| viewer.principal == principal),
            Ask::End(revocation) => self.revoke_dependents(&revocation),
            Ask::Connect { .. } => return Err(Failure("a connection was passed to `call`".into())),
            Ask::Forget => self.delete()?,
            Ask::Check(_) => return Err(Failure("a probe was passed to the synchronous path".into())),
        }
        Ok(LaneResult::Done)
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
