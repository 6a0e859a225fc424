//! Clients: they create contexts, repeat failed requests with the same key, poll, answer, and cancel.

use narthex_core::base::id::ContextId;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::time::Timestamp;
use narthex_core::context::idempotency::Claim;
use narthex_core::context::lease::{Hold, LeaseNumber};
use narthex_core::context::retry::Retry;
use narthex_core::context::status::{Priority, Status};
use narthex_core::context::{Admission, fixtures};
use narthex_core::context_store::messages::{Admit, AnswerInput, Cancel, Get};
use narthex_core::context_store::replies::{AdmitReply, ContextReply, Work};
use narthex_core::lane::PermitDecision;

use crate::gate::{LANE_TIMEOUT_MS, Permit, entrant};
use crate::lane_actor::LaneAsk;
use crate::messages::{Actor, Ask, Event, Reply};
use crate::store::LEASE_MS;
use crate::worker::NewWorker;
use crate::world::{PARAMETERS, World, raw};

/// How many idempotency keys the requests share, so that some repeat others.
const KEYS: u64 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The isolate that admits the context runs it as well.
    Here,
    Queue,
    /// `durable: false`: run first, recorded after.
    WriteBehind,
}

pub struct Request {
    store: usize,
    mode: Mode,
    idempotent: bool,
    service: usize,
    priority: Priority,
    lives_ms: u64,
    waits_ms: Option<u64>,
    max_attempts: u64,
    pub key: Option<(u64, u64)>,
    /// Every id that was tried.
    pub ids: Vec<ContextId>,
    asked: Option<Admit>,
    again: bool,
    repeats: u64,
    polls: u64,
    pending: u64,
    pub acknowledged: Option<ContextId>,
    ended: Option<Status>,
    cancels: bool,
    permit: Option<Permit>,
    offers: bool,
    /// It is in the lane's queue already.
    is_queued: bool,
    /// The lane is asked before the store.
    entering: bool,
}

impl World {
    pub fn plan_request(&mut self) {
        let dice = &mut self.dice;
        let key = dice.chance(400).then(|| (dice.below(KEYS), u64::from(dice.chance(150))));
        let stores = self.stores.len() as u64;
        let waits_ms = dice.chance(120).then(|| dice.between(500, 15_000));
        let mode = match dice.below(10) {
            _ if waits_ms.is_some() => Mode::Queue,
            0 if key.is_none() => Mode::WriteBehind,
            1..=5 => Mode::Here,
            _ => Mode::Queue,
        };
        let lives_ms = if dice.chance(300) { dice.between(500, 8_000) } else { dice.between(8_000, 70_000) };
        let request = Request {
            // A key belongs to one store.
            store: key.map_or_else(|| dice.below(stores), |(key, _)| key % stores) as usize,
            mode,
            idempotent: dice.chance(500),
            service: dice.below(self.services.len() as u64) as usize,
            priority: dice.pick(&[Priority::Low, Priority::Normal, Priority::High, Priority::Critical]),
            lives_ms: lives_ms + waits_ms.unwrap_or(0),
            waits_ms,
            max_attempts: dice.between(1, 4),
            key,
            ids: Vec::new(),
            asked: None,
            again: false,
            repeats: dice.below(4),
            polls: 0,
            pending: 0,
            acknowledged: None,
            ended: None,
            cancels: dice.chance(150),
            permit: None,
            offers: false,
            is_queued: false,
            entering: false,
        };
        let spread = self.calm_at - self.beginning();
        let at = self.beginning() + self.dice.below(spread);
        self.requests.push(request);
        self.schedule(at, Event::Begin(self.requests.len() - 1));
    }

    fn admission(&mut self, at: usize) -> Admission {
        let mut random = [0; 10];
        for (place, byte) in self.dice.throw().to_le_bytes().into_iter().enumerate() {
            random[place] = byte;
        }
        let request = &self.requests[at];
        let created_at = Timestamp(self.now);
        Admission {
            id: ContextId::new(self.stores[request.store].id, created_at, random),
            owner: PrincipalId::of_key(&request.service.to_string()),
            service: self.services[request.service].name.clone(),
            idempotent: request.idempotent,
            retry: Retry { max_attempts: request.max_attempts, ..Retry::default() },
            priority: request.priority,
            idempotency_key: request.key.map(|(key, _)| key.to_string()),
            expires_at: created_at.plus_ms(request.lives_ms),
            run_at: request.waits_ms.map(|ms| created_at.plus_ms(ms)),
            ..fixtures::admission(0, created_at)
        }
    }

