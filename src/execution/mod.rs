//! Carries one context from admit to commit.
//!
//! The object decides and remembers; here the call is made. Whoever holds the lease reports, and only a
//! report under the lease in force counts, so two workers on one context cannot both end it.

pub mod background;
pub mod catalogues;
mod choice;
pub mod deliveries;
pub mod gate;
pub mod held;
pub mod lanes;
pub mod live;
pub mod notices;
mod retry;
pub mod schedules;
mod store;
pub mod unrecorded;
mod waiter;
mod withheld;

use std::rc::Rc;

use futures_util::future::{Either, join, select};
use serde_json::value::RawValue;

use crate::objects::contexts::messages::{Ask, Reply, Work};
use crate::objects::registry::snapshot::{self, Entry, Snapshot};
use crate::objects::secrets::Opened;
use crate::platform::{Failure, clock, log_event, random, settings};
use crate::transport::mcp::{Asker, Peer};
use crate::transport::openai::{Audience, Endpoint};
use crate::transport::{self, Order};
use narthex_core::base::id::ContextId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::calling::response::{self, Answer, NotCalled, Verdict};
use narthex_core::context::status::ErrorCode;
use narthex_core::context::{Admission, ContextError, Outcome, Report};
use narthex_core::http::egress_address::{Address, Refusal};
use narthex_core::http::trace_context::Trace;
use narthex_core::lane::call_outcome::fair_ms;
use narthex_core::mcp::client::result::{self, Came};
use narthex_core::services::Service;
use narthex_core::services::schema::Schema;
use narthex_core::services::transport::Transport;

use choice::Choice;
use gate::Gate;
use held::Held;
use lanes::Permit;
use live::Live;

pub use store::{ask, ask_decided, ask_stubbornly, hint, is_store_of};
pub use waiter::{News, Teller, Waiter};

/// What a capability allows that is offered no longer.
const USUAL_SECONDS: u64 = 60;

/// Where services call back.
pub const CALLBACK_PATH: &str = "/v1/callbacks/";

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
    /// Only another service could do better.
    pub elsewhere: bool,
    pub bearing: Bearing,
}

/// What an attempt's end says of its service beside its outcome: see `narthex_core::lane::call_outcome`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bearing {
    pub fair_ms: u64,
    pub unwell: bool,
}

/// What a service said, to be read as its kind says it.
enum Said {
    Native(Answer),
    Openai(Answer),
    Mcp(Came),
}

impl Said {
    /// The HTTP status, and what it comes to.
    fn read(self, service: &str, output: Option<&Schema>) -> (Option<u16>, Verdict) {
        match self {
            Said::Native(answer) => (answer.status(), response::read(service, answer, output)),
            Said::Openai(answer) => (answer.status(), response::read_openai(service, answer, output)),
            Said::Mcp(came) => (came.status(), result::read(service, came, output)),
        }
    }
}

