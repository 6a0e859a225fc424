//! The messages of an event hub and its shards: requests and replies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use narthex_core::base::json::Fault;
use narthex_core::base::object_name::ObjectName;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::version::Generation;
use narthex_core::events::filter::Filter;
use narthex_core::events::sequence::Sequence;
use narthex_core::registry::revision::Revision;
use narthex_core::usage::{UsageCounts, UsageKey};
use narthex_core::webhooks::delivery::{DeliveryAttempt, Disablement};

/// The reader of a stream, as the gateway authenticated it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewer {
    pub tenant: TenantId,
    pub principal: PrincipalId,
    /// May see all contexts, not only its own.
    pub sees_all: bool,
    /// When its credentials expire.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// The documents its token depends on, as paths below `/v1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// Roles and the required permissions that they alone grant to this viewer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<(String, String)>,
    /// Is not shown the events: they only cause the gateway to check again what the viewer may see.
    #[serde(default, rename = "looks_itself", skip_serializing_if = "is_false")]
    pub notify_only: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Viewer {
    pub fn depends_on(&self, revocation: &Revocation) -> bool {
        match revocation {
            Revocation::Document(object) => self.from.contains(object),
            Revocation::Permissions { role, lost } => {
                self.by.iter().any(|(by, permission)| by == role && lost.contains(permission))
            }
            Revocation::Tenant => true,
        }
    }
}

/// A revocation that ends credentials which are not themselves revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// An issuer, a client or a grant that was deleted or replaced.
    #[serde(rename = "from")]
    Document(String),
    /// Permissions that a role has lost.
    Permissions {
        role: String,
        lost: Vec<String>,
    },
    Tenant,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Appends a publisher's events.
    Publish(Publish),
    /// Lists matching events from the log.
    List {
        viewer: Viewer,
        filter: Filter,
        #[serde(default)]
        after: Sequence,
        #[serde(default)]
        since: Option<Timestamp>,
        limit: u64,
    },
    /// Creates a ticket for opening one socket later.
    MakeTicket { ticket_hash: String, viewer: Viewer, until: Timestamp },
    /// Redeems a ticket.
    UseTicket { ticket_hash: String },
    /// Closes the sockets of ended credentials.
    Revoke { principal: PrincipalId },
    /// Closes the sockets whose credentials depend on what was revoked.
    End(Revocation),
    /// How many hours events are kept; `None` means the deployment's default.
    Retain { hours: Option<u64> },
    /// Deletes what has expired.
    Sweep,
    /// Usage in a span of time.
    Usage(UsageQuery),
    /// Usage since the tenant was created, by service and capability.
    UsageTotals,
    /// Counts of rejected requests, by code.
    Refused { codes: BTreeMap<String, u64> },
    /// All webhooks of the tenant, as configured; also performs a sweep.
    Webhooks { tenant: TenantId, revision: Revision, webhooks: Vec<Subscriber> },
    /// The state of all webhooks.
    WebhookStates,
    /// Reports finished delivery attempts and claims further deliveries.
    Deliver { tried: Vec<DeliveryReport>, most: usize },
    /// Delivers an event from the log again.
    Redeliver { webhook: String, event_id: String },
    /// A webhook's deliveries, newest first.
    Deliveries { webhook: String, below: u64, limit: u64 },
    /// Registers a shard.
    Join { shard: u16, tenant: TenantId },
    /// Reads the log after a sequence, for a shard's socket that catches up.
    Read { after: Sequence },
}

/// Usage in whole hours from the first named, and how to group it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UsageQuery {
    pub from: Timestamp,
    pub until: Timestamp,
    /// The length of a group in time; `None`: one group.
    pub bucket_ms: Option<u64>,
    pub by_service: bool,
    pub by_capability: bool,
    pub by_principal: bool,
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

/// The outcome of a delivery attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveryReport {
    pub webhook: String,
    pub number: u64,
    pub attempt: DeliveryAttempt,
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

/// The name of a tenant's shard object.
pub fn shard_name(tenant: &TenantId, number: u16) -> ObjectName {
    tenant.object_for(number)
}

/// A message from the hub to a shard.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShardAsk {
    /// The events after `after`; without it, only the hub's position.
    Push {
        #[serde(default)]
        after: Option<Sequence>,
        page: Page,
    },
    /// Closes the sockets of ended credentials.
    Revoke { principal: PrincipalId },
    /// Closes the sockets whose credentials depend on what was revoked.
    End(Revocation),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShardReply {
    Reached { reached: Sequence, sockets: usize },
    Joining,
    Gone,
    Done,
}

