//! The state of a lane besides the wait queue, the breaker and the health: in memory, and as stored.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use futures_channel::oneshot;
use serde::{Deserialize, Serialize};

use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::lane::health::StatusReason;
use narthex_core::lane::{LaneRecord, PermitDecision};

use super::messages::{ProbeReport, Target};

/// The stored state of a lane.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct StoredState {
    /// Every stored state has both.
    pub tenant: Option<TenantId>,
    pub service: Option<ServiceId>,
    #[serde(default)]
    pub moved_at: Timestamp,
    #[serde(rename = "kept")]
    pub record: LaneRecord,
    /// When the service is probed next.
    #[serde(default)]
    pub probe_at: Option<Timestamp>,
    /// A status change that the registry has not received yet.
    #[serde(default, rename = "untold")]
    pub unreported: Option<StatusReason>,
    /// For a service that connects: how long it may be disconnected.
    #[serde(default)]
    pub grace_ms: Option<u64>,
    /// The service was deleted; its running deliveries may finish.
    #[serde(default)]
    pub is_leaving: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub tenant: TenantId,
    pub service: ServiceId,
}

/// Everything that is forgotten when the service is deleted.
#[derive(Default)]
pub(super) struct ServiceState {
    pub identity: RefCell<Option<Identity>>,
    pub configured_at: Cell<Timestamp>,
    /// When the service was given its present address: everything else refers to the service at that address.
    pub moved_at: Cell<Timestamp>,
    pub target: RefCell<Option<Target>>,
    /// Requests that wait for a permit, by context: after a store restarts, two workers may wait for the same context.
    pub waiters: RefCell<HashMap<String, Vec<oneshot::Sender<PermitDecision>>>>,
    /// The stored value.
    pub busy_until: Cell<Timestamp>,
    pub stored_heartbeat: Cell<Timestamp>,
    pub probe_at: Cell<Option<Timestamp>>,
    pub last_probe: RefCell<Option<ProbeReport>>,
    pub unreported: Cell<Option<StatusReason>>,
    pub grace_ms: Cell<Option<u64>>,
    pub is_leaving: Cell<bool>,
    pub alarm_at: Cell<Option<Timestamp>>,
}

impl ServiceState {
    /// Resets every field; a new field does not compile until it is reset here too.
    pub fn clear(&self) {
        let Self {
            identity,
            configured_at,
            moved_at,
            target,
            waiters,
            busy_until,
            stored_heartbeat,
            probe_at,
            last_probe,
            unreported,
            grace_ms,
            is_leaving,
            alarm_at,
        } = self;
        identity.take();
        configured_at.take();
        moved_at.take();
        target.take();
        waiters.take();
        busy_until.take();
        stored_heartbeat.take();
        probe_at.take();
        last_probe.take();
        unreported.take();
        grace_ms.take();
        is_leaving.take();
        alarm_at.take();
    }
}
