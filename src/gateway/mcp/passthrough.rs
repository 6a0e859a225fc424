//! Prompts, resources and completions: requests are forwarded to the MCP servers behind an endpoint, without a context.

use serde_json::value::RawValue;

use crate::objects::registry::snapshot::Entry;
use narthex_core::mcp::app_uris::{self, Apps};
use narthex_core::mcp::client::request_meta;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::message::Request;
use narthex_core::mcp::names;
use narthex_core::mcp::passthrough::{ForwardedMethod, Subject, about, in_own_words};
use narthex_core::mcp::resource_links::Links;

use super::super::call::{Call, Caller};
use super::relay::{RelayOptions, forward};
use super::server_features::{declares, permission};
use super::upstream::ClientProfile;
use super::{EndpointScope, lists, refresh_caller, tools};

const NO_PROMPT: &str = "No such prompt, or you do not have access to it.";
const NO_RESOURCE: &str = "No such resource, or you do not have access to it.";

pub async fn serve(
    call: &Call,
    caller: &mut Caller,
    scope: EndpointScope<'_>,
    request: &Request<'_>,
    method: ForwardedMethod,
    client: ClientProfile<'_>,
) -> Result<String, Error> {
    refresh_caller(call, caller).await?;
    tools::require_service(caller, scope)?;
    let unsupported = || Error::Method { name: request.method.clone(), legacy: client.legacy };
    let meta = request_meta::passed(request.params)?;
    let options = RelayOptions { client, meta: meta.as_deref() };
    let caller = &*caller;
    if let Some(id) = scope.0 {
        let entry = caller.snapshot.service(id.as_str()).filter(|entry| declares(entry, method.declared));
        let entry = entry.ok_or_else(unsupported)?;
        caller.principal.require(&permission(id, method.kind))?;
        let params = request.params.map_or("{}", RawValue::get);
        return match method.list {
            Some(list) => lists::list_of_server(call, caller, entry, (method, list), params, options).await,
            None => forward(call, caller, entry, method, params, options).await,
        };
    }
    let may = |entry: &&Entry| caller.principal.may(&permission(&entry.service().id, method.kind));
    let servers: Vec<&Entry> =
        caller.snapshot.services.iter().filter(|entry| declares(entry, method.declared)).filter(may).collect();
    if servers.is_empty() {
        return Err(unsupported());
    }
    if let Some(list) = method.list {
        return lists::combined_list(call, caller, servers, (method, list), request.params, options).await;
    }
    let no_subject = || Error::Params("params must name a prompt or a resource".into());
    let params = request.params.ok_or_else(no_subject)?;
    let subject = about(params).ok_or_else(no_subject)?;
    let (entry, own_name) = owner(call, caller, &servers, options, &subject).await?;
    let params = in_own_words(params, &subject, &own_name).ok_or_else(no_subject)?;
    let result = forward(call, caller, entry, method, &params, options).await?;
    let apps = Apps::of(caller.snapshot.services.iter().map(Entry::service));
    let asked = match &subject {
        Subject::Resource(uri) => Some((own_name.as_str(), uri.as_str())),
        Subject::Prompt(_) => None,
    };
    let links = Links { service: &entry.service().id, apps: &apps, asked };
    Ok(links.result(&result).into_owned())
}

/// The service that owns a prompt or resource of the combined endpoint, and its name at that service.
async fn owner<'c>(
    call: &Call,
    caller: &Caller,
    servers: &[&'c Entry],
    options: RelayOptions<'_>,
    subject: &Subject,
) -> Result<(&'c Entry, String), Error> {
    let unknown = || {
        let detail = if matches!(subject, Subject::Prompt(_)) { NO_PROMPT } else { NO_RESOURCE };
        Error::Params(detail.into())
    };
    let ids = || servers.iter().map(|entry| &entry.service().id);
    let (id, own_name) = match subject {
        Subject::Prompt(name) => {
            ids().find_map(|id| Some((id, names::own_prompt(id, name)?.to_string()))).ok_or_else(unknown)?
        }
        Subject::Resource(uri) => match app_uris::owner(uri, ids()) {
            Some(found) => found,
            None if uri.starts_with(app_uris::SCHEME) => {
                let id = lists::app_owner(call, caller, servers, options, uri).await?;
                (ids().find(|candidate| **candidate == id).ok_or_else(unknown)?, uri.clone())
            }
            None => return Err(unknown()),
        },
    };
    let entry = servers.iter().find(|entry| entry.service().id == *id).ok_or_else(unknown)?;
    Ok((entry, own_name))
}
