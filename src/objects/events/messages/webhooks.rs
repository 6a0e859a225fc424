//! The requests about webhooks and their deliveries.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::version::Generation;
use narthex_core::events::filter::Filter;
use narthex_core::events::sequence::Sequence;
use narthex_core::registry::revision::Revision;
use narthex_core::webhooks::delivery::{DeliveryAttempt, Disablement};

/// Configures all webhooks of the tenant, and performs a sweep.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConfigureWebhooks {
    pub tenant: TenantId,
    pub revision: Revision,
    pub webhooks: Vec<Subscriber>,
    /// Those that the sender cannot read, because a later version has written them: they stay as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

/// A webhook as the hub knows it, without its URL and secret.
#[derive(Debug, Serialize, Deserialize)]
pub struct Subscriber {
    pub id: String,
    #[serde(rename = "version")]
    pub generation: Generation,
    pub filter: Filter,
    pub enabled: bool,
    #[serde(default)]
    pub owner: Option<PrincipalId>,
}

/// Reads the states of all webhooks.
#[derive(Debug, Serialize)]
pub struct ReadWebhookStates;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookStates {
    /// By the ids of the webhooks.
    WebhookStates(Vec<(String, HookState)>),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct HookState {
    #[serde(rename = "version")]
    pub generation: Generation,
    #[serde(default)]
    pub disabled: Option<Disablement>,
    #[serde(default)]
    pub failing_since: Option<Timestamp>,
    #[serde(default)]
    pub resting_until: Option<Timestamp>,
    #[serde(default)]
    pub waiting: u64,
}

/// Reports finished delivery attempts, and claims further deliveries.
#[derive(Debug, Serialize, Deserialize)]
pub struct ClaimDeliveries {
    pub tried: Vec<DeliveryReport>,
    pub most: usize,
}

/// The outcome of a delivery attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveryReport {
    pub webhook: String,
    pub number: u64,
    pub attempt: DeliveryAttempt,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DueDeliveries {
    Due(Vec<DueDelivery>),
}

/// A delivery to be attempted now.
#[derive(Debug, Serialize, Deserialize)]
pub struct DueDelivery {
    pub webhook: String,
    pub number: u64,
    /// The number of the attempt.
    pub attempt: usize,
    pub event_id: String,
    pub event: Box<RawValue>,
}

/// Delivers an event from the log again.
#[derive(Debug, Serialize, Deserialize)]
pub struct Redeliver {
    pub webhook: String,
    pub event_id: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Redelivered {
    #[serde(rename = "delivery")]
    Queued(Box<Delivery>),
    /// The event does not exist, or does not match the webhook's filter.
    Absent,
    /// The webhook is disabled.
    Idle,
}

/// Lists the deliveries of a webhook that are numbered below `below`, the newest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListDeliveries {
    pub webhook: String,
    pub below: u64,
    pub limit: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryList {
    /// With their numbers.
    Deliveries(Vec<(u64, Delivery)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    Waiting,
    Delivered,
    Failed,
}

/// The delivery of one event to one webhook.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Delivery {
    pub event_id: String,
    pub event_type: String,
    pub subject: String,
    pub sequence: Sequence,
    pub created_at: Timestamp,
    pub attempts: usize,
    /// The attempts that reached the receiver and were rejected; all of them if unset.
    #[serde(default)]
    pub refused: Option<usize>,
    #[serde(default)]
    pub first_at: Option<Timestamp>,
    #[serde(default)]
    pub last: Option<DeliveryAttempt>,
    pub state: DeliveryState,
    /// When the next attempt is due.
    #[serde(default)]
    pub due: Option<Timestamp>,
}
