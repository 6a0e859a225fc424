//! A cache with a limit: the entry that was used the longest time ago makes room first.

use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
struct Kept<V> {
    value: V,
    size: usize,
    used: u64,
}

#[derive(Debug)]
pub struct Lru<K, V> {
    entries: HashMap<K, Kept<V>>,
    limit: usize,
    size: usize,
    uses: u64,
}

impl<K: Hash + Eq + Clone, V> Lru<K, V> {
    /// `limit`: of the sizes of all entries.
    pub fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), limit, size: 0, uses: 0 }
    }

    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.uses += 1;
        let kept = self.entries.get_mut(key)?;
        kept.used = self.uses;
        Some(&kept.value)
    }

    /// Adds or replaces an entry. One that is larger than the limit stays until the next one is added.
    pub fn insert(&mut self, key: K, value: V, size: usize) {
        self.remove(&key);
        while !self.entries.is_empty() && self.size + size > self.limit {
            let oldest = self.entries.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.remove(&oldest);
        }
        self.uses += 1;
        self.size += size;
        self.entries.insert(key, Kept { value, size, used: self.uses });
    }

    /// Adds or replaces an entry only if no other one must make room for it.
    pub fn insert_if_room(&mut self, key: K, value: V, size: usize) {
        let replaced = self.entries.get(&key).map_or(0, |kept| kept.size);
        if self.size - replaced + size <= self.limit {
            self.insert(key, value, size);
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some(kept) = self.entries.remove(key) {
            self.size -= kept.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn kept(cache: &mut Lru<u8, u8>) -> BTreeSet<u8> {
        cache.entries.keys().copied().collect()
    }

    #[test]
    fn what_was_used_least_recently_makes_room() {
        let mut cache = Lru::new(10);
        for key in 1..=3 {
            cache.insert(key, key, 3);
        }
        assert_eq!(cache.get(&1), Some(&1));
        cache.insert(4, 4, 3);
        assert_eq!(kept(&mut cache), BTreeSet::from([1, 3, 4]));
        assert_eq!(cache.get(&2), None);
        cache.insert(1, 9, 1);
        cache.insert(5, 5, 3);
        assert_eq!(kept(&mut cache), BTreeSet::from([1, 3, 4, 5]));
        assert_eq!(cache.get(&1), Some(&9));
    }

    #[test]
    fn an_entry_that_need_not_be_kept_displaces_nothing() {
        let mut cache = Lru::new(10);
        cache.insert(1, 1, 6);
        cache.insert_if_room(2, 2, 5);
        cache.insert_if_room(3, 3, 4);
        cache.insert_if_room(1, 9, 7);
        assert_eq!((kept(&mut cache), cache.get(&1)), (BTreeSet::from([1, 3]), Some(&1)));
        cache.insert_if_room(1, 9, 5);
        assert_eq!((kept(&mut cache), cache.get(&1)), (BTreeSet::from([1, 3]), Some(&9)));
    }

    #[test]
    fn a_single_entry_may_be_too_large() {
        let mut cache = Lru::new(10);
        cache.insert(1, 1, 30);
        assert_eq!(cache.get(&1), Some(&1));
        cache.insert(2, 2, 1);
        assert_eq!(kept(&mut cache), BTreeSet::from([2]));
    }

    proptest! {
        #[test]
        fn the_limit_holds(uses in proptest::collection::vec((0..20u8, 0..5usize, any::<bool>()), 0..200)) {
            let mut cache = Lru::new(12);
            for (key, size, inserts) in uses {
                if inserts {
                    cache.insert(key, key, size);
                    prop_assert_eq!(cache.get(&key), Some(&key));
                } else {
                    cache.get(&key);
                }
                prop_assert!(cache.size <= 12);
                prop_assert_eq!(cache.size, cache.entries.values().map(|kept| kept.size).sum::<usize>());
            }
        }
    }
}
