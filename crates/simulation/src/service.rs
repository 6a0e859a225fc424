//! Services: some work, some reject, some fail after the work, some accept it and call back.

use narthex_core::base::id::ContextId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::calling::response::{self, CallResult};
use narthex_core::context::ReportedOutcome;
use narthex_core::context::lease::{Hold, LeaseNumber};
use narthex_core::context_store::messages::{CallBack, CallbackReport};
use narthex_core::context_store::replies::{CallbackReply, Work};

use crate::lane_actor::LaneObject;
use crate::messages::{Actor, Ask, Event, Reply};
use crate::world::{World, raw, result};

pub struct Service {
    pub name: ServiceId,
    pub lane: LaneObject,
}

impl Service {
    pub fn new(number: u64) -> Self {
        Self { name: ServiceId::from_stored(format!("s{number}")), lane: LaneObject::default() }
    }
}

/// Work that a service accepted.
pub struct Job {
    id: ContextId,
    store: usize,
    lease: LeaseNumber,
    beats: u64,
    every_ms: u64,
    promise_ms: Option<u64>,
    end: Option<CallResult>,
    asks: bool,
    tries: u64,
    pending: u64,
}

const RESULT: &str = r#"{"result":1}"#;
const ASKS: &str = r#"{"input_required":{"message":"Which?"}}"#;
const ERROR: &str = r#"{"error":{"code":"a","message":"b"}}"#;
const PASSING: &str = r#"{"error":{"code":"a","message":"b","retryable":true}}"#;

fn http(status: u16, body: &str) -> CallResult {
    CallResult::Http { status, is_json: true, retry_after_ms: None, location: None, body: body.as_bytes().to_vec() }
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
    TookOn,
    Silent,
}

impl World {
    fn behaviour(&mut self) -> Behaviour {
        if !self.dice.chance(self.faults.service) {
            return Behaviour::Worked(http(200, RESULT));
        }
        match self.dice.below(12) {
            0 => Behaviour::Worked(http(500, "{}")),
            1 => Behaviour::Worked(http(200, ERROR)),
            2 => Behaviour::Worked(http(200, PASSING)),
            3 | 4 => Behaviour::Untouched(http(503, PASSING)),
            5 => Behaviour::Worked(CallResult::Broken),
            6 => Behaviour::Silent,
            7..=9 => Behaviour::TookOn,
            _ => Behaviour::Asked,
        }
    }

    /// A call arrives at its service, even if the worker is gone.
    pub fn called(&mut self, worker: u64, step: u64, work: &Work) {
        self.statistics.executions += 1;
        let Hold::Leased(lease) = work.hold else {
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
            Behaviour::TookOn => (Some(self.take_on(work, lease)), true),
            Behaviour::Silent => (None, true),
        };
        self.note(|| format!("{} runs {} under lease {lease}: {answer:?}", work.admission.service, work.admission.id));
        if let Err(violation) = self.checker.execute(work, lease, did, self.now) {
            self.violate(violation);
        }
        let Some(answer) = answer else { return };
        let (answer, at) = match back {
            Some(back) => (answer, self.now + long + back),
            None => (CallResult::Broken, self.now + long),
        };
        self.schedule(at, Event::Answered { worker, step, answer });
    }

    /// Plans a job and returns the 202 response.
    fn take_on(&mut self, work: &Work, lease: LeaseNumber) -> CallResult {
        let promise = self.dice.chance(600).then(|| self.dice.between(5, 12));
        let end = match self.dice.below(8) {
            0 => None,
            1 => Some(http(200, ERROR)),
            2 => Some(http(200, PASSING)),
            3 => Some(http(200, ASKS)),
            _ => Some(http(200, RESULT)),
        };
        let asks = matches!(&end, Some(CallResult::Http { body, .. }) if body == ASKS.as_bytes());
        let job = Job {
            id: work.admission.id.clone(),
            store: self.store_of(&work.admission.id),
            lease,
            beats: self.dice.below(6),
            every_ms: self.dice.between(200, 9_000),
            promise_ms: promise.map(|seconds| seconds * 1000),
            end,
            asks,
            tries: 0,
            pending: 0,
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

    pub fn store_of(&self, id: &ContextId) -> usize {
        let store = id.store().unwrap();
        self.stores.iter().position(|known| known.id == store).unwrap()
    }

    pub fn call_back(&mut self, at: usize) {
        let job = &mut self.jobs[at];
        let (id, lease, store) = (job.id.clone(), job.lease, job.store);
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
            let outcome = read(&"s".into(), end);
            CallbackReport::Outcome { result: result(&outcome), outcome }
        };
        self.jobs[at].pending = self.ask(Actor::Job(at), store, Ask::CallBack(CallBack { id, lease, callback }));
    }

    pub fn job_replied(&mut self, at: usize, number: u64, reply: Reply) {
        let job = &mut self.jobs[at];
        if job.pending != number {
            return;
        }
        job.pending = 0;
        match reply {
            // Only the end is repeated.
            Reply::Failed if job.beats == 0 && job.tries < 4 => {
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
}
