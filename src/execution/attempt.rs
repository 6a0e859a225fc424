//! One call of one service and its result.

use std::rc::Rc;

use serde_json::value::RawValue;

use crate::objects::registry::snapshot::{Entry, Missing, ServiceDocument, Snapshot};
use crate::objects::secrets::DecryptedSecrets;
use crate::platform::{Failure, clock, log_event, random, settings};
use crate::transport::mcp::{Peer, Requester};
use crate::transport::openai::Endpoint;
use crate::transport::{self, Order};
use narthex_core::base::json::Fault;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::{self, CallResult, NotCalled, Verdict};
use narthex_core::context::lease::LeaseNumber;
use narthex_core::execution::attempt_result::AttemptResult;
use narthex_core::execution::driver::Call;
use narthex_core::http::egress_address::{Address, AddressError};
use narthex_core::http::trace_context::TraceContext;
use narthex_core::mcp::client::result::{self, RequestOutcome};
use narthex_core::models::endpoint::Format;
use narthex_core::models::stated_usage::StatedUsage;
use narthex_core::services::schema::Schema;
use narthex_core::services::transport::{ModelEndpoint, Transport, Upstream};

use super::observer::Observer;
use super::{CALLBACK_PATH, Client, model_use, redaction};

/// The timeout of a capability that is no longer offered, in seconds.
const DEFAULT_TIMEOUT_SECONDS: u64 = 60;

/// The response of a service, by the kind of its transport.
enum ServiceResponse {
    Native(CallResult),
    Openai(CallResult),
    Mcp(RequestOutcome),
}

impl ServiceResponse {
    /// What the response states that the call used and cost. Providers of models have formats of their own.
    fn stated(&self) -> Result<Option<StatedUsage>, Vec<Fault>> {
        match self {
            ServiceResponse::Native(answer) => response::stated_usage(answer),
            ServiceResponse::Openai(_) | ServiceResponse::Mcp(_) => Ok(None),
        }
    }

    /// The HTTP status, and the verdict on the response.
    fn read(self, service: &ServiceId, output: Option<&Schema>) -> (Option<u16>, Verdict) {
        match self {
            ServiceResponse::Native(answer) => (answer.status(), response::read(service, answer, output)),
            ServiceResponse::Openai(answer) => (answer.status(), response::read_openai(service, answer, output)),
            ServiceResponse::Mcp(outcome) => (outcome.status(), result::read(service, outcome, output)),
        }
    }
}

/// Calls one service once.
pub async fn attempt(
    tenant: &TenantId,
    call: &Call,
    snapshot: &Snapshot,
    entry: &Entry,
    client: Client,
) -> AttemptResult {
    let Call { work, lease, left_ms, answer_timeout_ms, .. } = call;
    let (admission, lease, before) = (&work.admission, *lease, clock::now());
    let document = match entry.document().await {
        Ok(document) if document.position(&admission.capability, &admission.version).is_some() => document,
        // It was deleted or changed after the choice.
        Ok(_) | Err(Missing::Deleted) => return not_called(lease, entry, before),
        Err(missing @ (Missing::Unreadable | Missing::Failed(_))) => {
            let failure = Failure::from(missing);
            let (context, service) = (&admission.id, &entry.service().id);
            log_event!(DocumentNotRead, tenant = tenant, context = context, service = service, detail = &failure);
            return not_called(lease, entry, before);
        }
    };
    let trace = TraceContext::accept(Some(&admission.trace), admission.trace_state.as_deref(), random::bytes());
    let token = snapshot.callback_key.token(tenant, &admission.id, lease);
    let callback_url = format!("{}{CALLBACK_PATH}{token}", admission.origin);
    let now = clock::now();
    let [left_ms, answer_timeout_ms] = [left_ms, answer_timeout_ms].map(|ms| ms.saturating_sub(now.since(before)));
    let order = Order { work, lease, callback_url, trace, now, left_ms, answer_timeout_ms };
    let observer = Observer::new(admission, lease, client);
    let (response, secrets) = call_service(tenant, entry, &document, &order, observer).await;
    conclude(&order, &document, response, secrets.as_deref())
}

/// The result of an attempt without a document to call the service by. It says nothing about the service.
fn not_called(lease: LeaseNumber, entry: &Entry, began: Timestamp) -> AttemptResult {
    let service = entry.service().id.clone();
    let verdict = response::read(&service, CallResult::NotCalled(NotCalled::Document), None);
    AttemptResult::of_response(lease, service, (began, clock::now()), None, verdict, DEFAULT_TIMEOUT_SECONDS)
}

/// The response, and the credentials that the service received.
type CallOutput = (ServiceResponse, Option<Rc<DecryptedSecrets>>);
/// The address of a service, and its credentials.
pub type Destination = (Rc<Address>, Rc<DecryptedSecrets>);

/// Calls the service over its transport.
async fn call_service(
    tenant: &TenantId,
    entry: &Entry,
    document: &ServiceDocument,
    order: &Order<'_>,
    observer: Observer<'_>,
) -> CallOutput {
    let origin = &order.work.admission.origin;
    match &document.service().transport {
        Transport::Http { url } => call_http(order, resolve_destination(tenant, document, url, origin).await).await,
        Transport::Binding { binding, path } => {
            let address = settings::current().binding_address(tenant, binding, path).map(Rc::new);
            call_http(order, with_secrets(tenant, document, address).await).await
        }
        Transport::Openai(endpoint) => call_model(tenant, document, (Format::OpenAi, endpoint), order, observer).await,
        Transport::Anthropic(endpoint) => {
            call_model(tenant, document, (Format::Anthropic, endpoint), order, observer).await
        }
        Transport::Mcp(upstream) => call_mcp(tenant, document, upstream, order, observer).await,
        Transport::Socket { .. } => {
            (ServiceResponse::Native(transport::socket::call(tenant, entry, order).await), None)
        }
        Transport::Demo {} => (ServiceResponse::Native(transport::demo::call(tenant, order).await), None),
    }
}

