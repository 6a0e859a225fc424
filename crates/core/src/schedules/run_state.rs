//! What one schedule has done and is about to do: kept by an object, which is woken for it.

use serde::{Deserialize, Serialize};

use super::next_run::{Missed, Offsets, Plan};
use crate::base::time::Timestamp;

/// How long whoever took a run has to report, in milliseconds.
const LEASE_MS: u64 = 60_000;
/// A run that could not be made now is tried again after this, in milliseconds, and so often.
const AGAIN_MS: u64 = 30_000;
const MAX_TRIES: u64 = 10;
/// Past runs that are remembered.
const MAX_PAST: usize = 10;

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Created {
        context: String,
    },
    /// It was not to be: no permission any more, parameters that do not fit, nobody who does it.
    Refused {
        code: String,
        detail: String,
    },
    /// Nobody was there in time, and it is not made up for.
    Missed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    pub planned_at: Timestamp,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    planned_at: Timestamp,
    tries: u64,
    /// When somebody is to make it, or to have made it.
    due: Timestamp,
}

/// A run that is to be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    pub planned_at: Timestamp,
    /// Later than this after its time it was missed, in milliseconds; nothing where it is made however late that is.
    pub late_ms: Option<u64>,
}

impl Claimed {
    /// Whether it is too late to make it.
    pub fn is_missed(&self, now: Timestamp) -> bool {
        self.late_ms.is_some_and(|late_ms| now.since(self.planned_at) > late_ms)
    }
}

/// A schedule's page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    pub version: u64,
    plan: Plan,
    missed: Missed,
    enabled: bool,
    /// All that was planned up to here has been taken up.
    done: Timestamp,
    #[serde(default)]
    waiting: Vec<Waiting>,
    /// The newest first.
    #[serde(default)]
    pub past: Vec<Past>,
}

impl Book {
    /// A schedule as it is written: it runs from then on. What has run under another version is remembered.
    pub fn new(version: u64, plan: Plan, missed: Missed, enabled: bool, now: Timestamp, known: Option<Book>) -> Self {
        let past = known.map(|known| known.past).unwrap_or_default();
        Self { version, plan, missed, enabled, done: now, waiting: Vec::new(), past }
    }

    fn remember(&mut self, planned_at: Timestamp, outcome: Outcome) {
        self.past.insert(0, Past { planned_at, outcome });
        self.past.truncate(MAX_PAST);
    }

    /// Takes up what has come due; true when something has. What is later than `late_ms` was missed.
    pub fn turn(&mut self, now: Timestamp, late_ms: u64, offsets: Offsets<'_>) -> bool {
        if !self.enabled || self.plan.next(self.done, offsets).is_none_or(|next| next > now) {
            return false;
        }
        let due = self.plan.due(self.missed, self.done, now, late_ms, offsets);
        self.done = now;
        for planned_at in due.missed {
            self.remember(planned_at, Outcome::Missed);
        }
        self.waiting.extend(due.run.into_iter().map(|planned_at| Waiting { planned_at, tries: 0, due: now }));
        true
    }

    /// Whether a run is to be made now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.waiting.iter().any(|one| one.due <= now)
    }

    /// The runs that are to be made now, for who says so to make. Where a run was missed unless it is made in time, that
    /// is judged when it is made ([`Claimed::is_missed`]): it may have waited since it came due.
    pub fn claim(&mut self, now: Timestamp, late_ms: u64) -> Vec<Claimed> {
        let is_late = |one: &Waiting| now.since(one.planned_at) > late_ms;
        let is_due = |one: &&mut Waiting| one.due <= now;
        let in_time = self.waiting.iter().any(|one| !is_late(one));
        let latest = self.waiting.iter().filter(|one| is_late(one)).map(|one| one.planned_at).max();
        let missed = self.missed;
        let must_be_in_time = |one: &Waiting| match missed {
            // What has been tried is tried again, however late that is.
            _ if one.tries > 0 => false,
            Missed::Skip => true,
            // One run is made for all that were missed: the latest, unless another is in time.
            Missed::RunOnce => is_late(one) && (in_time || Some(one.planned_at) != latest),
            Missed::RunAll => false,
        };
        let due = self.waiting.iter_mut().filter(is_due);
        due.map(|one| {
            let late_ms = must_be_in_time(one).then_some(late_ms);
            one.due = now.plus_ms(LEASE_MS);
            Claimed { planned_at: one.planned_at, late_ms }
        })
        .collect()
    }

    /// Takes in what became of a run. With `later` it is tried again, until that was often enough.
    pub fn report(&mut self, planned_at: Timestamp, outcome: Outcome, later: bool, now: Timestamp) {
        let Some(at) = self.waiting.iter().position(|one| one.planned_at == planned_at) else { return };
        if let Some(one) = self.waiting.get_mut(at).filter(|one| later && one.tries < MAX_TRIES) {
            one.tries += 1;
            one.due = now.plus_ms(AGAIN_MS);
            return;
        }
        self.waiting.remove(at);
        self.remember(planned_at, outcome);
    }

    /// When there is something to do next.
    pub fn wakes_at(&self, offsets: Offsets<'_>) -> Option<Timestamp> {
        let planned = if self.enabled { self.plan.next(self.done, offsets) } else { None };
        self.waiting.iter().map(|one| one.due).chain(planned).min()
    }
}

#[cfg(test)]
mod tests;
