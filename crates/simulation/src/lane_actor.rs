//! The lane of each service, as its object runs it: a message is one turn, whose writes and alarm are stored together
//! or not at all. Like a store, it may crash before the writes, or between any two effects after them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use narthex_core::base::id::ContextId;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::retries::CallFault;
use narthex_core::base::storage_error::StorageError;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::calling::response::CallResult;
use narthex_core::context::Admission;
use narthex_core::context::lease::LeaseNumber;
use narthex_core::context_store::replies::Work;
use narthex_core::lane::PermitDecision;
use narthex_core::lane::call_outcome::CallOutcome;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::lane::permit_number::PermitNumber;
use narthex_core::lane::queue::Waiter;
use narthex_core::registry::notifications::LaneSettings;
use narthex_core::service_lane::memory::MemoryStorage;
use narthex_core::service_lane::{RequestNumber, ServiceLane};
use narthex_core::services::Service;

use crate::connections::Connections;
use crate::lane_effects::StatusReport;
use crate::messages::{Actor, Call, Event, Reply};
use crate::store::Fate;
use crate::world::{BEGINNING, World};

/// The breaker opens briefly the first time, so that it closes again within a world's time.
pub const TIMING: Timing = Timing { breaker_open_ms: 1_500, ..Timing::DEFAULT };
const PERMIT_LEASE_MS: u64 = TIMING.permit_ms;
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
    /// The registry makes sure that the lane knows its service.
    Configure,
    /// The service was deleted.
    Forget,
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

pub struct LaneObject {
    /// What the last sender knew of the service, and whether it is to be learned from it in the next turn.
    pub settings: LaneSettings,
    pub learns: bool,
    pub storage: MemoryStorage,
    pub lane: Option<ServiceLane<MemoryStorage>>,
    pub life: u64,
    /// The difference between its clock and the world's.
    pub offset: i64,
    /// The connections of a service that connects.
    pub connections: Option<Connections>,
    /// The work that is dispatched in this turn, by its delivery's number.
    pub dispatching: Option<(String, Rc<Work>)>,
    /// The calls that wait for a permit.
    pub waiting: BTreeMap<RequestNumber, Call>,
    pub is_ticking: bool,
    /// When its alarm fires, by the world's clock.
    pub alarm_at: Option<u64>,
    /// The reports of its status in progress, by the number of the message.
    pub status_reports: BTreeMap<u64, StatusReport>,
    /// The report that the reply of the last turn waits for.
    pub reply_follows: Option<u64>,
    /// The published status of the service.
    pub seen: ObservedStatus,
    /// Until when each permit is valid at least.
    pub permits: BTreeMap<PermitNumber, u64>,
    /// Permits that were renewed only after their expiry, so that the lane could not count them.
    pub lapsed: BTreeSet<PermitNumber>,
}

impl LaneObject {
    pub fn new(service: &Service) -> Self {
        let beginning = Timestamp(BEGINNING);
        let settings =
            LaneSettings::new(&service.id, (beginning, beginning), &service.limits, service.transport.grace_ms());
        let connections = service.transport.connects().then(Connections::default);
        Self {
            settings,
            learns: false,
            storage: MemoryStorage::default(),
            lane: None,
            life: 0,
            offset: 0,
            connections,
            dispatching: None,
            waiting: BTreeMap::new(),
            is_ticking: false,
            alarm_at: None,
            status_reports: BTreeMap::new(),
            reply_follows: None,
            seen: ObservedStatus::default(),
            permits: BTreeMap::new(),
            lapsed: BTreeSet::new(),
        }
    }
}

impl World {
    pub fn lane_clock(&self, at: usize) -> Timestamp {
        Timestamp(self.now.saturating_add_signed(self.services[at].lane.offset))
    }

    /// Sends a message to a lane, with the settings of the service as its sender knows them, and waits for the reply at
    /// most `patience_ms`.
    pub fn ask_lane(&mut self, actor: Actor, service: usize, ask: LaneAsk, patience_ms: u64) -> u64 {
        let call = Call { actor, number: self.number() };
        let settings = self.settings_of(service);
        let travels = self.travel();
        if travels.iter().min().is_none_or(|delay| *delay > patience_ms) {
            let (patience, fault) = self.patience();
            self.schedule(self.now + patience.min(patience_ms), Event::Replied { call, reply: Reply::Failed(fault) });
        }
        for delay in travels {
            let (settings, ask) = (settings.clone(), ask.clone());
            self.schedule(self.now + delay, Event::ToLane { service, call, settings, ask });
        }
        call.number
    }

