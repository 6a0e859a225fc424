//! What fuzz targets share: taking an input apart, and what must hold for every JSON text.

use serde_json::Value;

/// Stands between the parts of an input, as it is in no UTF-8 text.
const BETWEEN: u8 = 0xff;

/// An input as one text.
pub fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

/// An input as two texts; the second is empty when there is one only.
pub fn two_texts(input: &[u8]) -> Option<(&str, &str)> {
    let mut parts = input.splitn(2, |byte| *byte == BETWEEN);
    Some((text(parts.next()?)?, text(parts.next().unwrap_or_default())?))
}

/// The input as three parts; those that are missing are empty.
pub fn three_parts(input: &[u8]) -> [&[u8]; 3] {
    let mut parts = input.splitn(3, |byte| *byte == BETWEEN);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// A text that `json::check` accepts, as a tree. Another parser has to accept it too.
pub fn tree(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("serde_json refuses {text:?}: {error}"))
}

/// A fault's pointer, as clients get it: a fragment whose tokens are escaped (RFC 6901 §3, §6).
pub fn assert_pointer(pointer: &str) {
    let tokens = pointer.strip_prefix('#').unwrap_or_else(|| panic!("{pointer:?} is not a fragment"));
    assert!(tokens.is_empty() || tokens.starts_with('/'), "{pointer:?}");
    let escapes = tokens.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    assert!(escapes, "{pointer:?} has a tilde that is not escaped");
}
