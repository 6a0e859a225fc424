//! The messages of a tenant's scheduler: its requests and replies.

use serde::{Deserialize, Serialize};

use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::version::Generation;
use narthex_core::registry::revision::Revision;
use narthex_core::schedules::next_run::{MissedRuns, Plan};
use narthex_core::schedules::run_state::{ClaimedRun, PastRun, RunOutcome};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// All schedules of the tenant, as configured under this revision.
    Configure { tenant: TenantId, revision: Revision, schedules: Vec<ScheduleConfig> },
    /// Reports finished runs, and claims those that are due.
    Run { ran: Vec<RunReport> },
    /// The past runs of a schedule.
    Past { schedule: String },
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

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    Runs(Vec<Run>),
    Past(Vec<PastRun>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    // Other versions of the Worker send and read these forms during a deployment.
    #[test]
    fn a_schedule_is_configured_under_a_revision_and_its_generation() {
        let sent = json!({"configure": {"tenant": "default", "revision": 3, "schedules": [
            {"id": "a", "version": 1_764_547_200_123_001_u64, "plan": {"every": {"seconds": 60, "from": 0}},
             "missed": "skip", "enabled": true}
        ]}});
        let ask: Ask = serde_json::from_value(sent.clone()).unwrap();
        assert_eq!(serde_json::to_value(&ask).unwrap(), sent);
    }
}
