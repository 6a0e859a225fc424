//! What requests do with sessions: they open, find, resume and end them, and answer what was asked there.

use std::rc::Rc;

use futures_util::future::join_all;
use serde_json::value::RawValue;

use crate::auth::credential_watch::RequiredPermissions;
use crate::execution::notifications::Notifications;
use crate::objects::contexts::messages::Ask as StoreAsk;
use crate::objects::sessions::messages::{Ask, Reply};
use crate::platform::random;
use crate::platform::streams::Stream;
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
use super::asking::{self, Asking};
use super::channel::{Channel, stream_headers};
use super::following::Following;
use super::session::{HEADER, Session, ask_object, ended};
use super::upstream::Client;
use super::{Door, offered, relay};

/// What a session's id is bound to.
fn bound(caller: &Caller, door: Door<'_>) -> String {
    let principal = &caller.principal;
    format!("mcp session {} {} {}", principal.tenant, principal.principal, door.0.unwrap_or_default())
}

/// Begins a session for a client that can be asked, can watch resources, or needs one at a server: its id. `params` are those of `initialize`.
pub async fn open(caller: &Caller, door: Door<'_>, params: Option<&RawValue>) -> Result<Option<String>, Problem> {
    let mut params = params.and_then(|params| Object::new(params.get(), "#").ok());
    let client = params.as_mut().and_then(|params| params.raw("capabilities"));
    // What it watches has to be remembered, too, and which session it has at a server that keeps some.
    let needs_one = offered::has_resources(door, caller) || offered::has_sessions(door, caller);
    let Some(client) = client.filter(|client| needs_one || ClientCapabilities::read(client).can_be_asked()) else {
        return Ok(None);
    };
    let version = params.as_mut().and_then(|params| params.string("protocolVersion", 1..=32));
    let name = name(random::bytes());
    let principal = caller.principal.principal.clone();
    let opener = Opener {
        principal: principal.clone(),
        version: negotiated(version.as_deref()).into(),
        client: ClientCapabilities::storable(client)
            .ok_or_else(|| Problem::internal("capabilities that cannot be written"))?,
    };
    ask_object(&format!("{}/{name}", caller.principal.tenant), &principal, Ask::Open(opener)).await?;
    Ok(Some(page_cursor::write(&caller.snapshot.cursor_key, &name, &bound(caller, door))))
}

/// The session a request is of, if it names one.
///
/// # Errors
/// It has ended, or is another's: 404, on which a client begins anew.
pub async fn of(call: &Call, caller: &Caller, door: Door<'_>) -> Result<Option<Session>, Problem> {
    let Some(id) = call.request.header(HEADER) else { return Ok(None) };
    let name = page_cursor::read(&caller.snapshot.cursor_key, id, &bound(caller, door)).ok_or_else(ended)?;
    let object = format!("{}/{name}", caller.principal.tenant);
    match ask_object(&object, &caller.principal.principal, Ask::Use).await? {
        Reply::Used { opener, level } => Ok(Some(Session { object, opener, level })),
        _ => Err(ended()),
    }
}

/// Its sessions at servers end with it.
pub async fn end(call: &Call, caller: &Caller, session: &Session) -> Result<Answer, Problem> {
    let ended = session.ask(Ask::End).await?;
    let closed = close_session(session.name()).await;
    if let Reply::Ended { upstreams } = ended {
        // Those that were begun by other isolates.
        let others = upstreams.into_iter().filter(|(_, upstream)| !closed.contains(&upstream.session));
        join_all(others.map(|(service, upstream)| async move {
            let entry = caller.snapshot.service(&service)?;
            let (peer, _) = relay::peer(call, caller, entry, Client::legacy(Some(session))).await.ok()?;
            end_upstream(&peer, upstream).await;
            Some(())
        }))
        .await;
    }
    Ok(Answer::empty(204))
}

/// A response to what the client was asked: once it is whole, the context goes on.
pub async fn respond(
    call: &Call,
    caller: &mut Caller,
    session: &Session,
    id: &RawValue,
    result: Option<&RawValue>,
) -> Result<(), Error> {
    let response = result.filter(|result| result.get().starts_with('{')).map(RawValue::to_owned);
    match session.ask(Ask::Respond { id: id.get().into(), response }).await? {
        Reply::Answered { context, question, responses } => {
            let responses = RawValue::from_string(responses).map_err(|error| Problem::internal(error.to_string()))?;
            let given = asking::give(call, caller, &context, question, &responses).await;
            if matches!(given, Err(Error::Params(_))) {
                // It was asked once, and has nothing better to say.
                stop(call, caller, &context).await?;
            }
            given
        }
        Reply::Refused { context } => Ok(stop(call, caller, &context).await?),
        // An answer to what was answered before, or is not waited for any more.
        _ => Ok(()),
    }
}

/// `notifications/cancelled`: the request's context, if the request goes on.
pub async fn cancel(
    call: &Call,
    caller: &mut Caller,
    session: &Session,
    params: Option<&RawValue>,
) -> Result<(), Problem> {
    let request = params.and_then(|params| Object::new(params.get(), "#").ok()?.raw("requestId"));
    let Some(request) = request else { return Ok(()) };
    match session.ask(Ask::Find { request: request.get().into() }).await? {
        Reply::Found { context: Some(context) } => stop(call, caller, &context).await,
        _ => Ok(()),
    }
}

async fn stop(call: &Call, caller: &mut Caller, context: &str) -> Result<(), Problem> {
    let (id, _) = contexts::visible(call, caller, context, |id| StoreAsk::Get { id }).await?;
    contexts::Canceller::new(call, caller).cancel(&mut caller.snapshot, &id).await.map(drop).map_err(internal)
}

/// The stream of a call, taken up where it was left: what was sent since, and what comes.
pub async fn resume(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    session: Session,
    left_at: &str,
) -> Result<Answer, Problem> {
    let unknown =
        || Problem::new(Code::NotFound, "There is nothing to resume: no stream of this session was left there.");
    let (number, after) = read_event_id(left_at).ok_or_else(unknown)?;
    let (response, stream) = Stream::open(200, &stream_headers());
    let Some(after) = after else {
        // Its response was the last that there was to say.
        stream.close();
        return Ok(Answer::stream(response));
    };
    let Reply::Resumed { begun, turn, reached, events } = session.ask(Ask::Resume { call: number, after }).await?
    else {
        return Err(unknown());
    };
    let (id, _) = contexts::visible(call, caller, &begun.context, |id| StoreAsk::Get { id }).await?;
    let raw = |text: String| RawValue::from_string(text).map_err(|error| Problem::internal(error.to_string()));
    let channel = Channel::kept(stream, session.clone(), number, turn);
    for (number, text) in events {
        channel.repeat(number, &text);
    }
    let following = Following {
        canceller: contexts::Canceller::new(call, caller),
        snapshot: caller.snapshot.clone(),
        id,
        request: raw(begun.request)?,
        request_id: call.request_id.clone(),
        token: begun.token.map(raw).transpose()?,
        legacy: true,
        related: begun.related,
        joined: door.joins(),
        messages: false,
        notifications: Notifications::default(),
        asking: Asking::BySession { able: session.able() },
        reached,
        watched: Rc::new(call.watched(&caller.principal, RequiredPermissions::ToCreate)),
    };
    call.keep_running(following.write_to(channel));
    Ok(Answer::stream(response))
}