    /// A request arrives at some gateway and gets a new id, whatever was tried before.
    pub fn begin(&mut self, at: usize) {
        let mut admission = self.admission(at);
        self.last_until(admission.expires_at.0.max(self.calm_at) + 25_000);
        self.checker.expect(&admission);
        let request = &mut self.requests[at];
        request.ids.push(admission.id.clone());
        request.again = false;
        if request.mode == Mode::WriteBehind {
            admission.retry.max_attempts = 1;
            self.checker.expect_write_behind(&admission.id);
            let work = Work::first(admission, raw(PARAMETERS), Hold::Leased(LeaseNumber::FIRST));
            return self.run_here(at, work, true);
        }
        let claim =
            request.key.map(|(key, body)| Claim { scope: format!("key {key}"), fingerprint: format!("body {body}") });
        let (is_here, waits) = (request.mode == Mode::Here, request.waits_ms.is_some());
        let service = request.service;
        (request.offers, request.is_queued) = (false, false);
        let lease_ms = is_here.then_some(LEASE_MS);
        let work = Work::first(admission.clone(), raw(PARAMETERS), Hold::Offered);
        let (admission, parameters) = (Box::new(admission), raw(PARAMETERS));
        self.requests[at].asked = Some(Admit { admission, parameters, lease_ms, offers: false, show: false, claim });
        if self.services[service].lane.is_gated() && !waits {
            self.requests[at].entering = true;
            let ask = LaneAsk::Acquire { who: entrant(&work, false), wait_ms: 0 };
            self.requests[at].pending = self.ask_lane(Actor::Request(at), service, ask, LANE_TIMEOUT_MS);
        } else {
            self.admit(at);
        }
    }

    /// The lane has answered before the context exists.
    fn admission_checked(&mut self, at: usize, reply: Reply) {
        let request = &mut self.requests[at];
        request.entering = false;
        let is_here = request.mode == Mode::Here;
        match reply {
            Reply::Entered(PermitDecision::Permit { number, probe }) => {
                let (service, taken_at) = (request.service, self.now);
                request.permit = Some(Permit { service, number, is_probe: probe, taken_at });
            }
            Reply::Entered(PermitDecision::Free) => {}
            // `queue_full`
            Reply::Entered(PermitDecision::Full { .. }) => return,
            _ => (request.offers, request.is_queued) = (is_here, true),
        }
        if !is_here {
            // The consumer that takes it from the queue asks again.
            let permit = self.requests[at].permit.take();
            self.unused(permit);
        }
        if let (true, Some(Admit { lease_ms, offers, .. })) =
            (self.requests[at].offers, self.requests[at].asked.as_mut())
        {
            (*lease_ms, *offers) = (None, true);
        }
        self.admit(at);
    }

    fn admit(&mut self, at: usize) {
        if let Some(ask) = self.requests[at].asked.clone() {
            self.requests[at].pending = self.ask(Actor::Request(at), self.requests[at].store, Ask::Admit(ask));
        }
    }

    /// Runs the context in the isolate of the request, which waits a while for the end.
    fn run_here(&mut self, at: usize, work: Work, write_behind: bool) {
        let (store, permit) = (self.requests[at].store, self.requests[at].permit.take());
        let waits_until = self.now + self.dice.between(0, 30_000);
        self.spawn(NewWorker { work, store, consumer: None, write_behind, permit, waits_until });
    }

