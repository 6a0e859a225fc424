//! Merge patches (RFC 7396) on texts: members that a patch does not name stay byte for byte, and in place.

use std::collections::{HashMap, HashSet};

use crate::base::json_parts::{Member, members};

/// The document after the patch. Both texts must have passed `json::check`, which limits their depth.
pub fn merged(document: &str, patch: &str) -> String {
    let mut written = String::with_capacity(document.len() + patch.len());
    merge(Some(document), patch, &mut written);
    written
}

fn merge(document: Option<&str>, patch: &str, written: &mut String) {
    let Some(changes) = members(patch) else {
        written.push_str(patch.trim());
        return;
    };
    // A value other than an object is replaced; nulls in the patch then have no effect.
    let known = document.and_then(members).unwrap_or_default();
    let named: HashMap<&str, &Member<'_>> = changes.iter().map(|change| (&*change.name, change)).collect();
    let mut is_known: HashSet<&str> = HashSet::with_capacity(known.len());
    written.push('{');
    let mut first = true;
    for member in &known {
        is_known.insert(&member.name);
        match named.get(&*member.name) {
            None => put(member.key, &mut first, written, |written| written.push_str(member.value)),
            Some(change) if change.value == "null" => {}
            Some(change) => {
                put(member.key, &mut first, written, |written| merge(Some(member.value), change.value, written))
            }
        }
    }
    for change in changes.iter().filter(|change| change.value != "null" && !is_known.contains(&*change.name)) {
        put(change.key, &mut first, written, |written| merge(None, change.value, written));
    }
    written.push('}');
}

fn put(key: &str, first: &mut bool, written: &mut String, value: impl FnOnce(&mut String)) {
    if !std::mem::take(first) {
        written.push(',');
    }
    written.push_str(key);
    written.push(':');
    value(written);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::any_json;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    /// The pseudocode of RFC 7396 §2.
    fn by_the_rfc(target: Option<Value>, patch: &Value) -> Value {
        let Value::Object(patch) = patch else { return patch.clone() };
        let mut target = match target {
            Some(Value::Object(members)) => members,
            _ => Map::new(),
        };
        for (name, value) in patch {
            let known = target.remove(name);
            if !value.is_null() {
                target.insert(name.clone(), by_the_rfc(known, value));
            }
        }
        target.into()
    }

    /// RFC 7396, appendix A.
    #[test]
    fn it_matches_the_pseudocode_of_the_rfc() {
        for (document, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let read: Value = serde_json::from_str(&merged(&document.to_string(), &patch.to_string())).unwrap();
            assert_eq!(read, result, "{document} + {patch}");
        }
    }

    #[test]
    fn what_is_not_named_stays_as_it_is_written() {
        let document = r#"{"z":1.10,"m":{"zulu":123456789012345678901,"\u0061":1e2,"list":[ 1 , 2 ]},"a":12345678901234567890123}"#;
        assert_eq!(merged(document, "{}"), document);
        assert_eq!(
            merged(document, r#" { "weight" : 2.0 , "m" : {"list":null,"new":{"b":1,"a":null}} } "#),
            r#"{"z":1.10,"m":{"zulu":123456789012345678901,"\u0061":1e2,"new":{"b":1}},"a":12345678901234567890123,"weight":2.0}"#
        );
        // Names are compared without escapes, and keep their spelling.
        assert_eq!(merged(r#"{"\u0061":1}"#, r#"{"a":2}"#), r#"{"\u0061":2}"#);
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<i8>().prop_map(Value::from), "[a\",{}]{0,3}".prop_map(Value::from)];
        any_json::tree(leaf, "[ab\":]{0,2}", (3, 16, 4))
    }

    proptest! {
        #[test]
        fn it_is_what_the_rfc_computes(document in tree(), patch in tree(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
            let read: Value = serde_json::from_str(&merged(&text, &patch.to_string())).unwrap();
            prop_assert_eq!(read, by_the_rfc(Some(document), &patch));
        }
    }
}
