//! A merge patch does what the pseudocode of RFC 7396 §2 does, and a second time nothing more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::base::json::{MAX_DEPTH, check};
use narthex_core::http::merge_patch::merged;
use narthex_fuzz::{tree, two_texts};
use serde_json::{Map, Value};

fn by_the_rfc(target: Option<Value>, patch: Value) -> Value {
    let Value::Object(patch) = patch else { return patch };
    let mut target = match target {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    };
    for (name, value) in patch {
        let known = target.remove(&name);
        if !value.is_null() {
            target.insert(name, by_the_rfc(known, value));
        }
    }
    target.into()
}

fuzz_target!(|input: &[u8]| {
    let Some((document, patch)) = two_texts(input) else { return };
    let (Ok(document), Ok(patch)) = (check(document.as_bytes(), MAX_DEPTH), check(patch.as_bytes(), MAX_DEPTH)) else {
        return;
    };
    let once = merged(document, patch);
    assert!(check(once.as_bytes(), MAX_DEPTH).is_ok(), "{once:?}");
    assert_eq!(tree(&once), by_the_rfc(Some(tree(document)), tree(patch)));
    assert!(once.len() <= document.len() + patch.len());
    assert_eq!(merged(&once, patch), once);
});
