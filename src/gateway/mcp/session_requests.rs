//! Requests about sessions: they open, find, resume and end them, and respond to elicitations.

use std::rc::Rc;

use futures_util::future::join_all;
use serde_json::value::RawValue;

use crate::auth::credential_watch::RequiredPermissions;
use crate::execution::notifications::Notifications;
use crate::objects::contexts::messages::Get;
use crate::objects::reply::Reply;
use crate::objects::sessions::messages::{
    self as sessions, End, Ended, FindContext, Found, Gone, Open, Respond, ResponseEffect, Resume, Resumed, Sessions,
    Use, Used,
};
use crate::platform::streams::Stream;
use crate::platform::{random, tasks};
use crate::transport::mcp::{close_session, end_upstream};
use narthex_core::base::json::Object;
use narthex_core::http::page_cursor;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::mcp::client_capabilities::ClientCapabilities;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::revision::negotiated;
use narthex_core::mcp::session::{Opener, name, read_event_id};

use super::super::answer::{Answer, internal};
use super::super::call::{Call, Caller};
use super::super::contexts;
use super::call_follower::CallFollower;
use super::channel::{Channel, stream_headers};
use super::elicitation::{self, ElicitationMode};
use super::session::{HEADER, Session, ended};
use super::upstream::ClientProfile;
use super::{EndpointScope, relay, server_features};

/// The text that a session id is bound to.
fn id_binding(caller: &Caller, scope: EndpointScope<'_>) -> String {
    let principal = &caller.principal;
    format!("mcp session {} {} {}", principal.tenant, principal.principal, scope.name())
}

/// Opens a session for a client that supports elicitation, can watch resources, or needs a session at a server; returns
/// its id. `params` are those of `initialize`.
pub async fn open(
    caller: &Caller,
    scope: EndpointScope<'_>,
    params: Option<&RawValue>,
) -> Result<Option<String>, Problem> {
    let mut params = params.and_then(|params| Object::new(params.get(), "#").ok());
    let client = params.as_mut().and_then(|params| params.raw("capabilities"));
    // A session also stores the watched resources, and the client's sessions at servers.
    let needs_session = server_features::has_resources(scope, caller) || server_features::has_sessions(scope, caller);
    let Some(client) = client.filter(|client| needs_session || ClientCapabilities::read(client).can_be_asked()) else {
        return Ok(None);
    };
    let version = params.as_mut().and_then(|params| params.string("protocolVersion", 1..=32));
    let name = name(random::bytes());
    let principal = caller.principal.principal.clone();
    let opener = Opener {
        principal: principal.clone(),
        version: negotiated(version.as_deref()).into(),
        client: ClientCapabilities::storable(client)
            .ok_or_else(|| Problem::internal("the capabilities cannot be stored"))?,
    };
    let object = Sessions::object(&caller.principal.tenant, &name);
    sessions::call(&object, &principal, &Open(opener)).await.map_err(internal)?;
    Ok(Some(page_cursor::write(&caller.snapshot.cursor_key, &name, &id_binding(caller, scope))))
}

/// The session of a request, if it names one.
///
/// # Errors
/// 404 if the session has ended or belongs to another principal; the client then opens a new one.
pub async fn find(call: &Call, caller: &Caller, scope: EndpointScope<'_>) -> Result<Option<Session>, Problem> {
    let Some(id) = call.request.header(HEADER) else { return Ok(None) };
    let name = page_cursor::read(&caller.snapshot.cursor_key, id, &id_binding(caller, scope));
    let name = name.ok_or_else(ended)?;
    let object = Sessions::object(&caller.principal.tenant, &name);
    let Reply(used) = sessions::call(&object, &caller.principal.principal, &Use).await.map_err(internal)?;
    let Used::Used { opener, level } = used.map_err(|Gone::Gone| ended())?;
    Ok(Some(Session { object, opener, level }))
}

/// Ends a session, and its sessions at servers.
pub async fn end(call: &Call, caller: &Caller, session: &Session) -> Result<Answer, Problem> {
    let ended = session.ask(&End).await?;
    let closed = close_session(session.name()).await;
    if let Ok(Ended::Ended { upstreams }) = ended {
        // Sessions that other isolates opened.
        let others = upstreams.into_iter().filter(|(_, upstream)| !closed.contains(&upstream.session));
        join_all(others.map(|(service, upstream)| async move {
            let entry = caller.snapshot.service(service.as_str())?;
            let (peer, _) = relay::peer(call, caller, entry, ClientProfile::legacy(Some(session))).await.ok()?;
            end_upstream(&peer, upstream).await;
            Some(())
        }))
        .await;
    }
    Ok(Answer::empty(204))
}

