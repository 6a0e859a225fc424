//! Decides about a request before it becomes a context: the service that runs it, the caller's permission, the
//! parameters. All of it from the isolate's snapshot of the registry; a refusal is decided again with a fresh one.

use serde_json::value::RawValue;

use crate::execution::model_use;
use crate::objects::registry::snapshot::{ServiceDocument, Snapshot};
use crate::platform::{clock, random};
use narthex_core::access::permission;
use narthex_core::access::principal::Principal;
use narthex_core::access::principal::denied;
use narthex_core::base::id::{ContextId, StoreId};
use narthex_core::base::json::Fault;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::context::Admission;
use narthex_core::context::create_request::NewContext;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::models::offer::{ANY, offer_of};
use narthex_core::services::at_parameters;
use narthex_core::services::openai_endpoints;
use narthex_core::services::outline::{CapabilityOutline, ServiceOutline};
use narthex_core::services::routing::{self, Candidate, NoRoute, RouteRequest};

use super::call::{Call, Caller};
use super::registry_client::unread;

/// The decision about a request that creates a context.
pub struct Decision {
    pub admission: Admission,
    /// The position of the chosen service in the snapshot.
    pub service: usize,
    pub durable: bool,
    pub timeout_seconds: u64,
}

fn no_route(reason: NoRoute, new: &NewContext<'_>) -> Problem {
    let name = &new.capability;
    match reason {
        NoRoute::Unknown => Problem::invalid(vec![match &new.service {
            Some(id) => Fault::new("#/service", format!("no service {id} offers {name}; see GET /v1/capabilities")),
            None => Fault::new("#/capability", format!("no service offers {name}; see GET /v1/capabilities")),
        }]),
        NoRoute::Version => {
            Problem::invalid(vec![Fault::new("#/version", format!("no service offers {name} in this version"))])
        }
        NoRoute::Tags => {
            Problem::invalid(vec![Fault::new("#/tags", format!("no service that offers {name} has all of these tags"))])
        }
        NoRoute::Forbidden => {
            denied(&format!("contexts:create:{}.{name}", new.service.as_ref().map_or("*", ServiceId::as_str)))
        }
        NoRoute::Unavailable => {
            Problem::new(Code::NoServiceAvailable, format!("Every service that offers {name} is draining or offline."))
                .with_header("Retry-After", "5")
        }
    }
}

/// Properties that a context inherits from the request or schedule that creates it.
pub struct RequestOrigin {
    pub store: StoreId,
    pub now: Timestamp,
    pub trace: String,
    pub trace_state: Option<String>,
    /// Where services reach the gateway.
    pub gateway: String,
}

impl RequestOrigin {
    pub fn of(call: &Call) -> Self {
        Self {
            store: call.new_store(),
            now: clock::now(),
            trace: call.trace.header(),
            trace_state: call.trace.state.clone(),
            gateway: call.public_origin().into(),
        }
    }
}

/// Why a decision could not be made.
pub enum Undecided {
    Refused(Problem),
    /// The chosen service was changed or deleted after the snapshot was made: a newer one must decide.
    Outdated,
}

impl From<Problem> for Undecided {
    fn from(problem: Problem) -> Self {
        Undecided::Refused(problem)
    }
}

/// The most models that a refusal names.
const MAX_NAMED: usize = 10;

/// How often a request is decided anew because the registry has changed.
pub const MAX_DECISIONS: usize = 3;

/// Decides with a snapshot.
pub async fn decide(
    origin: &RequestOrigin,
    principal: &Principal,
    snapshot: &Snapshot,
    new: &NewContext<'_>,
) -> Result<Decision, Undecided> {
    let wanted = RouteRequest {
        capability: &new.capability,
        service: new.service.as_ref(),
        version: new.version.as_ref(),
        pre_releases: false,
        tags: &new.tags,
    };
    let takes_work = |service: &ServiceOutline| !service.draining;
    let candidates = routing::candidates(&snapshot.services, wanted, takes_work, |service, capability| {
        principal.may_call(&service.id, &capability.name, &capability.permissions)
    })
    .map_err(|reason| no_route(reason, new))?;
    let chosen = routing::choose(&candidates, random::number()).ok_or_else(|| no_route(NoRoute::Unknown, new))?;
    let entry = snapshot.services.get(chosen.service).ok_or_else(|| no_route(NoRoute::Unknown, new))?;
    let offer = entry.service().capabilities.get(chosen.capability).ok_or_else(|| no_route(NoRoute::Unknown, new))?;

    let mut faults = Vec::new();
    let timeout_seconds = new.timeout_seconds.unwrap_or(offer.timeout_seconds);
    if timeout_seconds > offer.timeout_seconds {
        let most = offer.timeout_seconds;
        faults.push(Fault::new("#/timeout_seconds", format!("{} allows at most {most}", offer.name)));
    }
    let document = entry.document().await;
    let document = document.map_err(|missing| match unread(entry.service(), missing) {
        Some(problem) => problem.into(),
        None => Undecided::Outdated,
    })?;
    // Its document may be newer than the snapshot.
    let at = document.position(&offer.name, &offer.version).ok_or(Undecided::Outdated)?;
    let model = asked_model(&document, principal, &offer.name, new.parameters, &mut faults);
    if let Some(model) = &model {
        principal.require(&permission::to_use(model))?;
    }
    if let Some(schema) = document.input(at).filter(|schema| !schema.accepts_all()) {
        faults.extend(schema.check(new.parameters).err().unwrap_or_default().into_iter().map(at_parameters));
    }
    if !faults.is_empty() {
        return Err(Problem::invalid(faults).into());
    }
    Ok(Decision {
        service: chosen.service,
        durable: offer.durable,
        timeout_seconds,
        admission: Admission {
            counted_model: model.map(|model| counted_name(&document, model)),
            ..admission(origin, principal, new, chosen, entry.service(), offer, timeout_seconds)
        },
    })
}

