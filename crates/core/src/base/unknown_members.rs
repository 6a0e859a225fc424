//! Keeps the members of a stored document that this version does not know, when it writes the document anew. A later
//! version has written them, and finds them again.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::json_parts::{Member, items, members};

/// The stored form of `new`, with the members of `stored` that this version does not know. Items of a list are the same
/// if they have the same `name` and `version`.
///
/// # Errors
/// `new` cannot be written.
pub fn with_unknown<T: Serialize + DeserializeOwned>(stored: &str, new: &T) -> Result<String, serde_json::Error> {
    Ok(text_with_unknown::<T>(stored, serde_json::to_string(new)?))
}

/// As [`with_unknown`], for a text, which may itself have members that this version does not know.
pub fn text_with_unknown<T: Serialize + DeserializeOwned>(stored: &str, new: String) -> String {
    let Ok(known) = again::<T>(stored) else { return new };
    if known == stored {
        return new;
    }
    let mut candidates = Vec::new();
    compare(stored, &known, String::new(), &mut candidates);
    let unknown = unknown::<T>(stored, candidates);
    if unknown.is_empty() {
        return new;
    }
    let Ok(plain) = again::<T>(&new) else { return new };
    let mut merged = String::with_capacity(new.len() + stored.len().saturating_sub(known.len()));
    merge((stored, ""), &known, &new, &unknown, &mut merged);
    if again::<T>(&merged).is_ok_and(|same| same == plain) { merged } else { new }
}

/// A text as this version reads and writes it.
fn again<T: Serialize + DeserializeOwned>(text: &str) -> Result<String, serde_json::Error> {
    serde_json::to_string(&serde_json::from_str::<T>(text)?)
}

/// The places of the members of a stored text that are missing in what this version writes of it.
fn compare(stored: &str, known: &str, place: String, missing: &mut Vec<String>) {
    if let (Some(stored), Some(known)) = (members(stored), members(known)) {
        for member in stored {
            let place = format!("{place}/{}", escaped(&member.name));
            match named(&known, &member.name) {
                Some(known) => compare(member.value, known.value, place, missing),
                None => missing.push(place),
            }
        }
    } else if let (Some(stored), Some(known)) = (items(stored), items(known))
        && stored.len() == known.len()
    {
        for (at, (stored, known)) in stored.iter().zip(known).enumerate() {
            compare(stored, known, format!("{place}/{at}"), missing);
        }
    }
}

/// A name in a JSON Pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Which of these members this version does not know. It may also have omitted one that it knows, because it has the
/// default value: the value of one that it does not know makes no difference.
fn unknown<T: Serialize + DeserializeOwned>(stored: &str, candidates: Vec<String>) -> HashSet<String> {
    let Ok(value) = serde_json::from_str::<Value>(stored) else { return HashSet::new() };
    let Ok(plain) = again::<T>(&value.to_string()) else { return HashSet::new() };
    let makes_none = |places: &[String]| {
        let mut value = value.clone();
        for place in places {
            if let Some(member) = value.pointer_mut(place) {
                *member = json!({"": [null, 0.5]});
            }
        }
        again::<T>(&value.to_string()).is_ok_and(|text| text == plain)
    };
    if makes_none(&candidates) {
        return candidates.into_iter().collect();
    }
    // The same members of the items of a list are alike.
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for place in candidates {
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let kind: Vec<&str> = place.split('/').map(|part| if is_number(part) { "" } else { part }).collect();
        groups.entry(kind.join("/")).or_default().push(place);
    }
    groups.into_values().filter(|places| makes_none(places)).flatten().collect()
}

fn named<'m, 't>(all: &'m [Member<'t>], name: &str) -> Option<&'m Member<'t>> {
    all.iter().find(|member| member.name == name)
}

/// Writes `new` with the unknown members of `stored`, which has this place in the whole.
fn merge((stored, place): (&str, &str), known: &str, new: &str, unknown: &HashSet<String>, merged: &mut String) {
    if let (Some(stored), Some(known), Some(new)) = (members(stored), members(known), members(new)) {
        let place_of = |name: &str| format!("{place}/{}", escaped(name));
        let mut written = Separated::begin(merged, '{');
        for member in &new {
            written.next(|merged| {
                merged.push_str(member.key);
                merged.push(':');
                match named(&stored, &member.name).zip(named(&known, &member.name)) {
                    Some((stored, known)) => {
                        let place = place_of(&member.name);
                        merge((stored.value, &place), known.value, member.value, unknown, merged);
                    }
                    None => merged.push_str(member.value),
                }
            });
        }
        let is_kept =
            |member: &&Member<'_>| unknown.contains(&place_of(&member.name)) && named(&new, &member.name).is_none();
        for member in stored.iter().filter(is_kept) {
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
            let same = at.and_then(|at| Some((at, stored.get(at)?, known.get(at)?)));
            written.next(|merged| match same {
                Some((at, stored, known)) => merge((stored, &format!("{place}/{at}")), known, item, unknown, merged),
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
    use super::*;
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

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
    fn what_the_new_text_says_wins() {
        let stored = json!({"text": "a", "parts": [], "colour": "red", "shape": "round"}).to_string();
        let new = json!({"text": "b", "parts": [], "colour": "blue", "size": 1}).to_string();
        let kept: Value = serde_json::from_str(&text_with_unknown::<Whole>(&stored, new)).unwrap();
        assert_eq!(kept, json!({"text": "b", "parts": [], "colour": "blue", "size": 1, "shape": "round"}));
        assert_eq!(text_with_unknown::<Whole>(&stored, "[]".into()), "[]");
    }

    #[test]
    fn a_default_that_is_not_written_is_not_an_unknown_member() {
        let plain =
            serde_json::to_string(&Whole { text: "x".into(), parts: vec![part("a", None)], inner: None }).unwrap();
        let new: Whole = serde_json::from_str(&plain).unwrap();
        let stored = json!({"parts": [{"name": "a", "weight": null}], "text": "x"});
        assert_eq!(with_unknown(&stored.to_string(), &new).unwrap(), plain);
        let stored = json!({"parts": [{"name": "a", "weight": null, "more": 1}], "text": "x"});
        let kept: Value = serde_json::from_str(&with_unknown(&stored.to_string(), &new).unwrap()).unwrap();
        assert_eq!(kept["parts"][0], json!({"name": "a", "more": 1}));
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
