//! Estimates the memory that a JSON text takes as a tree, without building the tree.
//!
//! A text of ten megabytes can become a tree of a gigabyte, and an isolate has 128 MiB in all.

/// The largest estimated size, in bytes, of a tree built from an external text.
pub const MAX_TREE_BYTES: usize = 80 * 1024 * 1024;

/// The size of a value in its parent, in bytes.
const VALUE: usize = 32;
/// The size of a map's first node, which has room for eleven members.
const OBJECT: usize = 440;
/// The initial size of an array, which has room for four items.
const LIST: usize = 4 * VALUE;

/// Estimates how many bytes this valid JSON takes as a `serde_json::Value` in WebAssembly; rather more than it does.
pub fn tree_bytes(json: &str) -> usize {
    let mut size = VALUE + json.len();
    let mut bytes = json.bytes();
    // The size of a bracket just opened, which counts only if the array or object is not empty.
    let mut opened = 0;
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => continue,
            b']' | b'}' => {
                opened = 0;
                continue;
            }
            _ => size += std::mem::take(&mut opened),
        }
        match byte {
            b'"' => skip_string(&mut bytes),
            b'{' => opened = OBJECT + VALUE,
            b'[' => opened = LIST,
            b',' => size += VALUE,
            _ => {}
        }
    }
    size
}

/// Skips to the end of a string that has begun.
fn skip_string(bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::any_json;
    use super::*;

    /// The size of a tree, computed from the tree itself.
    fn counted(value: &Value) -> usize {
        match value {
            Value::Object(members) if members.is_empty() => 0,
            Value::Object(members) => {
                OBJECT + members.iter().map(|(name, value)| VALUE + name.len() + counted(value)).sum::<usize>()
            }
            Value::Array(items) if items.is_empty() => 0,
            Value::Array(items) => (items.len() * VALUE).max(LIST) + items.iter().map(counted).sum::<usize>(),
            Value::String(text) => text.len(),
            _ => 0,
        }
    }

    #[test]
    fn a_text_that_is_mostly_one_string_is_little_more_than_that() {
        let text = format!(r#"{{"image":"{}"}}"#, r#"\"{[,"#.repeat(100_000));
        assert!(tree_bytes(&text) < text.len() + 1_000);
        assert_eq!(tree_bytes("[]"), VALUE + 2);
        assert_eq!(tree_bytes("{ }"), VALUE + 3);
    }

    #[test]
    fn ten_megabytes_of_small_objects_are_too_many() {
        let text = format!("[{}1]", r#"{"a":1},"#.repeat(1_300_000));
        assert!(tree_bytes(&text) > 6 * MAX_TREE_BYTES);
        // As many numbers as in a batch of embeddings are acceptable.
        let text = format!("[{}1]", "-0.0123456789,".repeat(700_000));
        assert!(tree_bytes(&text) < MAX_TREE_BYTES / 2);
    }

    fn tree() -> impl Strategy<Value = Value> {
        any_json::tree(any_json::leaf(), "[a-z\"]{0,4}", (4, 64, 6))
    }

    proptest! {
        #[test]
        fn it_is_never_less_than_the_tree_holds(value in tree(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert!(tree_bytes(&text) >= counted(&value), "{} of {}", tree_bytes(&text), text);
        }
    }
}
