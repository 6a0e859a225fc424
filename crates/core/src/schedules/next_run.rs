//! When a schedule runs.
//!
//! A cron expression refers to the local time of a zone. One that names times (its minutes and hours are single values)
//! runs once for each: a time that is skipped when clocks go forward is made up for at the first moment after; of a
//! time that occurs twice when clocks go back, only the first counts. One that names a frequency (its minute or hour is
//! `*`, a range or a step) runs in real time, whenever the local time matches. This is the rule of Vixie cron.

use serde::{Deserialize, Serialize};

use super::civil::Civil;
use super::cron::Cron;
use crate::base::time::Timestamp;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;
/// The default delay after which a run was missed, in milliseconds.
pub const LATE_MS: u64 = 60_000;
/// How far back missed runs are considered, in milliseconds.
const MAX_LOOK_BACK_MS: u64 = 7 * DAY_MS;
/// How many missed runs are made up for at a time: the latest ones.
pub const MAX_MISSED: usize = 100;

/// The offset of a zone from UTC at a time, in seconds.
pub type Offsets<'o> = &'o dyn Fn(&str, Timestamp) -> i64;

/// When a schedule runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    Cron {
        cron: String,
        zone: String,
    },
    /// Counted from when it was written.
    Every {
        seconds: u64,
        from: Timestamp,
    },
}

/// What happens to runs whose time passed while the schedule could not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MissedRuns {
    #[default]
    Skip,
    RunOnce,
    RunAll,
}

impl MissedRuns {
    /// Reads the API's value.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "skip" => MissedRuns::Skip,
            "run_once" => MissedRuns::RunOnce,
            "run_all" => MissedRuns::RunAll,
            _ => return None,
        })
    }
}

/// The runs that have become due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DueRuns {
    pub run: Vec<Timestamp>,
    /// Missed runs that are skipped; the latest ones.
    pub missed: Vec<Timestamp>,
}

/// The first moment with this local time or, if there is none, the first one after it.
fn moment(wall: Civil, zone: &str, offsets: Offsets<'_>) -> Timestamp {
    let wall_ms = wall.0 * MINUTE_MS;
    let minus = |offset: i64| Timestamp(wall_ms.saturating_add_signed(-offset * 1000));
    // No zone changes its offset twice within two days.
    let before = offsets(zone, Timestamp(wall_ms.saturating_sub(DAY_MS)));
    let after = offsets(zone, Timestamp(wall_ms + DAY_MS));
    let shows = |offset: &i64| offsets(zone, minus(*offset)) == *offset;
    let times = [before, after].into_iter().filter(shows).map(minus);
    if let Some(first) = times.min() {
        return first;
    }
    // Skipped. The change lies between what the two offsets yield.
    let (mut low, mut high) = (minus(before.max(after)), minus(before.min(after)));
    while high.0 - low.0 > 1000 {
        let middle = Timestamp(low.0 + (high.0 - low.0) / 2000 * 1000);
        if offsets(zone, middle) == before { low = middle } else { high = middle }
    }
    high
}

/// The first moment at which a zone's offset differs from that at `from`, if there is one within a day.
fn change(from: Timestamp, zone: &str, offsets: Offsets<'_>) -> Option<Timestamp> {
    // Offsets change at whole seconds.
    let mut low = Timestamp(from.0 / 1000 * 1000);
    let mut high = low.plus_ms(DAY_MS);
    let before = offsets(zone, low);
    if offsets(zone, high) == before {
        return None;
    }
    while high.0 - low.0 > 1000 {
        let middle = Timestamp(low.0 + (high.0 - low.0) / 2000 * 1000);
        if offsets(zone, middle) == before { low = middle } else { high = middle }
    }
    Some(high)
}

/// The first moment after this one at which the local time matches the expression.
fn shown_after(cron: &Cron, after: Timestamp, zone: &str, offsets: Offsets<'_>) -> Option<Timestamp> {
    let mut from = after.plus_ms(1);
    loop {
        let ahead = offsets(zone, from) * 1000;
        let wall = Civil(from.0.saturating_add_signed(ahead).div_ceil(MINUTE_MS));
        let at = Timestamp((cron.at_or_after(wall)?.0 * MINUTE_MS).saturating_add_signed(-ahead));
        from = match change(from, zone, offsets) {
            Some(change) if at >= change => change,
            Some(_) => return Some(at),
            None if at <= from.plus_ms(DAY_MS) => return Some(at),
            // Nothing matches before: nor do the times that occur again when clocks go back in between.
            None => from.plus_ms(DAY_MS).max(Timestamp(at.0.saturating_sub(2 * DAY_MS))),
        };
    }
}

impl Plan {
    /// The first time after this one, if there is one.
    pub fn next(&self, after: Timestamp, offsets: Offsets<'_>) -> Option<Timestamp> {
        match self {
            Plan::Every { seconds, from } => {
                let every = (seconds * 1000).max(1);
                let passed = after.since(*from) / every;
                let first = from.plus_ms(every);
                Some(if after < first { first } else { from.plus_ms((passed + 1) * every) })
            }
            Plan::Cron { cron, zone } => {
                let cron = Cron::parse(cron).ok()?;
                if cron.repeats {
                    return shown_after(&cron, after, zone, offsets);
                }
                let wall = after.0.saturating_add_signed(offsets(zone, after) * 1000);
                let mut wall = Civil(wall / MINUTE_MS);
                loop {
                    wall = cron.at_or_after(wall)?;
                    let at = moment(wall, zone, offsets);
                    if at > after {
                        return Some(at);
                    }
                    wall = wall.plus_minutes(1);
                }
            }
        }
    }

    /// All times after the first and up to the second: the latest [`MAX_MISSED`] and one more.
    fn between(&self, after: Timestamp, until: Timestamp, offsets: Offsets<'_>) -> Vec<Timestamp> {
        let mut from = after.max(Timestamp(until.0.saturating_sub(MAX_LOOK_BACK_MS)));
        if let Plan::Every { seconds, .. } = self {
            // This many fit in between, and no more are needed.
            from = from.max(Timestamp(until.0.saturating_sub((MAX_MISSED as u64 + 1) * seconds * 1000)));
        }
        let mut times = std::collections::VecDeque::new();
        while let Some(at) = self.next(from, offsets).filter(|at| *at <= until) {
            times.push_back(at);
            if times.len() > MAX_MISSED + 1 {
                times.pop_front();
            }
            from = at;
        }
        times.into()
    }

    /// What to run of what became due after `done` and up to now. A run that is later than `late_ms` was missed.
    pub fn due(
        &self,
        missed: MissedRuns,
        done: Timestamp,
        now: Timestamp,
        late_ms: u64,
        offsets: Offsets<'_>,
    ) -> DueRuns {
        let times = self.between(done, now, offsets);
        let (late, mut run): (Vec<_>, Vec<_>) = times.into_iter().partition(|at| now.since(*at) > late_ms);
        let made_up = match missed {
            MissedRuns::Skip => 0,
            // A run in time counts as the one.
            MissedRuns::RunOnce => usize::from(run.is_empty()),
            MissedRuns::RunAll => MAX_MISSED,
        };
        let (left_out, made_up) = late.split_at(late.len().saturating_sub(made_up));
        run.splice(0..0, made_up.iter().copied());
        DueRuns { run, missed: left_out.to_vec() }
    }
}

#[cfg(test)]
mod tests;
