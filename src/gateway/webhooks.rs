//! `/v1/webhooks/{id}/…`: deliveries of a webhook, and its secret. Webhooks themselves are documents.

use serde::Serialize;

use crate::execution::deliveries::read;
use crate::objects::events::messages::Events;
use crate::objects::events::messages::webhooks::{
    Delivery, DeliveryList, DeliveryState, ListDeliveries, Redeliver, Redelivered,
};
use crate::objects::protocol;
use crate::objects::registry::messages::{DocumentReply, RotateWebhookSecret, WrittenDocument};
use crate::platform::{clock, random};
use crate::transport;
use narthex_core::access::webhook_signature::Secret;
use narthex_core::base::id::ulid;
use narthex_core::base::json::Fault;
use narthex_core::base::time::{Timestamp, as_optional_text, as_text};
use narthex_core::events::cloud_event::test_event;
use narthex_core::http::page_cursor;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::webhooks::delivery::{DeliveryAttempt, DeliveryError};
use narthex_core::webhooks::{self, Webhook};

use super::answer::{Answer, internal};
use super::call::{Call, Caller};
use super::documents::{known, notify_hub, rotated};
use super::lists::{bad_cursor, limit, page};
use super::registry_client;
use super::services::{DEFAULT_OVERLAP, MAX_OVERLAP, require_key};

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct AttemptView {
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    at: Timestamp,
    status_code: Option<u16>,
    error: Option<DeliveryError>,
    duration_ms: u64,
}

impl From<&DeliveryAttempt> for AttemptView {
    fn from(attempt: &DeliveryAttempt) -> Self {
        let DeliveryAttempt { at, status_code, error, duration_ms, .. } = *attempt;
        Self { at, status_code, error, duration_ms }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct DeliveryView<'a> {
    event_id: &'a str,
    r#type: &'a str,
    subject: &'a str,
    sequence: String,
    status: DeliveryState,
    attempts: usize,
    last_attempt: Option<AttemptView>,
    #[serde(serialize_with = "as_optional_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    next_attempt_at: Option<Timestamp>,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    created_at: Timestamp,
}

fn delivery_view(delivery: &Delivery) -> DeliveryView<'_> {
    DeliveryView {
        event_id: &delivery.event_id,
        r#type: &delivery.event_type,
        subject: &delivery.subject,
        sequence: delivery.sequence.text(),
        status: delivery.state,
        attempts: delivery.attempts,
        last_attempt: delivery.last.as_ref().map(Into::into),
        next_attempt_at: delivery.due,
        created_at: delivery.created_at,
    }
}

/// Another secret. For a while the old one signs too, so that there is time to give the new one to the receiver.
pub async fn rotate_secret(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    require_key()?;
    let (overlap_seconds, given) = call
        .read_optional_body(|body| {
            let overlap_seconds = body.integer("overlap_seconds", 0..=MAX_OVERLAP).unwrap_or(DEFAULT_OVERLAP);
            (overlap_seconds, webhooks::read_secret(body))
        })
        .await?;
    let made = given.is_none().then(|| Secret::from_random(random::bytes()).text());
    let secret = given.or_else(|| made.clone()).unwrap_or_default();
    let rotate = RotateWebhookSecret { id: name.into(), overlap_seconds, secret };
    let DocumentReply::Document(WrittenDocument { stored, .. }) =
        registry_client::write(caller, &rotate, "webhook").await?;
    notify_hub(caller).await;
    let webhook = read(&stored).ok_or_else(|| Problem::later_version("The webhook"))?;
    rotated(&stored, &webhook, made.as_deref())
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct TestReport {
    event_id: String,
    delivered: bool,
    attempt: AttemptView,
}

/// Sends a test event now, whether or not the webhook is enabled, and returns the outcome.
pub async fn test(caller: &Caller, name: &str) -> Result<Answer, Problem> {
    let (_, webhook) = known::<Webhook>(&caller.snapshot, name)?;
    let now = clock::now();
    let event_id = format!("test-{}", ulid(now, random::bytes()));
    let event = test_event(&caller.principal.tenant, name, &event_id, now);
    let attempt = transport::webhook::send(&caller.principal.tenant, name, &webhook, &event_id, &event).await;
    let (delivered, attempt) = (attempt.succeeded(), AttemptView::from(&attempt));
    Answer::json(200, &TestReport { event_id, delivered, attempt })
}

pub async fn redeliver(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    let event_id = call
        .read_body(|body| {
            let event_id = body.string("event_id", 1..=200);
            body.require("event_id", event_id).unwrap_or_default()
        })
        .await?;
    known::<Webhook>(&caller.snapshot, name)?;
    let redeliver = Redeliver { webhook: name.into(), event_id };
    match protocol::call(&Events::of(&caller.principal.tenant), &redeliver).await.map_err(internal)? {
        Redelivered::Queued(delivery) => Answer::json(202, &delivery_view(&delivery)),
        Redelivered::Absent => Err(Problem::not_found("event")),
        Redelivered::Idle => Err(Problem::new(
            Code::Conflict,
            "This webhook is paused or disabled. Write it again with enabled: true first.",
        )),
    }
}

pub async fn deliveries(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    call.only_query(&["limit", "cursor"])?;
    known::<Webhook>(&caller.snapshot, name)?;
    let limit = limit(call, 50, 200)
        .ok_or_else(|| Problem::invalid(vec![Fault::new("?limit", "must be an integer from 1 to 200")]))?;
    let (key, digest) = (&caller.snapshot.cursor_key, format!("deliveries {} {name}", caller.principal.tenant));
    let below = match call.query("cursor") {
        None => 1 << 53,
        Some(text) => {
            let last = page_cursor::read(key, &text, &digest).and_then(|last| last.parse().ok());
            last.ok_or_else(bad_cursor)?
        }
    };
    let list = ListDeliveries { webhook: name.into(), below, limit: limit + 1 };
    let hub = Events::of(&caller.principal.tenant);
    let DeliveryList::Deliveries(mut found) = protocol::call(&hub, &list).await.map_err(internal)?;
    let more = found.len() as u64 > limit;
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = found.last().filter(|_| more).map(|(number, _)| page_cursor::write(key, &number.to_string(), &digest));
    let data: Vec<DeliveryView<'_>> = found.iter().map(|(_, delivery)| delivery_view(delivery)).collect();
    page(call, &data, next)
}