async fn call_model(
    tenant: &TenantId,
    document: &ServiceDocument,
    (format, registered): (Format, &ModelEndpoint),
    order: &Order<'_>,
    observer: Observer<'_>,
) -> CallOutput {
    let origin = &order.work.admission.origin;
    match resolve_destination(tenant, document, &registered.url, origin).await {
        Ok((address, secrets)) => {
            let asked = model_use::asked(document, order.work.parameters.get());
            let upstream = asked.as_deref().and_then(|model| model_use::upstream(document, model));
            let service = &document.service().id;
            let endpoint = Endpoint { tenant, service, address: &address, format, registered, upstream };
            let answer = transport::openai::call(order, &secrets, &endpoint, &observer).await;
            (ServiceResponse::Openai(answer), Some(secrets))
        }
        Err(not_called) => (ServiceResponse::Openai(CallResult::NotCalled(not_called)), None),
    }
}

async fn call_http(order: &Order<'_>, destination: Result<Destination, NotCalled>) -> CallOutput {
    match destination {
        Ok((address, secrets)) => {
            let answer = transport::http::call(order, &secrets, &address).await;
            (ServiceResponse::Native(answer), Some(secrets))
        }
        Err(not_called) => (ServiceResponse::Native(CallResult::NotCalled(not_called)), None),
    }
}

async fn call_mcp(
    tenant: &TenantId,
    document: &ServiceDocument,
    upstream: &Upstream,
    order: &Order<'_>,
    observer: Observer<'_>,
) -> CallOutput {
    let admission = &order.work.admission;
    let destination = match resolve_destination(tenant, document, &upstream.url, &admission.origin).await {
        Ok(destination) => destination,
        Err(not_called) => {
            return (ServiceResponse::Mcp(RequestOutcome::Transport(CallResult::NotCalled(not_called))), None);
        }
    };
    let secrets = destination.1.clone();
    // Clients that created the context by REST can fill in a form.
    let form = RawValue::from_string(r#"{"elicitation":{}}"#.into()).ok();
    let capabilities = admission.client.as_deref().or(form.as_deref());
    // Questions and their answers are stored.
    let unasked = admission.unasked || !admission.content.is_full();
    let (principal, session) = (Some(&admission.owner), admission.session.as_ref());
    let requester = Requester { principal, session, capabilities, unasked };
    let peer = Peer::new(tenant, document, destination, requester);
    let outcome = transport::mcp::call_tool(order, peer, document, &observer.publishing()).await;
    (ServiceResponse::Mcp(outcome), Some(secrets))
}

/// The result of the attempt by the response of the service.
fn conclude(
    order: &Order<'_>,
    document: &ServiceDocument,
    response: ServiceResponse,
    secrets: Option<&DecryptedSecrets>,
) -> AttemptResult {
    let (service, admission) = (document.service(), &order.work.admission);
    let offered = document.position(&admission.capability, &admission.version);
    let output = offered.and_then(|at| document.output(at));
    let offer = offered.and_then(|at| service.capabilities.get(at));
    let (allowed, price) = (offer.map(|offer| offer.timeout_seconds), offer.and_then(|offer| offer.price.clone()));
    let stated = stated_usage(order, &service.id, &response);
    let (status_code, mut verdict) = response.read(&service.id, output);
    redaction::redact_credentials(&mut verdict.outcome, secrets);
    let (service, times) = (service.id.clone(), (order.now, clock::now()));
    let timeout_seconds = allowed.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
    let spent = model_use::spent(document, order.work, verdict.result.as_deref());
    let mut result = AttemptResult::of_response(order.lease, service, times, status_code, verdict, timeout_seconds);
    (result.report.spent, result.report.price) = (spent.map(Box::new), price);
    result.report.stated = stated.map(Box::new);
    result
}

/// What a response states in `usage`. A fault there does not make a good result fail: it is logged.
fn stated_usage(order: &Order<'_>, service: &ServiceId, response: &ServiceResponse) -> Option<StatedUsage> {
    let admission = &order.work.admission;
    response.stated().unwrap_or_else(|faults| {
        let texts: Vec<String> = faults.iter().map(|fault| format!("{} {}", fault.pointer, fault.detail)).collect();
        let (tenant, context, detail) = (&admission.tenant, &admission.id, texts.join("; "));
        log_event!(UsageNotRead, tenant = tenant, context = context, service = service, detail = detail);
        None
    })
}

/// The destination of a call. The address rules are checked again, as they may have changed since the registration.
pub async fn resolve_destination(
    tenant: &TenantId,
    document: &ServiceDocument,
    url: &str,
    origin: &str,
) -> Result<Destination, NotCalled> {
    with_secrets(tenant, document, document.address(url, origin)).await
}

async fn with_secrets(
    tenant: &TenantId,
    document: &ServiceDocument,
    address: Result<Rc<Address>, AddressError>,
) -> Result<Destination, NotCalled> {
    let address = address.map_err(NotCalled::Address)?;
    let secrets = document.secrets(tenant).await.map_err(|failure| {
        log_event!(SecretsNotDecrypted, tenant = tenant, service = &document.service().id, detail = &failure);
        NotCalled::Secrets
    })?;
    Ok((address, secrets))
}
