//! What waits to be delivered, to whom, and when it is tried again.
//!
//! An event waits for each webhook it is for until it was delivered or given up. A delivery that was refused is tried
//! again after growing pauses, each delivery by itself. Where nobody is there to refuse it, the webhook rests as a
//! whole: after growing pauses one delivery tries for all, and when it meets somebody the others follow at once. When a
//! delivery is given up and none was delivered since it was first tried, its webhook is disabled. Who delivers claims
//! some at a time and reports; a claim lasts [`LEASE_MS`] and is in memory only, so that after a restart something may
//! be delivered twice, but nothing is forgotten.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::time::Timestamp;
use crate::context::http_status::is_away;
use crate::events::event::{Bundle, Item};
use crate::events::filter::Filter;

/// How long a claim lasts without a report, in milliseconds: more than a delivery may take.
pub const LEASE_MS: u64 = 60_000;
/// Who was rung for and did not come is rung for again after this, in milliseconds.
const RING_AGAIN_MS: u64 = 10_000;
/// Deliveries to one webhook under way at the same time.
pub const AT_ONCE: usize = 8;
/// Deliveries that may wait for one webhook.
pub const MAX_WAITING: usize = 10_000;
/// The pauses between attempts, in milliseconds: those of the Standard Webhooks specification, ended after 24 hours.
pub const PAUSES_MS: [u64; 7] = [5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 23_095_000];

/// The longest pause a receiver can ask for by `Retry-After`, in milliseconds.
const MAX_WISH_MS: u64 = 86_400_000;
/// The longest pause of a webhook that rests, in milliseconds.
const MAX_REST_MS: u64 = 15 * 60_000;

/// Why a webhook gets nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing was delivered for as long as an event is tried.
    Failing,
    /// Its address answered 410.
    Gone,
    /// More waits for it than may.
    Backlog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    pub at: Timestamp,
    pub reason: Reason,
}

/// Nobody is where a webhook is: until then nothing is delivered, and after that one delivery tries for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    pub until: Timestamp,
    /// How often it was tried in vain since it began.
    tries: u32,
}

/// A webhook as the courier knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    pub version: u64,
    pub filter: Filter,
    pub enabled: bool,
    /// Who sees that it was disabled, if not everybody is seen.
    #[serde(default)]
    pub owner: Option<String>,
    #[serde(default)]
    pub disabled: Option<Disabled>,
    /// Since then no delivery succeeded, and some failed.
    #[serde(default)]
    pub failing_since: Option<Timestamp>,
    #[serde(default)]
    pub resting: Option<Rest>,
}

impl Hook {
    pub fn is_live(&self) -> bool {
        self.enabled && self.disabled.is_none()
    }
}

/// How one attempt went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub at: Timestamp,
    pub status_code: Option<u16>,
    pub error: Option<AttemptError>,
    pub duration_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptError {
    /// The address is none that is called.
    Refused,
    Unreachable,
    /// The connection broke before there was an answer.
    Broken,
    TimedOut,
    /// What it is to be signed with could not be opened.
    NotSigned,
}

impl Attempt {
    pub fn succeeded(&self) -> bool {
        self.status_code.is_some_and(|status| (200..300).contains(&status))
    }

    /// Nobody was there: no answer, or one in the name of somebody who is away.
    pub fn found_nobody(&self) -> bool {
        match (self.status_code, self.error) {
            (Some(status), _) => is_away(status),
            (None, Some(AttemptError::Unreachable | AttemptError::Broken | AttemptError::TimedOut)) => true,
            (None, Some(AttemptError::Refused | AttemptError::NotSigned) | None) => false,
        }
    }
}

/// A delivery that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub attempts: usize,
    /// Of these, the ones that somebody refused.
    pub refused: usize,
    /// The last one found nobody: it is due again when its webhook has rested.
    pub found_nobody: bool,
    /// When it was tried first.
    pub first_at: Option<Timestamp>,
    pub due: Timestamp,
    claimed_until: Timestamp,
    /// Claimed to try for all.
    tries: bool,
}

impl Waiting {
    pub fn new(attempts: usize, first_at: Option<Timestamp>, due: Timestamp) -> Self {
        let (refused, claimed_until) = (attempts, Timestamp(0));
        Self { attempts, refused, found_nobody: false, first_at, due, claimed_until, tries: false }
    }
}

/// A delivery to be made now, and the number of the attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub webhook: String,
    pub number: u64,
    pub attempt: usize,
}

/// What becomes of a delivery after a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// It does not wait (any more).
    Unknown,
    Delivered,
    Again {
        due: Timestamp,
        first_at: Timestamp,
    },
    GivenUp,
}

/// What a report changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub reported: Reported,
    /// The hook is to be written.
    pub hook_changed: bool,
    pub disables: Option<Reason>,
}

