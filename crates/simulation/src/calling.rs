//! The calls of services: over HTTP, or handed to a connection. A call may stream its result or ask for input.

use std::rc::Rc;

use narthex_core::base::retries::CallFault;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::calling::response::{self, CallResult};
use narthex_core::context::lease::LeaseNumber;
use narthex_core::context_store::messages::{AwaitInput, RequestInput};
use narthex_core::execution::attempt_result::AttemptResult;
use narthex_core::execution::driver::{Call, ClientAnswer, Event as DriverEvent};
use narthex_core::execution::hand_over::{HandOver, HandOverStep};
use narthex_core::execution::input_request::{InputRequest, InputStep};
use narthex_core::execution::known_service::KnownService;

use crate::lane_actor::LaneAsk;
use crate::messages::{Ask, Event, Reply};
use crate::worker::{LANE_TIMEOUT_MS, Message, Operation, Pending, TIMING};
use crate::world::{World, raw, result};

/// A call in progress.
#[derive(Debug)]
pub struct Calling {
    pub number: u64,
    pub lease: LeaseNumber,
    /// The index of the service in the world.
    pub service: usize,
    pub name: ServiceId,
    pub started_at: Timestamp,
    hand_over: Option<HandOver>,
    input: Option<InputRequest>,
}

impl World {
    pub fn call(&mut self, key: u64, call: &Call) {
        let now = Timestamp(self.now);
        let number = self.number();
        let Some(worker) = self.workers.get_mut(&key) else { return };
        let known = &worker.snapshot.services[call.at];
        let (service, name) = (known.lane, known.service().id.clone());
        let connects = known.service().transport.connects();
        let expires_at = call.work.admission.expires_at;
        let mut hand_over = connects.then(|| HandOver::new(expires_at, now, &TIMING));
        let first = hand_over.as_mut().map(|hand_over| hand_over.begin(now));
        let calling = Calling { number, lease: call.lease, service, name, started_at: now, hand_over, input: None };
        if worker.calling.replace(calling).is_some() {
            return self.violate(format!("worker {key} makes two calls at once"));
        }
        self.check_call(key, call, service);
        self.check_in_flight(service);
        match first {
            Some(step) => self.hand_over(key, step),
            None => self.call_http(key, number, call, service),
        }
    }

    fn schedule_answer(&mut self, key: u64, call: u64, delay_ms: u64, answer: CallResult) {
        self.schedule(self.now + delay_ms, Event::Answered { worker: key, call, answer });
    }

    fn call_http(&mut self, key: u64, number: u64, call: &Call, service: usize) {
        self.schedule_answer(key, number, call.left_ms, CallResult::TimedOut { deadline: true });
        if call.answer_timeout_ms < call.left_ms {
            self.schedule_answer(key, number, call.answer_timeout_ms, CallResult::TimedOut { deadline: false });
        }
        if self.dice.chance(self.faults.lose) {
            return self.schedule_answer(key, number, 5, CallResult::Refused);
        }
        let late =
            if self.dice.chance(self.faults.delay) { self.dice.between(50, 9_000) } else { self.dice.between(1, 20) };
        let work = call.work.clone();
        self.schedule(self.now + late, Event::Called { worker: key, call: number, work, service });
    }

