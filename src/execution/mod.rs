//! Carries one context from admit to commit.
//!
//! The object decides and remembers; here the call is made. Whoever holds the lease reports, and only a
//! report under the lease in force counts, so two workers on one context cannot both end it.

pub mod background;
mod store;

use std::rc::Rc;

use futures_util::future::{Either, select};
use semver::VersionReq;
use serde_json::value::RawValue;

use crate::core::context::{Admission, ContextError, Outcome, Report};
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

/// A lease lasts this long; its holder keeps it alive while the service works.
pub const LEASE_MS: u64 = 10_000;
const RENEW_MS: u64 = 4_000;

/// What a context is after somebody worked on it.
pub struct Worked {
    /// Without parameters and result.
    pub view: Box<RawValue>,
    pub result: Option<Box<RawValue>>,
    /// It waits for another worker.
    pub handed_on: bool,
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
    let trace = Trace::accept(Some(&admission.trace), None, random::bytes());
    let order = Order {
        admission,
        parameters,
        attempt: number,
        trace,
        now: started_at,
    };
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
    Attempted {
        report,
        result: verdict.result,
    }
}

/// Keeps a lease alive until the work is done; gives nothing when the context was cancelled or is another's.
async fn holding<T>(tenant: &str, work: &Work, doing: impl Future<Output = T>) -> Option<T> {
    let mut doing = std::pin::pin!(doing);
    loop {
        match select(doing.as_mut(), std::pin::pin!(clock::pause(RENEW_MS))).await {
            Either::Left((done, _)) => return Some(done),
            Either::Right(((), _)) => {
                let id = work.admission.id.clone();
                let renew = Ask::Renew {
                    id,
                    lease: work.lease,
                    lease_ms: LEASE_MS,
                };
                match ask(tenant, &work.admission.id, 0, renew).await {
                    Ok(Reply::Renewed { cancel: true }) => return None,
                    // A lost lease: whatever comes of this attempt no longer counts.
                    Ok(Reply::Nothing) => return None,
                    Ok(_) => {}
                    Err(failure) => log(&format!(
                        r#"{{"level":"warn","message":"lease not renewed","detail":{:?}}}"#,
                        failure.0
                    )),
                }
            }
        }
    }
}

/// Works on a leased context until it ends, is another's, or waits longer than `stays_ms`.
pub async fn work_on(
    tenant: String,
    mut work: Work,
    mut snapshot: Rc<Snapshot>,
    stays_ms: u64,
) -> Result<Worked, Failure> {
    let mut timings = Timings::default();
    loop {
        let before = clock::now();
        let id = work.admission.id.clone();
        let attempted = match choose_for(&work, &snapshot) {
            Some((entry, candidate)) => {
                work.admission.service.clone_from(&entry.service().id);
                work.admission.version = candidate.version;
                let doing = attempt(&work.admission, work.parameters.get(), work.lease, work.attempt, entry);
                holding(&tenant, &work, doing)
                    .await
                    .unwrap_or_else(|| stopped(&work, before))
            }
            None => nobody(&work, before),
        };
        let called = clock::now();
        timings.upstream += called.since(before);
        let commit = Ask::Commit {
            id: id.clone(),
            report: attempted.report,
            result: attempted.result.clone(),
            stays_ms,
        };
        let reply = ask_stubbornly(&tenant, &id, commit).await?;
        timings.commit += clock::now().since(called);
        match reply {
            Reply::Committed { retry_ms: Some(ms), .. } => {
                clock::pause(ms).await;
                let lease = Ask::Lease {
                    id: id.clone(),
                    lease_ms: LEASE_MS,
                };
                snapshot = snapshot::fresh(&tenant).await?;
                match ask_decided(&tenant, &id, &mut snapshot, lease).await? {
                    Reply::Leased(next) => work = *next,
                    // Somebody else took it, or it was cancelled meanwhile.
                    _ => return look_again(&tenant, &id, &mut snapshot, timings).await,
                }
            }
            Reply::Committed { view, retry_ms: None } => {
                let handed_on = view.get().contains(r#""status":"queued""#);
                return Ok(Worked {
                    view,
                    result: attempted.result,
                    handed_on,
                    timings,
                });
            }
            _ => return look_again(&tenant, &id, &mut snapshot, timings).await,
        }
    }
}

/// What became of a context that somebody else worked on.
async fn look_again(
    tenant: &str,
    id: &crate::core::id::ContextId,
    snapshot: &mut Rc<Snapshot>,
    timings: Timings,
) -> Result<Worked, Failure> {
    match ask_decided(tenant, id, snapshot, Ask::Get { id: id.clone() }).await? {
        Reply::Context(found) => Ok(Worked {
            handed_on: !found.ended,
            view: found.view,
            result: found.result,
            timings,
        }),
        _ => Err(Failure(format!("{id} is gone"))),
    }
}

/// The first attempt goes where the router decided at admission; later ones rather elsewhere.
fn choose_for<'s>(work: &Work, snapshot: &'s Snapshot) -> Option<(&'s Entry, Candidate)> {
    let admission = &work.admission;
    let range = admission
        .asked_version
        .as_deref()
        .and_then(|range| VersionReq::parse(range).ok());
    let wanted = Wanted {
        capability: &admission.capability,
        service: admission.asked_service.as_deref(),
        version: range.as_ref(),
    };
    // Who may call was decided when it was admitted. A service that drains finishes what it was given.
    let services = snapshot.services.iter().map(Entry::service);
    let candidates = route::candidates(services, wanted, |_, _| true).unwrap_or_default();
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
    let chosen = candidates
        .iter()
        .find(is_first_choice)
        .or_else(|| route::choose(pool, random::number()))?;
    Some((service_of(chosen)?, chosen.clone()))
}

fn ended_without_call(work: &Work, since: Timestamp, error: ContextError, retryable: bool) -> Attempted {
    let outcome = Outcome::Failed {
        error,
        retryable,
        untouched: true,
        retry_after_ms: None,
    };
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
    let error = ContextError {
        code: ErrorCode::ServiceUnavailable,
        message,
        service: None,
        details: None,
    };
    ended_without_call(work, since, error, true)
}

fn stopped(work: &Work, since: Timestamp) -> Attempted {
    let verdict = upstream::read(&work.admission.service, Answer::Cancelled, None);
    let report = Report {
        lease: work.lease,
        service: work.admission.service.clone(),
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
