//! The lane of each service, as its object runs it: permits and the queue are in memory; the breaker, and until when
//! permits may be held, are on disk.

use std::collections::{BTreeMap, BTreeSet};

use narthex_core::base::id::ContextId;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::lane::breaker::BreakerState;
use narthex_core::lane::call_outcome::CallOutcome;
use narthex_core::lane::call_reporter::CallReporter;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::lane::permit_number::PermitNumber;
use narthex_core::lane::queue::{QueueLimits, Waiter};
use narthex_core::lane::{Lane, LaneRecord, PermitDecision};

use crate::messages::{Actor, Call, Event, Reply};
use crate::mutants::Mutant;
use crate::world::World;

/// The breaker opens briefly the first time, so that it closes again within a world's time.
const TIMING: Timing = Timing { breaker_open_ms: 1_500, ..Timing::DEFAULT };
const PERMIT_LEASE_MS: u64 = TIMING.permit_ms;
const BUSY_AHEAD_MS: u64 = TIMING.busy_margin_ms;
const REST_MS: u64 = 2_000;
const TICK_MS: u64 = 1_000;

#[derive(Debug, Clone)]
pub enum LaneAsk {
    Acquire { who: Waiter, wait_ms: u64 },
    Renew { permit: PermitNumber, principal: PrincipalId },
    Release { permit: PermitNumber, sample: CallOutcome },
    Report { successes: u64, last: CallOutcome },
    Leave { context: ContextId },
}

#[derive(Debug, Clone, Default)]
struct Disk {
    kept: String,
    busy_until: Timestamp,
}

#[derive(Default)]
pub struct LaneObject {
    pub limits: Option<QueueLimits>,
    disk: Disk,
    lane: Option<Lane>,
    life: u64,
    /// The calls that wait for a permit, by context.
    waiters: BTreeMap<ContextId, Vec<Call>>,
    is_ticking: bool,
    is_resting: bool,
    /// The published status of the service.
    pub seen: ObservedStatus,
    pub tally: CallReporter,
    /// When each permit expires, according to the lane.
    pub permits: BTreeMap<PermitNumber, u64>,
    /// Permits that were renewed only after their expiry, so that the lane could not count them.
    pub lapsed: BTreeSet<PermitNumber>,
}

impl LaneObject {
    /// Whether the service requires a permit.
    pub fn is_gated(&self) -> bool {
        self.limits.is_some() || self.seen.breaker != BreakerState::Closed
    }
}

impl World {
    /// Sends a message to a lane; messages that must not be lost are repeated once.
    pub fn ask_lane(&mut self, actor: Actor, service: usize, ask: LaneAsk, patience_ms: u64) -> u64 {
        let call = Call { actor, number: self.number() };
        let mut travels = self.travel();
        if actor == Actor::None && travels.is_empty() && !matches!(ask, LaneAsk::Report { .. }) {
            let again = self.patience();
            travels = self.travel().into_iter().map(|delay| delay + again).collect();
        }
        if travels.iter().min().is_none_or(|delay| *delay > patience_ms) {
            let patience = self.patience().min(patience_ms);
            self.schedule(self.now + patience, Event::Replied { call, reply: Reply::Failed });
        }
        for delay in travels {
            self.schedule(self.now + delay, Event::ToLane { service, call, ask: ask.clone() });
        }
        call.number
    }

    fn wake_lane(&mut self, at: usize) {
        let now = Timestamp(self.now);
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
        lane.set_limits(object.limits);
        object.lane = Some(lane);
    }

    pub fn lane_crashes(&mut self, at: usize) {
        let object = &mut self.services[at].lane;
        object.lane = None;
        for call in std::mem::take(&mut object.waiters).into_values().flatten() {
            let patience = self.patience();
            self.schedule(self.now + patience, Event::Replied { call, reply: Reply::Failed });
        }
    }

