//! Entity tags in conditional requests (RFC 9110 §8.8.3, §13.1). The gateway's tags are version numbers.
//!
//! A proxy that compresses a response changes its tag: to a weak one by the standard, as nginx and Cloudflare do, or by
//! a suffix, as Apache does. Clients send back the changed tag. As a tag identifies a version and not bytes, all of
//! these are the same tag.

use crate::base::version::VersionNumber;

/// The suffixes that compressing proxies append, after a dash or a semicolon.
const CODINGS: [&str; 4] = ["gzip", "br", "deflate", "zstd"];

/// The tag as it was issued.
fn original(tag: &str) -> &str {
    let coded = CODINGS.iter().find_map(|coding| tag.strip_suffix(coding));
    let bare = coded.map(|rest| rest.trim_end_matches(['-', ';'])).filter(|bare| coded != Some(*bare));
    bare.unwrap_or(tag)
}

/// The opaque parts of a list of entity tags; `None` if it is malformed.
fn tags(list: &str) -> Option<Vec<&str>> {
    let blank = |c: char| matches!(c, ' ' | '\t');
    let (mut tags, mut rest) = (Vec::new(), list.trim_matches(blank));
    while !rest.is_empty() {
        // Elements may be empty (RFC 9110 §5.6.1).
        if let Some(after) = rest.strip_prefix(',') {
            rest = after.trim_start_matches(blank);
            continue;
        }
        let quoted = rest.strip_prefix("W/").unwrap_or(rest);
        let (tag, after) = quoted.strip_prefix('"')?.split_once('"')?;
        tags.push(original(tag));
        rest = after.trim_start_matches(blank);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
    (!tags.is_empty()).then_some(tags)
}

/// The versions in a list of entity tags; `None` if it is malformed. A foreign tag is [`VersionNumber::FOREIGN`].
pub fn versions(list: &str) -> Option<Vec<VersionNumber>> {
    // For writes only the configuration counts. The part after the dot is the observed status.
    let version = |tag: &str| {
        let configured = tag.split_once('.').map_or(tag, |(configured, _)| configured);
        VersionNumber::parse(configured).unwrap_or(VersionNumber::FOREIGN)
    };
    tags(list).map(|tags| tags.into_iter().map(version).collect())
}

/// Whether a list of entity tags, or `*`, contains this tag, given with its quotes (RFC 9110 §13.1.2).
pub fn has(list: &str, tag: &str) -> bool {
    let tag = tag.trim_matches('"');
    list.trim() == "*" || tags(list).is_some_and(|tags| tags.contains(&tag))
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
            ("W/\"3\"", vec![3]),
            ("W/\"3.17\", \"5\"", vec![3, 5]),
            ("\"3-gzip\", W/\"4--gzip\", \"5.9;br\",\"6-zstd\"", vec![3, 4, 5, 6]),
            ("\"3gzip\", \"-gzip\", \"3-lzma\"", vec![0, 0, 0]),
            ("\"3\", \"4\" ,\t\"5\"", vec![3, 4, 5]),
            (",\"3\",,\"4\",", vec![3, 4]),
            ("\"a,b\",\"7\"", vec![0, 7]),
            ("\"\"", vec![0]),
            ("\"-1\",\"+1\"", vec![0, 0]),
        ] {
            let number = |number: u64| VersionNumber::parse(&number.to_string()).unwrap();
            assert_eq!(versions(list), Some(expected.into_iter().map(number).collect()), "{list}");
        }
        for list in ["", ",", "3", "\"3", "3\"", "\"3\"\"4\"", "\"3\" \"4\"", "W/3", "w/\"3\"", "*, \"3\""] {
            assert_eq!(versions(list), None, "{list}");
        }
    }

    #[test]
    fn a_tag_that_a_proxy_has_changed_is_still_known() {
        for list in ["*", "\"3.17\"", "W/\"3.17\"", "\"1\", W/\"3.17\"", "\"3.17-gzip\"", "W/\"3.17;br\""] {
            assert!(has(list, "\"3.17\""), "{list}");
        }
        for list in ["", "\"3\"", "\"3.1\"", "3.17", "\"3.17", "\"3.17-lzma\""] {
            assert!(!has(list, "\"3.17\""), "{list}");
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
            let _ = (versions(&text), has(&text, "\"1\""));
        }
    }
}
