//! Choosing the service for a context: who offers the capability, in the version, and takes work.

use semver::{Version, VersionReq};

use super::service::{Capability, Service};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub capability: &'a str,
    pub service: Option<&'a str>,
    pub version: Option<&'a VersionReq>,
}

/// A service with the capability it would run. Indexes into what the router was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub service: usize,
    pub capability: usize,
    pub tier: u64,
    pub weight: u64,
    pub version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// Nobody registered offers it.
    Unknown,
    /// It is offered, but by nobody in this version.
    Version,
    /// It is offered, but not to this principal.
    Forbidden,
    /// Who offers it takes no work now.
    Unavailable,
}

/// Everyone who could do it, best tier first. `permitted` decides for the principal who asks, `takes_work` whether
/// a service may be given this.
pub fn candidates<'s>(
    services: impl IntoIterator<Item = &'s Service>,
    wanted: Wanted<'_>,
    takes_work: impl Fn(&Service) -> bool,
    permitted: impl Fn(&Service, &Capability) -> bool,
) -> Result<Vec<Candidate>, NoRoute> {
    let mut problem = NoRoute::Unknown;
    let mut found = Vec::new();
    for (at, service) in services.into_iter().enumerate() {
        if wanted.service.is_some_and(|id| id != service.id) {
            continue;
        }
        let offered = service.capabilities.iter().enumerate().filter(|(_, offer)| offer.name == wanted.capability);
        let mut best: Option<(usize, &Capability)> = None;
        for (index, offer) in offered {
            problem = worse(problem, NoRoute::Version);
            let fits = wanted.version.is_none_or(|range| range.matches(&offer.version));
            if fits && best.is_none_or(|(_, other)| offer.version > other.version) {
                best = Some((index, offer));
            }
        }
        let Some((index, capability)) = best else { continue };
        if !permitted(service, capability) {
            problem = worse(problem, NoRoute::Forbidden);
        } else if !takes_work(service) {
            problem = worse(problem, NoRoute::Unavailable);
        } else {
            found.push(Candidate {
                service: at,
                capability: index,
                tier: service.tier,
                weight: service.weight,
                version: capability.version.clone(),
            });
        }
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
        NoRoute::Forbidden => 2,
        NoRoute::Unavailable => 3,
    };
    if rank(new) > rank(known) { new } else { known }
}

/// One of the candidates of the lowest tier, by weight. `candidates` is sorted by tier and not empty.
pub fn choose(candidates: &[Candidate], random: u64) -> Option<&Candidate> {
    let tier = candidates.first()?.tier;
    let equals: Vec<&Candidate> = candidates.iter().take_while(|candidate| candidate.tier == tier).collect();
    let total: u64 = equals.iter().map(|candidate| candidate.weight).sum();
    let mut ticket = random % total.max(1);
    for candidate in &equals {
        if ticket < candidate.weight {
            return Some(candidate);
        }
        ticket -= candidate.weight;
    }
    equals.first().copied()
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
