//! Which service makes the next attempt of a context.
//!
//! The first attempt goes to the service that the router selected at admission, later ones rather to others. The choice
//! among equals belongs to `services::routing`.

use semver::{Version, VersionReq};

use super::known_service::KnownService;
use crate::base::content::Content;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::context_store::replies::Work;
use crate::services::outline::{CapabilityOutline, ServiceOutline};
use crate::services::routing::{self, Candidate, Condition, NoRoute, Routable, RouteRequest};

/// The choice for the next attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Its index among the services, and the version that it offers.
    Service { at: usize, version: Version },
    /// All candidates are offline or draining.
    Unavailable,
    /// No registered service can run the context.
    NoCandidate,
}

impl Selection {
    /// The selected service and its version.
    pub fn service<'s, S>(&self, services: &'s [S]) -> Option<(&'s S, &Version)> {
        match self {
            Selection::Service { at, version } => services.get(*at).map(|service| (service, version)),
            Selection::Unavailable | Selection::NoCandidate => None,
        }
    }
}

/// A service at a time, for the router; without a time, whatever its condition.
struct At<'s, S>(&'s S, Option<Timestamp>);

impl<'s, S: KnownService> Routable<'s> for At<'s, S> {
    fn service(&self) -> &'s ServiceOutline {
        self.0.service()
    }

    fn condition(&self) -> Condition {
        self.1.map_or_else(Condition::default, |now| Condition::of(&self.0.measured(), now))
    }
}

fn candidates<S: KnownService>(work: &Work, services: &[S], now: Timestamp) -> Result<Vec<Candidate>, NoRoute> {
    candidates_at(work, services, work.admission.asked_service.as_ref(), Some(now))
}

/// The candidates, or only the one with this id.
fn candidates_at<S: KnownService>(
    work: &Work,
    services: &[S],
    service: Option<&ServiceId>,
    at: Option<Timestamp>,
) -> Result<Vec<Candidate>, NoRoute> {
    let admission = &work.admission;
    let range = admission.asked_version.as_deref().and_then(|range| VersionReq::parse(range).ok());
    let wanted = RouteRequest {
        capability: &admission.capability,
        service,
        version: range.as_ref(),
        pre_releases: !admission.version.pre.is_empty(),
        tags: &admission.asked_tags,
    };
    // Permissions were checked at admission. A draining service finishes the contexts that it was admitted for.
    let takes = |service: &ServiceOutline| !service.draining || service.id == admission.service;
    // The service of the admission decided what is kept.
    let may_have = |service: &ServiceOutline, capability: &CapabilityOutline| {
        service.id == admission.service
            || match admission.content {
                Content::Full => capability.content != Some(Content::None),
                // The work of a connected service ends later, when its client has gone.
                Content::None => !service.transport.connects(),
            }
    };
    routing::candidates(services.iter().map(|service| At(service, at)), wanted, takes, may_have)
}

fn id_of<'s, S: KnownService>(services: &'s [S], candidate: &Candidate) -> Option<&'s ServiceId> {
    services.get(candidate.service).map(|service| &service.service().id)
}

fn is_among<S: KnownService>(ids: &[ServiceId], services: &[S], candidate: &Candidate) -> bool {
    id_of(services, candidate).is_some_and(|id| ids.contains(id))
}

fn is_untried<S: KnownService>(work: &Work, services: &[S], candidate: &Candidate) -> bool {
    id_of(services, candidate).is_some_and(|id| !work.tried.contains(id))
}

/// Other services that the context has not tried.
fn untried_others<S: KnownService>(work: &Work, services: &[S], than: &ServiceId, now: Timestamp) -> Vec<Candidate> {
    let mut others = candidates(work, services, now).unwrap_or_default();
    others.retain(|other| id_of(services, other) != Some(than) && is_untried(work, services, other));
    others
}

/// Whether there is another service to try.
pub fn has_others<S: KnownService>(work: &Work, services: &[S], than: &ServiceId, now: Timestamp) -> bool {
    !untried_others(work, services, than, now).is_empty()
}

/// The number of other services that can be called now.
pub fn callable_others<S: KnownService>(work: &Work, services: &[S], than: &ServiceId, now: Timestamp) -> u64 {
    untried_others(work, services, than, now).iter().filter(|other| !other.condition.is_open()).count() as u64
}

