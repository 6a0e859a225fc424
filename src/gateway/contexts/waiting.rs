//! Answers about a context for whoever waits for it, as it was preferred (RFC 7240).

use futures_channel::oneshot;
use serde_json::value::RawValue;

use crate::core::id::ContextId;
use crate::core::prefer::Prefer;
use crate::core::problem::Problem;
use crate::execution::{News, Timings, Waiter, ask_decided};
use crate::objects::contexts::messages::{Ask, Found, Reply};
use crate::platform::clock;

use super::super::answer::{Answer, JSON, internal};
use super::super::call::{Call, Caller};

/// The wait when none is asked for, in seconds.
const DEFAULT_WAIT: u32 = 10;
/// The longest wait a request is given, in seconds.
pub(super) const MOST_WAIT: u32 = 120;

/// A context as it is shown: the view with its large parts joined on.
pub(super) fn whole(view: &RawValue, parameters: &str, result: Option<&str>) -> String {
    let view = view.get().strip_suffix('}').unwrap_or_default();
    let result = result.unwrap_or("null");
    let mut text = String::with_capacity(view.len() + parameters.len() + result.len() + 28);
    for part in [view, r#","parameters":"#, parameters, r#","result":"#, result, "}"] {
        text.push_str(part);
    }
    text
}

/// Nobody waits. With a wait beside it, `respond-async` means: once that is over (RFC 7240 §4.3).
pub(super) fn at_once(preference: &Prefer) -> bool {
    preference.respond_async && preference.wait_seconds.is_none_or(|seconds| seconds == 0)
}

pub(super) fn wait_seconds(preference: &Prefer) -> u32 {
    preference.wait_seconds.unwrap_or(DEFAULT_WAIT).min(MOST_WAIT)
}

pub(super) fn accepted(
    view: &RawValue,
    parameters: &str,
    id: &ContextId,
    preference: &Prefer,
    wait: Option<u32>,
) -> Answer {
    let answer = Answer::text(202, JSON, whole(view, parameters, None))
        .with("location", &format!("/v1/contexts/{id}"))
        .with("retry-after", "1");
    applied(answer, preference, wait, true)
}

pub(super) fn applied(answer: Answer, preference: &Prefer, wait: Option<u32>, asynchronous: bool) -> Answer {
    match preference.applied(wait, asynchronous) {
        Some(text) => answer.with("preference-applied", &text),
        None => answer,
    }
}

pub(super) fn waiter(call: &Call, preference: &Prefer) -> (Waiter, oneshot::Receiver<News>) {
    if at_once(preference) {
        return (Waiter::nobody(), oneshot::channel().1);
    }
    Waiter::until(call.began.plus_ms(u64::from(wait_seconds(preference)) * 1000))
}

/// The answer to who waits, when there is news.
pub(super) async fn told(
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
    let answer = waited(call, caller, id, preference, seconds).await?;
    answer.ok_or_else(|| Problem::internal("a context that was admitted is not there"))
}

pub(super) fn shown(found: &Found, id: &ContextId, preference: &Prefer, seconds: u32) -> Answer {
    if found.ended {
        let result = found.result.as_deref().map(RawValue::get);
        let answer = Answer::text(200, JSON, whole(&found.view, found.parameters.get(), result));
        applied(answer, preference, Some(seconds), false)
    } else {
        accepted(&found.view, found.parameters.get(), id, preference, Some(seconds))
    }
}

/// What a context is when it has ended or the wait is over; nothing when it is not there.
pub(super) async fn waited(
    call: &Call,
    caller: &Caller,
    id: &ContextId,
    preference: &Prefer,
    seconds: u32,
) -> Result<Option<Answer>, Problem> {
    let milliseconds = (u64::from(seconds) * 1000).saturating_sub(clock::now().since(call.began));
    let mut snapshot = caller.snapshot.clone();
    let wait = Ask::Wait { id: id.clone(), milliseconds, to_the_end: false };
    match ask_decided(&caller.principal.tenant, id, &mut snapshot, wait).await.map_err(internal)? {
        Reply::Context(found) => Ok(Some(shown(&found, id, preference, seconds))),
        _ => Ok(None),
    }
}

/// Answers for a context that others will run.
#[allow(clippy::too_many_arguments)]
pub(super) async fn wait_for(
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
    let answer = waited(call, &caller, &id, preference, seconds).await?;
    Ok(answer.unwrap_or_else(|| accepted(&view, parameters.get(), &id, preference, Some(seconds))))
}
