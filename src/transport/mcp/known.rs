//! The links this isolate knows, by upstream and by who asks. One who asks has one session at a server, so one at a time
//! opens it; a session that nobody asks in any more is ended.
//!
//! Nothing depends on what is known here: it is found out again.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use futures_util::future::join_all;

use crate::platform::{clock, tasks};
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::CallResult;
use narthex_core::mcp::client::link_turns::{TurnDecision, Turns, link_to_close};
use narthex_core::mcp::client::result::RequestOutcome;
use narthex_core::mcp::session::IDLE_MS;

use super::exchange::end_session;
use super::link::{Link, next_id};
use super::{Peer, shared};

/// Links an isolate remembers.
const MAX_LINKS: usize = 512;
/// Whether it is open is looked at so often, in milliseconds: one request cannot wait for what another does.
const LOOK_MS: u64 = 10;
const MAX_LOOK_MS: u64 = 100;

struct Known {
    link: Rc<Link>,
    peer: Peer,
    used_at: Timestamp,
}

thread_local! {
    static LINKS: RefCell<HashMap<String, Known>> = RefCell::new(HashMap::new());
    static OPENING: RefCell<Turns> = RefCell::default();
    /// Servers that have no sessions of 2025, by their places.
    static MODERN_ONLY: RefCell<HashSet<String>> = RefCell::new(HashSet::new());
}

pub fn get(peer: &Peer) -> Option<Rc<Link>> {
    LINKS.with_borrow_mut(|links| {
        let known = links.get_mut(&peer.key)?;
        known.used_at = clock::now();
        Some(known.link.clone())
    })
}

/// Remembers a link, unless another was opened meanwhile: then that one counts, and this one's session is ended.
pub fn keep(peer: &Peer, link: Rc<Link>) -> Rc<Link> {
    if let Some(other) = get(peer) {
        // What two have found or been given may be the same session, which goes on then.
        if link.session != other.session {
            retire(peer.clone(), link);
        }
        return other;
    }
    let now = clock::now();
    LINKS.with_borrow_mut(|links| {
        links.insert(peer.key.clone(), Known { link: link.clone(), peer: peer.clone(), used_at: now })
    });
    tidy(peer, now);
    link
}

/// Forgets a link that turned out to be wrong, if it is still the one that is known.
pub fn forget(peer: &Peer, link: &Rc<Link>) {
    LINKS.with_borrow_mut(|links| {
        if links.get(&peer.key).is_some_and(|known| Rc::ptr_eq(&known.link, link)) {
            links.remove(&peer.key);
        }
    });
}

fn take_where(wanted: impl Fn(&Known) -> bool) -> Vec<Known> {
    LINKS.with_borrow_mut(|links| links.extract_if(|_, known| wanted(known)).map(|(_, known)| known).collect())
}

/// Ends the sessions of links that were not used for long, of an earlier configuration of this peer's service, and of one
/// where there are too many. A session that belongs to one here is not this isolate's alone: it ends with that.
fn tidy(peer: &Peer, now: Timestamp) {
    let is_former = |known: &Known| known.peer.is_of(&peer.tenant, &peer.service) && known.peer.place != peer.place;
    for Known { link, peer, .. } in take_where(is_former) {
        retire(peer, link);
    }
    for Known { link, peer, .. } in take_where(|known| now.since(known.used_at) >= IDLE_MS) {
        tasks::spawn(async move {
            if shared::is_over(&peer).await {
                end(&peer, link).await;
            }
        });
    }
    while let Some(Known { link, peer, .. }) = LINKS.with_borrow_mut(crowded_out) {
        if peer.session.is_none() {
            retire(peer, link);
        }
    }
}

/// A link that is forgotten because there are too many.
fn crowded_out(links: &mut HashMap<String, Known>) -> Option<Known> {
    if links.len() <= MAX_LINKS {
        return None;
    }
    let all = links.iter().map(|(key, known)| (&*known.peer.tenant, key.as_str(), known.used_at));
    let key = link_to_close(all)?.to_string();
    links.remove(&key)
}

/// Ends a session that is not known any more, now or with the last of its requests.
fn retire(peer: Peer, link: Rc<Link>) {
    tasks::spawn(async move { end(&peer, link).await });
}

async fn end(peer: &Peer, link: Rc<Link>) {
    match Rc::strong_count(&link) {
        1 => end_session(peer, &link.spoken, link.session.as_deref()).await,
        _ => link.end_when_unused(peer.clone()),
    }
}

/// Ends what a peer has open.
pub async fn close(peer: &Peer) {
    let known = LINKS.with_borrow_mut(|links| links.remove(&peer.key));
    if let Some(Known { link, peer, .. }) = known {
        end(&peer, link).await;
    }
}

/// Ends the sessions at servers that belong to a session here, which its client has ended with all that goes on in it.
/// Gives which those were.
pub async fn close_session(session: &str) -> Vec<String> {
    let theirs = take_where(|known| known.peer.session.as_deref() == Some(session));
    let ending = theirs.iter().map(|Known { link, peer, .. }| {
        let (spoken, session) = link.seat();
        end_session(peer, spoken, session)
    });
    join_all(ending).await;
    theirs.iter().filter_map(|known| known.link.session.clone()).collect()
}

/// The services that a session here has sessions at.
pub fn services_of(session: &str) -> Vec<Rc<str>> {
    let is_theirs = |known: &&Known| known.peer.session.as_deref() == Some(session) && known.link.session.is_some();
    LINKS.with_borrow(|links| links.values().filter(is_theirs).map(|known| known.peer.service.clone()).collect())
}

/// Ends the sessions at a service that is there no more.
pub async fn close_service(tenant: &str, service: &str) {
    let theirs = take_where(|known| known.peer.is_of(tenant, service));
    join_all(theirs.into_iter().map(|Known { link, peer, .. }| async move { end(&peer, link).await })).await;
}

/// A server that has no sessions of 2025 is not asked for one again.
pub fn note_modern_only(peer: &Peer) {
    MODERN_ONLY.with_borrow_mut(|places| {
        if places.len() >= MAX_LINKS {
            places.clear();
        }
        places.insert(peer.place.clone());
    });
}

pub fn is_modern_only(peer: &Peer) -> bool {
    MODERN_ONLY.with_borrow(|places| places.contains(&peer.place))
}

/// Whose turn it is to open a link.
pub enum Turn {
    /// It is open.
    Known(Rc<Link>),
    Mine(Guard),
}

/// While it is held, others wait.
pub struct Guard {
    key: String,
    number: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        OPENING.with_borrow_mut(|all| all.end(&self.key, self.number));
    }
}

/// The link, once another has opened it; or the turn to do so. Another that takes too long may have died on the way: the
/// turn passes to one of those that wait.
pub async fn turn(peer: &Peer, until: Timestamp, deadline: bool) -> Result<Turn, RequestOutcome> {
    let (number, mut pause_ms) = (next_id(), LOOK_MS);
    loop {
        if let Some(link) = get(peer) {
            return Ok(Turn::Known(link));
        }
        match OPENING.with_borrow_mut(|all| all.step(&peer.key, number, clock::now(), until)) {
            TurnDecision::Take => return Ok(Turn::Mine(Guard { key: peer.key.clone(), number })),
            TurnDecision::Late => return Err(RequestOutcome::Transport(CallResult::TimedOut { deadline })),
            TurnDecision::Wait => clock::pause(pause_ms).await,
        }
        pause_ms = (pause_ms * 2).min(MAX_LOOK_MS);
    }
}
