//! Which service makes the next attempt of a context.

use semver::{Version, VersionReq};

use crate::objects::contexts::messages::Work;
use crate::objects::registry::snapshot::{Entry, Snapshot};
use crate::platform::{clock, random};
use narthex_core::base::time::Timestamp;
use narthex_core::services::Service;
use narthex_core::services::routing::{self, Candidate, NoRoute, RouteRequest};

pub enum Choice {
    /// Its place in the snapshot, and the version it offers.
    Service { at: usize, version: Version },
    /// Who could do it takes no work now: offline, or draining.
    NotNow,
    /// Nobody is registered who could do it.
    Nobody,
}

impl Choice {
    pub fn entry<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s Entry> {
        match self {
            Choice::Service { at, .. } => snapshot.services.get(*at),
            Choice::NotNow | Choice::Nobody => None,
        }
    }
}

fn candidates(work: &Work, snapshot: &Snapshot) -> Result<Vec<Candidate>, NoRoute> {
    let admission = &work.admission;
    let range = admission.asked_version.as_deref().and_then(|range| VersionReq::parse(range).ok());
    let wanted = RouteRequest {
        capability: &admission.capability,
        service: admission.asked_service.as_deref(),
        version: range.as_ref(),
        pre_releases: !admission.version.pre.is_empty(),
        tags: &admission.asked_tags,
    };
    // Who may call was decided when it was admitted. A service that drains finishes what it was given.
    let takes = |service: &Service| !service.draining || service.id == admission.service;
    routing::candidates(snapshot.services.iter(), wanted, takes, |_, _| true)
}

fn id_of<'s>(snapshot: &'s Snapshot, candidate: &Candidate) -> Option<&'s str> {
    snapshot.services.get(candidate.service).map(|entry| entry.service().id.as_str())
}

fn is_among(ids: &[String], snapshot: &Snapshot, candidate: &Candidate) -> bool {
    id_of(snapshot, candidate).is_some_and(|id| ids.iter().any(|known| known == id))
}

fn is_untried(work: &Work, snapshot: &Snapshot, candidate: &Candidate) -> bool {
    id_of(snapshot, candidate).is_some_and(|id| !work.tried.iter().any(|tried| tried == id))
}

/// Others that are still to be tried.
fn untried_others(work: &Work, snapshot: &Snapshot, than: &str) -> Vec<Candidate> {
    let mut others = candidates(work, snapshot).unwrap_or_default();
    others.retain(|other| id_of(snapshot, other) != Some(than) && is_untried(work, snapshot, other));
    others
}

/// Whether there is somebody else to try.
pub fn has_others(work: &Work, snapshot: &Snapshot, than: &str) -> bool {
    !untried_others(work, snapshot, than).is_empty()
}

/// How many others could be called now.
pub fn callable_others(work: &Work, snapshot: &Snapshot, than: &str) -> u64 {
    untried_others(work, snapshot, than).iter().filter(|other| !other.condition.is_open()).count() as u64
}

/// How long until the next attempt may be made after one at `than`, as far as services said by `Retry-After` when they
/// want to be called again; `own_ms` is what that one said. One that is free is not kept waiting by another's wish.
/// Nothing where only services are left that would answer the same again.
pub fn pause_ms(work: &Work, snapshot: &Snapshot, than: &str, own_ms: Option<u64>, now: Timestamp) -> Option<u64> {
    let is_own = |candidate: &Candidate| id_of(snapshot, candidate) == Some(than);
    let candidates = candidates(work, snapshot).unwrap_or_default();
    let is_left = |candidate: &&Candidate| !is_among(&work.hopeless, snapshot, candidate);
    let left: Vec<&Candidate> = candidates.iter().filter(is_left).collect();
    let rest = |candidate: &Candidate| {
        if is_own(candidate) { own_ms.unwrap_or(0) } else { rest_ms(snapshot, candidate, now) }
    };
    let untried = |candidate: &Candidate| !is_own(candidate) && is_untried(work, snapshot, candidate);
    let next = left.iter().filter(|candidate| untried(candidate)).map(|candidate| rest(candidate)).min();
    next.or_else(|| left.iter().map(|candidate| rest(candidate)).min())
}

