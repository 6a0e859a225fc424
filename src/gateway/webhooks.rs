//! `/v1/webhooks`: addresses that are told of events. They are the tenant's, and are configured in its registry; its
//! hub delivers, and knows how that goes.

use serde::Serialize;
use serde_json::value::to_raw_value;

use crate::execution::deliveries::{call_hub, configure, read};
use crate::objects::events::messages::{Ask as HubAsk, Delivery, DeliveryState, HookState, Reply as HubReply};
use crate::objects::registry::messages::{Ask, DocumentKind, Reply, StoredDocument};
use crate::objects::registry::snapshot;
use crate::platform::{clock, log_event, random};
use crate::transport;
use narthex_core::access::encrypted_secret::EncryptedSecret;
use narthex_core::access::webhook_signature::Secret;
use narthex_core::base::id::ulid;
use narthex_core::base::json::{Fault, Object};
use narthex_core::base::time::{Timestamp, as_optional_text, as_text};
use narthex_core::events::cloud_event::test_event;
use narthex_core::http::page_cursor;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::webhooks::delivery::{DeliveryAttempt, DeliveryError, DisableReason};
use narthex_core::webhooks::{self, Rules, Webhook};

use super::answer::{Answer, internal};
use super::call::{Call, Caller};
use super::lists::{bad_cursor, limit, page};
use super::roles::etag;
use super::services::{DEFAULT_OVERLAP, MAX_OVERLAP, ask_registry, checked_id, refusal, require_key, text};

/// Webhooks a tenant may have.
const MAX_WEBHOOKS: usize = 100;

#[derive(Serialize)]
struct View<'a> {
    id: &'a str,
    url: &'a str,
    description: &'a str,
    types: &'a [String],
    subject: Option<&'a str>,
    service: Option<&'a str>,
    owner: Option<&'a str>,
    enabled: bool,
    /// `active`, `paused` by whoever wrote it, or `disabled` by the gateway.
    status: &'static str,
    reason: Option<DisableReason>,
    #[serde(serialize_with = "as_optional_text")]
    disabled_at: Option<Timestamp>,
    #[serde(serialize_with = "as_optional_text")]
    failing_since: Option<Timestamp>,
    /// Nobody is there: nothing is delivered before, and then one delivery tries for all.
    #[serde(serialize_with = "as_optional_text")]
    resting_until: Option<Timestamp>,
    /// Deliveries that are still to be made.
    waiting: u64,
    #[serde(serialize_with = "as_text")]
    created_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    updated_at: Timestamp,
    /// Until then the secret before signs too.
    #[serde(serialize_with = "as_optional_text")]
    overlap_until: Option<Timestamp>,
    /// Shown when it was made here, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

fn view<'a>(stored: &'a StoredDocument, webhook: &'a Webhook, state: Option<&HookState>) -> View<'a> {
    // A state of what it was before says nothing of it now.
    let state = state.filter(|state| state.version == stored.generation());
    let disabled = state.and_then(|state| state.disabled);
    View {
        id: &stored.id,
        url: &webhook.url,
        description: &webhook.description,
        types: &webhook.filter.types,
        subject: webhook.filter.subject.as_deref(),
        service: webhook.filter.service.as_deref(),
        owner: webhook.filter.owner.as_deref(),
        enabled: webhook.enabled,
        status: match (webhook.enabled, disabled) {
            (false, _) => "paused",
            (true, None) => "active",
            (true, Some(_)) => "disabled",
        },
        reason: disabled.map(|disabled| disabled.reason),
        disabled_at: disabled.map(|disabled| disabled.at),
        failing_since: state.and_then(|state| state.failing_since),
        resting_until: state.and_then(|state| state.resting_until),
        waiting: state.map_or(0, |state| state.waiting),
        created_at: stored.created_at,
        updated_at: stored.updated_at,
        overlap_until: webhook.retiring.as_ref().map(|old| old.until).filter(|until| *until > clock::now()),
        secret: None,
    }
}

#[derive(Serialize)]
struct AttemptView {
    #[serde(serialize_with = "as_text")]
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
struct DeliveryView<'a> {
    event_id: &'a str,
    r#type: &'a str,
    subject: &'a str,
    sequence: String,
    status: DeliveryState,
    attempts: usize,
    last_attempt: Option<AttemptView>,
    #[serde(serialize_with = "as_optional_text")]
    next_attempt_at: Option<Timestamp>,
    #[serde(serialize_with = "as_text")]
    created_at: Timestamp,
}

