//! The tokens of one limit, given out in portions.
//!
//! A bucket has `quota` tokens. One that was used comes back a window after that, so no window of that length ever sees
//! more than the quota. Isolates are given portions to use for a while, the smaller the less is left, and down to a
//! tenth single ones: then the bucket knows of every use. What of a portion was used is said when the next is asked for,
//! or when the isolate is idle; of a portion that nothing was said of, all counts as used at its end. So a message that
//! is lost, or an isolate that dies, may keep tokens away for a window, but never adds any.
//!
//! Invariant: tokens used within the last window and tokens that are out are together at most the quota, unless that
//! was lowered.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::base::time::Timestamp;

/// An isolate uses its portion at most for this long after it asked for it.
pub const PORTION_MS: u64 = 2_000;
/// A portion is over this long after it was given: a second for what clocks differ.
const OVER_MS: u64 = PORTION_MS + 1_000;
/// Times of use are kept to this part of a window.
const SLOTS: u64 = 100;
/// With this few left, single tokens are given whatever the quota.
const FEW: u64 = 10;
/// One portion is at most this part of what is left beyond those.
const SHARE: u64 = 4;
/// Single tokens remembered, so that they can be given back.
const MAX_SINGLES: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub quota: u64,
    pub window_ms: u64,
}

/// What is left, and when more is: all of it, or where nothing is left something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Standing {
    pub left: u64,
    pub reset_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portion {
    pub number: u64,
    pub tokens: u64,
    /// So little is left that only single tokens are given.
    pub scarce: bool,
}

/// How much of a portion was used, by who will use no more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub number: u64,
    pub used: u64,
}

/// What is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Tokens, by the time they count as used.
    pub used: Vec<(Timestamp, u64)>,
    /// Tokens that may have been given since.
    pub ahead: u64,
    pub window_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Out {
    tokens: u64,
    until: Timestamp,
}

#[derive(Debug, Clone)]
pub struct Bucket {
    rule: Rule,
    /// Tokens by the end of the slot they were used in, the oldest first.
    used: VecDeque<(Timestamp, u64)>,
    used_in_all: u64,
    out: BTreeMap<u64, Out>,
    out_in_all: u64,
    /// Single tokens given, with the slot they were counted in.
    singles: VecDeque<(u64, Timestamp)>,
    next: u64,
    /// The clock never goes back here.
    now: Timestamp,
    /// Tokens given that the disk does not have as used, and how many it allows for.
    unkept: u64,
    ahead: u64,
    /// When tokens were given last, and whether that was soon after the time before.
    took_at: Timestamp,
    busy: bool,
}

impl Bucket {
    pub fn new(rule: Rule, now: Timestamp) -> Self {
        Self {
            rule,
            used: VecDeque::new(),
            used_in_all: 0,
            out: BTreeMap::new(),
            out_in_all: 0,
            singles: VecDeque::new(),
            // Larger than any number given before a restart: nobody gives a thousand within a millisecond.
            next: now.0 << 10,
            now,
            unkept: 0,
            ahead: 0,
            took_at: Timestamp(0),
            busy: false,
        }
    }

    /// After a restart: whatever may have been given counts as used, as late as it can have been.
    pub fn restore(kept: &Kept, rule: Rule, now: Timestamp) -> Self {
        let mut bucket = Self::new(Rule { window_ms: kept.window_ms.max(1), ..rule }, now);
        for (at, tokens) in &kept.used {
            bucket.push(*at, *tokens);
        }
        bucket.book(now.plus_ms(OVER_MS), kept.ahead);
        bucket.change(rule);
        bucket
    }

    pub fn change(&mut self, rule: Rule) {
        self.rule = rule;
    }

    /// What is to be on disk before anybody learns what was given; nothing when what is there covers it. A busy bucket is
    /// kept for each twentieth of the quota, and that much is lost with a restart; a quiet one each time, and loses nothing.
    pub fn to_keep(&mut self) -> Option<Kept> {
        if self.unkept <= self.ahead {
            return None;
        }
        let ahead = if self.busy { 2 * self.ahead.max(self.unkept) } else { 0 };
        Some(self.kept(ahead.min(self.rule.quota / 20)))
    }

    /// Whether nothing was given for a while.
    pub fn is_resting(&self, now: Timestamp) -> bool {
        now.since(self.took_at) >= OVER_MS
    }

    /// What is to be on disk of a bucket that rests; nothing when it is there.
    pub fn to_rest(&mut self) -> Option<Kept> {
        (self.ahead > 0).then(|| self.kept(0))
    }

