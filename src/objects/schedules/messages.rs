//! The messages of a tenant's scheduler: its requests and replies.

use serde::{Deserialize, Serialize};

use crate::objects::protocol::{Address, BareObject, Done, Object, requests};
use crate::platform::objects::{CALL_TIMEOUT_MS, Kind};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::version::Generation;
use narthex_core::registry::revision::Revision;
use narthex_core::schedules::next_run::{MissedRuns, Plan};
use narthex_core::schedules::run_state::{ClaimedRun, PastRun, RunOutcome};

pub struct Schedules;

impl Object for Schedules {
    const KIND: Kind = Kind::Schedules;
}

impl BareObject for Schedules {}

impl Schedules {
    pub fn of(tenant: &TenantId) -> Address<Self> {
        Address::new(tenant.object())
    }
}

requests! {
    pub enum Ask of Schedules {
        "configure": Configure => Done, Handle, |_| CALL_TIMEOUT_MS;
        "run": ClaimRuns => DueRuns, Handle, |_| CALL_TIMEOUT_MS;
        "past": ReadPast => Past, Handle, |_| CALL_TIMEOUT_MS;
    }
    units {}
}

/// All schedules of the tenant, as configured under this revision.
#[derive(Debug, Serialize, Deserialize)]
pub struct Configure {
    pub tenant: TenantId,
    pub revision: Revision,
    pub schedules: Vec<ScheduleConfig>,
    /// Those that the sender cannot read, because a later version has written them: they stay as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

/// Reports finished runs, and claims those that are due.
#[derive(Debug, Serialize, Deserialize)]
pub struct ClaimRuns {
    pub ran: Vec<RunReport>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DueRuns {
    Runs(Vec<Run>),
}

/// Reads the past runs of a schedule.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadPast {
    pub schedule: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Past {
    Past(Vec<PastRun>),
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ScheduleConfig {
    pub id: String,
    #[serde(rename = "version")]
    pub generation: Generation,
    pub plan: Plan,
    pub missed: MissedRuns,
    pub enabled: bool,
}

/// A run that is due.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    pub schedule: String,
    pub planned_at: Timestamp,
    /// The run is missed if it is later than this, in milliseconds; `None`: it may be any time late.
    #[serde(default)]
    pub late_ms: Option<u64>,
}

impl Run {
    /// Whether it is too late for this run.
    pub fn is_missed(&self, now: Timestamp) -> bool {
        ClaimedRun { planned_at: self.planned_at, late_ms: self.late_ms }.is_missed(now)
    }
}

/// The outcome of a run.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunReport {
    pub run: Run,
    pub outcome: RunOutcome,
    /// It failed for now, and may be tried again.
    #[serde(default)]
    pub later: bool,
}

#[cfg(test)]
mod tests {
    use super::Ask;
    use crate::objects::wire_tests::assert_pinned;

    #[test]
    fn other_versions_read_the_messages() {
        assert_pinned::<Ask>(include_str!("wire.json"));
    }
}
