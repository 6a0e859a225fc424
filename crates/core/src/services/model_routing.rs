//! From the name of a model to the targets that serve it, in the order in which they are tried.
//!
//! A name is that of a route; else an id that services list; else a service and a name there, separated by a slash.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::outline::{CapabilityOutline, ModelNames, ServiceOutline};
use super::routing::{Condition, Routable};
use crate::base::content::Content;
use crate::base::model_name::{MAX_MODEL_NAME, is_model_name};
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::lane::observed::HealthStatus;
use crate::models::affinity::score;
use crate::models::endpoint::Endpoint;
use crate::models::offer::ANY;
use crate::models::route::{ModelRoute, RouteTarget};

/// How many of the nearest names a refusal lists.
const MAX_NEAREST: usize = 3;

/// A tenant's routes, by name.
pub type Routes = BTreeMap<String, Rc<ModelRoute>>;

/// A model of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelTarget {
    /// The index of the service.
    pub service: usize,
    /// The index of the capability that is called.
    pub capability: usize,
    /// The endpoint of the provider.
    pub endpoint: Endpoint,
    /// The name of the model at the service.
    pub model: String,
    pub tier: u64,
    pub weight: u64,
    pub condition: Condition,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelMatch {
    pub route: Option<Rc<ModelRoute>>,
    pub targets: Vec<ModelTarget>,
}

impl ModelMatch {
    /// What is kept of a call: what the route says, else the transport, the capability and the service of the targets.
    /// Several targets must agree, as each may serve it.
    pub fn content<'s, O: Routable<'s>>(&self, services: &[O]) -> Content {
        if let Some(content) = self.route.as_ref().and_then(|route| route.settings.content) {
            return content;
        }
        let is_full = |target: &ModelTarget| {
            let service = services.get(target.service).map(Routable::service);
            let capability = service.and_then(|service| service.capabilities.get(target.capability));
            service.and_then(|service| service.content).or(capability.and_then(|one| one.content))
                == Some(Content::Full)
        };
        if !self.targets.is_empty() && self.targets.iter().all(is_full) { Content::Full } else { Content::None }
    }
}

/// Why there are no targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoModel {
    /// Nothing has this name. These are the nearest ones that the caller may use.
    Unknown { nearest: Vec<String> },
    /// It exists, and the caller may not use it.
    Forbidden,
    /// It exists, and its services do not have this endpoint, but these capabilities.
    OtherEndpoint { offered: BTreeSet<String> },
    /// Its services accept no work now.
    Unavailable,
}

/// Who asks, and for what.
pub struct Asked<'a> {
    pub name: &'a str,
    pub endpoint: Endpoint,
    /// Whether the caller may use a model of this name.
    pub may_use: &'a dyn Fn(&str) -> bool,
    /// Whether the caller has the permissions that a capability itself requires.
    pub may_call: &'a dyn Fn(&CapabilityOutline) -> bool,
}

/// Whether a service has a model of this name.
fn has(service: &ServiceOutline, name: &str) -> bool {
    let names = service.models.names();
    names.iter().any(|known| known == name) && name != ANY
}

/// The service and the name there, if a name has both.
fn split<'s, 'n, O: Routable<'s>>(services: &[O], name: &'n str) -> Option<(usize, &'n str)> {
    let (service, rest) = name.split_once('/')?;
    let at = services.iter().position(|one| one.service().id.as_str() == service)?;
    let outline = services.get(at)?.service();
    let offers = match &outline.models {
        ModelNames::None | ModelNames::Default(_) => outline.transport.format().is_some(),
        ModelNames::Listed(names) => names.iter().any(|known| known == rest || known == ANY),
    };
    (offers && !rest.is_empty() && rest != ANY).then_some((at, rest))
}

/// A route, if the name is that of one, and targets with the indexes of their services.
type Candidates = (Option<Rc<ModelRoute>>, Vec<(usize, RouteTarget)>);

/// The targets of a route that exist, with the indexes of their services. The others are skipped.
fn existing<'s, O: Routable<'s>>(
    services: &[O],
    index: impl Fn(&ServiceId) -> Option<usize>,
    route: &ModelRoute,
) -> Vec<(usize, RouteTarget)> {
    let has = |at: usize, model: &str| {
        services.get(at).is_some_and(|one| match &one.service().models {
            ModelNames::Listed(names) => names.iter().any(|known| known == model || known == ANY),
            ModelNames::None | ModelNames::Default(_) => true,
        })
    };
    let targets = route.targets.iter().filter_map(|wanted| Some((index(&wanted.service)?, wanted.clone())));
    targets.filter(|(at, wanted)| has(*at, &wanted.model)).collect()
}

