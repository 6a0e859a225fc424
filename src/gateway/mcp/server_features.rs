//! Features of the MCP servers behind an endpoint other than tools, and the permissions to use them.

use crate::objects::registry::snapshot::Entry;
use narthex_core::access::principal::Principal;
use narthex_core::base::service_id::ServiceId;
use narthex_core::http::problem::Problem;

use super::super::call::Caller;
use super::super::registry_client::document;
use super::EndpointScope;

/// The permission to use one kind of a service's features.
pub(super) fn permission(service: &ServiceId, kind: &str) -> String {
    format!("contexts:create:{service}.{kind}")
}

/// Whether a server declares this capability.
pub(super) fn declares(entry: &Entry, name: &str) -> bool {
    entry.service().declares(name)
}

/// Whether the endpoint is that of one server with resources.
pub(super) fn has_resources(scope: EndpointScope<'_>, caller: &Caller) -> bool {
    scope.0.and_then(|id| caller.snapshot.service(id.as_str())).is_some_and(|entry| declares(entry, "resources"))
}

/// Whether a server behind the endpoint keeps sessions: each client then has its own session at that server.
pub(super) fn has_sessions(scope: EndpointScope<'_>, caller: &Caller) -> bool {
    let keeps = |entry: &Entry| entry.service().has_sessions();
    match scope.0 {
        Some(id) => caller.snapshot.service(id.as_str()).is_some_and(keeps),
        None => caller.snapshot.services.iter().any(|entry| keeps(entry) && may_use(&caller.principal, entry)),
    }
}

/// Whether a principal may use any feature of a service.
pub(super) fn may_use(principal: &Principal, entry: &Entry) -> bool {
    let service = entry.service();
    let may = |kind: &&str| principal.may(&permission(&service.id, kind));
    ["prompts", "resources"].iter().any(may)
        || service
            .capabilities
            .iter()
            .any(|capability| principal.may_call(&service.id, &capability.name, &capability.permissions))
}

/// The capabilities other than tools that the servers behind an endpoint declare, as members of an object, each with a
/// comma before it. Notifications of changes are declared at the endpoint of one server only. Legacy clients get the
/// declaration of logging elsewhere.
pub async fn declared(scope: EndpointScope<'_>, caller: &Caller, legacy: bool) -> Result<String, Problem> {
    let entries = || {
        let all = caller.snapshot.services.iter().filter(|entry| entry.service().transport.is_mcp());
        all.filter(|entry| scope.0.is_none_or(|id| *id == entry.service().id))
    };
    // The declaration itself is shown where it is that of one server.
    let only = match entries().next().filter(|_| scope.0.is_some()) {
        Some(entry) => Some(document(entry).await?),
        None => None,
    };
    let catalogue = only.as_ref().and_then(|document| document.service().catalogue.as_ref());
    let member = |name: &&str| {
        entries().find(|entry| declares(entry, name))?;
        let value = catalogue.and_then(|catalogue| catalogue.server.declared(name)).unwrap_or_else(|| "{}".into());
        Some(format!(r#","{name}":{value}"#))
    };
    let applies = |name: &&&str| !(legacy && **name == "logging");
    Ok(["prompts", "resources", "completions", "logging"].iter().filter(applies).filter_map(member).collect())
}
