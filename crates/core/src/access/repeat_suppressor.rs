//! What happens too often to be told each time: the first of a kind is told at once, what repeats is counted and
//! told once in a while, and there are never more than so many kinds.

use crate::base::time::Timestamp;

/// What is the same about things that repeat.
pub type Like = [String; 3];

struct Tally {
    like: Like,
    told_at: Timestamp,
    count: u64,
}

/// Counts of what repeats.
pub struct Gathering {
    /// What repeats is told again after this, in milliseconds.
    window_ms: u64,
    /// Kinds at a time; further ones are told as one, whose members are empty.
    most: usize,
    /// Few: looked through one by one.
    tallies: Vec<Tally>,
}

impl Gathering {
    pub const fn new(window_ms: u64, most: usize) -> Self {
        Self { window_ms, most, tallies: Vec::new() }
    }

    /// One more, or `count` that somebody else gathered: what is to be told of it now.
    pub fn add(&mut self, like: Like, count: u64, now: Timestamp) -> Option<(Like, u64)> {
        let mut like = like;
        if !self.knows(&like) && self.tallies.len() >= self.most {
            self.forget(now);
            if self.tallies.len() >= self.most {
                like = Like::default();
            }
        }
        let window_ms = self.window_ms;
        if let Some(tally) = self.tallies.iter_mut().find(|tally| tally.like == like) {
            tally.count += count;
            return tally.take(now, window_ms);
        }
        self.tallies.push(Tally { like: like.clone(), told_at: now, count: 0 });
        Some((like, count))
    }

    /// What was counted and whose time to be told has come.
    pub fn due(&mut self, now: Timestamp) -> Vec<(Like, u64)> {
        self.forget(now);
        let window_ms = self.window_ms;
        self.tallies.iter_mut().filter(|tally| tally.count > 0).filter_map(|tally| tally.take(now, window_ms)).collect()
    }

    fn knows(&self, like: &Like) -> bool {
        self.tallies.iter().any(|tally| tally.like == *like)
    }

    /// Lets go of what has nothing to tell and would be told at once if it came again.
    fn forget(&mut self, now: Timestamp) {
        let window_ms = self.window_ms;
        self.tallies.retain(|tally| tally.count > 0 || now.since(tally.told_at) < window_ms);
    }
}

impl Tally {
    fn take(&mut self, now: Timestamp, window_ms: u64) -> Option<(Like, u64)> {
        if now.since(self.told_at) < window_ms {
            return None;
        }
        self.told_at = now;
        Some((self.like.clone(), std::mem::take(&mut self.count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(text: &str) -> Like {
        [text.into(), String::new(), String::new()]
    }

    #[test]
    fn the_first_is_told_at_once_and_what_repeats_with_the_next_window() {
        let mut gathering = Gathering::new(1000, 10);
        assert_eq!(gathering.add(like("a"), 1, Timestamp(0)), Some((like("a"), 1)));
        for at in 1..100 {
            assert_eq!(gathering.add(like("a"), 1, Timestamp(at)), None);
        }
        assert_eq!(gathering.add(like("b"), 1, Timestamp(100)), Some((like("b"), 1)));
        assert_eq!(gathering.add(like("a"), 1, Timestamp(1000)), Some((like("a"), 100)));
    }

    #[test]
    fn what_was_counted_is_due_when_nothing_more_comes() {
        let mut gathering = Gathering::new(1000, 10);
        gathering.add(like("a"), 1, Timestamp(0));
        gathering.add(like("a"), 4, Timestamp(1));
        assert_eq!(gathering.due(Timestamp(999)), []);
        assert_eq!(gathering.due(Timestamp(1000)), [(like("a"), 4)]);
        assert_eq!(gathering.due(Timestamp(5000)), []);
        assert!(gathering.tallies.is_empty());
    }

    #[test]
    fn an_attacker_with_many_names_is_told_as_one() {
        let mut gathering = Gathering::new(1000, 5);
        let told: Vec<(Like, u64)> =
            (0..10_000).filter_map(|n| gathering.add(like(&n.to_string()), 1, Timestamp(n / 10))).collect();
        assert_eq!(told.len(), 6);
        assert_eq!(told.last(), Some(&(Like::default(), 1)));
        let rest: u64 = gathering.due(Timestamp(5000)).iter().map(|(_, count)| count).sum();
        assert_eq!(rest, 10_000 - 6);
        assert!(gathering.tallies.len() <= 6);
    }
}