/// The candidates for a name, whether or not they can serve it now.
fn named<'s, O: Routable<'s>>(routes: &Routes, services: &[O], name: &str) -> Option<Candidates> {
    let target = |at: usize, model: &str, tier, weight| {
        let service = services.get(at)?.service().id.clone();
        Some((at, RouteTarget { service, model: model.into(), tier, weight }))
    };
    if let Some(route) = routes.get(name) {
        let index = |id: &ServiceId| services.iter().position(|one| one.service().id == *id);
        return Some((Some(route.clone()), existing(services, index, route)));
    }
    let listing = services.iter().enumerate().filter(|(_, one)| has(one.service(), name));
    let listed: Vec<(usize, RouteTarget)> =
        listing.filter_map(|(at, one)| target(at, name, one.service().tier, one.service().weight)).collect();
    if !listed.is_empty() {
        return Some((None, listed));
    }
    let (at, model) = split(services, name)?;
    Some((None, vec![target(at, model, 0, 1)?]))
}

/// The name under which usage counts a model: a route, a listed id, or a service with one. Others come from outside,
/// and are counted together as `*`.
pub fn counted_name<'s, 'n, O: Routable<'s>>(routes: &Routes, services: &[O], name: &'n str) -> &'n str {
    let listed_there = || {
        let (at, model) = split(services, name)?;
        services.get(at).filter(|one| has(one.service(), model))
    };
    let is_configured =
        routes.get(name).is_some() || services.iter().any(|one| has(one.service(), name)) || listed_there().is_some();
    if is_configured { name } else { ANY }
}

/// The services behind a name, by their indexes, with the models there. None if nothing has this name.
pub fn behind<'s, O: Routable<'s>>(routes: &Routes, services: &[O], name: &str) -> Vec<(usize, String)> {
    let candidates = named(routes, services, name).map(|(_, candidates)| candidates).unwrap_or_default();
    candidates.into_iter().map(|(at, target)| (at, target.model)).collect()
}

/// The best endpoint of a service for a client's, with its capability.
fn offered_for(service: &ServiceOutline, endpoint: Endpoint) -> Option<(Endpoint, usize, &CapabilityOutline)> {
    endpoint.served_by().iter().find_map(|endpoint| {
        let at = service.capabilities.iter().position(|offer| offer.name == endpoint.capability())?;
        Some((*endpoint, at, service.capabilities.get(at)?))
    })
}

/// Whether a text may be a name at all: that of a model, or of a service with one.
fn may_name(text: &str) -> bool {
    let with_service = || text.split_once('/').filter(|(service, _)| ServiceId::is_valid(service));
    is_model_name(text) || with_service().is_some_and(|(_, model)| is_model_name(model))
}

/// Whether a name may be used. The permission for a listed id is enough where it is asked for with its service.
fn is_permitted<'s, O: Routable<'s>>(
    services: &[O],
    name: &str,
    is_route: bool,
    may_use: &dyn Fn(&str) -> bool,
) -> bool {
    let listed = || {
        let (at, model) = split(services, name).filter(|_| !is_route)?;
        services.get(at).filter(|one| has(one.service(), model)).map(|_| model)
    };
    may_use(name) || listed().is_some_and(may_use)
}

/// The targets of a model, in no order.
///
/// # Errors
/// There is none that the caller may use, and that can serve it.
pub fn targets<'s, O: Routable<'s>>(routes: &Routes, services: &[O], asked: &Asked<'_>) -> Result<ModelMatch, NoModel> {
    if !may_name(asked.name) {
        return Err(NoModel::Unknown { nearest: Vec::new() });
    }
    let Some((route, candidates)) = named(routes, services, asked.name) else {
        return Err(NoModel::Unknown { nearest: nearest(routes, services, asked) });
    };
    if !is_permitted(services, asked.name, route.is_some(), asked.may_use) {
        return Err(NoModel::Forbidden);
    }
    let (mut found, mut offered, mut is_forbidden, mut is_offered) = (Vec::new(), BTreeSet::new(), false, false);
    for (at, RouteTarget { model, tier, weight, .. }) in candidates {
        let Some(one) = services.get(at) else { continue };
        let service = one.service();
        let Some((endpoint, capability, offer)) = offered_for(service, asked.endpoint) else {
            offered.extend(service.capabilities.iter().map(|offer| offer.name.clone()));
            continue;
        };
        is_offered = true;
        if !(asked.may_call)(offer) {
            is_forbidden = true;
            continue;
        }
        let condition = one.condition();
        if service.draining || service.is_unreadable() || condition.health == HealthStatus::Offline {
            continue;
        }
        found.push(ModelTarget { service: at, capability, endpoint, model, tier, weight, condition });
    }
    if !found.is_empty() {
        return Ok(ModelMatch { route, targets: found });
    }
    Err(match (is_forbidden, is_offered || offered.is_empty()) {
        (true, _) => NoModel::Forbidden,
        (false, true) => NoModel::Unavailable,
        (false, false) => NoModel::OtherEndpoint { offered },
    })
}