    /// The worker does not wait for the response any longer.
    pub fn stop_call(&mut self, key: u64) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        worker.calling = None;
        worker.pending.retain(|_, pending| {
            !matches!(pending.operation, Operation::Dispatch | Operation::RequestInput | Operation::AwaitInput)
        });
    }

    fn calling(&mut self, key: u64, call: u64) -> Option<&mut Calling> {
        self.workers.get_mut(&key)?.calling.as_mut().filter(|calling| calling.number == call)
    }

    /// The service has responded, or the call has failed.
    pub fn answered(&mut self, key: u64, call: u64, answer: CallResult) {
        if self.calling(key, call).is_none() {
            return;
        }
        let Some(Calling { lease, name, started_at, .. }) =
            self.workers.get_mut(&key).and_then(|worker| worker.calling.take())
        else {
            return;
        };
        self.stop_call(key);
        let status_code = answer.status();
        if let CallResult::Http { retry_after_ms: Some(ms), .. } = &answer {
            self.rest(key, &name, *ms);
        }
        let now = Timestamp(self.now);
        let mut verdict = response::read(&name, answer, None);
        let id = self.workers.get(&key).map(|worker| worker.driver.work().admission.id.clone());
        verdict.result = id.and_then(|id| result(&verdict.outcome, &id, lease));
        let result = AttemptResult::of_response(lease, name, (started_at, now), status_code, verdict, 60);
        self.drive(key, DriverEvent::Responded(Box::new(result)));
    }

    fn hand_over(&mut self, key: u64, step: HandOverStep) {
        let Some(worker) = self.workers.get(&key) else { return };
        let Some(calling) = &worker.calling else { return };
        let (service, number) = (calling.service, calling.number);
        match step {
            HandOverStep::End(result) => {
                if matches!(result, CallResult::Refused) {
                    let (id, lease) = (&worker.driver.work().admission.id, calling.lease);
                    self.checker.refused.insert(format!("{id}.{lease}"));
                }
                self.schedule_answer(key, number, 0, result);
            }
            HandOverStep::Dispatch { pause_ms } => {
                let delivery = Delivery::new(&worker.driver.work().admission, calling.lease);
                let work = Rc::new(worker.driver.work().clone());
                let until = calling.hand_over.as_ref().map_or(Timestamp::default(), HandOver::valid_until);
                let ask = LaneAsk::Dispatch { delivery, until, work };
                let message = Message::Lane { service, ask, patience_ms: LANE_TIMEOUT_MS };
                self.repeat_after(key, Pending::new(Operation::Dispatch, message, 0), pause_ms);
            }
        }
    }

    /// The lane has handed the work over, or not.
    pub fn dispatched(&mut self, key: u64, reply: &Reply) {
        let now = Timestamp(self.now);
        let reply = match reply {
            Reply::Dispatched(done) => Ok(*done),
            Reply::Failed(fault) => Err(*fault),
            _ => Err(CallFault::Malformed),
        };
        let calling = self.workers.get_mut(&key).and_then(|worker| worker.calling.as_mut());
        let Some(hand_over) = calling.and_then(|calling| calling.hand_over.as_mut()) else { return };
        let step = hand_over.on(reply, now);
        self.hand_over(key, step);
        self.settle(key);
    }

    /// The service asks for input during the call.
    pub fn asks_for_input(&mut self, key: u64, call: u64) {
        let Some(calling) = self.calling(key, call) else { return };
        calling.input = Some(InputRequest::new(&TIMING));
        let lease = calling.lease;
        let Some(worker) = self.workers.get(&key) else { return };
        let id = worker.driver.work().admission.id.clone();
        let request = RequestInput { id, lease, request: raw(r#"{"message":"Which?"}"#) };
        let pending = Pending::new(Operation::RequestInput, Message::Store(Ask::RequestInput(request)), 4);
        self.send_message(key, pending);
    }

    pub fn input_requested(&mut self, key: u64, reply: &Reply) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        let Some(input) = worker.calling.as_ref().and_then(|calling| calling.input.as_ref()) else { return };
        let step = match reply {
            Reply::Change(reply) => input.requested(reply),
            _ => InputStep::Gone,
        };
        if matches!(step, InputStep::Await { .. }) {
            if worker.client.as_ref().is_some_and(|client| client.answer.is_none()) {
                // It finds the request at the store.
                self.answer_client(key, ClientAnswer::Continues, false);
            }
            self.drive(key, DriverEvent::ClientAnswered);
        }
        self.await_input(key, step);
    }

    pub fn input_heard(&mut self, key: u64, reply: Reply) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        let Some(input) = worker.calling.as_mut().and_then(|calling| calling.input.as_mut()) else { return };
        let step = input.on(match reply {
            Reply::Input(reply) => Ok(reply),
            Reply::Failed(fault) => Err(fault),
            _ => Err(CallFault::Malformed),
        });
        self.await_input(key, step);
    }

    fn await_input(&mut self, key: u64, step: InputStep) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        let Some(calling) = &mut worker.calling else { return };
        let (number, lease) = (calling.number, calling.lease);
        match step {
            InputStep::Await { pause_ms } => {
                let id = worker.driver.work().admission.id.clone();
                let wait = AwaitInput { id, lease, milliseconds: 0 };
                let pending = Pending::new(Operation::AwaitInput, Message::Store(Ask::AwaitInput(wait)), 0);
                // Worlds do not keep requests waiting at stores: the worker asks again instead.
                self.repeat_after(key, pending, pause_ms.max(TIMING.input_retry_ms));
            }
            InputStep::Answered(_) => {
                self.statistics.count("input answered");
                calling.input = None;
                self.resume_call(key, number, true);
            }
            InputStep::Gone => {
                self.statistics.count("input without an answer");
                calling.input = None;
                self.resume_call(key, number, false);
            }
        }
        self.settle(key);
    }
}
