//! The Worker's side of a service's lane: permits, what is told of calls, and the retry budget.
//!
//! A service without `max_concurrency` whose breaker is closed costs no hop: its calls are counted here, and
//! the lane hears of failures at once and of successes now and then, after the answer.

use std::rc::Rc;

use serde_json::value::RawValue;
use wasm_bindgen::JsValue;

use crate::objects::events::messages::Viewer;
use crate::objects::registry::messages::Registered;
use crate::objects::registry::snapshot::{Entry, Live};
use crate::objects::registry::target;
use crate::platform::http::Headers;
use crate::platform::objects::{self, Kind, Opened};
use crate::platform::{Failure, clock, log_event};
use narthex_core::base::id::ContextId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::context::Admission;
use narthex_core::context::status::Priority;
use narthex_core::lane::PermitDecision;
use narthex_core::lane::breaker::BreakerState;
use narthex_core::lane::call_outcome::CallOutcome;
use narthex_core::lane::observed::HealthStatus;

use super::messages::{self, Ask, Message, Reply, Seen};

/// How long a lane may take beyond the wait, in milliseconds.
const PATIENCE_MS: u64 = 5_000;
/// A probe takes up to 5 s, and the registry is told of it.
const CHECK_PATIENCE_MS: u64 = 12_000;
/// Times a lane is told what changes nothing when it comes twice.
const TRIES: u32 = 2;

/// Whether a call to this service needs [`acquire`] before it: it has a limit or connections with limits of their own,
/// or its breaker is not closed.
pub fn is_gated(entry: &Entry) -> bool {
    is_limited(entry) || entry.measured().breaker != BreakerState::Closed
}

/// Whether it must not be called without a permit.
pub fn is_limited(entry: &Entry) -> bool {
    entry.service().limits.max_concurrency.is_some() || entry.service().transport.connects()
}

/// Who asks for a permit, and for which service.
pub struct Asking<'a> {
    pub tenant: &'a str,
    pub entry: &'a Entry,
    pub context: &'a ContextId,
    pub principal: &'a str,
    pub priority: Priority,
    pub deadline: Timestamp,
    /// It was accepted before: it is never turned away with [`Entered::Full`].
    pub admitted: bool,
}

impl<'a> Asking<'a> {
    /// For a context, as it was admitted or is about to be.
    pub fn about(tenant: &'a str, entry: &'a Entry, admission: &'a Admission, admitted: bool) -> Self {
        Self {
            tenant,
            entry,
            context: &admission.id,
            principal: &admission.owner,
            priority: admission.priority,
            deadline: admission.expires_at,
            admitted,
        }
    }
}

pub enum Entered {
    /// No permit is needed: the call is made, and [`note`]d.
    Free,
    /// The call is made; the permit is kept alive meanwhile and given back with how it ended.
    Permit(Permit),
    /// It has a place in the line, which it keeps until its deadline or [`leave`].
    Waiting,
    /// The line is full: refused with `queue_full`.
    Full { retry_after_ms: u64 },
    /// The breaker lets nobody through before this.
    Open { until: Timestamp },
    /// What is left of its time is less than a call takes.
    TooLate,
}

/// The right to make one call.
pub struct Permit {
    lane: Lane,
    number: u64,
    is_probe: bool,
    taken_at: Timestamp,
    principal: String,
}

/// A lane, with what its messages need.
struct Lane {
    tenant: String,
    service: String,
    configured_at: Timestamp,
    moved_at: Timestamp,
    max_concurrency: Option<u64>,
    max_queue: u64,
    grace_ms: Option<u64>,
    live: Rc<Live>,
}

