//! `tasks/get`, `tasks/update`, `tasks/cancel`: the contexts of earlier calls, for their owners.

use serde_json::value::RawValue;

use crate::objects::contexts::client::call_with_revision;
use crate::objects::contexts::messages::{ContextDetails, Get, NarrowInput};
use narthex_core::base::id::ContextId;
use narthex_core::base::json::Object;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::mcp::elicitation::ElicitationResponse;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::message::Request;
use narthex_core::mcp::responses::result;
use narthex_core::mcp::revision::Envelope;
use narthex_core::mcp::task::{Task, extension};

use super::super::answer::internal;
use super::super::call::{Call, Caller};
use super::super::contexts;
use super::{EndpointScope, result_links};

const DAY_MS: u64 = 86_400_000;

/// The retention of a task after its creation, in milliseconds.
pub fn ttl_ms(call: &Call) -> u64 {
    call.settings.context_retention_days * DAY_MS
}

/// Whether a call may be answered with a task: the client supports tasks and may read them.
pub fn supported_by(caller: &Caller, envelope: &Envelope) -> bool {
    envelope.able.tasks && caller.principal.may("contexts:read")
}

fn unreadable() -> Problem {
    Problem::internal("the view of a context is unreadable")
}

pub async fn serve(
    call: &Call,
    caller: &mut Caller,
    scope: EndpointScope<'_>,
    request: &Request<'_>,
    envelope: &Envelope,
) -> Result<String, Error> {
    if !envelope.able.tasks {
        return Err(Error::Capability { required: extension() });
    }
    let params = request.params.ok_or_else(|| Error::Params("taskId must be a string".into()))?;
    let mut params = Object::new(params.get(), "#").map_err(|fault| Error::Params(fault.detail.to_string()))?;
    let id = params.string("taskId", 1..=64).ok_or_else(|| Error::Params("taskId must be a string".into()))?;
    let done = match request.method.as_str() {
        "tasks/get" => return get(call, caller, scope, &id, envelope).await,
        "tasks/cancel" => cancel(call, caller, &id).await,
        "tasks/update" => match params.raw("inputResponses") {
            Some(responses) => update(call, caller, &id, responses).await,
            None => return Err(Error::Params("inputResponses must be an object".into())),
        },
        _ => return Err(Error::Method { name: request.method.clone(), legacy: false }),
    };
    done.map(|()| result(false, &[])).map_err(task_error)
}

/// An unknown task, the task of another principal, and unsuitable input are invalid parameters.
pub(super) fn task_error(problem: Problem) -> Error {
    match problem.code {
        Code::NotFound => Error::Params("No such task, or you do not have access to it.".into()),
        Code::ValidationFailed | Code::Conflict => {
            let faults = problem.errors.iter().map(|fault| format!("{} {}", fault.pointer, fault.detail));
            Error::Params([problem.detail.clone()].into_iter().chain(faults).collect::<Vec<_>>().join(" "))
        }
        _ => problem.into(),
    }
}

async fn find(call: &Call, caller: &mut Caller, id: &str) -> Result<(ContextId, Box<ContextDetails>), Problem> {
    contexts::visible(call, caller, id, |id| Get { id }).await
}

async fn get(
    call: &Call,
    caller: &mut Caller,
    scope: EndpointScope<'_>,
    id: &str,
    envelope: &Envelope,
) -> Result<String, Error> {
    caller.principal.require("contexts:read")?;
    let (_, found) = find(call, caller, id).await.map_err(task_error)?;
    caller.principal.require("contexts:read")?;
    let task = Task::read(found.view.get()).ok_or_else(unreadable)?;
    if task.asks() {
        let requests = task.question().requests();
        let by_name = serde_json::from_str(&requests).map_err(|_| unreadable())?;
        if let Some(required) = envelope.able.missing(&by_name) {
            return Err(Error::Capability { required });
        }
    }
    let result = result_links::rewrite(&caller.snapshot, scope.is_combined(), &found.view, found.result.as_deref());
    Ok(task.detailed(found.view.get(), result.as_deref(), ttl_ms(call)))
}

async fn cancel(call: &Call, caller: &mut Caller, id: &str) -> Result<(), Problem> {
    caller.principal.require("contexts:cancel")?;
    let (id, _) = find(call, caller, id).await?;
    caller.principal.require("contexts:cancel")?;
    // The cancellation of an ended task succeeds without effect.
    contexts::Canceller::new(call, caller).cancel(&mut caller.snapshot, &id).await.map(drop).map_err(internal)
}

/// Stores a partial response. If the context changed in the meantime, the client sees the whole input request again.
async fn store_partial(
    caller: &mut Caller,
    id: &ContextId,
    found: &ContextDetails,
    rest: String,
) -> Result<(), Problem> {
    let Some(from) = found.input_request.clone() else { return Ok(()) };
    let to = RawValue::from_string(rest).map_err(|error| Problem::internal(error.to_string()))?;
    let tenant = caller.principal.tenant.clone();
    let narrow = NarrowInput { id: id.clone(), from, to };
    call_with_revision(&tenant, id, &mut caller.snapshot, &narrow).await.map(drop).map_err(internal)
}

async fn update(call: &Call, caller: &mut Caller, id: &str, responses: &RawValue) -> Result<(), Problem> {
    let (id, found) = find(call, caller, id).await?;
    caller.principal.require(&format!("contexts:create:{}.{}", found.service, found.capability))?;
    let task = Task::read(found.view.get()).ok_or_else(unreadable)?;
    if !task.asks() {
        return Ok(());
    }
    match task.question().evaluate(responses.get()) {
        ElicitationResponse::Input(input) => {
            let input = RawValue::from_string(input).map_err(|error| Problem::internal(error.to_string()))?;
            contexts::submit_input(caller, &id, &found, &input).await.map(drop)
        }
        // No other client is asked, so the context would wait until its deadline.
        ElicitationResponse::Declined => {
            contexts::Canceller::new(call, caller).cancel(&mut caller.snapshot, &id).await.map(drop).map_err(internal)
        }
        ElicitationResponse::Invalid(detail) => Err(Problem::new(Code::ValidationFailed, detail)),
        ElicitationResponse::Partial(rest) => store_partial(caller, &id, &found, rest).await,
        ElicitationResponse::Unanswered => Ok(()),
    }
}
