//! Prompts, resources and completions: asked of the MCP servers behind a door. They make no context.

use serde_json::value::RawValue;

use crate::objects::registry::snapshot::Entry;
use crate::transport::mcp::catalogue_refresh;
use narthex_core::mcp::app_uris::{self, Apps};
use narthex_core::mcp::client::request_meta;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::message::Request;
use narthex_core::mcp::names;
use narthex_core::mcp::passthrough::{ForwardedMethod, Subject, about, in_own_words};
use narthex_core::mcp::resource_links::Links;

use super::super::call::{Call, Caller};
use super::offered::{declares, permission};
use super::relay::{Wish, one};
use super::upstream::Client;
use super::{Door, brought_up_to_date, lists, tools};

const NOTHING: &str = "Nothing here has this name.";

pub async fn serve(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    request: &Request<'_>,
    method: ForwardedMethod,
    client: Client<'_>,
) -> Result<String, Error> {
    let served = passed_on(call, caller, door, request, method, client).await;
    // Whatever was asked, a server may have said meanwhile that its tools have changed.
    if catalogue_refresh::are_read() {
        call.keep_running(catalogue_refresh::settled());
    }
    served
}

async fn passed_on(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    request: &Request<'_>,
    method: ForwardedMethod,
    client: Client<'_>,
) -> Result<String, Error> {
    brought_up_to_date(call, caller).await?;
    tools::known(caller, door)?;
    let unknown = || Error::Method { name: request.method.clone(), legacy: client.legacy };
    let meta = request_meta::passed(request.params)?;
    let wish = Wish { client, meta: meta.as_deref() };
    let caller = &*caller;
    if let Some(id) = door.0 {
        let entry = caller.snapshot.service(id).filter(|entry| declares(entry, method.declared));
        let entry = entry.ok_or_else(unknown)?;
        caller.principal.require(&permission(id, method.kind))?;
        let params = request.params.map_or("{}", RawValue::get);
        return match method.list {
            Some(list) => lists::of_one(call, caller, entry, (method, list), params, wish).await,
            None => one(call, caller, entry, method, params, wish).await,
        };
    }
    let may = |entry: &&Entry| caller.principal.may(&permission(&entry.service().id, method.kind));
    let theirs: Vec<&Entry> =
        caller.snapshot.services.iter().filter(|entry| declares(entry, method.declared)).filter(may).collect();
    if theirs.is_empty() {
        return Err(unknown());
    }
    if let Some(list) = method.list {
        return lists::of_all(call, caller, theirs, (method, list), request.params, wish).await;
    }
    let nothing = || Error::Params(NOTHING.into());
    let params = request.params.ok_or_else(nothing)?;
    let asked = about(params).ok_or_else(nothing)?;
    let (entry, own) = whose(call, caller, &theirs, wish, &asked).await?;
    let params = in_own_words(params, &asked, &own).ok_or_else(nothing)?;
    let answer = one(call, caller, entry, method, &params, wish).await?;
    let apps = Apps::of(caller.snapshot.services.iter().map(Entry::service));
    let asked = match &asked {
        Subject::Resource(uri) => Some((own.as_str(), uri.as_str())),
        Subject::Prompt(_) => None,
    };
    let links = Links { service: &entry.service().id, apps: &apps, asked };
    Ok(links.result(&answer).into_owned())
}

/// The service that something among the things of all is of, and what that service calls it.
async fn whose<'c>(
    call: &Call,
    caller: &Caller,
    theirs: &[&'c Entry],
    wish: Wish<'_>,
    asked: &Subject,
) -> Result<(&'c Entry, String), Error> {
    let nothing = || Error::Params(NOTHING.into());
    let ids = || theirs.iter().map(|entry| entry.service().id.as_str());
    let (id, own) = match asked {
        Subject::Prompt(name) => {
            ids().find_map(|id| Some((id, names::own_prompt(id, name)?.to_string()))).ok_or_else(nothing)?
        }
        Subject::Resource(uri) => match app_uris::owner(uri, ids()) {
            Some(found) => found,
            None if uri.starts_with(app_uris::SCHEME) => {
                let id = lists::whose_app(call, caller, theirs, wish, uri).await?;
                (ids().find(|known| *known == id).ok_or_else(nothing)?, uri.clone())
            }
            None => return Err(nothing()),
        },
    };
    let entry = theirs.iter().find(|entry| entry.service().id == id).ok_or_else(nothing)?;
    Ok((entry, own))
}
