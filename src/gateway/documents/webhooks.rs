//! `/v1/webhooks`: addresses that events are delivered to. They belong to the tenant, and are configured in its
//! registry; its hub delivers, and knows the state of each. Their deliveries are in `gateway/webhooks.rs`.

use serde::Serialize;

use crate::execution::deliveries::configure;
use crate::objects::events::messages::Events;
use crate::objects::events::messages::webhooks::{HookState, ReadWebhookStates, WebhookStates};
use crate::objects::protocol::call;
use crate::objects::registry::messages::{DocumentKind, StoredDocument};
use crate::objects::registry::snapshot;
use crate::platform::{clock, log_event, random};
use narthex_core::access::encrypted_secret::EncryptedSecret;
use narthex_core::access::webhook_signature::Secret;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::time::{Timestamp, as_optional_text, as_text};
use narthex_core::http::problem::{Code, Problem};
use narthex_core::webhooks::delivery::DisableReason;
use narthex_core::webhooks::{self, Rules, Webhook};

use super::super::answer::{Answer, internal};
use super::super::call::{Call, Caller};
use super::super::services::require_key;
use super::{Document, Operation, etag, find};

/// Webhooks a tenant may have.
const MAX_WEBHOOKS: usize = 100;

#[derive(Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WebhookStatus {
    Active,
    /// By its writer.
    Paused,
    /// By the gateway.
    Disabled,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct View<'a> {
    id: &'a str,
    url: &'a str,
    description: &'a str,
    types: &'a [String],
    subject: Option<&'a str>,
    service: Option<&'a str>,
    owner: Option<&'a PrincipalId>,
    enabled: bool,
    status: WebhookStatus,
    reason: Option<DisableReason>,
    #[serde(serialize_with = "as_optional_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    disabled_at: Option<Timestamp>,
    #[serde(serialize_with = "as_optional_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    failing_since: Option<Timestamp>,
    /// The receiver does not respond: nothing is delivered before, and then one delivery tries for all.
    #[serde(serialize_with = "as_optional_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    resting_until: Option<Timestamp>,
    /// Deliveries that are still to be made.
    waiting: u64,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    created_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    updated_at: Timestamp,
    /// Until then the previous secret signs too.
    #[serde(serialize_with = "as_optional_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    overlap_until: Option<Timestamp>,
    /// Shown in the response to the request that made it, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

fn view<'a>(
    stored: &'a StoredDocument,
    webhook: &'a Webhook,
    state: Option<&HookState>,
    secret: Option<&'a str>,
) -> View<'a> {
    // The state of an earlier version says nothing about this one.
    let state = state.filter(|state| state.generation == stored.generation());
    let disabled = state.and_then(|state| state.disabled);
    View {
        id: &stored.id,
        url: &webhook.url,
        description: &webhook.description,
        types: &webhook.filter.types,
        subject: webhook.filter.subject.as_deref(),
        service: webhook.filter.service.as_deref(),
        owner: webhook.filter.owner.as_ref(),
        enabled: webhook.enabled,
        status: match (webhook.enabled, disabled) {
            (false, _) => WebhookStatus::Paused,
            (true, None) => WebhookStatus::Active,
            (true, Some(_)) => WebhookStatus::Disabled,
        },
        reason: disabled.map(|disabled| disabled.reason),
        disabled_at: disabled.map(|disabled| disabled.at),
        failing_since: state.and_then(|state| state.failing_since),
        resting_until: state.and_then(|state| state.resting_until),
        waiting: state.map_or(0, |state| state.waiting),
        created_at: stored.created_at,
        updated_at: stored.updated_at,
        overlap_until: webhook.retiring.as_ref().map(|old| old.until).filter(|until| *until > clock::now()),
        secret,
    }
}

async fn states(caller: &Caller) -> Result<Vec<(String, HookState)>, Problem> {
    let hub = Events::of(&caller.principal.tenant);
    let WebhookStates::WebhookStates(states) = call(&hub, &ReadWebhookStates).await.map_err(internal)?;
    Ok(states)
}

/// Notifies the hub before the writer gets a response; when it cannot be reached, the next sweep does.
pub async fn notify_hub(caller: &Caller) {
    let tenant = &caller.principal.tenant;
    let notified = async { configure(tenant, &*snapshot::refreshed(tenant).await?).await };
    if let Err(failure) = notified.await {
        log_event!(HubNotNotified, tenant = tenant, detail = &failure);
    }
}

/// The response that shows a webhook with its new secret.
pub fn rotated(stored: &StoredDocument, webhook: &Webhook, secret: Option<&str>) -> Result<Answer, Problem> {
    Ok(Answer::json(200, &view(stored, webhook, None, secret))?.with("etag", &etag(stored)))
}

#[derive(Default)]
pub struct Extras {
    states: Vec<(String, HookState)>,
    secret: Option<String>,
}

impl Document for Webhook {
    const KIND: DocumentKind = DocumentKind::Webhook;
    type Extras = Extras;
    type View<'a> = View<'a>;

    fn view<'a>(_: &Caller, stored: &'a StoredDocument, webhook: &'a Self, extras: &'a Extras) -> View<'a> {
        let state = extras.states.iter().find(|(id, _)| *id == stored.id).map(|(_, state)| state);
        view(stored, webhook, state, extras.secret.as_deref())
    }

    fn allow(_: &Caller, operation: Operation) -> Result<(), Problem> {
        if operation == Operation::Put { require_key() } else { Ok(()) }
    }

    async fn extras(caller: &Caller, _: Option<&str>) -> Result<Extras, Problem> {
        Ok(Extras { states: states(caller).await?, secret: None })
    }

    async fn accept(call: &Call, caller: &Caller, id: &str, body: &str) -> Result<(Self, Extras), Problem> {
        let write_rules = call.write_rules();
        let own_hosts = write_rules.own_hosts();
        let rules = Rules {
            addresses: write_rules.addresses(),
            own_hosts: &own_hosts,
            me: &caller.principal.principal,
            sees_all: caller.principal.sees_all_contexts(),
        };
        let written = webhooks::read(body, rules).map_err(Problem::invalid)?;
        let is_new = find::<Webhook>(&caller.snapshot, id).is_none();
        if is_new && caller.snapshot.documents(DocumentKind::Webhook).count() >= MAX_WEBHOOKS {
            let detail = format!("There are already {MAX_WEBHOOKS} webhooks. Delete one first.");
            return Err(Problem::new(Code::Conflict, detail));
        }
        // The registry keeps the secret when none is sent.
        let made = (is_new && written.secret.is_none()).then(|| Secret::from_random(random::bytes()).text());
        let secret = written.secret.or_else(|| made.clone());
        let webhook = Webhook {
            url: written.url,
            description: written.description,
            filter: written.filter,
            secret: secret.map(EncryptedSecret::plaintext),
            retiring: None,
            enabled: written.enabled,
        };
        Ok((webhook, Extras { states: Vec::new(), secret: made }))
    }

    async fn written(
        caller: &Caller,
        _: &StoredDocument,
        _: &Self,
        _: bool,
        extras: Extras,
    ) -> Result<Extras, Problem> {
        notify_hub(caller).await;
        Ok(extras)
    }

    async fn deleted(caller: &Caller, _: &str) -> Result<(), Problem> {
        notify_hub(caller).await;
        Ok(())
    }
}
