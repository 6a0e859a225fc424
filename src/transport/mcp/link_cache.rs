//! The links of this isolate, by upstream and requester. A requester has one session at a server, so only one request
//! at a time opens it. Sessions that are no longer used are ended.
//!
//! The cache is an optimization: everything in it can be discovered again.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use futures_util::future::join_all;

use crate::platform::{clock, tasks};
use narthex_core::base::object_name::ObjectName;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::CallResult;
use narthex_core::mcp::client::link_turns::{TurnDecision, Turns, link_to_close};
use narthex_core::mcp::client::result::RequestOutcome;
use narthex_core::mcp::session::IDLE_MS;

use super::exchange::end_session;
use super::link::{Link, next_id};
use super::{Peer, shared_sessions};

/// The maximum number of cached links.
const MAX_LINKS: usize = 512;
/// How often a request checks whether another has opened the link, in milliseconds: the first interval and the maximum.
/// A request cannot wait for the work of another.
const POLL_MS: u64 = 10;
const MAX_POLL_MS: u64 = 100;

struct CachedLink {
    link: Rc<Link>,
    peer: Peer,
    used_at: Timestamp,
}

thread_local! {
    static LINKS: RefCell<HashMap<String, CachedLink>> = RefCell::new(HashMap::new());
    static OPENING: RefCell<Turns> = RefCell::default();
    /// Servers without legacy sessions, by their configurations.
    static MODERN_ONLY: RefCell<HashSet<String>> = RefCell::new(HashSet::new());
}

pub fn get(peer: &Peer) -> Option<Rc<Link>> {
    LINKS.with_borrow_mut(|links| {
        let cached = links.get_mut(&peer.key)?;
        cached.used_at = clock::now();
        Some(cached.link.clone())
    })
}

/// Caches a link. If another request has cached one before, that one is returned, and the session of this one is ended.
pub fn keep(peer: &Peer, link: Rc<Link>) -> Rc<Link> {
    if let Some(other) = get(peer) {
        // Both may have the same session, which continues then.
        if link.session != other.session {
            retire(peer.clone(), link);
        }
        return other;
    }
    let now = clock::now();
    LINKS.with_borrow_mut(|links| {
        links.insert(peer.key.clone(), CachedLink { link: link.clone(), peer: peer.clone(), used_at: now })
    });
    tidy(peer, now);
    link
}

/// Removes a link that turned out to be wrong, if it is still the cached one.
pub fn forget(peer: &Peer, link: &Rc<Link>) {
    LINKS.with_borrow_mut(|links| {
        if links.get(&peer.key).is_some_and(|cached| Rc::ptr_eq(&cached.link, link)) {
            links.remove(&peer.key);
        }
    });
}

fn take_where(wanted: impl Fn(&CachedLink) -> bool) -> Vec<CachedLink> {
    LINKS.with_borrow_mut(|links| links.extract_if(|_, cached| wanted(cached)).map(|(_, cached)| cached).collect())
}

/// Ends the sessions of links that were not used for long, of links of an earlier configuration of the service of this
/// peer, and of one link if there are too many. A session that belongs to a session of the gateway is shared with other
/// isolates: it ends with that.
fn tidy(peer: &Peer, now: Timestamp) {
    let is_former = |cached: &CachedLink| {
        cached.peer.is_of(&peer.tenant, &peer.service) && cached.peer.config_key != peer.config_key
    };
    for CachedLink { link, peer, .. } in take_where(is_former) {
        retire(peer, link);
    }
    for CachedLink { link, peer, .. } in take_where(|cached| now.since(cached.used_at) >= IDLE_MS) {
        tasks::keep_running(async move {
            if shared_sessions::is_over(&peer).await {
                end(&peer, link).await;
            }
        });
    }
    while let Some(CachedLink { link, peer, .. }) = LINKS.with_borrow_mut(take_excess) {
        if peer.session.is_none() {
            retire(peer, link);
        }
    }
}

