//! `tools/list`, and the capability behind a tool's name.

use serde_json::value::RawValue;

use crate::objects::registry::snapshot::{Entry, Snapshot};
use narthex_core::access::principal::Principal;
use narthex_core::base::canonical::digest;
use narthex_core::base::json::Object;
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
use narthex_core::models::endpoint::Endpoint;
use narthex_core::services::Service;
use narthex_core::services::openai_endpoints;
use narthex_core::services::outline::{CapabilityOutline, ServiceOutline, TransportOutline};
use narthex_core::services::routing::{latest, newest};

use super::super::answer::internal;
use super::super::call::{Call, Caller};
use super::super::registry_client::document;
use super::server_features::permission;
use super::{EndpointScope, context_tools, refresh_caller};

/// The largest page of tools, in bytes. It is large because many clients read only the first page.
const MAX_PAGE_BYTES: usize = 512 * 1024;
/// The services whose instructions are read, if many have some.
const MAX_INSTRUCTIONS: usize = 100;
/// Separates the service from the capability in a cursor; no name contains it.
const CURSOR_SEPARATOR: char = ' ';

/// The service and the capability of a tool.
pub struct Tool<'s> {
    pub entry: &'s Entry,
    pub capability: &'s CapabilityOutline,
}

fn tool_name(scope: EndpointScope<'_>, service: &ServiceId, capability: &str) -> String {
    if scope.is_combined() { names::tool(service, capability) } else { capability.into() }
}

/// The tool of this name at an endpoint, regardless of permissions.
pub fn find<'s>(snapshot: &'s Snapshot, scope: EndpointScope<'_>, name: &str) -> Option<Tool<'s>> {
    if let Some(id) = scope.0 {
        let entry = snapshot.service(id.as_str())?;
        let capability = latest(&entry.service().capabilities).remove(name)?;
        return is_tool(&entry.service().transport, name, capability.tool).then_some(Tool { entry, capability });
    }
    snapshot.services.iter().filter(|entry| names::may_be_of(name, &entry.service().id)).find_map(|entry| {
        let service = entry.service();
        let matches = |capability: &&CapabilityOutline| {
            names::tool(&service.id, &capability.name) == name
                && is_tool(&service.transport, &capability.name, capability.tool)
        };
        let capability = newest(service.capabilities.iter().filter(matches))?;
        Some(Tool { entry, capability })
    })
}

/// Whether a capability is a tool: as its registration says, else by its kind. Some capabilities of endpoints of models
/// are for clients of models.
fn is_tool(transport: &TransportOutline, capability: &str, registered: Option<bool>) -> bool {
    registered.unwrap_or_else(|| match transport {
        TransportOutline::Openai | TransportOutline::Anthropic => openai_endpoints::is_usually_tool(capability),
        TransportOutline::Demo => capability != Endpoint::Messages.capability(),
        TransportOutline::Http
        | TransportOutline::Mcp { .. }
        | TransportOutline::Socket { .. }
        | TransportOutline::Binding
        | TransportOutline::Unknown => true,
    })
}

/// Whether a capability is a tool that a principal may call.
fn may_see(principal: &Principal, service: &ServiceOutline, offer: &CapabilityOutline) -> bool {
    is_tool(&service.transport, &offer.name, offer.tool)
        && principal.may_call(&service.id, &offer.name, &offer.permissions)
}

/// Whether a principal may use any tool, prompt or resource of a service that takes new work.
fn may_use(principal: &Principal, service: &ServiceOutline) -> bool {
    let has_features = ["prompts", "resources"].into_iter().any(|kind| principal.may(&permission(&service.id, kind)));
    !service.draining && (has_features || service.capabilities.iter().any(|offer| may_see(principal, service, offer)))
}

