//! The permits of a concurrency limit. A permit is a lease: it expires if its holder does not renew it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::time::Timestamp;
use crate::base::timing::Timing;

/// Numbers the permits of one concurrency limit and subject, each higher than the last and none twice, also across
/// restarts of its object. The permits of lanes have numbers of their own (`PermitNumber`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LimitPermitNumber(u64);

impl LimitPermitNumber {
    /// The number that an object which starts at `now` counts on from. Fewer than a thousand permits are given in a
    /// millisecond, so earlier instances have not reached it.
    fn at_start(now: Timestamp) -> Self {
        Self(now.0 << 10)
    }

    fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The permits of one concurrency limit.
#[derive(Debug, Clone)]
pub struct Permits {
    held: BTreeMap<LimitPermitNumber, Timestamp>,
    /// Permits from before a restart that may still be held, and until when.
    unknown: u64,
    unknown_until: Timestamp,
    /// Numbers up to this one are from before the restart.
    start: LimitPermitNumber,
    last: LimitPermitNumber,
    /// The number of held permits that the stored form allows for.
    stored: u64,
    /// How long a permit lasts without renewal.
    lasts_ms: u64,
}

impl Permits {
    /// Restores the permits after a restart. `stored` is the last result of [`Permits::to_store`].
    pub fn restore(stored: u64, now: Timestamp, timing: &Timing) -> Self {
        Self {
            held: BTreeMap::new(),
            unknown: stored,
            unknown_until: now.plus_ms(timing.permit_ms),
            start: LimitPermitNumber::at_start(now),
            last: LimitPermitNumber::at_start(now),
            stored,
            lasts_ms: timing.permit_ms,
        }
    }

    fn in_use(&self) -> u64 {
        self.held.len() as u64 + self.unknown
    }

    fn drop_ended(&mut self, now: Timestamp) {
        self.held.retain(|_, until| *until > now);
        if self.unknown_until <= now {
            self.unknown = 0;
        }
    }

    /// The number of free permits.
    pub fn left(&mut self, quota: u64, now: Timestamp) -> u64 {
        self.drop_ended(now);
        quota.saturating_sub(self.in_use())
    }

    /// Takes a permit and returns its number, if one is free.
    pub fn acquire(&mut self, quota: u64, now: Timestamp) -> Option<LimitPermitNumber> {
        if self.left(quota, now) == 0 {
            return None;
        }
        self.last = self.last.next();
        self.held.insert(self.last, now.plus_ms(self.lasts_ms));
        Some(self.last)
    }

    /// Renews a permit. An unknown one is from before a restart, or had expired; its work is still running, so it
    /// counts again.
    pub fn renew(&mut self, number: LimitPermitNumber, now: Timestamp) {
        self.drop_ended(now);
        if self.held.insert(number, now.plus_ms(self.lasts_ms)).is_none() {
            self.identify(number);
        }
    }

    pub fn release(&mut self, number: LimitPermitNumber) {
        if self.held.remove(&number).is_none() {
            self.identify(number);
        }
    }

    /// Identifies one of the permits from before the restart.
    fn identify(&mut self, number: LimitPermitNumber) {
        if number <= self.start {
            self.unknown = self.unknown.saturating_sub(1);
        }
    }

    /// Milliseconds until the next permit expires, 0 if none is held.
    pub fn next_end_ms(&self, now: Timestamp) -> u64 {
        let unknown = (self.unknown > 0).then_some(self.unknown_until);
        let next = self.held.values().copied().chain(unknown).min();
        next.map_or(0, |at| at.since(now))
    }

    /// The number that must be stored as held; `None` if the stored number covers it.
    pub fn to_store(&mut self, quota: u64) -> Option<u64> {
        let in_use = self.in_use();
        if in_use <= self.stored {
            return None;
        }
        // In steps, so that not every new maximum writes a row.
        self.stored = in_use + quota / 20;
        Some(self.stored)
    }

    pub fn is_idle(&mut self, now: Timestamp) -> bool {
        self.drop_ended(now);
        self.in_use() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // The versions before and after read this form too.
    #[test]
    fn a_number_is_written_as_a_number() {
        let number = LimitPermitNumber::at_start(Timestamp(1_764_547_200_123)).next();
        assert_eq!(serde_json::to_string(&number).unwrap(), "1806896332925953");
        assert_eq!(serde_json::from_str::<LimitPermitNumber>("1806896332925953").unwrap(), number);
        assert!(number < LimitPermitNumber::at_start(Timestamp(1_764_547_200_124)));
    }

    #[test]
    fn a_permit_whose_holder_is_gone_comes_back() {
        let mut permits = Permits::restore(0, Timestamp(0), &Timing::DEFAULT);
        let first = permits.acquire(1, Timestamp(0)).unwrap();
        assert_eq!(permits.acquire(1, Timestamp(9_999)), None);
        assert_eq!(permits.next_end_ms(Timestamp(9_000)), 1_000);
        permits.renew(first, Timestamp(9_999));
        assert_eq!(permits.acquire(1, Timestamp(10_001)), None);
        assert!(permits.acquire(1, Timestamp(20_000)).is_some());
    }

    #[test]
    fn after_a_restart_those_from_before_are_counted_until_they_are_known_or_over() {
        let mut before = Permits::restore(0, Timestamp(0), &Timing::DEFAULT);
        let (first, second) = (before.acquire(3, Timestamp(0)).unwrap(), before.acquire(3, Timestamp(0)).unwrap());
        let stored = before.to_store(3).unwrap();
        assert_eq!((stored, before.to_store(3)), (2, None));
        let mut after = Permits::restore(stored, Timestamp(5_000), &Timing::DEFAULT);
        assert_eq!(after.left(3, Timestamp(5_000)), 1);
        after.renew(first, Timestamp(6_000));
        assert_eq!(after.left(3, Timestamp(6_000)), 1);
        after.release(second);
        assert_eq!(after.left(3, Timestamp(6_000)), 2);
        assert_eq!(after.left(3, Timestamp(16_000)), 3);
    }

    proptest! {
        #[test]
        fn never_more_than_the_quota_whatever_restarts(
            quota in 1u64..6, steps in prop::collection::vec((0u8..4, 0usize..8, 0u64..3_000), 1..80),
        ) {
            let mut now = Timestamp(1_000_000);
            let (mut permits, mut disk) = (Permits::restore(0, now, &Timing::DEFAULT), 0);
            // What holders believe they hold, and until when.
            let mut held: Vec<(LimitPermitNumber, Timestamp)> = Vec::new();
            for (what, which, ms) in steps {
                now = now.plus_ms(ms);
                held.retain(|(_, until)| *until > now);
                match what {
                    0 | 1 => if let Some(number) = permits.acquire(quota, now) {
                        disk = permits.to_store(quota).unwrap_or(disk);
                        held.push((number, now.plus_ms(Timing::DEFAULT.permit_ms)));
                    },
                    2 if which < held.len() => {
                        if ms % 2 == 0 {
                            permits.renew(held[which].0, now);
                            held[which].1 = now.plus_ms(Timing::DEFAULT.permit_ms);
                        } else {
                            permits.release(held.remove(which).0);
                        }
                    }
                    3 if which == 0 => permits = Permits::restore(disk, now, &Timing::DEFAULT),
                    _ => {}
                }
                prop_assert!(held.len() as u64 <= quota);
            }
        }
    }
}
