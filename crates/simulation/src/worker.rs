//! Workers: each performs the actions of a driver for one context, as `execution/` does, and may die at any step.

use std::collections::BTreeMap;
use std::rc::Rc;

use narthex_core::base::id::ContextId;
use narthex_core::base::retries::Retries;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::context::ContextError;
use narthex_core::context::lease::LeaseNumber;
use narthex_core::context_store::messages::{Admit, Lease, PutBack, Refuse, Renew};
use narthex_core::context_store::replies::Work;
use narthex_core::execution::consumer::RunNumber;
use narthex_core::execution::driver::{Action, ClientAnswer, Driver, Event as DriverEvent, Moment, Permit, Renewal};
use narthex_core::lane::call_outcome::CallOutcome;
use narthex_core::lane::permit_number::PermitNumber;

use crate::calling::Calling;
use crate::faults::kind;
use crate::isolate::Snapshot;
use crate::lane_actor::{LaneAsk, waiter};
use crate::messages::{Actor, Ask, Event};
use crate::store::LEASE_MS;
use crate::stream::ClientStream;
use crate::worker_invariants::AttemptRecord;
use crate::world::World;

pub const TIMING: Timing = Timing::DEFAULT;
/// How long a lane may take to answer beyond the requested wait.
pub const LANE_TIMEOUT_MS: u64 = 5_000;
/// How many times a message to a store is repeated that must not be lost, and one to a lane.
const MAX_RETRIES: u32 = 4;
const MAX_LANE_RETRIES: u32 = 1;

/// What a message of a worker is for.
#[derive(Debug, Clone)]
pub enum Operation {
    Acquire,
    Lease,
    Renew(Renewal),
    Release(Permit),
    ReportCalls,
    Admit,
    Commit,
    Record,
    PutBack,
    Refuse,
    Refresh,
    Dispatch,
    RequestInput,
    AwaitInput,
    /// Its reply changes nothing.
    Notice,
}

/// The recipient of a message, and the message.
#[derive(Debug, Clone)]
pub enum Message {
    Store(Ask),
    Lane {
        service: usize,
        ask: LaneAsk,
        patience_ms: u64,
    },
    /// Reads the registry.
    Registry,
}

/// A message in transit, or about to be repeated.
#[derive(Debug)]
pub struct Pending {
    pub operation: Operation,
    pub message: Message,
    pub retries: Retries,
    /// How many times the store refused it because it knows a newer revision of the registry.
    pub stale: u32,
    /// The registry as read for it.
    pub snapshot: Option<Rc<Snapshot>>,
}

/// The client that waits for the context.
#[derive(Debug)]
pub struct Client {
    pub until: u64,
    pub answer: Option<ClientAnswer>,
    pub stream: Option<ClientStream>,
}

pub struct Worker {
    pub driver: Driver,
    pub store: usize,
    pub isolate: usize,
    pub consumer: Option<(u64, RunNumber)>,
    /// Its context is run before it is stored.
    pub runs_first: bool,
    pub snapshot: Rc<Snapshot>,
    /// By the number of the message.
    pub pending: BTreeMap<u64, Pending>,
    pub calling: Option<Calling>,
    /// The permits that the driver received and has not returned, and whether each is a probe's.
    pub permits: BTreeMap<(ServiceId, PermitNumber), bool>,
    pub record: AttemptRecord,
    /// The lane that it asked last, or that granted its first permit.
    pub lane: Option<usize>,
    pub client: Option<Client>,
    /// The time for which a timer is set, and its number.
    timer: Option<(Timestamp, u64)>,
}

/// A worker to create.
pub struct NewWorker {
    pub work: Work,
    pub store: usize,
    pub isolate: usize,
    pub snapshot: Rc<Snapshot>,
    /// The consumer that runs it, with the number of the run.
    pub consumer: Option<(u64, RunNumber)>,
    pub write_behind: bool,
    pub permit: Option<Permit>,
    /// Until when a client waits, and whether it receives the result piece by piece.
    pub client: Option<(u64, bool)>,
}

impl World {
    pub fn spawn(&mut self, new: NewWorker) -> u64 {
        let NewWorker { work, store, isolate, snapshot, consumer, write_behind, permit, client } = new;
        let key = self.number();
        let lane = permit.as_ref().map(|permit| self.service_called(&permit.service));
        let until = client.map(|(until, _)| Timestamp(until));
        let permits = permit.iter().map(|permit| ((permit.service.clone(), permit.number), permit.is_probe)).collect();
        let driver = if write_behind {
            Driver::write_behind(work, until, TIMING)
        } else {
            Driver::new(work, permit, until, TIMING.inline_retry_max_ms, TIMING)
        };
        let client = client.map(|(until, streams)| {
            let stream = streams.then(ClientStream::default);
            Client { until, answer: None, stream }
        });
        let worker = Worker {
            driver,
            store,
            isolate,
            consumer,
            runs_first: write_behind,
            snapshot,
            pending: BTreeMap::new(),
            calling: None,
            permits,
            record: AttemptRecord::default(),
            lane,
            client,
            timer: None,
        };
        self.workers.insert(key, worker);
        self.drive(key, DriverEvent::Started);
        key
    }

