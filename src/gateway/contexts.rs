//! `/v1/contexts`: creating work, watching it, stopping it.

use futures_channel::oneshot;
use futures_util::future::join_all;
use serde_json::value::RawValue;

use crate::auth::{self, Age, Principal};
use crate::core::context::Admission;
use crate::core::cursor;
use crate::core::id::ContextId;
use crate::core::json::Fault;
use crate::core::lifecycle::Status;
use crate::core::prefer::{self, Prefer};
use crate::core::problem::{Code, Problem};
use crate::core::request::{self, NewContext};
use crate::core::route::{self, Candidate, NoRoute, Wanted};
use crate::core::service::at_parameters;
use crate::core::time::Timestamp;
use crate::execution::{self, LEASE_MS, News, Timings, Waiter, ask_decided, hint, unrecorded, work_on};
use crate::objects::contexts::messages::{Ask, CancelOutcome, Found, Message, Query, Reply, Work};
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::platform::objects::{Kind, PATIENCE_MS, send};
use crate::platform::{clock, log, random};

use super::answer::{Answer, JSON, internal};
use super::call::{Call, Caller};

/// The wait when none is asked for, in seconds.
const DEFAULT_WAIT: u32 = 10;
/// The longest wait a request is given, in seconds.
const MOST_WAIT: u32 = 120;
/// What may live longer than this does not run behind an answer, but from the queue.
const SHORT_SECONDS: u64 = 25;
/// A retry that comes sooner than this is made by the worker that holds the request.
const STAYS_MS: u64 = 5_000;
const DEFAULT_LIMIT: u64 = 50;

/// A context as it is shown: the view with its large parts joined on.
fn whole(view: &RawValue, parameters: &str, result: Option<&str>) -> String {
    let view = view.get().strip_suffix('}').unwrap_or_default();
    let result = result.unwrap_or("null");
    let mut text = String::with_capacity(view.len() + parameters.len() + result.len() + 28);
    for part in [view, r#","parameters":"#, parameters, r#","result":"#, result, "}"] {
        text.push_str(part);
    }
    text
}

/// What was decided about a request before it becomes a context.
struct Decision {
    admission: Admission,
    /// Where in the snapshot the chosen service is.
    service: usize,
    durable: bool,
    timeout_seconds: u64,
}

fn no_route(reason: NoRoute, new: &NewContext<'_>) -> Problem {
    let name = &new.capability;
    match reason {
        NoRoute::Unknown => Problem::invalid(vec![match &new.service {
            Some(id) => Fault::new("#/service", format!("no service {id} offers {name}; see GET /v1/capabilities")),
            None => Fault::new("#/capability", format!("no service offers {name}; see GET /v1/capabilities")),
        }]),
        NoRoute::Version => {
            Problem::invalid(vec![Fault::new("#/version", format!("no service offers {name} in this version"))])
        }
        NoRoute::Forbidden => {
            auth::denied(&format!("contexts:create:{}.{name}", new.service.as_deref().unwrap_or("*")))
        }
        NoRoute::Unavailable => {
            Problem::new(Code::NoServiceAvailable, format!("Every service that offers {name} is draining or offline."))
                .with_header("Retry-After", "5")
        }
    }
}

