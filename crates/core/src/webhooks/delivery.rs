//! A webhook's state, and the outcome of an attempt to deliver an event to it.

use serde::{Deserialize, Serialize};

use crate::base::principal_id::PrincipalId;
use crate::base::time::Timestamp;
use crate::base::version::Generation;
use crate::context::http_status::is_away;
use crate::events::filter::Filter;

/// Why a webhook was disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DisableReason {
    /// Nothing was delivered for as long as an event is retried.
    Failing,
    /// The receiver responded with 410.
    Gone,
    /// Too many deliveries are waiting.
    Backlog,
}

/// When and why a webhook was disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disablement {
    pub at: Timestamp,
    pub reason: DisableReason,
}

/// The receiver is unreachable: nothing is delivered until then, and after that a single delivery probes for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoolDown {
    pub until: Timestamp,
    /// The number of failed probes.
    pub(super) tries: u32,
}

/// A webhook as the delivery queue knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookState {
    /// That of the webhook's document.
    #[serde(rename = "version")]
    pub generation: Generation,
    pub filter: Filter,
    pub enabled: bool,
    /// Whose webhook it is: only they see that it was disabled, unless they see everything.
    #[serde(default)]
    pub owner: Option<PrincipalId>,
    #[serde(default)]
    pub disabled: Option<Disablement>,
    /// The time since which every delivery has failed.
    #[serde(default)]
    pub failing_since: Option<Timestamp>,
    #[serde(rename = "resting", default)]
    pub cool_down: Option<CoolDown>,
}

impl WebhookState {
    /// Whether events are delivered to it.
    pub fn is_live(&self) -> bool {
        self.enabled && self.disabled.is_none()
    }
}

/// The outcome of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryAttempt {
    pub at: Timestamp,
    pub status_code: Option<u16>,
    pub error: Option<DeliveryError>,
    pub duration_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// Why an attempt got no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeliveryError {
    /// The egress rules refuse the address.
    Refused,
    Unreachable,
    /// The connection broke before a response.
    Broken,
    TimedOut,
    /// The signing secret could not be decrypted.
    NotSigned,
}

impl DeliveryAttempt {
    /// Whether the receiver accepted the event.
    pub fn succeeded(&self) -> bool {
        self.status_code.is_some_and(|status| (200..300).contains(&status))
    }

    /// Whether the receiver is unreachable: no response, or one from an intermediary in its place.
    pub fn unreachable(&self) -> bool {
        match (self.status_code, self.error) {
            (Some(status), _) => is_away(status),
            (None, Some(DeliveryError::Unreachable | DeliveryError::Broken | DeliveryError::TimedOut)) => true,
            (None, Some(DeliveryError::Refused | DeliveryError::NotSigned) | None) => false,
        }
    }
}