    /// One turn of a lane: a decision, and whether it must be stored; then the grants. `None` if the lane crashed.
    fn lane_turn<T>(&mut self, at: usize, decide: impl FnOnce(&mut Lane, Timestamp, u64) -> (T, bool)) -> Option<T> {
        self.wake_lane(at);
        let (now, random) = (Timestamp(self.now), self.dice.throw());
        let crashes = self.dice.chance(self.faults.crash);
        let unwritten = crashes && self.dice.chance(500);
        let object = &mut self.services[at].lane;
        let before = object.disk.clone();
        let lane = object.lane.as_mut()?;
        let (decided, keeps) = decide(lane, now, random);
        let turns = lane.grant_permits(now);
        let changed = lane.status_update(now).is_some_and(|news| news.changed);
        if changed || keeps || lane.should_persist(now) {
            object.disk.kept = serde_json::to_string(&lane.to_record(now)).ok()?;
        }
        let (in_flight, is_closed) = (lane.queue().in_flight(), lane.queue().is_closed(now));
        let ends = now.plus_ms(PERMIT_LEASE_MS);
        let life = object.life;
        let mut rests = false;
        if in_flight > 0 && object.limits.is_some() {
            if object.disk.busy_until < ends {
                object.disk.busy_until = ends.plus_ms(BUSY_AHEAD_MS);
            }
        } else if in_flight == 0 && !is_closed && object.disk.busy_until > now {
            rests = !std::mem::replace(&mut object.is_resting, true);
        }
        let measured = lane.observed();
        if unwritten {
            object.disk = before;
            self.statistics.crashes += 1;
            self.note(|| format!("the lane of s{at} crashes, and nothing was written"));
            self.lane_crashes(at);
            return None;
        }
        if measured.version > object.seen.version {
            self.note(|| format!("s{at} is {:?}, its breaker {:?}", measured.status, measured.breaker));
            self.services[at].lane.seen = measured;
        }
        if rests {
            self.schedule(self.now + REST_MS, Event::LaneRests { service: at, life });
        }
        for (context, entered) in turns {
            self.granted(at, entered);
            let waiting = self.services[at].lane.waiters.remove(&context).unwrap_or_default();
            let newest = waiting.last().copied();
            for call in waiting {
                // One call gets the permit; the others ask again.
                let gets_answer = !matches!(entered, PermitDecision::Permit { .. }) || newest == Some(call);
                let answer = if gets_answer { entered } else { PermitDecision::Waiting };
                self.note(|| format!("the lane of s{at} tells {context}: {answer:?}"));
                self.reply(call, Reply::Entered(answer));
            }
        }
        if crashes {
            self.statistics.crashes += 1;
            self.note(|| format!("the lane of s{at} crashes"));
            self.lane_crashes(at);
            // Its reply may already have been sent.
            return self.dice.chance(500).then_some(decided);
        }
        Some(decided)
    }

    fn granted(&mut self, at: usize, entered: PermitDecision) {
        if let PermitDecision::Permit { number, .. } = entered {
            self.services[at].lane.permits.insert(number, self.now + PERMIT_LEASE_MS);
        }
    }

    pub fn reach_lane(&mut self, at: usize, call: Call, ask: LaneAsk) {
        self.note(|| format!("the lane of s{at} gets {ask:?}"));
        let reply = match ask {
            LaneAsk::Acquire { who, wait_ms } => return self.acquire(at, call, who, wait_ms),
            LaneAsk::Renew { permit, principal } => {
                let until = self.now + PERMIT_LEASE_MS;
                let renewed = self.lane_turn(at, |lane, now, _| (lane.renew(permit, &principal, now), false));
                if renewed.is_some() {
                    let lane = &mut self.services[at].lane;
                    if lane.permits.insert(permit, until).is_some_and(|ended| ended <= self.now) {
                        lane.lapsed.insert(permit);
                    }
                }
                renewed
            }
            LaneAsk::Release { permit, sample } => {
                self.lane_turn(at, |lane, now, random| (lane.release(permit, sample, now, random), false))
            }
            LaneAsk::Report { successes, last } => {
                self.lane_turn(at, |lane, now, random| (lane.report(successes, last, now, random), false))
            }
            LaneAsk::Leave { context } => {
                self.services[at].lane.waiters.remove(&context);
                self.lane_turn(at, |lane, _, _| (lane.leave(&context), false))
            }
        };
        self.reply(call, reply.map_or(Reply::Failed, |()| Reply::Done));
    }

