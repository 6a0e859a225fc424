//! Limits how often equal notifications are forwarded, without losing the last one: a server may send them as often as
//! it likes.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::time::Timestamp;

/// The notifications that were sent lately or wait.
#[derive(Debug)]
pub struct Throttle {
    interval_ms: u64,
    sent_at: BTreeMap<String, Timestamp>,
    /// Those that arrived since, to be forwarded later.
    waits: BTreeSet<String>,
}

impl Throttle {
    /// With the minimum interval between equal notifications, in milliseconds.
    pub fn new(interval_ms: u64) -> Self {
        Self { interval_ms, sent_at: BTreeMap::new(), waits: BTreeSet::new() }
    }

    /// Whether to forward this one now. If not, it is included in [`Throttle::due`] later.
    pub fn admit(&mut self, what: &str, now: Timestamp) -> bool {
        let is_soon = self.sent_at.get(what).is_some_and(|at| now.since(*at) < self.interval_ms);
        if is_soon {
            self.waits.insert(what.into());
        } else {
            self.waits.remove(what);
            self.sent_at.insert(what.into(), now);
        }
        !is_soon
    }

    /// Those that have waited long enough, or all if this is the end.
    pub fn due(&mut self, now: Timestamp, is_end: bool) -> Vec<String> {
        let (sent_at, interval_ms) = (&self.sent_at, self.interval_ms);
        let is_due = |what: &String| is_end || sent_at.get(what).is_none_or(|at| now.since(*at) >= interval_ms);
        let due: Vec<String> = self.waits.extract_if(.., is_due).collect();
        self.sent_at.extend(due.iter().map(|what| (what.clone(), now)));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_notifications_are_sent_once_a_second_and_once_at_the_end() {
        let mut throttle = Throttle::new(1_000);
        let mut sent = 0;
        for ms in 0..2_500 {
            sent += usize::from(throttle.admit("a", Timestamp(10_000 + ms)));
        }
        assert_eq!(sent, 3);
        assert!(throttle.admit("b", Timestamp(12_500)));
        assert_eq!(throttle.due(Timestamp(12_600), false), Vec::<String>::new());
        assert_eq!(throttle.due(Timestamp(13_100), false), ["a"]);
        assert_eq!(throttle.due(Timestamp(14_500), true), Vec::<String>::new());
        assert!(!throttle.admit("a", Timestamp(13_200)));
        assert_eq!(throttle.due(Timestamp(13_300), true), ["a"]);
    }
}
