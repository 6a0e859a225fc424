//! `transport.kind: "http"`: a signed JSON envelope by POST; a signed DELETE for work that was cancelled.
//!
//! Signed by Standard Webhooks 1.0 (`webhook-id` is the context's id). Nothing of the caller's goes along:
//! the service sees its own credentials only.

use serde::Serialize;
use serde_json::value::RawValue;
use url::Url;

use crate::core::context::Background;
use crate::core::id::ContextId;
use crate::core::signature::Secret;
use crate::core::time::Timestamp;
use crate::core::upstream::Answer;
use crate::objects::registry::messages::Registered;
use crate::platform::calls::{self, Method};
use crate::platform::clock;
use crate::platform::http::Headers;

use super::Order;

/// How long a service may take to hear that its work was cancelled.
const CANCEL_MS: u64 = 5_000;

#[derive(Serialize)]
struct Envelope<'a> {
    context_id: &'a str,
    capability: &'a str,
    version: String,
    parameters: &'a RawValue,
    attempt: u64,
    deadline: String,
    callback_url: &'a str,
    /// The answer to what the service asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a RawValue>,
}

/// What every request to a service has.
fn signed(service: &Registered, id: &ContextId, now: Timestamp, body: &str) -> Headers {
    let timestamp = now.seconds();
    let mut headers = Headers::default();
    headers.set("content-type", "application/json");
    headers.set("accept", "application/json");
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    headers.set("webhook-id", id.as_str());
    headers.set("webhook-timestamp", &timestamp.to_string());
    if let Some(secret) = Secret::parse(&service.signing_secret) {
        headers.set("webhook-signature", &secret.sign(id.as_str(), timestamp, body.as_bytes()));
    }
    if let Some(credentials) = &service.credentials {
        headers.set(&credentials.header, &credentials.value);
    }
    headers
}

/// Calls the service, for as long as the context has time.
pub async fn call(order: &Order<'_>, service: &Registered, url: &str) -> Answer {
    let admission = &order.work.admission;
    let envelope = Envelope {
        context_id: admission.id.as_str(),
        capability: &admission.capability,
        version: admission.version.to_string(),
        parameters: &order.work.parameters,
        attempt: order.work.attempt,
        deadline: admission.expires_at.text(),
        callback_url: &order.callback_url,
        input: order.work.input.as_deref(),
    };
    let Ok(body) = serde_json::to_string(&envelope) else {
        return Answer::Refused;
    };
    let mut headers = signed(service, &admission.id, order.now, &body);
    headers.set("idempotency-key", admission.id.as_str());
    headers.set("traceparent", &order.trace.header());
    if let Some(state) = &order.trace.state {
        headers.set("tracestate", state);
    }
    let left = admission.expires_at.since(order.now);
    if left == 0 {
        return Answer::TimedOut { deadline: true };
    }
    calls::send_json(Method::Post, url, &headers, &body, left, true).await
}

/// Tells a service that work it does in the background was cancelled: at the address it named for it, else at its own.
/// It is told once; the context has ended whatever it answers.
pub async fn cancel(service: &Registered, url: &str, id: &ContextId, background: &Background) {
    #[derive(Serialize)]
    struct Notice<'a> {
        context_id: &'a str,
        reason: &'static str,
    }
    let Ok(body) = serde_json::to_string(&Notice { context_id: id.as_str(), reason: "cancelled" }) else { return };
    let target = Url::parse(url).ok().map(|own| {
        let named = background.location.as_deref().and_then(|location| own.join(location).ok());
        // Only where the service was registered: an answer gives no right to any other address.
        named.filter(|named| named.origin() == own.origin()).unwrap_or(own)
    });
    if let Some(target) = target {
        let headers = signed(service, id, clock::now(), &body);
        calls::send_json(Method::Delete, target.as_str(), &headers, &body, CANCEL_MS, false).await;
    }
}
