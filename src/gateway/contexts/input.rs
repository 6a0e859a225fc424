//! `POST /v1/contexts/{id}/input`: answers the input request of a service.

use serde_json::value::RawValue;

use crate::objects::contexts::client::call_with_revision;
use crate::objects::contexts::messages::{AnswerInput, ChangeReply, ContextDetails, Get};
use narthex_core::access::principal::denied;
use narthex_core::base::id::ContextId;
use narthex_core::base::json::{Fault, Object};
use narthex_core::context::create_request::MAX_PARAMETERS_BYTES;
use narthex_core::context::status::Status;
use narthex_core::http::prefer;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::mcp::client::elicitation;
use narthex_core::services::schema::Schema;

use super::super::answer::{Answer, internal};
use super::super::call::{Call, Caller};
use super::context_state::{ContextState, wait_for_context};
use super::visible;

/// Reads the body: `{"input": …}`.
fn read(text: &str) -> Result<&RawValue, Problem> {
    let mut body = Object::new(text, "#").map_err(|fault| Problem::invalid(vec![fault]))?;
    let input = body.raw_or_null("input");
    let input = body.require("input", input);
    if input.is_some_and(|input| input.get().len() > MAX_PARAMETERS_BYTES) {
        body.fault("input", format!("must have at most {MAX_PARAMETERS_BYTES} bytes"));
    }
    let faults = body.finish();
    input.filter(|_| faults.is_empty()).ok_or_else(|| Problem::invalid(faults))
}

/// The faults of an input under the schema of its input request.
fn schema_faults(input: &RawValue, request: Option<&RawValue>) -> Vec<Fault> {
    let mut request = request.and_then(|request| Object::new(request.get(), "#").ok());
    let schema = request.as_mut().and_then(|request| request.raw("schema"));
    // Responses of MCP clients to MCP servers pass through unchecked.
    let is_passthrough = request.is_some_and(|request| request.has("mcp"))
        && Object::new(input.get(), "#").is_ok_and(|input| input.has("inputResponses"));
    if is_passthrough {
        return Vec::new();
    }
    // The schema is known to compile: it was checked when the service sent it.
    let Some(schema) = schema.and_then(|schema| Schema::compile(schema.get()).ok()) else { return Vec::new() };
    let faults = schema.check(input.get()).err().unwrap_or_default().into_iter();
    faults.map(|fault| Fault { pointer: format!("#/input{}", fault.pointer), ..fault }).collect()
}

fn no_input_request(found: &ContextDetails) -> Problem {
    let status = found.status.as_str();
    Problem::new(Code::Conflict, format!("The context is {status}: it has no open input request."))
}

pub async fn input(call: &Call, mut caller: Caller, id: &str) -> Result<Answer, Problem> {
    if !caller.principal.may_create_any() {
        return Err(denied("contexts:create:*.*"));
    }
    let preference = prefer::parse(call.request.header("prefer"));
    let body = call.json_text().await?;
    let input = read(&body)?;
    let (id, found) = visible(call, &mut caller, id, |id| Get { id }).await?;
    caller.principal.require(&format!("contexts:create:{}.{}", found.service, found.capability))?;
    let view = submit_input(&mut caller, &id, &found, input).await?;
    let accepted = ContextState::accepted(&id, view, &found.parameters, 0);
    let state = wait_for_context(call, &caller, accepted, &preference, false).await?;
    Ok(state.answer(&preference))
}

/// Submits an input that fits the context's input request; returns the view of the context after that. The caller's
/// permission has been checked.
pub async fn submit_input(
    caller: &mut Caller,
    id: &ContextId,
    found: &ContextDetails,
    input: &RawValue,
) -> Result<Box<RawValue>, Problem> {
    if found.status != Status::InputRequired {
        return Err(no_input_request(found));
    }
    // Input requests of MCP servers are answered in MCP's form.
    let response = found.input_request.as_deref().and_then(|request| elicitation::input(request, input));
    let response = response.transpose().map_err(Problem::invalid)?;
    let faults = match &response {
        Some(_) => Vec::new(),
        None => schema_faults(input, found.input_request.as_deref()),
    };
    let input = response.as_deref().unwrap_or(input);
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    let tenant = caller.principal.tenant.clone();
    let answer = AnswerInput { id: id.clone(), input: input.to_owned() };
    match call_with_revision(&tenant, id, &mut caller.snapshot, &answer).await.map_err(internal)? {
        ChangeReply::Changed { view, .. } => Ok(view),
        ChangeReply::Refused { .. } => Err(no_input_request(found)),
        ChangeReply::Nothing => Err(Problem::not_found("context")),
    }
}