fn decide(call: &Call, principal: &Principal, snapshot: &Snapshot, new: &NewContext<'_>) -> Result<Decision, Problem> {
    let wanted = Wanted { capability: &new.capability, service: new.service.as_deref(), version: new.version.as_ref() };
    let takes_work = |service: &crate::core::service::Service| !service.draining;
    let candidates = route::candidates(execution::services(snapshot), wanted, takes_work, |service, capability| {
        principal.may_call(service, capability)
    })
    .map_err(|reason| no_route(reason, new))?;
    let chosen = route::choose(&candidates, random::number()).ok_or_else(|| no_route(NoRoute::Unknown, new))?;
    let entry = snapshot.services.get(chosen.service).ok_or_else(|| no_route(NoRoute::Unknown, new))?;
    let offer = entry.service().capabilities.get(chosen.capability).ok_or_else(|| no_route(NoRoute::Unknown, new))?;

    let mut faults = Vec::new();
    let timeout_seconds = new.timeout_seconds.unwrap_or(offer.timeout_seconds);
    if timeout_seconds > offer.timeout_seconds {
        let most = offer.timeout_seconds;
        faults.push(Fault::new("#/timeout_seconds", format!("{} allows at most {most}", offer.name)));
    }
    if let Some(schema) = entry.input(chosen.capability).filter(|schema| !schema.accepts_all()) {
        match serde_json::from_str(new.parameters) {
            Ok(value) => {
                faults.extend(schema.validate(&value).err().unwrap_or_default().into_iter().map(at_parameters))
            }
            Err(_) => faults.push(Fault::new("#/parameters", "is not acceptable JSON")),
        }
    }
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    Ok(Decision {
        service: chosen.service,
        durable: offer.durable,
        timeout_seconds,
        admission: admission(call, principal, new, chosen, entry.service(), offer, timeout_seconds),
    })
}

fn admission(
    call: &Call,
    principal: &Principal,
    new: &NewContext<'_>,
    chosen: &Candidate,
    service: &crate::core::service::Service,
    offer: &crate::core::service::Capability,
    timeout_seconds: u64,
) -> Admission {
    let now = clock::now();
    let starts = new.run_at.filter(|at| *at > now).unwrap_or(now);
    Admission {
        id: ContextId::new(call.new_store(), now, random::bytes()),
        tenant: principal.tenant.clone(),
        owner: principal.principal.clone(),
        capability: new.capability.clone(),
        asked_service: new.service.clone(),
        asked_version: new.version.as_ref().map(ToString::to_string),
        service: service.id.clone(),
        version: chosen.version.clone(),
        idempotent: offer.idempotent,
        retry: service.retry,
        priority: new.priority,
        source: new.source,
        metadata: new.metadata.map(RawValue::to_owned),
        idempotency_key: None,
        created_at: now,
        expires_at: starts.plus_ms(timeout_seconds * 1000),
        run_at: new.run_at,
        trace: call.trace.header(),
        trace_state: call.trace.state.clone(),
    }
}

/// Decides with the snapshot there is; a refusal is decided again with a fresh one.
async fn decide_surely(call: &Call, caller: &mut Caller, new: &NewContext<'_>) -> Result<Decision, Problem> {
    match decide(call, &caller.principal, &caller.snapshot, new) {
        Ok(decision) if decision.durable || caller.snapshot.is_fresh() => Ok(decision),
        _ => {
            let before = caller.snapshot.revision;
            caller.refresh().await?;
            if caller.snapshot.revision != before {
                caller.principal = auth::authenticate(&call.request, &call.settings, Age::Any).await?.0;
            }
            decide(call, &caller.principal, &caller.snapshot, new)
        }
    }
}

