//! How a worker reports the end of an attempt.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ContextError;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::context::lease::LeaseNumber;
use crate::models::call_price::CallPrice;
use crate::models::spent::Spent;
use crate::models::stated_usage::StatedUsage;

/// The end of an attempt, as its worker reports it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttemptReport {
    pub lease: LeaseNumber,
    pub service: ServiceId,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    pub outcome: ReportedOutcome,
    /// What it used of a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Box<Spent>>,
    /// The price of the call when it began; `None` also if no service was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<CallPrice>,
    /// What the service states about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated: Option<Box<StatedUsage>>,
}

impl AttemptReport {
    /// Of an attempt that began and ended at these times, and used and cost nothing that is known.
    pub fn new(
        lease: LeaseNumber,
        service: ServiceId,
        (started_at, ended_at): (Timestamp, Timestamp),
        status_code: Option<u16>,
        outcome: ReportedOutcome,
    ) -> Self {
        let (spent, price, stated) = (None, None, None);
        Self { lease, service, started_at, ended_at, status_code, outcome, spent, price, stated }
    }
}

/// What the service answered, or why it did not.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportedOutcome {
    /// The result is passed separately.
    Succeeded,
    /// Like `Succeeded`; the result is an MCP `CallToolResult`, which may itself report an error.
    ToolResult,
    /// The service works in the background and will call back.
    Accepted {
        /// The service promises its next report within this time; without it, only the deadline applies.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease_ms: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        location: Option<String>,
    },
    /// The service asks for input before it continues.
    InputRequired {
        request: Box<RawValue>,
        /// The state that the service wants back with the answer; never shown to clients.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
    },
    Failed {
        error: ContextError,
        /// Whether another attempt may succeed.
        retryable: bool,
        /// The service certainly did nothing: repeating is safe even if the capability is not idempotent.
        untouched: bool,
        /// The delay that the service asks for: a lower bound.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
}

impl ReportedOutcome {
    /// Whether the service is finished with the attempt.
    pub fn ends(&self) -> bool {
        match self {
            ReportedOutcome::Succeeded | ReportedOutcome::ToolResult | ReportedOutcome::Failed { .. } => true,
            ReportedOutcome::Accepted { .. } | ReportedOutcome::InputRequired { .. } => false,
        }
    }
}
