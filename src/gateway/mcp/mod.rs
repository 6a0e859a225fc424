//! `/mcp` and `/mcp/{service}`: the Model Context Protocol over Streamable HTTP, in its legacy and modern revisions.
//!
//! A message passes five steps: origin, credentials, body, revision, method. The rules are in `narthex_core::mcp`; a
//! tool call becomes a context, as a request to the API does.

mod call_follower;
mod calls;
mod channel;
mod context_tools;
mod elicitation;
mod legacy;
mod legacy_tasks;
mod lists;
mod modern;
mod notification_stream;
mod passthrough;
mod relay;
mod result_links;
mod server_features;
mod server_listener;
mod server_notifications;
mod session;
mod session_requests;
mod subscriptions;
mod tasks;
mod tools;
mod upstream;

use serde_json::value::RawValue;

use crate::auth::{self, Age};
use crate::execution::Timings;
use narthex_core::base::service_id::ServiceId;
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
use super::registry_client::service_id;
use calls::ResponseMode;
use session::Session;

/// What a method returns.
enum MethodResponse {
    /// The result of `initialize`, and the id of the session that it opened.
    Initialized(String, String),
    /// A result, as the text of a JSON object.
    Result(String),
    /// The result of a tool call, and its timings.
    CallResult(String, Timings),
    /// A stream that will carry the response.
    Stream(Answer),
}

/// The tools behind a path: those of one service under its own names, or those of all services.
#[derive(Clone, Copy)]
struct EndpointScope<'p>(Option<&'p ServiceId>);

impl<'p> EndpointScope<'p> {
    /// Whether the endpoint combines all services, under names that identify their service.
    fn is_combined(self) -> bool {
        self.0.is_none()
    }

    /// The service's id; empty at the combined endpoint.
    fn name(self) -> &'p str {
        self.0.map_or("", ServiceId::as_str)
    }
}

pub async fn serve(call: &Call, service: Option<&str>) -> Answer {
    match handle(call, service).await {
        Ok(answer) => answer,
        Err(error) => error_answer(call, None, &error),
    }
}

/// Rejects a browser request from an origin that is not allowed. This check comes before all others.
pub fn reject_foreign_origin(call: &Call) -> Option<Answer> {
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
    let detail = "This origin or host is not allowed. See CORS_ORIGINS and PUBLIC_URL.";
    Some(error_answer(call, None, &Problem::new(Code::PermissionDenied, detail).into()))
}

async fn handle(call: &Call, service: Option<&str>) -> Result<Answer, Error> {
    let mut caller = authenticated(call, Age::Any).await?;
    let service = service.map(|id| service_id(&caller, id)).transpose()?;
    let scope = EndpointScope(service.as_ref());
    if call.method() != "POST" {
        return session_operation(call, &mut caller, scope).await;
    }
    let body = call.json_bytes(MAX_BODY_BYTES).await?;
    match message::read(&body) {
        Ok(Body::One(Message::Request(request))) => Ok(respond(call, &mut caller, scope, &request).await),
        Ok(Body::One(Message::Notification { method, params })) => {
            if let Some(session) = session_requests::find(call, &caller, scope).await?
                && method == "notifications/cancelled"
            {
                session_requests::cancel(call, &mut caller, &session, params).await?;
            }
            Ok(Answer::empty(202))
        }
        Ok(Body::One(Message::Response { id, result })) => {
            if let Some(session) = session_requests::find(call, &caller, scope).await? {
                session_requests::respond(call, &mut caller, &session, id, result).await?;
            }
            Ok(Answer::empty(202))
        }
        Ok(Body::Batch(items)) => batch(call, &mut caller, scope, items).await,
        Err(rejection) => Ok(error_answer(call, rejection.id, &rejection.error)),
    }
}

/// An operation on a session as a whole: `GET` opens or resumes a stream, `DELETE` ends the session.
async fn session_operation(call: &Call, caller: &mut Caller, scope: EndpointScope<'_>) -> Result<Answer, Error> {
    let Some(session) = session_requests::find(call, caller, scope).await? else { return Err(only_post()) };
    match (call.method(), call.request.header("last-event-id")) {
        ("DELETE", _) => Ok(session_requests::end(call, caller, &session).await?),
        ("HEAD", _) if call.accepts_stream() => Ok(Answer::head_of_stream()),
        // A HEAD request reads no stream, so it resumes none.
        ("HEAD", _) => Err(only_post()),
        (_, Some(last_event)) if !last_event.trim().starts_with(notification_stream::GET_EVENT_PREFIX) => {
            Ok(session_requests::resume(call, caller, scope, session, last_event).await?)
        }
        _ if call.accepts_stream() => subscriptions::open_get_stream(call, caller, scope, session).await,
        _ => Err(only_post()),
    }
}

fn only_post() -> Error {
    let detail = "This endpoint has no standalone stream; use POST.";
    Problem::new(Code::MethodNotAllowed, detail).with_header("Allow", "POST").into()
}

fn headers(call: &Call) -> Headers<'_> {
    let header = |name| call.request.header(name);
    Headers { version: header("mcp-protocol-version"), method: header("mcp-method"), name: header("mcp-name") }
}

