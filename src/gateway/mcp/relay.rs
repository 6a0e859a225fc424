//! One request passed on to one MCP server.

use serde_json::value::RawValue;

use crate::execution;
use crate::objects::registry::snapshot::Entry;
use crate::platform::clock;
use crate::transport::mcp::{Asker, Peer, ask};
use narthex_core::access::principal::Principal;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::NotCalled;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::mcp::client::request::UpstreamRequest;
use narthex_core::mcp::client::result::RequestOutcome;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::passthrough::{ForwardedMethod, error, result};
use narthex_core::services::transport::Upstream;

use super::super::call::{Call, Caller};
use super::super::limits;
use super::upstream::Client;

/// How a request is passed on.
#[derive(Clone, Copy)]
pub(super) struct Wish<'r> {
    pub client: Client<'r>,
    /// What the request says for the server.
    pub meta: Option<&'r RawValue>,
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
    let prepared = execution::resolve_destination(tenant, entry, &upstream.url, origin).await;
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
    method: ForwardedMethod,
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
pub(super) async fn one(
    call: &Call,
    caller: &Caller,
    entry: &Entry,
    method: ForwardedMethod,
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
    method: ForwardedMethod,
    params: &str,
    until: Timestamp,
    wish: Wish<'_>,
) -> Result<Box<RawValue>, RequestOutcome> {
    let asked = UpstreamRequest { meta: wish.meta.map(RawValue::get), ..UpstreamRequest::new(method.name, params) };
    match ask(peer, &asked, &[], until, false).await {
        Ok(conversation) => conversation.response().await?,
        Err(RequestOutcome::Answered(response)) => response,
        Err(came) => return Err(came),
    }
    .map_err(|error| RequestOutcome::Answered(Err(error)))
}

/// What the client is told of a request that got no result.
fn told(peer: &Peer, method: ForwardedMethod, came: &RequestOutcome, legacy: bool) -> Error {
    // An error of its own may come with any status.
    let refused = came.error().and_then(|refused| error(&refused.whole, legacy));
    if let Some(told) = refused.filter(|told| !peer.secrets.shows_in(told)) {
        return Error::Forwarded(told);
    }
    if matches!(came, RequestOutcome::Answered(_)) {
        return unacceptable().into();
    }
    let reason = Some(came.reason(method.name)).filter(|reason| !peer.secrets.shows_in(reason));
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let detail = format!("The server could not be asked now{reason}. Try again later.");
    Problem::new(Code::NoServiceAvailable, detail).with_header("Retry-After", "5").into()
}
