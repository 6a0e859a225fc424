//! `/v1/contexts`: creating work, watching it, stopping it.

use futures_channel::oneshot;
use serde_json::value::RawValue;

use crate::auth::{self, Age, Principal};
use crate::core::canonical;
use crate::core::id::ContextId;
use crate::core::idempotency::{self, Claim};
use crate::core::json::Object;
use crate::core::prefer::{self, Prefer};
use crate::core::problem::{Code, Problem};
use crate::core::request::{self, NewContext};
use crate::execution::{LEASE_MS, News, Timings, Waiter, ask_decided, hint, unrecorded, work_on};
use crate::objects::contexts::messages::{Ask, CancelOutcome, Found, Message, Reply, Work};
use crate::objects::registry::snapshot;
use crate::platform::objects::{Kind, PATIENCE_MS, send};
use crate::platform::{clock, log, random};

use super::answer::{Answer, JSON, internal};
use super::call::{Call, Caller};
use super::decision::{Decision, decide_surely};

/// The wait when none is asked for, in seconds.
const DEFAULT_WAIT: u32 = 10;
/// The longest wait a request is given, in seconds.
const MOST_WAIT: u32 = 120;
/// What may live longer than this does not run behind an answer, but from the queue.
const SHORT_SECONDS: u64 = 25;
/// A retry that comes sooner than this is made by the worker that holds the request.
const STAYS_MS: u64 = 5_000;

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

/// The key a request comes under, with what it claims.
fn claimed(call: &Call, principal: &Principal, text: &str) -> Result<Option<(String, Claim)>, Problem> {
    let Some(header) = call.request.header("idempotency-key") else { return Ok(None) };
    let malformed = || {
        Problem::new(Code::InvalidRequest, "Idempotency-Key must be 1 to 255 visible ASCII characters, quoted or bare.")
    };
    let key = idempotency::parse(header).ok_or_else(malformed)?;
    let fingerprint = canonical::fingerprint(text).ok_or_else(|| Problem::internal("a body without a fingerprint"))?;
    let claim = Claim::new(&principal.tenant, &principal.principal, &call.path, &key, fingerprint);
    Ok(Some((key, claim)))
}

pub async fn create(call: &Call, caller: Caller) -> Result<Answer, Problem> {
    let body = call.json_body().await?;
    let text = std::str::from_utf8(&body).unwrap_or_default();
    let new = request::read(text).map_err(Problem::invalid)?;
    make(call, caller, &new, text).await
}

/// Makes a context and answers as it is preferred. `text` is what an idempotency key is remembered with.
async fn make(call: &Call, mut caller: Caller, new: &NewContext<'_>, text: &str) -> Result<Answer, Problem> {
    let preference = prefer::parse(call.request.header("prefer"));
    let parameters = RawValue::from_string(new.parameters.into()).map_err(|e| Problem::internal(e.to_string()))?;
    let claimed = claimed(call, &caller.principal, text)?;
    let mut admit_ms = 0;
    for _ in 0..3 {
        let mut decision = match (decide_surely(call, &mut caller, new).await, &claimed) {
            (Ok(decision), _) => decision,
            (Err(problem), None) => return Err(problem),
            // What was accepted once stays so, whatever has changed since.
            (Err(problem), Some((_, claim))) => return recalled(call, &caller, claim, &preference, problem).await,
        };
        caller.refresh_ahead(call);
        let waits = new.run_at.is_some_and(|at| at > clock::now());
        if !decision.durable && !waits && !preference.respond_async && claimed.is_none() {
            return run_unrecorded(call, &caller, decision, parameters, &preference).await;
        }
        if let Some((key, claim)) = &claimed {
            let store = claim.store(call.settings.home_region);
            decision.admission.id = ContextId::new(store, decision.admission.created_at, random::bytes());
            decision.admission.idempotency_key = Some(key.clone());
        }
        // Behind an answer only what surely ends in the time the platform gives; else the queue.
        let here = !waits && (!preference.respond_async || decision.timeout_seconds <= SHORT_SECONDS);
        let before = clock::now();
        let admission = decision.admission;
        let admit = Ask::Admit {
            admission: Box::new(admission.clone()),
            parameters: parameters.clone(),
            lease_ms: here.then_some(LEASE_MS),
            offers: false,
            show: at_once(&preference),
            claim: claimed.as_ref().map(|(_, claim)| claim.clone()),
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
                let work = Work { admission, parameters, lease, attempt: 1, tried: Vec::new(), input: None };
                return run_here(call, &caller, work, view, &preference, admit_ms).await;
            }
            Reply::Admitted { lease: None, view: Some(view) } => {
                return wait_for(call, caller, id, view, &parameters, &preference, admit_ms, waits).await;
            }
            Reply::Replayed { id } => return replayed(call, &caller, &id, &preference).await,
            Reply::KeyReused => return Err(key_reused()),
            Reply::Taken => {}
            _ => return Err(Problem::internal("the store answered something else")),
        }
    }
    Err(Problem::internal("the registry changes faster than it can be read"))
}

