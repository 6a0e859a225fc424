//! Workers: each takes one context from its lease to its commit, as in `execution/`, and may die at any step.

use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::calling::response::CallResult;
use narthex_core::context::AttemptReport;
use narthex_core::context::lease::{Hold, LeaseNumber};
use narthex_core::context_store::messages::{Admit, Commit, Lease, Record, Renew};
use narthex_core::context_store::replies::{AdmitReply, CommitReply, LeaseReply, RenewReply, Work};
use narthex_core::lane::breaker::BreakerState;
use narthex_core::lane::call_outcome::{CallOutcome, fair_ms};

use crate::gate::{LANE_TIMEOUT_MS, Permit};
use crate::lane_actor::LaneAsk;
use crate::messages::{Actor, Ask, Event, Reply};
use crate::service::read;
use crate::store::LEASE_MS;
use crate::world::{PARAMETERS, World, raw, result};

pub const RENEW_MS: u64 = Timing::DEFAULT.renew_ms;
const INLINE_RETRY_MAX_MS: u64 = Timing::DEFAULT.inline_retry_max_ms;
const MAX_RETRIES: u64 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is in the queue for a permit.
    Queued,
    Leasing,
    Calling,
    /// A write-behind context that has not ended is admitted now.
    Admitting,
    Reporting,
    Pausing,
    /// It returns the context, or ends it without an attempt.
    Leaving,
}

pub struct Worker {
    pub work: Work,
    store: usize,
    consumer: Option<u64>,
    pub state: State,
    /// Incremented with each step: events planned for an earlier one are ignored.
    pub step: u64,
    pub pending: u64,
    /// The number of the renewal in transit, in addition to `pending`.
    renewing: u64,
    pub tries: u64,
    started_at: Timestamp,
    pub report: Option<AttemptReport>,
    pub leaving: Option<Ask>,
    write_behind: bool,
    /// The index of the service to call.
    pub target: usize,
    pub permit: Option<Permit>,
    /// A client waits for the end until then.
    pub waits_until: u64,
}

/// A worker to create.
pub struct NewWorker {
    pub work: Work,
    pub store: usize,
    pub consumer: Option<u64>,
    pub write_behind: bool,
    pub permit: Option<Permit>,
    pub waits_until: u64,
}

impl World {
    pub fn spawn(&mut self, new: NewWorker) {
        let NewWorker { work, store, consumer, write_behind, permit, waits_until } = new;
        let key = self.number();
        let worker = Worker {
            work,
            store,
            consumer,
            state: State::Leasing,
            step: 0,
            pending: 0,
            renewing: 0,
            tries: 0,
            started_at: Timestamp(self.now),
            report: None,
            leaving: None,
            write_behind,
            target: 0,
            permit,
            waits_until,
        };
        if let Some(consumer) = consumer.and_then(|consumer| self.consumers.get_mut(&consumer)) {
            consumer.running.insert(key);
        }
        self.workers.insert(key, worker);
        self.start(key);
    }

    /// Whether this worker's isolate crashes now, with everything else in it.
    fn crashes(&mut self, key: u64) -> bool {
        if !self.dice.chance(self.faults.die) {
            return false;
        }
        self.statistics.deaths += 1;
        self.note(|| format!("worker {key} crashes"));
        if let Some(worker) = self.workers.remove(&key)
            && let Some(consumer) = worker.consumer
        {
            self.terminate(consumer);
        }
        true
    }

    /// The worker has finished.
    pub fn finish(&mut self, key: u64) {
        let Some(worker) = self.workers.remove(&key) else { return };
        let Some(consumer) = worker.consumer else { return };
        if let Some(running) = self.consumers.get_mut(&consumer) {
            running.running.remove(&key);
            self.claim(consumer);
        }
    }

    /// Selects a service, first the one of the admission, later rather others; then gets a permit if required.
    fn start(&mut self, key: u64) {
        let Some(worker) = self.workers.get(&key) else { return };
        let (tried, admitted_to) = (&worker.work.tried, &worker.work.admission.service);
        let others: Vec<usize> =
            (0..self.services.len()).filter(|at| !tried.contains(&self.services[*at].name)).collect();
        let again = tried.is_empty() || others.is_empty();
        let target = if again { self.service_called(admitted_to) } else { self.dice.pick(&others) };
        let Some(worker) = self.workers.get_mut(&key) else { return };
        worker.step += 1;
        worker.tries = 0;
        worker.target = target;
        let elsewhere = worker.permit.take_if(|permit| permit.service != target);
        let passes = worker.permit.is_some() || worker.write_behind;
        self.unused(elsewhere);
        if !passes && self.services[target].lane.is_gated() {
            self.join_queue(key);
        } else {
            self.proceed(key);
        }
    }

