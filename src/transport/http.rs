//! `transport.kind: "http"`: a signed JSON envelope by POST.
//!
//! Signed by Standard Webhooks 1.0 (`webhook-id` is the context's id). Nothing of the caller's goes along:
//! the service sees its own credentials only.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::core::signature::Secret;
use crate::core::upstream::Answer;
use crate::objects::registry::messages::Registered;
use crate::platform::calls;
use crate::platform::http::Headers;

use super::Order;

#[derive(Serialize)]
struct Envelope<'a> {
    context_id: &'a str,
    capability: &'a str,
    version: String,
    parameters: &'a RawValue,
    attempt: u64,
    deadline: String,
}

/// Calls the service, for as long as the context has time.
pub async fn call(order: &Order<'_>, service: &Registered, url: &str) -> Answer {
    let admission = order.admission;
    let Ok(parameters) = serde_json::from_str::<&RawValue>(order.parameters) else {
        return Answer::Refused;
    };
    let envelope = Envelope {
        context_id: admission.id.as_str(),
        capability: &admission.capability,
        version: admission.version.to_string(),
        parameters,
        attempt: order.attempt,
        deadline: admission.expires_at.text(),
    };
    let Ok(body) = serde_json::to_string(&envelope) else {
        return Answer::Refused;
    };
    let timestamp = order.now.seconds();
    let mut headers = Headers::default();
    headers.set("content-type", "application/json");
    headers.set("accept", "application/json");
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    headers.set("webhook-id", admission.id.as_str());
    headers.set("webhook-timestamp", &timestamp.to_string());
    if let Some(secret) = Secret::parse(&service.signing_secret) {
        headers.set("webhook-signature", &secret.sign(admission.id.as_str(), timestamp, body.as_bytes()));
    }
    headers.set("idempotency-key", admission.id.as_str());
    headers.set("traceparent", &order.trace.header());
    if let Some(state) = &order.trace.state {
        headers.set("tracestate", state);
    }
    if let Some(credentials) = &service.credentials {
        headers.set(&credentials.header, &credentials.value);
    }
    let left = admission.expires_at.since(order.now);
    if left == 0 {
        return Answer::TimedOut { deadline: true };
    }
    calls::post_json(url, &headers, &body, left, true).await
}
