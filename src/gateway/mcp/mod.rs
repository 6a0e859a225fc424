//! `/mcp` and `/mcp/{service}`: the Model Context Protocol over Streamable HTTP, in both eras.
//!
//! The life of a message: origin → credentials → body → era → the method it names. What is decided of it is in
//! `core/mcp`; a tool's call becomes a context as by the API.

mod asking;
mod calls;
mod channel;
mod following;
mod hearing;
mod joined;
mod legacy;
mod legacy_tasks;
mod listening;
mod lists;
mod modern;
mod offered;
mod passing;
mod plain;
mod relay;
mod server;
mod session;
mod sessions;
mod tasks;
mod tools;
mod upstream;

use serde_json::value::RawValue;

use crate::auth::{self, Age};
use crate::execution::Timings;
use narthex_core::base::names::valid_id;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::mcp::BATCHED;
use narthex_core::mcp::allowed_origin::{OwnOrigins, is_allowed};
use narthex_core::mcp::error::Error;
use narthex_core::mcp::message::{self, Body, Message, Rejection, Request};
use narthex_core::mcp::request_headers::Headers;
use narthex_core::mcp::responses;
use narthex_core::mcp::revision::{self, Revision};

use super::answer::{Answer, JSON};
use super::authenticate::authenticated;
use super::call::{Call, Caller, MAX_BODY_BYTES};
use super::limits;
use calls::Answers;
use session::Session;

/// What a method has to say.
enum Served {
    /// The same, and the id of the session that begins with it.
    Opened(String, String),
    /// A result, an object's text.
    Result(String),
    /// The same, of a call, with what it took.
    Called(String, Timings),
    /// A stream that will have the response.
    Stream(Answer),
}

/// Which tools are behind a path: those of one service under its own names, or all.
#[derive(Clone, Copy)]
struct Door<'p>(Option<&'p str>);

impl Door<'_> {
    /// Whether the things of all services are behind it, by names that say whose they are.
    fn joins(self) -> bool {
        self.0.is_none()
    }
}

pub async fn serve(call: &Call, service: Option<&str>) -> Answer {
    match answer(call, Door(service)).await {
        Ok(answer) => answer,
        Err(error) => refused(call, None, &error),
    }
}

/// Refuses what a browser sends from where it may not. That comes before anything else.
pub fn foreign(call: &Call) -> Option<Answer> {
    let settings = &call.settings;
    let own = OwnOrigins {
        asked: &call.origin,
        public: settings.public_url.as_deref(),
        allowed: &settings.cors_origins,
        on_loopback: settings.allow_loopback,
    };
    if is_allowed(&own, call.request.header("origin")) {
        return None;
    }
    let detail = "This origin or host may not be used here. See CORS_ORIGINS and PUBLIC_URL.";
    Some(refused(call, None, &Problem::new(Code::PermissionDenied, detail).into()))
}

async fn answer(call: &Call, door: Door<'_>) -> Result<Answer, Error> {
    let mut caller = authenticated(call, Age::Any).await?;
    if door.0.is_some_and(|id| !valid_id(id)) {
        return Err(Problem::not_found("service").into());
    }
    if call.method() != "POST" {
        return operated(call, &mut caller, door).await;
    }
    let body = call.json_bytes(MAX_BODY_BYTES).await?;
    match message::read(&body) {
        Ok(Body::One(Message::Request(request))) => Ok(one(call, &mut caller, door, &request).await),
        Ok(Body::One(Message::Notification { method, params })) => {
            if let Some(session) = sessions::of(call, &caller, door).await?
                && method == "notifications/cancelled"
            {
                sessions::cancel(call, &mut caller, &session, params).await?;
            }
            Ok(Answer::empty(202))
        }
        Ok(Body::One(Message::Response { id, result })) => {
            if let Some(session) = sessions::of(call, &caller, door).await? {
                sessions::respond(call, &mut caller, &session, id, result).await?;
            }
            Ok(Answer::empty(202))
        }
        Ok(Body::Batch(items)) => batch(call, &mut caller, door, items).await,
        Err(refusal) => Ok(refused(call, refusal.id, &refusal.error)),
    }
}

/// What is done with a session as a whole: a stream of it is taken up again, or it is ended.
async fn operated(call: &Call, caller: &mut Caller, door: Door<'_>) -> Result<Answer, Error> {
    let Some(session) = sessions::of(call, caller, door).await? else { return Err(only_post()) };
    match (call.method(), call.request.header("last-event-id")) {
        ("DELETE", _) => Ok(sessions::end(call, caller, &session).await?),
        ("HEAD", _) if call.accepts_stream() => Ok(Answer::head_of_stream()),
        // Nothing is taken up again for a request that reads no stream.
        ("HEAD", _) => Err(only_post()),
        (_, Some(left_at)) if !left_at.trim().starts_with(listening::BY_GET) => {
            Ok(sessions::resume(call, caller, door, session, left_at).await?)
        }
        _ if call.accepts_stream() => listening::get(call, caller, door, session).await,
        _ => Err(only_post()),
    }
}

fn only_post() -> Error {
    let detail = "There is no stream here that no request asks for.";
    Problem::new(Code::MethodNotAllowed, detail).with_header("Allow", "POST").into()
}

fn headers(call: &Call) -> Headers<'_> {
    let header = |name| call.request.header(name);
    Headers { version: header("mcp-protocol-version"), method: header("mcp-method"), name: header("mcp-name") }
}