    /// The settings of a service as the registry has them now, or had them last.
    pub fn settings_of(&self, service: usize) -> LaneSettings {
        let service = &self.services[service];
        let stored = self.stored_settings(&service.name);
        stored.map_or_else(|| service.lane.settings.clone(), |(settings, _)| settings)
    }

    pub fn wake_lane(&mut self, at: usize) {
        let now = self.lane_clock(at);
        let object = &mut self.services[at].lane;
        if object.lane.is_some() {
            return;
        }
        object.life += 1;
        object.is_ticking = false;
        let attachments = object.connections.as_ref().map(Connections::attachments).unwrap_or_default();
        object.lane = ServiceLane::open(object.storage.clone(), attachments, TIMING, now).ok();
    }

    pub fn lane_crashes(&mut self, at: usize) {
        let object = &mut self.services[at].lane;
        object.lane = None;
        let waiting = std::mem::take(&mut object.waiting).into_values();
        let reported = std::mem::take(&mut object.status_reports).into_values();
        let unanswered: Vec<Call> =
            waiting.chain(reported.flat_map(|report| report.replies).map(|(call, _)| call)).collect();
        for call in unanswered {
            let (patience, fault) = self.patience();
            self.schedule(self.now + patience, Event::Replied { call, reply: Reply::Failed(fault) });
        }
        self.reports_stop(at);
    }

    /// A lane crashes in a turn, which closes its connections; the service opens others.
    fn lane_crashes_in_turn(&mut self, at: usize, what: &str) {
        self.note(|| format!("the lane of s{at} crashes{what}"));
        if let Some(connections) = &mut self.services[at].lane.connections {
            connections.close_all();
        }
        self.lane_crashes(at);
        self.reconnect(at);
    }

    /// Runs one turn of a lane, and then its effects. `None` if it failed or crashed before it could reply.
    pub fn lane_turn<T>(
        &mut self,
        at: usize,
        decide: impl FnOnce(&mut ServiceLane<MemoryStorage>, Timestamp, u64) -> Result<T, StorageError>,
    ) -> Option<T> {
        self.wake_lane(at);
        let (now, random, fate) = (self.lane_clock(at), self.dice.throw(), self.fate());
        let fails = self.dice.chance(self.faults.disk).then(|| self.dice.below(3) as u32);
        let object = &mut self.services[at].lane;
        object.reply_follows = None;
        let before = matches!(fate, Fate::Unwritten).then(|| object.storage.snapshot());
        object.storage.fail_write(fails);
        let lane = object.lane.as_mut()?;
        let learns = std::mem::replace(&mut object.learns, false);
        let learned = if learns { lane.learn(&TenantId::first(), &object.settings, now) } else { Ok(()) };
        let decided = learned.and_then(|()| decide(lane, now, random));
        lane.settle(now);
        let effects = lane.take_effects();
        object.storage.fail_write(None);
        let is_deleted = lane.identity().is_none();
        if let Some(before) = before {
            object.storage.restore(before);
            self.lane_crashes_in_turn(at, ", and nothing was written");
            return None;
        }
        if is_deleted {
            // The alarm was deleted with everything else.
            self.services[at].lane.alarm_at = None;
        }
        let left = if let Fate::After(left) = fate { left } else { u64::MAX };
        let done = self.carry_out_for_lane(at, effects, left);
        if left != u64::MAX {
            self.lane_crashes_in_turn(at, &format!(" after {left} effects"));
            // Its reply may already have been sent.
            return decided.ok().filter(|_| done < left);
        }
        decided.ok()
    }

    /// As [`World::lane_turn`], for a turn that cannot fail.
    pub fn lane_change(
        &mut self,
        at: usize,
        change: impl FnOnce(&mut ServiceLane<MemoryStorage>, Timestamp, u64),
    ) -> Option<()> {
        self.lane_turn(at, |lane, now, random| {
            change(lane, now, random);
            Ok(())
        })
    }

    /// Sends the reply of the last turn: once the registry has the status, if the turn changed it.
    pub fn reply_from_lane(&mut self, at: usize, call: Call, reply: Reply) {
        let object = &mut self.services[at].lane;
        let report = object.reply_follows.and_then(|number| object.status_reports.get_mut(&number));
        match report {
            Some(report) => report.replies.push((call, reply)),
            None => self.reply(call, reply),
        }
    }

    pub fn granted(&mut self, at: usize, entered: PermitDecision) {
        if let PermitDecision::Permit { number, .. } = entered {
            self.services[at].lane.permits.insert(number, self.now + PERMIT_LEASE_MS - DRIFT_MS);
        }
    }

