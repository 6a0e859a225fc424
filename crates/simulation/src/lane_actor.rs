//! The lane of each service, as its object runs it: permits and the queue are in memory; the breaker, and until when
//! permits may be held, are on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use narthex_core::base::id::ContextId;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::retries::CallFault;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::calling::response::CallResult;
use narthex_core::context::Admission;
use narthex_core::context::lease::LeaseNumber;
use narthex_core::context_store::replies::Work;
use narthex_core::lane::call_outcome::CallOutcome;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::lane::permit_number::PermitNumber;
use narthex_core::lane::queue::{QueueLimits, Waiter};
use narthex_core::lane::{Lane, LaneRecord, PermitDecision};

use narthex_core::services::Service;

use crate::connections::Connections;
use crate::messages::{Actor, Call, Event, Reply};
use crate::mutants::Mutant;
use crate::world::World;

/// The breaker opens briefly the first time, so that it closes again within a world's time.
const TIMING: Timing = Timing { breaker_open_ms: 1_500, ..Timing::DEFAULT };
const PERMIT_LEASE_MS: u64 = TIMING.permit_ms;
const BUSY_AHEAD_MS: u64 = TIMING.busy_margin_ms;
const REST_MS: u64 = 2_000;
/// How far a lane's clock may move.
const DRIFT_MS: u64 = 500;

#[derive(Debug, Clone)]
pub enum LaneAsk {
    Acquire {
        who: Waiter,
        wait_ms: u64,
    },
    Renew {
        permit: PermitNumber,
        principal: PrincipalId,
    },
    Release {
        permit: PermitNumber,
        sample: CallOutcome,
    },
    Report {
        successes: u64,
        last: CallOutcome,
    },
    Leave {
        context: ContextId,
    },
    /// Hands work to a connection, before this time.
    Dispatch {
        delivery: Delivery,
        until: Timestamp,
        work: Rc<Work>,
    },
    /// Takes work back from its connection: under leases up to this one, or under all.
    Withdraw {
        context: ContextId,
        lease: Option<LeaseNumber>,
    },
    /// The service reports how the attempt of a delivery ended.
    Outcome {
        number: String,
        answer: CallResult,
    },
    Progress {
        number: String,
    },
}

/// A request for a permit.
pub fn waiter(admission: &Admission, admitted: bool) -> Waiter {
    Waiter {
        context: admission.id.clone(),
        principal: admission.owner.clone(),
        priority: admission.priority,
        deadline: admission.expires_at,
        admitted,
    }
}

#[derive(Debug, Clone, Default)]
pub struct Disk {
    kept: String,
    busy_until: Timestamp,
    /// The deliveries of a service that connects.
    pub deliveries: BTreeMap<String, Delivery>,
}

#[derive(Default)]
pub struct LaneObject {
    pub limits: Option<QueueLimits>,
    pub disk: Disk,
    pub lane: Option<Lane>,
    pub life: u64,
    /// The difference between its clock and the world's.
    pub offset: i64,
    /// The connections of a service that connects.
    pub connections: Option<Connections>,
    /// The calls that wait for a permit, by context.
    pub waiters: BTreeMap<ContextId, Vec<Call>>,
    pub is_ticking: bool,
    is_resting: bool,
    /// The published status of the service.
    pub seen: ObservedStatus,
    /// Until when each permit is valid at least.
    pub permits: BTreeMap<PermitNumber, u64>,
    /// Permits that were renewed only after their expiry, so that the lane could not count them.
    pub lapsed: BTreeSet<PermitNumber>,
}

impl LaneObject {
    pub fn new(service: &Service) -> Self {
        let max_queue = service.limits.max_queue;
        let limits = service.limits.max_concurrency.map(|max_concurrency| QueueLimits { max_concurrency, max_queue });
        let connections = service.transport.connects().then(|| Connections::new(service));
        Self { limits, connections, ..Self::default() }
    }
}

/// A lane in one of its turns: what it has in memory, and its stored deliveries.
pub struct Turn<'a> {
    pub lane: &'a mut Lane,
    pub connections: Option<&'a mut Connections>,
    pub deliveries: &'a mut BTreeMap<String, Delivery>,
    pub now: Timestamp,
    pub random: u64,
}

/// What follows a turn.
struct Settled {
    decisions: Vec<(ContextId, PermitDecision)>,
    measured: ObservedStatus,
    /// It has become idle.
    rests: bool,
}