fn delivery_view(delivery: &Delivery) -> DeliveryView<'_> {
    DeliveryView {
        event_id: &delivery.event_id,
        r#type: &delivery.event_type,
        subject: &delivery.subject,
        sequence: narthex_core::events::cloud_event::sequence_text(delivery.sequence),
        status: delivery.state,
        attempts: delivery.attempts,
        last_attempt: delivery.last.as_ref().map(Into::into),
        next_attempt_at: delivery.due,
        created_at: delivery.created_at,
    }
}

fn find<'c>(caller: &'c Caller, id: &str) -> Result<(&'c StoredDocument, Webhook), Problem> {
    let stored = caller.snapshot.documents(DocumentKind::Webhook).find(|stored| stored.id == id);
    stored.and_then(|stored| Some((stored, read(stored)?))).ok_or_else(|| Problem::not_found("webhook"))
}

async fn states(caller: &Caller) -> Result<Vec<(String, HookState)>, Problem> {
    match call_hub(&caller.principal.tenant, &HubAsk::WebhookStates).await.map_err(internal)? {
        HubReply::WebhookStates(states) => Ok(states),
        _ => Err(Problem::internal("the hub answered something else")),
    }
}

fn state_of<'s>(states: &'s [(String, HookState)], id: &str) -> Option<&'s HookState> {
    states.iter().find(|(other, _)| other == id).map(|(_, state)| state)
}

pub async fn put(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    require_key()?;
    let id = checked_id(name)?;
    let condition = call.condition()?;
    let document = text(call.json_body().await?);
    let write_rules = call.write_rules();
    let own_hosts = write_rules.own_hosts();
    let rules = Rules {
        addresses: write_rules.addresses(),
        own_hosts: &own_hosts,
        me: &caller.principal.principal,
        sees_all: caller.principal.sees_all_contexts(),
    };
    let written = webhooks::read(&document, rules).map_err(Problem::invalid)?;
    let known = find(caller, &id).ok().map(|(_, known)| known);
    if known.is_none() && caller.snapshot.documents(DocumentKind::Webhook).count() >= MAX_WEBHOOKS {
        return Err(Problem::new(
            Code::Conflict,
            format!("There are {MAX_WEBHOOKS} webhooks already: delete one first."),
        ));
    }
    // A secret that is not sent stays.
    let made = (known.is_none() && written.secret.is_none()).then(|| Secret::from_random(random::bytes()).text());
    let secret = written.secret.or_else(|| made.clone());
    let webhook = Webhook {
        url: written.url,
        description: written.description,
        filter: written.filter,
        secret: secret.map(EncryptedSecret::plaintext),
        retiring: None,
        enabled: written.enabled,
    };
    let document = to_raw_value(&webhook).map_err(|error| Problem::internal(error.to_string()))?;
    match ask_registry(caller, Ask::Put { kind: DocumentKind::Webhook, id, document, condition }).await? {
        Reply::Document { stored, created } => {
            tell_hub(caller).await;
            let body = View { secret: made.as_deref(), ..view(&stored, &webhook, None) };
            let answer = Answer::json(if created { 201 } else { 200 }, &body)?.with("etag", &etag(&stored));
            Ok(if created { answer.with("location", &format!("/v1/webhooks/{name}")) } else { answer })
        }
        other => Err(refusal(other, "webhook")),
    }
}

/// The hub is to know before the writer is answered; when it cannot be reached, the next sweep tells it.
async fn tell_hub(caller: &Caller) {
    let tenant = &caller.principal.tenant;
    let told = async { configure(tenant, &*snapshot::refreshed(tenant).await?).await };
    if let Err(failure) = told.await {
        log_event!(HubNotNotified, tenant = tenant, detail = &failure);
    }
}