    pub fn reach_lane(&mut self, at: usize, call: Call, settings: LaneSettings, ask: LaneAsk) {
        self.note(|| format!("the lane of s{at} gets {ask:?}"));
        if matches!(ask, LaneAsk::Forget) {
            return self.forget_lane(at, call, &settings);
        }
        self.learn_settings(at, &settings);
        let reply = match ask {
            LaneAsk::Acquire { who, wait_ms } => return self.acquire(at, call, who, wait_ms),
            LaneAsk::Renew { permit, principal } => self.renew_permit(at, permit, &principal),
            LaneAsk::Release { permit, sample } => {
                self.lane_change(at, |lane, now, random| lane.release(permit, sample, now, random))
            }
            LaneAsk::Report { successes, last } => {
                self.lane_change(at, |lane, now, random| lane.report_calls(successes, last, now, random))
            }
            LaneAsk::Leave { context } => self.lane_change(at, |lane, _, _| lane.leave(&context)),
            LaneAsk::Dispatch { delivery, until, work } => return self.dispatch(at, call, delivery, until, &work),
            LaneAsk::Withdraw { context, lease } => {
                self.lane_turn(at, |lane, now, _| lane.withdraw(&context, lease, true, now))
            }
            LaneAsk::Outcome { number, answer } => return self.report_outcome(at, call, &number, &answer),
            LaneAsk::Progress { number } => return self.report_progress(at, &number),
            LaneAsk::Configure => self.lane_change(at, |_, _, _| ()),
            LaneAsk::Forget => return,
        };
        self.reply_from_lane(at, call, reply.map_or(Reply::Failed(CallFault::Failed), |()| Reply::Done));
    }

    /// What comes with every message: the lane learns from it in the turn that follows.
    pub fn learn_settings(&mut self, at: usize, settings: &LaneSettings) {
        let object = &mut self.services[at].lane;
        object.settings.clone_from(settings);
        object.learns = true;
    }

    fn forget_lane(&mut self, at: usize, call: Call, settings: &LaneSettings) {
        let done = self.lane_turn(at, |lane, now, _| lane.forget(&TenantId::first(), settings, now));
        if self.services[at].lane.lane.as_ref().is_some_and(|lane| lane.identity().is_none()) {
            self.statistics.count("lane deleted");
        }
        self.reply_from_lane(at, call, done.map_or(Reply::Failed(CallFault::Failed), |()| Reply::Done));
    }

    fn renew_permit(&mut self, at: usize, permit: PermitNumber, principal: &PrincipalId) -> Option<()> {
        let until = self.now + PERMIT_LEASE_MS - DRIFT_MS;
        let renewed = self.lane_turn(at, |lane, now, _| lane.renew(permit, principal, now));
        if renewed.is_some() {
            let lane = &mut self.services[at].lane;
            if lane.permits.insert(permit, until).is_some_and(|ended| ended <= self.now) {
                lane.lapsed.insert(permit);
            }
        }
        renewed
    }

    /// The alarm of a lane fires, unless it was moved to an earlier time.
    pub fn lane_alarm(&mut self, at: usize, alarm: u64) {
        if self.services[at].lane.alarm_at != Some(alarm) {
            return;
        }
        self.services[at].lane.alarm_at = None;
        self.run_lane_alarm(at, alarm);
    }

    pub fn run_lane_alarm(&mut self, at: usize, alarm: u64) {
        // In the end, services ping as they should.
        let pinged = self.is_calm().then(|| self.lane_clock(at));
        let done = self.lane_change(at, |lane, now, random| drop(lane.alarm(now, random, |_| pinged)));
        if done.is_none() {
            // The platform repeats an alarm that failed.
            let again = self.now + self.dice.between(1_000, 2_500);
            self.set_lane_alarm(at, again);
        } else if self.services[at].lane.alarm_at == Some(alarm) {
            // The platform takes it for the running one, and removes it.
            self.services[at].lane.alarm_at = None;
        }
    }

    /// Sets the alarm of a lane, by the world's clock.
    pub fn set_lane_alarm(&mut self, at: usize, alarm: u64) {
        self.services[at].lane.alarm_at = Some(alarm);
        let late = self.alarm_delay();
        if self.dice.chance(self.faults.double) {
            self.statistics.doubled += 1;
            let after = alarm + late + self.dice.below(2_000);
            self.schedule(after, Event::LaneAlarmAgain { service: at, alarm });
        }
        self.schedule(alarm + late, Event::LaneAlarm { service: at, alarm });
    }
}
