//! Elicitation: input requests of a call's context, passed to the call's client, and the client's responses. In the
//! modern revision the question is the call's result, and the client responds by repeating the call with the state from
//! that result.

use futures_channel::oneshot;
use serde_json::value::RawValue;

use crate::execution::{Timings, WaitOutcome};
use crate::objects::contexts::client::call_with_revision;
use crate::objects::contexts::messages::{ContextDetails, Follow, Get};
use crate::platform::clock;
use narthex_core::access::oauth::signed_state::StateKey;
use narthex_core::base::id::ContextId;
use narthex_core::http::problem::Problem;
use narthex_core::mcp::client_capabilities::ClientCapabilities;
use narthex_core::mcp::elicitation::ElicitationResponse;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::request_state::{CallIdentity, State};
use narthex_core::mcp::task::Task;
use narthex_core::mcp::{call_result, responses};

use super::super::answer::internal;
use super::super::call::{Call, Caller};
use super::super::contexts::{self, ContextState};
use super::tasks::task_error;

/// How a call's client receives elicitations.
pub enum ElicitationMode {
    /// In the call's result.
    InResult { capabilities: ClientCapabilities, identity: CallIdentity, key: StateKey },
    /// As requests on the call's stream.
    OnStream { capabilities: ClientCapabilities },
    /// Not at all. The result names the context, whose input request can be answered elsewhere.
    Unsupported,
}

/// The state of a call's context at one moment.
pub struct CallState {
    pub id: ContextId,
    pub view: Box<RawValue>,
    pub result: Option<Box<RawValue>>,
    pub ended: bool,
    pub timings: Timings,
    /// Where the end arrives of a call whose result is not kept. The view is not known until then.
    pub pending: Option<oneshot::Receiver<WaitOutcome>>,
}

impl From<ContextState> for CallState {
    fn from(state: ContextState) -> Self {
        let ContextState { id, view, result, ended, timings, pending, .. } = state;
        Self { id, view, result, ended, timings, pending }
    }
}

impl CallState {
    pub fn of_found(id: ContextId, found: ContextDetails) -> Self {
        let ContextDetails { view, result, ended, .. } = found;
        Self { id, view, result, ended, timings: Timings::default(), pending: None }
    }

    /// Whether it waits for input of the client.
    pub fn asks(&self) -> Result<bool, Problem> {
        Ok(self.pending.is_none() && self.task()?.asks())
    }

    fn task(&self) -> Result<Task<'_>, Problem> {
        read_task(&self.view)
    }
}

pub fn read_task(view: &RawValue) -> Result<Task<'_>, Problem> {
    Task::read(view.get()).ok_or_else(|| Problem::internal("the view of a context is unreadable"))
}

impl ElicitationMode {
    /// Whether the client can answer this elicitation on the call's stream.
    pub fn can_ask_on_stream(&self, view: &RawValue) -> Result<bool, Problem> {
        let Self::OnStream { capabilities } = self else { return Ok(false) };
        let requests = read_task(view)?.question().requests();
        let by_name = serde_json::from_str(&requests).map_err(|_| Problem::internal("an elicitation is unreadable"))?;
        Ok(capabilities.missing(&by_name).is_none())
    }

    /// The result of a context that has ended or requests input.
    pub fn result(&self, legacy: bool, view: &RawValue, result: Option<&str>) -> Result<String, Error> {
        let task = read_task(view)?;
        match self {
            Self::InResult { capabilities, identity, key } if task.asks() => {
                input_required(&task, *capabilities, identity, key)
            }
            Self::InResult { .. } | Self::OnStream { .. } | Self::Unsupported => {
                if let Some(error) = call_result::refusal_of(legacy, view.get()) {
                    return Err(Error::Forwarded(error));
                }
                Ok(call_result::of(legacy, task.id(), view.get(), result))
            }
        }
    }
}

/// The result that asks the client for input, with the signed state for the repeated call.
fn input_required(
    task: &Task<'_>,
    capabilities: ClientCapabilities,
    identity: &CallIdentity,
    key: &StateKey,
) -> Result<String, Error> {
    let question = task.question();
    let requests = question.requests();
    let by_name = serde_json::from_str(&requests).map_err(|_| Problem::internal("an elicitation is unreadable"))?;
    if let Some(required) = capabilities.missing(&by_name) {
        return Err(Error::Capability { required });
    }
    let until = task.expires_at().ok_or_else(|| Problem::internal("the context has no deadline"))?;
    let state = State::new(identity, task.id(), question.number).sign(key, until);
    let state = state.ok_or_else(|| Problem::internal("the request state cannot be signed"))?;
    Ok(responses::input_required(&requests, &state, task.id()))
}

