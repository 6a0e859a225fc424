//! Prompts, resources and completions: asked of the MCP servers behind a door. They make no context.

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::json;
use serde_json::value::RawValue;

use crate::auth::Principal;
use crate::core::mcp::client::request::Asked;
use crate::core::mcp::client::verdict::Came;
use crate::core::mcp::error::Error;
use crate::core::mcp::message::Request;
use crate::core::mcp::passing::{Passed, addressed, error, items, result};
use crate::core::mcp::reply::{private_for_a_while, result as answer};
use crate::core::problem::{Code, Problem};
use crate::core::transport::Upstream;
use crate::core::upstream::NotCalled;
use crate::execution;
use crate::objects::registry::snapshot::Entry;
use crate::platform::clock;
use crate::transport::mcp::{Peer, ask};

use super::super::call::{Call, Caller};
use super::super::limits;
use super::{Door, brought_up_to_date, tools};

/// Servers that are asked at the same time for a list of all, for how long, and how much of it is taken.
const AT_ONCE: usize = 6;
const LIST_MS: u64 = 5_000;
const MOST_PAGES: usize = 20;
const MOST_ITEMS: usize = 2_000;
const MOST_BYTES: usize = 1024 * 1024;

/// The permission to use what a service has of this kind.
pub(super) fn permission(service: &str, kind: &str) -> String {
    format!("contexts:create:{service}.{kind}")
}

/// Whether a server says that it has this.
fn declares(entry: &Entry, name: &str) -> bool {
    entry.service().catalogue.as_ref().is_some_and(|catalogue| catalogue.server.declares(name))
}

/// Whether the door is of one server, which has resources.
pub(super) fn has_resources(door: Door<'_>, caller: &Caller) -> bool {
    door.0.and_then(|id| caller.snapshot.service(id)).is_some_and(|entry| declares(entry, "resources"))
}

