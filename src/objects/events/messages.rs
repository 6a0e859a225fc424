//! The messages of a tenant's event hub: its requests and replies.

pub mod shards;
pub mod sockets;
pub mod webhooks;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::objects::protocol::{Address, BareObject, Done, Object, requests};
use crate::platform::objects::{CALL_TIMEOUT_MS, Kind};
use narthex_core::access::revocation::Revocation;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::events::filter::Filter;
use narthex_core::events::sequence::Sequence;
use narthex_core::events::viewer::Viewer;
use narthex_core::registry::revision::Revision;
use narthex_core::usage::{UsageCounts, UsageKey};

use shards::{JoinShard, Joined, LogPage, ReadLog};
use webhooks::{
    ClaimDeliveries, ConfigureWebhooks, DeliveryList, DueDeliveries, ListDeliveries, ReadWebhookStates, Redeliver,
    Redelivered, WebhookStates,
};

/// How long the hub may take to act on a change in the registry, whose writer waits for it, in milliseconds.
const CHANGE_TIMEOUT_MS: u64 = 2_000;

pub struct Events;

impl Object for Events {
    const KIND: Kind = Kind::Events;
}

impl BareObject for Events {}

impl Events {
    pub fn of(tenant: &TenantId) -> Address<Self> {
        Address::new(tenant.object())
    }
}

requests! {
    pub enum Ask of Events {
        "publish": Publish => Published, Handle, |_| CALL_TIMEOUT_MS;
        "list": ListEvents => EventList, Handle, |_| CALL_TIMEOUT_MS;
        "make_ticket": MakeTicket => Done, Handle, |_| CALL_TIMEOUT_MS;
        "use_ticket": UseTicket => Ticket, Handle, |_| CALL_TIMEOUT_MS;
        "revoke": Revoke => Done, HandleLater, |_| CHANGE_TIMEOUT_MS;
        "end": RevokeDependents => Done, HandleLater, |_| CHANGE_TIMEOUT_MS;
        "retain": SetRetention => Done, Handle, |_| CHANGE_TIMEOUT_MS;
        "usage": UsageQuery => UsageGroups, Handle, |_| CALL_TIMEOUT_MS;
        "refused": CountRejections => Done, Handle, |_| CALL_TIMEOUT_MS;
        "webhooks": ConfigureWebhooks => Done, Handle, |_| CALL_TIMEOUT_MS;
        "deliver": ClaimDeliveries => DueDeliveries, Handle, |_| CALL_TIMEOUT_MS;
        "redeliver": Redeliver => Redelivered, Handle, |_| CALL_TIMEOUT_MS;
        "deliveries": ListDeliveries => DeliveryList, Handle, |_| CALL_TIMEOUT_MS;
        "join": JoinShard => Joined, Handle, |_| CALL_TIMEOUT_MS;
        "read": ReadLog => LogPage, Handle, |_| CALL_TIMEOUT_MS;
    }
    units {
        "sweep": Sweep => Done, Handle, |_| CALL_TIMEOUT_MS;
        "usage_totals": ReadTotals => UsageTotals, Handle, |_| CALL_TIMEOUT_MS;
        "webhook_states": ReadWebhookStates => WebhookStates, Handle, |_| CALL_TIMEOUT_MS;
    }
}

/// Appends a batch of a publisher's events: `count` items numbered from `first` to `last`, in order, in a list of
/// bundles. The list stays text until it is needed.
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

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Published {
    /// Everything up to this number is in the log.
    Published { head: u64 },
}

/// Lists matching events from the log.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListEvents {
    /// The hub does not need it: the filter already excludes what the viewer may not see.
    pub viewer: Viewer,
    pub filter: Filter,
    #[serde(default)]
    pub after: Sequence,
    #[serde(default)]
    pub since: Option<Timestamp>,
    pub limit: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventList {
    Events {
        events: Vec<Box<RawValue>>,
        /// Where the next page starts; `None` at the end of the log.
        next: Option<Sequence>,
        /// The requested range includes events before this sequence, which are no longer in the log.
        #[serde(default)]
        gap: Option<Sequence>,
    },
}

/// Creates a ticket for opening one socket later.
#[derive(Debug, Serialize, Deserialize)]
pub struct MakeTicket {
    pub ticket_hash: String,
    pub viewer: Viewer,
    pub until: Timestamp,
}

/// Redeems a ticket.
#[derive(Debug, Serialize, Deserialize)]
pub struct UseTicket {
    pub ticket_hash: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ticket {
    /// `None` if the ticket is not valid.
    Ticket(Option<Viewer>),
}

/// Closes the sockets of ended credentials.
#[derive(Debug, Serialize, Deserialize)]
pub struct Revoke {
    pub principal: PrincipalId,
}

/// Closes the sockets whose credentials depend on what was revoked.
#[derive(Debug, Serialize, Deserialize)]
pub struct RevokeDependents(pub Revocation);

/// Sets how many hours events are kept; `None` means the deployment's default.
#[derive(Debug, Serialize, Deserialize)]
pub struct SetRetention {
    pub hours: Option<u64>,
    /// The revision of the registry that says so; a late message does not undo a newer one.
    #[serde(default)]
    pub revision: Revision,
}

/// Deletes what has expired.
#[derive(Debug, Serialize)]
pub struct Sweep;

/// Reads the usage in whole hours from the first named, and says how to group it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UsageQuery {
    pub from: Timestamp,
    pub until: Timestamp,
    /// The length of a group in time; `None`: one group.
    pub bucket_ms: Option<u64>,
    pub by_service: bool,
    pub by_capability: bool,
    pub by_principal: bool,
    #[serde(default)]
    pub by_role: bool,
    #[serde(default)]
    pub by_model: bool,
}

impl UsageQuery {
    /// The group to which counts belong.
    pub fn group_of(&self, key: UsageKey) -> UsageKey {
        let kept = |text: String, is_grouped: bool| if is_grouped { text } else { String::new() };
        UsageKey {
            hour: self.bucket_ms.map_or(0, |bucket| key.hour / bucket.max(1) * bucket),
            service: kept(key.service, self.by_service),
            capability: kept(key.capability, self.by_capability),
            principal: kept(key.principal, self.by_principal),
            role: kept(key.role, self.by_role),
            model: kept(key.model, self.by_model),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageGroups {
    /// `None` if there are too many groups.
    Usage(Option<Vec<(UsageKey, UsageCounts)>>),
}

/// Reads the counts since the tenant was created.
#[derive(Debug, Serialize)]
pub struct ReadTotals;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageTotals {
    Totals {
        /// Usage by service and capability.
        rows: Vec<(UsageKey, UsageCounts)>,
        /// Rejected requests by code.
        #[serde(default)]
        refused: BTreeMap<String, u64>,
        /// Tokens and spend of these rows, also by model.
        #[serde(default)]
        models: Vec<(UsageKey, UsageCounts)>,
    },
}

/// Counts rejected requests, by code.
#[derive(Debug, Serialize, Deserialize)]
pub struct CountRejections {
    pub codes: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests {
    use super::Ask;
    use crate::objects::wire_tests::assert_pinned;

    #[test]
    fn other_versions_read_the_messages() {
        assert_pinned::<Ask>(include_str!("wire.json"));
    }
}
