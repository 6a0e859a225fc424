//! Services: some work, some reject, some fail after the work, some accept it and call back, some ask for input.

use narthex_core::base::id::ContextId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::{self, CallResult};
use narthex_core::context::ReportedOutcome;
use narthex_core::context::lease::LeaseNumber;
use narthex_core::context_store::messages::{CallBack, CallbackReport};
use narthex_core::context_store::replies::{CallbackReply, Work};
use narthex_core::http::egress_address::Policy;
use narthex_core::registry::revision::Revision;
use narthex_core::services;
use narthex_core::services::transport::Rules;
use serde_json::{Value, json};

use crate::lane_actor::{LaneAsk, LaneObject};
use crate::messages::{Actor, Ask, Event, Reply};
use crate::network::REPLY_TIMEOUT_MS;
use crate::world::{World, raw, result};

pub struct Service {
    pub name: ServiceId,
    /// As an administrator registers it.
    body: Value,
    pub lane: LaneObject,
}

impl Service {
    /// `connects`: it opens a connection to its lane and receives its work there.
    pub fn new(number: u64, max_concurrency: Option<u64>, max_queue: u64, connects: bool) -> Self {
        let name = ServiceId::from_stored(format!("s{number}"));
        let transport = if connects {
            json!({"kind": "socket", "grace_seconds": 5})
        } else {
            json!({"kind": "http", "url": "https://a.example.com/"})
        };
        let body = json!({
            "name": name, "type": "tool", "transport": transport,
            "capabilities": [{"name": "echo", "version": "1.0.0", "timeout_seconds": 60, "idempotent": false}],
            "limits": {"max_concurrency": max_concurrency, "max_queue": max_queue},
            "retry": {"max_attempts": 3, "base_ms": 200, "cap_ms": 10_000},
        });
        let rules = Rules { addresses: Policy::STRICT, own_hosts: &[], demo: false, bindings: None, stored: None };
        let read = services::read(&name, &body.to_string(), rules).unwrap();
        let lane = LaneObject::new(&read.service);
        Self { name, body, lane }
    }

    /// The document for its registration.
    pub fn body(&self, draining: bool) -> String {
        let mut body = self.body.clone();
        body["status"] = if draining { "draining" } else { "online" }.into();
        body.to_string()
    }
}

/// Work that a service accepted.
pub struct Job {
    id: ContextId,
    service: usize,
    store: usize,
    lease: LeaseNumber,
    beats: u64,
    every_ms: u64,
    promise_ms: Option<u64>,
    end: Option<CallResult>,
    asks: bool,
    tries: u64,
    pending: u64,
    /// The work of connected services: its deadline, and whether the lane has acknowledged the outcome.
    deadline: Timestamp,
    is_over: bool,
}

/// How many times a service repeats the outcome of an attempt, over HTTP and over connections.
const MAX_REPEATS: u64 = 4;
const MAX_CONNECTED_REPEATS: u64 = 6;

/// How long after the deadline of its context a connected service reports an outcome.
const AFTER_DEADLINE_MS: u64 = 2_000;

impl Job {
    /// The number of its delivery.
    fn number(&self) -> String {
        format!("{}.{}", self.id, self.lease)
    }
}

const RESULT: &str = r#"{"result":1}"#;
const ASKS: &str = r#"{"input_required":{"message":"Which?"}}"#;
const ERROR: &str = r#"{"error":{"code":"a","message":"b"}}"#;
const PASSING: &str = r#"{"error":{"code":"a","message":"b","retryable":true}}"#;

fn http(status: u16, body: &str) -> CallResult {
    CallResult::Http { status, is_json: true, retry_after_ms: None, location: None, body: body.as_bytes().to_vec() }
}

fn later(retry_after_ms: u64) -> CallResult {
    let body = PASSING.as_bytes().to_vec();
    CallResult::Http { status: 503, is_json: true, retry_after_ms: Some(retry_after_ms), location: None, body }
}

/// The outcome that a response means for the caller.
pub fn read(service: &ServiceId, answer: CallResult) -> ReportedOutcome {
    response::read(service, answer, None).outcome
}

enum Behaviour {
    /// It did the work, or may have.
    Worked(CallResult),
    /// It did nothing, and says so.
    Untouched(CallResult),
    Asked,
    /// It asks during the call.
    AsksInCall,
    TookOn,
    Silent,
}

impl World {
    fn behaviour(&mut self) -> Behaviour {
        if !self.dice.chance(self.faults.service) {
            return Behaviour::Worked(http(200, RESULT));
        }
        match self.dice.below(17) {
            0 => Behaviour::Worked(http(500, "{}")),
            1 => Behaviour::Worked(http(200, ERROR)),
            2 => Behaviour::Worked(http(200, PASSING)),
            3 | 4 => Behaviour::Untouched(http(503, PASSING)),
            5 => Behaviour::Untouched(later(self.dice.between(200, 6_000))),
            // Another service may understand it.
            6 => Behaviour::Untouched(http(404, "{}")),
            7 => Behaviour::Worked(CallResult::Broken),
            8 => Behaviour::Silent,
            9..=11 => Behaviour::TookOn,
            12 | 13 => Behaviour::Asked,
            _ => Behaviour::AsksInCall,
        }
    }