/// Orders targets for a conversation: first those of the lowest tier that can be called, by rendezvous hashing. Those
/// with an open breaker, and those that are put aside until a later time, come last.
pub fn order<'s, O: Routable<'s>>(
    targets: &mut [ModelTarget],
    services: &[O],
    tenant: &str,
    conversation: u64,
    aside_until: impl Fn(&ModelTarget) -> Option<Timestamp>,
) {
    let score = |target: &ModelTarget| {
        let id = services.get(target.service).map_or("", |one| one.service().id.as_str());
        score(tenant, conversation, (id, &target.model), target.weight)
    };
    let key = |target: &ModelTarget| (aside_until(target).is_some(), target.condition.is_open(), target.tier);
    targets.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| score(b).total_cmp(&score(a))));
}

/// A name under which the caller reaches a model, with the services that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedModel {
    pub name: String,
    pub is_route: bool,
    /// Indexes of services.
    pub services: Vec<usize>,
}

/// Whether a service has an endpoint that a model is used through, and that the caller may call.
fn serves(service: &ServiceOutline, may_call: &dyn Fn(&CapabilityOutline) -> bool) -> bool {
    let is_used = |offer: &CapabilityOutline| Endpoint::uses_model(&offer.name) && may_call(offer);
    !service.is_unreadable() && service.capabilities.iter().any(is_used)
}

/// All names that the caller may use, sorted. `may_call` decides about each capability. What is draining or offline is
/// among them: it still exists.
pub fn list<'s, O: Routable<'s>>(
    routes: &Routes,
    services: &[O],
    may_use: &dyn Fn(&str) -> bool,
    may_call: &dyn Fn(&CapabilityOutline) -> bool,
) -> Vec<ListedModel> {
    let serving: Vec<bool> = services.iter().map(|one| serves(one.service(), may_call)).collect();
    let is_serving = |at: &usize| serving.get(*at).copied().unwrap_or_default();
    let mut all: BTreeMap<&str, (bool, Vec<usize>)> = BTreeMap::new();
    for (at, one) in services.iter().enumerate().filter(|(at, _)| is_serving(at)) {
        for name in one.service().models.names().iter().filter(|name| *name != ANY) {
            all.entry(name).or_default().1.push(at);
        }
    }
    let ids: HashMap<&ServiceId, usize> =
        services.iter().enumerate().map(|(at, one)| (&one.service().id, at)).collect();
    for (name, route) in routes {
        let targets =
            existing(services, |id| ids.get(id).copied(), route).into_iter().map(|(at, _)| at).filter(is_serving);
        all.insert(name, (true, targets.collect()));
    }
    let usable = all.into_iter().filter(|(name, (_, services))| !services.is_empty() && may_use(name));
    usable.map(|(name, (is_route, services))| ListedModel { name: name.into(), is_route, services }).collect()
}

/// The model of this name that the caller may use: as [`list`] shows it, or together with its service.
pub fn find<'s, O: Routable<'s>>(
    routes: &Routes,
    services: &[O],
    name: &str,
    may_use: &dyn Fn(&str) -> bool,
    may_call: &dyn Fn(&CapabilityOutline) -> bool,
) -> Option<ListedModel> {
    let (route, candidates) = named(routes, services, name).filter(|_| may_name(name))?;
    let is_serving = |at: &usize| services.get(*at).is_some_and(|one| serves(one.service(), may_call));
    let serving: Vec<usize> = candidates.into_iter().map(|(at, _)| at).filter(is_serving).collect();
    let is_usable = !serving.is_empty() && is_permitted(services, name, route.is_some(), may_use);
    is_usable.then(|| ListedModel { name: name.into(), is_route: route.is_some(), services: serving })
}

/// The names nearest to one that does not exist.
fn nearest<'s, O: Routable<'s>>(routes: &Routes, services: &[O], asked: &Asked<'_>) -> Vec<String> {
    if asked.name.len() > MAX_MODEL_NAME {
        return Vec::new();
    }
    let mut all: Vec<(usize, String)> = list(routes, services, asked.may_use, asked.may_call)
        .into_iter()
        .map(|model| (distance(&model.name, asked.name), model.name))
        .collect();
    all.sort();
    all.into_iter().take(MAX_NEAREST).map(|(_, name)| name).collect()
}

/// How many characters must be changed, added or left out to get from one name to another.
fn distance(one: &str, other: &str) -> usize {
    let other = other.as_bytes();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, byte) in one.bytes().enumerate() {
        let mut diagonal = at;
        let mut left = at + 1;
        for (cell, known) in row.iter_mut().skip(1).zip(other) {
            let changed = diagonal + usize::from(!byte.eq_ignore_ascii_case(known));
            diagonal = *cell;
            left = changed.min(*cell + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
