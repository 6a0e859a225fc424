//! Observed state of a service (health, breaker, latency), published by its lane; not part of its configuration.

use serde::{Deserialize, Serialize};

use super::breaker::BreakerState;
use crate::base::time::Timestamp;

/// The health of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    Online,
    Degraded,
    Offline,
    /// No measurement, or the last one is stale.
    #[default]
    Unknown,
}

impl HealthStatus {
    /// The status as in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Online => "online",
            HealthStatus::Degraded => "degraded",
            HealthStatus::Offline => "offline",
            HealthStatus::Unknown => "unknown",
        }
    }

    /// 0 is best. A service without measurements ranks as healthy.
    pub fn rank(self) -> u8 {
        match self {
            HealthStatus::Online | HealthStatus::Unknown => 0,
            HealthStatus::Degraded => 1,
            HealthStatus::Offline => 2,
        }
    }

    /// The worse of two statuses.
    pub fn worst(self, other: Self) -> Self {
        if other.rank() > self.rank() || self == HealthStatus::Unknown { other } else { self }
    }
}

/// The observed state of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ObservedStatus {
    /// The published status: the evidence combined with the breaker.
    pub status: HealthStatus,
    /// When this status was reached.
    pub status_at: Timestamp,
    /// The status by probes, heartbeats and calls, without the breaker.
    pub evidence: HealthStatus,
    #[serde(default)]
    pub breaker: BreakerState,
    /// When an open breaker may be tried again.
    #[serde(default)]
    pub breaker_until: Option<Timestamp>,
    /// The median of recent calls, in milliseconds.
    #[serde(default)]
    pub latency_ms: Option<u64>,
    /// Grows with every change. It starts at the current time, so it also grows across restarts of the lane.
    pub version: u64,
}

impl ObservedStatus {
    /// The breaker at this time: one that has been open long enough is half open.
    pub fn breaker_at(&self, now: Timestamp) -> BreakerState {
        match (self.breaker, self.breaker_until) {
            (BreakerState::Open, Some(until)) if until <= now => BreakerState::HalfOpen,
            (state, _) => state,
        }
    }
}
