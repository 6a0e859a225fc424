//! Prompts, resources and completions: asked of the MCP servers behind a door. They make no context.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::json;
use serde_json::value::RawValue;

use crate::auth::Principal;
use crate::core::mcp::client::request::Asked;
use crate::core::mcp::client::verdict::Came;
use crate::core::mcp::error::Error;
use crate::core::mcp::message::Request;
use crate::core::mcp::passing::{LeftOut, Page, Passed, addressed, error, items, meta, result};
use crate::core::mcp::reply::{private_for_a_while, result as answer};
use crate::core::problem::{Code, Problem};
use crate::core::time::Timestamp;
use crate::core::transport::Upstream;
use crate::core::upstream::NotCalled;
use crate::execution::{self, catalogues};
use crate::objects::registry::snapshot::Entry;
use crate::platform::clock;
use crate::transport::mcp::{Asker, Peer, ask};

use super::super::call::{Call, Caller};
use super::super::limits;
use super::upstream::Client;
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

/// Whether a server behind the door keeps sessions: each client has its own there.
pub(super) fn has_sessions(door: Door<'_>, caller: &Caller) -> bool {
    let keeps = |entry: &Entry| entry.service().catalogue.as_ref().is_some_and(|known| known.server.sessions);
    match door.0 {
        Some(id) => caller.snapshot.service(id).is_some_and(keeps),
        None => caller.snapshot.services.iter().any(|entry| keeps(entry) && may_use(&caller.principal, entry)),
    }
}

