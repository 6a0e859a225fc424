//! Finds out which revision an upstream supports, and opens a session for legacy revisions. `link_cache.rs` keeps the
//! result.

use std::rc::Rc;

use serde_json::json;

use crate::platform::clock;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::CallResult;
use narthex_core::mcp::LEGACY;
use narthex_core::mcp::client::UpstreamRevision;
use narthex_core::mcp::client::discovery::{Discovery, discovered, initialized, offered, unknown};
use narthex_core::mcp::client::request::{self, UpstreamRequest};
use narthex_core::mcp::client::response::{ExpectedResponse, Response, ResponseError, UpstreamMessage};
use narthex_core::mcp::client::result::RequestOutcome;
use narthex_core::services::tool_catalogue::ServerDescription;

use super::exchange::{SendResult, end_session, left, send};
use super::link::{Link, next_id};
use super::link_cache::{self, Turn};
use super::{NOTIFY_TIMEOUT_MS, Peer, shared_sessions};

/// How long a modern server may take to show whether it has legacy sessions as well, in milliseconds.
const LEGACY_CHECK_TIMEOUT_MS: u64 = 5_000;

/// The link to an upstream. One request at a time opens it. `hint` is a revision that the server is known to support.
pub async fn open(
    peer: &Peer,
    hint: Option<&str>,
    until: Timestamp,
    deadline: bool,
) -> Result<Rc<Link>, RequestOutcome> {
    open_after(peer, hint, None, until, deadline).await
}

/// As [`open`], after the session `gone` has turned out to be lost.
pub async fn open_after(
    peer: &Peer,
    hint: Option<&str>,
    gone: Option<&str>,
    until: Timestamp,
    deadline: bool,
) -> Result<Rc<Link>, RequestOutcome> {
    let revision = hint.and_then(UpstreamRevision::of);
    let follows = peer.session.is_some() && !link_cache::is_modern_only(peer);
    if revision == Some(UpstreamRevision::Modern) && !follows {
        return Ok(link_cache::get(peer)
            .unwrap_or_else(|| link_cache::keep(peer, Link::new(UpstreamRevision::Modern, None, None))));
    }
    let _turn = match link_cache::turn(peer, until, deadline).await? {
        Turn::Open(link) => return Ok(link),
        Turn::Mine(guard) => guard,
    };
    if let Some(link) = shared_sessions::find(peer, gone).await {
        return Ok(link_cache::keep(peer, link));
    }
    match revision {
        Some(UpstreamRevision::Modern) => follow(peer, until).await,
        Some(UpstreamRevision::Legacy(_)) => match initialize(peer, until, deadline).await {
            // It may support only the modern revision now.
            Err(
                RequestOutcome::Answered(_)
                | RequestOutcome::Invalid(_)
                | RequestOutcome::Transport(CallResult::Http { status: 400 | 404 | 405, .. }),
            ) => discover(peer, until, deadline).await,
            other => other,
        },
        None => discover(peer, until, deadline).await,
    }
}

/// Serves a legacy client in its own revision if the server supports both: servers written for it can send requests
/// only there, and need a session for that. Servers without legacy sessions are called in the modern revision.
async fn follow(peer: &Peer, until: Timestamp) -> Result<Rc<Link>, RequestOutcome> {
    let modern = || link_cache::keep(peer, Link::new(UpstreamRevision::Modern, None, None));
    let by = until.min(clock::now().plus_ms(LEGACY_CHECK_TIMEOUT_MS));
    match initialize(peer, by, false).await {
        Ok(link) if link.session.is_some() => return Ok(link),
        Ok(link) => link_cache::forget(peer, &link),
        // The failure shows nothing about the server.
        Err(outcome) if !outcome.is_settled() => return Ok(modern()),
        Err(_) => {}
    }
    link_cache::note_modern_only(peer);
    Ok(modern())
}

/// How long a server may take to respond to `server/discover`, which servers that do not know it may never answer, in
/// milliseconds: at most, for a server that was legacy before, and as a share of the remaining time.
const DISCOVERY_TIMEOUT_MS: u64 = 4_000;
const LEGACY_DISCOVERY_TIMEOUT_MS: u64 = 1_500;
const DISCOVERY_SHARE: u64 = 3;

