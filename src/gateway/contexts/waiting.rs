//! Answers about a context for whoever waits for it, as it was preferred (RFC 7240).

use futures_channel::oneshot;
use serde_json::value::RawValue;

use crate::auth::watched::Needed;
use crate::execution::{News, Timings, Waiter, ask_decided};
use crate::objects::contexts::messages::{Ask, Found, Reply};
use crate::platform::clock;
use narthex_core::base::id::ContextId;
use narthex_core::base::time::Timestamp;
use narthex_core::http::prefer::Prefer;
use narthex_core::http::problem::Problem;

use super::super::answer::{Answer, JSON, internal};
use super::super::call::{Call, Caller};

/// The wait when none is asked for, in seconds.
const DEFAULT_WAIT: u32 = 10;
/// The longest wait a request is given, in seconds.
pub(super) const MAX_WAIT: u32 = 120;

/// The longest that a client is told to leave a context alone, in seconds: it may be cancelled meanwhile.
const LONGEST_PAUSE: u64 = 3_600;

/// After how many seconds there may be news of a context that has not ended.
pub(super) fn look_again_seconds(run_at: Option<Timestamp>) -> String {
    let until = run_at.map_or(0, |at| at.since(clock::now()).div_ceil(1000));
    until.clamp(1, LONGEST_PAUSE).to_string()
}

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
    preference.wait_seconds.unwrap_or(DEFAULT_WAIT).min(MAX_WAIT)
}

/// A context as it was when the wait for it was over.
pub struct Told {
    pub id: ContextId,
    pub view: Box<RawValue>,
    pub parameters: Box<RawValue>,
    pub result: Option<Box<RawValue>>,
    pub ended: bool,
    /// Not before this.
    pub(super) run_at: Option<Timestamp>,
    pub timings: Timings,
    /// An idempotency key stood for it already.
    pub replayed: bool,
    /// The wait that was given, in seconds.
    pub(super) waited: Option<u32>,
}

impl Told {
    /// One that goes on.
    pub(super) fn accepted(
        id: &ContextId,
        view: Box<RawValue>,
        parameters: &RawValue,
        waited: Option<u32>,
        admit_ms: u64,
    ) -> Self {
        let timings = Timings { admit: admit_ms, ..Timings::default() };
        let (id, parameters) = (id.clone(), parameters.to_owned());
        Self { id, view, parameters, result: None, ended: false, run_at: None, timings, replayed: false, waited }
    }

    pub(super) fn running_at(self, run_at: Option<Timestamp>) -> Self {
        Self { run_at, ..self }
    }

    /// 200 with what ended within the wait, else 202.
    pub(super) fn answer(self, preference: &Prefer) -> Answer {
        let text = whole(&self.view, self.parameters.get(), self.result.as_deref().map(RawValue::get));
        let mut answer = Answer::text(if self.ended { 200 } else { 202 }, JSON, text);
        answer.timings = self.timings;
        if !self.ended {
            answer = answer
                .with("location", &format!("/v1/contexts/{}", self.id))
                .with("retry-after", &look_again_seconds(self.run_at));
        }
        if self.replayed {
            answer = answer.with("idempotency-replayed", "true");
        }
        answer.context = Some(self.id);
        applied(answer, preference, self.waited, !self.ended)
    }
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

/// What who waits is told, when there is news.
pub(super) async fn told(
    call: &Call,
    caller: &Caller,
    id: &ContextId,
    parameters: &RawValue,
    preference: &Prefer,
    admit_ms: u64,
    news: oneshot::Receiver<News>,
) -> Result<Told, Problem> {
    let seconds = wait_seconds(preference);
    if let Ok(News::Ended(worked)) = call.while_good(&caller.principal, Needed::ToCreate, news).await? {
        return Ok(Told {
            id: id.clone(),
            view: worked.view,
            parameters: parameters.to_owned(),
            result: worked.result,
            ended: true,
            run_at: None,
            timings: Timings { admit: admit_ms, ..worked.timings },
            replayed: false,
            waited: Some(seconds),
        });
    }
    // It goes on, here or, handed on, elsewhere: the store says what it is, and when it ends.
    let told = waited(call, caller, id, seconds).await?;
    told.ok_or_else(|| Problem::internal("a context that was admitted is not there"))
}

/// What a context is when it has ended or the wait is over; nothing when it is not there.
pub(super) async fn waited(
    call: &Call,
    caller: &Caller,
    id: &ContextId,
    seconds: u32,
) -> Result<Option<Told>, Problem> {
    let milliseconds = (u64::from(seconds) * 1000).saturating_sub(clock::now().since(call.began));
    let mut snapshot = caller.snapshot.clone();
    let wait = Ask::Wait { id: id.clone(), milliseconds, to_the_end: false, news_after: None };
    let asked = ask_decided(&caller.principal.tenant, id, &mut snapshot, wait);
    match call.while_good(&caller.principal, Needed::ToCreate, asked).await?.map_err(internal)? {
        Reply::Context(found) => {
            let Found { view, parameters, result, ended, run_at, .. } = *found;
            let (id, timings) = (id.clone(), Timings::default());
            Ok(Some(Told {
                id,
                view,
                parameters,
                result,
                ended,
                run_at,
                timings,
                replayed: false,
                waited: Some(seconds),
            }))
        }
        _ => Ok(None),
    }
}

/// Waits for a context that others will run.
#[allow(clippy::too_many_arguments)]
pub(super) async fn wait_for(
    call: &Call,
    caller: &Caller,
    id: ContextId,
    view: Box<RawValue>,
    parameters: &RawValue,
    preference: &Prefer,
    admit_ms: u64,
    starts_later: bool,
) -> Result<Told, Problem> {
    let seconds = wait_seconds(preference);
    // Nobody waits for tomorrow who did not say so.
    if at_once(preference) || seconds == 0 || (starts_later && preference.wait_seconds.is_none()) {
        return Ok(Told::accepted(&id, view, parameters, None, admit_ms));
    }
    let told = waited(call, caller, &id, seconds).await?;
    Ok(told.unwrap_or_else(|| Told::accepted(&id, view, parameters, Some(seconds), admit_ms)))
}
