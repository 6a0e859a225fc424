//! The position of an event log: the sequence of the next event, and how far each publisher's events are in it.
//!
//! A publisher repeats a batch until it learns that the log has it, and may by then have added to it: only what is new
//! is appended. Each event gets the next sequence, without gaps.

use std::collections::BTreeMap;

use super::sequence::Sequence;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPosition {
    next: Sequence,
    /// The last number of each publisher.
    heads: BTreeMap<String, u64>,
}

/// The part of a batch that is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewPart {
    None,
    All,
    /// What has a number above this: the rest was appended before, and the reply was lost.
    After(u64),
}

impl Default for LogPosition {
    /// Of an empty log.
    fn default() -> Self {
        Self { next: Sequence::FIRST, heads: BTreeMap::new() }
    }
}

impl LogPosition {
    /// As the newest row of the log has it.
    pub fn restore(first: Sequence, count: u64, heads: BTreeMap<String, u64>) -> Self {
        Self { next: first.plus(count), heads }
    }

    /// The sequence of the next event.
    pub fn next(&self) -> Sequence {
        self.next
    }

    /// The sequence of the last event.
    pub fn last(&self) -> Sequence {
        self.next.previous()
    }

    /// The last number received from a publisher.
    pub fn head(&self, publisher: &str) -> u64 {
        self.heads.get(publisher).copied().unwrap_or(0)
    }

    pub fn heads(&self) -> &BTreeMap<String, u64> {
        &self.heads
    }

    /// What is new of a batch with these numbers.
    pub fn new_part(&self, publisher: &str, first: u64, last: u64) -> NewPart {
        let known = self.head(publisher);
        match (last <= known, first > known) {
            (true, _) => NewPart::None,
            (false, true) => NewPart::All,
            (false, false) => NewPart::After(known),
        }
    }

    /// The position after a publisher's events up to `last`, which are `count`.
    pub fn after(&self, publisher: &str, last: u64, count: u64) -> Self {
        let mut heads = self.heads.clone();
        heads.insert(publisher.into(), last);
        Self { next: self.next.plus(count), heads }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_new_part_of_a_batch_is_appended() {
        let position = LogPosition::default().after("a", 5, 5);
        let part = |first, last| position.new_part("a", first, last);
        assert_eq!(
            [part(1, 5), part(4, 5), part(6, 9), part(4, 9)],
            [NewPart::None, NewPart::None, NewPart::All, NewPart::After(5)]
        );
        assert_eq!(position.new_part("b", 1, 5), NewPart::All);
    }

    proptest! {
        /// Batches of several publishers, repeated and extended in any way, and a restart at any time: each number is
        /// appended once, and the sequences have no gaps.
        #[test]
        fn each_event_is_appended_once(steps in prop::collection::vec((0..3usize, 0..4u64, 0..3u64, any::<bool>()), 0..60)) {
            let mut position = LogPosition::default();
            let mut numbers = [0u64; 3];
            let mut appended: Vec<(usize, u64)> = Vec::new();
            for (publisher, repeated, new, restarts) in steps {
                let name = publisher.to_string();
                // It repeats its last numbers, and adds to them.
                let first = numbers[publisher].saturating_sub(repeated) + 1;
                numbers[publisher] += new;
                let last = numbers[publisher];
                let known = match position.new_part(&name, first, last) {
                    NewPart::None => continue,
                    NewPart::All => first - 1,
                    NewPart::After(known) => known,
                };
                let count = last - known;
                let row = position.next();
                position = position.after(&name, last, count);
                appended.extend((known + 1..=last).map(|number| (publisher, number)));
                if restarts {
                    position = LogPosition::restore(row, count, position.heads().clone());
                }
            }
            prop_assert_eq!(position.last(), Sequence::FIRST.plus(appended.len() as u64).previous());
            for (publisher, all) in numbers.into_iter().enumerate() {
                let own: Vec<u64> = appended.iter().filter(|(by, _)| *by == publisher).map(|(_, number)| *number).collect();
                prop_assert_eq!(own, (1..=all).collect::<Vec<_>>());
                prop_assert_eq!(position.head(&publisher.to_string()), all);
            }
        }
    }
}
