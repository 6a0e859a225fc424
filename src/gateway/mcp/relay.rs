//! Forwards one request to one MCP server.

use serde_json::value::RawValue;

use crate::execution;
use crate::objects::registry::snapshot::Entry;
use crate::platform::clock;
use crate::transport::mcp::{Peer, Requester, ask};
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
use super::super::registry_client::document;
use super::upstream::ClientProfile;

/// How a request is forwarded.
#[derive(Clone, Copy)]
pub(super) struct RelayOptions<'r> {
    pub client: ClientProfile<'r>,
    /// The request's `_meta` for the server.
    pub meta: Option<&'r RawValue>,
}

/// The server of a service, for requests on behalf of the caller.
pub(super) async fn peer(
    call: &Call,
    caller: &Caller,
    entry: &Entry,
    client: ClientProfile<'_>,
) -> Result<(Peer, Upstream), Problem> {
    peer_of(&caller.principal, &call.origin, entry, client).await
}

/// The server of a service, for requests on behalf of a principal. `origin` is the gateway's own.
pub(super) async fn peer_of(
    principal: &Principal,
    origin: &str,
    entry: &Entry,
    client: ClientProfile<'_>,
) -> Result<(Peer, Upstream), Problem> {
    let document = document(entry).await?;
    let upstream = document.service().transport.upstream().ok_or_else(|| Problem::not_found("service"))?;
    let Principal { tenant, principal, .. } = principal;
    let prepared = execution::resolve_destination(tenant, &document, &upstream.url, origin).await;
    let prepared = prepared.map_err(|not_called| {
        let reason = match not_called {
            NotCalled::Address(refusal) => refusal.to_string(),
            NotCalled::Document => "its configuration could not be read".into(),
            NotCalled::Secrets => "its secrets could not be decrypted".into(),
            NotCalled::Token => "its authorization server issued no token".into(),
        };
        Problem::new(Code::NoServiceAvailable, format!("The server was not called: {reason}."))
    })?;
    let ClientProfile { capabilities, session, .. } = client;
    Ok((
        Peer::new(
            tenant,
            &document,
            prepared,
            Requester { principal: Some(principal), session, capabilities, unasked: false },
        ),
        upstream.clone(),
    ))
}

/// Sends the first request of an operation that counts against the limits once; returns the server, the deadline for
/// further requests, and the response.
pub(super) async fn first_response(
    call: &Call,
    caller: &Caller,
    entry: &Entry,
    method: ForwardedMethod,
    params: &str,
    options: RelayOptions<'_>,
) -> Result<(Peer, Timestamp, Box<RawValue>), Error> {
    let Caller { principal, snapshot, .. } = caller;
    limits::work(call, principal, snapshot, &entry.service().id, method.kind).await?;
    let (peer, upstream) = peer(call, caller, entry, options.client).await?;
    let until = clock::now().plus_ms(upstream.timeout_seconds * 1000);
    let response = send(&peer, method, params, until, options).await;
    let response = response.map_err(|outcome| client_error(&peer, method, &outcome, options.client.legacy))?;
    Ok((peer, until, response))
}

/// Forwards a request to one server and returns its result.
pub(super) async fn forward(
    call: &Call,
    caller: &Caller,
    entry: &Entry,
    method: ForwardedMethod,
    params: &str,
    options: RelayOptions<'_>,
) -> Result<String, Error> {
    let (_, _, response) = first_response(call, caller, entry, method, params, options).await?;
    Ok(result(method, &response, options.client.legacy).ok_or_else(unacceptable)?)
}

pub(super) fn unacceptable() -> Problem {
    Problem::new(Code::NoServiceAvailable, "The server returned a response that cannot be forwarded.")
}

/// Sends a request; returns the server's result, or else the outcome, which includes its errors.
pub(super) async fn send(
    peer: &Peer,
    method: ForwardedMethod,
    params: &str,
    until: Timestamp,
    options: RelayOptions<'_>,
) -> Result<Box<RawValue>, RequestOutcome> {
    let request =
        UpstreamRequest { meta: options.meta.map(RawValue::get), ..UpstreamRequest::new(method.name, params) };
    match ask(peer, &request, &[], until, false).await {
        Ok(conversation) => conversation.response().await?,
        Err(RequestOutcome::Answered(response)) => response,
        Err(outcome) => return Err(outcome),
    }
    .map_err(|error| RequestOutcome::Answered(Err(error)))
}

/// The client's error for a request without a result.
fn client_error(peer: &Peer, method: ForwardedMethod, outcome: &RequestOutcome, legacy: bool) -> Error {
    // A JSON-RPC error may arrive with any HTTP status.
    let forwarded = outcome.error().and_then(|rejection| error(&rejection.whole, legacy));
    if let Some(text) = forwarded.filter(|text| !peer.secrets.shows_in(text)) {
        return Error::Forwarded(text);
    }
    if matches!(outcome, RequestOutcome::Answered(_)) {
        return unacceptable().into();
    }
    let reason = Some(outcome.reason(method.name)).filter(|reason| !peer.secrets.shows_in(reason));
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let detail = format!("The request to the server failed{reason}. Try again later.");
    Problem::new(Code::NoServiceAvailable, detail).with_header("Retry-After", "5").into()
}
