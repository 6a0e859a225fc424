//! Choosing the service for a context: who offers the capability, in the version, and takes work.
//!
//! The lowest tier that can be had wins. Inside it two are drawn by weight, and the better one is taken: that
//! keeps to the weights where all are well, and away from who is not.

use semver::{Version, VersionReq};

use super::Service;
use super::capability::Capability;
use crate::base::time::Timestamp;
use crate::lane::breaker::BreakerState;
use crate::lane::observed::{HealthStatus, Measured};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub capability: &'a str,
    pub service: Option<&'a str>,
    pub version: Option<&'a VersionReq>,
    /// Pre-releases count as releases where no version is asked for.
    pub pre_releases: bool,
    /// Only services that have all of these.
    pub tags: &'a [String],
}

impl Wanted<'_> {
    /// Whether this version fits. A range has a pre-release in it only where it names one of the same version.
    fn fits(&self, version: &Version) -> bool {
        self.version.is_none_or(|range| range.matches(version))
    }

    /// Whether a pre-release is no more than what there is for want of a release.
    fn avoids_pre_releases(&self) -> bool {
        self.version.is_none() && !self.pre_releases
    }

    /// The order of versions, the best last.
    fn order(&self, version: &Version) -> impl Ord + use<> {
        (version.pre.is_empty() || !self.avoids_pre_releases(), version.clone())
    }
}

/// The version of a capability that is run where none is asked for: the newest release, or where there is none the newest
/// pre-release.
pub fn newest<'c>(of: impl Iterator<Item = &'c Capability>) -> Option<&'c Capability> {
    let order = |capability: &'c Capability| (capability.version.pre.is_empty(), &capability.version);
    of.max_by(|one, other| order(one).cmp(&order(other)))
}

/// How a service stands among others: what is measured of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    pub breaker: BreakerState,
    pub health: HealthStatus,
    pub latency_ms: Option<u64>,
}

impl Standing {
    pub fn of(measured: &Measured, now: Timestamp) -> Self {
        Self { breaker: measured.breaker_at(now), health: measured.evidence, latency_ms: measured.latency_ms }
    }

    /// Whether a call could be made now: an open breaker lets nobody through.
    pub fn is_open(&self) -> bool {
        self.breaker == BreakerState::Open
    }

    /// 0 is the best.
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
        // Only where it is plain: a small difference is noise, and must not undo the weights.
        match (self.latency_ms, other.latency_ms) {
            (Some(own), Some(others)) => own.saturating_mul(2) < others && others - own >= NOISE_MS,
            _ => false,
        }
    }
}

/// Latencies that differ by less than this are equal, in milliseconds.
const NOISE_MS: u64 = 10;
/// One in so many goes to a service that is to be tried again, where others are well: else it never would be.
const ONE_IN: u64 = 4;

/// A service that may be asked, with how it stands.
pub trait Offering<'s> {
    fn service(&self) -> &'s Service;
    fn standing(&self) -> Standing;
}

/// A service nobody measured.
impl<'s> Offering<'s> for &'s Service {
    fn service(&self) -> &'s Service {
        self
    }

    fn standing(&self) -> Standing {
        Standing::default()
    }
}

/// A service with the capability it would run. Indexes into what the router was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub service: usize,
    pub capability: usize,
    pub tier: u64,
    pub weight: u64,
    pub version: Version,
    pub standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// Nobody registered offers it.
    Unknown,
    /// It is offered, but by nobody in this version.
    Version,
    /// It is offered, but by nobody with these tags.
    Tags,
    /// It is offered, but not to this principal.
    Forbidden,
    /// Who offers it takes no work now.
    Unavailable,
}

/// Everyone who could do it, best tier first. `permitted` decides for the principal who asks, `takes_work` whether
/// a service may be given this. Who was measured to be offline takes none; but one that connects by itself is waited
/// for, where there is nobody else.
pub fn candidates<'s, O: Offering<'s>>(
    services: impl IntoIterator<Item = O>,
    wanted: Wanted<'_>,
    takes_work: impl Fn(&Service) -> bool,
    permitted: impl Fn(&Service, &Capability) -> bool,
) -> Result<Vec<Candidate>, NoRoute> {
    let mut problem = NoRoute::Unknown;
    let (mut found, mut away, mut has_release) = (Vec::new(), Vec::new(), false);
    for (at, offering) in services.into_iter().enumerate() {
        let service = offering.service();
        if wanted.service.is_some_and(|id| id != service.id) {
            continue;
        }
        let offered = service.capabilities.iter().enumerate().filter(|(_, offer)| offer.name == wanted.capability);
        let mut best: Option<(usize, &Capability)> = None;
        for (index, offer) in offered {
            problem = worse(problem, NoRoute::Version);
            let is_better = |other: &Capability| wanted.order(&offer.version) > wanted.order(&other.version);
            if wanted.fits(&offer.version) && best.is_none_or(|(_, other)| is_better(other)) {
                best = Some((index, offer));
            }
        }
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
        let standing = offering.standing();
        let is_away = standing.health == HealthStatus::Offline;
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
            standing,
        });
    }
    // A service that is away makes nobody run what is not released.
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

/// The reason that got furthest is the one worth telling.
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

/// One of the candidates. `candidates` is sorted by tier and not empty.
pub fn choose(candidates: &[Candidate], random: u64) -> Option<&Candidate> {
    let first = candidates.first()?;
    if candidates.len() == 1 {
        return Some(first);
    }
    // The lowest tier where somebody lets calls through; where nobody does, the lowest.
    let tier = candidates.iter().find(|candidate| !candidate.standing.is_open()).unwrap_or(first).tier;
    let equals: Vec<&Candidate> = candidates.iter().filter(|candidate| candidate.tier == tier).collect();
    let (one, other) = (random & 0xffff_ffff, random >> 32);
    let to_try = |candidate: &&&Candidate| candidate.standing.breaker == BreakerState::HalfOpen;
    if other % ONE_IN == 0
        && let Some(to_try) = equals.iter().find(to_try)
    {
        return Some(to_try);
    }
    let one = drawn(&equals, one)?;
    let other = drawn(&equals, other)?;
    Some(if other.standing.is_better_than(&one.standing) { other } else { one })
}

/// By weight.
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
