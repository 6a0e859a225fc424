//! Sorts slices, and fills ordered collections, with little code for each type.
//!
//! The standard library's sort is compiled again for each type of item, which adds three to five kilobytes each time.
//! `collect` and `from` of a `BTreeMap`, a `BTreeSet` and a `serde_json::Map` contain it too. Here one sort of indices
//! serves all types. It allocates a little more, so a hot path may keep the standard one.

use std::cmp::Ordering;

/// Sorts stably, like [`slice::sort_by`].
pub fn sort_by<T>(items: &mut [T], mut compare: impl FnMut(&T, &T) -> Ordering) {
    let swaps = swaps(items.len(), &mut |a, b| match (items.get(a), items.get(b)) {
        (Some(a), Some(b)) => compare(a, b),
        _ => Ordering::Equal,
    });
    swap_all(items, &swaps);
}

/// Sorts stably by a key, which is computed once for each item, like [`slice::sort_by_cached_key`].
pub fn sort_by_key<T, K: Ord>(items: &mut [T], key: impl FnMut(&T) -> K) {
    let keys: Vec<K> = items.iter().map(key).collect();
    let swaps = swaps(keys.len(), &mut |a, b| keys.get(a).cmp(&keys.get(b)));
    swap_all(items, &swaps);
}

/// A map or a set of these items, inserted one by one.
pub fn insert_all<C: Default + Extend<T>, T>(items: impl IntoIterator<Item = T>) -> C {
    let mut all = C::default();
    all.extend(items);
    all
}

/// The swaps that sort items, which are compared by their index.
#[inline(never)]
fn swaps(count: usize, compare: &mut dyn FnMut(usize, usize) -> Ordering) -> Vec<(usize, usize)> {
    let mut swaps = Vec::new();
    if count < 2 {
        return swaps;
    }
    // At each place, the index of the item that belongs there.
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| compare(*a, *b));
    for start in 0..count {
        let mut at = start;
        // Each place of a cycle gets its item from the next. The last one has the item of the first by then.
        while let Some(place) = order.get_mut(at) {
            let from = std::mem::replace(place, at);
            if from == start {
                break;
            }
            swaps.push((at, from));
            at = from;
        }
    }
    swaps
}

fn swap_all<T>(items: &mut [T], swaps: &[(usize, usize)]) {
    for (a, b) in swaps {
        if let Ok([a, b]) = items.get_disjoint_mut([*a, *b]) {
            std::mem::swap(a, b);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// Items, many with equal keys, which differ in their number.
    fn items() -> impl Strategy<Value = Vec<(u8, String)>> {
        let keys = prop_oneof![prop::collection::vec(any::<u8>(), 0..300), prop::collection::vec(0_u8..6, 0..300)];
        keys.prop_map(|keys| keys.into_iter().enumerate().map(|(at, key)| (key, at.to_string())).collect())
    }

    #[test]
    fn all_orders_of_a_few_items_are_sorted() {
        for count in 0..7_usize {
            for order in 0..count.pow(u32::try_from(count).unwrap()) {
                let digits = (0..count).map(|place| order / count.pow(u32::try_from(place).unwrap()) % count);
                let mut found: Vec<(usize, usize)> = digits.enumerate().map(|(at, key)| (key, at)).collect();
                let mut expected = found.clone();
                sort_by(&mut found, |a, b| a.0.cmp(&b.0));
                expected.sort_by_key(|item| item.0);
                assert_eq!(found, expected);
            }
        }
    }

    proptest! {
        #[test]
        fn items_are_in_the_order_of_the_standard_sort(items in items()) {
            let (mut found, mut expected) = (items.clone(), items);
            sort_by(&mut found, |a, b| b.0.cmp(&a.0));
            expected.sort_by_key(|item| std::cmp::Reverse(item.0));
            prop_assert_eq!(&found, &expected);
            sort_by(&mut found, Ord::cmp);
            expected.sort();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn keys_are_computed_once(items in items()) {
            let (mut found, mut expected, mut computed) = (items.clone(), items, 0);
            sort_by_key(&mut found, |item| {
                computed += 1;
                item.0 / 2
            });
            expected.sort_by_key(|item| item.0 / 2);
            prop_assert_eq!(computed, expected.len());
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn collections_are_those_of_collect(items in items()) {
            let map: BTreeMap<u8, String> = insert_all(items.iter().cloned());
            prop_assert_eq!(map, items.iter().cloned().collect::<BTreeMap<_, _>>());
            let set: BTreeSet<u8> = insert_all(items.iter().map(|item| item.0));
            prop_assert_eq!(set, items.iter().map(|item| item.0).collect::<BTreeSet<_>>());
            let members = || items.iter().map(|(key, text)| (key.to_string(), text.as_str().into()));
            let object: serde_json::Map<String, serde_json::Value> = insert_all(members());
            prop_assert_eq!(object, members().collect::<serde_json::Map<_, _>>());
        }
    }
}
