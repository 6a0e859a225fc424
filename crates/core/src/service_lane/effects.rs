//! What a lane's shell must do after a turn.

use super::RequestNumber;
use super::reports::DeliveryReport;
use crate::base::storage_error::StorageError;
use crate::base::time::Timestamp;
use crate::calling::connection::close_code::ConnectionCloseCode;
use crate::lane::PermitDecision;

/// Something to do with the socket in a slot.
#[derive(Debug, PartialEq, Eq)]
pub enum SocketAction {
    Send(u32, String),
    /// Stores what survives hibernation.
    Attach(u32, String),
    Close(u32, ConnectionCloseCode),
}

/// A failed write that no request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsaved {
    State,
    Deletion,
    Delivery,
    DeletedDelivery,
}

/// What the shell must do now. The writes have been made.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the log.
    pub failures: Vec<(Unsaved, StorageError)>,
    /// Set the alarm to this time, replacing a later one.
    pub alarm: Option<Timestamp>,
    pub sockets: Vec<SocketAction>,
    /// The answers of requests that waited.
    pub decisions: Vec<(RequestNumber, PermitDecision)>,
    /// Pass these to the context stores.
    pub reports: Vec<DeliveryReport>,
    /// Report the status to the registry before the request is answered that changed it: see
    /// [`super::ServiceLane::status_report`].
    pub must_report: bool,
    /// Report the latency to the registry: see [`super::ServiceLane::latency_report`]. No request waits for it.
    pub report_latency: bool,
    /// Close the connections whose credentials the registry no longer permits: see
    /// [`super::ServiceLane::close_connections`].
    pub check_permissions: bool,
    /// Call [`super::ServiceLane::clear_busy`] after [`crate::base::timing::Timing::lane_idle_ms`].
    pub clear_busy: bool,
}
