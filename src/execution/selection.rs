//! Which service makes the next attempt of a context.

use semver::{Version, VersionReq};

use crate::objects::contexts::messages::Work;
use crate::objects::registry::snapshot::{Entry, Snapshot};
use crate::platform::{clock, random};
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::services::Service;
use narthex_core::services::routing::{self, Candidate, NoRoute, RouteRequest};

pub enum Selection {
    /// Its index in the snapshot, and the version that it offers.
    Service { at: usize, version: Version },
    /// All candidates are offline or draining.
    Unavailable,
    /// No registered service can run the context.
    NoCandidate,
}

impl Selection {
    pub fn entry<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s Entry> {
        match self {
            Selection::Service { at, .. } => snapshot.services.get(*at),
            Selection::Unavailable | Selection::NoCandidate => None,
        }
    }
}

fn candidates(work: &Work, snapshot: &Snapshot) -> Result<Vec<Candidate>, NoRoute> {
    let admission = &work.admission;
    let range = admission.asked_version.as_deref().and_then(|range| VersionReq::parse(range).ok());
    let wanted = RouteRequest {
        capability: &admission.capability,
        service: admission.asked_service.as_ref(),
        version: range.as_ref(),
        pre_releases: !admission.version.pre.is_empty(),
        tags: &admission.asked_tags,
    };
    // Permissions were checked at admission. A draining service finishes the contexts that it was admitted for.
    let takes = |service: &Service| !service.draining || service.id == admission.service;
    routing::candidates(snapshot.services.iter(), wanted, takes, |_, _| true)
}

fn id_of<'s>(snapshot: &'s Snapshot, candidate: &Candidate) -> Option<&'s ServiceId> {
    snapshot.services.get(candidate.service).map(|entry| &entry.service().id)
}

fn is_among(ids: &[ServiceId], snapshot: &Snapshot, candidate: &Candidate) -> bool {
    id_of(snapshot, candidate).is_some_and(|id| ids.iter().any(|known| known == id))
}

fn is_untried(work: &Work, snapshot: &Snapshot, candidate: &Candidate) -> bool {
    id_of(snapshot, candidate).is_some_and(|id| !work.tried.iter().any(|tried| tried == id))
}

/// Other services that the context has not tried.
fn untried_others(work: &Work, snapshot: &Snapshot, than: &ServiceId) -> Vec<Candidate> {
    let mut others = candidates(work, snapshot).unwrap_or_default();
    others.retain(|other| id_of(snapshot, other) != Some(than) && is_untried(work, snapshot, other));
    others
}

/// Whether there is another service to try.
pub fn has_others(work: &Work, snapshot: &Snapshot, than: &ServiceId) -> bool {
    !untried_others(work, snapshot, than).is_empty()
}

/// The number of other services that can be called now.
pub fn callable_others(work: &Work, snapshot: &Snapshot, than: &ServiceId) -> u64 {
    untried_others(work, snapshot, than).iter().filter(|other| !other.condition.is_open()).count() as u64
}

/// The pause before the attempt that follows one at `than`, according to the `Retry-After` of the services; `own_ms` is
/// that of `than`. A service that sent none is not delayed by the `Retry-After` of another. `None` if only services are
/// left that would return the same again.
pub fn pause_ms(
    work: &Work,
    snapshot: &Snapshot,
    than: &ServiceId,
    own_ms: Option<u64>,
    now: Timestamp,
) -> Option<u64> {
    let is_own = |candidate: &Candidate| id_of(snapshot, candidate) == Some(than);
    let candidates = candidates(work, snapshot).unwrap_or_default();
    let is_left = |candidate: &&Candidate| !is_among(&work.hopeless, snapshot, candidate);
    let left: Vec<&Candidate> = candidates.iter().filter(is_left).collect();
    let rest = |candidate: &Candidate| {
        if is_own(candidate) { own_ms.unwrap_or(0) } else { requested_pause_ms(snapshot, candidate, now) }
    };
    let untried = |candidate: &Candidate| !is_own(candidate) && is_untried(work, snapshot, candidate);
    let next = left.iter().filter(|candidate| untried(candidate)).map(|candidate| rest(candidate)).min();
    next.or_else(|| left.iter().map(|candidate| rest(candidate)).min())
}

/// How long a service asked not to be called, in milliseconds.
fn requested_pause_ms(snapshot: &Snapshot, candidate: &Candidate, now: Timestamp) -> u64 {
    snapshot.services.get(candidate.service).map_or(0, |entry| entry.live.cool_down_until.get().since(now))
}

/// The candidates for a later attempt: services that would return the same again are excluded, untried ones are
/// preferred, and among these the ones that can be called soonest.
fn next(work: &Work, snapshot: &Snapshot, candidates: &[Candidate], now: Timestamp) -> Vec<Candidate> {
    let of = |pool: &[Candidate], fits: &dyn Fn(&Candidate) -> bool| -> Vec<Candidate> {
        let fitting: Vec<Candidate> = pool.iter().filter(|candidate| fits(candidate)).cloned().collect();
        if fitting.is_empty() { pool.to_vec() } else { fitting }
    };
    let pool = of(candidates, &|candidate| !is_among(&work.hopeless, snapshot, candidate));
    let pool = of(&pool, &|candidate| is_untried(work, snapshot, candidate));
    let soonest = pool.iter().map(|candidate| requested_pause_ms(snapshot, candidate, now)).min();
    of(&pool, &|candidate| Some(requested_pause_ms(snapshot, candidate, now)) == soonest)
}

/// Selects the service for the next attempt. The first attempt goes to the service that the router selected at
/// admission, unless its breaker is open; later ones prefer other services.
pub fn select_service(work: &Work, snapshot: &Snapshot) -> Selection {
    let candidates = match candidates(work, snapshot) {
        Ok(candidates) => candidates,
        Err(NoRoute::Unavailable) => return Selection::Unavailable,
        Err(NoRoute::Unknown | NoRoute::Version | NoRoute::Tags | NoRoute::Forbidden) => return Selection::NoCandidate,
    };
    let is_first = |candidate: &&Candidate| {
        id_of(snapshot, candidate) == Some(&work.admission.service) && !candidate.condition.is_open()
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
    chosen.map_or(Selection::NoCandidate, |chosen| Selection::Service {
        at: chosen.service,
        version: chosen.version.clone(),
    })
}

/// Unavailable services without an alternative, and the time when the first of them may be called. Contexts for them
/// stay in the queue.
pub fn unavailable_services(snapshot: &Snapshot, now: Timestamp) -> (Vec<ServiceId>, Option<Timestamp>) {
    let offers = |entry: &Entry, name: &str| entry.service().capabilities.iter().any(|offer| offer.name == name);
    let could = |than: &Entry, name: &str| {
        snapshot.services.iter().any(|other| {
            other.service().id != than.service().id
                && offers(other, name)
                && !other.service().draining
                && !other.is_blocked(now)
        })
    };
    let is_alone = |entry: &&Entry| !entry.service().capabilities.iter().any(|offer| could(entry, &offer.name));
    // Contexts for a connected service wait in its queue, so that they start as soon as it connects.
    let is_blocked =
        |entry: &&Entry| entry.is_blocked(now) && !(entry.service().transport.connects() && entry.is_offline());
    let shut: Vec<&Entry> = snapshot.services.iter().filter(is_blocked).filter(is_alone).collect();
    let soonest = shut.iter().filter_map(|entry| entry.half_opens_at(now)).min();
    (shut.iter().map(|entry| entry.service().id.clone()).collect(), soonest)
}
