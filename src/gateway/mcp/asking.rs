//! What a call's work asks of whoever called, and the answer to it. In the modern era the question is the call's result,
//! and the answer is the same call again, with the state it was given.

use serde_json::value::RawValue;

use crate::execution::{Timings, call_with_revision};
use crate::objects::contexts::messages::{Ask, ContextDetails, Reply};
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
use super::tasks::refused;

/// How a call's client is asked.
pub enum Asking {
    /// By the call's result.
    ByResult { able: ClientCapabilities, called: CallIdentity, key: StateKey },
    /// By requests on the call's stream.
    BySession { able: ClientCapabilities },
    /// Not at all. It is told where the answer goes, for who can give it there.
    Not,
}

/// A context as it was when it was looked at.
pub struct Standing {
    pub id: ContextId,
    pub view: Box<RawValue>,
    pub result: Option<Box<RawValue>>,
    pub ended: bool,
    pub timings: Timings,
}

impl Standing {
    pub fn delivered(state: ContextState) -> Self {
        let ContextState { id, view, result, ended, timings, .. } = state;
        Self { id, view, result, ended, timings }
    }

    pub fn found(id: ContextId, found: ContextDetails) -> Self {
        let ContextDetails { view, result, ended, .. } = found;
        Self { id, view, result, ended, timings: Timings::default() }
    }

    pub fn task(&self) -> Result<Task<'_>, Problem> {
        read(&self.view)
    }
}

pub fn read(view: &RawValue) -> Result<Task<'_>, Problem> {
    Task::read(view.get()).ok_or_else(|| Problem::internal("a context that cannot be read"))
}

impl Asking {
    /// Whether the client can be asked this while the call goes on.
    pub fn asks_on_the_way(&self, view: &RawValue) -> Result<bool, Problem> {
        let Self::BySession { able } = self else { return Ok(false) };
        let requests = read(view)?.question().requests();
        let by_name =
            serde_json::from_str(&requests).map_err(|_| Problem::internal("a question that cannot be read"))?;
        Ok(able.missing(&by_name).is_none())
    }

    /// The result of a context that has ended or asks for input.
    pub fn result(&self, legacy: bool, view: &RawValue, result: Option<&str>) -> Result<String, Error> {
        let task = read(view)?;
        match self {
            Self::ByResult { able, called, key } if task.asks() => question(&task, *able, called, key),
            Self::ByResult { .. } | Self::BySession { .. } | Self::Not => {
                if let Some(refusal) = call_result::refusal_of(legacy, view.get()) {
                    return Err(Error::Forwarded(refusal));
                }
                Ok(call_result::of(legacy, task.id(), view.get(), result))
            }
        }
    }
}

fn question(task: &Task<'_>, able: ClientCapabilities, called: &CallIdentity, key: &StateKey) -> Result<String, Error> {
    let question = task.question();
    let requests = question.requests();
    let by_name = serde_json::from_str(&requests).map_err(|_| Problem::internal("a question that cannot be read"))?;
    if let Some(required) = able.missing(&by_name) {
        return Err(Error::Capability { required });
    }
    let until = task.expires_at().ok_or_else(|| Problem::internal("a context without an end"))?;
    let state = State::new(called, task.id(), question.number).sign(key, until);
    let state = state.ok_or_else(|| Problem::internal("a state that cannot be signed"))?;
    Ok(responses::input_required(&requests, &state, task.id()))
}

/// Takes a repeated call for the answer to what was asked, and gives what the context is some seconds later.
pub async fn answered(
    call: &Call,
    caller: &mut Caller,
    called: &CallIdentity,
    signed: &str,
    responses: Option<&RawValue>,
    seconds: u32,
) -> Result<Standing, Error> {
    let key = caller.snapshot.state_key.clone();
    let Some(state) = State::verify(&key, signed, called, clock::now()) else {
        return Err(Error::Params(
            "The requestState is none that was given for this call, or its time is over.".into(),
        ));
    };
    let (id, found) = contexts::visible(call, caller, &state.context, |id| Ask::Get { id }).await.map_err(refused)?;
    let task = read(&found.view)?;
    if !task.asks() || task.question().number != state.question {
        return Err(Error::Params("The requestState is of a question that is not open any more.".into()));
    }
    match responses {
        Some(responses) => answer(call, caller, id, found, responses, seconds).await,
        None => Ok(Standing::found(id, *found)),
    }
}

/// A context once it has ended, asks for something, or was taken on by its service to be ended later; or after a while.
pub async fn taken(caller: &mut Caller, id: ContextId, seconds: u32) -> Result<Standing, Problem> {
    let milliseconds = u64::from(seconds) * 1000;
    let follow = Ask::Follow { id: id.clone(), milliseconds, asked: 0, news_after: None, taken: true };
    let tenant = caller.principal.tenant.clone();
    match call_with_revision(&tenant, &id, &mut caller.snapshot, follow).await.map_err(internal)? {
        Reply::Context(found) => Ok(Standing::found(id, *found)),
        _ => Err(Problem::internal("a context that was admitted is not there")),
    }
}

/// The same for responses that came with the first call, as far as they fit what is asked.
pub async fn answered_before(
    call: &Call,
    caller: &mut Caller,
    standing: Standing,
    responses: &RawValue,
    seconds: u32,
) -> Result<Standing, Error> {
    let (id, found) =
        contexts::visible(call, caller, standing.id.as_str(), |id| Ask::Get { id }).await.map_err(refused)?;
    answer(call, caller, id, found, responses, seconds).await
}

async fn answer(
    call: &Call,
    caller: &mut Caller,
    id: ContextId,
    found: Box<ContextDetails>,
    responses: &RawValue,
    seconds: u32,
) -> Result<Standing, Error> {
    if !take(call, caller, &id, &found, responses).await? {
        // It is asked again.
        return Ok(Standing::found(id, *found));
    }
    Ok(taken(caller, id, seconds).await?)
}

/// Gives a context the responses to its question, if that is still open.
pub async fn give(
    call: &Call,
    caller: &mut Caller,
    context: &str,
    question: usize,
    responses: &RawValue,
) -> Result<(), Error> {
    let (id, found) = contexts::visible(call, caller, context, |id| Ask::Get { id }).await?;
    let task = read(&found.view)?;
    if !task.asks() || task.question().number != question || take(call, caller, &id, &found, responses).await? {
        return Ok(());
    }
    Err(Error::Params("The response does not answer what was asked.".into()))
}

/// False when that is no answer to all that is asked.
async fn take(
    call: &Call,
    caller: &mut Caller,
    id: &ContextId,
    found: &ContextDetails,
    responses: &RawValue,
) -> Result<bool, Error> {
    caller.principal.require(&format!("contexts:create:{}.{}", found.service, found.capability))?;
    match read(&found.view)?.question().evaluate(responses.get()) {
        ElicitationResponse::Input(input) => {
            let input = RawValue::from_string(input).map_err(|error| Problem::internal(error.to_string()))?;
            contexts::submit_input(caller, id, found, &input).await.map_err(refused)?;
        }
        ElicitationResponse::Declined => {
            // Nobody else is asked: it would wait until its time is over.
            contexts::Canceller::new(call, caller).cancel(&mut caller.snapshot, id).await.map_err(internal)?;
        }
        ElicitationResponse::Invalid(detail) => return Err(Error::Params(detail)),
        ElicitationResponse::Partial(_) | ElicitationResponse::Unanswered => return Ok(false),
    }
    Ok(true)
}
