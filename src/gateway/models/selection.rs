//! Which targets serve a request, and in which order.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::objects::registry::snapshot::Snapshot;
use crate::platform::{clock, random};
use narthex_core::access::permission;
use narthex_core::access::principal::{Principal, denied};
use narthex_core::base::json::Fault;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::models::endpoint::Endpoint;
use narthex_core::models::request_body::{RequestHead, digest_of};
use narthex_core::models::route::Affinity;
use narthex_core::services::model_routing::{self, Asked, ModelMatch, ModelTarget, NoModel};
use narthex_core::services::openai_endpoints;
use narthex_core::services::outline::CapabilityOutline;

use super::super::call::{Call, Caller};

/// Headers by which clients name a session.
const SESSION_HEADERS: [&str; 2] = ["x-session-id", "x-claude-code-session-id"];
/// The most models that an isolate remembers as put aside.
const MAX_ASIDE: usize = 1_000;

type AsideKey = (TenantId, ServiceId, String);

thread_local! {
    /// Until when models are put aside, because their providers ask for it.
    static ASIDE: RefCell<HashMap<AsideKey, Timestamp>> = RefCell::default();
}

fn key(snapshot: &Snapshot, tenant: &TenantId, target: &ModelTarget) -> Option<AsideKey> {
    let service = snapshot.services.get(target.service)?.service();
    Some((tenant.clone(), service.id.clone(), target.model.clone()))
}

/// Until when a target is put aside, if it is.
pub fn aside_until(snapshot: &Snapshot, tenant: &TenantId, target: &ModelTarget) -> Option<Timestamp> {
    let key = key(snapshot, tenant, target)?;
    let now = clock::now();
    ASIDE.with_borrow(|aside| aside.get(&key).copied()).filter(|until| *until > now)
}

/// Puts a target aside, for all requests.
pub fn put_aside(snapshot: &Snapshot, tenant: &TenantId, target: &ModelTarget, milliseconds: u64) {
    let Some(key) = key(snapshot, tenant, target) else { return };
    let now = clock::now();
    ASIDE.with_borrow_mut(|aside| {
        if aside.len() >= MAX_ASIDE {
            aside.retain(|_, until| *until > now);
        }
        if aside.len() < MAX_ASIDE {
            aside.insert(key, now.plus_ms(milliseconds));
        }
    });
}

/// Selects the targets of a request; a refusal is decided again with a fresh snapshot.
pub async fn select(
    call: &Call,
    caller: &mut Caller,
    endpoint: Endpoint,
    model: &str,
    head: &RequestHead,
) -> Result<ModelMatch, Problem> {
    let mut found = targets(caller, endpoint, model);
    // What cannot be counted is estimated, for which a registry need not be asked.
    let is_settled = endpoint == Endpoint::CountTokens && matches!(found, Err(NoModel::OtherEndpoint { .. }));
    if found.is_err() && !is_settled {
        let before = caller.snapshot.revision;
        caller.refresh().await?;
        if caller.snapshot.revision != before {
            caller.authenticate_again(call).await?;
            found = targets(caller, endpoint, model);
        }
    }
    let mut found = found.map_err(|reason| no_model(reason, model, endpoint))?;
    caller.refresh_ahead();
    let (tenant, snapshot) = (&caller.principal.tenant, &caller.snapshot);
    let conversation = conversation(call, affinity(snapshot, &found).await, head);
    let aside = |target: &ModelTarget| aside_until(snapshot, tenant, target);
    let services: Vec<_> = snapshot.services.iter().collect();
    model_routing::order(&mut found.targets, &services, tenant.as_str(), conversation, aside);
    let soonest = found.targets.iter().map(aside).collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().min());
    match soonest.filter(|_| found.targets.len() > 1) {
        Some(until) => Err(all_aside(model, until)),
        None => Ok(found),
    }
}

pub fn targets(caller: &Caller, endpoint: Endpoint, model: &str) -> Result<ModelMatch, NoModel> {
    let services: Vec<_> = caller.snapshot.services.iter().collect();
    let asked = Asked {
        name: model,
        endpoint,
        may_use: &|name: &str| may_use(&caller.principal, name),
        may_call: &|offer| may_call(&caller.principal, offer),
    };
    model_routing::targets(&caller.snapshot.rules.model_routes, &services, &asked)
}

