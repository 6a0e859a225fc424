//! `tools/list`, and which capability a tool's name stands for.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::objects::registry::snapshot::{Entry, Snapshot};
use narthex_core::access::principal::Principal;
use narthex_core::base::canonical::digest;
use narthex_core::base::json::Object;
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
use super::offered::permission;
use super::{Door, brought_up_to_date, plain};

/// How long the text of a page's tools may get, in bytes: many clients read no other page.
const MAX_BYTES: usize = 512 * 1024;
/// Between the service and the capability in a cursor; neither has it in its name.
const BETWEEN: char = ' ';

/// A tool, found by its name.
pub struct Tool<'s> {
    pub entry: &'s Entry,
    pub capability: &'s Capability,
}

/// The version of each capability that a call without a version gets, by name.
fn latest(service: &Service) -> BTreeMap<&str, &Capability> {
    let mut latest: BTreeMap<&str, &Capability> = BTreeMap::new();
    for capability in &service.capabilities {
        let known = latest.entry(&capability.name).or_insert(capability);
        *known = newest([*known, capability].into_iter()).unwrap_or(capability);
    }
    latest
}

fn named(door: Door<'_>, service: &str, capability: &str) -> String {
    if door.joins() { names::tool(service, capability) } else { capability.into() }
}

/// What a name stands for at this door, whoever may call it.
pub fn find<'s>(snapshot: &'s Snapshot, door: Door<'_>, name: &str) -> Option<Tool<'s>> {
    if let Some(id) = door.0 {
        let entry = snapshot.service(id)?;
        let capability = latest(entry.service()).remove(name)?;
        return Some(Tool { entry, capability });
    }
    snapshot.services.iter().filter(|entry| names::may_be_of(name, &entry.service().id)).find_map(|entry| {
        let service = entry.service();
        let is_it = |capability: &&Capability| names::tool(&service.id, &capability.name) == name;
        let capability = newest(service.capabilities.iter().filter(is_it))?;
        Some(Tool { entry, capability })
    })
}

/// Whether a principal may use anything of a service.
fn may_use(principal: &Principal, service: &Service) -> bool {
    let more = ["prompts", "resources"].into_iter().any(|kind| principal.may(&permission(&service.id, kind)));
    !service.draining
        && (more || service.capabilities.iter().any(|one| principal.may_call(&service.id, &one.name, &one.permissions)))
}

