//! Selects the service for a context: one that offers the capability in the requested version and accepts work.
//!
//! The lowest available tier wins. Of its services whose breakers admit calls, two are drawn by weight and the better
//! one is taken: this keeps to the weights while all are healthy, and avoids unhealthy services.

use std::collections::BTreeMap;

use semver::{Version, VersionReq};

use super::capability::Capability;
use super::outline::{CapabilityOutline, ServiceOutline};
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::lane::breaker::BreakerState;
use crate::lane::observed::{HealthStatus, ObservedStatus};

/// The request.
#[derive(Debug, Clone, Copy)]
pub struct RouteRequest<'a> {
    pub capability: &'a str,
    pub service: Option<&'a ServiceId>,
    pub version: Option<&'a VersionReq>,
    /// Pre-releases count as releases if no version is requested.
    pub pre_releases: bool,
    /// Only services with all of these tags.
    pub tags: &'a [String],
}

impl RouteRequest<'_> {
    /// Whether this version matches. A range matches a pre-release only if it names one of the same version.
    fn fits(&self, version: &Version) -> bool {
        self.version.is_none_or(|range| range.matches(version))
    }

    /// Whether a pre-release is used only for lack of a release.
    fn avoids_pre_releases(&self) -> bool {
        self.version.is_none() && !self.pre_releases
    }

    /// The order of versions, best last.
    fn order(&self, version: &Version) -> impl Ord + use<> {
        (version.pre.is_empty() || !self.avoids_pre_releases(), version.clone())
    }
}

/// A capability in one version.
pub trait Offered {
    fn name(&self) -> &str;
    fn version(&self) -> &Version;
}

impl Offered for Capability {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> &Version {
        &self.version
    }
}

impl Offered for CapabilityOutline {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> &Version {
        &self.version
    }
}

/// The version that runs if none is requested: the newest release or, without releases, the newest pre-release.
pub fn newest<'c, C: Offered>(of: impl Iterator<Item = &'c C>) -> Option<&'c C> {
    let order = |capability: &'c C| (capability.version().pre.is_empty(), capability.version());
    of.max_by(|one, other| order(one).cmp(&order(other)))
}

/// The version of each capability that runs if none is requested, by name.
pub fn latest<C: Offered>(of: &[C]) -> BTreeMap<&str, &C> {
    let mut latest: BTreeMap<&str, &C> = BTreeMap::new();
    for capability in of {
        let current = latest.entry(capability.name()).or_insert(capability);
        *current = newest([*current, capability].into_iter()).unwrap_or(capability);
    }
    latest
}

/// How a service compares with others, by its observed status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Condition {
    pub breaker: BreakerState,
    pub health: HealthStatus,
    pub latency_ms: Option<u64>,
}

impl Condition {
    /// The condition at this time.
    pub fn of(observed: &ObservedStatus, now: Timestamp) -> Self {
        Self { breaker: observed.breaker_at(now), health: observed.evidence, latency_ms: observed.latency_ms }
    }

    /// Whether calls are blocked by an open breaker.
    pub fn is_open(&self) -> bool {
        self.breaker == BreakerState::Open
    }

    /// 0 is best.
    fn rank(&self) -> (u8, u8) {
        let breaker = match self.breaker {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        (breaker, self.health.rank())
    }

    fn is_better_than(&self, other: &Self) -> bool {
        if self.rank() != other.rank() {
            return self.rank() < other.rank();
        }
        // Only clear differences count: small ones are noise and must not override the weights.
        match (self.latency_ms, other.latency_ms) {
            (Some(own), Some(others)) => own.saturating_mul(2) < others && others - own >= NOISE_MS,
            _ => false,
        }
    }
}

/// Latencies that differ by less than this are equal, in milliseconds.
const NOISE_MS: u64 = 10;
/// One call in this many goes to a service that is due for a trial, if others are healthy; otherwise it would never be
/// tried.
const TRIAL_RATIO: u64 = 4;

/// A service with its condition.
pub trait Routable<'s> {
    fn service(&self) -> &'s ServiceOutline;
    fn condition(&self) -> Condition;
}

/// A service without observations.
impl<'s> Routable<'s> for &'s ServiceOutline {
    fn service(&self) -> &'s ServiceOutline {
        self
    }

    fn condition(&self) -> Condition {
        Condition::default()
    }
}

/// A service with the capability it would run, as indexes into the router's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub service: usize,
    pub capability: usize,
    pub tier: u64,
    pub weight: u64,
    pub version: Version,
    pub condition: Condition,
}

/// Why there is no candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// No service offers it.
    Unknown,
    /// No service offers it in this version.
    Version,
    /// No service with these tags offers it.
    Tags,
    /// It is offered, but not to this principal.
    Forbidden,
    /// The services that offer it accept no work now.
    Unavailable,
}