/// A response of the client to an elicitation; the context continues once all responses have arrived.
pub async fn respond(
    call: &Call,
    caller: &mut Caller,
    session: &Session,
    id: &RawValue,
    result: Option<&RawValue>,
) -> Result<(), Error> {
    let response = result.filter(|result| result.get().starts_with('{')).map(RawValue::to_owned);
    match session.ask(&Respond { id: id.get().into(), response }).await? {
        Ok(ResponseEffect::Answered { context, question, responses }) => {
            let responses = RawValue::from_string(responses).map_err(|error| Problem::internal(error.to_string()))?;
            let submitted = elicitation::submit_if_open(call, caller, &context, question, &responses).await;
            if matches!(submitted, Err(Error::Params(_))) {
                // The elicitation is not repeated, so the context cannot continue.
                cancel_context(call, caller, &context).await?;
            }
            submitted
        }
        Ok(ResponseEffect::Refused { context }) => Ok(cancel_context(call, caller, &context).await?),
        // It waits for other responses, or the elicitation has been answered before or is closed.
        Ok(ResponseEffect::Done) | Err(Gone::Gone) => Ok(()),
    }
}

/// `notifications/cancelled`: cancels the context of the request, if it has not ended.
pub async fn cancel(
    call: &Call,
    caller: &mut Caller,
    session: &Session,
    params: Option<&RawValue>,
) -> Result<(), Problem> {
    let request = params.and_then(|params| Object::new(params.get(), "#").ok()?.raw("requestId"));
    let Some(request) = request else { return Ok(()) };
    match session.ask(&FindContext { request: request.get().into() }).await? {
        Ok(Found::Found { context: Some(context) }) => cancel_context(call, caller, &context).await,
        Ok(Found::Found { context: None }) | Err(Gone::Gone) => Ok(()),
    }
}

async fn cancel_context(call: &Call, caller: &mut Caller, context: &str) -> Result<(), Problem> {
    let (id, _) = contexts::visible(call, caller, context, |id| Get { id }).await?;
    contexts::Canceller::new(call, caller).cancel(&mut caller.snapshot, &id).await.map(drop).map_err(internal)
}

/// Resumes the stream of a call: writes the messages since the last event, and those to come.
pub async fn resume(
    call: &Call,
    caller: &mut Caller,
    scope: EndpointScope<'_>,
    session: Session,
    last_event: &str,
) -> Result<Answer, Problem> {
    let unknown = || Problem::new(Code::NotFound, "This session has no stream with this Last-Event-ID.");
    let (number, after) = read_event_id(last_event).ok_or_else(unknown)?;
    let (response, stream) = Stream::open(200, &stream_headers());
    let Some(after) = after else {
        // The client has the response, which was the last message.
        stream.close();
        return Ok(Answer::stream(response));
    };
    let resumed = session.ask(&Resume { call: number, after }).await?;
    let Ok(Resumed::Resumed { begun, turn, reached, events }) = resumed else {
        return Err(unknown());
    };
    let (id, _) = contexts::visible(call, caller, &begun.context, |id| Get { id }).await?;
    let raw = |text: String| RawValue::from_string(text).map_err(|error| Problem::internal(error.to_string()));
    let channel = Channel::resumable(stream, session.clone(), number, turn);
    for (number, text) in events {
        channel.write_numbered(number, &text);
    }
    let follower = CallFollower {
        canceller: contexts::Canceller::new(call, caller),
        snapshot: caller.snapshot.clone(),
        id,
        request: raw(begun.request)?,
        request_id: call.request_id.clone(),
        progress_token: begun.token.map(raw).transpose()?,
        legacy: true,
        names_task: begun.related,
        combined: scope.is_combined(),
        forwards_logs: false,
        notifications: Notifications::default(),
        elicitation: ElicitationMode::OnStream { capabilities: session.client_capabilities() },
        position: reached,
        credentials: Rc::new(call.watched(&caller.principal, RequiredPermissions::ToCreate)),
        pending: None,
    };
    tasks::keep_running(follower.write_to(channel));
    Ok(Answer::stream(response))
}
