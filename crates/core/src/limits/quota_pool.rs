//! The tokens of one limit, leased to isolates.
//!
//! A pool has `quota` tokens. A used token comes back one window after its use, so no window of that length sees more
//! than the quota. Isolates lease tokens for a short time. Leases get smaller as fewer tokens are left; from the last
//! tenth, tokens are given one by one, so that the pool knows of every use. An isolate reports the use of a lease with
//! its next request, or when it is idle; an unreported lease counts as used in full at its end. So a lost message or a
//! crashed isolate can withhold tokens for a window, but never adds any.
//!
//! Invariant: the tokens used within the last window plus the leased tokens are at most the quota, unless the quota was
//! lowered.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::base::time::Timestamp;

/// How long after its request an isolate may use a lease, in milliseconds.
pub const QUOTA_LEASE_MS: u64 = 2_000;
/// How long after the grant a lease expires, in milliseconds: one second more, as clocks differ.
const EXPIRY_MS: u64 = QUOTA_LEASE_MS + 1_000;
/// Times of use are stored with the precision of a window divided by this.
const SLOTS: u64 = 100;
/// With so few tokens left they are given one by one, whatever the quota.
const MIN_SCARCE: u64 = 10;
/// A lease has at most the tokens beyond those, divided by this.
const MAX_SHARE: u64 = 4;
/// How many single tokens are remembered, so that they can be returned.
const MAX_SINGLES: usize = 256;

/// A rate limit: `quota` uses in any window of `window_ms` milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaRule {
    pub quota: u64,
    pub window_ms: u64,
}

/// How many tokens are left, and in how many milliseconds all of them are back; if none is left, when the first is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QuotaState {
    pub left: u64,
    pub reset_ms: u64,
}

/// Numbers the leases of one pool, each higher than the last and none twice, also across restarts of the pool's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QuotaLeaseNumber(u64);

impl QuotaLeaseNumber {
    /// The number that a pool which starts at `now` counts on from. Fewer than a thousand leases are given in a
    /// millisecond, so earlier instances have not reached it.
    fn at_start(now: Timestamp) -> Self {
        Self(now.0 << 10)
    }

    fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Any number.
    #[cfg(test)]
    pub(super) fn of(number: u64) -> Self {
        Self(number)
    }
}

/// Tokens that an isolate may use for [`QUOTA_LEASE_MS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaLease {
    pub number: QuotaLeaseNumber,
    pub tokens: u64,
    /// So few tokens are left that they are given one by one.
    pub scarce: bool,
}

/// How many tokens of a lease were used. Its holder uses no more of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReport {
    pub number: QuotaLeaseNumber,
    pub used: u64,
}

/// The stored form of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPool {
    /// Tokens by the time at which they count as used.
    pub used: Vec<(Timestamp, u64)>,
    /// Tokens that may have been given since this was stored.
    pub ahead: u64,
    pub window_ms: u64,
}

/// A lease that was not reported and has not expired.
#[derive(Debug, Clone, Copy)]
struct OpenLease {
    tokens: u64,
    until: Timestamp,
}

/// The tokens of one limit for one tenant, role, key, service or capability.
#[derive(Debug, Clone)]
pub struct QuotaPool {
    rule: QuotaRule,
    /// Used tokens by the end of the slot of their use, oldest first.
    used: VecDeque<(Timestamp, u64)>,
    used_total: u64,
    open: BTreeMap<QuotaLeaseNumber, OpenLease>,
    open_total: u64,
    /// Single tokens, with the slot in which they were counted.
    singles: VecDeque<(QuotaLeaseNumber, Timestamp)>,
    last: QuotaLeaseNumber,
    /// The latest time seen: the clock never goes back here.
    now: Timestamp,
    /// Tokens given since the last write, and the number that the stored form allows for.
    unsaved: u64,
    ahead: u64,
    /// When tokens were last given, and whether that was soon after the time before.
    last_taken_at: Timestamp,
    busy: bool,
}

impl QuotaPool {
    pub fn new(rule: QuotaRule, now: Timestamp) -> Self {
        Self {
            rule,
            used: VecDeque::new(),
            used_total: 0,
            open: BTreeMap::new(),
            open_total: 0,
            singles: VecDeque::new(),
            last: QuotaLeaseNumber::at_start(now),
            now,
            unsaved: 0,
            ahead: 0,
            last_taken_at: Timestamp(0),
            busy: false,
        }
    }

    /// Restores a pool after a restart. Tokens that may have been given count as used, at the latest possible time.
    pub fn restore(kept: &StoredPool, rule: QuotaRule, now: Timestamp) -> Self {
        let mut pool = Self::new(QuotaRule { window_ms: kept.window_ms.max(1), ..rule }, now);
        for (at, tokens) in &kept.used {
            pool.push(*at, *tokens);
        }
        pool.count_used(now.plus_ms(EXPIRY_MS), kept.ahead);
        pool.set_rule(rule);
        pool
    }

    pub fn set_rule(&mut self, rule: QuotaRule) {
        self.rule = rule;
    }

