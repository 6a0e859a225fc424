//! Carries one context from admit to commit.
//!
//! The object decides and remembers; here the call is made. Whoever holds the lease reports, and only a
//! report under the lease in force counts, so two workers on one context cannot both end it.

pub mod background;
pub mod lanes;
mod store;
pub mod unrecorded;
mod waiter;

use std::rc::Rc;

use futures_util::future::{Either, select};
use semver::VersionReq;
use serde_json::value::RawValue;

use crate::core::context::{Admission, ContextError, Outcome, Report};
use crate::core::id::ContextId;
use crate::core::lifecycle::ErrorCode;
use crate::core::route::{self, Candidate, Wanted};
use crate::core::service::{Service, Transport};
use crate::core::time::Timestamp;
use crate::core::trace::Trace;
use crate::core::upstream::{self, Answer};
use crate::objects::contexts::messages::{Ask, Reply, Work};
use crate::objects::registry::snapshot::{self, Entry, Snapshot};
use crate::platform::{Failure, clock, log, random};
use crate::transport::{self, Order};

pub use store::{ask, ask_decided, ask_stubbornly, hint};
pub use waiter::{News, Waiter};

/// A lease lasts this long; its holder keeps it alive while the service works.
pub const LEASE_MS: u64 = 10_000;
const RENEW_MS: u64 = 4_000;

/// What a context is that has ended.
pub struct Worked {
    /// Without parameters and result.
    pub view: Box<RawValue>,
    pub result: Option<Box<RawValue>>,
    pub timings: Timings,
}

/// Milliseconds spent waiting for others.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    pub admit: u64,
    pub upstream: u64,
    pub commit: u64,
}

/// How an attempt ended.
pub struct Attempted {
    pub report: Report,
    pub result: Option<Box<RawValue>>,
}

/// Calls one service once.
pub async fn attempt(admission: &Admission, parameters: &str, lease: u64, number: u64, entry: &Entry) -> Attempted {
    let started_at = clock::now();
    let service = entry.service();
    let trace = Trace::accept(Some(&admission.trace), admission.trace_state.as_deref(), random::bytes());
    let order = Order { admission, parameters, attempt: number, trace, now: started_at };
    let answer = match &service.transport {
        Transport::Http { url } => transport::http::call(&order, &entry.registered, url).await,
    };
    let status_code = answer.status();
    let offered = service
        .capabilities
        .iter()
        .position(|offer| offer.name == admission.capability && offer.version == admission.version);
    let verdict = upstream::read(&service.id, answer, offered.and_then(|at| entry.output(at)));
    let report = Report {
        lease,
        service: service.id.clone(),
        started_at,
        ended_at: clock::now(),
        status_code,
        outcome: verdict.outcome,
    };
    Attempted { report, result: verdict.result }
}

