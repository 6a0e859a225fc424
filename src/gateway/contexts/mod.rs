//! `/v1/contexts`: create, watch, answer, cancel and replay contexts.

mod admission_check;
mod context_state;
mod create;
mod delivery;
mod input;

use std::rc::Rc;

use serde_json::value::RawValue;

use crate::auth::credential_watch::RequiredPermissions;
use crate::objects::contexts::client::{call_with_revision, is_store_of};
use crate::objects::contexts::messages::{
    Cancel, CancelOutcome, CancelReply, ContextDetails, ContextReply, Get, GetOrigin, OriginReply, Wait,
};
use crate::objects::contexts::preconditions::{KnownRevision, StoreRequest};
use crate::objects::lanes::client as lanes;
use crate::objects::registry::snapshot::Snapshot;
use crate::platform::settings::Settings;
use crate::platform::{Failure, log_event, tasks};
use crate::transport;
use narthex_core::access::principal::denied;
use narthex_core::base::id::ContextId;
use narthex_core::base::json::Object;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::context::Background;
use narthex_core::context::create_request::NewContext;
use narthex_core::http::prefer;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::services::transport::Transport;

use super::answer::{Answer, JSON, internal};
use super::call::{Call, Caller};
use super::models;

use context_state::{MAX_WAIT, context_json, retry_after_seconds, with_preference_applied};

pub use context_state::ContextState;
pub use create::{create, create_and_wait};
pub use input::{input, submit_input};

/// The context if the caller has access to it; else the same problem as for an unknown id.
pub async fn visible<R>(
    call: &Call,
    caller: &mut Caller,
    id: &str,
    request: impl Fn(ContextId) -> R,
) -> Result<(ContextId, Box<ContextDetails>), Problem>
where
    R: StoreRequest<Fence = KnownRevision, Reply = ContextReply>,
{
    let id = ContextId::parse(id).ok_or_else(|| Problem::not_found("context"))?;
    let tenant = caller.principal.tenant.clone();
    let revision = caller.snapshot.revision;
    if !is_store_of(&tenant, &id, &mut caller.snapshot).await.map_err(internal)? {
        return Err(Problem::not_found("context"));
    }
    let request = request(id.clone());
    let reply = call_with_revision(&tenant, &id, &mut caller.snapshot, &request).await.map_err(internal)?;
    if caller.snapshot.revision != revision {
        // The store knew a newer revision, in which the caller's credentials may have ended.
        caller.authenticate_again(call).await?;
    }
    let may_see =
        |found: &ContextDetails| found.owner == caller.principal.principal || caller.principal.sees_all_contexts();
    match reply.found().filter(|found| may_see(found)) {
        Some(found) => Ok((id, found)),
        None => Err(Problem::not_found("context")),
    }
}

pub async fn get(call: &Call, mut caller: Caller, id: &str) -> Result<Answer, Problem> {
    let preference = prefer::parse(call.request.header("prefer"));
    // HEAD does not wait.
    let seconds = preference.wait_seconds.map(|seconds| seconds.min(MAX_WAIT)).filter(|_| !call.is_head());
    let (id, mut found) = visible(call, &mut caller, id, |id| Get { id }).await?;
    caller.principal.require("contexts:read")?;
    if let Some(seconds) = seconds.filter(|seconds| *seconds > 0 && !found.ended) {
        let milliseconds = u64::from(seconds) * 1000;
        let (principal, needed) = (caller.principal.clone(), RequiredPermissions::one("contexts:read"));
        let wait = |id| Wait { id, milliseconds, to_the_end: true, news_after: None };
        (_, found) = call.while_good(&principal, needed, visible(call, &mut caller, id.as_str(), wait)).await??;
    }
    let result = found.result.as_deref().map(RawValue::get);
    let mut answer = Answer::text(200, JSON, context_json(&found.view, found.parameters.get(), result));
    if !found.ended {
        answer = answer.with("retry-after", &retry_after_seconds(found.run_at));
    }
    Ok(with_preference_applied(answer, &preference, seconds, false))
}

pub async fn cancel(call: &Call, mut caller: Caller, id: &str) -> Result<Answer, Problem> {
    let (id, found) = visible(call, &mut caller, id, |id| Get { id }).await?;
    caller.principal.require("contexts:cancel")?;
    let tenant = caller.principal.tenant.clone();
    let cancel = Cancel { id: id.clone() };
    match call_with_revision(&tenant, &id, &mut caller.snapshot, &cancel).await.map_err(internal)? {
        CancelReply::Cancelled { view, outcome, background } => match outcome {
            CancelOutcome::Now => {
                if let Some(background) = background {
                    notify_service(call, &caller, id, background);
                }
                Ok(Answer::text(200, JSON, context_json(&view, found.parameters.get(), None)))
            }
            CancelOutcome::Asked => Ok(Answer::text(202, JSON, context_json(&view, found.parameters.get(), None))
                .with("location", &format!("/v1/contexts/{id}"))
                .with("retry-after", "1")),
            CancelOutcome::Ended => Err(Problem::new(Code::Conflict, "The context has already ended.")),
        },
        CancelReply::Nothing => Err(Problem::not_found("context")),
    }
}

