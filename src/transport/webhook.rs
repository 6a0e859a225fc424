//! The delivery of an event to a webhook: a CloudEvent in structured mode, signed by Standard Webhooks 1.0. Its
//! `webhook-id` is the event's id, by which a receiver recognizes duplicates.

use crate::objects::registry::messages::DocumentKind;
use crate::platform::calls::{self, Method, Request};
use crate::platform::http::Headers;
use crate::platform::{Failure, clock, log_event, secret_box, settings};
use narthex_core::access::webhook_signature::Secret;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::CallResult;
use narthex_core::registry::secrets::document_secret_data;
use narthex_core::webhooks::Webhook;
use narthex_core::webhooks::delivery::{DeliveryAttempt, DeliveryError};

/// How long a receiver may take to respond, in milliseconds.
const DELIVERY_TIMEOUT_MS: u64 = 15_000;

/// The current signing secrets, newest first: two during a rotation.
async fn decrypted(tenant: &TenantId, id: &str, webhook: &Webhook, now: Timestamp) -> Result<Vec<Secret>, Failure> {
    let newest = webhook.secret.as_ref().ok_or_else(|| Failure(format!("the webhook {id} has no secret")))?;
    let before = webhook.retiring.iter().filter(|old| now < old.until).map(|old| &old.secret);
    let mut secrets = Vec::new();
    for secret in std::iter::once(newest).chain(before) {
        let text = secret_box::decrypt(document_secret_data(tenant, DocumentKind::Webhook, id), secret).await?;
        secrets
            .push(Secret::parse(&text).ok_or_else(|| Failure(format!("a secret of the webhook {id} is malformed")))?);
    }
    Ok(secrets)
}

/// Sends an event once. `tenant` and `id` identify the webhook.
pub async fn send(tenant: &TenantId, id: &str, webhook: &Webhook, event_id: &str, event: &str) -> DeliveryAttempt {
    let at = clock::now();
    let failed =
        |error| DeliveryAttempt { at, status_code: None, error: Some(error), duration_ms: 0, retry_after_ms: None };
    let Ok(address) = settings::current().may_call(&webhook.url, None) else { return failed(DeliveryError::Refused) };
    let secrets = match decrypted(tenant, id, webhook, at).await {
        Ok(secrets) => secrets,
        Err(failure) => {
            log_event!(SecretsNotDecrypted, tenant = tenant, object = format!("webhooks/{id}"), detail = &failure);
            return failed(DeliveryError::NotSigned);
        }
    };
    let mut headers = Headers::default();
    headers.set("content-type", "application/cloudevents+json");
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    headers.set("webhook-id", event_id);
    headers.set("webhook-timestamp", &at.seconds().to_string());
    let signatures = secrets.iter().map(|secret| secret.sign(event_id, at.seconds(), event.as_bytes()));
    headers.set("webhook-signature", &signatures.collect::<Vec<_>>().join(" "));
    let (url, headers, body) = (&address, &headers, Some(event));
    // Only the status counts. A body is not awaited.
    let answer = calls::notify(&Request::within(DELIVERY_TIMEOUT_MS, Method::Post, url, headers, body)).await;
    let error = match &answer {
        CallResult::Http { .. } | CallResult::TooLarge { .. } | CallResult::Accepted => None,
        CallResult::Refused => Some(DeliveryError::Unreachable),
        CallResult::TimedOut { .. } => Some(DeliveryError::TimedOut),
        CallResult::Broken | CallResult::Lost | CallResult::Cancelled | CallResult::NotCalled(_) => {
            Some(DeliveryError::Broken)
        }
    };
    let retry_after_ms = match &answer {
        CallResult::Http { retry_after_ms, .. } => *retry_after_ms,
        _ => None,
    };
    let duration_ms = clock::now().since(at);
    DeliveryAttempt { at, status_code: answer.status(), error, duration_ms, retry_after_ms }
}
