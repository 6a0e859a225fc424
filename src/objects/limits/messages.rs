//! The messages of a `RateLimiter`: its requests and replies.

use serde::{Deserialize, Serialize};

use narthex_core::base::time::Timestamp;
use narthex_core::limits::concurrency::LimitPermitNumber;
use narthex_core::limits::quota_pool::{LeaseReport, QuotaLease, QuotaRule, QuotaState};

/// Carries the sender's view of the limit.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub rule: QuotaRule,
    /// When the rule was configured; the newest counts.
    pub configured_at: Timestamp,
    pub ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Leases up to this many tokens, after recording the reports on earlier leases.
    Take {
        wanted: u64,
        #[serde(default)]
        reports: Vec<LeaseReport>,
    },
    /// How much of a quota lease was used.
    Report(LeaseReport),
    /// Requests a permit of a concurrency limit.
    Acquire,
    /// Extends a permit.
    Renew {
        permit: LimitPermitNumber,
    },
    Release {
        permit: LimitPermitNumber,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Given { portion: QuotaLease, standing: QuotaState },
    Permit { permit: LimitPermitNumber, standing: QuotaState },
    Refused { standing: QuotaState },
    Done,
}