/// Another secret. For a while the old one signs too, so that the receiver can be given the new one meanwhile.
pub async fn rotate_secret(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    require_key()?;
    let bytes = call.optional_json_body().await?;
    let mut body = Object::new(std::str::from_utf8(&bytes).unwrap_or_default(), "#")
        .map_err(|fault| Problem::invalid(vec![fault]))?;
    let overlap_seconds = body.integer("overlap_seconds", 0..=MAX_OVERLAP).unwrap_or(DEFAULT_OVERLAP);
    let given = webhooks::read_secret(&mut body);
    let faults = body.finish();
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    let made = given.is_none().then(|| Secret::from_random(random::bytes()).text());
    let secret = given.or_else(|| made.clone()).unwrap_or_default();
    let ask = Ask::RotateWebhookSecret { id: name.into(), overlap_seconds, secret };
    match ask_registry(caller, ask).await? {
        Reply::Document { stored, .. } => {
            tell_hub(caller).await;
            let webhook = read(&stored).ok_or_else(|| Problem::internal("the webhook cannot be read"))?;
            let body = View { secret: made.as_deref(), ..view(&stored, &webhook, None) };
            Ok(Answer::json(200, &body)?.with("etag", &etag(&stored)))
        }
        other => Err(refusal(other, "webhook")),
    }
}

pub async fn delete(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    let ask = Ask::Delete { kind: DocumentKind::Webhook, id: name.into(), condition: call.condition()? };
    match ask_registry(caller, ask).await? {
        Reply::Done => {
            tell_hub(caller).await;
            Ok(Answer::empty(204))
        }
        other => Err(refusal(other, "webhook")),
    }
}

pub async fn get(caller: &Caller, name: &str) -> Result<Answer, Problem> {
    let (stored, webhook) = find(caller, name)?;
    let states = states(caller).await?;
    Ok(Answer::json(200, &view(stored, &webhook, state_of(&states, name)))?.with("etag", &etag(stored)))
}

pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    call.only_query(&[])?;
    let states = states(caller).await?;
    let all: Vec<(&StoredDocument, Webhook)> =
        caller.snapshot.documents(DocumentKind::Webhook).filter_map(|stored| Some((stored, read(stored)?))).collect();
    let data: Vec<View<'_>> =
        all.iter().map(|(stored, webhook)| view(stored, webhook, state_of(&states, &stored.id))).collect();
    page(call, &data, None)
}

/// Sends a test event now, whether or not the webhook is enabled, and says how that went.
pub async fn test(caller: &Caller, name: &str) -> Result<Answer, Problem> {
    #[derive(Serialize)]
    struct Tested {
        event_id: String,
        delivered: bool,
        attempt: AttemptView,
    }
    let (_, webhook) = find(caller, name)?;
    let now = clock::now();
    let event_id = format!("test-{}", ulid(now, random::bytes()));
    let event = test_event(&caller.principal.tenant, name, &event_id, now);
    let attempt = transport::webhook::send(&caller.principal.tenant, name, &webhook, &event_id, &event).await;
    let (delivered, attempt) = (attempt.succeeded(), AttemptView::from(&attempt));
    Answer::json(200, &Tested { event_id, delivered, attempt })
}

pub async fn redeliver(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    let bytes = call.json_body().await?;
    let mut body = Object::new(std::str::from_utf8(&bytes).unwrap_or_default(), "#")
        .map_err(|fault| Problem::invalid(vec![fault]))?;
    let event_id = body.string("event_id", 1..=200);
    let event_id = body.require("event_id", event_id).unwrap_or_default();
    let faults = body.finish();
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    find(caller, name)?;
    let ask = HubAsk::Redeliver { webhook: name.into(), event_id };
    match call_hub(&caller.principal.tenant, &ask).await.map_err(internal)? {
        HubReply::Delivery(delivery) => Answer::json(202, &delivery_view(&delivery)),
        HubReply::Absent => Err(Problem::not_found("event")),
        HubReply::Idle => {
            Err(Problem::new(Code::Conflict, "This webhook is paused or disabled. Write it again, enabled, first."))
        }
        _ => Err(Problem::internal("the hub answered something else")),
    }
}

pub async fn deliveries(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    call.only_query(&["limit", "cursor"])?;
    find(caller, name)?;
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
    let ask = HubAsk::Deliveries { webhook: name.into(), below, limit: limit + 1 };
    let HubReply::Deliveries(mut found) = call_hub(&caller.principal.tenant, &ask).await.map_err(internal)? else {
        return Err(Problem::internal("the hub answered something else"));
    };
    let more = found.len() as u64 > limit;
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = found.last().filter(|_| more).map(|(number, _)| page_cursor::write(key, &number.to_string(), &digest));
    let data: Vec<DeliveryView<'_>> = found.iter().map(|(_, delivery)| delivery_view(delivery)).collect();
    page(call, &data, next)
}
