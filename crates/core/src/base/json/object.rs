//! Reading an object member by member, with all of its faults.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use serde_json::value::RawValue;

use super::{Fault, child, kind};
use crate::base::decimal::Decimal;

struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                #[derive(serde::Deserialize)]
                struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
                let mut members = Vec::with_capacity(12);
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The members of an object in their order, each value in its own spelling. `None` if the text is not an object.
pub fn members(text: &str) -> Option<Vec<(Cow<'_, str>, &RawValue)>> {
    serde_json::from_str::<Members<'_>>(text).ok().map(|Members(members)| members)
}

/// Writes an object with these members in this order. The values are JSON texts.
pub fn object(members: &[(Cow<'_, str>, Cow<'_, str>)]) -> String {
    let mut text = String::with_capacity(members.iter().map(|(name, value)| name.len() + value.len() + 4).sum());
    text.push('{');
    for (name, value) in members {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&serde_json::to_string(name).unwrap_or_default());
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    text
}

/// An object that is read member by member. Faults are collected, so that the sender of a document learns of all of
/// them at once. A method that reads a member returns `None` if the member is absent or faulty.
pub struct Object<'a> {
    pointer: String,
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    faults: Vec<Fault>,
}

impl<'a> Object<'a> {
    /// `text` must have passed [`super::check`]. A value other than an object is a fault at `pointer`.
    pub fn new(text: &'a str, pointer: &str) -> Result<Self, Fault> {
        match serde_json::from_str::<Members<'a>>(text) {
            Ok(Members(members)) => Ok(Self { pointer: pointer.into(), members, faults: Vec::new() }),
            Err(_) => Err(Fault::new(pointer, "must be an object")),
        }
    }

    /// The JSON Pointer of a member.
    pub fn pointer_to(&self, name: &str) -> String {
        child(&self.pointer, name)
    }

    /// Adds a fault of a member.
    pub fn fault(&mut self, name: &str, detail: impl Into<String>) {
        let pointer = self.pointer_to(name);
        self.faults.push(Fault::new(pointer, detail));
    }

    /// Adds faults with pointers of their own.
    pub fn faults(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.extend(faults);
    }

    /// The names of the members that have not been read yet.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(name, _)| &**name)
    }

    /// Whether the member is present and has not been read yet; `null` counts as absent.
    pub fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(member, raw)| member == name && raw.get() != "null")
    }

    /// Whether the member is present, has not been read yet, and is an array.
    pub fn has_array(&self, name: &str) -> bool {
        self.members.iter().any(|(member, raw)| member == name && raw.get().starts_with('['))
    }

    /// Whether the member is present, has not been read yet, and is an object.
    pub fn has_object(&self, name: &str) -> bool {
        self.members.iter().any(|(member, raw)| member == name && raw.get().starts_with('{'))
    }

    /// The text of the member; `null` counts as absent, as in a merge patch.
    pub fn raw(&mut self, name: &str) -> Option<&'a RawValue> {
        self.raw_or_null(name).filter(|raw| raw.get() != "null")
    }

    /// The text of the member, which may be `null`.
    pub fn raw_or_null(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.members.iter().position(|(member, _)| member == name)?;
        Some(self.members.swap_remove(at).1)
    }

    /// Adds a fault if `value`, which was read from the member, is `None` and the member has no fault yet.
    pub fn require<T>(&mut self, name: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            // A member that is present but faulty has a fault already.
            let at = child(&self.pointer, name);
            let inside = format!("{at}/");
            if !self.faults.iter().any(|fault| fault.pointer == at || fault.pointer.starts_with(&inside)) {
                self.fault(name, "is required");
            }
        }
        value
    }

    /// A string with a number of characters in `length`.
    pub fn string(&mut self, name: &str, length: RangeInclusive<usize>) -> Option<String> {
        let raw = self.raw(name)?;
        let Ok(text) = serde_json::from_str::<String>(raw.get()) else {
            self.fault(name, format!("must be a string, not {}", kind(raw)));
            return None;
        };
        let count = text.chars().count();
        if !length.contains(&count) {
            self.fault(name, format!("must have {} to {} characters, has {count}", length.start(), length.end()));
            return None;
        }
        Some(text)
    }

    pub fn integer(&mut self, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let raw = self.raw(name)?;
        // In JSON Schema, 1.0 is an integer as well.
        let whole = || Some(Decimal::parse(raw.get())).filter(Decimal::is_integer)?.to_string().parse::<u64>().ok();
        let value = serde_json::from_str::<u64>(raw.get()).ok();
        match value.or_else(|| if kind(raw) == "a number" { whole() } else { None }) {
            Some(value) if range.contains(&value) => Some(value),
            _ => {
                self.fault(name, format!("must be an integer from {} to {}", range.start(), range.end()));
                None
            }
        }
    }

    pub fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let raw = self.raw(name)?;
        match serde_json::from_str::<f64>(raw.get()) {
            Ok(value) if range.contains(&value) => Some(value),
            _ => {
                self.fault(name, format!("must be a number from {} to {}", range.start(), range.end()));
                None
            }
        }
    }

    pub fn boolean(&mut self, name: &str) -> Option<bool> {
        let raw = self.raw(name)?;
        match serde_json::from_str::<bool>(raw.get()) {
            Ok(value) => Some(value),
            Err(_) => {
                self.fault(name, format!("must be true or false, not {}", kind(raw)));
                None
            }
        }
    }

    /// A string that `parse` accepts; `expected` describes such strings.
    pub fn parsed<T>(&mut self, name: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let raw = self.raw(name)?;
        let value = serde_json::from_str::<Cow<'_, str>>(raw.get()).ok().and_then(|text| parse(&text));
        if value.is_none() {
            self.fault(name, format!("must be {expected}"));
        }
        value
    }

    pub fn object(&mut self, name: &str) -> Option<Object<'a>> {
        let raw = self.raw(name)?;
        match Object::new(raw.get(), &child(&self.pointer, name)) {
            Ok(object) => Some(object),
            Err(fault) => {
                self.faults.push(fault);
                None
            }
        }
    }

    /// An array with a number of items in `length`.
    pub fn array(&mut self, name: &str, length: RangeInclusive<usize>) -> Option<Vec<&'a RawValue>> {
        let raw = self.raw(name)?;
        match serde_json::from_str::<Vec<&'a RawValue>>(raw.get()) {
            Ok(items) if length.contains(&items.len()) => Some(items),
            _ => {
                self.fault(name, format!("must be an array of {} to {} items", length.start(), length.end()));
                None
            }
        }
    }

    /// An array of at most `most` strings, each of 1 to `longest` characters.
    pub fn strings(&mut self, name: &str, most: usize, longest: usize) -> Option<Vec<String>> {
        let items = self.array(name, 0..=most)?;
        let mut strings = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match serde_json::from_str::<String>(item.get()) {
                Ok(text) if !text.is_empty() && text.chars().count() <= longest => strings.push(text),
                _ => {
                    let pointer = format!("{}/{index}", self.pointer_to(name));
                    self.faults.push(Fault::new(pointer, format!("must be a string of 1 to {longest} characters")));
                }
            }
        }
        Some(strings)
    }

    /// Adds the faults of a nested object.
    pub fn absorb(&mut self, nested: Object<'a>) {
        self.faults.extend(nested.finish());
    }

    /// Returns all faults. Every member that was not read is a fault.
    pub fn finish(mut self) -> Vec<Fault> {
        for (name, _) in std::mem::take(&mut self.members) {
            self.fault(&name, "is not a known member");
        }
        self.faults
    }
}