    /// A call arrives at its service, even if the worker is gone.
    pub fn called(&mut self, worker: u64, call: u64, work: &Work, service: usize) {
        self.statistics.executions += 1;
        let Some(lease) = work.hold.lease() else {
            return self.violate(format!("{} runs without a lease", work.admission.id));
        };
        let behaviour = self.behaviour();
        let slow = self.faults.service > 0 && self.dice.chance(200);
        let long = if slow { self.dice.between(3_000, 25_000) } else { self.dice.between(5, 800) };
        let back = if self.dice.chance(self.faults.lose) { None } else { Some(self.dice.between(1, 20)) };
        let (answer, did) = match behaviour {
            Behaviour::Worked(answer) => (Some(answer), true),
            Behaviour::Untouched(answer) => (Some(answer), false),
            // A worker that does not get the input request must assume that the work was done.
            Behaviour::Asked => (Some(http(200, ASKS)), back.is_none()),
            Behaviour::AsksInCall => {
                self.schedule(self.now + long, Event::AsksForInput { worker, call });
                (None, true)
            }
            Behaviour::TookOn => (Some(self.take_on(work, lease, service)), true),
            Behaviour::Silent => (None, true),
        };
        self.note(|| format!("s{service} runs {} under lease {lease}: {answer:?}", work.admission.id));
        if let Err(violation) = self.checker.execute(work, lease, did, self.now) {
            self.violate(violation);
        }
        for _ in 0..self.dice.below(3) {
            let at = self.now + self.dice.below(long);
            self.schedule(at, Event::Piece { worker, call });
        }
        let Some(answer) = answer else { return };
        let (answer, at) = match back {
            Some(back) => (answer, self.now + long + back),
            None => (CallResult::Broken, self.now + long),
        };
        self.schedule(at, Event::Answered { worker, call, answer });
    }

    /// A service that asked during its call continues, with the answer or without.
    pub fn resume_call(&mut self, worker: u64, call: u64, answered: bool) {
        let answer = http(200, if answered { RESULT } else { ERROR });
        let at = self.now + self.dice.between(5, 800);
        self.schedule(at, Event::Answered { worker, call, answer });
    }