    pub fn request_replied(&mut self, at: usize, number: u64, reply: Reply) {
        if self.requests[at].pending != number {
            return;
        }
        self.requests[at].pending = 0;
        if self.requests[at].entering {
            return self.admission_checked(at, reply);
        }
        if !matches!(reply, Reply::Failed) || self.requests[at].again {
            self.leave_queue_unless_admitted(at, &reply);
            let unused = !matches!(reply, Reply::Admit(AdmitReply::Admitted { lease: Some(_), .. }));
            let permit = self.requests[at].permit.take_if(|_| unused);
            self.unused(permit);
        }
        let Some(Admit { admission, .. }) = self.requests[at].asked.clone() else {
            return self.looked(at, reply);
        };
        match reply {
            Reply::Admit(AdmitReply::Admitted { lease, .. }) => {
                self.acknowledge(at, admission.id.clone());
                let is_here = lease.is_some() || self.requests[at].offers;
                if is_here && !self.dice.chance(self.faults.die) {
                    let work = Work::first(*admission, raw(PARAMETERS), lease.into());
                    self.run_here(at, work, false);
                }
            }
            Reply::Admit(AdmitReply::Replayed { id }) => self.acknowledge(at, id),
            Reply::Admit(AdmitReply::Taken) => {
                if self.checker.knows(&admission.id) {
                    self.violate(format!("{} exists, and its client was asked for another id", admission.id));
                }
                self.begin(at);
            }
            Reply::Failed if !self.requests[at].again => {
                // The gateway repeats the request with the same id.
                self.requests[at].again = true;
                self.admit(at);
            }
            Reply::Failed if self.requests[at].key.is_some() && self.requests[at].repeats > 0 => {
                self.requests[at].repeats -= 1;
                let pause = self.dice.between(10, 5_000);
                self.schedule(self.now + pause, Event::Begin(at));
            }
            Reply::Failed | Reply::Admit(AdmitReply::KeyReused) => {}
            other => self.violate(format!("the answer to an admission is {other:?}")),
        }
    }

    /// Leaves the lane's queue unless a context needs the place.
    fn leave_queue_unless_admitted(&mut self, at: usize, reply: &Reply) {
        let request = &mut self.requests[at];
        let was_queued = std::mem::take(&mut request.is_queued);
        if was_queued
            && !matches!(reply, Reply::Admit(AdmitReply::Admitted { .. }))
            && let Some(Admit { admission, .. }) = &request.asked
        {
            let (service, context) = (request.service, admission.id.clone());
            self.ask_lane(Actor::None, service, LaneAsk::Leave { context }, LANE_TIMEOUT_MS);
        }
    }

    /// The client has a response with this id: the context must exist from now on.
    fn acknowledge(&mut self, at: usize, id: ContextId) {
        self.note(|| format!("request {at} is {id}"));
        if let Some((key, body)) = self.requests[at].key
            && let Err(violation) = self.checker.check_claim((self.requests[at].store, key), body, &id)
        {
            self.violate(violation);
        }
        self.checker.acknowledge(&id);
        let request = &mut self.requests[at];
        request.asked = None;
        request.acknowledged = Some(id);
        if std::mem::take(&mut request.cancels) {
            let pause = self.dice.between(0, 10_000);
            self.schedule(self.now + pause, Event::Cancel(at));
        }
        let pause = self.dice.between(100, 6_000);
        self.schedule(self.now + pause, Event::Poll(at));
    }

    pub fn cancel(&mut self, at: usize) {
        if let Some(id) = self.requests[at].acknowledged.clone() {
            self.ask(Actor::None, self.requests[at].store, Ask::Cancel(Cancel { id }));
        }
    }

    pub fn poll(&mut self, at: usize) {
        if let Some(id) = self.requests[at].acknowledged.clone() {
            self.requests[at].polls += 1;
            self.requests[at].pending = self.ask(Actor::Request(at), self.requests[at].store, Ask::Get(Get { id }));
        }
    }

    fn looked(&mut self, at: usize, reply: Reply) {
        let Some(id) = self.requests[at].acknowledged.clone() else { return };
        match reply {
            Reply::Context(ContextReply::Context(found)) => {
                let status = found.status;
                if let Some(ended) = self.requests[at].ended.filter(|ended| *ended != status) {
                    self.violate(format!("{id} had ended as {ended:?} and is {status:?} now"));
                }
                self.requests[at].ended = Some(status).filter(|status| status.is_final());
                if status == Status::InputRequired && self.dice.chance(700) {
                    self.ask(
                        Actor::None,
                        self.requests[at].store,
                        Ask::Answer(AnswerInput { id, input: raw(PARAMETERS) }),
                    );
                }
            }
            Reply::Failed => {}
            other => self.violate(format!("{id} was acknowledged, and reading it gives {other:?}")),
        }
        let request = &self.requests[at];
        if request.polls < 4 || (request.ended.is_none() && request.polls < 12) {
            let pause = self.dice.between(500, 8_000);
            self.schedule(self.now + pause, Event::Poll(at));
        }
    }
}
