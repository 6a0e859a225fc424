//! The list of a tenant's grants, for display. The grants themselves are in objects of their own.

use serde::{Deserialize, Serialize};

use super::grant::GrantedAccess;
use crate::base::time::Timestamp;

const HOUR_MS: u64 = 3_600_000;

/// A grant in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantEntry {
    pub id: String,
    pub allowed: GrantedAccess,
    pub client_name: String,
    pub created_at: Timestamp,
    /// The last use, to the hour.
    pub used_at: Timestamp,
    pub until: Timestamp,
}

impl GrantEntry {
    pub fn used(mut self, now: Timestamp) -> Self {
        self.used_at = hour(now);
        self
    }
}

/// The start of the hour of a time.
pub fn hour(at: Timestamp) -> Timestamp {
    Timestamp(at.0 - at.0 % HOUR_MS)
}

/// Whether a use must be written: the first one in each hour.
pub fn is_due(used_at: Option<Timestamp>, now: Timestamp) -> bool {
    used_at.is_none_or(|used_at| hour(used_at) != hour(now))
}

/// Which grants to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantQuery {
    /// Any text: it may be no principal.
    pub owner: Option<String>,
    pub client: Option<String>,
    /// Only grants whose ids sort before this one.
    pub before: Option<String>,
    pub limit: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_noted_once_an_hour() {
        let at = Timestamp(1_800_000_000_000);
        assert!(is_due(None, at));
        assert!(!is_due(Some(at), at) && !is_due(Some(at), at.plus_ms(HOUR_MS - 1)));
        assert!(is_due(Some(at), at.plus_ms(HOUR_MS)));
        assert!(is_due(Some(at.plus_ms(HOUR_MS - 1)), at.plus_ms(HOUR_MS)));
        assert_eq!(hour(at.plus_ms(1)), at);
    }
}
