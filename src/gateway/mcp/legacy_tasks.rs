//! Tasks of revision 2025-11-25: `params.task` on a call, then `tasks/get`, `tasks/result`, `tasks/cancel`, `tasks/list`.

use std::rc::Rc;

use serde_json::value::RawValue;

use crate::auth::credential_watch::RequiredPermissions;
use crate::execution::notifications::Notifications;
use crate::objects::contexts::messages::{Ask, CancelOutcome, ContextDetails};
use crate::platform::streams::Stream;
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
use super::asking::{Asking, read};
use super::calls::Answers;
use super::channel::{Channel, stream_headers};
use super::following::Following;
use super::session::Session;
use super::tasks::{refused, ttl_ms};
use super::{Door, Served, brought_up_to_date};

/// A cancelled call is given so long to end, in milliseconds.
const ENDS_MS: u64 = 10_000;
/// Tasks on one page.
const PAGE: u64 = 50;

/// What a server declares that has them.
pub const CAPABILITY: &str = r#","tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}"#;

fn shown(call: &Call, found: &ContextDetails) -> Result<String, Problem> {
    Ok(read(&found.view)?.of_2025(found.result.as_deref().map(RawValue::get), ttl_ms(call)))
}

pub async fn serve(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    request: &Request<'_>,
    session: Option<&Session>,
    answers: Answers,
) -> Result<Served, Error> {
    let mut params = request.params.and_then(|params| Object::new(params.get(), "#").ok());
    if request.method == "tasks/list" {
        let cursor = params.as_mut().and_then(|params| params.raw("cursor"));
        return list(call, caller, cursor).await.map(Served::Result);
    }
    let id = params.as_mut().and_then(|params| params.string("taskId", 1..=64));
    let id = id.ok_or_else(|| Error::Params("taskId must be a string".into()))?;
    match request.method.as_str() {
        "tasks/get" => {
            let (_, found) = looked_at(call, caller, &id).await?;
            Ok(Served::Result(result(true, &[&shown(call, &found)?])))
        }
        "tasks/cancel" => cancel(call, caller, &id).await.map(Served::Result),
        _ => outcome(call, caller, door, request, (session, answers), &id).await,
    }
}

async fn looked_at(call: &Call, caller: &mut Caller, id: &str) -> Result<(ContextId, Box<ContextDetails>), Error> {
    caller.principal.require("contexts:read")?;
    let found = contexts::visible(call, caller, id, |id| Ask::Get { id }).await.map_err(refused)?;
    caller.principal.require("contexts:read")?;
    Ok(found)
}

async fn cancel(call: &Call, caller: &mut Caller, id: &str) -> Result<String, Error> {
    caller.principal.require("contexts:cancel")?;
    let (id, _) = looked_at(call, caller, id).await?;
    let canceller = contexts::Canceller::new(call, caller);
    let outcome = canceller.cancel(&mut caller.snapshot, &id).await.map_err(internal)?;
    if matches!(outcome, Some(CancelOutcome::Ended) | None) {
        return Err(Error::Params("The task has already ended.".into()));
    }
    let wait = |id| Ask::Wait { id, milliseconds: ENDS_MS, to_the_end: true, news_after: None };
    let (_, found) = contexts::visible(call, caller, id.as_str(), wait).await.map_err(refused)?;
    Ok(result(true, &[&shown(call, &found)?]))
}

/// What the call would have answered, once it has ended; until then what it asks.
async fn outcome(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    request: &Request<'_>,
    (session, answers): (Option<&Session>, Answers),
    id: &str,
) -> Result<Served, Error> {
    let (id, found) = looked_at(call, caller, id).await?;
    let streams = answers == Answers::Stream && call.accepts_stream();
    let asking = match session {
        Some(session) if streams => Asking::BySession { able: session.able() },
        _ => Asking::Not,
    };
    let mut following = Following {
        canceller: contexts::Canceller::new(call, caller),
        snapshot: caller.snapshot.clone(),
        id,
        request: request.id.to_owned(),
        request_id: call.request_id.clone(),
        token: None,
        legacy: true,
        related: true,
        joined: door.joins(),
        messages: false,
        notifications: Notifications::default(),
        asking,
        reached: StreamPosition::default(),
        watched: Rc::new(call.watched(&caller.principal, RequiredPermissions::one("contexts:read"))),
    };
    if found.ended {
        return following.result(&found.view, found.result.as_deref()).await.map(Served::Result);
    }
    if !streams {
        return following.wait_out(call).await.map(Served::Result);
    }
    let (response, stream) = Stream::open(200, &stream_headers());
    let channel = match session {
        Some(session) => session.begin(following.begun(), stream).await?,
        None => Channel::plain(stream),
    };
    call.keep_running(following.write_to(channel));
    Ok(Served::Stream(Answer::stream(response)))
}

async fn list(call: &Call, caller: &mut Caller, cursor: Option<&RawValue>) -> Result<String, Error> {
    caller.principal.require("contexts:read")?;
    // A store that is new is listed too.
    brought_up_to_date(call, caller).await?;
    caller.principal.require("contexts:read")?;
    let wrong = || Error::Params("The cursor is not one this list gave out.".into());
    let cursor: Option<String> =
        cursor.map(|text| serde_json::from_str(text.get()).map_err(|_| wrong())).transpose()?;
    let listed = lists::own(caller, PAGE, cursor.as_deref()).await;
    let (views, next) = listed.map_err(|problem| match problem.code {
        Code::InvalidRequest => wrong(),
        _ => problem.into(),
    })?;
    // A list shows no results, so it cannot tell one that says of itself that it is an error.
    let tasks =
        views.iter().filter_map(|view| Some(format!("{{{}}}", Task::read(view.get())?.of_2025(None, ttl_ms(call)))));
    let tasks = format!(r#""tasks":[{}]"#, tasks.collect::<Vec<_>>().join(","));
    let next = next.map_or_else(String::new, |next| format!(r#""nextCursor":{}"#, quoted(&next)));
    Ok(result(true, &[&tasks, &next]))
}
