//! What one schedule has done and is about to do: kept by an object, which is woken for it.

use serde::{Deserialize, Serialize};

use super::plan::{Missed, Offsets, Plan};
use crate::core::time::Timestamp;

/// How long whoever took a run has to report, in milliseconds.
const LEASE_MS: u64 = 60_000;
/// A run that could not be made now is tried again after this, in milliseconds, and so often.
const AGAIN_MS: u64 = 30_000;
const MOST_TRIES: u64 = 10;
/// Past runs that are remembered.
const MOST_PAST: usize = 10;

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
        self.past.truncate(MOST_PAST);
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

    /// The runs that are to be made now, for who says so to make.
    pub fn claim(&mut self, now: Timestamp) -> Vec<Timestamp> {
        let due = self.waiting.iter_mut().filter(|one| one.due <= now);
        due.map(|one| {
            one.due = now.plus_ms(LEASE_MS);
            one.planned_at
        })
        .collect()
    }

    /// Takes in what became of a run. With `later` it is tried again, until that was often enough.
    pub fn report(&mut self, planned_at: Timestamp, outcome: Outcome, later: bool, now: Timestamp) {
        let Some(at) = self.waiting.iter().position(|one| one.planned_at == planned_at) else { return };
        if let Some(one) = self.waiting.get_mut(at).filter(|one| later && one.tries < MOST_TRIES) {
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
mod tests {
    use super::super::plan::LATE_MS;
    use super::*;

    fn utc(_: &str, _: Timestamp) -> i64 {
        0
    }

    fn book(missed: Missed) -> Book {
        let plan = Plan::Every { seconds: 60, from: Timestamp(0) };
        Book::new(1, plan, missed, true, Timestamp(0), None)
    }

    fn created() -> Outcome {
        Outcome::Created { context: "ctx_1".into() }
    }

    #[test]
    fn each_planned_time_is_taken_up_once_however_often_it_is_woken() {
        let mut book = book(Missed::Skip);
        assert_eq!(book.wakes_at(&utc), Some(Timestamp(60_000)));
        assert!(!book.turn(Timestamp(59_999), LATE_MS, &utc));
        assert!(book.turn(Timestamp(60_005), LATE_MS, &utc));
        assert!(!book.turn(Timestamp(60_010), LATE_MS, &utc));
        assert_eq!(book.claim(Timestamp(60_010)), [Timestamp(60_000)]);
        assert!(book.claim(Timestamp(60_011)).is_empty());
        book.report(Timestamp(60_000), created(), false, Timestamp(60_100));
        book.report(Timestamp(60_000), Outcome::Missed, false, Timestamp(60_200));
        assert_eq!(book.past, [Past { planned_at: Timestamp(60_000), outcome: created() }]);
        assert_eq!(book.wakes_at(&utc), Some(Timestamp(120_000)));
    }

    #[test]
    fn who_took_a_run_and_is_not_heard_of_is_replaced() {
        let mut book = book(Missed::Skip);
        book.turn(Timestamp(60_000), LATE_MS, &utc);
        book.claim(Timestamp(60_000));
        assert!(!book.is_due(Timestamp(119_999)));
        assert_eq!(book.claim(Timestamp(120_000)), [Timestamp(60_000)]);
    }

    #[test]
    fn what_cannot_be_made_now_is_tried_again_for_a_while() {
        let mut book = book(Missed::Skip);
        book.turn(Timestamp(60_000), LATE_MS, &utc);
        let refused = || Outcome::Refused { code: "no_service_available".into(), detail: String::new() };
        let mut now = Timestamp(60_000);
        for _ in 0..MOST_TRIES {
            assert_eq!(book.claim(now), [Timestamp(60_000)]);
            book.report(Timestamp(60_000), refused(), true, now);
            assert!(book.past.is_empty() && !book.is_due(now));
            now = now.plus_ms(AGAIN_MS);
        }
        book.report(Timestamp(60_000), refused(), true, now);
        assert_eq!(book.past[0].outcome, refused());
    }

    #[test]
    fn what_is_written_anew_forgets_what_waited_and_remembers_what_ran() {
        let mut known = book(Missed::RunAll);
        known.turn(Timestamp(300_000), LATE_MS, &utc);
        known.report(Timestamp(60_000), created(), false, Timestamp(300_000));
        let plan = Plan::Every { seconds: 60, from: Timestamp(400_000) };
        let anew = Book::new(2, plan, Missed::Skip, false, Timestamp(400_000), Some(known));
        assert_eq!((anew.past.len(), anew.wakes_at(&utc)), (1, None));
    }
}
