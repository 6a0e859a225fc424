//! `tools/list`, and the capability behind a tool's name.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::objects::registry::snapshot::{Entry, Snapshot};
use narthex_core::access::principal::Principal;
use narthex_core::base::canonical::digest;
use narthex_core::base::json::Object;
use narthex_core::base::order;
use narthex_core::base::service_id::ServiceId;
use narthex_core::http::page_cursor;
use narthex_core::http::problem::Problem;
use narthex_core::mcp::app_uris::Apps;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::instructions::{ServiceInstructions, combined};
use narthex_core::mcp::names;
use narthex_core::mcp::resource_links::Links;
use narthex_core::mcp::responses::{private_for_a_while, quoted, result};
use narthex_core::mcp::tool::definition;
use narthex_core::services::Service;
use narthex_core::services::capability::Capability;
use narthex_core::services::routing::newest;

use super::super::call::{Call, Caller};
use super::server_features::permission;
use super::{EndpointScope, context_tools, refresh_caller};

/// The largest page of tools, in bytes. It is large because many clients read only the first page.
const MAX_PAGE_BYTES: usize = 512 * 1024;
/// Separates the service from the capability in a cursor; no name contains it.
const CURSOR_SEPARATOR: char = ' ';

/// The service and the capability of a tool.
pub struct Tool<'s> {
    pub entry: &'s Entry,
    pub capability: &'s Capability,
}

/// The version of each capability that a call without a version uses, by name.
fn latest(service: &Service) -> BTreeMap<&str, &Capability> {
    let mut latest: BTreeMap<&str, &Capability> = BTreeMap::new();
    for capability in &service.capabilities {
        let current = latest.entry(&capability.name).or_insert(capability);
        *current = newest([*current, capability].into_iter()).unwrap_or(capability);
    }
    latest
}

fn tool_name(scope: EndpointScope<'_>, service: &ServiceId, capability: &str) -> String {
    if scope.is_combined() { names::tool(service, capability) } else { capability.into() }
}

/// The tool of this name at an endpoint, regardless of permissions.
pub fn find<'s>(snapshot: &'s Snapshot, scope: EndpointScope<'_>, name: &str) -> Option<Tool<'s>> {
    if let Some(id) = scope.0 {
        let entry = snapshot.service(id.as_str())?;
        let capability = latest(entry.service()).remove(name)?;
        return Some(Tool { entry, capability });
    }
    snapshot.services.iter().filter(|entry| names::may_be_of(name, &entry.service().id)).find_map(|entry| {
        let service = entry.service();
        let matches = |capability: &&Capability| names::tool(&service.id, &capability.name) == name;
        let capability = newest(service.capabilities.iter().filter(matches))?;
        Some(Tool { entry, capability })
    })
}

/// Whether a principal may use any tool, prompt or resource of a service that takes new work.
fn may_use(principal: &Principal, service: &Service) -> bool {
    let has_features = ["prompts", "resources"].into_iter().any(|kind| principal.may(&permission(&service.id, kind)));
    !service.draining
        && (has_features
            || service
                .capabilities
                .iter()
                .any(|capability| principal.may_call(&service.id, &capability.name, &capability.permissions)))
}