    /// The permit is there or not required: leases the context, if necessary, and makes the call.
    pub fn proceed(&mut self, key: u64) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        if !worker.work.hold.is_offered() {
            return self.call(key);
        }
        worker.state = State::Leasing;
        worker.step += 1;
        let (store, id) = (worker.store, worker.work.admission.id.clone());
        self.send(key, store, Ask::Lease(Lease { id, lease_ms: LEASE_MS }));
    }

    fn send(&mut self, key: u64, store: usize, ask: Ask) {
        let number = self.ask(Actor::Worker(key), store, ask);
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.pending = number;
        }
    }

    fn call(&mut self, key: u64) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&key) else { return };
        let target = worker.target;
        worker.work.admission.service.clone_from(&self.services[target].name);
        worker.state = State::Calling;
        worker.step += 1;
        worker.pending = 0;
        worker.started_at = Timestamp(now);
        let (step, work) = (worker.step, Box::new(worker.work.clone()));
        self.check_in_flight(target);
        let deadline = work.admission.expires_at.0;
        if deadline <= now {
            return self.answered(key, step, CallResult::TimedOut { deadline: true });
        }
        self.schedule(deadline, Event::Answered { worker: key, step, answer: CallResult::TimedOut { deadline: true } });
        // The permit may have been granted a while before the call.
        let renews = self.workers.get(&key).and_then(|worker| worker.permit).map_or(now, |permit| permit.taken_at);
        self.schedule(now.max(renews + RENEW_MS), Event::Renew { worker: key, step });
        if self.dice.chance(self.faults.lose) {
            self.schedule(now + 5, Event::Answered { worker: key, step, answer: CallResult::Refused });
            return;
        }
        let late =
            if self.dice.chance(self.faults.delay) { self.dice.between(50, 9_000) } else { self.dice.between(1, 20) };
        self.schedule(now + late, Event::Called { worker: key, step, work });
    }

    fn is_at(&self, key: u64, step: u64, state: State) -> bool {
        self.workers.get(&key).is_some_and(|worker| worker.step == step && worker.state == state)
    }

    /// Renews the lease or the offer, and the permit.
    pub fn renew(&mut self, key: u64, step: u64) {
        let holds = self.is_at(key, step, State::Calling) || self.is_at(key, step, State::Queued);
        if !holds || self.crashes(key) {
            return;
        }
        let Some(worker) = self.workers.get(&key).filter(|worker| !worker.write_behind) else { return };
        let (store, hold, permit) = (worker.store, worker.work.hold, worker.permit);
        let (id, principal) = (worker.work.admission.id.clone(), worker.work.admission.owner.clone());
        let number = self.ask(Actor::Worker(key), store, Ask::Renew(Renew { id, hold, lease_ms: LEASE_MS }));
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.renewing = number;
        }
        if let Some(Permit { service, number, .. }) = permit {
            let ask = LaneAsk::Renew { permit: number, principal };
            self.ask_lane(Actor::None, service, ask, LANE_TIMEOUT_MS);
        }
        self.schedule(self.now + RENEW_MS, Event::Renew { worker: key, step });
    }

    /// The service has answered, or the call has failed.
    pub fn answered(&mut self, key: u64, step: u64, answer: CallResult) {
        if !self.is_at(key, step, State::Calling) || self.crashes(key) {
            return;
        }
        let now = Timestamp(self.now);
        let Some(worker) = self.workers.get_mut(&key) else { return };
        let service = worker.work.admission.service.clone();
        let status_code = answer.status();
        let outcome = read(&service, answer);
        let ends = outcome.ends();
        let started_at = worker.started_at;
        let Hold::Leased(lease) = worker.work.hold else {
            return self.violate(format!("worker {key} calls without a lease"));
        };
        let report = AttemptReport { lease, service, started_at, ended_at: now, status_code, outcome };
        let sample = CallOutcome::of(&report, fair_ms(60), false);
        worker.report = Some(report);
        worker.step += 1;
        worker.tries = 0;
        worker.state = if worker.write_behind && !ends { State::Admitting } else { State::Reporting };
        let (target, permit) = (worker.target, worker.permit.take());
        match permit {
            Some(_) => self.release(permit, sample),
            None => self.count(target, sample),
        }
        self.report(key);
    }

    /// Counts a call without a permit, which is reported to the lane at intervals.
    fn count(&mut self, service: usize, sample: CallOutcome) {
        let lane = &mut self.services[service].lane;
        if lane.seen.breaker == BreakerState::Closed
            && let Some(successes) = lane.tally.count(sample, lane.seen.status, &Timing::DEFAULT)
        {
            self.ask_lane(Actor::None, service, LaneAsk::Report { successes, last: sample }, LANE_TIMEOUT_MS);
        }
    }

    /// Sends the report or the final message, with retries.
    pub fn report(&mut self, key: u64) {
        let Some(worker) = self.workers.get(&key) else { return };
        if let Some(ask) = worker.leaving.clone() {
            return self.send(key, worker.store, ask);
        }
        let Some(report) = worker.report.clone() else { return };
        let (store, admission) = (worker.store, worker.work.admission.clone());
        let (parameters, result) = (raw(PARAMETERS), result(&report.outcome));
        let ask = match (worker.state, worker.write_behind) {
            (State::Admitting, _) => Ask::Admit(Admit {
                admission: Box::new(admission),
                parameters,
                lease_ms: Some(LEASE_MS),
                offers: false,
                show: false,
                claim: None,
            }),
            (_, true) => Ask::Record(Record { admission: Box::new(admission), parameters, report, result }),
            (_, false) => Ask::Commit(Commit { id: admission.id, report, result, stays_ms: INLINE_RETRY_MAX_MS }),
        };
        self.send(key, store, ask);
    }

    pub fn worker_replied(&mut self, key: u64, number: u64, reply: Reply) {
        let is_open = |worker: &Worker| worker.pending == number || worker.renewing == number;
        if !self.workers.get(&key).is_some_and(is_open) || self.crashes(key) {
            return;
        }
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&key) else { return };
        if worker.renewing == number {
            worker.renewing = 0;
            return self.renewed(key, &reply);
        }
        worker.pending = 0;
        match (worker.state, reply) {
            (State::Queued, Reply::Entered(entered)) => self.entered(key, Some(entered)),
            (State::Queued, _) => self.entered(key, None),
            (State::Leasing, Reply::Lease(LeaseReply::Leased(work))) => {
                worker.work = *work;
                self.call(key);
            }
            (State::Leasing, _) => {
                // Another worker has it, or it was cancelled.
                let permit = worker.permit.take();
                self.unused(permit);
                self.finish(key);
            }
            (State::Admitting, Reply::Admit(AdmitReply::Admitted { lease: Some(LeaseNumber::FIRST), .. })) => {
                worker.write_behind = false;
                worker.state = State::Reporting;
                let id = worker.work.admission.id.clone();
                self.checker.acknowledge(&id);
                self.report(key);
            }
            (State::Reporting, Reply::Commit(CommitReply::Committed { retry_ms: Some(ms), .. })) => {
                worker.state = State::Pausing;
                worker.step += 1;
                worker.work.tried.push(worker.work.admission.service.clone());
                worker.work.attempt += 1;
                worker.work.hold = Hold::Offered;
                let step = worker.step;
                self.schedule(now + ms, Event::Paused { worker: key, step });
            }
            (State::Reporting | State::Leaving, Reply::Failed) if worker.tries < MAX_RETRIES => {
                worker.tries += 1;
                let (step, pause) = (worker.step, 100 << worker.tries);
                self.schedule(now + pause, Event::Paused { worker: key, step });
            }
            _ => self.finish(key),
        }
    }

    fn renewed(&mut self, key: u64, reply: &Reply) {
        let Some(worker) = self.workers.get(&key) else { return };
        // Cancelled, or another worker's: the result of the call no longer counts.
        if matches!(reply, Reply::Renew(RenewReply::Renewed { cancel: true } | RenewReply::Nothing)) {
            match worker.state {
                State::Calling => self.answered(key, worker.step, CallResult::Cancelled),
                State::Queued => self.leave_queue(key),
                _ => {}
            }
        }
    }

    pub fn paused(&mut self, key: u64, step: u64) {
        let Some(worker) = self.workers.get(&key).filter(|worker| worker.step == step) else { return };
        match worker.state {
            State::Pausing => self.start(key),
            State::Queued => self.join_queue(key),
            State::Reporting | State::Leaving => self.report(key),
            State::Leasing | State::Calling | State::Admitting => {}
        }
    }
}