/// The capability of a service that matches best, with its index. `offers` is called for each one of the right name.
fn best_offer<'s>(
    service: &'s ServiceOutline,
    wanted: &RouteRequest<'_>,
    mut offers: impl FnMut(),
) -> Option<(usize, &'s CapabilityOutline)> {
    let mut best: Option<(usize, &CapabilityOutline)> = None;
    for (index, offer) in service.capabilities.iter().enumerate().filter(|(_, one)| one.name == wanted.capability) {
        offers();
        let is_better = |other: &CapabilityOutline| wanted.order(&offer.version) > wanted.order(&other.version);
        if wanted.fits(&offer.version) && best.is_none_or(|(_, other)| is_better(other)) {
            best = Some((index, offer));
        }
    }
    best
}

/// All services that could run it, best tier first. `permitted` decides for the requesting principal, `takes_work`
/// whether a service may be given this work. Services observed to be offline are left out, except that a connected
/// service is waited for if it is the only one.
pub fn candidates<'s, O: Routable<'s>>(
    services: impl IntoIterator<Item = O>,
    wanted: RouteRequest<'_>,
    takes_work: impl Fn(&ServiceOutline) -> bool,
    permitted: impl Fn(&ServiceOutline, &CapabilityOutline) -> bool,
) -> Result<Vec<Candidate>, NoRoute> {
    let mut problem = NoRoute::Unknown;
    let (mut found, mut away, mut has_release) = (Vec::new(), Vec::new(), false);
    for (at, offering) in services.into_iter().enumerate() {
        let service = offering.service();
        if wanted.service.is_some_and(|id| *id != service.id) {
            continue;
        }
        if service.is_unreadable() {
            // Whether it would fit is unknown: a later version may know.
            if service.capabilities.iter().any(|offer| offer.name == wanted.capability) {
                problem = worse(problem, NoRoute::Unavailable);
            }
            continue;
        }
        let best = best_offer(service, &wanted, || problem = worse(problem, NoRoute::Version));
        let Some((index, capability)) = best else { continue };
        if !wanted.tags.iter().all(|tag| service.tags.contains(tag)) {
            problem = worse(problem, NoRoute::Tags);
            continue;
        }
        if !permitted(service, capability) {
            problem = worse(problem, NoRoute::Forbidden);
            continue;
        }
        has_release |= capability.version.pre.is_empty();
        let condition = offering.condition();
        let is_away = condition.health == HealthStatus::Offline;
        if !takes_work(service) || (is_away && !service.transport.connects()) {
            problem = worse(problem, NoRoute::Unavailable);
            continue;
        }
        let among = if is_away { &mut away } else { &mut found };
        among.push(Candidate {
            service: at,
            capability: index,
            tier: service.tier,
            weight: service.weight,
            version: capability.version.clone(),
            condition,
        });
    }
    // An unavailable service must not cause a pre-release to run.
    if has_release && wanted.avoids_pre_releases() {
        let is_release = |candidate: &Candidate| candidate.version.pre.is_empty();
        found.retain(is_release);
        away.retain(is_release);
    }
    if found.is_empty() {
        found = away;
    }
    if found.is_empty() {
        return Err(problem);
    }
    found.sort_by_key(|candidate| candidate.tier);
    Ok(found)
}

/// The reason that got furthest is the one to report.
fn worse(known: NoRoute, new: NoRoute) -> NoRoute {
    let rank = |reason| match reason {
        NoRoute::Unknown => 0,
        NoRoute::Version => 1,
        NoRoute::Tags => 2,
        NoRoute::Forbidden => 3,
        NoRoute::Unavailable => 4,
    };
    if rank(new) > rank(known) { new } else { known }
}

/// Picks one of the candidates, which are sorted by tier and not empty.
pub fn choose(candidates: &[Candidate], random: u64) -> Option<&Candidate> {
    let first = candidates.first()?;
    if candidates.len() == 1 {
        return Some(first);
    }
    // The lowest tier with an available service, or simply the lowest. Services with an open breaker are left out while
    // the tier has others: both draws may return the same one.
    let best = candidates.iter().find(|candidate| !candidate.condition.is_open()).unwrap_or(first);
    let is_equal = |candidate: &&Candidate| {
        candidate.tier == best.tier && candidate.condition.is_open() == best.condition.is_open()
    };
    let equals: Vec<&Candidate> = candidates.iter().filter(is_equal).collect();
    let (one, other) = (random & 0xffff_ffff, random >> 32);
    let to_try = |candidate: &&&Candidate| candidate.condition.breaker == BreakerState::HalfOpen;
    if other % TRIAL_RATIO == 0
        && let Some(to_try) = equals.iter().find(to_try)
    {
        return Some(to_try);
    }
    let one = drawn(&equals, one)?;
    let other = drawn(&equals, other)?;
    Some(if other.condition.is_better_than(&one.condition) { other } else { one })
}

/// Draws one by weight.
fn drawn<'c>(equals: &[&'c Candidate], random: u64) -> Option<&'c Candidate> {
    let total: u64 = equals.iter().map(|candidate| candidate.weight).sum();
    let mut ticket = random % total.max(1);
    for candidate in equals {
        if ticket < candidate.weight {
            return Some(candidate);
        }
        ticket -= candidate.weight;
    }
    equals.first().copied()
}

#[cfg(test)]
mod tests;