/// What a service wants to be left alone for, in milliseconds.
fn rest_ms(snapshot: &Snapshot, candidate: &Candidate, now: Timestamp) -> u64 {
    snapshot.services.get(candidate.service).map_or(0, |entry| entry.live.rests_until.get().since(now))
}

/// Candidates for a later attempt: no service that would answer the same again, rather one that has not been tried, and
/// of those the ones that may be called soonest.
fn next(work: &Work, snapshot: &Snapshot, candidates: &[Candidate], now: Timestamp) -> Vec<Candidate> {
    let of = |pool: &[Candidate], fits: &dyn Fn(&Candidate) -> bool| -> Vec<Candidate> {
        let fitting: Vec<Candidate> = pool.iter().filter(|candidate| fits(candidate)).cloned().collect();
        if fitting.is_empty() { pool.to_vec() } else { fitting }
    };
    let pool = of(candidates, &|candidate| !is_among(&work.hopeless, snapshot, candidate));
    let pool = of(&pool, &|candidate| is_untried(work, snapshot, candidate));
    let soonest = pool.iter().map(|candidate| rest_ms(snapshot, candidate, now)).min();
    of(&pool, &|candidate| Some(rest_ms(snapshot, candidate, now)) == soonest)
}

/// The first attempt goes where the router decided at admission, if calls are let through there; later ones rather
/// elsewhere.
pub fn choose(work: &Work, snapshot: &Snapshot) -> Choice {
    let candidates = match candidates(work, snapshot) {
        Ok(candidates) => candidates,
        Err(NoRoute::Unavailable) => return Choice::NotNow,
        Err(NoRoute::Unknown | NoRoute::Version | NoRoute::Tags | NoRoute::Forbidden) => return Choice::Nobody,
    };
    let is_first = |candidate: &&Candidate| {
        id_of(snapshot, candidate) == Some(work.admission.service.as_str()) && !candidate.condition.is_open()
    };
    let first = candidates.iter().find(is_first).filter(|_| work.tried.is_empty());
    let pool: Vec<Candidate>;
    let chosen = match first {
        Some(first) => Some(first),
        None if work.tried.is_empty() => routing::choose(&candidates, random::number()),
        None => {
            pool = next(work, snapshot, &candidates, clock::now());
            routing::choose(&pool, random::number())
        }
    };
    chosen.map_or(Choice::Nobody, |chosen| Choice::Service { at: chosen.service, version: chosen.version.clone() })
}

/// Services that let nobody through now and whose work nobody else could do, with the time when the first of them may be
/// tried: what waits for them is left where it is.
pub fn shut(snapshot: &Snapshot, now: Timestamp) -> (Vec<String>, Option<Timestamp>) {
    let offers = |entry: &Entry, name: &str| entry.service().capabilities.iter().any(|offer| offer.name == name);
    let could = |than: &Entry, name: &str| {
        snapshot.services.iter().any(|other| {
            other.service().id != than.service().id
                && offers(other, name)
                && !other.service().draining
                && !other.is_shut(now)
        })
    };
    let is_alone = |entry: &&Entry| !entry.service().capabilities.iter().any(|offer| could(entry, &offer.name));
    // What waits for one that connects stands in its line: it is to begin as soon as it does.
    let is_shut = |entry: &&Entry| entry.is_shut(now) && !(entry.service().transport.connects() && entry.is_offline());
    let shut: Vec<&Entry> = snapshot.services.iter().filter(is_shut).filter(is_alone).collect();
    let soonest = shut.iter().filter_map(|entry| entry.may_be_tried_at(now)).min();
    (shut.iter().map(|entry| entry.service().id.clone()).collect(), soonest)
}