    /// Hands an event to the driver and performs its actions.
    pub fn drive(&mut self, key: u64, event: DriverEvent) {
        let Some(isolate) = self.workers.get(&key).map(|worker| worker.isolate) else { return };
        if self.dice.chance(self.faults.die) {
            return self.crash(isolate, Some(key), None);
        }
        self.note(|| format!("worker {key}: {event:?}"));
        self.watch_event(key, &event);
        let event = self.distort_event(event);
        let random = self.dice.throw();
        let Some(worker) = self.workers.get_mut(&key) else { return };
        let snapshot = worker.snapshot.clone();
        let moment = Moment { services: &snapshot.services, now: Timestamp(self.now), random };
        let actions = worker.driver.on(event, &moment);
        for action in self.distort_actions(actions) {
            self.note(|| format!("worker {key} shall {action:?}"));
            self.perform(key, action);
        }
        self.check_permit(key);
        self.settle(key);
    }

    /// Sets the timer of a worker, or removes one that has nothing left to do.
    pub fn settle(&mut self, key: u64) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&key) else { return };
        if worker.driver.is_finished() && worker.pending.is_empty() {
            return self.finish(key);
        }
        let wake_at = worker.driver.wake_at();
        if worker.timer.map(|(at, _)| at) == wake_at {
            return;
        }
        let timer = self.number();
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.timer = wake_at.map(|at| (at, timer));
        }
        if let Some(at) = self.distort_timer(wake_at) {
            self.schedule(at.0.max(now), Event::Wake { worker: key, timer });
        }
    }

    pub fn wake_worker(&mut self, key: u64, timer: u64) {
        let Some(worker) =
            self.workers.get_mut(&key).filter(|worker| worker.timer.is_some_and(|(_, set)| set == timer))
        else {
            return;
        };
        worker.timer = None;
        self.drive(key, DriverEvent::TimePassed);
    }

    /// The worker has finished.
    fn finish(&mut self, key: u64) {
        let Some(worker) = self.workers.remove(&key) else { return };
        self.check_finished(key, &worker);
        if let Some((consumer, run)) = worker.consumer {
            self.run_ended(consumer, run);
        }
    }

    fn perform(&mut self, key: u64, action: Action) {
        self.statistics.count(kind(&action));
        let Some(worker) = self.workers.get(&key) else { return };
        let (id, services) = (worker.driver.work().admission.id.clone(), worker.snapshot.clone());
        let lane = |at: usize| services.services[at].lane;
        match action {
            Action::Acquire { at, wait_ms } => {
                let ask = LaneAsk::Acquire { who: waiter(&worker.driver.work().admission, true), wait_ms };
                let lane = lane(at);
                if let Some(worker) = self.workers.get_mut(&key) {
                    worker.lane = Some(lane);
                }
                self.ask_lane_for(key, Operation::Acquire, lane, ask, 0, wait_ms + LANE_TIMEOUT_MS);
            }
            Action::LeaveQueue { at } => {
                self.notify_lane(key, Operation::Notice, lane(at), LaneAsk::Leave { context: id });
            }
            Action::Lease => self.send(key, Operation::Lease, Ask::Lease(Lease { id, lease_ms: LEASE_MS }), 0),
            Action::AnnounceAttempt { .. } => {
                if let Some(stream) = self.stream_of(key) {
                    stream.begin_attempt();
                }
            }
            Action::Call(call) => self.call(key, &call),
            Action::StopCall { at, withdraw } => {
                self.stop_call(key);
                if let Some(lease) = withdraw {
                    let ask = LaneAsk::Withdraw { context: id, lease: Some(lease) };
                    self.notify_lane(key, Operation::Notice, lane(at), ask);
                }
            }
            Action::Renew(renewal) => {
                let renew = Renew { id, hold: renewal.hold, lease_ms: LEASE_MS };
                self.send(key, Operation::Renew(renewal), Ask::Renew(renew), 0);
            }
            Action::RenewPermit(permit) => {
                let (number, principal) = (permit.number, worker.driver.work().admission.owner.clone());
                let Some(service) = self.lane_of(key, &permit) else { return };
                self.notify_lane(key, Operation::Notice, service, LaneAsk::Renew { permit: number, principal });
            }
            Action::Release { permit, outcome } => self.release(key, permit, outcome),
            Action::ReportCalls { at, successes, last } => {
                let ask = LaneAsk::Report { successes, last };
                // A repeated message would count twice.
                self.ask_lane_for(key, Operation::ReportCalls, lane(at), ask, 0, LANE_TIMEOUT_MS);
            }
            Action::Admit(work) => self.admit_running(key, &work),
            Action::Commit(commit) => {
                self.check_retry(key, &commit.report);
                self.send(key, Operation::Commit, Ask::Commit(commit.split(id).0), MAX_RETRIES);
            }
            Action::Record(record) => {
                self.answer_client(key, ClientAnswer::Ended, true);
                self.send(key, Operation::Record, Ask::Record(record.without_words()), MAX_RETRIES);
            }
            Action::PutBack { until } => self.send(key, Operation::PutBack, put_back(id, until), MAX_RETRIES),
            Action::Refuse(error) => self.send(key, Operation::Refuse, refuse(id, error), MAX_RETRIES),
            Action::Refresh => self.refresh(key),
            Action::Answer(answer) => self.answer_client(key, answer, false),
        }
    }

    fn admit_running(&mut self, key: u64, work: &Work) {
        let (admission, parameters) = (Box::new(work.admission.clone()), work.parameters.clone());
        let lease_ms = Some(LEASE_MS);
        let admit = Admit { admission, parameters, lease_ms, offers: false, show: false, claim: None };
        self.send(key, Operation::Admit, Ask::Admit(admit), MAX_RETRIES);
    }

    fn release(&mut self, key: u64, permit: Permit, outcome: CallOutcome) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        if worker.permits.remove(&(permit.service.clone(), permit.number)).is_none() {
            return self.violate(format!("worker {key} returns {permit:?}, which it does not have"));
        }
        let Some(service) = self.lane_of(key, &permit) else { return };
        let ask = LaneAsk::Release { permit: permit.number, sample: outcome };
        self.notify_lane(key, Operation::Release(permit), service, ask);
    }

    /// The lane that the worker was granted its permit by, or asked last.
    fn lane_of(&mut self, key: u64, permit: &Permit) -> Option<usize> {
        let lane = self.workers.get(&key)?.lane;
        if lane.is_none_or(|lane| self.services[lane].name != permit.service) {
            self.violate(format!("worker {key} sends {permit:?} to another lane"));
        }
        lane
    }

    fn refresh(&mut self, key: u64) {
        let Some(isolate) = self.workers.get(&key).map(|worker| worker.isolate) else { return };
        if let Some(snapshot) = self.fresh_snapshot(isolate) {
            if let Some(worker) = self.workers.get_mut(&key) {
                worker.snapshot = snapshot;
            }
            return self.drive(key, DriverEvent::Refreshed(Ok(())));
        }
        self.send_message(key, Pending::new(Operation::Refresh, Message::Registry, 0));
    }

    fn send(&mut self, key: u64, operation: Operation, ask: Ask, max_retries: u32) {
        self.send_message(key, Pending::new(operation, Message::Store(ask), max_retries));
    }

    fn notify_lane(&mut self, key: u64, operation: Operation, service: usize, ask: LaneAsk) {
        self.ask_lane_for(key, operation, service, ask, MAX_LANE_RETRIES, LANE_TIMEOUT_MS);
    }

    fn ask_lane_for(
        &mut self,
        key: u64,
        operation: Operation,
        service: usize,
        ask: LaneAsk,
        max_retries: u32,
        patience_ms: u64,
    ) {
        let message = Message::Lane { service, ask, patience_ms };
        self.send_message(key, Pending::new(operation, message, max_retries));
    }

    /// Sends a message; its reply comes under a new number.
    pub fn send_message(&mut self, key: u64, pending: Pending) {
        let Some(worker) = self.workers.get(&key) else { return };
        let (store, actor) = (worker.store, Actor::Worker(key));
        let revision = pending.snapshot.as_ref().unwrap_or(&worker.snapshot).revision;
        let number = match &pending.message {
            Message::Store(ask) => self.ask(actor, store, revision, ask.clone()),
            Message::Lane { service, ask, patience_ms } => self.ask_lane(actor, *service, ask.clone(), *patience_ms),
            Message::Registry => self.read_registry(actor, worker.isolate),
        };
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.pending.insert(number, pending);
        }
    }

    fn stream_of(&mut self, key: u64) -> Option<&mut ClientStream> {
        self.workers.get_mut(&key)?.client.as_mut()?.stream.as_mut()
    }

    /// A piece of the result goes to the client, if this is still the call.
    pub fn piece(&mut self, key: u64, call: u64) {
        let Some(worker) = self.workers.get(&key) else { return };
        let Some(lease) = worker.calling.as_ref().filter(|calling| calling.number == call).map(|call| call.lease)
        else {
            return;
        };
        if let Some(stream) = self.stream_of(key) {
            stream.piece(lease);
        }
    }
}

impl Pending {
    pub fn new(operation: Operation, message: Message, max_retries: u32) -> Self {
        Self { operation, message, retries: Retries::up_to(max_retries), stale: 0, snapshot: None }
    }
}

impl Worker {
    /// The lease under which it reports.
    pub fn lease(&self) -> Option<LeaseNumber> {
        self.driver.work().hold.lease()
    }
}

fn put_back(id: ContextId, until: Option<Timestamp>) -> Ask {
    Ask::PutBack(PutBack { id, until })
}

fn refuse(id: ContextId, error: ContextError) -> Ask {
    Ask::Refuse(Refuse { id, error })
}