/// The model that a context asks for, where its service lists its models. Calls by contexts are bound by what binds
/// those of the model endpoints.
fn asked_model(
    document: &ServiceDocument,
    principal: &Principal,
    capability: &str,
    parameters: &str,
    faults: &mut Vec<Fault>,
) -> Option<String> {
    document.service().transport.model_endpoint()?;
    let models = document.service().models.as_deref().filter(|_| !openai_endpoints::reads_only(capability))?;
    let Some(model) = model_use::asked(document, parameters) else {
        faults.push(Fault::new("#/parameters/model", "is required: the service lists its models"));
        return None;
    };
    if offer_of(models, &model).is_none() {
        let names = models.iter().map(|offer| offer.id.as_str());
        let usable = names.filter(|name| principal.may(&permission::to_use(name)));
        let named: Vec<&str> = usable.take(MAX_NAMED).collect();
        let mut detail = format!("is not a model of {}", document.service().id);
        if !named.is_empty() {
            detail.push_str(&format!(", which has {}", named.join(", ")));
        }
        faults.push(Fault::new("#/parameters/model", detail));
        return None;
    }
    Some(model)
}

/// The name under which usage counts a model: one that the service lists, or `*`.
fn counted_name(document: &ServiceDocument, model: String) -> String {
    let models = document.service().models.as_deref().unwrap_or_default();
    if models.iter().any(|offer| offer.id == model) { model } else { ANY.into() }
}

fn admission(
    origin: &RequestOrigin,
    principal: &Principal,
    new: &NewContext<'_>,
    chosen: &Candidate,
    service: &ServiceOutline,
    offer: &CapabilityOutline,
    timeout_seconds: u64,
) -> Admission {
    let now = origin.now;
    let starts = new.run_at.filter(|at| *at > now).unwrap_or(now);
    Admission {
        id: ContextId::new(origin.store, now, random::bytes()),
        tenant: principal.tenant.clone(),
        owner: principal.principal.clone(),
        capability: new.capability.clone(),
        owner_name: principal.name.clone(),
        replay_of: new.replay_of.clone(),
        asked_service: new.service.clone(),
        asked_version: new.version.as_ref().map(ToString::to_string),
        asked_tags: new.tags.clone(),
        service: service.id.clone(),
        version: chosen.version.clone(),
        price: offer.price.clone(),
        role: principal.role.clone(),
        counted_model: None,
        idempotent: offer.idempotent,
        retry: service.retry,
        priority: new.priority,
        source: new.source,
        metadata: new.metadata.map(RawValue::to_owned),
        idempotency_key: None,
        created_at: now,
        expires_at: starts.plus_ms(timeout_seconds * 1000),
        run_at: new.run_at,
        trace: origin.trace.clone(),
        trace_state: origin.trace_state.clone(),
        client: new.client.clone(),
        session: new.session.clone(),
        unasked: new.unasked,
        log_level: new.log_level.clone(),
        meta: new.meta.clone(),
        content: offer.content.unwrap_or_default(),
        origin: origin.gateway.clone(),
    }
}

/// After [`MAX_DECISIONS`].
pub fn changes_too_fast() -> Problem {
    Problem::internal("the registry changes faster than it can be read")
}

/// Decides with the caller's snapshot; a refusal is decided again with a fresh one.
pub async fn decide_surely(call: &Call, caller: &mut Caller, new: &NewContext<'_>) -> Result<Decision, Problem> {
    for decisions in 0..MAX_DECISIONS {
        match decide(&RequestOrigin::of(call), &caller.principal, &caller.snapshot, new).await {
            Ok(decision) if decision.durable || caller.snapshot.is_fresh() => return Ok(decision),
            Err(Undecided::Refused(problem)) if decisions > 0 => return Err(problem),
            Ok(_) | Err(Undecided::Refused(_) | Undecided::Outdated) => {}
        }
        let before = caller.snapshot.revision;
        caller.refresh().await?;
        if caller.snapshot.revision != before {
            caller.authenticate_again(call).await?;
        }
    }
    Err(changes_too_fast())
}
