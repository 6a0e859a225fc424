//! Tasks of revision 2025-11-25: `params.task` on a call, then `tasks/get`, `tasks/result`, `tasks/cancel`,
//! `tasks/list`.

use std::rc::Rc;

use serde_json::value::RawValue;

use crate::auth::credential_watch::RequiredPermissions;
use crate::execution::notifications::Notifications;
use crate::objects::contexts::messages::{CancelOutcome, ContextDetails, Get, Wait};
use crate::platform::streams::Stream;
use crate::platform::tasks::keep_running;
use narthex_core::base::id::ContextId;
use narthex_core::base::json::Object;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::mcp::error::Error;
use narthex_core::mcp::message::Request;
use narthex_core::mcp::responses::{quoted, result};
use narthex_core::mcp::session::StreamPosition;
use narthex_core::mcp::task::Task;

use super::super::answer::{Answer, internal};
use super::super::call::{Call, Caller};
use super::super::{contexts, lists};
use super::call_follower::CallFollower;
use super::calls::ResponseMode;
use super::channel::{Channel, stream_headers};
use super::elicitation::{ElicitationMode, read_task};
use super::session::Session;
use super::tasks::{task_error, ttl_ms};
use super::{EndpointScope, MethodResponse, refresh_caller};

/// The longest wait for the end of a cancelled call, in milliseconds.
const CANCEL_WAIT_MS: u64 = 10_000;
/// The number of tasks on one page.
const PAGE_SIZE: u64 = 50;

/// The declared capability of a server with tasks, with a comma before it.
pub const CAPABILITY: &str = r#","tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}"#;

fn task_json(call: &Call, found: &ContextDetails) -> Result<String, Problem> {
    Ok(read_task(&found.view)?.of_2025(found.result.as_deref().map(RawValue::get), ttl_ms(call)))
}

pub async fn serve(
    call: &Call,
    caller: &mut Caller,
    scope: EndpointScope<'_>,
    request: &Request<'_>,
    session: Option<&Session>,
    mode: ResponseMode,
) -> Result<MethodResponse, Error> {
    let mut params = request.params.and_then(|params| Object::new(params.get(), "#").ok());
    if request.method == "tasks/list" {
        let cursor = params.as_mut().and_then(|params| params.raw("cursor"));
        return list(call, caller, cursor).await.map(MethodResponse::Result);
    }
    let id = params.as_mut().and_then(|params| params.string("taskId", 1..=64));
    let id = id.ok_or_else(|| Error::Params("taskId must be a string".into()))?;
    match request.method.as_str() {
        "tasks/get" => {
            let (_, found) = find(call, caller, &id).await?;
            Ok(MethodResponse::Result(result(true, &[&task_json(call, &found)?])))
        }
        "tasks/cancel" => cancel(call, caller, &id).await.map(MethodResponse::Result),
        _ => call_result(call, caller, scope, request, (session, mode), &id).await,
    }
}

async fn find(call: &Call, caller: &mut Caller, id: &str) -> Result<(ContextId, Box<ContextDetails>), Error> {
    caller.principal.require("contexts:read")?;
    let found = contexts::visible(call, caller, id, |id| Get { id }).await.map_err(task_error)?;
    caller.principal.require("contexts:read")?;
    Ok(found)
}

async fn cancel(call: &Call, caller: &mut Caller, id: &str) -> Result<String, Error> {
    caller.principal.require("contexts:cancel")?;
    let (id, _) = find(call, caller, id).await?;
    let canceller = contexts::Canceller::new(call, caller);
    let outcome = canceller.cancel(&mut caller.snapshot, &id).await.map_err(internal)?;
    if matches!(outcome, Some(CancelOutcome::Ended) | None) {
        return Err(Error::Params("The task has already ended.".into()));
    }
    let wait = |id| Wait { id, milliseconds: CANCEL_WAIT_MS, to_the_end: true, news_after: None };
    let (_, found) = contexts::visible(call, caller, id.as_str(), wait).await.map_err(task_error)?;
    Ok(result(true, &[&task_json(call, &found)?]))
}

/// The result of the call once it has ended; until then a stream with its elicitations.
async fn call_result(
    call: &Call,
    caller: &mut Caller,
    scope: EndpointScope<'_>,
    request: &Request<'_>,
    (session, mode): (Option<&Session>, ResponseMode),
    id: &str,
) -> Result<MethodResponse, Error> {
    let (id, found) = find(call, caller, id).await?;
    let streams = mode == ResponseMode::Stream && call.accepts_stream();
    let elicitation = match session {
        Some(session) if streams => ElicitationMode::OnStream { capabilities: session.client_capabilities() },
        _ => ElicitationMode::Unsupported,
    };
    let mut follower = CallFollower {
        canceller: contexts::Canceller::new(call, caller),
        snapshot: caller.snapshot.clone(),
        id,
        request: request.id.to_owned(),
        request_id: call.request_id.clone(),
        progress_token: None,
        legacy: true,
        names_task: true,
        combined: scope.is_combined(),
        forwards_logs: false,
        notifications: Notifications::default(),
        elicitation,
        position: StreamPosition::default(),
        credentials: Rc::new(call.watched(&caller.principal, RequiredPermissions::one("contexts:read"))),
        pending: None,
    };
    if found.ended {
        return follower.result(&found.view, found.result.as_deref()).await.map(MethodResponse::Result);
    }
    if !streams {
        return follower.wait_for_result(call).await.map(MethodResponse::Result);
    }
    let (response, stream) = Stream::open(200, &stream_headers());
    let channel = match session {
        Some(session) => session.begin_call(follower.call_info(), stream).await?,
        None => Channel::plain(stream),
    };
    keep_running(follower.write_to(channel));
    Ok(MethodResponse::Stream(Answer::stream(response)))
}

async fn list(call: &Call, caller: &mut Caller, cursor: Option<&RawValue>) -> Result<String, Error> {
    caller.principal.require("contexts:read")?;
    // A refreshed snapshot also names the newest stores.
    refresh_caller(call, caller).await?;
    caller.principal.require("contexts:read")?;
    let bad_cursor = || Error::Params("The cursor is not from this list.".into());
    let cursor: Option<String> =
        cursor.map(|text| serde_json::from_str(text.get()).map_err(|_| bad_cursor())).transpose()?;
    let page = lists::own(caller, PAGE_SIZE, cursor.as_deref()).await;
    let (views, next) = page.map_err(|problem| match problem.code {
        Code::InvalidRequest => bad_cursor(),
        _ => problem.into(),
    })?;
    // A list has no results, so a result that declares itself an error is not recognized here.
    let tasks =
        views.iter().filter_map(|view| Some(format!("{{{}}}", Task::read(view.get())?.of_2025(None, ttl_ms(call)))));
    let tasks = format!(r#""tasks":[{}]"#, tasks.collect::<Vec<_>>().join(","));
    let next = next.map_or_else(String::new, |next| format!(r#""nextCursor":{}"#, quoted(&next)));
    Ok(result(true, &[&tasks, &next]))
}