/// A webhook and what waits for it.
#[derive(Debug)]
struct Line {
    hook: Hook,
    waiting: BTreeMap<u64, Waiting>,
    /// When somebody was rung for who has not come yet.
    rung: Option<Timestamp>,
}

impl Line {
    fn new(hook: Hook) -> Self {
        Self { hook, waiting: BTreeMap::new(), rung: None }
    }

    /// When a delivery may be made next, should nobody be at it.
    fn ready_at(&self, one: &Waiting) -> Timestamp {
        let due = if one.found_nobody { Timestamp(0) } else { one.due };
        due.max(self.hook.resting.map_or(Timestamp(0), |rest| rest.until))
    }

    /// What is due and nobody is at.
    fn due(&self, now: Timestamp) -> impl Iterator<Item = (&u64, &Waiting)> {
        self.waiting.iter().filter(move |(_, one)| one.claimed_until <= now && self.ready_at(one) <= now)
    }

    fn claimed(&self, now: Timestamp) -> usize {
        self.waiting.values().filter(|one| one.claimed_until > now).count()
    }

    fn wants_ring(&self, now: Timestamp) -> bool {
        self.hook.is_live()
            && self.rung.is_none_or(|rung| now.since(rung) >= RING_AGAIN_MS)
            && self.claimed(now) == 0
            && self.due(now).next().is_some()
    }

    fn wakes_at(&self, now: Timestamp) -> Option<Timestamp> {
        let rung = self.rung.map(|rung| rung.plus_ms(RING_AGAIN_MS));
        let claimed = self.waiting.values().map(|one| one.claimed_until).filter(|until| *until > now).min();
        let unclaimed = self.waiting.values().filter(|one| one.claimed_until <= now).map(|one| self.ready_at(one));
        let next = unclaimed.filter_map(|at| match (at > now, claimed) {
            (true, _) => Some(at),
            (false, None) => Some(rung.unwrap_or(at)),
            // Who is at others of this webhook takes it too.
            (false, Some(_)) => None,
        });
        claimed.into_iter().chain(next).min().filter(|_| self.hook.is_live())
    }
}

#[derive(Debug, Default)]
pub struct Courier {
    pauses_ms: Vec<u64>,
    lines: BTreeMap<String, Line>,
}

impl Courier {
    pub fn new(pauses_ms: Vec<u64>) -> Self {
        Self { pauses_ms, ..Self::default() }
    }

    pub fn hook(&self, id: &str) -> Option<&Hook> {
        self.lines.get(id).map(|line| &line.hook)
    }

    pub fn ids(&self) -> Vec<String> {
        self.lines.keys().cloned().collect()
    }

    /// Whether no event has to be delivered to anybody.
    pub fn is_idle(&self) -> bool {
        !self.lines.values().any(|line| line.hook.is_live())
    }

    /// From disk: a webhook as it is.
    pub fn restore(&mut self, id: String, hook: Hook) {
        self.lines.insert(id, Line::new(hook));
    }

    /// What was configured; true when it is news. A new version begins anew: it is not disabled, and not failing.
    pub fn configure(&mut self, id: &str, version: u64, filter: Filter, enabled: bool, owner: Option<String>) -> bool {
        let hook = Hook { version, filter, enabled, owner, disabled: None, failing_since: None, resting: None };
        match self.lines.get_mut(id) {
            Some(line) if line.hook.version == version => return false,
            Some(line) => line.hook = hook,
            None => self.restore(id.into(), hook),
        }
        true
    }

    pub fn remove(&mut self, id: &str) {
        self.lines.remove(id);
    }

    pub fn disable(&mut self, id: &str, at: Timestamp, reason: Reason) {
        if let Some(line) = self.lines.get_mut(id) {
            line.hook.disabled = Some(Disabled { at, reason });
        }
    }

    /// Takes out all that waits for a webhook.
    pub fn give_up(&mut self, id: &str) -> Vec<u64> {
        self.lines.get_mut(id).map(|line| std::mem::take(&mut line.waiting).into_keys().collect()).unwrap_or_default()
    }

