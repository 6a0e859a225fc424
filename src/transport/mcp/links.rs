//! How an upstream is spoken to: in which era, and in the legacy era in which session. What is known of it is in
//! `known.rs`; here it is found out.

use std::rc::Rc;

use serde_json::json;

use crate::platform::clock;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::CallResult;
use narthex_core::mcp::LEGACY;
use narthex_core::mcp::client::UpstreamRevision;
use narthex_core::mcp::client::discovery::{Discovery, discovered, initialized, offered, unknown};
use narthex_core::mcp::client::request::{self, UpstreamRequest};
use narthex_core::mcp::client::response::{Expected, Incoming, Response, ResponseError};
use narthex_core::mcp::client::result::RequestOutcome;
use narthex_core::services::tool_catalogue::ServerDescription;

use super::exchange::{Sent, end_session, left, send};
use super::known::{self, Turn};
use super::link::{Link, next_id};
use super::{NOTICE_MS, Peer, shared};

/// How long a server of 2026 may take to say whether it has sessions of 2025 as well, in milliseconds.
const FOLLOW_MS: u64 = 5_000;

/// The link to an upstream; made when there is none, by one at a time. `hint` is a revision it is known to speak.
pub async fn open(
    peer: &Peer,
    hint: Option<&str>,
    until: Timestamp,
    deadline: bool,
) -> Result<Rc<Link>, RequestOutcome> {
    open_after(peer, hint, None, until, deadline).await
}