impl LaneObject {
    /// After a change: grants permits, and writes what must be stored.
    fn settle(&mut self, lane: &mut Lane, must_persist: bool, now: Timestamp) -> Settled {
        self.apply_limits(lane);
        let decisions = lane.grant_permits(now);
        let changed = lane.status_update(now).is_some_and(|update| update.changed);
        if changed || must_persist || lane.should_persist(now) {
            self.disk.kept = serde_json::to_string(&lane.to_record(now)).unwrap();
        }
        let rests = self.update_busy_until(lane, now);
        Settled { decisions, measured: lane.observed(), rests }
    }

    /// Returns true if the lane has become idle.
    fn update_busy_until(&mut self, lane: &Lane, now: Timestamp) -> bool {
        if self.connections.is_some() {
            // Each delivery is stored by itself.
            return false;
        }
        let (in_flight, is_closed) = (lane.queue().in_flight(), lane.queue().is_closed(now));
        if in_flight > 0 && lane.is_limited() {
            let ends = now.plus_ms(PERMIT_LEASE_MS);
            if self.disk.busy_until < ends {
                self.disk.busy_until = ends.plus_ms(BUSY_AHEAD_MS);
            }
            return false;
        }
        in_flight == 0 && !is_closed && self.disk.busy_until > now && !std::mem::replace(&mut self.is_resting, true)
    }
}

impl World {
    pub fn lane_clock(&self, at: usize) -> Timestamp {
        Timestamp(self.now.saturating_add_signed(self.services[at].lane.offset))
    }

    /// Sends a message to a lane, and waits for the reply at most `patience_ms`.
    pub fn ask_lane(&mut self, actor: Actor, service: usize, ask: LaneAsk, patience_ms: u64) -> u64 {
        let call = Call { actor, number: self.number() };
        let travels = self.travel();
        if travels.iter().min().is_none_or(|delay| *delay > patience_ms) {
            let (patience, fault) = self.patience();
            self.schedule(self.now + patience.min(patience_ms), Event::Replied { call, reply: Reply::Failed(fault) });
        }
        for delay in travels {
            self.schedule(self.now + delay, Event::ToLane { service, call, ask: ask.clone() });
        }
        call.number
    }

    pub fn wake_lane(&mut self, at: usize) {
        let now = self.lane_clock(at);
        let object = &mut self.services[at].lane;
        if object.lane.is_some() {
            return;
        }
        object.life += 1;
        object.is_ticking = false;
        object.is_resting = false;
        let kept: LaneRecord = serde_json::from_str(&object.disk.kept).unwrap_or_default();
        let closed_until = object.disk.busy_until.min(now.plus_ms(PERMIT_LEASE_MS));
        let closed_until = if self.mutant == Some(Mutant::LaneOpensAtOnce) { Timestamp(0) } else { closed_until };
        let mut lane = Lane::restore(kept, now, closed_until, TIMING);
        if let Some(connections) = &mut object.connections {
            connections.restore(&object.disk.deliveries, now);
        }
        object.apply_limits(&mut lane);
        object.lane = Some(lane);
    }

    pub fn lane_crashes(&mut self, at: usize) {
        let object = &mut self.services[at].lane;
        object.lane = None;
        for call in std::mem::take(&mut object.waiters).into_values().flatten() {
            let (patience, fault) = self.patience();
            self.schedule(self.now + patience, Event::Replied { call, reply: Reply::Failed(fault) });
        }
        self.reports_stop(at);
    }

    /// A lane crashes in a turn, which closes its connections; the service opens others.
    fn lane_crashes_in_turn(&mut self, at: usize, what: &str) {
        self.statistics.crashes += 1;
        self.note(|| format!("the lane of s{at} crashes{what}"));
        if let Some(connections) = &mut self.services[at].lane.connections {
            connections.close_all();
        }
        self.lane_crashes(at);
        self.reconnect(at);
    }