/// The instructions for a client's model. At the endpoint of one service: those of the MCP server, else the service's
/// description. At the combined endpoint: those of all servers that the caller may use.
pub async fn instructions(scope: EndpointScope<'_>, caller: &Caller) -> Result<String, Problem> {
    let text = match scope.0 {
        Some(id) => instructions_of(caller, id).await?,
        None => combined_instructions(caller).await?,
    };
    let text = text.filter(|text| !text.is_empty());
    Ok(text.map_or_else(String::new, |text| format!(r#""instructions":{}"#, quoted(&text))))
}

fn own_instructions(service: &Service) -> Option<&str> {
    service.catalogue.as_ref()?.server.instructions.as_deref()
}

async fn instructions_of(caller: &Caller, id: &ServiceId) -> Result<Option<String>, Problem> {
    let Some(entry) = caller.snapshot.service(id.as_str()) else { return Ok(None) };
    let document = document(entry).await?;
    let service = document.service();
    let own = own_instructions(service).filter(|_| may_use(&caller.principal, entry.service()));
    Ok(Some(own.unwrap_or(&service.description).to_string()))
}

async fn combined_instructions(caller: &Caller) -> Result<Option<String>, Problem> {
    let has_any = |entry: &&Entry| entry.service().server.as_ref().is_some_and(|server| server.instructions);
    let may = |entry: &&Entry| may_use(&caller.principal, entry.service());
    let entries: Vec<&Entry> = caller.snapshot.services.iter().filter(has_any).filter(may).collect();
    let read = entries.get(..MAX_INSTRUCTIONS).unwrap_or(&entries);
    let (mut named, mut at) = (Vec::new(), 0);
    while let Some(rest) = read.get(at..).filter(|rest| !rest.is_empty()) {
        let (documents, covered) = caller.snapshot.first_documents(rest).await.map_err(internal)?;
        for service in documents.iter().map(|document| document.service()) {
            let text = own_instructions(service).map(ToString::to_string);
            named.extend(text.map(|text| (service.id.clone(), service.name.clone(), text)));
        }
        at += covered;
    }
    let all = named.iter().map(|(service, name, text)| ServiceInstructions { service, name, text });
    Ok(combined(&all.collect::<Vec<_>>(), entries.len() - read.len()))
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
    let (tools, last) = page(caller, scope, after, legacy).await?;
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

fn links<'a>(scope: EndpointScope<'_>, apps: &'a Apps<'a>, service: &'a ServiceId) -> Option<Links<'a>> {
    scope.is_combined().then_some(Links { service, apps, asked: None })
}

/// The services with tools at an endpoint, by id.
fn listed<'s>(scope: EndpointScope<'_>, snapshot: &'s Snapshot) -> impl Iterator<Item = &'s Entry> {
    let only = scope.0.cloned();
    let is_listed = move |entry: &&Entry| only.as_ref().is_none_or(|id| *id == entry.service().id);
    snapshot.services.iter().filter(|entry| !entry.service().draining).filter(is_listed)
}

/// The tools of a service that a principal may call.
fn visible<'s>(principal: &Principal, service: &'s ServiceOutline) -> Vec<&'s CapabilityOutline> {
    latest(&service.capabilities).into_values().filter(|offer| may_see(principal, service, offer)).collect()
}

/// A digest of all tools that a principal sees at an endpoint. A change of one that it does not see, but whose service
/// it may use, may change it too.
pub fn visible_digest(snapshot: &Snapshot, principal: &Principal, scope: EndpointScope<'_>) -> String {
    let mut all = String::new();
    let apps = apps(scope, snapshot);
    for entry in listed(scope, snapshot) {
        let service = entry.service();
        let visible = visible(principal, service);
        if visible.is_empty() {
            continue;
        }
        all.push_str(&format!("{} {}", service.id, service.tools));
        for capability in visible {
            all.push_str(&format!(" {} {}", capability.name, capability.version));
        }
        for app in service.server.iter().flat_map(|server| &server.apps) {
            // At the combined endpoint, its form depends on the other services.
            let uri = if scope.is_combined() { apps.uri(&service.id, app, false) } else { app.clone() };
            all.push_str(&format!(" {uri}"));
        }
        all.push('\n');
    }
    digest(&all)
}

/// A page of tools.
struct Page {
    text: String,
    last: Option<String>,
}

impl Page {
    /// Adds a tool; false if it does not fit.
    fn add(&mut self, service: &ServiceId, name: &str, tool: &str) -> bool {
        if self.last.is_some() && self.text.len() + tool.len() > MAX_PAGE_BYTES {
            return false;
        }
        if !self.text.is_empty() {
            self.text.push(',');
        }
        self.text.push_str(tool);
        self.last = Some(format!("{service}{CURSOR_SEPARATOR}{name}"));
        true
    }
}

/// The page of tools after this one, and the last of them if more follow.
async fn page(
    caller: &Caller,
    scope: EndpointScope<'_>,
    after: Option<(&str, &str)>,
    legacy: bool,
) -> Result<(String, Option<String>), Problem> {
    let text = if scope.0.is_none() && after.is_none() { context_tools::definitions(caller) } else { String::new() };
    let mut page = Page { text, last: None };
    let apps = apps(scope, &caller.snapshot);
    let is_left = |entry: &&Entry| after.is_none_or(|(id, _)| entry.service().id.as_str() >= id);
    let is_visible = |entry: &&Entry| !visible(&caller.principal, entry.service()).is_empty();
    let entries: Vec<&Entry> = listed(scope, &caller.snapshot).filter(is_left).filter(is_visible).collect();
    let mut at = 0;
    while let Some(rest) = entries.get(at..).filter(|rest| !rest.is_empty()) {
        let (documents, covered) = match rest {
            // That of one service is likely to be needed for calls too.
            [only] if scope.0.is_some() => (vec![document(only).await?], 1),
            rest => caller.snapshot.first_documents(rest).await.map_err(internal)?,
        };
        for document in &documents {
            if !add_tools(&mut page, caller, scope, document.service(), &apps, after, legacy) {
                return Ok((page.text, page.last));
            }
        }
        at += covered;
    }
    Ok((page.text, None))
}

/// Adds the tools of a service after this one; false if they do not all fit.
fn add_tools(
    page: &mut Page,
    caller: &Caller,
    scope: EndpointScope<'_>,
    service: &Service,
    apps: &Apps<'_>,
    after: Option<(&str, &str)>,
    legacy: bool,
) -> bool {
    let links = links(scope, apps, &service.id);
    let transport = TransportOutline::from(&service.transport);
    for (name, capability) in latest(&service.capabilities) {
        if !is_tool(&transport, name, capability.is_tool()) {
            continue;
        }
        let past = after.is_some_and(|after| (service.id.as_str(), name) <= after);
        if past || !caller.principal.may_call(&service.id, &capability.name, &capability.permissions) {
            continue;
        }
        let tasks = capability.supported_tasks(service.content);
        let tool = definition(&tool_name(scope, &service.id, name), capability, tasks, legacy, links.as_ref());
        if tool.is_some_and(|tool| !page.add(&service.id, name, &tool)) {
            return false;
        }
    }
    true
}
