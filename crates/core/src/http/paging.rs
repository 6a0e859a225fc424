//! Pages merged from several lists, each of which may be cut because of its size.

use crate::base::order;

/// The newest items of a list by their sort keys, the newest first.
#[derive(Debug, PartialEq, Eq)]
pub struct PagePart<T> {
    pub items: Vec<(String, T)>,
    /// The list was cut because of its size, or of what it would have taken to go on: it is complete down to this sort
    /// key, and more items may follow.
    pub complete_to: Option<String>,
}

/// How many of the first items fit within the bound together; at least one.
pub fn fitting(sizes: &[u64], most: u64) -> usize {
    let mut sum = 0_u64;
    let fits = sizes.iter().take_while(|size| {
        sum = sum.saturating_add(**size);
        sum <= most
    });
    fits.count().max(1).min(sizes.len())
}

/// Merges lists into one. Items beyond the end of a cut list are left for the next page, as that list may have newer
/// ones.
pub fn merged<T>(parts: Vec<PagePart<T>>) -> PagePart<T> {
    let complete_to = parts.iter().filter_map(|part| part.complete_to.clone()).max();
    let mut items: Vec<(String, T)> = parts.into_iter().flat_map(|part| part.items).collect();
    if let Some(complete_to) = &complete_to {
        items.retain(|(key, _)| key >= complete_to);
    }
    order::sort_by(&mut items, |(a, _), (b, _)| b.cmp(a));
    PagePart { items, complete_to }
}

impl<T> PagePart<T> {
    /// A page of at most `limit` items, and where the next one begins: before this sort key.
    pub fn page(mut self, limit: usize) -> (Vec<T>, Option<String>) {
        let next = match self.items.len() > limit {
            true => limit.checked_sub(1).and_then(|last| self.items.get(last)).map(|(key, _)| key.clone()),
            false => self.complete_to,
        };
        self.items.truncate(limit);
        (self.items.into_iter().map(|(_, item)| item).collect(), next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_item_fits_however_large_it_is() {
        assert_eq!(fitting(&[], 10), 0);
        assert_eq!(fitting(&[11, 1], 10), 1);
        assert_eq!(fitting(&[4, 6, 1], 10), 2);
        assert_eq!(fitting(&[4, 5, 1], 10), 3);
    }

    proptest! {
        /// The pages contain every item once and in order, however the lists are cut.
        #[test]
        fn pages_of_parts_are_the_whole(
            sizes in prop::collection::vec(prop::collection::vec(1_u64..30, 0..12), 1..5),
            limit in 1_usize..8,
            most in 1_u64..60,
        ) {
            // Keys of all lists are interleaved.
            let lists: Vec<Vec<(String, u64)>> = sizes.iter().enumerate().map(|(list, sizes)| {
                let keyed = sizes.iter().enumerate().map(|(at, size)| (format!("{:03}-{list}", (at * 7 + list * 3) % 50), *size));
                let mut keyed: Vec<(String, u64)> = keyed.collect();
                keyed.sort_by(|a, b| b.0.cmp(&a.0));
                keyed
            }).collect();
            let mut all: Vec<String> = lists.iter().flatten().map(|(key, _)| key.clone()).collect();
            all.sort_by(|a, b| b.cmp(a));
            let (mut seen, mut before): (Vec<String>, Option<String>) = (Vec::new(), None);
            for _ in 0..=all.len() {
                let parts = lists.iter().map(|list| {
                    let rest = list.iter().filter(|(key, _)| before.as_ref().is_none_or(|before| key < before));
                    let rest: Vec<(String, u64)> = rest.take(limit + 1).cloned().collect();
                    let fits = fitting(&rest.iter().map(|(_, size)| *size).collect::<Vec<_>>(), most);
                    let items: Vec<(String, u64)> = rest.iter().take(fits).cloned().collect();
                    // A list may also give up before it has found anything.
                    let gives_up = most % 5 == 0 && !rest.is_empty();
                    let items = if gives_up { items.into_iter().take(1).collect() } else { items };
                    let complete_to = items.last().filter(|_| items.len() < rest.len()).map(|(key, _)| key.clone());
                    PagePart { items, complete_to }
                }).collect();
                let merged = merged(parts);
                let keyed = PagePart {
                    items: merged.items.into_iter().map(|(key, _)| (key.clone(), key)).collect(),
                    complete_to: merged.complete_to,
                };
                let (page, next) = keyed.page(limit);
                prop_assert!(page.len() <= limit);
                seen.extend(page);
                if next.is_none() { break; }
                prop_assert!(before.is_none() || next < before);
                before = next;
            }
            prop_assert_eq!(seen, all);
        }
    }
}