/// The name under which usage counts a model.
pub fn counted_name<'n>(snapshot: &Snapshot, model: &'n str) -> &'n str {
    let services: Vec<_> = snapshot.services.iter().collect();
    model_routing::counted_name(&snapshot.rules.model_routes, &services, model)
}

pub fn may_use(principal: &Principal, model: &str) -> bool {
    principal.may(&permission::to_use(model))
}

/// Whether a principal has the permissions that a capability itself requires.
pub fn may_call(principal: &Principal, offer: &CapabilityOutline) -> bool {
    offer.permissions.iter().all(|needed| principal.may(needed))
}

/// The affinity of a route; without one, of the first service that has the model.
async fn affinity(snapshot: &Snapshot, found: &ModelMatch) -> Affinity {
    if found.targets.len() < 2 {
        return Affinity::default();
    }
    if let Some(affinity) = found.route.as_ref().and_then(|route| route.settings.affinity) {
        return affinity;
    }
    let entry = found.targets.first().and_then(|target| snapshot.services.get(target.service));
    let Some(Ok(document)) = (match entry {
        Some(entry) => Some(entry.document().await),
        None => None,
    }) else {
        return Affinity::default();
    };
    let endpoint = document.service().transport.model_endpoint();
    endpoint.and_then(|(_, endpoint)| endpoint.settings.affinity).unwrap_or_default()
}

/// What names the conversation of a request, or a random number.
fn conversation(call: &Call, affinity: Affinity, head: &RequestHead) -> u64 {
    if affinity == Affinity::None {
        return random::number();
    }
    let session = SESSION_HEADERS.iter().find_map(|name| call.request.header(name));
    let named = session.filter(|session| !session.is_empty()).or(head.prompt_cache_key.as_deref());
    named.map(digest_of).or(head.conversation).unwrap_or_else(random::number)
}

fn model_fault(code: Code, detail: String) -> Problem {
    let errors = vec![Fault::new("#/model", detail.clone())];
    Problem { errors, ..Problem::new(code, detail) }
}

/// A model that does not exist, as far as the caller may know.
pub fn unknown(model: &str) -> Problem {
    model_fault(Code::NotFound, format!("There is no model {model:?} that you may use; see GET /v1/models."))
}

fn no_model(reason: NoModel, model: &str, endpoint: Endpoint) -> Problem {
    match reason {
        NoModel::Unknown { nearest } if nearest.is_empty() => unknown(model),
        NoModel::Unknown { nearest } => {
            let nearest = nearest.join(", ");
            let detail = format!("There is no model {model:?}. The nearest names: {nearest}. See GET /v1/models.");
            model_fault(Code::NotFound, detail)
        }
        NoModel::Forbidden => denied(&permission::to_use(model)),
        NoModel::OtherEndpoint { offered } => {
            let paths = Endpoint::USING.into_iter().filter(|other| offered.contains(other.capability()));
            let paths: Vec<String> = paths.map(path_of).collect();
            let detail =
                format!("The model {model:?} does not have {}; it has {}.", path_of(endpoint), paths.join(", "));
            model_fault(Code::InvalidRequest, detail)
        }
        NoModel::Unavailable => {
            let detail = format!("Every service that has the model {model:?} is draining or offline.");
            Problem::new(Code::NoServiceAvailable, detail).with_header("Retry-After", "5")
        }
    }
}

/// The gateway's path of an endpoint: below the version, that of the providers.
fn path_of(endpoint: Endpoint) -> String {
    format!("/v1/{}", openai_endpoints::path(endpoint.capability()).unwrap_or_default())
}

fn all_aside(model: &str, until: Timestamp) -> Problem {
    let seconds = until.since(clock::now()).div_ceil(1_000).max(1);
    let detail = format!("All providers of the model {model:?} ask to wait. Try again in {seconds} s.");
    Problem::new(Code::RateLimited, detail).with_header("Retry-After", seconds.to_string())
}