async fn one(call: &Call, caller: &mut Caller, door: Door<'_>, request: &Request<'_>) -> Answer {
    let served = match revision::of(request, headers(call)) {
        Ok(Revision::Modern(envelope)) => modern::serve(call, caller, door, request, &envelope).await,
        Ok(Revision::Legacy(_)) => match session_of(call, caller, door, request).await {
            Ok(session) => legacy::serve(call, caller, door, request, session.as_ref(), Answers::Stream).await,
            Err(problem) => Err(problem.into()),
        },
        Err(error) => Err(error),
    };
    match served {
        Ok(Served::Result(result)) => Answer::text(200, JSON, responses::response(request.id, &result)),
        Ok(Served::Called(result, timings)) => {
            let mut answer = Answer::text(200, JSON, responses::response(request.id, &result));
            answer.timings = timings;
            answer
        }
        Ok(Served::Opened(result, session)) => {
            Answer::text(200, JSON, responses::response(request.id, &result)).with(session::HEADER, &session)
        }
        Ok(Served::Stream(answer)) => answer,
        Err(error) => refused(call, Some(request.id), &error),
    }
}

/// A session begins with `initialize`, so that is never part of another.
async fn session_of(
    call: &Call,
    caller: &Caller,
    door: Door<'_>,
    request: &Request<'_>,
) -> Result<Option<Session>, Problem> {
    if request.method == "initialize" { Ok(None) } else { sessions::of(call, caller, door).await }
}

/// Revisions up to 2025-03-26 have batches; those after it refuse one.
async fn batch(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    items: Vec<Result<Message<'_>, Rejection<'_>>>,
) -> Result<Answer, Error> {
    let modern =
        |item: &Result<Message<'_>, _>| matches!(item, Ok(Message::Request(one)) if revision::claims_modern(one));
    let has_none = |version: &str| !BATCHED.contains(&version.trim());
    if items.iter().any(modern) || headers(call).version.is_some_and(has_none) {
        return Err(Error::Invalid(format!("only revisions {} have batches", BATCHED.join(" and "))));
    }
    let session = sessions::of(call, caller, door).await?;
    let mut responses = Vec::new();
    let mut first = true;
    for item in items {
        if !matches!(item, Ok(Message::Request(_) | Message::Response { .. })) {
            if let Err(refusal) = item {
                responses.push(refusal.error.response(refusal.id, &call.request_id));
            }
            continue;
        }
        // What the request itself took is the first message's; each other takes its own.
        let held = if std::mem::take(&mut first) { Ok(()) } else { next_of_batch(call, caller).await };
        match (item, held) {
            (Ok(Message::Request(request)), held) => {
                let served = match held {
                    Ok(()) => in_batch(call, caller, door, &request, session.as_ref()).await,
                    Err(problem) => Err(problem.into()),
                };
                responses.push(match served {
                    Ok(result) => responses::response(request.id, &result),
                    Err(error) => error.response(Some(request.id), &call.request_id),
                });
            }
            // What is wrong with a response has no id to be answered under.
            (_, Err(problem)) => responses.push(Error::from(problem).response(None, &call.request_id)),
            (Ok(Message::Response { id, result }), Ok(())) => {
                if let Some(session) = &session {
                    sessions::respond(call, caller, session, id, result).await?;
                }
            }
            (Ok(Message::Notification { .. }) | Err(_), Ok(())) => {}
        }
    }
    if responses.is_empty() {
        return Ok(Answer::empty(202));
    }
    Ok(Answer::text(200, JSON, format!("[{}]", responses.join(","))))
}

/// Holds the next message of a batch against the limits of who sent it, as if it had come alone.
async fn next_of_batch(call: &Call, caller: &Caller) -> Result<(), Problem> {
    call.limits.begin_next();
    limits::asker(call, &caller.principal, &caller.snapshot).await
}

async fn in_batch(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    request: &Request<'_>,
    session: Option<&Session>,
) -> Result<String, Error> {
    if request.method == "initialize" {
        return Err(Error::Invalid("initialize is never part of a batch".into()));
    }
    match legacy::serve(call, caller, door, request, session, Answers::Whole).await? {
        Served::Result(result) | Served::Called(result, _) | Served::Opened(result, _) => Ok(result),
        Served::Stream(_) => Err(Problem::internal("a stream in a batch").into()),
    }
}

/// What is refused, in JSON-RPC's form, with the headers the refusal has anywhere.
fn refused(call: &Call, id: Option<&RawValue>, error: &Error) -> Answer {
    let mut answer = Answer::text(error.status(), JSON, error.response(id, &call.request_id));
    if let Error::Rejected(problem) = error {
        for (name, value) in &problem.headers {
            // Where a client learns how to get a token that is enough (RFC 9728 §5.1).
            let step_up = *name == "WWW-Authenticate" && problem.code == Code::PermissionDenied && call.settings.oauth;
            let metadata = step_up.then(|| auth::metadata_of(&call.request, &call.settings));
            match metadata {
                Some(url) => answer.headers.set(name, &format!(r#"{value}, resource_metadata="{url}""#)),
                None => answer.headers.set(name, value),
            }
        }
        answer.code = Some(problem.code.as_str());
        answer.cause.clone_from(&problem.cause);
    }
    answer
}

/// The registry as it is now, and what the caller may do by it: for what no store confirms.
async fn brought_up_to_date(call: &Call, caller: &mut Caller) -> Result<(), Problem> {
    let known = caller.snapshot.revision;
    caller.refresh().await?;
    if caller.snapshot.revision != known { caller.authenticate_again(call).await } else { Ok(()) }
}