    /// Plans a job and returns the 202 response.
    pub fn take_on(&mut self, work: &Work, lease: LeaseNumber, service: usize) -> CallResult {
        let promise = self.dice.chance(600).then(|| self.dice.between(5, 12));
        let end = match self.dice.below(8) {
            _ if self.is_calm() => Some(http(200, RESULT)),
            0 => None,
            1 => Some(http(200, ERROR)),
            2 => Some(http(200, PASSING)),
            3 => Some(http(200, ASKS)),
            _ => Some(http(200, RESULT)),
        };
        self.checker.accepted.insert(work.admission.id.clone());
        let asks = matches!(&end, Some(CallResult::Http { body, .. }) if body == ASKS.as_bytes());
        let job = Job {
            id: work.admission.id.clone(),
            service,
            store: self.store_of(&work.admission.id),
            lease,
            beats: if self.is_calm() { 0 } else { self.dice.below(6) },
            every_ms: if self.is_calm() { 500 } else { self.dice.between(200, 9_000) },
            promise_ms: promise.map(|seconds| seconds * 1000),
            end,
            asks,
            tries: 0,
            pending: 0,
            deadline: work.admission.expires_at,
            is_over: false,
        };
        // It may finish before its 202 has arrived.
        let first = self.now + self.dice.below(job.every_ms);
        self.jobs.push(job);
        self.schedule(first, Event::CallBack { job: self.jobs.len() - 1 });
        match promise {
            Some(seconds) => http(202, &format!(r#"{{"lease_seconds":{seconds}}}"#)),
            None => http(202, "{}"),
        }
    }

    /// Deliveries that never end would fill the connections of their service.
    pub fn end_deliveries(&mut self) {
        for at in 0..self.jobs.len() {
            let job = &mut self.jobs[at];
            if self.services[job.service].lane.connections.is_some() && !job.is_over {
                (job.beats, job.tries) = (0, 0);
                job.end.get_or_insert_with(|| http(200, RESULT));
                self.schedule(self.now + 1_000, Event::CallBack { job: at });
            }
        }
    }

    pub fn store_of(&self, id: &ContextId) -> usize {
        let store = id.store().unwrap();
        self.stores.iter().position(|known| known.id == store).unwrap()
    }

    pub fn service_called(&self, name: &ServiceId) -> usize {
        self.services.iter().position(|service| service.name == *name).unwrap()
    }

    pub fn call_back(&mut self, at: usize) {
        if self.connects(self.jobs[at].service) {
            return self.report_delivery(at);
        }
        let job = &mut self.jobs[at];
        let (id, lease, store, service) = (job.id.clone(), job.lease, job.store, job.service);
        let callback = if job.beats > 0 {
            job.beats -= 1;
            let (next, lease_ms) = (self.now + job.every_ms, job.promise_ms);
            let progress = self.dice.chance(500).then(|| raw(r#"{"percent":1}"#));
            // Some make a promise only now, or change it.
            let lease_ms = if self.dice.chance(300) { Some(self.dice.between(5, 20) * 1000) } else { lease_ms };
            self.schedule(next, Event::CallBack { job: at });
            if lease_ms.is_none() && progress.is_none() {
                return;
            }
            CallbackReport::Beat { lease_ms, progress }
        } else {
            let Some(end) = job.end.clone() else { return };
            if job.asks {
                self.checker.did_only_ask(&id, lease);
            }
            let outcome = read(&self.services[service].name, end);
            let result = result(&outcome, &id, lease);
            CallbackReport::Outcome { outcome, result, stated: None }
        };
        let ask = Ask::CallBack(CallBack { id, lease, callback });
        self.jobs[at].pending = self.ask(Actor::Job(at), store, Revision::INITIAL, ask);
    }

    pub fn job_replied(&mut self, at: usize, number: u64, reply: &Reply) {
        let job = &mut self.jobs[at];
        if job.pending != number {
            return;
        }
        job.pending = 0;
        let service = job.service;
        if self.connects(service) {
            return self.delivery_reported(at, reply);
        }
        let job = &mut self.jobs[at];
        let is_over = job.beats == 0;
        match reply {
            // Only the end is repeated.
            Reply::Failed(_) if is_over && job.tries < MAX_REPEATS => {
                job.tries += 1;
                let again = self.now + 500 * job.tries;
                self.schedule(again, Event::CallBack { job: at });
            }
            Reply::CallBack(CallbackReply::CalledBack { counts: false, .. }) => {
                job.beats = 0;
                job.end = None;
            }
            Reply::CallBack(CallbackReply::Nothing) if self.checker.was_stored_first(&self.jobs[at].id) => {
                self.violate(format!("{} was acknowledged, and its callback finds no context", self.jobs[at].id));
            }
            _ => {}
        }
    }

    /// A connected service reports to its lane, as long as it has a connection and the attempt may count.
    fn report_delivery(&mut self, at: usize) {
        let (now, is_open) = (self.now, self.has_connection(self.jobs[at].service));
        let job = &mut self.jobs[at];
        if job.is_over || job.deadline.plus_ms(AFTER_DEADLINE_MS).0 < now {
            return;
        }
        if !is_open {
            return self.schedule(now + 500, Event::CallBack { job: at });
        }
        let (id, lease, service, number) = (job.id.clone(), job.lease, job.service, job.number());
        if job.beats > 0 {
            job.beats -= 1;
            let next = now + job.every_ms;
            self.schedule(next, Event::CallBack { job: at });
            if self.dice.chance(500) {
                self.ask_lane(Actor::None, service, LaneAsk::Progress { number }, REPLY_TIMEOUT_MS);
            }
            return;
        }
        let Some(answer) = job.end.clone() else { return };
        if job.asks {
            self.checker.did_only_ask(&id, lease);
        }
        let ask = LaneAsk::Outcome { number, answer };
        self.jobs[at].pending = self.ask_lane(Actor::Job(at), service, ask, REPLY_TIMEOUT_MS);
    }

    fn delivery_reported(&mut self, at: usize, reply: &Reply) {
        let job = &mut self.jobs[at];
        match reply {
            Reply::Reported { is_late } => {
                job.is_over = true;
                let (id, lease) = (&job.id, job.lease);
                if !is_late && !self.checker.has_ended(id) && self.checker.lease(id) == Some(lease) {
                    let text = format!("the outcome of {} was acknowledged and is not stored", job.number());
                    self.violate(text);
                }
            }
            _ if job.tries < MAX_CONNECTED_REPEATS => {
                job.tries += 1;
                let again = self.now + 500 * job.tries;
                self.schedule(again, Event::CallBack { job: at });
            }
            _ => {}
        }
    }

    /// The deliveries that a service resumes on a new connection: some of those whose connections dropped, seldom one
    /// that another connection has, and sometimes an unknown one.
    pub fn resumable(&mut self, service: usize) -> Vec<String> {
        let is_calm = self.is_calm();
        let Self { jobs, services, dice, .. } = self;
        let lane = &services[service].lane;
        let mut resume: Vec<String> = Vec::new();
        for job in jobs.iter().filter(|job| job.service == service && !job.is_over) {
            let number = job.number();
            let connection = lane.storage.read(|disk| Some(disk.deliveries.get(&number)?.connection.clone()));
            let is_elsewhere = connection.is_some_and(|connection| {
                lane.connections.as_ref().is_some_and(|connections| connections.has(&connection))
            });
            let likely = if is_elsewhere { 50 } else { 700 };
            if dice.chance(likely) || (is_calm && !is_elsewhere) {
                resume.push(number);
            }
        }
        if dice.chance(100) {
            resume.push(format!("unknown.{}", dice.below(9)));
        }
        resume
    }

    /// The service stops working on a delivery whose attempt is over.
    pub fn job_is_over(&mut self, service: usize, number: &str) {
        for job in self.jobs.iter_mut().filter(|job| job.service == service) {
            job.is_over |= job.number() == number;
        }
    }
}
