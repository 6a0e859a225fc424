//! What is asked of an event hub, and what it replies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use narthex_core::base::json::Fault;
use narthex_core::base::time::Timestamp;
use narthex_core::events::filter::Filter;
use narthex_core::usage::{UsageCounts, UsageKey};
use narthex_core::webhooks::delivery::{DeliveryAttempt, Disablement};

/// Who looks at the stream, as the gateway decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewer {
    pub tenant: String,
    pub principal: String,
    /// Sees everyone's contexts, not its own alone.
    pub sees_all: bool,
    /// When its credentials end.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// What its token came from, by the paths below `/v1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// By which role it has a permission that it needs; not those that it has in another way too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<(String, String)>,
    /// It is not shown events: it is told when to look again at what it may.
    #[serde(default, skip_serializing_if = "is_false")]
    pub looks_itself: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Viewer {
    pub fn ends_with(&self, gone: &Gone) -> bool {
        match gone {
            Gone::From(object) => self.from.contains(object),
            Gone::Permissions { role, lost } => self.by.iter().any(|(by, one)| by == role && lost.contains(one)),
            Gone::Tenant => true,
        }
    }
}

/// With what credentials end that are not revoked themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gone {
    /// An issuer, a client or a grant: deleted, or another by now.
    From(String),
    /// What a role grants no more.
    Permissions {
        role: String,
        lost: Vec<String>,
    },
    Tenant,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// What a teller has to tell.
    Publish(Publish),
    /// Events that match, from the log.
    List {
        viewer: Viewer,
        filter: Filter,
        #[serde(default)]
        after: u64,
        #[serde(default)]
        since: Option<Timestamp>,
        limit: u64,
    },
    /// Makes a ticket for one later opening of a socket.
    MakeTicket { ticket_hash: String, viewer: Viewer, until: Timestamp },
    /// Uses a ticket up.
    UseTicket { ticket_hash: String },
    /// These credentials have ended: their sockets are closed.
    Revoke { principal: String },
    /// So have all that depend on this.
    End(Gone),
    /// How many hours events are kept; nothing: as the deployment does.
    Retain { hours: Option<u64> },
    /// Deletes what is past its time.
    Sweep,
    /// What was counted in a span.
    Usage(UsageQuery),
    /// What was counted since the tenant began, by service and capability.
    UsageTotals,
    /// Requests that were refused, by code.
    Refused { codes: BTreeMap<String, u64> },
    /// All webhooks of the tenant, as they are configured; does what a sweep does too.
    Webhooks { tenant: String, revision: u64, webhooks: Vec<Subscriber> },
    /// How webhooks are doing.
    WebhookStates,
    /// Reports on deliveries that were made, and asks for further ones.
    Deliver { tried: Vec<Tried>, most: usize },
    /// Delivers an event of the log again.
    Redeliver { webhook: String, event_id: String },
    /// Deliveries, the newest first.
    Deliveries { webhook: String, below: u64, limit: u64 },
    /// A shard takes part, from now on.
    Join { shard: u16, tenant: String },
    /// What the log has after a sequence, for a shard's socket that catches up.
    Read { after: u64 },
}

/// Usage in whole hours from the first that is named, and how it is grouped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UsageQuery {
    pub from: Timestamp,
    pub until: Timestamp,
    /// By spans this long; nothing: all together.
    pub bucket_ms: Option<u64>,
    pub by_service: bool,
    pub by_capability: bool,
    pub by_principal: bool,
}

/// A webhook as the hub is told of it: neither where it is nor its secret.
#[derive(Debug, Serialize, Deserialize)]
pub struct Subscriber {
    pub id: String,
    pub version: u64,
    pub filter: Filter,
    pub enabled: bool,
    #[serde(default)]
    pub owner: Option<String>,
}

/// How a delivery went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tried {
    pub webhook: String,
    pub number: u64,
    pub attempt: DeliveryAttempt,
}

/// A delivery to be made now.
#[derive(Debug, Serialize, Deserialize)]
pub struct Due {
    pub webhook: String,
    pub number: u64,
    /// The number of the attempt.
    pub attempt: usize,
    pub event_id: String,
    pub event: Box<RawValue>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    Waiting,
    Delivered,
    Failed,
}