impl Lane {
    fn of(tenant: &str, entry: &Entry) -> Self {
        let Registered { service, updated_at, moved_at, .. } = &entry.registered;
        Self {
            tenant: tenant.into(),
            service: service.id.clone(),
            configured_at: *updated_at,
            moved_at: *moved_at,
            max_concurrency: service.limits.max_concurrency,
            max_queue: service.limits.max_queue,
            grace_ms: service.transport.grace_ms(),
            live: entry.live.clone(),
        }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.tenant, self.service)
    }

    fn message(&self, ask: Ask) -> Message {
        Message {
            tenant: self.tenant.clone(),
            service: self.service.clone(),
            configured_at: self.configured_at,
            moved_at: self.moved_at,
            max_concurrency: self.max_concurrency,
            max_queue: self.max_queue,
            grace_ms: self.grace_ms,
            ask,
        }
    }

    /// Asks, and takes in what the lane says it measures.
    async fn ask(&self, ask: Ask, patience_ms: u64) -> Result<messages::Told, Failure> {
        let message = self.message(ask);
        let reply: Reply = objects::send(Kind::Lanes, &self.name(), "", &message, patience_ms).await?;
        self.live.hear(reply.measured);
        Ok(reply.told)
    }

    /// As [`Lane::ask`], tried so often; what is lost then is only logged, as it comes back by itself.
    async fn tell(&self, tries: u32, mut make: impl FnMut() -> Ask) {
        for _ in 0..tries {
            match self.ask(make(), PATIENCE_MS).await {
                Ok(_) => return,
                Err(failure) => {
                    log_event!(LaneNotNotified, tenant = &self.tenant, service = &self.service, detail = &failure);
                }
            }
        }
    }
}

/// Asks for a permit and waits for it at most `wait_ms`. An open breaker that is known here costs no hop.
///
/// # Errors
/// The lane cannot be reached. Who calls a service without a limit may do so all the same: its breaker is only
/// advice then. With a limit the call must not be made; it is tried again later, as after [`Entered::Waiting`].
pub async fn acquire(asking: &Asking<'_>, wait_ms: u64) -> Result<Entered, Failure> {
    let measured = asking.entry.measured();
    if let Some(until) = measured.breaker_until.filter(|until| *until > clock::now()) {
        return Ok(Entered::Open { until });
    }
    let lane = Lane::of(asking.tenant, asking.entry);
    let ask = Ask::Acquire {
        context: asking.context.clone(),
        principal: asking.principal.into(),
        priority: asking.priority,
        deadline: asking.deadline,
        admitted: asking.admitted,
        wait_ms,
    };
    let messages::Told::Entered(told) = lane.ask(ask, wait_ms + PATIENCE_MS).await? else {
        return Err(Failure("the lane answered something else".into()));
    };
    Ok(match told {
        PermitDecision::Free => Entered::Free,
        PermitDecision::Permit { number, probe } => {
            let principal = asking.principal.to_string();
            Entered::Permit(Permit { lane, number, is_probe: probe, taken_at: clock::now(), principal })
        }
        PermitDecision::Waiting => Entered::Waiting,
        PermitDecision::Full { retry_after_ms } => Entered::Full { retry_after_ms },
        PermitDecision::Open { until } => {
            asking.entry.live.shut_until.set(until);
            Entered::Open { until }
        }
        PermitDecision::TooLate => Entered::TooLate,
    })
}

impl Permit {
    /// Whether this call finds out if the service works again. Its [`Permit::release`] is waited for before the
    /// context's end is told, so that whoever calls next knows.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// When it was given: it lasts for `permit_ms` from then.
    pub fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    /// Keeps it alive for another `permit_ms`; due with each renewal of the lease.
    pub async fn renew(&self) {
        let ask = || Ask::Renew { permit: self.number, principal: self.principal.clone() };
        self.lane.tell(TRIES, ask).await;
    }

    /// Gives it back with how the call ended.
    pub async fn release(self, sample: CallOutcome) {
        self.lane.tell(TRIES, || Ask::Release { permit: self.number, sample }).await;
    }
}

/// Gives a place in the line up, when its context was cancelled, has ended, or is to wait elsewhere.
pub async fn leave(tenant: &str, entry: &Entry, context: &ContextId) {
    Lane::of(tenant, entry).tell(TRIES, || Ask::Leave { context: context.clone() }).await;
}