/// The instructions for a client's model. At the endpoint of one service: those of the MCP server, else the service's
/// description. At the combined endpoint: those of all servers that the caller may use.
pub fn instructions(scope: EndpointScope<'_>, caller: &Caller) -> String {
    fn own_instructions(service: &Service) -> Option<&str> {
        service.catalogue.as_ref()?.server.instructions.as_deref()
    }
    fn named_instructions(service: &Service) -> Option<ServiceInstructions<'_>> {
        Some(ServiceInstructions { service: &service.id, name: &service.name, text: own_instructions(service)? })
    }
    let may = |service: &&Service| may_use(&caller.principal, service);
    let text = match scope.0 {
        Some(id) => caller.snapshot.service(id.as_str()).map(Entry::service).map(|service| {
            let own = Some(service).filter(may).and_then(own_instructions);
            own.unwrap_or(&service.description).to_string()
        }),
        None => {
            let mut services: Vec<&Service> = caller.snapshot.services.iter().map(Entry::service).filter(may).collect();
            order::sort_by(&mut services, |a, b| a.id.cmp(&b.id));
            combined(&services.into_iter().filter_map(named_instructions).collect::<Vec<_>>())
        }
    };
    let text = text.filter(|text| !text.is_empty());
    text.map_or_else(String::new, |text| format!(r#""instructions":{}"#, quoted(&text)))
}

/// Checks that the service of an endpoint exists.
pub fn require_service(caller: &Caller, scope: EndpointScope<'_>) -> Result<(), Problem> {
    match scope.0 {
        Some(id) if caller.snapshot.service(id.as_str()).is_none() => Err(Problem::not_found("service")),
        _ => Ok(()),
    }
}

pub async fn list(
    call: &Call,
    caller: &mut Caller,
    scope: EndpointScope<'_>,
    params: Option<&RawValue>,
    legacy: bool,
) -> Result<String, Error> {
    refresh_caller(call, caller).await?;
    require_service(caller, scope)?;
    let bad_cursor = || Error::Params("The cursor is not from this list.".into());
    let cursor = params.and_then(|params| Object::new(params.get(), "#").ok()?.raw("cursor"));
    // A cursor is bound to the principal and the endpoint that the list was made for.
    let principal = &caller.principal;
    let binding = format!("tools {} {} {} {legacy}", principal.tenant, principal.principal, scope.name());
    let after = match cursor {
        Some(text) => {
            let text: String = serde_json::from_str(text.get()).map_err(|_| bad_cursor())?;
            Some(page_cursor::read(&caller.snapshot.cursor_key, &text, &binding).ok_or_else(bad_cursor)?)
        }
        None => None,
    };
    let after = after.as_deref().and_then(|last| last.split_once(CURSOR_SEPARATOR));
    let (tools, last) = page(caller, scope, after, legacy);
    let tools = format!(r#""tools":[{tools}]"#);
    let next = last.map_or_else(String::new, |last| {
        format!(r#""nextCursor":"{}""#, page_cursor::write(&caller.snapshot.cursor_key, &last, &binding))
    });
    Ok(result(legacy, &[&tools, &next, &private_for_a_while(legacy)]))
}

/// The owners of app URIs, at the combined endpoint.
fn apps<'s>(scope: EndpointScope<'_>, snapshot: &'s Snapshot) -> Apps<'s> {
    if scope.is_combined() { Apps::of(snapshot.services.iter().map(Entry::service)) } else { Apps::default() }
}

fn links<'a>(scope: EndpointScope<'_>, apps: &'a Apps<'a>, service: &'a Service) -> Option<Links<'a>> {
    scope.is_combined().then_some(Links { service: &service.id, apps, asked: None })
}

/// A digest of all tools that a principal sees at an endpoint.
pub fn visible_digest(snapshot: &Snapshot, principal: &Principal, scope: EndpointScope<'_>) -> String {
    let mut services: Vec<&Service> = snapshot.services.iter().map(Entry::service).collect();
    order::sort_by(&mut services, |a, b| a.id.cmp(&b.id));
    let mut all = String::new();
    let apps = apps(scope, snapshot);
    for service in services {
        if service.draining || scope.0.is_some_and(|id| *id != service.id) {
            continue;
        }
        let links = links(scope, &apps, service);
        let visible = latest(service)
            .into_iter()
            .filter(|(_, capability)| principal.may_call(&service.id, &capability.name, &capability.permissions));
        for tool in visible.filter_map(|(name, capability)| {
            definition(&tool_name(scope, &service.id, name), capability, false, links.as_ref())
        }) {
            all.push_str(&tool);
        }
    }
    digest(&all)
}

/// The page of tools after this one, and the last of them if more follow.
fn page(
    caller: &Caller,
    scope: EndpointScope<'_>,
    after: Option<(&str, &str)>,
    legacy: bool,
) -> (String, Option<String>) {
    let mut text =
        if scope.0.is_none() && after.is_none() { context_tools::definitions(caller) } else { String::new() };
    let mut last = None;
    let apps = apps(scope, &caller.snapshot);
    let mut services: Vec<&Service> = caller.snapshot.services.iter().map(Entry::service).collect();
    order::sort_by(&mut services, |a, b| a.id.cmp(&b.id));
    for service in services {
        let past = after.is_some_and(|(id, _)| service.id.as_str() < id);
        if past || service.draining || scope.0.is_some_and(|id| *id != service.id) {
            continue;
        }
        let links = links(scope, &apps, service);
        for (name, capability) in latest(service) {
            let past = after.is_some_and(|after| (service.id.as_str(), name) <= after);
            if past || !caller.principal.may_call(&service.id, &capability.name, &capability.permissions) {
                continue;
            }
            let Some(tool) = definition(&tool_name(scope, &service.id, name), capability, legacy, links.as_ref())
            else {
                continue;
            };
            if last.is_some() && text.len() + tool.len() > MAX_PAGE_BYTES {
                return (text, last);
            }
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&tool);
            last = Some(format!("{}{CURSOR_SEPARATOR}{name}", service.id));
        }
    }
    (text, None)
}