    /// What must be stored before the tokens are handed out; `None` if the stored form covers them. A busy pool is
    /// stored once for each twentieth of the quota and loses at most that much in a restart; a quiet one is stored each
    /// time and loses nothing.
    pub fn to_store(&mut self) -> Option<StoredPool> {
        if self.unsaved <= self.ahead {
            return None;
        }
        let ahead = if self.busy { 2 * self.ahead.max(self.unsaved) } else { 0 };
        Some(self.stored(ahead.min(self.rule.quota / 20)))
    }

    /// Whether no tokens were given for a while.
    pub fn is_idle(&self, now: Timestamp) -> bool {
        now.since(self.last_taken_at) >= EXPIRY_MS
    }

    /// What must be stored for an idle pool, without an allowance; `None` if it is stored already.
    pub fn to_store_exactly(&mut self) -> Option<StoredPool> {
        (self.ahead > 0).then(|| self.stored(0))
    }

    fn stored(&mut self, ahead: u64) -> StoredPool {
        self.unsaved = 0;
        self.ahead = ahead;
        let out = self.open.values().map(|out| (out.until, out.tokens));
        let used = self.used.iter().copied().chain(out).collect();
        StoredPool { used, ahead, window_ms: self.rule.window_ms }
    }

    fn slot_end(&self, at: Timestamp) -> Timestamp {
        let slot = (self.rule.window_ms / SLOTS).max(1);
        Timestamp((at.0 / slot + 1) * slot)
    }

    /// Counts tokens as used at a time. Returns the slot in which they were counted.
    fn count_used(&mut self, at: Timestamp, tokens: u64) -> Timestamp {
        self.push(self.slot_end(at), tokens)
    }

    fn push(&mut self, end: Timestamp, tokens: u64) -> Timestamp {
        if tokens == 0 {
            return end;
        }
        self.used_total += tokens;
        match self.used.back_mut() {
            // Never before an existing slot: counting later is safe.
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

    /// Advances to `now`: expires leases, and returns tokens whose window has passed.
    fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while let Some((number, out)) = self.open.first_key_value().map(|(number, out)| (*number, *out))
            && out.until <= self.now
        {
            self.open.remove(&number);
            self.open_total -= out.tokens;
            self.count_used(out.until, out.tokens);
        }
        while let Some((end, tokens)) = self.used.front().copied()
            && end.plus_ms(self.rule.window_ms) <= self.now
        {
            self.used.pop_front();
            self.used_total -= tokens;
        }
    }

    fn left(&self) -> u64 {
        self.rule.quota.saturating_sub(self.used_total + self.open_total)
    }

    /// Leases up to `wanted` tokens. `None` if none is left.
    pub fn take(&mut self, wanted: u64, now: Timestamp) -> Option<QuotaLease> {
        self.advance(now);
        let (left, floor) = (self.left(), (self.rule.quota / 10).max(MIN_SCARCE));
        if left == 0 {
            return None;
        }
        let most = (left.saturating_sub(floor) / MAX_SHARE).max(1);
        let tokens = wanted.clamp(1, most);
        self.last = self.last.next();
        let number = self.last;
        self.busy = !self.is_idle(self.now);
        self.last_taken_at = self.now;
        self.unsaved += tokens;
        if tokens == 1 {
            let slot = self.count_used(self.now, 1);
            if self.singles.len() >= MAX_SINGLES {
                self.singles.pop_front();
            }
            self.singles.push_back((number, slot));
        } else {
            self.open.insert(number, OpenLease { tokens, until: self.now.plus_ms(EXPIRY_MS) });
            self.open_total += tokens;
        }
        Some(QuotaLease { number, tokens, scarce: left <= floor })
    }

    /// Applies a report. A report about an expired or unknown lease changes nothing.
    pub fn report(&mut self, report: LeaseReport, now: Timestamp) {
        self.advance(now);
        if let Some(out) = self.open.remove(&report.number) {
            self.open_total -= out.tokens;
            self.count_used(self.now, report.used.min(out.tokens));
        } else if report.used == 0
            && let Some(at) = self.singles.iter().position(|(number, _)| *number == report.number)
            && let Some((_, slot)) = self.singles.remove(at)
            && let Some((_, count)) = self.used.iter_mut().find(|(end, count)| *end == slot && *count > 0)
        {
            *count -= 1;
            self.used_total -= 1;
        }
    }

    /// Whether leased tokens may come back unused.
    pub fn has_open_leases(&self) -> bool {
        self.open_total > 0
    }

    pub fn state(&mut self, now: Timestamp) -> QuotaState {
        self.advance(now);
        let left = self.left();
        let back = |end: Timestamp| end.plus_ms(self.rule.window_ms);
        let used = self.used.iter().filter(|(_, count)| *count > 0).map(|(end, _)| back(*end));
        let all = used.chain(self.open.values().map(|out| back(self.slot_end(out.until))));
        let at = if left == 0 { all.min() } else { all.max() };
        QuotaState { left, reset_ms: at.map_or(0, |at| at.since(self.now)) }
    }

    /// When all tokens are back, if no more are given. `None` if they are.
    pub fn full_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.advance(now);
        let out = self.open.values().map(|out| self.slot_end(out.until));
        let last = self.used.back().map(|(end, _)| *end).into_iter().chain(out).max();
        last.map(|end| end.plus_ms(self.rule.window_ms))
    }
}

#[cfg(test)]
mod tests;
