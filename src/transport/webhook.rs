//! An event on its way to a webhook: a CloudEvent in structured mode, signed by Standard Webhooks 1.0. Its
//! `webhook-id` is the event's id, so that a receiver knows one that comes twice.

use crate::core::signature::Secret;
use crate::core::upstream::Answer;
use crate::core::webhook::Webhook;
use crate::core::webhook::courier::{Attempt, AttemptError};
use crate::platform::calls::{self, Method};
use crate::platform::clock;
use crate::platform::http::Headers;

/// How long a receiver may take to answer, in milliseconds.
const PATIENCE_MS: u64 = 15_000;

/// Sends an event once.
pub async fn send(webhook: &Webhook, event_id: &str, event: &str) -> Attempt {
    let at = clock::now();
    let mut headers = Headers::default();
    headers.set("content-type", "application/cloudevents+json");
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    headers.set("webhook-id", event_id);
    headers.set("webhook-timestamp", &at.seconds().to_string());
    if let Some(secret) = Secret::parse(&webhook.secret) {
        headers.set("webhook-signature", &secret.sign(event_id, at.seconds(), event.as_bytes()));
    }
    let answer = calls::send_json(Method::Post, &webhook.url, &headers, event, PATIENCE_MS, false).await;
    let error = match &answer {
        Answer::Http { .. } | Answer::TooLarge { .. } => None,
        Answer::Refused => Some(AttemptError::Unreachable),
        Answer::TimedOut { .. } => Some(AttemptError::TimedOut),
        Answer::Broken | Answer::Cancelled => Some(AttemptError::Broken),
    };
    let retry_after_ms = match &answer {
        Answer::Http { retry_after_ms, .. } => *retry_after_ms,
        _ => None,
    };
    let duration_ms = clock::now().since(at);
    Attempt { at, status_code: answer.status(), error, duration_ms, retry_after_ms }
}
