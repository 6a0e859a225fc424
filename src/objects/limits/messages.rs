//! What is asked of a `RateLimiter`, and what it replies.

use serde::{Deserialize, Serialize};

use narthex_core::base::time::Timestamp;
use narthex_core::limits::quota_pool::{LeaseReport, QuotaLease, QuotaRule, QuotaState};

/// A question, with the limit it is about as the asker knows it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub rule: QuotaRule,
    /// When that was configured; the newest counts.
    pub configured_at: Timestamp,
    pub ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Up to so many tokens, after what is told of earlier ones.
    Take {
        wanted: u64,
        #[serde(default)]
        reports: Vec<LeaseReport>,
    },
    /// How much of a portion was used.
    Report(LeaseReport),
    /// A permit, of a limit on what happens at a time.
    Acquire,
    /// Keeps a permit alive.
    Renew {
        permit: u64,
    },
    Release {
        permit: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Given { portion: QuotaLease, standing: QuotaState },
    Permit { permit: u64, standing: QuotaState },
    Refused { standing: QuotaState },
    Done,
}
