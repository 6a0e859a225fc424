//! What is measured of a service: soft state beside its configuration, told by its lane.

use serde::{Deserialize, Serialize};

use super::breaker::BreakerState;
use crate::base::time::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    Online,
    Degraded,
    Offline,
    /// Nobody measured, or too long ago.
    #[default]
    Unknown,
}

impl HealthStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Online => "online",
            HealthStatus::Degraded => "degraded",
            HealthStatus::Offline => "offline",
            HealthStatus::Unknown => "unknown",
        }
    }

    /// 0 is the best. What nobody measured is taken for good.
    pub fn rank(self) -> u8 {
        match self {
            HealthStatus::Online | HealthStatus::Unknown => 0,
            HealthStatus::Degraded => 1,
            HealthStatus::Offline => 2,
        }
    }

    /// The worse of two.
    pub fn worst(self, other: Self) -> Self {
        if other.rank() > self.rank() || self == HealthStatus::Unknown { other } else { self }
    }
}

/// All that is measured of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Measured {
    /// As it is shown: the evidence, and what the breaker makes of it.
    pub status: HealthStatus,
    /// When it came to this status.
    pub status_at: Timestamp,
    /// What probes, heartbeats and calls say, the breaker left out.
    pub evidence: HealthStatus,
    #[serde(default)]
    pub breaker: BreakerState,
    /// Open: not to be tried before.
    #[serde(default)]
    pub breaker_until: Option<Timestamp>,
    /// The median of the latest calls.
    #[serde(default)]
    pub latency_ms: Option<u64>,
    /// Grows with every change, and begins at the time, so that it grows over a lane's restart too.
    pub version: u64,
}

impl Measured {
    /// The breaker as it is at this time: what was open long enough may be tried.
    pub fn breaker_at(&self, now: Timestamp) -> BreakerState {
        match (self.breaker, self.breaker_until) {
            (BreakerState::Open, Some(until)) if until <= now => BreakerState::HalfOpen,
            (state, _) => state,
        }
    }
}
