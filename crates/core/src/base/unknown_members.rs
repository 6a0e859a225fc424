//! Keeps the members of a stored document that this version does not know, when it writes the document anew. A later
//! version has written them, and finds them again.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::json_parts::{Member, items, members};

/// The stored form of `new`, with the members of `stored` that this version does not know. Items of a list are the same
/// if they have the same `name` and `version`.
///
/// # Errors
/// `new` cannot be written.
pub fn with_unknown<T: Serialize + DeserializeOwned>(stored: &str, new: &T) -> Result<String, serde_json::Error> {
    let written = serde_json::to_string(new)?;
    let known = serde_json::from_str::<T>(stored).and_then(|known| serde_json::to_string(&known));
    let Some(known) = known.ok().filter(|known| known != stored) else { return Ok(written) };
    let mut merged = String::with_capacity(written.len() + stored.len().saturating_sub(known.len()));
    merge(stored, &known, &written, &mut merged);
    // An earlier version may have written a member that this one knows under another name.
    let is_same = serde_json::from_str::<T>(&merged).and_then(|read| serde_json::to_string(&read));
    Ok(if is_same.is_ok_and(|same| same == written) { merged } else { written })
}

fn named<'m, 't>(all: &'m [Member<'t>], name: &str) -> Option<&'m Member<'t>> {
    all.iter().find(|member| member.name == name)
}

fn merge(stored: &str, known: &str, new: &str, merged: &mut String) {
    if let (Some(stored), Some(known), Some(new)) = (members(stored), members(known), members(new)) {
        let unknown =
            |member: &&Member<'_>| named(&known, &member.name).is_none() && named(&new, &member.name).is_none();
        let mut written = Separated::begin(merged, '{');
        for member in &new {
            written.next(|merged| {
                merged.push_str(member.key);
                merged.push(':');
                match named(&stored, &member.name).zip(named(&known, &member.name)) {
                    Some((stored, known)) => merge(stored.value, known.value, member.value, merged),
                    None => merged.push_str(member.value),
                }
            });
        }
        for member in stored.iter().filter(unknown) {
            written.next(|merged| [member.key, ":", member.value].iter().for_each(|part| merged.push_str(part)));
        }
        return written.end('}');
    }
    let lists = items(stored).zip(items(known)).filter(|(stored, known)| stored.len() == known.len());
    if let Some(((stored, known), new)) = lists.zip(items(new)) {
        let identities: Vec<_> = known.iter().map(|item| identity(item)).collect();
        let mut written = Separated::begin(merged, '[');
        for item in new {
            let own = identity(item);
            let at = identities.iter().position(|known| own.is_some() && *known == own);
            let same = at.and_then(|at| stored.get(at).zip(known.get(at)));
            written.next(|merged| match same {
                Some((stored, known)) => merge(stored, known, item, merged),
                None => merged.push_str(item),
            });
        }
        return written.end(']');
    }
    merged.push_str(new);
}

/// What identifies an item of a list.
fn identity(item: &str) -> Option<(String, Option<String>)> {
    let members = members(item)?;
    let value = |name: &str| named(&members, name).map(|member| member.value.to_string());
    Some((value("name")?, value("version")))
}

/// Writes items with commas between them.
struct Separated<'w> {
    written: &'w mut String,
    is_first: bool,
}

impl<'w> Separated<'w> {
    fn begin(written: &'w mut String, sign: char) -> Self {
        written.push(sign);
        Self { written, is_first: true }
    }

    fn next(&mut self, write: impl FnOnce(&mut String)) {
        if !std::mem::replace(&mut self.is_first, false) {
            self.written.push(',');
        }
        write(self.written);
    }

    fn end(self, sign: char) {
        self.written.push(sign);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Part {
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<u64>,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Whole {
        #[serde(alias = "title")]
        text: String,
        parts: Vec<Part>,
        #[serde(default)]
        inner: Option<Part>,
    }

    fn part(name: &str, weight: Option<u64>) -> Part {
        Part { name: name.into(), weight }
    }

    fn kept(stored: &Value, new: &Whole) -> Value {
        serde_json::from_str(&with_unknown(&stored.to_string(), new).unwrap()).unwrap()
    }

    #[test]
    fn unknown_members_stay_where_they_are() {
        let stored = json!({"text": "old", "price": {"per_call": "0.002"}, "inner": {"name": "i", "more": [1]},
            "parts": [{"name": "a", "new": 1}, {"name": "b", "new": 2, "weight": 3}]});
        let parts = vec![part("b", None), part("c", Some(1)), part("a", Some(2))];
        let new = Whole { text: "new".into(), parts, inner: Some(part("j", None)) };
        let expected = json!({"text": "new", "price": {"per_call": "0.002"}, "inner": {"name": "j", "more": [1]},
            "parts": [{"name": "b", "new": 2}, {"name": "c", "weight": 1}, {"name": "a", "new": 1, "weight": 2}]});
        assert_eq!(kept(&stored, &new), expected);
        let without = Whole { inner: None, parts: Vec::new(), ..new };
        let expected = json!({"text": "new", "price": {"per_call": "0.002"}, "inner": null, "parts": []});
        assert_eq!(kept(&stored, &without), expected);
    }

    #[test]
    fn what_an_earlier_version_has_written_otherwise_is_not_kept() {
        let new = Whole { text: "new".into(), parts: Vec::new(), inner: None };
        let plain = serde_json::to_value(&new).unwrap();
        assert_eq!(kept(&json!({"title": "old", "parts": []}), &new), plain);
        assert_eq!(kept(&json!({"title": "old"}), &new), plain);
        assert_eq!(kept(&json!([1]), &new), plain);
    }

    fn any_part() -> impl Strategy<Value = Part> {
        ("[ab]", proptest::option::of(0..3u64)).prop_map(|(name, weight)| Part { name, weight })
    }

    fn any_whole() -> impl Strategy<Value = Whole> {
        let parts = prop::collection::vec(any_part(), 0..4);
        ("[xy]", parts, proptest::option::of(any_part())).prop_map(|(text, parts, inner)| Whole { text, parts, inner })
    }

    proptest! {
        #[test]
        fn this_version_reads_what_it_has_written(stored in any_whole(), new in any_whole(), at in 0..4usize) {
            let mut later = serde_json::to_value(&stored).unwrap();
            let place = match at {
                0 => Some(&mut later),
                1 => later.pointer_mut("/parts/0"),
                2 => later.pointer_mut("/parts/1"),
                _ => later.pointer_mut("/inner"),
            };
            if let Some(members) = place.and_then(Value::as_object_mut) {
                members.insert("later".into(), json!({"a": [1, "}"]}));
            }
            let written = with_unknown(&later.to_string(), &new).unwrap();
            prop_assert_eq!(serde_json::from_str::<Whole>(&written).unwrap(), new.clone());
            if at == 0 {
                prop_assert!(written.contains("later"));
            }
            let plain = serde_json::to_string(&new).unwrap();
            prop_assert_eq!(with_unknown(&serde_json::to_string(&stored).unwrap(), &new).unwrap(), plain);
        }
    }
}