    /// Who is to be told of an event.
    pub fn wanted<'c>(&'c self, bundle: &'c Bundle, item: &'c Item) -> impl Iterator<Item = &'c str> {
        let wants = |hook: &Hook| hook.is_live() && hook.filter.matches(bundle, item);
        self.lines.iter().filter(move |(_, line)| wants(&line.hook)).map(|(id, _)| id.as_str())
    }

    /// How many deliveries wait for a webhook.
    pub fn count(&self, id: &str) -> usize {
        self.lines.get(id).map_or(0, |line| line.waiting.len())
    }

    pub fn add(&mut self, id: &str, number: u64, waiting: Waiting) {
        if let Some(line) = self.lines.get_mut(id) {
            line.waiting.insert(number, waiting);
        }
    }

    /// The next deliveries for who says so to make: webhooks in the order in which something of theirs was due, of each
    /// the oldest first, and no more than [`AT_ONCE`] of one under way.
    pub fn claim(&mut self, most: usize, now: Timestamp) -> Vec<Claim> {
        let mut lines: Vec<(Timestamp, &String, &mut Line)> = self
            .lines
            .iter_mut()
            .filter(|(_, line)| line.hook.is_live())
            .filter_map(|(id, line)| Some((line.due(now).map(|(_, one)| line.ready_at(one)).min()?, id, line)))
            .collect();
        lines.sort_by_key(|(due, ..)| *due);
        let mut claims = Vec::new();
        for (_, id, line) in lines {
            let tries = line.hook.resting.is_some();
            let at_once = if tries { 1 } else { AT_ONCE };
            let room = at_once.saturating_sub(line.claimed(now)).min(most - claims.len());
            let numbers: Vec<u64> = line.due(now).map(|(number, _)| *number).take(room).collect();
            if !numbers.is_empty() {
                line.rung = None;
            }
            for number in numbers {
                if let Some(one) = line.waiting.get_mut(&number) {
                    one.claimed_until = now.plus_ms(LEASE_MS);
                    one.tries = tries;
                    claims.push(Claim { webhook: id.clone(), number, attempt: one.attempts + 1 });
                }
            }
        }
        claims
    }

    /// Takes in how an attempt went. `random` spreads what failed together.
    pub fn report(&mut self, id: &str, number: u64, attempt: &Attempt, now: Timestamp, random: u64) -> Report {
        let mut report = Report { reported: Reported::Unknown, hook_changed: false, disables: None };
        let Some(Line { hook, waiting: all, .. }) = self.lines.get_mut(id) else { return report };
        let Some(waiting) = all.get_mut(&number) else { return report };
        let tried = std::mem::take(&mut waiting.tries);
        waiting.attempts += 1;
        waiting.found_nobody = attempt.found_nobody();
        if attempt.succeeded() {
            report.hook_changed = hook.failing_since.take().is_some() | hook.resting.take().is_some();
            report.reported = Reported::Delivered;
            all.remove(&number);
            return report;
        }
        let first_at = *waiting.first_at.get_or_insert(attempt.at);
        report.hook_changed = hook.failing_since.is_none();
        // Several are under way at once, and are not reported in the order in which they began.
        let failing_since = hook.failing_since.map_or(attempt.at, |since| since.min(attempt.at));
        hook.failing_since = Some(failing_since);
        if attempt.status_code == Some(410) {
            report.disables = Some(Reason::Gone);
        }
        let spread = |pause: u64| {
            let pause = pause + random % (pause / 10 + 1);
            // A receiver may ask for more time, but not for more than an event is tried in all.
            let wish = attempt.retry_after_ms.unwrap_or(0).min(MAX_WISH_MS);
            now.plus_ms(pause.max(wish))
        };
        let due = if waiting.found_nobody {
            let ends = first_at.plus_ms(self.pauses_ms.iter().sum());
            // Those that were under way when the rest began say nothing new.
            let rest = match hook.resting {
                Some(rest) if !tried => rest,
                known => {
                    let tries = known.map_or(0, |rest| rest.tries + 1);
                    let first = self.pauses_ms.first().copied().unwrap_or(0);
                    let pause = first.saturating_mul(1 << tries.min(32)).min(MAX_REST_MS.max(first));
                    report.hook_changed = true;
                    // The last try is when it would be given up.
                    Rest { until: spread(pause).min(ends.max(now)), tries }
                }
            };
            hook.resting = Some(rest);
            (now < ends).then_some(rest.until)
        } else {
            report.hook_changed |= hook.resting.take().is_some();
            let pause = self.pauses_ms.get(waiting.refused).copied();
            waiting.refused += 1;
            pause.map(spread)
        };
        match due {
            Some(due) if report.disables.is_none() => {
                waiting.due = due;
                waiting.claimed_until = Timestamp(0);
                report.reported = Reported::Again { due, first_at };
            }
            _ => {
                report.reported = Reported::GivenUp;
                report.disables = report.disables.or((failing_since <= first_at).then_some(Reason::Failing));
                all.remove(&number);
            }
        }
        report
    }

    /// Whether somebody has to be rung for now: something is due, and nobody is at that webhook.
    pub fn to_ring(&mut self, now: Timestamp) -> bool {
        let mut rings = false;
        for line in self.lines.values_mut().filter(|line| line.wants_ring(now)) {
            line.rung = Some(now);
            rings = true;
        }
        rings
    }

    /// When there is something to do next, should nobody report before.
    pub fn wakes_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.lines.values().filter_map(|line| line.wakes_at(now)).min()
    }
}

#[cfg(test)]
mod tests;
