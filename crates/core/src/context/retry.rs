//! How often and with which delays failed attempts are repeated.

use serde::{Deserialize, Serialize};

/// A service's retry policy: the total number of attempts, and the exponential backoff between them in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Retry {
    pub max_attempts: u64,
    pub base_ms: u64,
    pub cap_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_attempts: 3, base_ms: 200, cap_ms: 30_000 }
    }
}
