//! The state of a context as a response carries it, and the waits of `Prefer` (RFC 7240).

use std::pin::pin;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::auth::credential_watch::RequiredPermissions;
use crate::execution::{Client, Timings, WaitOutcome};
use crate::objects::contexts::client::call_with_revision;
use crate::objects::contexts::messages::{ContextDetails, Wait};
use crate::platform::clock;
use narthex_core::base::id::ContextId;
use narthex_core::base::time::Timestamp;
use narthex_core::context::ContextError;
use narthex_core::context::status::ErrorCode;
use narthex_core::http::prefer::Prefer;
use narthex_core::http::problem::{Code, Problem};

use super::super::answer::{Answer, JSON, internal};
use super::super::call::{Call, Caller};

/// The wait of a request that names none, in seconds.
const DEFAULT_WAIT: u32 = 10;
/// The longest wait that a request gets, in seconds.
pub(super) const MAX_WAIT: u32 = 120;

/// The largest `Retry-After`, in seconds: a scheduled context may be cancelled before it starts.
const MAX_RETRY_AFTER: u64 = 3_600;

/// `Retry-After` of a context that has not ended, in seconds: until its start if that lies ahead, else 1.
pub(super) fn retry_after_seconds(run_at: Option<Timestamp>) -> String {
    let until_start = run_at.map_or(0, |at| at.since(clock::now()).div_ceil(1000));
    until_start.clamp(1, MAX_RETRY_AFTER).to_string()
}

/// The service that a view names: the first member of this name, as those before it are ids, names and a version.
fn service_in(view: &str) -> Option<&str> {
    let (_, rest) = view.split_once(r#""service":""#)?;
    rest.split('"').next()
}

/// A context as clients see it: the view, joined with its large members.
pub(super) fn context_json(view: &RawValue, parameters: &str, result: Option<&str>) -> String {
    let view = view.get().strip_suffix('}').unwrap_or_default();
    let result = result.unwrap_or("null");
    let mut text = String::with_capacity(view.len() + parameters.len() + result.len() + 28);
    for part in [view, r#","parameters":"#, parameters, r#","result":"#, result, "}"] {
        text.push_str(part);
    }
    text
}

/// Whether the client waits for nothing. With a `wait`, `respond-async` applies once the wait is over (RFC 7240 §4.3).
pub(super) fn responds_at_once(preference: &Prefer) -> bool {
    preference.respond_async && preference.wait_seconds.is_none_or(|seconds| seconds == 0)
}

pub(super) fn wait_seconds(preference: &Prefer) -> u32 {
    preference.wait_seconds.unwrap_or(DEFAULT_WAIT).min(MAX_WAIT)
}

/// A context at the end of the wait for it.
pub struct ContextState {
    pub id: ContextId,
    pub view: Box<RawValue>,
    pub parameters: Box<RawValue>,
    pub result: Option<Box<RawValue>>,
    pub ended: bool,
    /// The earliest start, if the request named one.
    pub(super) run_at: Option<Timestamp>,
    pub timings: Timings,
    /// An earlier request with the same idempotency key created it.
    pub replayed: bool,
    /// The wait that was applied, in seconds.
    pub(super) waited: Option<u32>,
    /// Where its end arrives, if the result is not kept. The view is not known until then.
    pub pending: Option<oneshot::Receiver<WaitOutcome>>,
}

/// How long the client waits for news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// As it prefers; the store then knows the context.
    Wait,
    /// Until the end: the result is not kept.
    End,
    /// As it prefers; then it follows the news itself, as the result is not kept.
    Followed,
}

impl ContextState {
    /// A context that has not ended yet.
    pub(super) fn accepted(id: &ContextId, view: Box<RawValue>, parameters: &RawValue, admit_ms: u64) -> Self {
        let timings = Timings { admit: admit_ms, ..Timings::default() };
        let (id, parameters) = (id.clone(), parameters.to_owned());
        let (result, run_at, waited, pending) = (None, None, None, None);
        Self { id, view, parameters, result, ended: false, run_at, timings, replayed: false, waited, pending }
    }

    /// A context whose end arrives later.
    fn followed(id: &ContextId, parameters: &RawValue, news: oneshot::Receiver<WaitOutcome>) -> Self {
        Self { pending: Some(news), ..Self::accepted(id, RawValue::NULL.to_owned(), parameters, 0) }
    }

    /// A context whose service would have continued later, although its content is not kept.
    pub(super) fn refused(&self) -> Option<Problem> {
        #[derive(Deserialize)]
        struct Failed {
            error: ContextError,
        }
        let is_likely = self.ended && self.view.get().contains(ErrorCode::ContentNotKept.as_str());
        let Failed { error } = is_likely.then(|| serde_json::from_str(self.view.get()).ok())??;
        let detail = format!("{} It is the context {}.", error.message, self.id);
        (error.code == ErrorCode::ContentNotKept).then(|| Problem::new(Code::ContentNotKept, detail))
    }

