//! The tools of services that are MCP servers: read when they are registered and when somebody asks, and accepted.

use crate::objects::registry::messages::{Ask, Reply};
use crate::objects::registry::snapshot;
use crate::transport::mcp::catalogue_refresh::{self, RefreshResult};
use narthex_core::base::json::{Fault, Object};
use narthex_core::http::problem::Problem;

use super::answer::{Answer, internal};
use super::call::{Call, Caller};
use super::registry_client::ask_registry;
use super::service_view::written;

/// Reads the tools of a service that was just written. What the write gave is answered all the same.
pub async fn after_write(caller: &Caller, reply: Reply) -> Result<Reply, Problem> {
    let Reply::Service { service, created, measured, has_lane, signing_secret } = reply else { return Ok(reply) };
    if service.service.transport.upstream().is_none() {
        return Ok(Reply::Service { service, created, measured, has_lane, signing_secret });
    }
    let tenant = &caller.principal.tenant;
    let snapshot = snapshot::refreshed(tenant).await.map_err(internal)?;
    let read = match snapshot.service(&service.service.id) {
        Some(entry) => catalogue_refresh::refresh(tenant, entry).await.map_err(internal)?,
        None => None,
    };
    let service = match read {
        Some(RefreshResult { reply: Reply::Service { service: read, .. }, .. }) => read,
        _ => service,
    };
    Ok(Reply::Service { service, created, measured, has_lane, signing_secret })
}

/// Serves tools that are held back: those that are named, or all.
pub async fn accept(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    let bytes = call.optional_json_body().await?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let mut body = Object::new(text, "#").map_err(|fault| Problem::invalid(vec![fault]))?;
    let names = body.strings("names", 500, 128);
    let faults = body.finish();
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    match ask_registry(caller, Ask::AcceptTools { id: id.into(), names }).await? {
        Reply::Unchanged => {
            let detail = "names no tool that is held back";
            Err(Problem::invalid(vec![Fault::new("#/names", detail)]))
        }
        reply => written(reply),
    }
}
