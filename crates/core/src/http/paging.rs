//! Pages merged from several lists, each of which may be cut because of its size.

use crate::base::order;

/// The newest items of a list by their sort keys, the newest first.
#[derive(Debug, PartialEq, Eq)]
pub struct PagePart<T> {
    pub items: Vec<(String, T)>,
    /// The list was cut because of its size: more items follow.
    pub cut: bool,
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

/// Merges lists into one of at most `limit` items. Items older than the last one of a cut list are left for the next
/// page, as that list may have newer ones.
pub fn merged<T>(parts: Vec<PagePart<T>>, limit: usize) -> PagePart<T> {
    let last = |part: &PagePart<T>| part.items.last().map(|(key, _)| key.clone());
    let from = parts.iter().filter(|part| part.cut).filter_map(last).max();
    let cut = from.is_some();
    let mut items: Vec<(String, T)> = parts.into_iter().flat_map(|part| part.items).collect();
    if let Some(from) = from {
        items.retain(|(key, _)| *key >= from);
    }
    order::sort_by(&mut items, |(a, _), (b, _)| b.cmp(a));
    items.truncate(limit);
    PagePart { items, cut }
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
                    let cut = fits < rest.len();
                    PagePart { items: rest.into_iter().take(fits).collect(), cut }
                }).collect();
                let mut page = merged(parts, limit + 1);
                let more = page.cut || page.items.len() > limit;
                page.items.truncate(limit);
                seen.extend(page.items.iter().map(|(key, _)| key.clone()));
                if !more { break; }
                prop_assert!(!page.items.is_empty());
                before = page.items.last().map(|(key, _)| key.clone());
            }
            prop_assert_eq!(seen, all);
        }
    }
}