async fn respond(call: &Call, caller: &mut Caller, scope: EndpointScope<'_>, request: &Request<'_>) -> Answer {
    let response = match revision::of(request, headers(call)) {
        Ok(Revision::Modern(envelope)) => modern::serve(call, caller, scope, request, &envelope).await,
        Ok(Revision::Legacy(_)) => match session_of(call, caller, scope, request).await {
            Ok(session) => legacy::serve(call, caller, scope, request, session.as_ref(), ResponseMode::Stream).await,
            Err(problem) => Err(problem.into()),
        },
        Err(error) => Err(error),
    };
    match response {
        Ok(MethodResponse::Result(result)) => Answer::text(200, JSON, responses::response(request.id, &result)),
        Ok(MethodResponse::CallResult(result, timings)) => {
            let mut answer = Answer::text(200, JSON, responses::response(request.id, &result));
            answer.timings = timings;
            answer
        }
        Ok(MethodResponse::Initialized(result, session)) => {
            Answer::text(200, JSON, responses::response(request.id, &result)).with(session::HEADER, &session)
        }
        Ok(MethodResponse::Stream(answer)) => answer,
        Err(error) => error_answer(call, Some(request.id), &error),
    }
}

/// The session of a request. `initialize` opens a session, so it is never part of one.
async fn session_of(
    call: &Call,
    caller: &Caller,
    scope: EndpointScope<'_>,
    request: &Request<'_>,
) -> Result<Option<Session>, Problem> {
    if request.method == "initialize" { Ok(None) } else { session_requests::find(call, caller, scope).await }
}

/// Answers a batch. Revisions up to 2025-03-26 have batches; the gateway rejects a batch of any later one.
async fn batch(
    call: &Call,
    caller: &mut Caller,
    scope: EndpointScope<'_>,
    items: Vec<Result<Message<'_>, Rejection<'_>>>,
) -> Result<Answer, Error> {
    let modern = |item: &Result<Message<'_>, _>| match item {
        Ok(Message::Request(request)) => revision::claims_modern(request),
        _ => false,
    };
    let has_no_batches = |version: &str| !BATCHED.contains(&version.trim());
    if items.iter().any(modern) || headers(call).version.is_some_and(has_no_batches) {
        return Err(Error::Invalid(format!("only revisions {} have batches", BATCHED.join(" and "))));
    }
    let session = session_requests::find(call, caller, scope).await?;
    let mut responses = Vec::new();
    let mut first = true;
    for item in items {
        if !matches!(item, Ok(Message::Request(_) | Message::Response { .. })) {
            if let Err(rejection) = item {
                responses.push(rejection.error.response(rejection.id, &call.request_id));
            }
            continue;
        }
        // The HTTP request itself counted against the limits for the first message; the others count one by one.
        let admitted = if std::mem::take(&mut first) { Ok(()) } else { check_limits_of_next(call, caller).await };
        match (item, admitted) {
            (Ok(Message::Request(request)), admitted) => {
                let result = match admitted {
                    Ok(()) => result_in_batch(call, caller, scope, &request, session.as_ref()).await,
                    Err(problem) => Err(problem.into()),
                };
                responses.push(match result {
                    Ok(result) => responses::response(request.id, &result),
                    Err(error) => error.response(Some(request.id), &call.request_id),
                });
            }
            // JSON-RPC has no id for an error about a response.
            (_, Err(problem)) => responses.push(Error::from(problem).response(None, &call.request_id)),
            (Ok(Message::Response { id, result }), Ok(())) => {
                if let Some(session) = &session {
                    session_requests::respond(call, caller, session, id, result).await?;
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

/// Checks the next message of a batch against the limits of its sender, as if it had arrived alone.
async fn check_limits_of_next(call: &Call, caller: &Caller) -> Result<(), Problem> {
    call.limits.begin_next(limits::Charge::EachCall);
    limits::request(call, &caller.principal, &caller.snapshot).await
}

async fn result_in_batch(
    call: &Call,
    caller: &mut Caller,
    scope: EndpointScope<'_>,
    request: &Request<'_>,
    session: Option<&Session>,
) -> Result<String, Error> {
    if request.method == "initialize" {
        return Err(Error::Invalid("initialize must not be part of a batch".into()));
    }
    match legacy::serve(call, caller, scope, request, session, ResponseMode::Inline).await? {
        MethodResponse::Result(result)
        | MethodResponse::CallResult(result, _)
        | MethodResponse::Initialized(result, _) => Ok(result),
        MethodResponse::Stream(_) => Err(Problem::internal("a stream in a batch").into()),
    }
}

/// An error in JSON-RPC's form, with the headers that its problem has in the API.
fn error_answer(call: &Call, id: Option<&RawValue>, error: &Error) -> Answer {
    let mut answer = Answer::text(error.status(), JSON, error.response(id, &call.request_id));
    if let Error::Rejected(problem) = error {
        for (name, value) in &problem.headers {
            // Tells the client where to get a token with more scope (RFC 9728 §5.1).
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

/// Refreshes the registry and, if it has changed, the caller's permissions: for operations that no store confirms.
async fn refresh_caller(call: &Call, caller: &mut Caller) -> Result<(), Problem> {
    let revision = caller.snapshot.revision;
    caller.refresh().await?;
    if caller.snapshot.revision != revision { caller.authenticate_again(call).await } else { Ok(()) }
}