    /// One turn of a lane: a decision, and whether it must be stored; then the grants. `None` if the lane crashed.
    pub fn lane_turn<T>(&mut self, at: usize, decide: impl FnOnce(&mut Turn<'_>) -> (T, bool)) -> Option<T> {
        self.wake_lane(at);
        let (now, random) = (self.lane_clock(at), self.dice.throw());
        let crashes = self.dice.chance(self.faults.crash);
        let unwritten = crashes && self.dice.chance(500);
        let object = &mut self.services[at].lane;
        let before = object.disk.clone();
        let mut lane = object.lane.take()?;
        let (connections, deliveries) = (object.connections.as_mut(), &mut object.disk.deliveries);
        let (decided, keeps) = decide(&mut Turn { lane: &mut lane, connections, deliveries, now, random });
        let settled = object.settle(&mut lane, keeps, now);
        object.lane = Some(lane);
        if unwritten {
            object.disk = before;
            self.lane_crashes_in_turn(at, ", and nothing was written");
            return None;
        }
        self.settled(at, settled);
        if crashes {
            self.lane_crashes_in_turn(at, "");
            // Its reply may already have been sent.
            return self.dice.chance(500).then_some(decided);
        }
        Some(decided)
    }

    fn settled(&mut self, at: usize, settled: Settled) {
        let Settled { decisions, measured, rests } = settled;
        let object = &mut self.services[at].lane;
        let (life, offset) = (object.life, object.offset);
        let alarm = object.connections.as_mut().and_then(|connections| connections.arm(offset, self.now));
        if let Some(alarm) = alarm {
            self.schedule(alarm, Event::DeliveriesExpire { service: at });
        }
        if measured.version > self.services[at].lane.seen.version {
            self.note(|| format!("s{at} is {:?}, its breaker {:?}", measured.status, measured.breaker));
            self.services[at].lane.seen = measured;
        }
        if rests {
            self.schedule(self.now + REST_MS, Event::LaneRests { service: at, life });
        }
        for (context, entered) in decisions {
            self.granted(at, entered);
            let waiting = self.services[at].lane.waiters.remove(&context).unwrap_or_default();
            let newest = waiting.last().copied();
            for call in waiting {
                // One call gets the permit; the others ask again.
                let gets_answer = !matches!(entered, PermitDecision::Permit { .. }) || newest == Some(call);
                let answer = if gets_answer { entered } else { PermitDecision::Waiting };
                self.note(|| format!("the lane of s{at} tells {context}: {answer:?}"));
                self.reply(call, Reply::Permit(answer));
            }
        }
    }

    pub fn granted(&mut self, at: usize, entered: PermitDecision) {
        if let PermitDecision::Permit { number, .. } = entered {
            self.services[at].lane.permits.insert(number, self.now + PERMIT_LEASE_MS - DRIFT_MS);
        }
    }

    pub fn reach_lane(&mut self, at: usize, call: Call, ask: LaneAsk) {
        self.note(|| format!("the lane of s{at} gets {ask:?}"));
        let reply = match ask {
            LaneAsk::Acquire { who, wait_ms } => return self.acquire(at, call, who, wait_ms),
            LaneAsk::Renew { permit, principal } => {
                let until = self.now + PERMIT_LEASE_MS - DRIFT_MS;
                let renewed = self.lane_turn(at, |turn| ((), turn.lane.renew(permit, &principal, turn.now)));
                if renewed.is_some() {
                    let lane = &mut self.services[at].lane;
                    if lane.permits.insert(permit, until).is_some_and(|ended| ended <= self.now) {
                        lane.lapsed.insert(permit);
                    }
                }
                renewed
            }
            LaneAsk::Release { permit, sample } => {
                self.lane_turn(at, |turn| (turn.lane.release(permit, sample, turn.now, turn.random), false))
            }
            LaneAsk::Report { successes, last } => {
                self.lane_turn(at, |turn| (turn.lane.report(successes, last, turn.now, turn.random), false))
            }
            LaneAsk::Leave { context } => {
                for waiting in self.services[at].lane.waiters.remove(&context).unwrap_or_default() {
                    self.reply(waiting, Reply::Permit(PermitDecision::Waiting));
                }
                self.lane_turn(at, |turn| (turn.lane.leave(&context), false))
            }
            LaneAsk::Dispatch { delivery, until, work } => return self.dispatch(at, call, delivery, until, &work),
            LaneAsk::Withdraw { context, lease } => self.withdraw(at, &context, lease),
            LaneAsk::Outcome { number, answer } => return self.report_outcome(at, call, &number, answer),
            LaneAsk::Progress { number } => return self.report_progress(at, &number),
        };
        self.reply(call, reply.map_or(Reply::Failed(CallFault::Failed), |()| Reply::Done));
    }

    /// Stores that an idle lane has finished its work.
    pub fn lane_rests(&mut self, at: usize, life: u64) {
        let now = self.lane_clock(at);
        let object = &mut self.services[at].lane;
        let Some(lane) = object.lane.as_ref().filter(|_| object.life == life) else { return };
        object.is_resting = false;
        if lane.queue().in_flight() == 0 && object.disk.busy_until > now {
            object.disk.busy_until = Timestamp(0);
        }
    }
}
