//! The runs of one schedule, past and due. An object stores them, and its alarm wakes it for the next one.

use serde::{Deserialize, Serialize};

use super::next_run::{MissedRuns, Offsets, Plan};
use crate::base::time::Timestamp;
use crate::base::version::Generation;

/// How long a claimed run may take to be reported, in milliseconds.
const LEASE_MS: u64 = 60_000;
/// The delay between attempts of a run that could not be made, in milliseconds, and the maximum number of attempts.
const RETRY_DELAY_MS: u64 = 30_000;
const MAX_TRIES: u64 = 10;
/// How many past runs are kept.
const MAX_PAST: usize = 10;

/// The outcome of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    Created {
        context: String,
    },
    /// It was rejected: missing permission, invalid parameters, no service.
    Refused {
        code: String,
        detail: String,
    },
    /// It was not made in time, and is not made up for.
    Missed,
}

/// A past run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRun {
    pub planned_at: Timestamp,
    pub outcome: RunOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PendingRun {
    planned_at: Timestamp,
    tries: u64,
    /// When it must be made, or have been reported.
    due: Timestamp,
}

/// A run to be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimedRun {
    pub planned_at: Timestamp,
    /// How late the run may be, in milliseconds; `None` if it is made however late.
    pub late_ms: Option<u64>,
}

impl ClaimedRun {
    /// Whether it is too late to make the run.
    pub fn is_missed(&self, now: Timestamp) -> bool {
        self.late_ms.is_some_and(|late_ms| now.since(self.planned_at) > late_ms)
    }
}

/// The state of one schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    /// That of the schedule's document.
    #[serde(rename = "version")]
    pub generation: Generation,
    plan: Plan,
    missed: MissedRuns,
    enabled: bool,
    /// Everything planned up to this time has been handled.
    done: Timestamp,
    #[serde(default)]
    waiting: Vec<PendingRun>,
    /// Newest first.
    #[serde(default)]
    pub past: Vec<PastRun>,
}

impl RunState {
    /// The state of a schedule that was written: it runs from now on. Its past runs are kept.
    pub fn new(
        generation: Generation,
        plan: Plan,
        missed: MissedRuns,
        enabled: bool,
        now: Timestamp,
        known: Option<RunState>,
    ) -> Self {
        let past = known.map(|known| known.past).unwrap_or_default();
        Self { generation, plan, missed, enabled, done: now, waiting: Vec::new(), past }
    }

    fn remember(&mut self, planned_at: Timestamp, outcome: RunOutcome) {
        self.past.insert(0, PastRun { planned_at, outcome });
        self.past.truncate(MAX_PAST);
    }

    /// Takes the runs that have become due; true if there are any. A run that is later than `late_ms` was missed.
    pub fn advance(&mut self, now: Timestamp, late_ms: u64, offsets: Offsets<'_>) -> bool {
        if !self.enabled || self.plan.next(self.done, offsets).is_none_or(|next| next > now) {
            return false;
        }
        let due = self.plan.due(self.missed, self.done, now, late_ms, offsets);
        self.done = now;
        for planned_at in due.missed {
            self.remember(planned_at, RunOutcome::Missed);
        }
        self.waiting.extend(due.run.into_iter().map(|planned_at| PendingRun { planned_at, tries: 0, due: now }));
        true
    }

    /// Whether a run must be made now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.waiting.iter().any(|one| one.due <= now)
    }

    /// The runs to be made now, claimed by the caller. Whether a run was missed unless made in time is decided when it
    /// is made ([`ClaimedRun::is_missed`]), since it may have waited after it became due.
    pub fn claim(&mut self, now: Timestamp, late_ms: u64) -> Vec<ClaimedRun> {
        let is_late = |one: &PendingRun| now.since(one.planned_at) > late_ms;
        let is_due = |one: &&mut PendingRun| one.due <= now;
        let in_time = self.waiting.iter().any(|one| !is_late(one));
        let latest = self.waiting.iter().filter(|one| is_late(one)).map(|one| one.planned_at).max();
        let missed = self.missed;
        let must_be_in_time = |one: &PendingRun| match missed {
            // A run that was tried is tried again, however late.
            _ if one.tries > 0 => false,
            MissedRuns::Skip => true,
            // One run is made for all missed ones: the latest, unless another is in time.
            MissedRuns::RunOnce => is_late(one) && (in_time || Some(one.planned_at) != latest),
            MissedRuns::RunAll => false,
        };
        let due = self.waiting.iter_mut().filter(is_due);
        due.map(|one| {
            let late_ms = must_be_in_time(one).then_some(late_ms);
            one.due = now.plus_ms(LEASE_MS);
            ClaimedRun { planned_at: one.planned_at, late_ms }
        })
        .collect()
    }

    /// Records the outcome of a run. With `later` it is tried again, up to the maximum.
    pub fn report(&mut self, planned_at: Timestamp, outcome: RunOutcome, later: bool, now: Timestamp) {
        let Some(at) = self.waiting.iter().position(|one| one.planned_at == planned_at) else { return };
        if let Some(one) = self.waiting.get_mut(at).filter(|one| later && one.tries < MAX_TRIES) {
            one.tries += 1;
            one.due = now.plus_ms(RETRY_DELAY_MS);
            return;
        }
        self.waiting.remove(at);
        self.remember(planned_at, outcome);
    }

    /// When the next action is due.
    pub fn next_wakeup(&self, offsets: Offsets<'_>) -> Option<Timestamp> {
        let planned = if self.enabled { self.plan.next(self.done, offsets) } else { None };
        self.waiting.iter().map(|one| one.due).chain(planned).min()
    }
}

#[cfg(test)]
mod tests;
