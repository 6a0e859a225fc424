//! The parts of a JSON text and their places. The text must have passed `json::check`.

use std::borrow::Cow;

/// A member of an object, in its original spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'t> {
    /// The name without escapes.
    pub name: Cow<'t, str>,
    /// The name as written, with its quotes.
    pub key: &'t str,
    pub value: &'t str,
}

/// The place after the string that begins at `at`.
pub fn after_string(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    at
}

/// The place of the next of these characters after `at`, outside strings, arrays and objects.
fn before(bytes: &[u8], mut at: usize, signs: &[u8]) -> usize {
    let mut depth = 0usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = after_string(bytes, at);
                continue;
            }
            sign if depth == 0 && signs.contains(sign) => return at,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    at
}

/// The members of an object in their order. `None` if the text is not an object.
pub fn members(text: &str) -> Option<Vec<Member<'_>>> {
    let inside = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let (bytes, mut at, mut members) = (inside.as_bytes(), 0, Vec::new());
    while at < bytes.len() {
        let colon = before(bytes, at, b":");
        let end = before(bytes, colon + 1, b",");
        let key = inside.get(at..colon)?.trim();
        members.push(Member { name: serde_json::from_str(key).ok()?, key, value: inside.get(colon + 1..end)?.trim() });
        at = end + 1;
    }
    Some(members)
}

/// The items of a list in their order. `None` if the text is not a list.
pub fn items(text: &str) -> Option<Vec<&str>> {
    let inside = text.trim().strip_prefix('[')?.strip_suffix(']')?.trim();
    let (bytes, mut at, mut items) = (inside.as_bytes(), 0, Vec::new());
    while at < bytes.len() {
        let end = before(bytes, at, b",");
        items.push(inside.get(at..end)?.trim());
        at = end + 1;
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::super::any_json;
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn members_keep_their_spelling() {
        let text = r#" { "a" : [1, {"b,":2}] , "\u0041:" : "x,}\"" ,"n":1.10} "#;
        let read = members(text).unwrap();
        let parts: Vec<_> = read.iter().map(|member| (&*member.name, member.key, member.value)).collect();
        assert_eq!(
            parts,
            [("a", "\"a\"", "[1, {\"b,\":2}]"), ("A:", "\"\\u0041:\"", "\"x,}\\\"\""), ("n", "\"n\"", "1.10")]
        );
        assert_eq!(members("{ }"), Some(Vec::new()));
        assert_eq!(members("[1]"), None);
    }

    #[test]
    fn items_keep_their_spelling() {
        assert_eq!(
            items(r#" [ 1.10 , "a,]" ,{"b":[2,3]}, []] "#),
            Some(vec!["1.10", "\"a,]\"", r#"{"b":[2,3]}"#, "[]"])
        );
        assert_eq!(items("[ ]"), Some(Vec::new()));
        assert_eq!(items("{}"), None);
    }

    fn tree() -> impl Strategy<Value = Value> {
        any_json::tree(any_json::leaf(), "[a-z\"\\\\:,]{0,4}", (4, 32, 5))
    }

    proptest! {
        #[test]
        fn they_are_all_found(value in tree(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let read = members(&text).map(|members| {
                let each = members.iter().map(|one| (one.name.to_string(), serde_json::from_str(one.value).unwrap()));
                Value::Object(each.collect())
            });
            prop_assert_eq!(read, value.is_object().then_some(value));
        }
    }
}
