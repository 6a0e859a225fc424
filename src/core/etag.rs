//! Entity tags in a condition (RFC 9110 §8.8.3, §13.1.1): here they are version numbers.

/// The versions a list of entity tags names; nothing when it is no such list. A weak tag never matches, nor one that is
/// none of ours: both are version 0.
pub fn versions(list: &str) -> Option<Vec<u64>> {
    let blank = |c: char| matches!(c, ' ' | '\t');
    let (mut versions, mut rest) = (Vec::new(), list.trim_matches(blank));
    while !rest.is_empty() {
        // Elements may be empty (RFC 9110 §5.6.1).
        if let Some(after) = rest.strip_prefix(',') {
            rest = after.trim_start_matches(blank);
            continue;
        }
        let strong = rest.strip_prefix("W/").unwrap_or(rest);
        let (tag, after) = strong.strip_prefix('"')?.split_once('"')?;
        // Only what is configured counts for a write; what is measured stands behind the dot.
        let version = tag.split_once('.').map_or(tag, |(configured, _)| configured).parse().unwrap_or(0);
        versions.push(if strong.len() == rest.len() { version } else { 0 });
        rest = after.trim_start_matches(blank);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
    (!versions.is_empty()).then_some(versions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tags_of_ours_are_versions_and_others_match_nothing() {
        for (list, expected) in [
            ("\"3\"", vec![3]),
            ("\"3.17\"", vec![3]),
            ("W/\"3\"", vec![0]),
            ("\"3\", \"4\" ,\t\"5\"", vec![3, 4, 5]),
            (",\"3\",,\"4\",", vec![3, 4]),
            ("\"a,b\",\"7\"", vec![0, 7]),
            ("\"\"", vec![0]),
            ("\"-1\"", vec![0]),
        ] {
            assert_eq!(versions(list), Some(expected), "{list}");
        }
        for list in ["", ",", "3", "\"3", "3\"", "\"3\"\"4\"", "\"3\" \"4\"", "W/3", "w/\"3\"", "*, \"3\""] {
            assert_eq!(versions(list), None, "{list}");
        }
    }

    proptest! {
        #[test]
        fn any_list_is_read_as_it_was_written(tags in prop::collection::vec("[!#-~]{0,6}", 1..6), gap in "[ \t]{0,2},[ \t]{0,2}") {
            let list = tags.iter().map(|tag| format!("\"{tag}\"")).collect::<Vec<_>>().join(&gap);
            prop_assert_eq!(versions(&list).map(|versions| versions.len()), Some(tags.len()));
        }

        #[test]
        fn any_text_may_be_tried(text in "\\PC{0,30}") {
            let _ = versions(&text);
        }
    }
}
