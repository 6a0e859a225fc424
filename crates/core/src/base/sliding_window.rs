//! Two counters over a sliding window of ten slots.

use super::time::Timestamp;

const SLOTS: u64 = 10;

/// Counts over the last `10 × SLOT_MS` milliseconds, accurate to one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlidingWindow<const SLOT_MS: u64> {
    /// The number of the current slot, counted from 1970.
    slot: u64,
    counts: [(u32, u32); SLOTS as usize],
}

impl<const SLOT_MS: u64> SlidingWindow<SLOT_MS> {
    /// Empties the slots that have expired. If the clock goes back, the newest slot is used.
    fn turn_to(&mut self, now: Timestamp) {
        let slot = now.0 / SLOT_MS;
        let passed = slot.saturating_sub(self.slot);
        for step in 1..=passed.min(SLOTS) {
            if let Some(counts) = self.counts.get_mut(((self.slot + step) % SLOTS) as usize) {
                *counts = (0, 0);
            }
        }
        if passed >= SLOTS {
            self.counts = Default::default();
        }
        self.slot = self.slot.max(slot);
    }

    /// Adds to the two counters.
    pub fn add(&mut self, now: Timestamp, first: u64, second: u64) {
        self.turn_to(now);
        if let Some((one, other)) = self.counts.get_mut((self.slot % SLOTS) as usize) {
            *one = one.saturating_add(u32::try_from(first).unwrap_or(u32::MAX));
            *other = other.saturating_add(u32::try_from(second).unwrap_or(u32::MAX));
        }
    }

    /// The sums of the two counters over the window.
    pub fn sums(&mut self, now: Timestamp) -> (u64, u64) {
        self.turn_to(now);
        self.counts
            .iter()
            .fold((0, 0), |(first, second), (one, other)| (first + u64::from(*one), second + u64::from(*other)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn only_counts_within_the_window_remain(
            times in prop::collection::vec(0u64..60_000, 0..50), now in 60_000u64..90_000,
        ) {
            let mut window = SlidingWindow::<1000>::default();
            let mut times = times;
            times.sort_unstable();
            for time in &times {
                window.add(Timestamp(*time), 1, 2);
            }
            let (one, other) = window.sums(Timestamp(now));
            let within = |ms: u64| times.iter().filter(|time| now - **time < ms).count() as u64;
            prop_assert!(within(9_000) <= one && one <= within(10_000), "{one} of {times:?} at {now}");
            prop_assert_eq!(other, 2 * one);
        }
    }
}
