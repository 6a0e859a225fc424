//! Lists of entity tags: each tag is found in a list that has it, and gives one version.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::http::etag::{has, versions};
use narthex_fuzz::two_texts;

fuzz_target!(|input: &[u8]| {
    let Some((list, tag)) = two_texts(input) else { return };
    let read = versions(list);
    assert!(read.as_ref().is_none_or(|all| !all.is_empty() && 2 * all.len() <= list.len()));
    assert!(read.is_some() || list.trim() == "*" || !has(list, "\"1\""));
    if tag.contains('"') {
        return;
    }
    for (before, after) in [("", ""), ("W/", ""), ("", ",\"1\""), ("\t,", " ,")] {
        let with = format!("{before}\"{tag}\"{after}");
        assert!(versions(&with).is_some(), "{with:?}");
    }
    let plain = tag.bytes().all(|byte| byte.is_ascii_digit()) && !tag.is_empty();
    if plain {
        assert!(has(&format!("\"x\", W/\"{tag}-gzip\""), &format!("\"{tag}\"")));
        let read = versions(&format!("\"{tag}.5\"")).unwrap_or_default();
        let read: Vec<String> = read.iter().map(ToString::to_string).collect();
        assert_eq!(read, [tag.parse::<u64>().unwrap_or(0).to_string()]);
    }
});
