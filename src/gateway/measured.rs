//! `/v1/services/{id}/heartbeat` and `/check`: the status that a service reports, and a probe of it.

use serde::Serialize;

use crate::execution::resolve_destination;
use crate::objects::lanes::client as lanes;
use crate::objects::registry::snapshot::ServiceDocument;
use crate::transport::mcp::catalogue_refresh;
use crate::transport::model::{self, Destination};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::execution::known_service::KnownService;
use narthex_core::http::problem::Problem;
use narthex_core::lane::observed::HealthStatus;
use narthex_core::service_lane::probing::ProbeError;

use super::answer::{Answer, internal};
use super::call::{Call, Caller};
use super::registry_client::document;

/// The default lease of a heartbeat, in seconds.
const DEFAULT_LEASE_SECONDS: u64 = 30;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct BeatView<'a> {
    id: &'a str,
    /// As it is shown from now on, which may differ from the reported status.
    #[cfg_attr(test, schemars(with = "narthex_core::services::ServiceStatus"))]
    status: &'a str,
    lease_until: String,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct CheckView<'a> {
    id: &'a str,
    /// `None` if the response does not show whether it is.
    healthy: Option<bool>,
    #[cfg_attr(test, schemars(with = "narthex_core::services::ServiceStatus"))]
    status: &'a str,
    status_code: Option<u16>,
    error: Option<ProbeError>,
    latency_ms: u64,
    at: String,
    /// For MCP servers: the reason why the tools could not be read, or null.
    #[serde(skip_serializing_if = "Option::is_none")]
    tools_error: Option<Option<String>>,
    /// For endpoints of models that are healthy: the names that the provider lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<Vec<String>>,
}

fn reported(text: &str) -> Option<HealthStatus> {
    Some(match text {
        "online" => HealthStatus::Online,
        "degraded" => HealthStatus::Degraded,
        "offline" => HealthStatus::Offline,
        _ => return None,
    })
}

pub async fn heartbeat(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    let (status, seconds) = call
        .read_optional_body(|body| {
            let status = body.parsed("status", "online, degraded or offline", reported);
            let seconds = body.integer("lease_seconds", 5..=3600);
            (status.unwrap_or(HealthStatus::Online), seconds.unwrap_or(DEFAULT_LEASE_SECONDS))
        })
        .await?;
    let entry = caller.snapshot.service(id).ok_or_else(|| Problem::not_found("service"))?;
    let tenant = &caller.principal.tenant;
    let until = lanes::heartbeat(tenant, entry, status, seconds * 1000).await.map_err(internal)?;
    let status = entry.service().status(&entry.measured());
    Answer::json(200, &BeatView { id, status, lease_until: until.text() })
}

/// The models that a provider lists.
async fn models(tenant: &TenantId, document: &ServiceDocument, origin: &str) -> Option<Vec<String>> {
    let (format, endpoint) = document.service().transport.model_endpoint()?;
    let (address, secrets) = resolve_destination(tenant, document, &endpoint.url, origin).await.ok()?;
    model::list(&Destination { format, endpoint, address: &address, secrets: &secrets }).await
}

pub async fn check(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    let entry = caller.snapshot.service(id).ok_or_else(|| Problem::not_found("service"))?;
    let tenant = &caller.principal.tenant;
    let document = document(entry).await?;
    let seen = lanes::check(tenant, entry, &document).await.map_err(internal)?;
    let read = catalogue_refresh::refresh(tenant, &document).await.map_err(internal)?;
    let models =
        if seen.good && !seen.unmeasured { models(tenant, &document, call.public_origin()).await } else { None };
    Answer::json(
        200,
        &CheckView {
            id,
            healthy: (!seen.unmeasured).then_some(seen.good),
            status: entry.service().status(&entry.measured()),
            status_code: seen.status_code,
            error: seen.error,
            latency_ms: seen.latency_ms,
            at: seen.at.text(),
            tools_error: read.map(|read| read.error),
            models,
        },
    )
}