/// Keeps a lease alive until the work is done; gives nothing when the context was cancelled or is another's.
async fn holding<T>(
    tenant: &str,
    admission: &Admission,
    lease: u64,
    waiter: &mut Waiter,
    doing: impl Future<Output = T>,
) -> Option<T> {
    let mut doing = std::pin::pin!(doing);
    let mut renew_at = clock::now().plus_ms(RENEW_MS);
    loop {
        let left = renew_at.since(clock::now());
        if let Either::Left((done, _)) = select(doing.as_mut(), std::pin::pin!(waiter.pause(left))).await {
            return Some(done);
        }
        if clock::now() < renew_at {
            continue;
        }
        let renew = Ask::Renew { id: admission.id.clone(), lease, lease_ms: LEASE_MS };
        match ask(tenant, &admission.id, 0, renew).await {
            // Cancelled, or a lost lease: whatever comes of this attempt no longer counts.
            Ok(Reply::Renewed { cancel: true } | Reply::Nothing) => return None,
            Ok(_) => {}
            Err(failure) => {
                log(&format!(r#"{{"level":"warn","message":"lease not renewed","detail":{:?}}}"#, failure.0));
            }
        }
        renew_at = clock::now().plus_ms(RENEW_MS);
    }
}

/// Works on a leased context until it ends, is another's, or waits longer than `stays_ms`.
pub async fn work_on(
    tenant: String,
    mut work: Work,
    mut snapshot: Rc<Snapshot>,
    stays_ms: u64,
    mut waiter: Waiter,
) -> Result<(), Failure> {
    let mut timings = Timings::default();
    loop {
        let before = clock::now();
        let id = work.admission.id.clone();
        let attempted = match choose_for(&work, &snapshot) {
            Some((entry, candidate)) => {
                work.admission.service.clone_from(&entry.service().id);
                work.admission.version = candidate.version;
                let doing = attempt(&work.admission, work.parameters.get(), work.lease, work.attempt, entry);
                let held = holding(&tenant, &work.admission, work.lease, &mut waiter, doing).await;
                held.unwrap_or_else(|| stopped(&work.admission, work.lease, before))
            }
            None => nobody(&work, before),
        };
        let called = clock::now();
        timings.upstream += called.since(before);
        match commit(&tenant, &id, attempted, stays_ms, timings, &mut waiter).await? {
            None => return Ok(()),
            Some(ms) => waiter.pause_all(ms).await,
        }
        snapshot = snapshot::fresh(&tenant).await?;
        let lease = Ask::Lease { id: id.clone(), lease_ms: LEASE_MS };
        match ask_decided(&tenant, &id, &mut snapshot, lease).await? {
            Reply::Leased(next) => work = *next,
            // Somebody else took it, or it was cancelled meanwhile.
            _ => {
                waiter.tell(News::GoesOn);
                return Ok(());
            }
        }
    }
}

/// Reports an attempt; gives the pause before the next, when it is this worker's to make.
async fn commit(
    tenant: &str,
    id: &ContextId,
    attempted: Attempted,
    stays_ms: u64,
    mut timings: Timings,
    waiter: &mut Waiter,
) -> Result<Option<u64>, Failure> {
    let before = clock::now();
    let Attempted { report, result } = attempted;
    let commit = Ask::Commit { id: id.clone(), report, result: result.clone(), stays_ms };
    let reply = ask_stubbornly(tenant, id, commit).await?;
    timings.commit += clock::now().since(before);
    match reply {
        Reply::Committed { retry_ms: Some(ms), .. } => return Ok(Some(ms)),
        Reply::Committed { view, ended: true, .. } => waiter.tell(News::Ended(Worked { view, result, timings })),
        _ => waiter.tell(News::GoesOn),
    }
    Ok(None)
}

/// The first attempt goes where the router decided at admission; later ones rather elsewhere.
fn choose_for<'s>(work: &Work, snapshot: &'s Snapshot) -> Option<(&'s Entry, Candidate)> {
    let admission = &work.admission;
    let range = admission.asked_version.as_deref().and_then(|range| VersionReq::parse(range).ok());
    let wanted = Wanted {
        capability: &admission.capability,
        service: admission.asked_service.as_deref(),
        version: range.as_ref(),
        tags: &[],
    };
    // Who may call was decided when it was admitted. A service that drains finishes what it was given.
    let takes = |service: &Service| !service.draining || service.id == admission.service;
    let services = snapshot.services.iter().map(Entry::service);
    let candidates = route::candidates(services, wanted, takes, |_, _| true).unwrap_or_default();
    let service_of = |candidate: &Candidate| snapshot.services.get(candidate.service);
    let is_first_choice = |candidate: &&Candidate| {
        work.tried.is_empty() && service_of(candidate).is_some_and(|entry| entry.service().id == admission.service)
    };
    let untried: Vec<Candidate> = candidates
        .iter()
        .filter(|candidate| service_of(candidate).is_some_and(|entry| !work.tried.contains(&entry.service().id)))
        .cloned()
        .collect();
    let pool = if untried.is_empty() { &candidates } else { &untried };
    let chosen = candidates.iter().find(is_first_choice).or_else(|| route::choose(pool, random::number()))?;
    Some((service_of(chosen)?, chosen.clone()))
}

fn ended_without_call(work: &Work, since: Timestamp, error: ContextError, retryable: bool) -> Attempted {
    let outcome = Outcome::Failed { error, retryable, untouched: true, retry_after_ms: None };
    let report = Report {
        lease: work.lease,
        service: work.admission.service.clone(),
        started_at: since,
        ended_at: clock::now(),
        status_code: None,
        outcome,
    };
    Attempted { report, result: None }
}

fn nobody(work: &Work, since: Timestamp) -> Attempted {
    let message = "No registered service takes this work now.".into();
    let error = ContextError { code: ErrorCode::ServiceUnavailable, message, service: None, details: None };
    ended_without_call(work, since, error, true)
}

fn stopped(admission: &Admission, lease: u64, since: Timestamp) -> Attempted {
    let verdict = upstream::read(&admission.service, Answer::Cancelled, None);
    let report = Report {
        lease,
        service: admission.service.clone(),
        started_at: since,
        ended_at: clock::now(),
        status_code: None,
        outcome: verdict.outcome,
    };
    Attempted { report, result: None }
}

/// Everyone who could run this for the principal who asks.
pub fn services(snapshot: &Snapshot) -> impl Iterator<Item = &Service> {
    snapshot.services.iter().map(Entry::service)
}