/// Finds out which revision an upstream supports. Everything but the response of a modern server is inconclusive, so
/// `initialize` is tried then.
pub async fn discover(peer: &Peer, until: Timestamp, deadline: bool) -> Result<Rc<Link>, RequestOutcome> {
    let asked = UpstreamRequest { capabilities: &peer.capabilities, ..UpstreamRequest::new("server/discover", "{}") };
    let id = next_id();
    let body = asked.body(&UpstreamRevision::Modern, id).unwrap_or_default();
    let is_legacy = matches!(peer.hint.as_deref().and_then(UpstreamRevision::of), Some(UpstreamRevision::Legacy(_)));
    let most = if is_legacy { LEGACY_DISCOVERY_TIMEOUT_MS } else { DISCOVERY_TIMEOUT_MS };
    let patience = most.min(left(until) / DISCOVERY_SHARE).max(1);
    let sent = send(
        peer,
        &asked.headers(&UpstreamRevision::Modern, None),
        &body,
        ExpectedResponse::small(id),
        patience,
        false,
    )
    .await;
    let silent = match response_of(sent).await {
        Ok(response) => match discovered(&response) {
            Discovery::Modern(server) => {
                return Ok(link_cache::keep(peer, Link::new(UpstreamRevision::Modern, None, Some(*server))));
            }
            Discovery::Unknown(versions) => {
                return Err(RequestOutcome::Invalid(ResponseError::NoMessage(unknown(&versions))));
            }
            Discovery::Legacy => None,
        },
        // The server cannot be reached.
        Err(outcome @ RequestOutcome::Transport(CallResult::Refused | CallResult::NotCalled(_))) => {
            return Err(outcome);
        }
        Err(outcome) => Some(outcome),
    };
    match initialize(peer, until, deadline).await {
        // It may be a modern server with a temporary failure.
        Err(refused) if refused.is_settled() => Err(silent.filter(|outcome| !outcome.is_settled()).unwrap_or(refused)),
        other => other,
    }
}

/// Reads the JSON-RPC response.
async fn response_of(sent: SendResult) -> Result<Response, RequestOutcome> {
    let mut exchange = match sent {
        SendResult::Messages { exchange, .. } => exchange,
        SendResult::Other { response: Some(response), .. } => return Ok(response),
        SendResult::Other { answer, .. } => return Err(RequestOutcome::Transport(answer)),
    };
    loop {
        if let UpstreamMessage::Response(response) = exchange.next().await? {
            return Ok(response);
        }
    }
}

/// Opens a session (servers without sessions only negotiate the revision): in the latest legacy revision, or in the one
/// that the server offers instead.
async fn initialize(peer: &Peer, until: Timestamp, deadline: bool) -> Result<Rc<Link>, RequestOutcome> {
    let [latest, ..] = LEGACY;
    let refused = match initialize_in(peer, latest, until, deadline).await {
        Err(outcome) => outcome,
        Ok(link) => return Ok(link),
    };
    match refused.error().and_then(|error| offered(&error)) {
        Some(UpstreamRevision::Modern) => Ok(link_cache::keep(peer, Link::new(UpstreamRevision::Modern, None, None))),
        Some(UpstreamRevision::Legacy(version)) if version != latest => {
            initialize_in(peer, &version, until, deadline).await
        }
        Some(UpstreamRevision::Legacy(_)) | None => Err(refused),
    }
}

async fn initialize_in(
    peer: &Peer,
    version: &str,
    until: Timestamp,
    deadline: bool,
) -> Result<Rc<Link>, RequestOutcome> {
    let id = next_id();
    let body = request::initialize(id, version, &peer.capabilities);
    let sent = send(peer, &[], &body, ExpectedResponse::small(id), left(until), deadline).await;
    let session = sent.session();
    match agreed(sent).await {
        Ok((revision, server)) => {
            let server = ServerDescription { sessions: session.is_some(), ..server };
            let link = Link::new(revision, session, Some(server));
            let initialized = request::notification("notifications/initialized", &json!({}));
            let about = request::about(&link.revision, link.session.as_deref());
            send(peer, &about, &initialized, ExpectedResponse::small(0), left(until), deadline).await;
            let link = shared_sessions::register(peer, link).await;
            Ok(link_cache::keep(peer, link))
        }
        Err(outcome) => {
            // It may have created a session nevertheless.
            end_session(peer, &UpstreamRevision::Legacy(version.into()), session.as_deref()).await;
            Err(outcome)
        }
    }
}

/// Reads the response to `initialize`.
async fn agreed(sent: SendResult) -> Result<(UpstreamRevision, ServerDescription), RequestOutcome> {
    let mut exchange = sent.exchange()?;
    loop {
        match exchange.next().await? {
            UpstreamMessage::Response(Ok(result)) => {
                return initialized(&result).map_err(|why| RequestOutcome::Invalid(ResponseError::NoMessage(why)));
            }
            UpstreamMessage::Response(Err(error)) => return Err(RequestOutcome::Answered(Err(error))),
            UpstreamMessage::Notification { .. } | UpstreamMessage::Request { .. } => {}
        }
    }
}

/// Sets the log level of a legacy session, if it differs.
pub async fn set_level(peer: &Peer, link: &Link, level: Option<&str>, until: Timestamp) {
    let Some(level) = level.filter(|level| link.level.borrow().as_deref() != Some(*level)) else { return };
    // Servers without logging have no level.
    if link.server.as_ref().is_some_and(|server| !server.declares("logging")) {
        return;
    }
    let params = json!({"level": level}).to_string();
    let asked = UpstreamRequest::new("logging/setLevel", &params);
    let id = next_id();
    let Some(body) = asked.body(&link.revision, id) else { return };
    let headers = asked.headers(&link.revision, link.session.as_deref());
    let sent =
        send(peer, &headers, &body, ExpectedResponse::small(id), left(until).min(NOTIFY_TIMEOUT_MS), false).await;
    if let Ok(Ok(_)) = response_of(sent).await {
        *link.level.borrow_mut() = Some(level.into());
    }
}
