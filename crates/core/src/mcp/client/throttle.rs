//! What is told at most once in a while, and the last of it all the same: a server may say it as often as it likes.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::time::Timestamp;

/// The same is told at most so often, in milliseconds.
const PACE_MS: u64 = 1_000;

#[derive(Debug, Default)]
pub struct Paced {
    told_at: BTreeMap<String, Timestamp>,
    /// What was said since, and is told later.
    waits: BTreeSet<String>,
}

impl Paced {
    /// Whether this is told now. If not, it is told with what is [`Paced::due`] later.
    pub fn says(&mut self, what: &str, now: Timestamp) -> bool {
        let is_soon = self.told_at.get(what).is_some_and(|at| now.since(*at) < PACE_MS);
        if is_soon {
            self.waits.insert(what.into());
        } else {
            self.waits.remove(what);
            self.told_at.insert(what.into(), now);
        }
        !is_soon
    }

    /// What has waited for long enough; all that waits, where this is the end.
    pub fn due(&mut self, now: Timestamp, is_end: bool) -> Vec<String> {
        let told_at = &self.told_at;
        let is_due = |what: &String| is_end || told_at.get(what).is_none_or(|at| now.since(*at) >= PACE_MS);
        let due: Vec<String> = self.waits.extract_if(.., is_due).collect();
        self.told_at.extend(due.iter().map(|what| (what.clone(), now)));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_a_second_and_once_at_the_end() {
        let mut paced = Paced::default();
        let mut told = 0;
        for ms in 0..2_500 {
            told += usize::from(paced.says("a", Timestamp(10_000 + ms)));
        }
        assert_eq!(told, 3);
        assert!(paced.says("b", Timestamp(12_500)));
        assert_eq!(paced.due(Timestamp(12_600), false), Vec::<String>::new());
        assert_eq!(paced.due(Timestamp(13_100), false), ["a"]);
        assert_eq!(paced.due(Timestamp(14_500), true), Vec::<String>::new());
        assert!(!paced.says("a", Timestamp(13_200)));
        assert_eq!(paced.due(Timestamp(13_300), true), ["a"]);
    }
}