/// Calls one service once.
pub async fn attempt(
    tenant: &str,
    work: &Work,
    snapshot: &Snapshot,
    entry: &Entry,
    live: Option<Rc<Live>>,
    teller: Teller,
) -> Attempted {
    let started_at = clock::now();
    let (service, admission) = (entry.service(), &work.admission);
    lanes::attempt_began(entry, !work.tried.contains(&service.id), started_at);
    let trace = Trace::accept(Some(&admission.trace), admission.trace_state.as_deref(), random::bytes());
    let token = snapshot.callback_key.token(tenant, &admission.id, work.lease);
    let callback_url = format!("{}{CALLBACK_PATH}{token}", admission.origin);
    let left_ms = admission.expires_at.since(started_at);
    let patience_ms = retry::patience_ms(work, snapshot, entry, left_ms);
    let order = Order { work, callback_url, trace, now: started_at, left_ms, patience_ms };
    let mut shown = None;
    if let Some(live) = live.as_deref().filter(|_| work.attempt > 1)
        && (live.has_pieces() || matches!(service.transport, Transport::Openai { .. }))
    {
        live.attempt(work.attempt);
    }
    let said = match &service.transport {
        Transport::Http { url } => match prepared(tenant, entry, url, &admission.origin).await {
            Ok((address, secrets)) => {
                let answer = transport::http::call(&order, &secrets, &address).await;
                shown = Some(secrets);
                Said::Native(answer)
            }
            Err(not_called) => Said::Native(Answer::NotCalled(not_called)),
        },
        Transport::Openai { url, model, streams } => match prepared(tenant, entry, url, &admission.origin).await {
            Ok((address, secrets)) => {
                let endpoint = Endpoint {
                    tenant,
                    service: &service.id,
                    address: &address,
                    model: model.as_deref(),
                    streams: *streams,
                };
                let audience = Audience { live: live.as_deref(), waits: teller.waits() };
                let answer = transport::openai::call(&order, &secrets, &endpoint, audience).await;
                shown = Some(secrets);
                Said::Openai(answer)
            }
            Err(not_called) => Said::Openai(Answer::NotCalled(not_called)),
        },
        Transport::Mcp(upstream) => match prepared(tenant, entry, &upstream.url, &admission.origin).await {
            Ok(place) => {
                shown = Some(place.1.clone());
                // Who made the context by REST can fill in a form.
                let form = RawValue::from_string(r#"{"elicitation":{}}"#.into()).ok();
                let client = admission.client.as_deref().or(form.as_deref());
                let (principal, session) = (&*admission.owner, admission.session.as_deref());
                let asker = Asker { principal, session, capabilities: client, unasked: admission.unasked };
                let peer = Peer::new(tenant, entry, place, asker);
                Said::Mcp(transport::mcp::call_tool(&order, peer, entry, &Held { tenant, work, teller }).await)
            }
            Err(not_called) => Said::Mcp(Came::Transport(Answer::NotCalled(not_called))),
        },
        Transport::Binding { binding, path } => {
            let address = settings::current().binding_address(tenant, binding, path).map(Rc::new);
            match opened(tenant, entry, address).await {
                Ok((address, secrets)) => {
                    let answer = transport::http::call(&order, &secrets, &address).await;
                    shown = Some(secrets);
                    Said::Native(answer)
                }
                Err(not_called) => Said::Native(Answer::NotCalled(not_called)),
            }
        }
        Transport::Socket { .. } => Said::Native(transport::socket::call(tenant, entry, &order).await),
        Transport::Demo {} => Said::Native(transport::demo::call(tenant, &order).await),
    };
    let offered = service
        .capabilities
        .iter()
        .position(|offer| offer.name == admission.capability && offer.version == admission.version);
    let output = offered.and_then(|at| entry.output(at));
    let allowed = offered.and_then(|at| service.capabilities.get(at)).map(|offer| offer.timeout_seconds);
    let (status_code, mut verdict) = said.read(&service.id, output);
    let bearing = Bearing { fair_ms: fair_ms(allowed.unwrap_or(USUAL_SECONDS)), unwell: verdict.unwell };
    withheld::withhold(&mut verdict.outcome, shown.as_deref());
    let report = Report {
        lease: work.lease,
        service: service.id.clone(),
        started_at,
        ended_at: clock::now(),
        status_code,
        outcome: verdict.outcome,
    };
    Attempted { report, result: verdict.result, elsewhere: verdict.elsewhere, bearing }
}

/// Where and with what a service is called. The rules are asked again: what is stored may be older than they are.
pub async fn prepared(
    tenant: &str,
    entry: &Entry,
    url: &str,
    origin: &str,
) -> Result<(Rc<Address>, Rc<Opened>), NotCalled> {
    opened(tenant, entry, entry.address(url, origin)).await
}

async fn opened(
    tenant: &str,
    entry: &Entry,
    address: Result<Rc<Address>, Refusal>,
) -> Result<(Rc<Address>, Rc<Opened>), NotCalled> {
    let address = address.map_err(NotCalled::Address)?;
    let secrets = entry.secrets(tenant).await.map_err(|failure| {
        log_event!(SecretsNotDecrypted, tenant = tenant, service = &entry.service().id, detail = &failure);
        NotCalled::Secrets
    })?;
    Ok((address, secrets))
}

/// Keeps a lease (or with the number 0 an offer) and a permit alive until the work is done; gives nothing when the
/// context was cancelled or is another's.
async fn holding<T>(
    tenant: &str,
    admission: &Admission,
    lease: u64,
    permit: Option<&Permit>,
    waiter: &mut Waiter,
    doing: impl Future<Output = T>,
) -> Option<T> {
    let mut doing = std::pin::pin!(doing);
    let Timing { lease_ms, renew_ms, .. } = settings::timing();
    // A permit may have been taken a while ago: admitting and leasing come between it and the call.
    let mut renew_at = permit.map_or_else(clock::now, Permit::taken_at).plus_ms(renew_ms);
    loop {
        let left = renew_at.since(clock::now());
        if let Either::Left((done, _)) = select(doing.as_mut(), std::pin::pin!(waiter.pause(left))).await {
            return Some(done);
        }
        if clock::now() < renew_at {
            continue;
        }
        let renew = Ask::Renew { id: admission.id.clone(), lease, lease_ms };
        match ask(tenant, &admission.id, 0, renew).await {
            // Cancelled, or a lost lease: whatever comes of this attempt no longer counts.
            Ok(Reply::Renewed { cancel: true } | Reply::Nothing) => return None,
            Ok(_) => {}
            Err(failure) => {
                log_event!(LeaseNotRenewed, tenant = tenant, context = &admission.id, detail = &failure);
            }
        }
        if let Some(permit) = permit {
            permit.renew().await;
        }
        renew_at = clock::now().plus_ms(renew_ms);
    }
}

/// Works on a context until it ends, is another's, or waits longer than `stays_ms`. It is leased to this worker, or
/// offered to it (with the lease 0). A permit is for the service it was admitted to.
pub async fn work_on(
    tenant: String,
    mut work: Work,
    mut snapshot: Rc<Snapshot>,
    mut permit: Option<Permit>,
    stays_ms: u64,
    mut waiter: Waiter,
) -> Result<(), Failure> {
    let mut timings = Timings::default();
    loop {
        let before = clock::now();
        let id = work.admission.id.clone();
        let chosen = choice::choose(&work, &snapshot);
        if matches!(chosen, Choice::NotNow) && work.lease == 0 && !waiter.waits() {
            return gate::wait_for_service(&tenant, &work).await;
        }
        let entry = chosen.entry(&snapshot);
        let mut refused = None;
        if let Some(entry) = entry {
            if entry.service().id != work.admission.service {
                gate::unused(permit.take()).await;
            }
            if permit.is_none() && lanes::is_gated(entry) {
                match gate::pass(&tenant, &work, entry, &mut waiter).await? {
                    Gate::Open(passed) => permit = passed,
                    Gate::Shut => return Ok(()),
                    Gate::Refused(error) => refused = Some(error),
                }
            }
        }
        if work.lease == 0 {
            let lease = Ask::Lease { id: id.clone(), lease_ms: settings::timing().lease_ms };
            match ask_decided(&tenant, &id, &mut snapshot.clone(), lease).await {
                Ok(Reply::Leased(leased)) => work = *leased,
                // Somebody else took it, or it was cancelled meanwhile.
                other => {
                    gate::unused(permit).await;
                    waiter.tell(News::GoesOn);
                    return other.map(drop);
                }
            }
        }
        let mut attempted = match (entry, refused) {
            (_, Some(error)) => ended_without_call(&work, before, error, true),
            (None, None) => nobody(&work, before),
            (Some(entry), None) => {
                work.admission.service.clone_from(&entry.service().id);
                if let Choice::Service { version, .. } = &chosen {
                    work.admission.version.clone_from(version);
                }
                let doing = attempt(&tenant, &work, &snapshot, entry, waiter.live(), waiter.teller());
                let held = holding(&tenant, &work.admission, work.lease, permit.as_ref(), &mut waiter, doing).await;
                if held.is_none() && entry.service().transport.connects() {
                    // It may have been handed over a moment before.
                    lanes::withdraw(&tenant, entry, &id, true).await;
                }
                held.unwrap_or_else(|| stopped(&work.admission, work.lease, before))
            }
        };
        let called = clock::now();
        timings.upstream += called.since(before);
        let sample = lanes::sample(entry, permit.as_ref(), &attempted);
        let mut told = None;
        if let Some(entry) = entry {
            retry::settle(&mut attempted, &mut work, &snapshot, entry, called);
            match permit.take() {
                // Whoever calls next is to know what the probe has found.
                Some(probe) if probe.is_probe() => probe.release(sample).await,
                Some(held) => permit = Some(held),
                None => told = lanes::note(&tenant, entry, sample),
            }
        }
        let released = permit.take();
        let releasing = async {
            if let Some(permit) = released {
                permit.release(sample).await;
            }
        };
        let (pause, ()) = join(commit(&tenant, &id, attempted, stays_ms, timings, &mut waiter), releasing).await;
        if let Some(telling) = told {
            telling.await;
        }
        match pause? {
            None => {
                catalogues::settled().await;
                return Ok(());
            }
            Some(ms) => waiter.pause_all(ms).await,
        }
        work.tried.push(work.admission.service.clone());
        work.attempt += 1;
        work.lease = 0;
        snapshot = snapshot::fresh(&tenant).await?;
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
    let Attempted { report, result, .. } = attempted;
    let commit = Ask::Commit { id: id.clone(), report, result, stays_ms };
    // The result is not copied: it may be large, and many may be under way.
    let (reply, commit) = store::ask_and_keep(tenant, id, commit).await?;
    let result = if let Ask::Commit { result, .. } = commit { result } else { None };
    timings.commit += clock::now().since(before);
    match reply {
        Reply::Committed { retry_ms: Some(ms), .. } => return Ok(Some(ms)),
        Reply::Committed { view, ended: true, .. } => waiter.tell(News::Ended(Worked { view, result, timings })),
        _ => waiter.tell(News::GoesOn),
    }
    Ok(None)
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
    Attempted { report, result: None, elsewhere: false, bearing: Bearing::default() }
}

fn nobody(work: &Work, since: Timestamp) -> Attempted {
    let message = "No registered service takes this work now.".into();
    let error = ContextError { code: ErrorCode::ServiceUnavailable, message, service: None, details: None };
    ended_without_call(work, since, error, true)
}

fn stopped(admission: &Admission, lease: u64, since: Timestamp) -> Attempted {
    let verdict = response::read(&admission.service, Answer::Cancelled, None);
    let report = Report {
        lease,
        service: admission.service.clone(),
        started_at: since,
        ended_at: clock::now(),
        status_code: None,
        outcome: verdict.outcome,
    };
    Attempted { report, result: None, elsewhere: false, bearing: Bearing::default() }
}

/// Everyone who could run this for the principal who asks.
pub fn services(snapshot: &Snapshot) -> impl Iterator<Item = &Service> {
    snapshot.services.iter().map(Entry::service)
}