pub async fn create(call: &Call, mut caller: Caller) -> Result<Answer, Problem> {
    let body = call.json_body().await?;
    let text = std::str::from_utf8(&body).unwrap_or_default();
    let new = request::read(text).map_err(Problem::invalid)?;
    let preference = prefer::parse(call.request.header("prefer"));
    let parameters = RawValue::from_string(new.parameters.into()).map_err(|e| Problem::internal(e.to_string()))?;
    let mut admit_ms = 0;
    for _ in 0..3 {
        let decision = decide_surely(call, &mut caller, &new).await?;
        caller.refresh_ahead(call);
        let waits = new.run_at.is_some_and(|at| at > clock::now());
        if !decision.durable && !waits && !preference.respond_async {
            return run_unrecorded(call, &caller, decision, parameters, &preference).await;
        }
        // Behind an answer only what surely ends in the time the platform gives; else the queue.
        let here = !waits && (!preference.respond_async || decision.timeout_seconds <= SHORT_SECONDS);
        let before = clock::now();
        let admission = decision.admission;
        let admit = Ask::Admit {
            admission: Box::new(admission.clone()),
            parameters: parameters.clone(),
            lease_ms: here.then_some(LEASE_MS),
            show: at_once(&preference),
        };
        let id = admission.id.clone();
        let reply = admitted(&caller, &id, admit).await?;
        admit_ms += clock::now().since(before);
        match reply {
            Reply::Stale { .. } => {
                caller.snapshot = snapshot::refreshed(&caller.principal.tenant).await.map_err(internal)?;
                caller.principal = auth::authenticate(&call.request, &call.settings, Age::Any).await?.0;
            }
            Reply::Admitted { lease: Some(lease), view } => {
                let work = Work { admission, parameters, lease, attempt: 1, tried: Vec::new() };
                return run_here(call, &caller, work, view, &preference, admit_ms).await;
            }
            Reply::Admitted { lease: None, view: Some(view) } => {
                return wait_for(call, caller, id, view, &parameters, &preference, admit_ms, waits).await;
            }
            Reply::Taken => {}
            _ => return Err(Problem::internal("the store answered something else")),
        }
    }
    Err(Problem::internal("the registry changes faster than it can be read"))
}

/// Admits, once more if the first reply was lost: the store knows the id again.
async fn admitted(caller: &Caller, id: &ContextId, admit: Ask) -> Result<Reply, Problem> {
    let store = id.store().ok_or_else(|| Problem::internal("a context without a store"))?;
    let name = store.object_name(&caller.principal.tenant);
    let message = Message { revision: caller.snapshot.revision, ask: admit };
    match send(Kind::Contexts, &name, hint(store), &message, PATIENCE_MS).await {
        Ok(reply) => Ok(reply),
        Err(_) => send(Kind::Contexts, &name, hint(store), &message, PATIENCE_MS).await.map_err(internal),
    }
}

/// Nobody waits. With a wait beside it, `respond-async` means: once that is over (RFC 7240 §4.3).
fn at_once(preference: &Prefer) -> bool {
    preference.respond_async && preference.wait_seconds.is_none_or(|seconds| seconds == 0)
}

fn wait_seconds(preference: &Prefer) -> u32 {
    preference.wait_seconds.unwrap_or(DEFAULT_WAIT).min(MOST_WAIT)
}

fn accepted(view: &RawValue, parameters: &str, id: &ContextId, preference: &Prefer, wait: Option<u32>) -> Answer {
    let answer = Answer::text(202, JSON, whole(view, parameters, None))
        .with("location", &format!("/v1/contexts/{id}"))
        .with("retry-after", "1");
    applied(answer, preference, wait, true)
}

fn applied(answer: Answer, preference: &Prefer, wait: Option<u32>, asynchronous: bool) -> Answer {
    match preference.applied(wait, asynchronous) {
        Some(text) => answer.with("preference-applied", &text),
        None => answer,
    }
}