/// What the servers behind a door declare beside tools, as members of an object, each with a comma before it. What they
/// tell of changes is told at the door of one server; legacy clients are told of logging anyway.
pub fn declared(door: Door<'_>, caller: &Caller, legacy: bool) -> String {
    let entries = || {
        let all = caller.snapshot.services.iter().filter(|entry| entry.service().transport.upstream().is_some());
        all.filter(|entry| door.0.is_none_or(|id| id == entry.service().id))
    };
    let member = |name: &&str| {
        let entry = entries().find(|entry| declares(entry, name))?;
        let catalogue = entry.service().catalogue.as_ref().filter(|_| door.0.is_some());
        let value = catalogue.and_then(|known| known.server.declared(name)).unwrap_or_else(|| "{}".into());
        Some(format!(r#","{name}":{value}"#))
    };
    let asked = |name: &&&str| !(legacy && **name == "logging");
    ["prompts", "resources", "completions", "logging"].iter().filter(asked).filter_map(member).collect()
}

/// `params` are the request's; `capabilities` what its client can be asked, an object's text.
pub async fn serve(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    request: &Request<'_>,
    method: Passed,
    (capabilities, legacy): (Option<&RawValue>, bool),
) -> Result<String, Error> {
    brought_up_to_date(call, caller).await?;
    tools::known(caller, door)?;
    let unknown = || Error::Method { name: request.method.clone(), legacy };
    let params = request.params.map_or("{}", RawValue::get);
    let caller = &*caller;
    if let Some(id) = door.0 {
        let entry = caller.snapshot.service(id).filter(|entry| declares(entry, method.declared));
        let entry = entry.ok_or_else(unknown)?;
        caller.principal.require(&permission(id, method.kind))?;
        return one(call, caller, entry, method, params, (capabilities, legacy)).await;
    }
    let may = |entry: &&Entry| caller.principal.may(&permission(&entry.service().id, method.kind));
    let theirs: Vec<&Entry> =
        caller.snapshot.services.iter().filter(|entry| declares(entry, method.declared)).filter(may).collect();
    if theirs.is_empty() {
        return Err(unknown());
    }
    if let Some(list) = method.list {
        return Ok(listed(call, caller, theirs, method, list, legacy).await);
    }
    let named =
        request.params.and_then(|params| addressed(params, theirs.iter().map(|entry| entry.service().id.as_str())));
    let Some((id, params)) = named else { return Err(Error::Params("Nothing here has this name.".into())) };
    let entry = caller.snapshot.service(id).ok_or_else(unknown)?;
    one(call, caller, entry, method, &params, (capabilities, legacy)).await
}

/// The server of a service, asked in the name of who calls.
pub(super) async fn peer(
    call: &Call,
    caller: &Caller,
    entry: &Entry,
    capabilities: Option<&RawValue>,
) -> Result<(Peer, Upstream), Problem> {
    let upstream = entry.service().transport.upstream().ok_or_else(|| Problem::not_found("service"))?;
    let Principal { tenant, principal, .. } = &caller.principal;
    let prepared = execution::prepared(tenant, entry, &upstream.url, &call.origin).await;
    let prepared = prepared.map_err(|not_called| {
        let reason = match not_called {
            NotCalled::Address(refusal) => refusal.to_string(),
            NotCalled::Secrets => "its secrets could not be opened".into(),
            NotCalled::Token => "its authorization server gave no token".into(),
        };
        Problem::new(Code::NoServiceAvailable, format!("The server was not called: {reason}."))
    })?;
    Ok((Peer::new(tenant, entry, prepared, principal, capabilities), upstream.clone()))
}

/// Asks one server, and gives what it says.
async fn one(
    call: &Call,
    caller: &Caller,
    entry: &Entry,
    method: Passed,
    params: &str,
    (capabilities, legacy): (Option<&RawValue>, bool),
) -> Result<String, Error> {
    let Caller { principal, snapshot, .. } = caller;
    limits::work(call, principal, snapshot, &entry.service().id, method.kind).await?;
    let (peer, upstream) = peer(call, caller, entry, capabilities).await?;
    let until = clock::now().plus_ms(upstream.timeout_seconds * 1000);
    let asked = Asked::new(method.name, params);
    let came = match ask(&peer, &asked, &[], until, false).await {
        Ok(conversation) => conversation.response().await,
        Err(Came::Answered(response)) => Ok(response),
        Err(came) => Err(came),
    };
    let unacceptable = || Problem::new(Code::NoServiceAvailable, "The server's answer is none that can be passed on.");
    match came {
        Ok(Ok(given)) => Ok(result(method, &given, legacy).ok_or_else(unacceptable)?),
        Ok(Err(refused)) => {
            let told = error(&refused.whole, legacy).filter(|told| !peer.secrets.shows_in(told));
            Err(Error::Passed(told.ok_or_else(unacceptable)?))
        }
        Err(_) => Err(Problem::new(Code::NoServiceAvailable, "The server could not be asked now. Try again later.")
            .with_header("Retry-After", "5")
            .into()),
    }
}

/// A list of all servers' things. What one has that cannot be asked, or may not be asked now by a limit, is missing; the
/// others' is there.
async fn listed(
    call: &Call,
    caller: &Caller,
    entries: Vec<&Entry>,
    method: Passed,
    list: &str,
    legacy: bool,
) -> String {
    let mut within = Vec::with_capacity(entries.len());
    for entry in entries {
        let Caller { principal, snapshot, .. } = caller;
        if limits::work(call, principal, snapshot, &entry.service().id, method.kind).await.is_ok() {
            within.push(entry);
        }
    }
    let until = clock::now().plus_ms(LIST_MS);
    let lists = stream::iter(within).map(|entry| async move {
        let mut found: Vec<String> = Vec::new();
        let Ok((peer, _)) = peer(call, caller, entry, None).await else { return found };
        let mut cursor: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let params = cursor.map_or_else(|| json!({}), |next| json!({"cursor": next})).to_string();
            let Ok(asked) = ask(&peer, &Asked::new(method.name, &params), &[], until, false).await else { break };
            let Ok(Ok(page)) = asked.response().await else { break };
            let Some((more, next)) = items(list, &entry.service().id, &page) else { break };
            found.extend(more);
            match next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        found
    });
    let mut all: Vec<String> = lists.buffered(AT_ONCE).collect::<Vec<_>>().await.into_iter().flatten().collect();
    let mut size = 0;
    all.truncate(MOST_ITEMS);
    all.retain(|item| {
        size += item.len() + 1;
        size <= MOST_BYTES
    });
    answer(legacy, &[&format!(r#""{list}":[{}]"#, all.join(",")), &private_for_a_while(legacy)])
}