/// Removes a link if there are too many.
fn take_excess(links: &mut HashMap<String, CachedLink>) -> Option<CachedLink> {
    if links.len() <= MAX_LINKS {
        return None;
    }
    let all = links.iter().map(|(key, cached)| (&cached.peer.tenant, key.as_str(), cached.used_at));
    let key = link_to_close(all)?.to_string();
    links.remove(&key)
}

/// Ends the session of a link that was removed, now or after the last of its requests.
fn retire(peer: Peer, link: Rc<Link>) {
    tasks::keep_running(async move { end(&peer, link).await });
}

async fn end(peer: &Peer, link: Rc<Link>) {
    match Rc::strong_count(&link) {
        1 => end_session(peer, &link.revision, link.session.as_deref()).await,
        _ => link.end_when_unused(peer.clone()),
    }
}

/// Ends the link of a peer.
pub async fn close(peer: &Peer) {
    let cached = LINKS.with_borrow_mut(|links| links.remove(&peer.key));
    if let Some(CachedLink { link, peer, .. }) = cached {
        end(&peer, link).await;
    }
}

/// Ends the sessions at servers that belong to a session of the gateway, which its client has ended. Returns their ids.
pub async fn close_session(session: &ObjectName) -> Vec<String> {
    let theirs = take_where(|cached| cached.peer.session.as_deref() == Some(session));
    let ending = theirs.iter().map(|CachedLink { link, peer, .. }| {
        let (revision, session) = link.revision_and_session();
        end_session(peer, revision, session)
    });
    join_all(ending).await;
    theirs.iter().filter_map(|cached| cached.link.session.clone()).collect()
}

/// The services at which a session of the gateway has sessions.
pub fn services_of(session: &ObjectName) -> Vec<ServiceId> {
    let is_theirs =
        |cached: &&CachedLink| cached.peer.session.as_deref() == Some(session) && cached.link.session.is_some();
    LINKS.with_borrow(|links| links.values().filter(is_theirs).map(|cached| cached.peer.service.clone()).collect())
}

/// Ends the sessions at a service that was deleted.
pub async fn close_service(tenant: &TenantId, service: &ServiceId) {
    let theirs = take_where(|cached| cached.peer.is_of(tenant, service));
    join_all(theirs.into_iter().map(|CachedLink { link, peer, .. }| async move { end(&peer, link).await })).await;
}

/// Remembers that a server has no legacy sessions.
pub fn note_modern_only(peer: &Peer) {
    MODERN_ONLY.with_borrow_mut(|places| {
        if places.len() >= MAX_LINKS {
            places.clear();
        }
        places.insert(peer.config_key.clone());
    });
}

pub fn is_modern_only(peer: &Peer) -> bool {
    MODERN_ONLY.with_borrow(|places| places.contains(&peer.config_key))
}

/// The turn to open a link.
pub enum Turn {
    /// The link is open.
    Open(Rc<Link>),
    Mine(Guard),
}

/// Other requests wait while this exists.
pub struct Guard {
    key: String,
    number: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        OPENING.with_borrow_mut(|all| all.end(&self.key, self.number));
    }
}

/// Returns the link once another request has opened it, or the turn to open it. A request that takes too long may have
/// died: the turn passes to one of those that wait.
pub async fn turn(peer: &Peer, until: Timestamp, deadline: bool) -> Result<Turn, RequestOutcome> {
    let (number, mut pause_ms) = (next_id(), POLL_MS);
    loop {
        if let Some(link) = get(peer) {
            return Ok(Turn::Open(link));
        }
        match OPENING.with_borrow_mut(|all| all.step(&peer.key, number, clock::now(), until)) {
            TurnDecision::Take => return Ok(Turn::Mine(Guard { key: peer.key.clone(), number })),
            TurnDecision::Late => return Err(RequestOutcome::Transport(CallResult::TimedOut { deadline })),
            TurnDecision::Wait => clock::pause(pause_ms).await,
        }
        pause_ms = (pause_ms * 2).min(MAX_POLL_MS);
    }
}
