//! What is asked of a service's lane, and what it replies.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::objects::events::messages::{Gone, Viewer};
use narthex_core::access::encrypted_secret::EncryptedSecret;
use narthex_core::base::id::ContextId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::context::status::Priority;
use narthex_core::lane::PermitDecision;
use narthex_core::lane::call_outcome::CallOutcome;
use narthex_core::lane::observed::{HealthStatus, ObservedStatus};
use narthex_core::services::RetiringSecret;
use narthex_core::services::credentials::EncryptedCredentials;

/// A question, with the service it is about as the asker knows it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub tenant: String,
    pub service: String,
    /// When what the asker knows was configured; the newest counts.
    pub configured_at: Timestamp,
    /// When it was given its address.
    #[serde(default)]
    pub moved_at: Timestamp,
    #[serde(default)]
    pub max_concurrency: Option<u64>,
    #[serde(default)]
    pub max_queue: u64,
    /// Of a service that connects: how long what a dropped connection had is kept for it.
    #[serde(default)]
    pub grace_ms: Option<u64>,
    pub ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// From the registry: how the service is reached and probed.
    Configure(Target),
    /// From the registry: the service is no more.
    Forget,
    /// A permit, waited for as long as this.
    Acquire {
        context: ContextId,
        principal: String,
        priority: Priority,
        deadline: Timestamp,
        /// Never turned away: it was accepted before.
        #[serde(default)]
        admitted: bool,
        wait_ms: u64,
    },
    /// Keeps a permit alive.
    Renew {
        permit: u64,
        principal: String,
    },
    /// Gives a permit back.
    Release {
        permit: u64,
        sample: CallOutcome,
    },
    /// How calls without a permit ended: so many went well, then this one ended.
    Report {
        successes: u64,
        last: CallOutcome,
    },
    /// Gives a place in the line up.
    Leave {
        context: ContextId,
    },
    Heartbeat {
        status: HealthStatus,
        lease_ms: u64,
    },
    /// Probes now.
    Check(Target),
    /// From the registry: the service connects, and how is said beside this.
    Connects,
    /// Opens a connection of the service; with the headers of the answer.
    Connect {
        viewer: Viewer,
        headers: String,
    },
    /// Hands work to a connection that has room.
    Hand {
        delivery: Delivery,
        work: Box<RawValue>,
    },
    /// The attempt of this context is over. Who works on it is told, if it was `cancelled`.
    Withdraw {
        context: ContextId,
        cancelled: bool,
    },
    /// Whether the service is connected.
    Look,
    /// These credentials have ended: their connections are closed.
    Revoke {
        principal: String,
    },
    /// So have all that depend on this.
    End(Gone),
}

/// Where a service is probed, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// An address, or a path behind the binding.
    pub url: String,
    #[serde(default)]
    pub binding: Option<String>,
    /// Probed this often; nothing: only when asked to.
    #[serde(default)]
    pub interval_ms: Option<u64>,
    /// Only 2xx is good; else whatever is no server error.
    pub strict: bool,
    /// The address lists models for those whose credentials are good, at most endpoints: see `narthex_core::lane::health`.
    #[serde(default)]
    pub lists_models: bool,
    #[serde(default)]
    pub credentials: Option<EncryptedCredentials>,
    pub signing_secret: EncryptedSecret,
    #[serde(default)]
    pub retiring: Option<RetiringSecret>,
}

/// What is told, and what is measured now.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply {
    pub measured: ObservedStatus,
    pub told: Told,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    Done,
    Entered(PermitDecision),
    Beats { until: Timestamp },
    Handed(bool),
    Seen(Seen),
}

/// What a probe saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub good: bool,
    /// The answer says nothing about the service's health.
    #[serde(default)]
    pub unmeasured: bool,
    #[serde(default)]
    pub status_code: Option<u16>,
    /// Why there is no answer.
    #[serde(default)]
    pub error: Option<ProbeError>,
    pub latency_ms: u64,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeError {
    Unreachable,
    TimedOut,
    /// Where it is may not be called: see `narthex_core::http::egress_address`.
    AddressRefused,
    /// It is to connect by itself, and has not.
    NotConnected,
    /// It answered 401 or 403.
    CredentialsRefused,
    /// It answered, but not with what it was asked for: there is nothing to tell its health from.
    NotMeasured,
}
