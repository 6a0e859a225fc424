//! A client's sessions at servers, as its session here remembers them: so all isolates that serve it are in the same one.

use std::rc::Rc;

use crate::objects::sessions::messages::{Ask, Message, Reply};
use crate::platform::objects::{Kind, PATIENCE_MS, send};
use crate::platform::{Failure, log_event, tasks};
use narthex_core::mcp::client::UpstreamRevision;
use narthex_core::mcp::session::UpstreamSession;

use super::Peer;
use super::exchange::end_session;
use super::link::Link;

/// Asks the session here, of a peer that has one.
async fn sent(peer: &Peer, session: &str, ask: Ask) -> Result<Reply, Failure> {
    let message = Message { principal: peer.principal.to_string(), ask };
    send(Kind::Sessions, session, "", &message, PATIENCE_MS).await
}

/// Which session there is at this server, unless it is the one that is gone.
fn at(peer: &Peer, gone: Option<&str>) -> Ask {
    Ask::Upstream { service: peer.service.to_string(), place: peer.place.clone(), gone: gone.map(Into::into) }
}

/// What the session here says; nothing where there is none, or it cannot be asked: then each isolate is on its own.
async fn asked(peer: &Peer, ask: Ask) -> Option<UpstreamSession> {
    match sent(peer, peer.session.as_deref()?, ask).await {
        Ok(Reply::Upstream { known }) => known,
        Ok(_) => None,
        Err(failure) => {
            log_event!(SessionNotReached, tenant = &*peer.tenant, service = &*peer.service, detail = &failure);
            None
        }
    }
}

fn link(known: UpstreamSession) -> Option<Rc<Link>> {
    let spoken = UpstreamRevision::of(&known.version).filter(|spoken| !spoken.is_modern())?;
    Some(Link::new(spoken, Some(known.session), None))
}

/// The session that was begun at this server, unless it is the one that is gone.
pub async fn find(peer: &Peer, gone: Option<&str>) -> Option<Rc<Link>> {
    asked(peer, at(peer, gone)).await.and_then(link)
}

/// Whether a session at a server that was not used here for long is in use nowhere else: that of the session here, which
/// knows of it, has ended. What is in one isolate only is.
pub async fn is_over(peer: &Peer) -> bool {
    let Some(session) = peer.session.as_deref() else { return true };
    matches!(sent(peer, session, at(peer, None)).await, Ok(Reply::Gone))
}

/// Ends a session that another isolate may have begun.
pub async fn end(peer: &Peer, known: UpstreamSession) {
    // What was begun with another configuration is not asked for with this one's credentials.
    if known.place == peer.place
        && let Some(link) = link(known)
    {
        end_session(peer, &link.spoken, link.session.as_deref()).await;
    }
}

/// Remembers a session that was just begun. Where another was begun meanwhile, that one counts, and this one is ended.
pub async fn settled(peer: &Peer, begun: Rc<Link>) -> Rc<Link> {
    let (Some(session), true) = (&begun.session, peer.session.is_some()) else { return begun };
    let (service, place, version) = (peer.service.to_string(), peer.place.clone(), begun.spoken.version().into());
    let upstream = UpstreamSession { place, version, session: session.clone() };
    match asked(peer, Ask::Begun { service, upstream }).await {
        Some(known) if known.session != *session => match link(known) {
            Some(other) => {
                let peer = peer.clone();
                tasks::spawn(async move { end_session(&peer, &begun.spoken, begun.session.as_deref()).await });
                other
            }
            None => begun,
        },
        _ => begun,
    }
}
