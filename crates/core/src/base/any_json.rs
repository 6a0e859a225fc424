//! Strategies for JSON values in property tests.

use proptest::prelude::*;
use serde_json::Value;

/// Trees of at most `levels` levels and about `parts` values, with fewer than `most` items or members in each array or
/// object. `names` is the pattern of member names.
pub fn tree(
    leaf: impl Strategy<Value = Value> + 'static,
    names: &'static str,
    (levels, parts, most): (u32, u32, usize),
) -> impl Strategy<Value = Value> {
    leaf.prop_recursive(levels, parts, u32::try_from(most).unwrap_or(u32::MAX), move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..most).prop_map(Value::from),
            prop::collection::btree_map(names, inner, 0..most)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Leaves whose strings contain every character that has a meaning in JSON.
pub fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        r#"[a-z"\\{}\[\],: ]{0,8}"#.prop_map(Value::from)
    ]
}
