//! What a lane stores: its state, where the service is probed, until when permits may be valid, and its deliveries.

use serde::{Deserialize, Serialize};

use super::probing::Target;
use crate::base::service_id::ServiceId;
use crate::base::storage_error::StorageError;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;
use crate::calling::connection::pool::Delivery;
use crate::lane::LaneRecord;
use crate::lane::health::StatusReason;

/// The stored state of a lane.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StoredState {
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

/// What was stored when an instance starts.
#[derive(Debug, Default)]
pub struct Stored {
    pub state: Option<StoredState>,
    pub target: Option<Target>,
    /// No permit is valid after this time.
    pub busy_until: Timestamp,
    /// The deliveries in progress, and those that ended recently.
    pub deliveries: Vec<Delivery>,
}

/// The rows of a lane. Each write is atomic.
pub trait Storage {
    fn read(&self) -> Result<Stored, StorageError>;
    fn put_state(&self, state: &StoredState) -> Result<(), StorageError>;
    fn put_target(&self, target: &Target) -> Result<(), StorageError>;
    fn delete_target(&self) -> Result<(), StorageError>;
    fn put_busy_until(&self, until: Timestamp) -> Result<(), StorageError>;
    fn put_delivery(&self, delivery: &Delivery) -> Result<(), StorageError>;
    fn delete_delivery(&self, number: &str) -> Result<(), StorageError>;
    /// Deletes everything, and the alarm.
    fn delete_all(&self) -> Result<(), StorageError>;
}