/// Continues a context with the responses of a repeated call; returns its state after at most `seconds`.
pub async fn continue_call(
    call: &Call,
    caller: &mut Caller,
    identity: &CallIdentity,
    signed: &str,
    responses: Option<&RawValue>,
    seconds: u32,
) -> Result<CallState, Error> {
    let key = caller.snapshot.state_key.clone();
    let Some(state) = State::verify(&key, signed, identity, clock::now()) else {
        return Err(Error::Params("The requestState does not belong to this call, or it has expired.".into()));
    };
    let (id, found) = contexts::visible(call, caller, &state.context, |id| Get { id }).await.map_err(task_error)?;
    let task = read_task(&found.view)?;
    if !task.asks() || task.question().number != state.question {
        return Err(Error::Params(
            "The requestState belongs to an input request that is already answered or closed.".into(),
        ));
    }
    match responses {
        Some(responses) => submit_and_wait(call, caller, id, found, responses, seconds).await,
        None => Ok(CallState::of_found(id, *found)),
    }
}

/// The state of a context once it has ended, requests input, or was accepted by its service as background work; at the
/// latest after `seconds`.
pub async fn wait_until_accepted(caller: &mut Caller, id: ContextId, seconds: u32) -> Result<CallState, Problem> {
    let milliseconds = u64::from(seconds) * 1000;
    let follow = Follow { id: id.clone(), milliseconds, asked: 0, news_after: None, taken: true };
    let tenant = caller.principal.tenant.clone();
    let found = call_with_revision(&tenant, &id, &mut caller.snapshot, &follow).await.map_err(internal)?.found();
    let found = found.ok_or_else(|| Problem::internal("the store does not know an admitted context"))?;
    Ok(CallState::of_found(id, *found))
}

/// Submits responses that came with the first call, as far as they fit the elicitation.
pub async fn apply_early_responses(
    call: &Call,
    caller: &mut Caller,
    state: CallState,
    responses: &RawValue,
    seconds: u32,
) -> Result<CallState, Error> {
    let (id, found) = contexts::visible(call, caller, state.id.as_str(), |id| Get { id }).await.map_err(task_error)?;
    submit_and_wait(call, caller, id, found, responses, seconds).await
}

async fn submit_and_wait(
    call: &Call,
    caller: &mut Caller,
    id: ContextId,
    found: Box<ContextDetails>,
    responses: &RawValue,
    seconds: u32,
) -> Result<CallState, Error> {
    if !submit(call, caller, &id, &found, responses).await? {
        // The client gets the same elicitation again.
        return Ok(CallState::of_found(id, *found));
    }
    Ok(wait_until_accepted(caller, id, seconds).await?)
}

/// Submits the responses to an elicitation, if it is still open.
pub async fn submit_if_open(
    call: &Call,
    caller: &mut Caller,
    context: &str,
    question: usize,
    responses: &RawValue,
) -> Result<(), Error> {
    let (id, found) = contexts::visible(call, caller, context, |id| Get { id }).await?;
    let task = read_task(&found.view)?;
    if !task.asks() || task.question().number != question || submit(call, caller, &id, &found, responses).await? {
        return Ok(());
    }
    Err(Error::Params("The response does not match the input request.".into()))
}

/// Submits the responses to a context's elicitation; false if they do not answer all of it.
async fn submit(
    call: &Call,
    caller: &mut Caller,
    id: &ContextId,
    found: &ContextDetails,
    responses: &RawValue,
) -> Result<bool, Error> {
    caller.principal.require(&format!("contexts:create:{}.{}", found.service, found.capability))?;
    match read_task(&found.view)?.question().evaluate(responses.get()) {
        ElicitationResponse::Input(input) => {
            let input = RawValue::from_string(input).map_err(|error| Problem::internal(error.to_string()))?;
            contexts::submit_input(caller, id, found, &input).await.map_err(task_error)?;
        }
        ElicitationResponse::Declined => {
            // No other client is asked, so the context would wait until its deadline.
            contexts::Canceller::new(call, caller).cancel(&mut caller.snapshot, id).await.map_err(internal)?;
        }
        ElicitationResponse::Invalid(detail) => return Err(Error::Params(detail)),
        ElicitationResponse::Partial(_) | ElicitationResponse::Unanswered => return Ok(false),
    }
    Ok(true)
}