    fn kept(&mut self, ahead: u64) -> Kept {
        self.unkept = 0;
        self.ahead = ahead;
        let out = self.out.values().map(|out| (out.until, out.tokens));
        let used = self.used.iter().copied().chain(out).collect();
        Kept { used, ahead, window_ms: self.rule.window_ms }
    }

    fn slot_end(&self, at: Timestamp) -> Timestamp {
        let slot = (self.rule.window_ms / SLOTS).max(1);
        Timestamp((at.0 / slot + 1) * slot)
    }

    /// Counts tokens as used at a time; gives the slot they were counted in.
    fn book(&mut self, at: Timestamp, tokens: u64) -> Timestamp {
        self.push(self.slot_end(at), tokens)
    }

    fn push(&mut self, end: Timestamp, tokens: u64) -> Timestamp {
        if tokens == 0 {
            return end;
        }
        self.used_in_all += tokens;
        match self.used.back_mut() {
            // Not before one that is there: later is never too much.
            Some((last, count)) if *last >= end => {
                *count += tokens;
                *last
            }
            _ => {
                self.used.push_back((end, tokens));
                end
            }
        }
    }

    /// Takes in that time has passed.
    fn turn_to(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while let Some((number, out)) = self.out.first_key_value().map(|(number, out)| (*number, *out))
            && out.until <= self.now
        {
            self.out.remove(&number);
            self.out_in_all -= out.tokens;
            self.book(out.until, out.tokens);
        }
        while let Some((end, tokens)) = self.used.front().copied()
            && end.plus_ms(self.rule.window_ms) <= self.now
        {
            self.used.pop_front();
            self.used_in_all -= tokens;
        }
    }

    fn left(&self) -> u64 {
        self.rule.quota.saturating_sub(self.used_in_all + self.out_in_all)
    }

    /// Gives up to `wanted` tokens; nothing when none is left.
    pub fn take(&mut self, wanted: u64, now: Timestamp) -> Option<Portion> {
        self.turn_to(now);
        let (left, floor) = (self.left(), (self.rule.quota / 10).max(FEW));
        if left == 0 {
            return None;
        }
        let most = (left.saturating_sub(floor) / SHARE).max(1);
        let tokens = wanted.clamp(1, most);
        self.next += 1;
        let number = self.next;
        self.busy = !self.is_resting(self.now);
        self.took_at = self.now;
        self.unkept += tokens;
        if tokens == 1 {
            let slot = self.book(self.now, 1);
            if self.singles.len() >= MAX_SINGLES {
                self.singles.pop_front();
            }
            self.singles.push_back((number, slot));
        } else {
            self.out.insert(number, Out { tokens, until: self.now.plus_ms(OVER_MS) });
            self.out_in_all += tokens;
        }
        Some(Portion { number, tokens, scarce: left <= floor })
    }

    /// Takes in how much of a portion was used. One that is over, or that nobody was given, changes nothing.
    pub fn report(&mut self, report: Report, now: Timestamp) {
        self.turn_to(now);
        if let Some(out) = self.out.remove(&report.number) {
            self.out_in_all -= out.tokens;
            self.book(self.now, report.used.min(out.tokens));
        } else if report.used == 0
            && let Some(at) = self.singles.iter().position(|(number, _)| *number == report.number)
            && let Some((_, slot)) = self.singles.remove(at)
            && let Some((_, count)) = self.used.iter_mut().find(|(end, count)| *end == slot && *count > 0)
        {
            *count -= 1;
            self.used_in_all -= 1;
        }
    }

    /// Whether tokens are out that may come back unused.
    pub fn is_waited_for(&self) -> bool {
        self.out_in_all > 0
    }

    pub fn standing(&mut self, now: Timestamp) -> Standing {
        self.turn_to(now);
        let left = self.left();
        let back = |end: Timestamp| end.plus_ms(self.rule.window_ms);
        let used = self.used.iter().filter(|(_, count)| *count > 0).map(|(end, _)| back(*end));
        let all = used.chain(self.out.values().map(|out| back(self.slot_end(out.until))));
        let at = if left == 0 { all.min() } else { all.max() };
        Standing { left, reset_ms: at.map_or(0, |at| at.since(self.now)) }
    }

    /// When all has come back, if nothing more is given; nothing when it has.
    pub fn full_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.turn_to(now);
        let out = self.out.values().map(|out| self.slot_end(out.until));
        let last = self.used.back().map(|(end, _)| *end).into_iter().chain(out).max();
        last.map(|end| end.plus_ms(self.rule.window_ms))
    }
}

#[cfg(test)]
mod tests;
