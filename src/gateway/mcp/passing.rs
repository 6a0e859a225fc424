//! Prompts, resources and completions: asked of the MCP servers behind a door. They make no context.

use serde_json::value::RawValue;

use crate::execution;
use crate::objects::registry::snapshot::Entry;
use crate::platform::clock;
use crate::transport::mcp::catalogue_refresh;
use crate::transport::mcp::{Asker, Peer, ask};
use narthex_core::access::principal::Principal;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::NotCalled;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::mcp::app_uris::{self, Apps};
use narthex_core::mcp::client::request::Asked;
use narthex_core::mcp::client::request_meta;
use narthex_core::mcp::client::result::Came;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::message::Request;
use narthex_core::mcp::names;
use narthex_core::mcp::passthrough::{About, Passed, about, error, in_own_words, result};
use narthex_core::mcp::resource_links::Links;
use narthex_core::services::transport::Upstream;

use super::super::call::{Call, Caller};
use super::super::limits;
use super::upstream::Client;
use super::{Door, brought_up_to_date, lists, tools};

const NOTHING: &str = "Nothing here has this name.";

/// How a request is passed on.
#[derive(Clone, Copy)]
pub(super) struct Wish<'r> {
    pub client: Client<'r>,
    /// What the request says for the server.
    pub meta: Option<&'r RawValue>,
}

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
        || service
            .capabilities
            .iter()
            .any(|capability| principal.may_call(&service.id, &capability.name, &capability.permissions))
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

pub async fn serve(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    request: &Request<'_>,
    method: Passed,
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
    method: Passed,
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
        About::Resource(uri) => Some((own.as_str(), uri.as_str())),
        About::Prompt(_) => None,
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
    asked: &About,
) -> Result<(&'c Entry, String), Error> {
    let nothing = || Error::Params(NOTHING.into());
    let ids = || theirs.iter().map(|entry| entry.service().id.as_str());
    let (id, own) = match asked {
        About::Prompt(name) => {
            ids().find_map(|id| Some((id, names::own_prompt(id, name)?.to_string()))).ok_or_else(nothing)?
        }
        About::Resource(uri) => match app_uris::owner(uri, ids()) {
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
    Ok((
        Peer::new(tenant, entry, prepared, Asker { principal, session, capabilities, unasked: false }),
        upstream.clone(),
    ))
}

/// A server's first answer to what counts against the limits once; the server, and until when it may be asked.
pub(super) async fn answered(
    call: &Call,
    caller: &Caller,
    entry: &Entry,
    method: Passed,
    params: &str,
    wish: Wish<'_>,
) -> Result<(Peer, Timestamp, Box<RawValue>), Error> {
    let Caller { principal, snapshot, .. } = caller;
    limits::work(call, principal, snapshot, &entry.service().id, method.kind).await?;
    let (peer, upstream) = peer(call, caller, entry, wish.client).await?;
    let until = clock::now().plus_ms(upstream.timeout_seconds * 1000);
    let answer = asked(&peer, method, params, until, wish).await;
    let answer = answer.map_err(|came| told(&peer, method, &came, wish.client.legacy))?;
    Ok((peer, until, answer))
}

/// Asks one server, and gives what it says.
async fn one(
    call: &Call,
    caller: &Caller,
    entry: &Entry,
    method: Passed,
    params: &str,
    wish: Wish<'_>,
) -> Result<String, Error> {
    let (_, _, given) = answered(call, caller, entry, method, params, wish).await?;
    Ok(result(method, &given, wish.client.legacy).ok_or_else(unacceptable)?)
}

pub(super) fn unacceptable() -> Problem {
    Problem::new(Code::NoServiceAvailable, "The server's answer is none that can be passed on.")
}

/// What a server answers to one request, or what came instead: its refusal too.
pub(super) async fn asked(
    peer: &Peer,
    method: Passed,
    params: &str,
    until: Timestamp,
    wish: Wish<'_>,
) -> Result<Box<RawValue>, Came> {
    let asked = Asked { meta: wish.meta.map(RawValue::get), ..Asked::new(method.name, params) };
    match ask(peer, &asked, &[], until, false).await {
        Ok(conversation) => conversation.response().await?,
        Err(Came::Answered(response)) => response,
        Err(came) => return Err(came),
    }
    .map_err(|error| Came::Answered(Err(error)))
}

/// What the client is told of a request that got no result.
fn told(peer: &Peer, method: Passed, came: &Came, legacy: bool) -> Error {
    // An error of its own may come with any status.
    let refused = came.error().and_then(|refused| error(&refused.whole, legacy));
    if let Some(told) = refused.filter(|told| !peer.secrets.shows_in(told)) {
        return Error::Passed(told);
    }
    if matches!(came, Came::Answered(_)) {
        return unacceptable().into();
    }
    let reason = Some(came.reason(method.name)).filter(|reason| !peer.secrets.shows_in(reason));
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let detail = format!("The server could not be asked now{reason}. Try again later.");
    Problem::new(Code::NoServiceAvailable, detail).with_header("Retry-After", "5").into()
}
