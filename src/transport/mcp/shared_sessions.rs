//! The sessions of a client at servers, as stored by its session at the gateway: all isolates that serve the client use
//! the same ones.

use std::rc::Rc;

use crate::objects::protocol::Request;
use crate::objects::reply::Reply;
use crate::objects::sessions::messages::{AddUpstream, FindUpstream, Gone, Sessions, Upstream, call};
use crate::platform::{Failure, log_event, tasks};
use narthex_core::base::object_name::ObjectName;
use narthex_core::mcp::client::UpstreamRevision;
use narthex_core::mcp::session::UpstreamSession;

use super::Peer;
use super::exchange::end_session;
use super::link::Link;

/// Calls the session at the gateway.
async fn sent(
    peer: &Peer,
    session: &ObjectName,
    request: &impl Request<Object = Sessions, Reply = Reply<Upstream, Gone>>,
) -> Result<Result<Upstream, Gone>, Failure> {
    let principal = peer.principal.as_ref().ok_or_else(|| Failure("the gateway itself has no sessions".into()))?;
    let Reply(reply) = call(session, principal, request).await?;
    Ok(reply)
}

/// The request for the session at this server, unless it is the lost one.
fn lookup(peer: &Peer, gone: Option<&str>) -> FindUpstream {
    FindUpstream { service: peer.service.clone(), place: peer.config_key.clone(), gone: gone.map(Into::into) }
}

/// The session that is stored. `None` if there is none, or the call fails: then each isolate uses its own.
async fn asked(
    peer: &Peer,
    request: &impl Request<Object = Sessions, Reply = Reply<Upstream, Gone>>,
) -> Option<UpstreamSession> {
    match sent(peer, peer.session.as_deref()?, request).await {
        Ok(Ok(Upstream::Upstream { known })) => known,
        Ok(Err(Gone::Gone)) => None,
        Err(failure) => {
            log_event!(SessionNotReached, tenant = &peer.tenant, service = &peer.service, detail = &failure);
            None
        }
    }
}

fn link(known: UpstreamSession) -> Option<Rc<Link>> {
    let revision = UpstreamRevision::of(&known.version).filter(|revision| !revision.is_modern())?;
    Some(Link::new(revision, Some(known.session), None))
}

/// The session at this server, unless it is the lost one.
pub async fn find(peer: &Peer, gone: Option<&str>) -> Option<Rc<Link>> {
    asked(peer, &lookup(peer, gone)).await.and_then(link)
}

/// Whether a session that this isolate has not used for long is unused elsewhere too: the session at the gateway has
/// ended, or the session is not shared.
pub async fn is_over(peer: &Peer) -> bool {
    let Some(session) = peer.session.as_deref() else { return true };
    matches!(sent(peer, session, &lookup(peer, None)).await, Ok(Err(Gone::Gone)))
}

/// Ends a session that another isolate may have created.
pub async fn end(peer: &Peer, known: UpstreamSession) {
    // Sessions of another configuration must not receive the credentials of this one.
    if known.place == peer.config_key
        && let Some(link) = link(known)
    {
        end_session(peer, &link.revision, link.session.as_deref()).await;
    }
}

/// Stores a new session. If another isolate has stored one before, that one is used, and this one is ended.
pub async fn register(peer: &Peer, begun: Rc<Link>) -> Rc<Link> {
    let (Some(session), true) = (&begun.session, peer.session.is_some()) else { return begun };
    let (service, place, version) = (peer.service.clone(), peer.config_key.clone(), begun.revision.version().into());
    let upstream = UpstreamSession { place, version, session: session.clone() };
    match asked(peer, &AddUpstream { service, upstream }).await {
        Some(known) if known.session != *session => match link(known) {
            Some(other) => {
                let peer = peer.clone();
                tasks::keep_running(async move { end_session(&peer, &begun.revision, begun.session.as_deref()).await });
                other
            }
            None => begun,
        },
        _ => begun,
    }
}
