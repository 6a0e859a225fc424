//! `transport.kind: "http"`: a signed JSON envelope by POST, and a signed DELETE for cancelled work.
//!
//! The signature is that of Standard Webhooks 1.0 (`webhook-id` is the id of the context). The service receives nothing
//! of the caller: only its own credentials.

use serde::Serialize;
use url::Url;

use crate::objects::secrets::DecryptedSecrets;
use crate::platform::calls::{self, Method, Request};
use crate::platform::clock;
use crate::platform::http::Headers;
use narthex_core::base::id::ContextId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::CallResult;
use narthex_core::http::egress_address::Address;

use super::{Envelope, Order};

/// How long the notification of a cancellation may take, in milliseconds.
const CANCEL_TIMEOUT_MS: u64 = 5_000;

/// The headers of every request to a service.
fn signed(secrets: &DecryptedSecrets, id: &ContextId, now: Timestamp, body: &str) -> Headers {
    let mut headers = Headers::default();
    headers.set("content-type", "application/json");
    headers.set("accept", "application/json");
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    secrets.add(&mut headers, id.as_str(), now, body.as_bytes());
    headers
}

/// Calls the service, within the time of the context.
pub async fn call(order: &Order<'_>, secrets: &DecryptedSecrets, url: &Address) -> CallResult {
    let admission = &order.work.admission;
    let Ok(body) = serde_json::to_string(&Envelope::of(order)) else {
        return CallResult::Refused;
    };
    let mut headers = signed(secrets, &admission.id, order.now, &body);
    headers.set("idempotency-key", admission.id.as_str());
    headers.set("traceparent", &order.trace.header());
    if let Some(state) = &order.trace.state {
        headers.set("tracestate", state);
    }
    if order.left_ms == 0 {
        return CallResult::TimedOut { deadline: true };
    }
    let url = &*secrets.addressed(url);
    let (headers, body) = (&headers, Some(body.as_str()));
    calls::send(&Request::attempt(order, Method::Post, url, headers, body)).await
}

/// Notifies a service that its background work was cancelled: at the address that it named for it, otherwise at its
/// own. It is notified once; the context has ended whatever it responds.
pub async fn cancel(secrets: &DecryptedSecrets, url: &Address, id: &ContextId) {
    #[derive(Serialize)]
    struct Cancellation<'a> {
        context_id: &'a str,
        reason: &'static str,
    }
    let Ok(body) = serde_json::to_string(&Cancellation { context_id: id.as_str(), reason: "cancelled" }) else {
        return;
    };
    let (headers, body) = (&signed(secrets, id, clock::now(), &body), Some(body.as_str()));
    let url = &*secrets.addressed(url);
    calls::notify(&Request::within(CANCEL_TIMEOUT_MS, Method::Delete, url, headers, body)).await;
}

/// The address where background work is cancelled: the one that the service named if it has the same origin as the
/// registered address, otherwise the registered address. A response cannot direct requests or credentials to another
/// origin.
pub fn named_at(own: &str, location: Option<&str>) -> Option<String> {
    let own = Url::parse(own).ok()?;
    let named = location.and_then(|location| own.join(location).ok());
    let is_allowed =
        |named: &Url| named.origin() == own.origin() && named.username().is_empty() && named.password().is_none();
    // A fragment is never sent.
    let named = named.filter(is_allowed).map(|mut named| {
        named.set_fragment(None);
        named
    });
    Some(named.unwrap_or(own).into())
}
