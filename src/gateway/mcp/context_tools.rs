//! Three tools at `/mcp` for clients without tasks: they read the status and the result of a context, and cancel it.

use crate::objects::contexts::messages::{CancelOutcome, ContextDetails, Get, Wait};
use narthex_core::base::id::ContextId;
use narthex_core::base::json::Object;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::mcp::call_result;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::responses::{tool_error, tool_result};

use super::super::answer::internal;
use super::super::call::{Call, Caller};
use super::super::contexts;
use super::result_links;

const STATUS: &str = "context_status";
const RESULT: &str = "context_result";
const CANCEL: &str = "context_cancel";
/// The longest wait of `context_result`, in milliseconds: well within the timeouts of clients.
const WAIT_MS: u64 = 25_000;

/// The tools: name, permission, description, and whether it only reads.
const ALL: [(&str, &str, &str, &str); 3] = [
    (
        STATUS,
        "contexts:read",
        "Returns the status, the progress and the error of an earlier call, by its context id.",
        "true",
    ),
    (
        RESULT,
        "contexts:read",
        "Returns the result of an earlier call, by its context id. Waits up to 25 seconds for it to end.",
        "true",
    ),
    (CANCEL, "contexts:cancel", "Cancels an earlier call that has not ended, by its context id.", "false"),
];

pub fn is_context_tool(name: &str) -> bool {
    ALL.iter().any(|(known, ..)| *known == name)
}

/// The definitions of the tools that the caller may use.
pub fn definitions(caller: &Caller) -> String {
    let may = |permission: &str| caller.principal.may(permission);
    let shown: Vec<String> = ALL
        .iter()
        .filter(|(_, permission, ..)| may(permission))
        .map(|(name, _, description, reads)| {
            let input = concat!(
                r#"{"type":"object","properties":{"context_id":{"type":"string"}},"#,
                r#""required":["context_id"],"additionalProperties":false}"#
            );
            let hints = format!(r#"{{"readOnlyHint":{reads},"idempotentHint":true,"openWorldHint":false}}"#);
            format!(r#"{{"name":"{name}","description":"{description}","inputSchema":{input},"annotations":{hints}}}"#)
        })
        .collect();
    shown.join(",")
}

fn context_id(arguments: &str) -> Option<String> {
    let mut members = Object::new(arguments, "#").ok()?;
    let id = members.string("context_id", 1..=64);
    if members.finish().is_empty() { id } else { None }
}

pub async fn serve(
    call: &Call,
    caller: &mut Caller,
    name: &str,
    arguments: &str,
    legacy: bool,
) -> Result<String, Error> {
    let Some(id) = context_id(arguments) else {
        return Ok(tool_error(legacy, "Invalid arguments: context_id must be a string, and the only member.", None));
    };
    match call_tool(call, caller, name, &id, legacy).await {
        Ok(result) => Ok(result),
        Err(problem) if problem.code == Code::NotFound => Ok(tool_error(legacy, &problem.detail, None)),
        Err(problem) => Err(problem.into()),
    }
}

async fn call_tool(call: &Call, caller: &mut Caller, name: &str, id: &str, legacy: bool) -> Result<String, Problem> {
    let get = |id: ContextId| Get { id };
    let wait = |id: ContextId| Wait { id, milliseconds: WAIT_MS, to_the_end: false, news_after: None };
    match name {
        CANCEL => {
            caller.principal.require("contexts:cancel")?;
            let (id, _) = contexts::visible(call, caller, id, get).await?;
            caller.principal.require("contexts:cancel")?;
            let outcome =
                contexts::Canceller::new(call, caller).cancel(&mut caller.snapshot, &id).await.map_err(internal)?;
            Ok(match outcome {
                Some(CancelOutcome::Now) => tool_result(legacy, Some(r#"{"cancelled":true}"#), id.as_str()),
                Some(CancelOutcome::Asked) => tool_result(legacy, Some(r#"{"cancelled":"asked for"}"#), id.as_str()),
                Some(CancelOutcome::Ended) | None => {
                    tool_error(legacy, "The context has already ended.", Some(id.as_str()))
                }
            })
        }
        RESULT => {
            caller.principal.require("contexts:read")?;
            let (id, found) = contexts::visible(call, caller, id, wait).await?;
            caller.principal.require("contexts:read")?;
            Ok(result(caller, legacy, &id, &found))
        }
        _ => {
            caller.principal.require("contexts:read")?;
            let (id, found) = contexts::visible(call, caller, id, get).await?;
            caller.principal.require("contexts:read")?;
            Ok(tool_result(legacy, Some(found.view.get()), id.as_str()))
        }
    }
}

fn result(caller: &Caller, legacy: bool, id: &ContextId, found: &ContextDetails) -> String {
    if !found.ended && found.input_request.is_none() {
        let message = format!("The call has not ended: it is {}. Try again later.", found.status.as_str());
        return tool_error(legacy, &message, Some(id.as_str()));
    }
    let result = result_links::rewrite(&caller.snapshot, true, &found.view, found.result.as_deref());
    call_result::of(legacy, id.as_str(), found.view.get(), result.as_deref())
}