/// Consecutive batches of the log.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    pub batches: Vec<StoredBatch>,
    /// The first sequence in the log.
    pub first_kept: Sequence,
    /// The last sequence of these batches, or of the log if there are none.
    pub last: Sequence,
}

/// A batch as stored in the log.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredBatch {
    pub first: Sequence,
    pub tenant: TenantId,
    #[serde(rename = "teller")]
    pub publisher: String,
    pub bundles: Box<RawValue>,
}

/// The form in which a socket receives events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// One event per message.
    #[default]
    Message,
    /// One frame of `text/event-stream` per message, for a Worker that forwards it.
    Frame,
}

/// A batch: `count` items numbered from `first` to `last`, in order, in a list of bundles. The list stays text until it
/// is needed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Publish {
    pub tenant: TenantId,
    #[serde(rename = "teller")]
    pub publisher: String,
    pub first: u64,
    pub last: u64,
    pub count: u64,
    pub bundles: Box<RawValue>,
}

/// The message that opens a socket, sent with the upgrade.
#[derive(Debug, Serialize, Deserialize)]
pub struct Open {
    pub viewer: Viewer,
    pub filter: Filter,
    /// Resumes after this sequence; without it, the stream starts with the next event.
    #[serde(default)]
    pub after: Option<Sequence>,
    /// The one subject that this socket may see, whatever it subscribes to later.
    #[serde(default)]
    pub bound_to: Option<String>,
    #[serde(default)]
    pub form: Form,
    /// The shard that must accept the socket; 0: the hub decides.
    #[serde(default)]
    pub shard: u16,
    /// Headers of the response, as `name\nvalue\n…`.
    pub headers: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Everything up to this number is in the log.
    Published {
        head: u64,
    },
    Events {
        events: Vec<Box<RawValue>>,
        /// Where the next page starts; `None` at the end of the log.
        next: Option<Sequence>,
        /// The requested range includes events before this sequence, which are no longer in the log.
        #[serde(default)]
        gap: Option<Sequence>,
    },
    Ticket(Option<Viewer>),
    Faults(Vec<Fault>),
    Done,
    /// `None` if there are too many groups.
    Usage(Option<Vec<(UsageKey, UsageCounts)>>),
    /// Counts since the tenant was created: usage by service and capability, and rejected requests by code.
    Totals {
        rows: Vec<(UsageKey, UsageCounts)>,
        #[serde(default)]
        refused: BTreeMap<String, u64>,
    },
    WebhookStates(Vec<(String, HookState)>),
    Due(Vec<DueDelivery>),
    Delivery(Box<Delivery>),
    Deliveries(Vec<(u64, Delivery)>),
    /// It does not exist, or does not match this webhook's filter.
    Absent,
    /// The webhook is disabled.
    Idle,
    /// The shard receives the events after this sequence.
    Joined {
        last: Sequence,
    },
    Page(Page),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    // Other versions of the Worker send and read these forms during a deployment.
    #[test]
    fn webhooks_are_configured_under_a_revision_and_their_generations() {
        let version = 1_764_547_200_123_001_u64;
        let filter = serde_json::to_value(Filter::default()).unwrap();
        let sent = json!({"webhooks": {"tenant": "default", "revision": 3, "webhooks": [
            {"id": "a", "version": version, "filter": filter, "enabled": true, "owner": null}
        ]}});
        let ask: Ask = serde_json::from_value(sent.clone()).unwrap();
        assert_eq!(serde_json::to_value(&ask).unwrap(), sent);
        let state =
            json!({"version": version, "disabled": null, "failing_since": null, "resting_until": null, "waiting": 0});
        assert_eq!(serde_json::to_value(serde_json::from_value::<HookState>(state.clone()).unwrap()).unwrap(), state);
    }

    #[test]
    fn positions_in_the_log_are_sent_as_numbers() {
        let push = json!({"push": {"after": 4, "page": {"batches": [], "first_kept": 1, "last": 7}}});
        let ask: ShardAsk = serde_json::from_value(push.clone()).unwrap();
        assert_eq!(serde_json::to_value(&ask).unwrap(), push);
        let events = json!({"events": {"events": [], "next": 9, "gap": null}});
        let reply: Reply = serde_json::from_value(events.clone()).unwrap();
        assert_eq!(serde_json::to_value(&reply).unwrap(), events);
    }
}
