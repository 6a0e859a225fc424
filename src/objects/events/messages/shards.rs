//! The messages between a hub and its shards.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::objects::protocol::{Address, BareObject, Done, Object, requests};
use crate::platform::objects::{CALL_TIMEOUT_MS, Kind};
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::events::fanout::ShardNumber;
use narthex_core::events::sequence::Sequence;

use super::Revocation;

/// How long a shard may take to close sockets, in milliseconds; the revocation of a key waits for it.
const REVOKE_TIMEOUT_MS: u64 = 2_000;

pub struct EventShards;

impl Object for EventShards {
    const KIND: Kind = Kind::Shards;
}

impl BareObject for EventShards {}

impl EventShards {
    pub fn of(tenant: &TenantId, number: ShardNumber) -> Address<Self> {
        Address::new(tenant.object_for(number))
    }
}

requests! {
    pub enum ShardAsk of EventShards {
        "push": PushPage => Pushed, Handle, |_| CALL_TIMEOUT_MS;
        "revoke": CloseSockets => Done, Handle, |_| REVOKE_TIMEOUT_MS;
        "end": CloseDependents => Done, Handle, |_| REVOKE_TIMEOUT_MS;
    }
    units {}
}

/// Pushes the events after `after`; without it, only the hub's position.
#[derive(Debug, Serialize, Deserialize)]
pub struct PushPage {
    #[serde(default)]
    pub after: Option<Sequence>,
    pub page: Page,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pushed {
    Reached {
        reached: Sequence,
        sockets: usize,
    },
    Joining,
    /// The shard has no sockets.
    Gone,
}

/// Closes the sockets of ended credentials.
#[derive(Debug, Serialize, Deserialize)]
pub struct CloseSockets {
    pub principal: PrincipalId,
}

/// Closes the sockets whose credentials depend on what was revoked.
#[derive(Debug, Serialize, Deserialize)]
pub struct CloseDependents(pub Revocation);

/// Registers a shard at the hub.
#[derive(Debug, Serialize, Deserialize)]
pub struct JoinShard {
    pub shard: ShardNumber,
    pub tenant: TenantId,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Joined {
    /// The shard receives the events after this sequence.
    Joined { last: Sequence },
}

/// Reads the hub's log after a sequence, for a shard's socket that catches up.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadLog {
    pub after: Sequence,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogPage {
    Page(Page),
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

#[cfg(test)]
mod tests {
    use super::ShardAsk;
    use crate::objects::wire_tests::assert_pinned;

    #[test]
    fn other_versions_read_the_messages() {
        assert_pinned::<ShardAsk>(include_str!("../wire_shards.json"));
    }
}