/// The pause before the attempt that follows one at `than`, according to the `Retry-After` of the services; `own_ms` is
/// that of `than`. A service that sent none is not delayed by the `Retry-After` of another. `None` if only services are
/// left that would return the same again.
pub fn pause_ms<S: KnownService>(
    work: &Work,
    services: &[S],
    than: &ServiceId,
    own_ms: Option<u64>,
    now: Timestamp,
) -> Option<u64> {
    let is_own = |candidate: &Candidate| id_of(services, candidate) == Some(than);
    let candidates = candidates(work, services, now).unwrap_or_default();
    let is_left = |candidate: &&Candidate| !is_among(&work.hopeless, services, candidate);
    let left: Vec<&Candidate> = candidates.iter().filter(is_left).collect();
    let rest = |candidate: &Candidate| {
        if is_own(candidate) { own_ms.unwrap_or(0) } else { requested_pause_ms(services, candidate, now) }
    };
    let untried = |candidate: &Candidate| !is_own(candidate) && is_untried(work, services, candidate);
    let next = left.iter().filter(|candidate| untried(candidate)).map(|candidate| rest(candidate)).min();
    next.or_else(|| left.iter().map(|candidate| rest(candidate)).min())
}

/// How long a service asked not to be called, in milliseconds.
fn requested_pause_ms<S: KnownService>(services: &[S], candidate: &Candidate, now: Timestamp) -> u64 {
    services.get(candidate.service).map_or(0, |service| service.live().cool_down_until.get().since(now))
}

/// The candidates for a later attempt: services that would return the same again are excluded, untried ones are
/// preferred, and among these the ones that can be called soonest.
fn next<S: KnownService>(work: &Work, services: &[S], candidates: &[Candidate], now: Timestamp) -> Vec<Candidate> {
    let of = |pool: &[Candidate], fits: &dyn Fn(&Candidate) -> bool| -> Vec<Candidate> {
        let fitting: Vec<Candidate> = pool.iter().filter(|candidate| fits(candidate)).cloned().collect();
        if fitting.is_empty() { pool.to_vec() } else { fitting }
    };
    let pool = of(candidates, &|candidate| !is_among(&work.hopeless, services, candidate));
    let pool = of(&pool, &|candidate| is_untried(work, services, candidate));
    let soonest = pool.iter().map(|candidate| requested_pause_ms(services, candidate, now)).min();
    of(&pool, &|candidate| Some(requested_pause_ms(services, candidate, now)) == soonest)
}

/// Selects the service for the next attempt. The first attempt goes to the service that the router selected at
/// admission, unless its breaker is open; later ones prefer other services.
pub fn select_service<S: KnownService>(work: &Work, services: &[S], now: Timestamp, random: u64) -> Selection {
    let candidates = match candidates(work, services, now) {
        Ok(candidates) => candidates,
        Err(NoRoute::Unavailable) => return Selection::Unavailable,
        Err(NoRoute::Unknown | NoRoute::Version | NoRoute::Tags | NoRoute::Forbidden) => return Selection::NoCandidate,
    };
    let is_first = |candidate: &&Candidate| {
        id_of(services, candidate) == Some(&work.admission.service) && !candidate.condition.is_open()
    };
    let first = candidates.iter().find(is_first).filter(|_| work.tried.is_empty());
    let pool: Vec<Candidate>;
    let chosen = match first {
        Some(first) => Some(first),
        None if work.tried.is_empty() => routing::choose(&candidates, random),
        None => {
            pool = next(work, services, &candidates, now);
            routing::choose(&pool, random)
        }
    };
    chosen.map_or(Selection::NoCandidate, |chosen| Selection::Service {
        at: chosen.service,
        version: chosen.version.clone(),
    })
}

/// The service with this id, which was selected before, and the version that it offers, if it is still registered for
/// such work. Its condition does not matter: it has granted a permit since, or has none to grant.
pub fn find<S: KnownService>(work: &Work, services: &[S], id: &ServiceId) -> Option<(usize, Version)> {
    let found = candidates_at(work, services, Some(id), None).ok()?.pop()?;
    Some((found.service, found.version))
}

/// Unavailable services without an alternative, and the time when the first of them may be called. Contexts for them
/// stay in the queue.
pub fn unavailable_services<S: KnownService>(services: &[S], now: Timestamp) -> (Vec<ServiceId>, Option<Timestamp>) {
    let offers = |service: &S, name: &str| service.service().capabilities.iter().any(|offer| offer.name == name);
    let could = |than: &S, name: &str| {
        services.iter().any(|other| {
            other.service().id != than.service().id
                && offers(other, name)
                && !other.service().draining
                && !other.is_blocked(now)
        })
    };
    let is_alone = |service: &&S| !service.service().capabilities.iter().any(|offer| could(service, &offer.name));
    // Contexts for a connected service wait in its queue, so that they start as soon as it connects.
    let is_blocked =
        |service: &&S| service.is_blocked(now) && !(service.service().transport.connects() && service.is_offline());
    let shut: Vec<&S> = services.iter().filter(is_blocked).filter(is_alone).collect();
    let soonest = shut.iter().filter_map(|service| service.half_opens_at(now)).min();
    (shut.iter().map(|service| service.service().id.clone()).collect(), soonest)
}

#[cfg(test)]
mod tests;
