//! A cache of transitions: the same set of states and character always lead to the same set.

use std::collections::HashMap;
use std::rc::Rc;

/// How many sets the cache holds before it is emptied.
const MAX_SETS: usize = 100;
/// How many transitions by characters beyond ASCII the cache holds; further ones are not recorded.
const MAX_TRANSITIONS: usize = 4_000;
/// In place of the number of a set: the transition is not in the cache.
pub const UNKNOWN: u32 = u32::MAX;
/// In place of the number of a set: the pattern has matched.
pub const FOUND: u32 = u32::MAX - 1;

/// The sets of states that were live somewhere in one text, and the set that each character leads to from them.
#[derive(Default)]
pub struct TransitionCache {
    sets: Vec<Rc<[u32]>>,
    numbers: HashMap<Rc<[u32]>, u32>,
    by_ascii: Vec<[u32; 128]>,
    by_other: HashMap<(u32, u32), u32>,
}

impl TransitionCache {
    /// How many sets the cache holds.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// The states of a set.
    pub fn set(&self, number: u32) -> Option<Rc<[u32]>> {
        self.sets.get(number as usize).cloned()
    }

    /// The number of a set, which is added if it is new. If the cache is full, this empties it first.
    pub fn number(&mut self, set: &[u32]) -> u32 {
        if let Some(number) = self.numbers.get(set) {
            return *number;
        }
        if self.sets.len() >= MAX_SETS {
            *self = Self::default();
        }
        let (number, set): (u32, Rc<[u32]>) = (self.sets.len() as u32, set.into());
        self.sets.push(set.clone());
        self.numbers.insert(set, number);
        self.by_ascii.push([UNKNOWN; 128]);
        number
    }

    /// The number of the set that a character leads to, [`FOUND`], or [`UNKNOWN`].
    pub fn next(&self, set: u32, c: u32) -> u32 {
        let next = if c < 128 {
            self.by_ascii.get(set as usize).and_then(|by| by.get(c as usize))
        } else {
            self.by_other.get(&(set, c))
        };
        next.copied().unwrap_or(UNKNOWN)
    }

    /// Records the set that a character leads to.
    pub fn insert(&mut self, set: u32, c: u32, next: u32) {
        if c >= 128 {
            if self.by_other.len() < MAX_TRANSITIONS {
                self.by_other.insert((set, c), next);
            }
        } else if let Some(transition) = self.by_ascii.get_mut(set as usize).and_then(|by| by.get_mut(c as usize)) {
            *transition = next;
        }
    }
}