/// What became of an event for one webhook.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Delivery {
    pub event_id: String,
    pub event_type: String,
    pub subject: String,
    pub sequence: u64,
    pub created_at: Timestamp,
    pub attempts: usize,
    /// Of these, the ones that somebody refused; all of them where it is not written down.
    #[serde(default)]
    pub refused: Option<usize>,
    #[serde(default)]
    pub first_at: Option<Timestamp>,
    #[serde(default)]
    pub last: Option<DeliveryAttempt>,
    pub state: DeliveryState,
    /// When it is tried next.
    #[serde(default)]
    pub due: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct HookState {
    pub version: u64,
    #[serde(default)]
    pub disabled: Option<Disablement>,
    #[serde(default)]
    pub failing_since: Option<Timestamp>,
    #[serde(default)]
    pub resting_until: Option<Timestamp>,
    #[serde(default)]
    pub waiting: u64,
}

/// The object that is a tenant's shard.
pub fn shard_name(tenant: &str, number: u16) -> String {
    format!("{tenant}/{number}")
}

/// What the hub asks of a shard.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShardAsk {
    /// What follows `after`; without it only how far it is.
    Push {
        #[serde(default)]
        after: Option<u64>,
        page: Page,
    },
    /// These credentials have ended: their sockets are closed.
    Revoke { principal: String },
    /// So have all that depend on this.
    End(Gone),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShardReply {
    Reached { reached: u64, sockets: usize },
    Joining,
    Gone,
    Done,
}

/// Some batches of the log that follow each other.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    pub batches: Vec<Piece>,
    /// The first sequence that is kept.
    pub first_kept: u64,
    /// The last sequence of these batches; of the log when there are none.
    pub last: u64,
}

/// A batch as it lies in the log.
#[derive(Debug, Serialize, Deserialize)]
pub struct Piece {
    pub first: u64,
    pub tenant: String,
    pub teller: String,
    pub bundles: Box<RawValue>,
}

/// What a socket is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// An event a message.
    #[default]
    Message,
    /// A frame of `text/event-stream` a message, for a Worker that passes it on.
    Frame,
}

/// A batch: `count` items numbered from `first` to `last`, in order, in a list of bundles. The list stays text
/// unless somebody looks at it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Publish {
    pub tenant: String,
    pub teller: String,
    pub first: u64,
    pub last: u64,
    pub count: u64,
    pub bundles: Box<RawValue>,
}

/// The opening of a socket, handed over with the upgrade.
#[derive(Debug, Serialize, Deserialize)]
pub struct Open {
    pub viewer: Viewer,
    pub filter: Filter,
    /// Resume after this sequence; without it only what comes from now on.
    #[serde(default)]
    pub after: Option<u64>,
    /// The one subject this socket is for, whatever it subscribes to later.
    #[serde(default)]
    pub bound_to: Option<String>,
    #[serde(default)]
    pub form: Form,
    /// The shard that is to hold it; 0: the hub decides.
    #[serde(default)]
    pub shard: u16,
    /// `name\nvalue\n…` for the answer.
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
        /// Where the next page goes on; nothing at the log's end.
        next: Option<u64>,
        /// Events before this are no longer kept and were asked for.
        #[serde(default)]
        gap: Option<u64>,
    },
    Ticket(Option<Viewer>),
    Faults(Vec<Fault>),
    Done,
    /// Nothing when there are too many groups.
    Usage(Option<Vec<(UsageKey, UsageCounts)>>),
    /// What was counted since the tenant began: by service and capability, and refused requests by code.
    Totals {
        rows: Vec<(UsageKey, UsageCounts)>,
        #[serde(default)]
        refused: BTreeMap<String, u64>,
    },
    WebhookStates(Vec<(String, HookState)>),
    Due(Vec<Due>),
    Delivery(Box<Delivery>),
    Deliveries(Vec<(u64, Delivery)>),
    /// There is no such thing, or not for this webhook.
    Absent,
    /// The webhook gets nothing now.
    Idle,
    /// The shard takes part after this sequence.
    Joined {
        last: u64,
    },
    Page(Page),
}
