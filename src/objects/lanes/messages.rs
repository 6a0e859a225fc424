//! The messages of a service's lane: its requests and replies.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::objects::events::messages::{Revocation, Viewer};
use narthex_core::access::encrypted_secret::EncryptedSecret;
use narthex_core::base::id::ContextId;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::context::status::Priority;
use narthex_core::lane::PermitDecision;
use narthex_core::lane::call_outcome::CallOutcome;
use narthex_core::lane::observed::{HealthStatus, ObservedStatus};
use narthex_core::lane::permit_number::PermitNumber;
use narthex_core::services::RetiringSecret;
use narthex_core::services::credentials::EncryptedCredentials;

/// Carries the sender's view of the service's configuration.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub tenant: TenantId,
    pub service: ServiceId,
    /// When that configuration was written; the newest counts.
    pub configured_at: Timestamp,
    /// When the service was given its address.
    #[serde(default)]
    pub moved_at: Timestamp,
    #[serde(default)]
    pub max_concurrency: Option<u64>,
    #[serde(default)]
    pub max_queue: u64,
    /// For a service that connects: how long a dropped connection's deliveries are kept for it.
    #[serde(default)]
    pub grace_ms: Option<u64>,
    pub ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// From the registry: how the service is reached and probed.
    Configure(Target),
    /// From the registry: the service was deleted.
    Forget,
    /// Requests a permit, and waits for it up to `wait_ms`.
    Acquire {
        context: ContextId,
        principal: PrincipalId,
        priority: Priority,
        deadline: Timestamp,
        /// The context was admitted before, so a full queue does not reject it.
        #[serde(default)]
        admitted: bool,
        wait_ms: u64,
    },
    /// Extends a permit.
    Renew {
        permit: PermitNumber,
        principal: PrincipalId,
    },
    /// Returns a permit.
    Release {
        permit: PermitNumber,
        sample: CallOutcome,
    },
    /// Outcomes of calls without a permit: the number of successes, and then the last outcome.
    Report {
        successes: u64,
        last: CallOutcome,
    },
    /// Leaves the wait queue.
    Leave {
        context: ContextId,
    },
    Heartbeat {
        status: HealthStatus,
        lease_ms: u64,
    },
    /// Probes now.
    Check(Target),
    /// From the registry: the service connects; the fields beside `ask` say how.
    Connects,
    /// Opens a connection of the service; `headers` are those of the response.
    Connect {
        viewer: Viewer,
        headers: String,
    },
    /// Dispatches work to a connection with free capacity.
    Hand {
        delivery: Delivery,
        work: Box<RawValue>,
    },
    /// The attempt of this context is over. If `cancelled`, the service is notified.
    Withdraw {
        context: ContextId,
        cancelled: bool,
    },
    /// Asks whether the service is connected.
    Look,
    /// Closes the connections of ended credentials.
    Revoke {
        principal: PrincipalId,
    },
    /// Closes the connections whose credentials depend on what was revoked.
    End(Revocation),
}

/// Where and how a service is probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// A URL, or a path if there is a binding.
    pub url: String,
    #[serde(default)]
    pub binding: Option<String>,
    /// The probe interval; `None`: only on request.
    #[serde(default)]
    pub interval_ms: Option<u64>,
    /// Only 2xx counts as healthy; otherwise everything but a server error.
    pub strict: bool,
    /// The URL lists models; most endpoints require valid credentials for that: see `narthex_core::lane::health`.
    #[serde(default)]
    pub lists_models: bool,
    #[serde(default)]
    pub credentials: Option<EncryptedCredentials>,
    pub signing_secret: EncryptedSecret,
    #[serde(default)]
    pub retiring: Option<RetiringSecret>,
}

/// The result of a request, and the service's present status.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply {
    #[serde(rename = "measured")]
    pub observed: ObservedStatus,
    #[serde(rename = "told")]
    pub result: LaneResult,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneResult {
    Done,
    #[serde(rename = "entered")]
    Permit(PermitDecision),
    #[serde(rename = "beats")]
    Heartbeat {
        until: Timestamp,
    },
    #[serde(rename = "handed")]
    Dispatched(bool),
    #[serde(rename = "seen")]
    Probe(ProbeReport),
}

/// The result of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    pub good: bool,
    /// The response says nothing about the service's health.
    #[serde(default)]
    pub unmeasured: bool,
    #[serde(default)]
    pub status_code: Option<u16>,
    /// Why the probe got no usable response.
    #[serde(default)]
    pub error: Option<ProbeError>,
    pub latency_ms: u64,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProbeError {
    Unreachable,
    TimedOut,
    /// The address must not be called: see `narthex_core::http::egress_address`.
    AddressRefused,
    /// The service must connect by itself, and has not done so.
    NotConnected,
    /// It responded with 401 or 403.
    CredentialsRefused,
    /// It responded with something other than what the probe asked for, which does not show its health.
    NotMeasured,
}
