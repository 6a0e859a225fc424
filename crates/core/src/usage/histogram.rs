//! Durations counted in buckets, so that counts of many hours and objects can be added up.
//!
//! A bucket is an eighth of a power of two wide, so a percentile is at most an eighth too high. Below 8 ms, each
//! millisecond has its own bucket.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Parts of a power of two, and the number of bits of that.
const PARTS: u64 = 8;
const BITS: u32 = 3;

/// Counts of durations by bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// By bucket number.
    #[serde(rename = "b")]
    buckets: BTreeMap<u16, u64>,
    /// The sum in milliseconds.
    #[serde(rename = "s")]
    sum_ms: u64,
}

fn bucket(ms: u64) -> u16 {
    if ms < PARTS {
        return ms as u16;
    }
    let power = ms.ilog2();
    let part = ms >> (power - BITS) & (PARTS - 1);
    (u64::from(power - BITS + 1) * PARTS + part) as u16
}

/// The longest duration of a bucket, in milliseconds.
fn upper_ms(bucket: u16) -> u64 {
    let (row, part) = (u64::from(bucket) / PARTS, u64::from(bucket) % PARTS);
    match row {
        0 => part,
        row => ((PARTS + part + 1) << (row - 1).min(58)) - 1,
    }
}

impl Histogram {
    /// Counts a duration in milliseconds.
    pub fn count(&mut self, ms: u64) {
        *self.buckets.entry(bucket(ms)).or_default() += 1;
        self.sum_ms = self.sum_ms.saturating_add(ms);
    }

    /// Adds another histogram.
    pub fn add(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
        self.sum_ms = self.sum_ms.saturating_add(other.sum_ms);
    }

    /// Takes a part of it away.
    pub fn subtract(&mut self, part: &Self) {
        for (bucket, count) in &part.buckets {
            let own = self.buckets.entry(*bucket).or_default();
            *own = own.saturating_sub(*count);
        }
        self.buckets.retain(|_, count| *count > 0);
        self.sum_ms = self.sum_ms.saturating_sub(part.sum_ms);
    }

    /// The number of durations.
    pub fn total(&self) -> u64 {
        self.buckets.values().sum()
    }

    /// The sum of the durations in milliseconds.
    pub fn sum_ms(&self) -> u64 {
        self.sum_ms
    }

    /// The duration that this percentage did not exceed, in milliseconds; `None` without durations.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = (self.total() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        self.buckets.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank).then(|| upper_ms(*bucket))
        })
    }

    /// How many durations were at most this long. Exact if `ms` is one less than a power of two.
    pub fn at_most(&self, ms: u64) -> u64 {
        self.buckets.iter().filter(|(bucket, _)| upper_ms(**bucket) <= ms).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(Histogram::default().percentile(50), None);
    }

    #[test]
    fn small_durations_are_distinguished() {
        let mut histogram = Histogram::default();
        (0..8).for_each(|ms| histogram.count(ms));
        assert_eq!((histogram.percentile(50), histogram.percentile(99)), (Some(3), Some(7)));
        assert_eq!((histogram.at_most(3), histogram.at_most(7), histogram.sum_ms()), (4, 8, 28));
    }

    proptest! {
        #[test]
        fn a_percentile_is_at_most_an_eighth_too_high(mut all in prop::collection::vec(0u64..1 << 40, 1..200), percent in 1u64..=100) {
            let mut histogram = Histogram::default();
            all.iter().for_each(|ms| histogram.count(*ms));
            all.sort_unstable();
            let true_one = all[(all.len() * percent as usize).div_ceil(100).max(1) - 1];
            let value = histogram.percentile(percent).unwrap();
            prop_assert!(value >= true_one && value <= true_one + true_one / 8, "{} for {}", value, true_one);
        }

        #[test]
        fn parts_add_up_to_the_whole(a in prop::collection::vec(0u64..1 << 30, 0..50), b in prop::collection::vec(0u64..1 << 30, 0..50)) {
            let of = |all: &[u64]| {
                let mut histogram = Histogram::default();
                all.iter().for_each(|ms| histogram.count(*ms));
                histogram
            };
            let mut sum = of(&a);
            sum.add(&of(&b));
            prop_assert_eq!(sum, of(&[a, b].concat()));
        }

        #[test]
        fn a_bucket_holds_what_is_counted_in_it(ms in 0u64..1 << 50) {
            let at = bucket(ms);
            prop_assert!(ms <= upper_ms(at) && (at == 0 || ms > upper_ms(at - 1)));
        }
    }
}
