//! Suppresses repeated messages: the first one with a key is reported at once, repetitions are counted and reported at
//! intervals, and the number of keys is limited.

use crate::base::time::Timestamp;

/// What repetitions have in common.
pub type RepeatKey = [String; 3];

struct PendingCount {
    key: RepeatKey,
    reported_at: Timestamp,
    count: u64,
}

/// Counts repetitions by key.
pub struct RepeatSuppressor {
    /// The interval between reports for a key, in milliseconds.
    window_ms: u64,
    /// Maximum number of keys at a time; further ones are counted under an empty key.
    most: usize,
    /// Few enough for a linear search.
    counts: Vec<PendingCount>,
}

impl RepeatSuppressor {
    pub const fn new(window_ms: u64, most: usize) -> Self {
        Self { window_ms, most, counts: Vec::new() }
    }

    /// Counts one or more occurrences. Returns what must be reported now, if anything.
    pub fn add(&mut self, key: RepeatKey, count: u64, now: Timestamp) -> Option<(RepeatKey, u64)> {
        let mut key = key;
        if !self.knows(&key) && self.counts.len() >= self.most {
            self.forget(now);
            if self.counts.len() >= self.most {
                key = RepeatKey::default();
            }
        }
        let window_ms = self.window_ms;
        if let Some(pending) = self.counts.iter_mut().find(|pending| pending.key == key) {
            pending.count += count;
            return pending.take(now, window_ms);
        }
        self.counts.push(PendingCount { key: key.clone(), reported_at: now, count: 0 });
        Some((key, count))
    }

    /// The counts that must be reported now.
    pub fn due(&mut self, now: Timestamp) -> Vec<(RepeatKey, u64)> {
        self.forget(now);
        let window_ms = self.window_ms;
        self.counts
            .iter_mut()
            .filter(|pending| pending.count > 0)
            .filter_map(|pending| pending.take(now, window_ms))
            .collect()
    }

    fn knows(&self, key: &RepeatKey) -> bool {
        self.counts.iter().any(|pending| pending.key == *key)
    }

    /// Removes keys without a pending count whose interval has passed.
    fn forget(&mut self, now: Timestamp) {
        let window_ms = self.window_ms;
        self.counts.retain(|pending| pending.count > 0 || now.since(pending.reported_at) < window_ms);
    }
}

impl PendingCount {
    fn take(&mut self, now: Timestamp, window_ms: u64) -> Option<(RepeatKey, u64)> {
        if now.since(self.reported_at) < window_ms {
            return None;
        }
        self.reported_at = now;
        Some((self.key.clone(), std::mem::take(&mut self.count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> RepeatKey {
        [text.into(), String::new(), String::new()]
    }

    #[test]
    fn the_first_is_reported_at_once_and_repetitions_with_the_next_window() {
        let mut suppressor = RepeatSuppressor::new(1000, 10);
        assert_eq!(suppressor.add(key("a"), 1, Timestamp(0)), Some((key("a"), 1)));
        for at in 1..100 {
            assert_eq!(suppressor.add(key("a"), 1, Timestamp(at)), None);
        }
        assert_eq!(suppressor.add(key("b"), 1, Timestamp(100)), Some((key("b"), 1)));
        assert_eq!(suppressor.add(key("a"), 1, Timestamp(1000)), Some((key("a"), 100)));
    }

    #[test]
    fn what_was_counted_is_due_when_nothing_more_comes() {
        let mut suppressor = RepeatSuppressor::new(1000, 10);
        suppressor.add(key("a"), 1, Timestamp(0));
        suppressor.add(key("a"), 4, Timestamp(1));
        assert_eq!(suppressor.due(Timestamp(999)), []);
        assert_eq!(suppressor.due(Timestamp(1000)), [(key("a"), 4)]);
        assert_eq!(suppressor.due(Timestamp(5000)), []);
        assert!(suppressor.counts.is_empty());
    }

    #[test]
    fn an_attacker_with_many_names_is_reported_once() {
        let mut suppressor = RepeatSuppressor::new(1000, 5);
        let reported: Vec<(RepeatKey, u64)> =
            (0..10_000).filter_map(|n| suppressor.add(key(&n.to_string()), 1, Timestamp(n / 10))).collect();
        assert_eq!(reported.len(), 6);
        assert_eq!(reported.last(), Some(&(RepeatKey::default(), 1)));
        let rest: u64 = suppressor.due(Timestamp(5000)).iter().map(|(_, count)| count).sum();
        assert_eq!(rest, 10_000 - 6);
        assert!(suppressor.counts.len() <= 6);
    }
}
