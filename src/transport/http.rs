//! `transport.kind: "http"`: a signed JSON envelope by POST; a signed DELETE for work that was cancelled.
//!
//! Signed by Standard Webhooks 1.0 (`webhook-id` is the context's id). Nothing of the caller's goes along:
//! the service sees its own credentials only.

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

/// How long a service may take to hear that its work was cancelled.
const CANCEL_MS: u64 = 5_000;

/// What every request to a service has.
fn signed(secrets: &DecryptedSecrets, id: &ContextId, now: Timestamp, body: &str) -> Headers {
    let mut headers = Headers::default();
    headers.set("content-type", "application/json");
    headers.set("accept", "application/json");
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    secrets.add(&mut headers, id.as_str(), now, body.as_bytes());
    headers
}

/// Calls the service, for as long as the context has time.
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

/// Tells a service that work it does in the background was cancelled: at the address it named for it, else at its own.
/// It is told once; the context has ended whatever it answers.
pub async fn cancel(secrets: &DecryptedSecrets, url: &Address, id: &ContextId) {
    #[derive(Serialize)]
    struct Notice<'a> {
        context_id: &'a str,
        reason: &'static str,
    }
    let Ok(body) = serde_json::to_string(&Notice { context_id: id.as_str(), reason: "cancelled" }) else { return };
    let (headers, body) = (&signed(secrets, id, clock::now(), &body), Some(body.as_str()));
    let url = &*secrets.addressed(url);
    calls::notify(&Request::within(CANCEL_MS, Method::Delete, url, headers, body)).await;
}

/// Where work in the background is cancelled: at the place the service named, if that is where it was registered, and at
/// its own otherwise. An answer gives no right to any other address, nor to other credentials.
pub fn named_at(own: &str, location: Option<&str>) -> Option<String> {
    let own = Url::parse(own).ok()?;
    let named = location.and_then(|location| own.join(location).ok());
    let is_taken =
        |named: &Url| named.origin() == own.origin() && named.username().is_empty() && named.password().is_none();
    // What follows a `#` is the reader's own, and is never sent.
    let named = named.filter(is_taken).map(|mut named| {
        named.set_fragment(None);
        named
    });
    Some(named.unwrap_or(own).into())
}