/// Notifies the service that runs the context in the background, after the response.
fn notify_service(call: &Call, caller: &Caller, id: ContextId, background: Background) {
    let (canceller, snapshot) = (Canceller::new(call, caller), caller.snapshot.clone());
    tasks::keep_running(async move { canceller.notify(&snapshot, &id, &background).await });
}

/// Cancels contexts of a tenant and notifies the services that run them.
pub struct Canceller {
    pub tenant: TenantId,
    settings: Rc<Settings>,
    origin: String,
}

impl Canceller {
    pub fn new(call: &Call, caller: &Caller) -> Self {
        let tenant = caller.principal.tenant.clone();
        Self { tenant, settings: call.settings.clone(), origin: call.origin.clone() }
    }

    async fn notify(&self, snapshot: &Snapshot, id: &ContextId, background: &Background) {
        let Some(entry) = snapshot.service(background.service.as_str()) else { return };
        if entry.service().transport.connects() {
            return lanes::withdraw(&self.tenant, entry, id, None, true).await;
        }
        let (service, location) = (&background.service, background.location.as_deref());
        let document = match entry.document().await {
            Ok(document) => document,
            Err(missing) => {
                let failure = Failure::from(missing);
                log_event!(DocumentNotRead, tenant = &self.tenant, context = id, service = service, detail = &failure);
                return;
            }
        };
        let address = match &document.service().transport {
            Transport::Http { url } => {
                let may_call = |url: &str| self.settings.may_call(url, Some(&self.origin)).ok();
                // If the location may not be called, the notification goes to the service's own URL.
                transport::http::named_at(url, location).and_then(|named| may_call(&named)).or_else(|| may_call(url))
            }
            Transport::Binding { binding, path } => {
                transport::binding::cancel_address(&self.tenant, binding, path, location).ok()
            }
            Transport::Openai(_)
            | Transport::Anthropic(_)
            | Transport::Mcp(_)
            | Transport::Socket { .. }
            | Transport::Demo {} => return,
        };
        match (address, document.secrets(&self.tenant).await) {
            (Some(address), Ok(secrets)) => transport::http::cancel(&secrets, &address, id).await,
            (None, _) => {
                let detail = "the gateway may not call the address of the service";
                log_event!(
                    CancellationNotSent,
                    tenant = &self.tenant,
                    context = id,
                    service = service,
                    detail = detail
                );
            }
            (_, Err(failure)) => {
                log_event!(
                    SecretsNotDecrypted,
                    tenant = &self.tenant,
                    context = id,
                    service = service,
                    detail = &failure
                );
            }
        }
    }

    /// Cancels a context and notifies its service; nothing if the store does not know the context.
    pub async fn cancel(&self, snapshot: &mut Rc<Snapshot>, id: &ContextId) -> Result<Option<CancelOutcome>, Failure> {
        match call_with_revision(&self.tenant, id, snapshot, &Cancel { id: id.clone() }).await? {
            CancelReply::Cancelled { outcome, background, .. } => {
                if let Some(background) = background {
                    self.notify(snapshot, id, &background).await;
                }
                Ok(Some(outcome))
            }
            CancelReply::Nothing => Ok(None),
        }
    }
}

/// Creates a context with the request of an ended one; routing and checks are repeated.
pub async fn replay(call: &Call, mut caller: Caller, id: &str) -> Result<Answer, Problem> {
    if !caller.principal.may_create_any() {
        return Err(denied("contexts:create:*.*"));
    }
    let text = call.optional_json_text().await?;
    let faults = Object::new(&text, "#").map_or_else(|fault| vec![fault], Object::finish);
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    let (id, _) = visible(call, &mut caller, id, |id| Get { id }).await?;
    let tenant = caller.principal.tenant.clone();
    let request = GetOrigin { id: id.clone() };
    let origin = match call_with_revision(&tenant, &id, &mut caller.snapshot, &request).await.map_err(internal)? {
        OriginReply::Origin(origin) => origin,
        OriginReply::Nothing => return Err(Problem::not_found("context")),
    };
    if !origin.ended {
        return Err(Problem::new(Code::Conflict, "The context has not ended yet. Wait until it ends, or cancel it."));
    }
    let admission = origin.admission;
    if !admission.content.is_full() {
        let detail = "The parameters of this context were not kept, so that it cannot be replayed.";
        return Err(Problem::new(Code::ContentNotKept, detail));
    }
    let (service, parameters) = match admission.is_model_call() {
        true => models::replay::request(&caller, &admission.capability, &origin.parameters)
            .map(|(service, parameters)| (Some(service), parameters))?,
        false => (admission.asked_service.clone(), origin.parameters),
    };
    let started_at = admission.run_at.unwrap_or(admission.created_at).max(admission.created_at);
    // The endpoints of models have longer times than their capabilities.
    let seconds = (!admission.is_model_call()).then(|| admission.expires_at.since(started_at) / 1000);
    let new = NewContext {
        capability: admission.capability,
        service,
        version: admission.asked_version.as_deref().and_then(|range| range.parse().ok()),
        tags: admission.asked_tags,
        parameters: parameters.get(),
        priority: admission.priority,
        timeout_seconds: seconds,
        source: admission.source,
        metadata: admission.metadata.as_deref(),
        run_at: None,
        replay_of: Some(id),
        client: None,
        session: None,
        unasked: false,
        log_level: None,
        meta: admission.meta,
    };
    create::create_as_preferred(call, caller, &new, &text).await
}