/// The same where a session has turned out to be gone.
pub async fn open_after(
    peer: &Peer,
    hint: Option<&str>,
    gone: Option<&str>,
    until: Timestamp,
    deadline: bool,
) -> Result<Rc<Link>, RequestOutcome> {
    let spoken = hint.and_then(UpstreamRevision::of);
    let follows = peer.session.is_some() && !known::is_modern_only(peer);
    if spoken == Some(UpstreamRevision::Modern) && !follows {
        return Ok(
            known::get(peer).unwrap_or_else(|| known::keep(peer, Link::new(UpstreamRevision::Modern, None, None)))
        );
    }
    let _turn = match known::turn(peer, until, deadline).await? {
        Turn::Known(link) => return Ok(link),
        Turn::Mine(guard) => guard,
    };
    if let Some(link) = shared::find(peer, gone).await {
        return Ok(known::keep(peer, link));
    }
    match spoken {
        Some(UpstreamRevision::Modern) => follow(peer, until).await,
        Some(UpstreamRevision::Legacy(_)) => match initialize(peer, until, deadline).await {
            // It may have become modern.
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

/// A client of 2025 is served in its era by a server that has both: one that was written for 2025 can ask it there only,
/// and has a session for it. A server that has none of that is spoken to in the modern era.
async fn follow(peer: &Peer, until: Timestamp) -> Result<Rc<Link>, RequestOutcome> {
    let modern = || known::keep(peer, Link::new(UpstreamRevision::Modern, None, None));
    let by = until.min(clock::now().plus_ms(FOLLOW_MS));
    match initialize(peer, by, false).await {
        Ok(link) if link.session.is_some() => return Ok(link),
        Ok(link) => known::forget(peer, &link),
        // Nothing was learned of it.
        Err(came) if !came.is_settled() => return Ok(modern()),
        Err(_) => {}
    }
    known::note_modern_only(peer);
    Ok(modern())
}

/// How long a server may take to say which era it belongs to: one that does not know the question may never answer it.
/// At most this long, less where it is known as a legacy one, and never more than a part of the time there is.
const DISCOVERY_MS: u64 = 4_000;
const KNOWN_LEGACY_MS: u64 = 1_500;
const PART_OF_TIME: u64 = 3;

/// Finds out which era an upstream belongs to. Whatever is not a modern server's answer says nothing of that, so
/// `initialize` is tried.
pub async fn discover(peer: &Peer, until: Timestamp, deadline: bool) -> Result<Rc<Link>, RequestOutcome> {
    let asked = UpstreamRequest { capabilities: &peer.capabilities, ..UpstreamRequest::new("server/discover", "{}") };
    let id = next_id();
    let body = asked.body(&UpstreamRevision::Modern, id).unwrap_or_default();
    let is_legacy = matches!(peer.hint.as_deref().and_then(UpstreamRevision::of), Some(UpstreamRevision::Legacy(_)));
    let most = if is_legacy { KNOWN_LEGACY_MS } else { DISCOVERY_MS };
    let patience = most.min(left(until) / PART_OF_TIME).max(1);
    let sent =
        send(peer, &asked.headers(&UpstreamRevision::Modern, None), &body, Expected::small(id), patience, false).await;
    let silent = match heard(sent).await {
        Ok(response) => match discovered(&response) {
            Discovery::Modern(server) => {
                return Ok(known::keep(peer, Link::new(UpstreamRevision::Modern, None, Some(*server))));
            }
            Discovery::Unknown(versions) => {
                return Err(RequestOutcome::Invalid(ResponseError::NoMessage(unknown(&versions))));
            }
            Discovery::Legacy => None,
        },
        // Nothing is there to be asked.
        Err(came @ RequestOutcome::Transport(CallResult::Refused | CallResult::NotCalled(_))) => return Err(came),
        Err(came) => Some(came),
    };
    match initialize(peer, until, deadline).await {
        // It may be a modern one that was away for a moment.
        Err(refused) if refused.is_settled() => Err(silent.filter(|came| !came.is_settled()).unwrap_or(refused)),
        other => other,
    }
}

/// The response that an answer has.
async fn heard(sent: Sent) -> Result<Response, RequestOutcome> {
    let mut exchange = match sent {
        Sent::Messages { exchange, .. } => exchange,
        Sent::Other { response: Some(response), .. } => return Ok(response),
        Sent::Other { answer, .. } => return Err(RequestOutcome::Transport(answer)),
    };
    loop {
        if let Incoming::Response(response) = exchange.next().await? {
            return Ok(response);
        }
    }
}

/// Opens a session, or what a server without them has: in the latest revision, or in one it asks for by refusing that.
async fn initialize(peer: &Peer, until: Timestamp, deadline: bool) -> Result<Rc<Link>, RequestOutcome> {
    let [latest, ..] = LEGACY;
    let refused = match initialize_in(peer, latest, until, deadline).await {
        Err(came) => came,
        Ok(link) => return Ok(link),
    };
    match refused.error().and_then(|error| offered(&error)) {
        Some(UpstreamRevision::Modern) => Ok(known::keep(peer, Link::new(UpstreamRevision::Modern, None, None))),
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
    let sent = send(peer, &[], &body, Expected::small(id), left(until), deadline).await;
    let session = sent.session();
    match agreed(sent).await {
        Ok((spoken, server)) => {
            let server = ServerDescription { sessions: session.is_some(), ..server };
            let link = Link::new(spoken, session, Some(server));
            let told = request::notification("notifications/initialized", &json!({}));
            let about = request::about(&link.spoken, link.session.as_deref());
            send(peer, &about, &told, Expected::small(0), left(until), deadline).await;
            let link = shared::settled(peer, link).await;
            Ok(known::keep(peer, link))
        }
        Err(came) => {
            // It may have begun one all the same.
            end_session(peer, &UpstreamRevision::Legacy(version.into()), session.as_deref()).await;
            Err(came)
        }
    }
}

/// What `initialize` was answered.
async fn agreed(sent: Sent) -> Result<(UpstreamRevision, ServerDescription), RequestOutcome> {
    let mut exchange = sent.exchange()?;
    loop {
        match exchange.next().await? {
            Incoming::Response(Ok(result)) => {
                return initialized(&result).map_err(|why| RequestOutcome::Invalid(ResponseError::NoMessage(why)));
            }
            Incoming::Response(Err(error)) => return Err(RequestOutcome::Answered(Err(error))),
            Incoming::Notification { .. } | Incoming::Request { .. } => {}
        }
    }
}

/// Tells a legacy server which messages are wanted, where that is another level than its session has.
pub async fn set_level(peer: &Peer, link: &Link, level: Option<&str>, until: Timestamp) {
    let Some(level) = level.filter(|level| link.level.borrow().as_deref() != Some(*level)) else { return };
    // One that has no messages need not be asked for any.
    if link.server.as_ref().is_some_and(|server| !server.declares("logging")) {
        return;
    }
    let params = json!({"level": level}).to_string();
    let asked = UpstreamRequest::new("logging/setLevel", &params);
    let id = next_id();
    let Some(body) = asked.body(&link.spoken, id) else { return };
    let headers = asked.headers(&link.spoken, link.session.as_deref());
    let sent = send(peer, &headers, &body, Expected::small(id), left(until).min(NOTICE_MS), false).await;
    if let Ok(Ok(_)) = heard(sent).await {
        *link.level.borrow_mut() = Some(level.into());
    }
}