fn key_reused() -> Problem {
    let detail =
        "This Idempotency-Key was sent with another body within the last 24 hours. Use a new key for a new request.";
    Problem::new(Code::IdempotencyKeyReused, detail)
}

/// What a key stands for, where the request itself would be refused; else that refusal.
async fn recalled(
    call: &Call,
    caller: &Caller,
    claim: &Claim,
    preference: &Prefer,
    problem: Problem,
) -> Result<Answer, Problem> {
    let store = claim.store(call.settings.home_region);
    let name = store.object_name(&caller.principal.tenant);
    let message = Message { revision: caller.snapshot.revision, ask: Ask::Recall { claim: claim.clone() } };
    match send(Kind::Contexts, &name, hint(store), &message, PATIENCE_MS).await.map_err(internal)? {
        Reply::Replayed { id } => replayed(call, caller, &id, preference).await,
        Reply::KeyReused => Err(key_reused()),
        _ => Err(problem),
    }
}

/// The answer to a repeat: the context that the first request made, waited for as asked.
async fn replayed(call: &Call, caller: &Caller, id: &ContextId, preference: &Prefer) -> Result<Answer, Problem> {
    let seconds = if at_once(preference) { 0 } else { wait_seconds(preference) };
    let milliseconds = (u64::from(seconds) * 1000).saturating_sub(clock::now().since(call.began));
    let mut snapshot = caller.snapshot.clone();
    let wait = Ask::Wait { id: id.clone(), milliseconds };
    match ask_decided(&caller.principal.tenant, id, &mut snapshot, wait).await.map_err(internal)? {
        Reply::Context(found) => Ok(shown(&found, id, preference, seconds).with("idempotency-replayed", "true")),
        _ => Err(Problem::internal("a context that was admitted is not there")),
    }
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
        Reply::Cancelled { view, outcome, .. } => match outcome {
            CancelOutcome::Now => Ok(Answer::text(200, JSON, whole(&view, found.parameters.get(), None))),
            CancelOutcome::Asked => Ok(Answer::text(202, JSON, whole(&view, found.parameters.get(), None))
                .with("location", &format!("/v1/contexts/{id}"))
                .with("retry-after", "1")),
            CancelOutcome::Ended => Err(Problem::new(Code::Conflict, "The context has already ended.")),
        },
        _ => Err(Problem::not_found("context")),
    }
}

/// A new context from an ended one: the same work, decided anew.
pub async fn replay(call: &Call, mut caller: Caller, id: &str) -> Result<Answer, Problem> {
    if !caller.principal.may_create_any() {
        return Err(auth::denied("contexts:create:*.*"));
    }
    let bytes = call.optional_json_body().await?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let faults = Object::new(text, "#").map_or_else(|fault| vec![fault], Object::finish);
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    let (id, _) = visible(call, &mut caller, id, |id| Ask::Get { id }).await?;
    let tenant = caller.principal.tenant.clone();
    let ask = Ask::Origin { id: id.clone() };
    let origin = match ask_decided(&tenant, &id, &mut caller.snapshot, ask).await.map_err(internal)? {
        Reply::Origin(origin) => origin,
        _ => return Err(Problem::not_found("context")),
    };
    if !origin.ended {
        return Err(Problem::new(Code::Conflict, "The context has not ended yet. Wait for its end, or cancel it."));
    }
    let admission = origin.admission;
    let began = admission.run_at.unwrap_or(admission.created_at).max(admission.created_at);
    let new = NewContext {
        capability: admission.capability,
        service: admission.asked_service,
        version: admission.asked_version.as_deref().and_then(|range| range.parse().ok()),
        tags: Vec::new(),
        parameters: origin.parameters.get(),
        priority: admission.priority,
        timeout_seconds: Some(admission.expires_at.since(began) / 1000),
        source: admission.source,
        metadata: admission.metadata.as_deref(),
        run_at: None,
    };
    make(call, caller, &new, text).await
}