/// A service says how it is, for as long as this; gives until when that holds.
pub async fn heartbeat(tenant: &str, entry: &Entry, status: HealthStatus, lease_ms: u64) -> Result<Timestamp, Failure> {
    match Lane::of(tenant, entry).ask(Ask::Heartbeat { status, lease_ms }, PATIENCE_MS).await? {
        messages::Told::Beats { until } => Ok(until),
        _ => Err(Failure("the lane answered something else".into())),
    }
}

/// Hands work to a connection of a service that connects; false when none has room. Asked twice it hands over once.
pub async fn hand(tenant: &str, entry: &Entry, delivery: &Delivery, work: &RawValue) -> Result<bool, Failure> {
    let ask = Ask::Hand { delivery: delivery.clone(), work: work.to_owned() };
    match Lane::of(tenant, entry).ask(ask, PATIENCE_MS).await? {
        messages::Told::Handed(handed) => Ok(handed),
        _ => Err(Failure("the lane answered something else".into())),
    }
}

/// The attempt of a context at a service that connects is over: it was cancelled, which the service is told, or ended
/// by a callback.
pub async fn withdraw(tenant: &str, entry: &Entry, context: &ContextId, cancelled: bool) {
    Lane::of(tenant, entry).tell(TRIES, || Ask::Withdraw { context: context.clone(), cancelled }).await;
}

/// The answer that opens a connection of a service.
pub async fn connect(tenant: &str, entry: &Entry, viewer: Viewer, headers: &Headers) -> Result<JsValue, Failure> {
    let lane = Lane::of(tenant, entry);
    let message = lane.message(Ask::Connect { viewer, headers: headers.as_str().into() });
    match objects::open_socket(Kind::Lanes, &lane.name(), &message).await? {
        Opened::Here(response) => Ok(response),
        Opened::Elsewhere(_) => Err(Failure("a lane sent a connection on".into())),
    }
}

/// Probes a service now, and gives what was seen.
pub async fn check(tenant: &str, entry: &Entry) -> Result<Seen, Failure> {
    let (ask, patience_ms) = match target(&entry.registered) {
        Some(target) => (Ask::Check(target), CHECK_PATIENCE_MS),
        None if entry.service().transport.connects() => (Ask::Look, PATIENCE_MS),
        // It runs in the gateway itself, which answers.
        None => {
            let (status_code, error, at) = (None, None, clock::now());
            return Ok(Seen { good: true, unmeasured: false, status_code, error, latency_ms: 0, at });
        }
    };
    match Lane::of(tenant, entry).ask(ask, patience_ms).await? {
        messages::Told::Seen(seen) => Ok(seen),
        _ => Err(Failure("the lane answered something else".into())),
    }
}

/// After a call without a permit: counts it. When the lane has to be told now, gives that work, to be done after the
/// answer.
pub fn note(tenant: &str, entry: &Entry, sample: CallOutcome) -> Option<impl Future<Output = ()> + 'static> {
    let measured = entry.measured();
    if measured.breaker != BreakerState::Closed {
        // It is open already: what was under way then says nothing new.
        return None;
    }
    let mut tally = entry.live.tally.get();
    let due = tally.count(sample, measured.status);
    entry.live.tally.set(tally);
    let successes = due?;
    let lane = Lane::of(tenant, entry);
    // Once: told twice it would count twice.
    Some(async move { lane.tell(1, || Ask::Report { successes, last: sample }).await })
}

/// An attempt at this service begins: the context's first anywhere, or at a service it has not tried yet, fills the
/// retry budget.
pub fn attempt_began(entry: &Entry, first: bool, now: Timestamp) {
    if first {
        let mut budget = entry.live.budget.get();
        budget.deposit(now);
        entry.live.budget.set(budget);
    }
}

/// Whether a service that was tried before may be tried again; takes the retry out of the budget.
pub fn may_retry(entry: &Entry, now: Timestamp) -> bool {
    let mut budget = entry.live.budget.get();
    let may = budget.try_withdraw(now);
    entry.live.budget.set(budget);
    may
}
