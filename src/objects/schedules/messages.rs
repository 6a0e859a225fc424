//! What is asked of a tenant's scheduler, and what it replies.

use serde::{Deserialize, Serialize};

use narthex_core::base::time::Timestamp;
use narthex_core::schedules::next_run::{Missed, Plan};
use narthex_core::schedules::run_state::{ClaimedRun, PastRun, RunOutcome};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// All schedules of the tenant, as they are configured under this revision.
    Configure { tenant: String, revision: u64, schedules: Vec<Planned> },
    /// Reports on runs, and asks for those that are to be made now.
    Run { ran: Vec<Ran> },
    /// What a schedule has done.
    Past { schedule: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Planned {
    pub id: String,
    pub version: u64,
    pub plan: Plan,
    pub missed: Missed,
    pub enabled: bool,
}

/// A run to be made now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    pub schedule: String,
    pub planned_at: Timestamp,
    /// Later than this after its time it was missed, in milliseconds; nothing where it is made however late that is.
    #[serde(default)]
    pub late_ms: Option<u64>,
}

impl Run {
    /// Whether it is too late to make it.
    pub fn is_missed(&self, now: Timestamp) -> bool {
        ClaimedRun { planned_at: self.planned_at, late_ms: self.late_ms }.is_missed(now)
    }
}

/// What became of one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ran {
    pub run: Run,
    pub outcome: RunOutcome,
    /// It could not be made now, but may be later.
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