/// Whether there is anything of this service that somebody may use.
pub(super) fn may_use(principal: &Principal, entry: &Entry) -> bool {
    let service = entry.service();
    let may = |kind: &&str| principal.may(&permission(&service.id, kind));
    ["prompts", "resources"].iter().any(may)
        || service.capabilities.iter().any(|capability| principal.may_call(service, capability))
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

/// `params` are the request's.
pub async fn serve(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    request: &Request<'_>,
    method: Passed,
    client: Client<'_>,
) -> Result<String, Error> {
    brought_up_to_date(call, caller).await?;
    tools::known(caller, door)?;
    let unknown = || Error::Method { name: request.method.clone(), legacy: client.legacy };
    let params = request.params.map_or("{}", RawValue::get);
    let caller = &*caller;
    if let Some(id) = door.0 {
        let entry = caller.snapshot.service(id).filter(|entry| declares(entry, method.declared));
        let entry = entry.ok_or_else(unknown)?;
        caller.principal.require(&permission(id, method.kind))?;
        return one(call, caller, entry, method, params, client).await;
    }
    let may = |entry: &&Entry| caller.principal.may(&permission(&entry.service().id, method.kind));
    let theirs: Vec<&Entry> =
        caller.snapshot.services.iter().filter(|entry| declares(entry, method.declared)).filter(may).collect();
    if theirs.is_empty() {
        return Err(unknown());
    }
    if let Some(list) = method.list {
        return Ok(listed(call, caller, theirs, method, list, client).await);
    }
    let named =
        request.params.and_then(|params| addressed(params, theirs.iter().map(|entry| entry.service().id.as_str())));
    let Some((id, params)) = named else { return Err(Error::Params("Nothing here has this name.".into())) };
    let entry = caller.snapshot.service(id).ok_or_else(unknown)?;
    one(call, caller, entry, method, &params, client).await
}

/// The server of a service, asked in the name of who calls.
pub(super) async fn peer(
    call: &Call,
    caller: &Caller,
    entry: &Entry,
    client: Client<'_>,
) -> Result<(Peer, Upstream), Problem> {
    peer_of(&caller.principal, &call.origin, entry, client).await
}

/// The same for who is known by name. `origin` is the gateway's own.
pub(super) async fn peer_of(
    principal: &Principal,
    origin: &str,
    entry: &Entry,
    client: Client<'_>,
) -> Result<(Peer, Upstream), Problem> {
    let upstream = entry.service().transport.upstream().ok_or_else(|| Problem::not_found("service"))?;
    let Principal { tenant, principal, .. } = principal;
    let prepared = execution::prepared(tenant, entry, &upstream.url, origin).await;
    let prepared = prepared.map_err(|not_called| {
        let reason = match not_called {
            NotCalled::Address(refusal) => refusal.to_string(),
            NotCalled::Secrets => "its secrets could not be opened".into(),
            NotCalled::Token => "its authorization server gave no token".into(),
        };
        Problem::new(Code::NoServiceAvailable, format!("The server was not called: {reason}."))
    })?;
    let Client { capabilities, session, .. } = client;
    Ok((Peer::new(tenant, entry, prepared, Asker { principal, session, capabilities }), upstream.clone()))
}

/// Asks one server, and gives what it says.
async fn one(
    call: &Call,
    caller: &Caller,
    entry: &Entry,
    method: Passed,
    params: &str,
    client: Client<'_>,
) -> Result<String, Error> {
    let Caller { principal, snapshot, .. } = caller;
    limits::work(call, principal, snapshot, &entry.service().id, method.kind).await?;
    let (peer, upstream) = peer(call, caller, entry, client).await?;
    let until = clock::now().plus_ms(upstream.timeout_seconds * 1000);
    let asked = Asked::new(method.name, params);
    let came = match ask(&peer, &asked, &[], until, false).await {
        Ok(conversation) => conversation.response().await,
        Err(Came::Answered(response)) => Ok(response),
        Err(came) => Err(came),
    };
    if catalogues::are_read() {
        call.keep_running(catalogues::settled());
    }
    let unacceptable = || Problem::new(Code::NoServiceAvailable, "The server's answer is none that can be passed on.");
    match came {
        Ok(Ok(given)) => Ok(result(method, &given, client.legacy).ok_or_else(unacceptable)?),
        Ok(Err(refused)) => {
            let told = error(&refused.whole, client.legacy).filter(|told| !peer.secrets.shows_in(told));
            Err(Error::Passed(told.ok_or_else(unacceptable)?))
        }
        Err(came) => {
            // It may say more than its status.
            let refused = came.error().and_then(|refused| error(&refused.whole, client.legacy));
            if let Some(told) = refused.filter(|told| !peer.secrets.shows_in(told)) {
                return Err(Error::Passed(told));
            }
            let reason = Some(came.reason(method.name)).filter(|reason| !peer.secrets.shows_in(reason));
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            let detail = format!("The server could not be asked now{reason}. Try again later.");
            Err(Problem::new(Code::NoServiceAvailable, detail).with_header("Retry-After", "5").into())
        }
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
    client: Client<'_>,
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
        match peer(call, caller, entry, client).await {
            Ok((peer, _)) => pages(&peer, &entry.service().id, method, list, until).await,
            Err(problem) => (Vec::new(), vec![LeftOut::of(&entry.service().id, problem.detail)]),
        }
    });
    let (lists, left_out): (Vec<_>, Vec<_>) = lists.buffered(AT_ONCE).unzip().await;
    let mut all: Vec<String> = lists.into_iter().flatten().collect();
    let left_out: Vec<LeftOut> = left_out.into_iter().flatten().collect();
    let mut size = 0;
    all.truncate(MOST_ITEMS);
    all.retain(|item| {
        size += item.len() + 1;
        size <= MOST_BYTES
    });
    let legacy = client.legacy;
    let plain = answer(legacy, &[&format!(r#""{list}":[{}]"#, all.join(",")), &private_for_a_while(legacy)]);
    with_left_out(&plain, &left_out).unwrap_or(plain)
}

/// All that one server lists, until then, and what is missing of it.
async fn pages(
    peer: &Peer,
    service: &str,
    method: Passed,
    list: &str,
    until: Timestamp,
) -> (Vec<String>, Vec<LeftOut>) {
    let (mut found, mut missing): (Vec<String>, Vec<LeftOut>) = (Vec::new(), Vec::new());
    let mut cursor: Option<String> = None;
    let mut last: Option<Box<RawValue>> = None;
    for _ in 0..MOST_PAGES {
        let again = cursor.as_deref() == Some("");
        let params = cursor.map_or_else(|| json!({}), |next| json!({"cursor": next})).to_string();
        let response = match ask(peer, &Asked::new(method.name, &params), &[], until, false).await {
            Ok(asked) => asked.response().await,
            Err(came) => Err(came),
        };
        let page = match response {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => {
                missing.push(missed(peer, service, method, &Came::Answered(Err(error))));
                break;
            }
            Err(came) => {
                missing.push(missed(peer, service, method, &came));
                break;
            }
        };
        // An empty cursor may lead back to the beginning.
        if again && last.as_ref().is_some_and(|last| last.get() == page.get()) {
            break;
        }
        let Some(Page { items, left_out, next }) = items(list, service, &page) else {
            missing.push(LeftOut::of(service, format!("its answer to {} is no list", method.name)));
            break;
        };
        found.extend(items);
        missing.extend(left_out);
        cursor = next;
        last = Some(page);
        if cursor.is_none() {
            break;
        }
    }
    (found, missing)
}

fn missed(peer: &Peer, service: &str, method: Passed, came: &Came) -> LeftOut {
    let reason = Some(came.reason(method.name)).filter(|reason| !peer.secrets.shows_in(reason));
    LeftOut::of(service, reason.unwrap_or_else(|| "it could not be asked".into()))
}

/// A result that names what is missing in it, where something is.
fn with_left_out(plain: &str, left_out: &[LeftOut]) -> Option<String> {
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(plain).ok()?;
    let meta = RawValue::from_string(meta(left_out, members.get("_meta").copied())?).ok()?;
    members.insert("_meta".into(), &meta);
    serde_json::to_string(&members).ok()
}
