//! How a worker gets a permit for a service, as in `execution/gate.rs`.

use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::context::lease::Hold;
use narthex_core::context::status::ErrorCode;
use narthex_core::context::{AttemptReport, ContextError, ReportedOutcome};
use narthex_core::context_store::messages::{PutBack, Refuse};
use narthex_core::context_store::replies::Work;
use narthex_core::lane::PermitDecision;
use narthex_core::lane::call_outcome::{CallOutcome, Signal};
use narthex_core::lane::permit_number::PermitNumber;
use narthex_core::lane::queue::Waiter;

use crate::lane_actor::LaneAsk;
use crate::messages::{Actor, Ask, Event};
use crate::worker::State;
use crate::world::World;

const QUEUE_WAIT_MS: u64 = Timing::DEFAULT.queue_wait_ms;
const CLIENT_QUEUE_WAIT_MS: u64 = Timing::DEFAULT.client_queue_wait_ms;
const LANE_RETRY_MS: u64 = Timing::DEFAULT.lane_retry_ms;
/// How long a lane may take to answer beyond the requested wait.
pub const LANE_TIMEOUT_MS: u64 = 5_000;

/// A permit for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    pub service: usize,
    pub number: PermitNumber,
    pub is_probe: bool,
    pub taken_at: u64,
}

pub fn entrant(work: &Work, admitted: bool) -> Waiter {
    let admission = &work.admission;
    Waiter {
        context: admission.id.clone(),
        principal: admission.owner.clone(),
        priority: admission.priority,
        deadline: admission.expires_at,
        admitted,
    }
}

impl World {
    pub fn service_called(&self, name: &ServiceId) -> usize {
        self.services.iter().position(|service| service.name == *name).unwrap()
    }

    /// Returns an unused permit.
    pub fn unused(&mut self, permit: Option<Permit>) {
        let sample = CallOutcome { outcome: Signal::Ignored, latency_ms: 0, at: Timestamp(self.now) };
        self.release(permit, sample);
    }

    pub fn release(&mut self, permit: Option<Permit>, sample: CallOutcome) {
        if let Some(Permit { service, number, .. }) = permit {
            let ask = LaneAsk::Release { permit: number, sample };
            self.ask_lane(Actor::None, service, ask, LANE_TIMEOUT_MS);
        }
    }

    /// Joins the lane's queue for a permit.
    pub fn join_queue(&mut self, key: u64) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&key) else { return };
        if worker.work.admission.expires_at.0 <= now {
            // The store ends the context.
            return self.finish(key);
        }
        worker.state = State::Queued;
        worker.step += 1;
        let turn = if worker.waits_until > now { CLIENT_QUEUE_WAIT_MS } else { QUEUE_WAIT_MS };
        let wait_ms = turn.min(worker.work.admission.expires_at.0 - now);
        let (step, service, who) = (worker.step, worker.target, entrant(&worker.work, true));
        self.schedule(now + crate::worker::RENEW_MS, Event::Renew { worker: key, step });
        let ask = LaneAsk::Acquire { who, wait_ms };
        let number = self.ask_lane(Actor::Worker(key), service, ask, wait_ms + LANE_TIMEOUT_MS);
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.pending = number;
        }
    }

    /// The lane has answered; `None` if it could not be reached.
    pub fn entered(&mut self, key: u64, entered: Option<PermitDecision>) {
        let now = self.now;
        let limited = |world: &World, service: usize| world.services[service].lane.limits.is_some();
        let Some(worker) = self.workers.get(&key) else { return };
        let (service, hold, waits) = (worker.target, worker.work.hold, worker.waits_until > now);
        let expires_at = worker.work.admission.expires_at;
        match entered {
            Some(PermitDecision::Permit { number, probe }) => {
                if let Some(worker) = self.workers.get_mut(&key) {
                    worker.permit = Some(Permit { service, number, is_probe: probe, taken_at: now });
                }
                self.proceed(key);
            }
            Some(PermitDecision::Free) => self.proceed(key),
            Some(PermitDecision::Waiting | PermitDecision::Full { .. }) if waits || !hold.is_offered() => {
                self.join_queue(key);
            }
            Some(PermitDecision::Waiting | PermitDecision::Full { .. }) => self.put_back(key, None),
            Some(PermitDecision::Open { until }) => {
                let until = until.plus_ms(self.dice.below(500));
                if !waits && hold.is_offered() && until < expires_at {
                    self.put_back(key, Some(until));
                } else {
                    self.refuse(key, ErrorCode::CircuitOpen);
                }
            }
            Some(PermitDecision::TooLate) => self.refuse(key, ErrorCode::DeadlineExceeded),
            None if !limited(self, service) => self.proceed(key),
            None => {
                let Some(worker) = self.workers.get_mut(&key) else { return };
                worker.step += 1;
                let step = worker.step;
                self.schedule(now + LANE_RETRY_MS, Event::Paused { worker: key, step });
            }
        }
    }

    /// The context was cancelled, has ended, or is another worker's while this one was in the queue.
    pub fn leave_queue(&mut self, key: u64) {
        if let Some(worker) = self.workers.get(&key) {
            let (service, context) = (worker.target, worker.work.admission.id.clone());
            self.ask_lane(Actor::None, service, LaneAsk::Leave { context }, LANE_TIMEOUT_MS);
        }
        self.finish(key);
    }

    fn put_back(&mut self, key: u64, until: Option<Timestamp>) {
        let Some(worker) = self.workers.get(&key) else { return };
        let ask = Ask::PutBack(PutBack { id: worker.work.admission.id.clone(), until });
        self.leave(key, ask);
    }

    fn refuse(&mut self, key: u64, code: ErrorCode) {
        let now = Timestamp(self.now);
        let Some(worker) = self.workers.get_mut(&key) else { return };
        let error = ContextError { code, message: "Not now.".into(), service: None, details: None };
        let Hold::Leased(lease) = worker.work.hold else {
            let ask = Ask::Refuse(Refuse { id: worker.work.admission.id.clone(), error });
            return self.leave(key, ask);
        };
        let outcome = ReportedOutcome::Failed { error, retryable: true, untouched: true, retry_after_ms: None };
        let service = worker.work.admission.service.clone();
        let report = AttemptReport { lease, service, started_at: now, ended_at: now, status_code: None, outcome };
        worker.report = Some(report);
        worker.state = State::Reporting;
        worker.step += 1;
        worker.tries = 0;
        self.report(key);
    }

    /// Sends the final message, with retries.
    fn leave(&mut self, key: u64, ask: Ask) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        worker.state = State::Leaving;
        worker.step += 1;
        worker.tries = 0;
        worker.leaving = Some(ask);
        self.report(key);
    }
}
