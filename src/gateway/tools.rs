//! The tools of services that are MCP servers: read at registration and on request, and accepted.

use crate::objects::registry::messages::{AcceptTools, ToolsReply, WrittenService};
use crate::objects::registry::snapshot;
use crate::transport::mcp::catalogue_refresh::{self, RefreshResult};
use narthex_core::base::json::Fault;
use narthex_core::http::problem::Problem;

use super::answer::{Answer, internal};
use super::call::{Call, Caller};
use super::registry_client::{self, service_id};
use super::service_view::written;

/// Reads the tools of a service that was just written. If that fails, the response is that of the write.
pub async fn after_write(caller: &Caller, written: WrittenService) -> Result<WrittenService, Problem> {
    let service = &written.service.service;
    if service.transport.upstream().is_none() {
        return Ok(written);
    }
    let tenant = &caller.principal.tenant;
    let snapshot = snapshot::refreshed(tenant).await.map_err(internal)?;
    let read = match snapshot.document(service.id.as_str()).await.map_err(internal)? {
        Some(document) => catalogue_refresh::refresh(tenant, &document).await.map_err(internal)?,
        None => None,
    };
    Ok(match read {
        Some(RefreshResult { service: Some(service), .. }) => WrittenService { service, ..written },
        Some(RefreshResult { service: None, .. }) | None => written,
    })
}

/// Serves tools that are held back: those in the body, or all.
pub async fn accept(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    let names = call.read_optional_body(|body| body.strings("names", 500, 128)).await?;
    let accept = AcceptTools { id: service_id(caller, id)?, names };
    match registry_client::write(caller, &accept, "service").await? {
        ToolsReply::Unchanged => {
            let detail = "must name a tool that is held back";
            Err(Problem::invalid(vec![Fault::new("#/names", detail)]))
        }
        ToolsReply::Service(service) => written(&service),
    }
}