    pub(super) fn running_at(self, run_at: Option<Timestamp>) -> Self {
        Self { run_at, ..self }
    }

    /// 200 if the context ended within the wait, else 202.
    pub(super) fn answer(self, preference: &Prefer) -> Answer {
        let text = context_json(&self.view, self.parameters.get(), self.result.as_deref().map(RawValue::get));
        let mut answer = Answer::text(if self.ended { 200 } else { 202 }, JSON, text);
        answer.timings = self.timings;
        if !self.ended {
            answer = answer
                .with("location", &format!("/v1/contexts/{}", self.id))
                .with("retry-after", &retry_after_seconds(self.run_at));
        }
        if self.replayed {
            answer = answer.with("idempotency-replayed", "true");
        }
        let service = service_in(self.view.get()).map(str::to_string);
        let answer = answer.about(self.id, service.as_deref());
        with_preference_applied(answer, preference, self.waited, !self.ended)
    }
}

pub(super) fn with_preference_applied(
    answer: Answer,
    preference: &Prefer,
    wait: Option<u32>,
    asynchronous: bool,
) -> Answer {
    match preference.applied(wait, asynchronous) {
        Some(text) => answer.with("preference-applied", &text),
        None => answer,
    }
}

pub(super) fn waiting_client(call: &Call, preference: &Prefer) -> (Client, oneshot::Receiver<WaitOutcome>) {
    if responds_at_once(preference) {
        return (Client::none(), oneshot::channel().1);
    }
    Client::waiting_until(call.began.plus_ms(u64::from(wait_seconds(preference)) * 1000))
}

/// The context once this Worker has news of it: ended, or handed on to another Worker.
pub(super) async fn wait_for_news(
    call: &Call,
    caller: &Caller,
    id: &ContextId,
    parameters: &RawValue,
    preference: &Prefer,
    admit_ms: u64,
    (mut news, until): (oneshot::Receiver<WaitOutcome>, Until),
) -> Result<ContextState, Problem> {
    let seconds = wait_seconds(preference);
    let wait = async {
        if until != Until::Followed {
            return Some((&mut news).await);
        }
        let left_ms = (u64::from(seconds) * 1000).saturating_sub(clock::now().since(call.began));
        match select(&mut news, pin!(clock::pause(left_ms))).await {
            Either::Left((outcome, _)) => Some(outcome),
            Either::Right(_) => None,
        }
    };
    let Some(outcome) = call.while_good(&caller.principal, RequiredPermissions::ToCreate, wait).await? else {
        return Ok(ContextState::followed(id, parameters, news));
    };
    if let Ok(WaitOutcome::Ended(worked)) = outcome {
        return Ok(ContextState {
            id: id.clone(),
            view: worked.view,
            parameters: parameters.to_owned(),
            result: worked.result,
            ended: true,
            run_at: None,
            timings: Timings { admit: admit_ms, ..worked.timings },
            replayed: false,
            waited: (until == Until::Wait).then_some(seconds),
            pending: None,
        });
    }
    // The work continues, in this Worker or in another: the store knows the state, and when the context ends.
    let state = wait_in_store(call, caller, id, seconds).await?;
    state.ok_or_else(|| Problem::internal("the store does not know an admitted context"))
}

/// The context once it has ended or the wait is over; nothing if the store does not know it.
pub(super) async fn wait_in_store(
    call: &Call,
    caller: &Caller,
    id: &ContextId,
    seconds: u32,
) -> Result<Option<ContextState>, Problem> {
    let milliseconds = (u64::from(seconds) * 1000).saturating_sub(clock::now().since(call.began));
    let mut snapshot = caller.snapshot.clone();
    let wait = Wait { id: id.clone(), milliseconds, to_the_end: false, news_after: None };
    let reply = call_with_revision(&caller.principal.tenant, id, &mut snapshot, &wait);
    let reply = call.while_good(&caller.principal, RequiredPermissions::ToCreate, reply).await?.map_err(internal)?;
    Ok(reply.found().map(|found| {
        let ContextDetails { view, parameters, result, ended, run_at, .. } = *found;
        let (id, timings) = (id.clone(), Timings::default());
        let (replayed, waited) = (false, Some(seconds));
        ContextState { id, view, parameters, result, ended, run_at, timings, replayed, waited, pending: None }
    }))
}

/// Waits for an accepted context that is not run by this request.
pub(super) async fn wait_for_context(
    call: &Call,
    caller: &Caller,
    accepted: ContextState,
    preference: &Prefer,
    starts_later: bool,
) -> Result<ContextState, Problem> {
    let seconds = wait_seconds(preference);
    // Do not wait for a future start unless the client asked to wait.
    if responds_at_once(preference) || seconds == 0 || (starts_later && preference.wait_seconds.is_none()) {
        return Ok(accepted);
    }
    let state = wait_in_store(call, caller, &accepted.id, seconds).await?;
    Ok(state.unwrap_or(ContextState { waited: Some(seconds), ..accepted }))
}