/// What a client may tell its model of what is here: what the server says of itself, else what the service is registered
/// with; where all are together, what those servers say that it may use.
pub fn instructions(door: Door<'_>, caller: &Caller) -> String {
    fn said(service: &Service) -> Option<&str> {
        service.catalogue.as_ref()?.server.instructions.as_deref()
    }
    fn of_many(service: &Service) -> Option<ServiceInstructions<'_>> {
        Some(ServiceInstructions { service: &service.id, name: &service.name, text: said(service)? })
    }
    let may = |service: &&Service| may_use(&caller.principal, service);
    let text = match door.0 {
        Some(id) => caller.snapshot.service(id).map(Entry::service).map(|service| {
            let own = Some(service).filter(may).and_then(said);
            own.unwrap_or(&service.description).to_string()
        }),
        None => {
            let mut services: Vec<&Service> = caller.snapshot.services.iter().map(Entry::service).filter(may).collect();
            services.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            combined(&services.into_iter().filter_map(of_many).collect::<Vec<_>>())
        }
    };
    let text = text.filter(|text| !text.is_empty());
    text.map_or_else(String::new, |text| format!(r#""instructions":{}"#, quoted(&text)))
}

/// The service a door is for has to be there.
pub fn known(caller: &Caller, door: Door<'_>) -> Result<(), Problem> {
    match door.0 {
        Some(id) if caller.snapshot.service(id).is_none() => Err(Problem::not_found("service")),
        _ => Ok(()),
    }
}

pub async fn list(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    params: Option<&RawValue>,
    legacy: bool,
) -> Result<String, Error> {
    brought_up_to_date(call, caller).await?;
    known(caller, door)?;
    let wrong = || Error::Params("The cursor is not one this list gave out.".into());
    let asked = params.and_then(|params| Object::new(params.get(), "#").ok()?.raw("cursor"));
    // A cursor belongs to whoever may see what comes before and after it.
    let principal = &caller.principal;
    let bound = format!("tools {} {} {} {legacy}", principal.tenant, principal.principal, door.0.unwrap_or_default());
    let after = match asked {
        Some(text) => {
            let text: String = serde_json::from_str(text.get()).map_err(|_| wrong())?;
            Some(page_cursor::read(&caller.snapshot.cursor_key, &text, &bound).ok_or_else(wrong)?)
        }
        None => None,
    };
    let after = after.as_deref().and_then(|last| last.split_once(BETWEEN));
    let (tools, last) = page(caller, door, after, legacy);
    let tools = format!(r#""tools":[{tools}]"#);
    let next = last.map_or_else(String::new, |last| {
        format!(r#""nextCursor":"{}""#, page_cursor::write(&caller.snapshot.cursor_key, &last, &bound))
    });
    Ok(result(legacy, &[&tools, &next, &private_for_a_while(legacy)]))
}

/// Whose the addresses of apps are, where the tools of all are together.
fn apps<'s>(door: Door<'_>, snapshot: &'s Snapshot) -> Apps<'s> {
    if door.joins() { Apps::of(snapshot.services.iter().map(Entry::service)) } else { Apps::default() }
}

fn links<'a>(door: Door<'_>, apps: &'a Apps<'a>, service: &'a Service) -> Option<Links<'a>> {
    door.joins().then_some(Links { service: &service.id, apps, asked: None })
}

/// A digest of all tools that a principal sees here.
pub fn seen(snapshot: &Snapshot, principal: &Principal, door: Door<'_>) -> String {
    let mut services: Vec<&Service> = snapshot.services.iter().map(Entry::service).collect();
    services.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let mut all = String::new();
    let apps = apps(door, snapshot);
    for service in services {
        if service.draining || door.0.is_some_and(|id| id != service.id) {
            continue;
        }
        let links = links(door, &apps, service);
        let shown = latest(service)
            .into_iter()
            .filter(|(_, capability)| principal.may_call(&service.id, &capability.name, &capability.permissions));
        for tool in shown.filter_map(|(name, capability)| {
            definition(&named(door, &service.id, name), capability, false, links.as_ref())
        }) {
            all.push_str(&tool);
        }
    }
    digest(&all)
}

/// The tools after this one, as far as a page goes, and the last of them where more follow.
fn page(caller: &Caller, door: Door<'_>, after: Option<(&str, &str)>, legacy: bool) -> (String, Option<String>) {
    let mut text = if door.0.is_none() && after.is_none() { plain::listed(caller) } else { String::new() };
    let mut last = None;
    let apps = apps(door, &caller.snapshot);
    let mut services: Vec<&Service> = caller.snapshot.services.iter().map(Entry::service).collect();
    services.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    for service in services {
        let past = after.is_some_and(|(id, _)| service.id.as_str() < id);
        if past || service.draining || door.0.is_some_and(|id| id != service.id) {
            continue;
        }
        let links = links(door, &apps, service);
        for (name, capability) in latest(service) {
            let past = after.is_some_and(|after| (service.id.as_str(), name) <= after);
            if past || !caller.principal.may_call(&service.id, &capability.name, &capability.permissions) {
                continue;
            }
            let Some(tool) = definition(&named(door, &service.id, name), capability, legacy, links.as_ref()) else {
                continue;
            };
            if last.is_some() && text.len() + tool.len() > MAX_BYTES {
                return (text, last);
            }
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&tool);
            last = Some(format!("{}{BETWEEN}{name}", service.id));
        }
    }
    (text, None)
}
