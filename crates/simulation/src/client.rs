//! Clients: they create contexts, repeat failed requests with the same key, poll, answer, and cancel.

mod beginning;
mod reading;

use std::rc::Rc;

use narthex_core::base::content::Content;
use narthex_core::base::id::ContextId;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::retries::Retries;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::context::retry::Retry;
use narthex_core::context::status::{Priority, Status};
use narthex_core::context::{Admission, fixtures};
use narthex_core::context_store::messages::Admit;
use narthex_core::context_store::replies::{AdmitReply, Work};
use narthex_core::execution::admission_check::{self, AdmissionCheck};
use narthex_core::execution::driver::{Permit, Unreachable};
use narthex_core::lane::call_outcome::CallOutcome;

use crate::isolate::Snapshot;
use crate::lane_actor::LaneAsk;
use crate::messages::{Actor, Ask, Event, Reply};
use crate::worker::{LANE_TIMEOUT_MS, NewWorker};
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
    /// `none`: only the worker of the request has its content.
    content: Content,
    isolate: usize,
    /// The index of the selected service, and the registry by which it was selected.
    service: usize,
    snapshot: Rc<Snapshot>,
    owner: u64,
    asks_service: bool,
    /// The service that it wants, if that is registered.
    first_service: Option<usize>,
    priority: Priority,
    lives_ms: u64,
    waits_ms: Option<u64>,
    max_attempts: u64,
    pub key: Option<(u64, u64)>,
    /// Every id that was tried.
    pub ids: Vec<ContextId>,
    asked: Option<Admit>,
    retries: Retries,
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
    /// The registry is read first.
    is_reading: bool,
    /// When the gateway received it.
    pub arrived_at: u64,
}

impl Request {
    /// Whether the isolate that admits it makes the first attempt.
    fn is_here(&self) -> bool {
        self.mode != Mode::Queue
    }
}

impl World {
    pub fn plan_request(&mut self) {
        let (is_storm, has_cut) = (self.is_storm(), self.faults.cut > 0);
        let dice = &mut self.dice;
        let key =
            dice.chance(if is_storm { 100 } else { 400 }).then(|| (dice.below(KEYS), u64::from(dice.chance(150))));
        let stores = self.stores.len() as u64;
        let waits_ms = dice.chance(120).then(|| dice.between(500, 15_000));
        // Slow messages are of interest to those whose decisions no store confirms.
        let runs_first = key.is_none() && has_cut && dice.chance(400);
        let mode = match dice.below(10) {
            _ if waits_ms.is_some() => Mode::Queue,
            _ if runs_first => Mode::WriteBehind,
            0 if key.is_none() => Mode::WriteBehind,
            1..=5 => Mode::Here,
            _ => Mode::Queue,
        };
        // What is not kept is neither repeated nor run later.
        let keeps = mode == Mode::Queue || key.is_some() || has_cut || dice.chance(700);
        let lives_ms = if dice.chance(300) { dice.between(500, 8_000) } else { dice.between(8_000, 70_000) };
        let request = Request {
            // A key belongs to one store.
            store: key.map_or_else(|| dice.below(stores), |(key, _)| key % stores) as usize,
            mode,
            idempotent: dice.chance(500),
            content: if keeps { Content::Full } else { Content::None },
            isolate: dice.below(self.isolates.len() as u64) as usize,
            service: 0,
            first_service: is_storm.then_some(0),
            snapshot: Rc::default(),
            owner: dice.below(3),
            asks_service: is_storm || dice.chance(250),
            priority: dice.pick(&[Priority::Low, Priority::Normal, Priority::High, Priority::Critical]),
            lives_ms: lives_ms + waits_ms.unwrap_or(0),
            waits_ms,
            max_attempts: dice.between(1, 4),
            key,
            ids: Vec::new(),
            asked: None,
            retries: Retries::up_to(1),
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
            is_reading: false,
            arrived_at: 0,
        };
        let spread = self.calm_at() - self.beginning();
        let spread = if is_storm { spread.min(8_000) } else { spread };
        let at = self.beginning() + self.dice.below(spread);
        self.requests.push(request);
        self.schedule(at, Event::Begin(self.requests.len() - 1));
    }

    fn admission(&mut self, at: usize, service: ServiceId) -> Admission {
        let mut random = [0; 10];
        for (place, byte) in self.dice.throw().to_le_bytes().into_iter().enumerate() {
            random[place] = byte;
        }
        let request = &self.requests[at];
        let created_at = Timestamp(self.now);
        Admission {
            id: ContextId::new(self.stores[request.store].id, created_at, random),
            owner: PrincipalId::of_key(&request.owner.to_string()),
            asked_service: request.asks_service.then(|| service.clone()),
            service,
            idempotent: request.idempotent,
            content: request.content,
            retry: Retry { max_attempts: request.max_attempts, ..Retry::default() },
            priority: request.priority,
            idempotency_key: request.key.map(|(key, _)| key.to_string()),
            expires_at: created_at.plus_ms(request.lives_ms),
            run_at: request.waits_ms.map(|ms| created_at.plus_ms(ms)),
            ..fixtures::admission(0, created_at)
        }
    }

    /// The lane has answered before the context exists.
    fn admission_checked(&mut self, at: usize, reply: &Reply) {
        let request = &mut self.requests[at];
        request.entering = false;
        let (isolate, service, is_here) = (request.isolate, request.service, request.is_here());
        let snapshot = request.snapshot.clone();
        let Some(known) = snapshot.services.iter().find(|known| known.lane == service) else { return };
        let reply = match reply {
            Reply::Permit(decision) => Ok(*decision),
            _ => Err(Unreachable),
        };
        if reply.is_ok() {
            self.observe_service(isolate, service);
        }
        let checked = admission_check::with_lane(known, reply, is_here, Timestamp(self.now));
        self.admit_as(at, checked);
    }