/// Runs a leased context in this worker, for as long as the client waits and a while beyond.
async fn run_here(
    call: &Call,
    caller: &Caller,
    work: Work,
    view: Option<Box<RawValue>>,
    preference: &Prefer,
    admit_ms: u64,
) -> Result<Answer, Problem> {
    let id = work.admission.id.clone();
    let parameters = work.parameters.clone();
    let (tenant, snapshot) = (caller.principal.tenant.clone(), caller.snapshot.clone());
    let (waiter, news) = waiter(call, preference);
    call.keep_running(async move {
        if let Err(failure) = work_on(tenant, work, snapshot, STAYS_MS, waiter).await {
            // Its lease runs out, and the store sees to it.
            log(&format!(r#"{{"level":"error","message":"attempt not committed","detail":{:?}}}"#, failure.0));
        }
    });
    if let Some(view) = view.filter(|_| at_once(preference)) {
        return Ok(accepted(&view, parameters.get(), &id, preference, None));
    }
    told(call, caller, &id, &parameters, preference, admit_ms, news).await
}

fn waiter(call: &Call, preference: &Prefer) -> (Waiter, oneshot::Receiver<News>) {
    if at_once(preference) {
        return (Waiter::nobody(), oneshot::channel().1);
    }
    Waiter::until(call.began.plus_ms(u64::from(wait_seconds(preference)) * 1000))
}

/// The answer to who waits, when there is news.
async fn told(
    call: &Call,
    caller: &Caller,
    id: &ContextId,
    parameters: &RawValue,
    preference: &Prefer,
    admit_ms: u64,
    news: oneshot::Receiver<News>,
) -> Result<Answer, Problem> {
    let seconds = wait_seconds(preference);
    if let Ok(News::Ended(worked)) = news.await {
        let result = worked.result.as_deref().map(RawValue::get);
        let mut answer = Answer::text(200, JSON, whole(&worked.view, parameters.get(), result));
        answer.timings = Timings { admit: admit_ms, ..worked.timings };
        return Ok(applied(answer, preference, Some(seconds), false));
    }
    // It goes on, here or, handed on, elsewhere: the store says what it is, and when it ends.
    let milliseconds = (u64::from(seconds) * 1000).saturating_sub(clock::now().since(call.began));
    let mut snapshot = caller.snapshot.clone();
    let wait = Ask::Wait { id: id.clone(), milliseconds };
    match ask_decided(&caller.principal.tenant, id, &mut snapshot, wait).await.map_err(internal)? {
        Reply::Context(found) => Ok(shown(&found, id, preference, seconds)),
        _ => Err(Problem::internal("a context that was admitted is not there")),
    }
}

fn shown(found: &Found, id: &ContextId, preference: &Prefer, seconds: u32) -> Answer {
    if found.ended {
        let result = found.result.as_deref().map(RawValue::get);
        let answer = Answer::text(200, JSON, whole(&found.view, found.parameters.get(), result));
        applied(answer, preference, Some(seconds), false)
    } else {
        accepted(&found.view, found.parameters.get(), id, preference, Some(seconds))
    }
}

/// Answers for a context that others will run.
#[allow(clippy::too_many_arguments)]
async fn wait_for(
    call: &Call,
    caller: Caller,
    id: ContextId,
    view: Box<RawValue>,
    parameters: &RawValue,
    preference: &Prefer,
    admit_ms: u64,
    starts_later: bool,
) -> Result<Answer, Problem> {
    let seconds = wait_seconds(preference);
    // Nobody waits for tomorrow who did not say so.
    if at_once(preference) || seconds == 0 || (starts_later && preference.wait_seconds.is_none()) {
        let mut answer = accepted(&view, parameters.get(), &id, preference, None);
        answer.timings.admit = admit_ms;
        return Ok(answer);
    }
    let milliseconds = (u64::from(seconds) * 1000).saturating_sub(clock::now().since(call.began));
    let mut snapshot = caller.snapshot.clone();
    let wait = Ask::Wait { id: id.clone(), milliseconds };
    match ask_decided(&caller.principal.tenant, &id, &mut snapshot, wait).await.map_err(internal)? {
        Reply::Context(found) => Ok(shown(&found, &id, preference, seconds)),
        _ => Ok(accepted(&view, parameters.get(), &id, preference, Some(seconds))),
    }
}

/// `durable: false`: executed first, recorded after the answer.
async fn run_unrecorded(
    call: &Call,
    caller: &Caller,
    decision: Decision,
    parameters: Box<RawValue>,
    preference: &Prefer,
) -> Result<Answer, Problem> {
    let Decision { admission, service, .. } = decision;
    let id = admission.id.clone();
    let (tenant, snapshot) = (caller.principal.tenant.clone(), caller.snapshot.clone());
    let (waiter, news) = waiter(call, preference);
    let sent = parameters.clone();
    call.keep_running(async move {
        if let Err(failure) = unrecorded::run(tenant, admission, sent, snapshot, service, waiter).await {
            log(&format!(r#"{{"level":"error","message":"context not recorded","detail":{:?}}}"#, failure.0));
        }
    });
    told(call, caller, &id, &parameters, preference, 0, news).await
}

/// The context, if the caller may see it; else the same answer as for one that is not there.
async fn visible(
    call: &Call,
    caller: &mut Caller,
    id: &str,
    make: impl Fn(ContextId) -> Ask,
) -> Result<(ContextId, Box<Found>), Problem> {
    let id = ContextId::parse(id).ok_or_else(|| Problem::not_found("context"))?;
    let tenant = caller.principal.tenant.clone();
    let revision = caller.snapshot.revision;
    let reply = ask_decided(&tenant, &id, &mut caller.snapshot, make(id.clone())).await.map_err(internal)?;
    if caller.snapshot.revision != revision {
        // The store knew of a change: who asks may be nobody any more.
        caller.principal = auth::authenticate(&call.request, &call.settings, Age::Any).await?.0;
    }
    match reply {
        Reply::Context(found) if found.owner == caller.principal.principal || caller.principal.sees_all_contexts() => {
            Ok((id, found))
        }
        _ => Err(Problem::not_found("context")),
    }
}

pub async fn get(call: &Call, mut caller: Caller, id: &str) -> Result<Answer, Problem> {
    caller.principal.require("contexts:read")?;
    let preference = prefer::parse(call.request.header("prefer"));
    let seconds = preference.wait_seconds.map(|seconds| seconds.min(MOST_WAIT));
    let (id, mut found) = visible(call, &mut caller, id, |id| Ask::Get { id }).await?;
    if let Some(seconds) = seconds.filter(|seconds| *seconds > 0 && !found.ended) {
        let milliseconds = u64::from(seconds) * 1000;
        (_, found) = visible(call, &mut caller, id.as_str(), |id| Ask::Wait { id, milliseconds }).await?;
    }
    let result = found.result.as_deref().map(RawValue::get);
    let mut answer = Answer::text(200, JSON, whole(&found.view, found.parameters.get(), result));
    if !found.ended {
        answer = answer.with("retry-after", "1");
    }
    Ok(applied(answer, &preference, seconds, false))
}

pub async fn cancel(call: &Call, mut caller: Caller, id: &str) -> Result<Answer, Problem> {
    caller.principal.require("contexts:cancel")?;
    let (id, found) = visible(call, &mut caller, id, |id| Ask::Get { id }).await?;
    let tenant = caller.principal.tenant.clone();
    let cancel = Ask::Cancel { id: id.clone() };
    match ask_decided(&tenant, &id, &mut caller.snapshot, cancel).await.map_err(internal)? {
        Reply::Cancelled { view, outcome } => match outcome {
            CancelOutcome::Now => Ok(Answer::text(200, JSON, whole(&view, found.parameters.get(), None))),
            CancelOutcome::Asked => Ok(Answer::text(202, JSON, whole(&view, found.parameters.get(), None))
                .with("location", &format!("/v1/contexts/{id}"))
                .with("retry-after", "1")),
            CancelOutcome::Ended => Err(Problem::new(Code::Conflict, "The context has already ended.")),
        },
        _ => Err(Problem::not_found("context")),
    }
}

fn filters(call: &Call) -> Result<Query, Problem> {
    let mut faults = Vec::new();
    let mut time = |name: &str| {
        let text = call.query(name)?;
        let time = Timestamp::parse(&text);
        if time.is_none() {
            faults.push(Fault::new(format!("?{name}"), "must be a time such as 2026-12-01T00:00:00Z (RFC 3339)"));
        }
        time
    };
    let (created_after, created_before) = (time("created_after"), time("created_before"));
    let status = call.query("status").map(|text| Status::parse(&text));
    if status == Some(None) {
        faults.push(Fault::new("?status", "must be a status such as queued or completed"));
    }
    let limit = limit(call, DEFAULT_LIMIT, 200);
    if limit.is_none() {
        faults.push(Fault::new("?limit", "must be an integer from 1 to 200"));
    }
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    Ok(Query {
        owner: None,
        status: status.flatten(),
        service: call.query("service"),
        capability: call.query("capability"),
        created_after,
        created_before,
        before: None,
        limit: limit.unwrap_or(DEFAULT_LIMIT),
    })
}

/// `limit` from the query; nothing when it is out of range.
pub fn limit(call: &Call, default: u64, most: u64) -> Option<u64> {
    match call.query("limit") {
        None => Some(default),
        Some(text) => text.parse().ok().filter(|limit| (1..=most).contains(limit)),
    }
}

const LIST_QUERY: [&str; 8] =
    ["status", "service", "capability", "created_after", "created_before", "limit", "cursor", "owner"];

pub async fn list(call: &Call, mut caller: Caller) -> Result<Answer, Problem> {
    caller.principal.require("contexts:read")?;
    call.only_query(&LIST_QUERY)?;
    let mut query = filters(call)?;
    query.owner = match call.query("owner").as_deref() {
        Some("*") => {
            caller.principal.require("contexts:read:*")?;
            None
        }
        None | Some("me") => Some(caller.principal.principal.clone()),
        Some(other) => {
            if other != caller.principal.principal {
                caller.principal.require("contexts:read:*")?;
            }
            Some(other.to_string())
        }
    };
    // A cursor belongs to its filters and to whoever may see through them.
    let digest = format!("contexts {} {}", caller.principal.tenant, serde_json::to_string(&query).unwrap_or_default());
    if let Some(text) = call.query("cursor") {
        let before = cursor::read(&caller.snapshot.cursor_key, &text, &digest);
        query.before = Some(before.ok_or_else(bad_cursor)?);
    }
    let limit = query.limit;
    query.limit += 1;
    let mut found = ask_all(&mut caller, &query).await?;
    found.sort_by(|a, b| b.0.sort_key().cmp(a.0.sort_key()));
    let more = found.len() as u64 > limit;
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next =
        found.last().filter(|_| more).map(|(id, _)| cursor::write(&caller.snapshot.cursor_key, id.sort_key(), &digest));
    let data: Vec<&RawValue> = found.iter().map(|(_, view)| view.as_ref()).collect();
    page(call, &data, next)
}

pub fn bad_cursor() -> Problem {
    Problem::new(Code::InvalidRequest, "The cursor is not one this list gave out with these filters.")
}

/// A page with its `Link` (RFC 8288).
pub fn page<T: serde::Serialize>(call: &Call, data: &[T], next: Option<String>) -> Result<Answer, Problem> {
    #[derive(serde::Serialize)]
    struct Page<'a, T> {
        data: &'a [T],
        next_cursor: Option<&'a str>,
    }
    let answer = Answer::json(200, &Page { data, next_cursor: next.as_deref() })?;
    Ok(match next {
        Some(cursor) => answer.with("link", &format!("<{}>; rel=\"next\"", call.with_query("cursor", &cursor))),
        None => answer,
    })
}

/// Every store of the tenant, asked at once.
async fn ask_all(caller: &mut Caller, query: &Query) -> Result<Vec<(ContextId, Box<RawValue>)>, Problem> {
    let tenant = &caller.principal.tenant;
    let asks = caller.snapshot.stores.iter().map(|store| {
        let name = store.object_name(tenant);
        let mut message = Message { revision: caller.snapshot.revision, ask: Ask::List(query.clone()) };
        async move {
            for _ in 0..3 {
                match send(Kind::Contexts, &name, "", &message, PATIENCE_MS).await? {
                    Reply::Page { items } => return Ok(items),
                    Reply::Stale { revision } => message.revision = revision,
                    _ => break,
                }
            }
            Err(crate::platform::Failure(format!("{name} gives no list")))
        }
    });
    let mut found = Vec::new();
    for items in join_all(asks).await {
        found.extend(items.map_err(internal)?.into_iter().map(|item| (item.id, item.view)));
    }
    Ok(found)
}