    fn acquire(&mut self, at: usize, call: Call, who: Waiter, wait_ms: u64) {
        let context = who.context.clone();
        let greedy = self.mutant == Some(Mutant::OnePermitTooMany);
        // The waiting call is known before the grants.
        if wait_ms > 0 {
            self.services[at].lane.waiters.entry(context.clone()).or_default().push(call);
        }
        let entered = self.lane_turn(at, |lane, now, random| {
            let entered = lane.acquire(who, now, random);
            if entered == PermitDecision::Waiting && wait_ms > 0 {
                lane.set_present(&context, true);
            }
            // There is a single probe, even across a restart.
            (entered, matches!(entered, PermitDecision::Permit { probe: true, .. }))
        });
        self.note(|| format!("the lane of s{at} tells {context}: {entered:?}"));
        if self.services[at].lane.lane.is_none() {
            // The waiting call has its answer already.
            if wait_ms == 0 {
                self.granted(at, entered.unwrap_or(PermitDecision::Waiting));
                self.reply(call, entered.map_or(Reply::Failed, Reply::Entered));
            }
            return;
        }
        let entered = match entered {
            Some(PermitDecision::Waiting) if greedy => {
                PermitDecision::Permit { number: PermitNumber::of(self.number()), probe: false }
            }
            Some(entered) => entered,
            None => return,
        };
        self.granted(at, entered);
        if entered == PermitDecision::Waiting && wait_ms > 0 {
            let life = self.services[at].lane.life;
            self.schedule(self.now + wait_ms, Event::TurnOver { service: at, life, context, call });
            self.tick_soon(at);
            return;
        }
        self.stop_waiting(at, &context, call);
        self.reply(call, Reply::Entered(entered));
    }

    /// Returns whether the call was waiting.
    fn stop_waiting(&mut self, at: usize, context: &ContextId, call: Call) -> bool {
        let object = &mut self.services[at].lane;
        let Some(waiting) = object.waiters.get_mut(context) else { return false };
        let before = waiting.len();
        waiting.retain(|other| *other != call);
        let waited = waiting.len() < before;
        if waiting.is_empty() {
            object.waiters.remove(context);
            if let Some(lane) = object.lane.as_mut() {
                lane.set_present(context, false);
            }
        }
        waited
    }

    /// The wait for a permit has timed out.
    pub fn turn_over(&mut self, at: usize, life: u64, context: &ContextId, call: Call) {
        if self.services[at].lane.life == life && self.stop_waiting(at, context, call) {
            self.reply(call, Reply::Entered(PermitDecision::Waiting));
        }
    }

    fn tick_soon(&mut self, at: usize) {
        let now = Timestamp(self.now);
        let object = &mut self.services[at].lane;
        let Some(lane) = &object.lane else { return };
        if object.waiters.is_empty() || std::mem::replace(&mut object.is_ticking, true) {
            return;
        }
        let pause = lane.next_grant_at(now).map_or(TICK_MS, |next| next.since(now)).clamp(10, TICK_MS);
        let life = object.life;
        self.schedule(self.now + pause, Event::LaneTicks { service: at, life });
    }

    pub fn lane_ticks(&mut self, at: usize, life: u64) {
        let object = &mut self.services[at].lane;
        if object.life != life || object.lane.is_none() {
            return;
        }
        object.is_ticking = false;
        if !object.waiters.is_empty() {
            self.lane_turn(at, |_, _, _| ((), false));
            self.tick_soon(at);
        }
    }

    /// Stores that an idle lane has finished its work.
    pub fn lane_rests(&mut self, at: usize, life: u64) {
        let now = Timestamp(self.now);
        let object = &mut self.services[at].lane;
        let Some(lane) = object.lane.as_ref().filter(|_| object.life == life) else { return };
        object.is_resting = false;
        if lane.queue().in_flight() == 0 && object.disk.busy_until > now {
            object.disk.busy_until = Timestamp(0);
        }
    }
}