    fn admit_as(&mut self, at: usize, checked: AdmissionCheck) {
        match checked {
            AdmissionCheck::Start(permit) => self.requests[at].permit = permit,
            AdmissionCheck::Return(permit) => {
                self.requests[at].permit = Some(permit);
                self.release_unused(at);
            }
            AdmissionCheck::Queue => {
                let request = &mut self.requests[at];
                (request.offers, request.is_queued) = (request.is_here(), true);
                if let (true, Some(admit)) = (request.offers, request.asked.as_mut()) {
                    (admit.lease_ms, admit.offers) = (None, true);
                }
            }
            // `queue_full`
            AdmissionCheck::Full { .. } => return,
        }
        self.admit(at);
    }

    /// The gateway that handles the request dies before it has answered. A client with a key sends it again.
    pub fn gateway_dies(&mut self, at: usize, isolate: usize) {
        let request = &mut self.requests[at];
        if request.isolate != isolate || (request.asked.is_none() && !request.is_reading) {
            return;
        }
        request.is_reading = false;
        (request.asked, request.permit, request.pending, request.entering) = (None, None, 0, false);
        (request.is_queued, request.offers) = (false, false);
        if request.key.is_some() && request.repeats > 0 {
            request.repeats -= 1;
            self.schedule(self.now + 1_000, Event::Begin(at));
        }
    }

    /// Returns an unused permit.
    fn release_unused(&mut self, at: usize) {
        let Some(permit) = self.requests[at].permit.take() else { return };
        let sample = CallOutcome::unused(Timestamp(self.now));
        let (service, permit) = (self.service_called(&permit.service), permit.number);
        self.ask_lane(Actor::None, service, LaneAsk::Release { permit, sample }, LANE_TIMEOUT_MS);
    }

    fn admit(&mut self, at: usize) {
        let Request { asked, store, snapshot, .. } = &self.requests[at];
        if let Some(admit) = asked.clone() {
            self.requests[at].pending = self.ask(Actor::Request(at), *store, snapshot.revision, Ask::Admit(admit));
        }
    }

    /// Runs the context in the isolate of the request, which waits a while for the end.
    fn run_here(&mut self, at: usize, work: Work, write_behind: bool) {
        let Request { store, isolate, .. } = self.requests[at];
        let snapshot = self.requests[at].snapshot.clone();
        let permit = self.requests[at].permit.take();
        let streams = self.dice.chance(300);
        let expires_at = work.admission.expires_at.0;
        let until = match work.admission.content {
            // It cannot be fetched later.
            Content::None => expires_at + 30_000,
            Content::Full if streams => expires_at.max(self.now),
            Content::Full => self.now + self.dice.between(0, 30_000),
        };
        // Some do not wait.
        let client = (streams || self.dice.chance(800)).then_some((until, streams));
        self.spawn(NewWorker { work, store, isolate, snapshot, consumer: None, write_behind, permit, client });
    }

    pub fn request_replied(&mut self, at: usize, number: u64, reply: Reply) {
        if self.requests[at].pending != number {
            return;
        }
        self.requests[at].pending = 0;
        if self.requests[at].entering {
            return self.admission_checked(at, &reply);
        }
        if self.requests[at].asked.is_none() {
            return self.looked(at, reply);
        }
        if let Reply::Failed(fault) = reply
            && self.requests[at].retries.allow(fault)
        {
            // The gateway repeats the request with the same id, at once.
            return self.admit(at);
        }
        let is_leased = matches!(reply, Reply::Admit(AdmitReply::Admitted { lease: Some(_), .. }));
        self.leave_queue_unless_admitted(at, &reply);
        if !is_leased {
            self.release_unused(at);
        }
        self.admission_answered(at, reply);
    }

    fn admission_answered(&mut self, at: usize, reply: Reply) {
        let Some(admission) = self.requests[at].asked.as_ref().map(|admit| *admit.admission.clone()) else { return };
        match reply {
            Reply::Admit(AdmitReply::Admitted { lease, .. }) => {
                self.acknowledge(at, admission.id.clone());
                let is_here = lease.is_some() || self.requests[at].offers;
                if is_here && !self.dice.chance(self.faults.die) {
                    self.run_here(at, Work::first(admission, raw(PARAMETERS), lease.into()), false);
                }
            }
            Reply::Admit(AdmitReply::Replayed { id }) => self.acknowledge(at, id),
            Reply::Admit(AdmitReply::Taken) => {
                if self.checker.knows(&admission.id) {
                    self.violate(format!("{} exists, and its client was asked for another id", admission.id));
                }
                self.begin(at);
            }
            Reply::Stale => {
                // Decided again, with a new snapshot and a new id.
                self.read_registry_for(at);
            }
            Reply::Failed(_) => self.begin_again(at),
            Reply::Admit(AdmitReply::KeyReused) => {}
            other => self.violate(format!("the answer to an admission is {other:?}")),
        }
    }

    /// Leaves the lane's queue unless a context needs the place.
    fn leave_queue_unless_admitted(&mut self, at: usize, reply: &Reply) {
        let request = &mut self.requests[at];
        let was_queued = std::mem::take(&mut request.is_queued);
        if was_queued
            && !matches!(reply, Reply::Admit(AdmitReply::Admitted { .. }))
            && let Some(admit) = &request.asked
        {
            let (service, context) = (request.service, admit.admission.id.clone());
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
}
