//! What comes after what in one text: a set of live states and a character lead to one set always.

use std::collections::HashMap;
use std::rc::Rc;

/// Sets of states that are remembered for one text, and what follows them by characters beyond ASCII.
const MAX_SETS: usize = 100;
const MAX_FOLLOWERS: usize = 4_000;
/// What follows a set is not known yet; or it is the end, found.
pub const UNKNOWN: u32 = u32::MAX;
pub const FOUND: u32 = u32::MAX - 1;

/// The sets of states that were alive at places of a text, and what each becomes with a character.
#[derive(Default)]
pub struct Known {
    sets: Vec<Rc<[u32]>>,
    numbers: HashMap<Rc<[u32]>, u32>,
    by_ascii: Vec<[u32; 128]>,
    by_other: HashMap<(u32, u32), u32>,
}

impl Known {
    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    pub fn set(&self, number: u32) -> Option<Rc<[u32]>> {
        self.sets.get(number as usize).cloned()
    }

    /// A set's number; when there are too many sets, all others are forgotten for it.
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

    pub fn follower(&self, set: u32, c: u32) -> u32 {
        let known = if c < 128 {
            self.by_ascii.get(set as usize).and_then(|by| by.get(c as usize))
        } else {
            self.by_other.get(&(set, c))
        };
        known.copied().unwrap_or(UNKNOWN)
    }

    pub fn learn(&mut self, set: u32, c: u32, follower: u32) {
        if c >= 128 {
            if self.by_other.len() < MAX_FOLLOWERS {
                self.by_other.insert((set, c), follower);
            }
        } else if let Some(known) = self.by_ascii.get_mut(set as usize).and_then(|by| by.get_mut(c as usize)) {
            *known = follower;
        }
    }
}
