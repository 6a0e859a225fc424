//! Reading JSON that came from outside (RFC 8259, with the stricter reading of RFC 7493).
//!
//! [`check`] goes over the bytes once and refuses what two parsers could read differently: broken UTF-8,
//! doubled members, lone surrogates, numbers beyond a double, too much depth. What passed is split by
//! [`Object`] into members that keep their own text, so that a client's parameters go on byte for byte.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::decimal::Decimal;

/// The deepest nesting a document may have.
pub const MAX_DEPTH: usize = 64;

/// One fault in a document: where, as a JSON Pointer fragment (`#/parameters/city`), and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub pointer: String,
    pub detail: String,
}

impl Fault {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Appends one reference token to a JSON Pointer (RFC 6901 §3).
pub fn child(pointer: &str, token: &str) -> String {
    format!("{pointer}/{}", token.replace('~', "~0").replace('/', "~1"))
}

/// Why a text is not acceptable JSON; `offset` counts bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct Invalid {
    pub reason: &'static str,
    pub offset: usize,
    pub pointer: String,
}

impl Invalid {
    pub fn fault(&self) -> Fault {
        Fault::new(self.pointer.clone(), self.to_string())
    }
}

struct Frame<'a> {
    is_object: bool,
    /// The member being read, or nothing before the first.
    key: Option<Cow<'a, str>>,
    index: usize,
    first_key: usize,
    many: Option<HashSet<Cow<'a, str>>>,
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    frames: Vec<Frame<'a>>,
    keys: Vec<Cow<'a, str>>,
}

/// Beyond this many members an object's names are looked up in a set instead of one by one.
const FEW_KEYS: usize = 16;

impl<'a> Scanner<'a> {
    fn fail<T>(&self, reason: &'static str) -> Result<T, Invalid> {
        let mut pointer = String::from("#");
        for frame in &self.frames {
            match (&frame.key, frame.is_object) {
                (Some(key), true) => pointer = child(&pointer, key),
                (None, true) => {}
                (_, false) => pointer = format!("{pointer}/{}", frame.index),
            }
        }
        Err(Invalid { reason, offset: self.at, pointer })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn literal(&mut self, word: &'static str) -> Result<(), Invalid> {
        if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            self.at += word.len();
            Ok(())
        } else {
            self.fail("unknown word; expected true, false or null")
        }
    }

    fn digits(&mut self) -> usize {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - from
    }

    fn number(&mut self) -> Result<(), Invalid> {
        let from = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 {
            return self.fail("a number needs a digit here");
        }
        if leading_zero && whole > 1 {
            return self.fail("a number may not begin with 0");
        }
        let mut plain = true;
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return self.fail("a number needs a digit after its point");
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            plain = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.fail("a number needs a digit in its exponent");
            }
        }
        if (!plain || whole > 300)
            && !self.text.get(from..self.at).and_then(|n| n.parse::<f64>().ok()).is_some_and(f64::is_finite)
        {
            return self.fail("the number is too large");
        }
        Ok(())
    }

    fn hex4(&mut self) -> Result<u32, Invalid> {
        let value = self.text.get(self.at..self.at + 4).and_then(|hex| {
            hex.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(hex, 16).ok()).flatten()
        });
        match value {
            Some(value) => {
                self.at += 4;
                Ok(value)
            }
            None => self.fail("\\u needs four hexadecimal digits"),
        }
    }

    /// Reads a string; its text with the escapes undone is made only when `wanted`.
    fn string(&mut self, wanted: bool) -> Result<Cow<'a, str>, Invalid> {
        self.at += 1;
        let mut run = self.at;
        let mut owned = String::new();
        loop {
            match self.peek() {
                None => return self.fail("the text ends inside a string"),
                Some(b'"') => {
                    let tail = self.text.get(run..self.at).unwrap_or_default();
                    self.at += 1;
                    if owned.is_empty() {
                        return Ok(Cow::Borrowed(tail));
                    }
                    owned.push_str(tail);
                    return Ok(Cow::Owned(owned));
                }
                Some(b'\\') => {
                    if wanted {
                        owned.push_str(self.text.get(run..self.at).unwrap_or_default());
                    }
                    self.at += 1;
                    let escaped = self.escape()?;
                    if wanted {
                        owned.push(escaped);
                    }
                    run = self.at;
                }
                Some(0..=0x1f) => return self.fail("a control character must be escaped"),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, Invalid> {
        let Some(byte) = self.peek() else {
            return self.fail("the text ends inside a string");
        };
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4()?;
                let code = if (0xd800..0xdc00).contains(&high) {
                    if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
                        return self.fail("a lone surrogate is not a character");
                    }
                    self.at += 2;
                    let low = self.hex4()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return self.fail("a lone surrogate is not a character");
                    }
                    0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    high
                };
                match char::from_u32(code) {
                    Some(c) => c,
                    None => return self.fail("a lone surrogate is not a character"),
                }
            }
            _ => return self.fail("unknown escape in a string"),
        })
    }

    /// Reads `"name":` and remembers the name.
    fn member(&mut self) -> Result<(), Invalid> {
        if self.peek() != Some(b'"') {
            return self.fail("expected a member name in double quotes");
        }
        let name = self.string(true)?;
        let Some(frame) = self.frames.last_mut() else {
            return Ok(());
        };
        let seen = self.keys.get(frame.first_key..).unwrap_or_default();
        let doubled = match &mut frame.many {
            Some(set) => !set.insert(name.clone()),
            None if seen.len() < FEW_KEYS => seen.contains(&name),
            None => {
                let mut set: HashSet<Cow<'a, str>> = seen.iter().cloned().collect();
                let doubled = !set.insert(name.clone());
                frame.many = Some(set);
                doubled
            }
        };
        if frame.many.is_none() {
            self.keys.push(name.clone());
        }
        frame.key = Some(name);
        if doubled {
            return self.fail("the member is named twice");
        }
        self.skip_space();
        if self.peek() != Some(b':') {
            return self.fail("expected a colon after the member name");
        }
        self.at += 1;
        Ok(())
    }

    fn open(&mut self, is_object: bool, max_depth: usize) -> Result<(), Invalid> {
        if self.frames.len() >= max_depth {
            return self.fail("nested too deeply");
        }
        self.at += 1;
        self.frames.push(Frame { is_object, key: None, index: 0, first_key: self.keys.len(), many: None });
        Ok(())
    }

    fn close(&mut self) {
        self.at += 1;
        if let Some(frame) = self.frames.pop() {
            self.keys.truncate(frame.first_key);
        }
    }

    /// After a value: closes what ends here; true when the next value follows.
    fn after_value(&mut self) -> Result<bool, Invalid> {
        loop {
            self.skip_space();
            let Some(frame) = self.frames.last_mut() else {
                return Ok(false);
            };
            let is_object = frame.is_object;
            match self.bytes.get(self.at) {
                Some(b',') => {
                    self.at += 1;
                    frame.index += 1;
                    self.skip_space();
                    if is_object {
                        self.member()?;
                    }
                    return Ok(true);
                }
                Some(b'}') if is_object => self.close(),
                Some(b']') if !is_object => self.close(),
                Some(_) if is_object => return self.fail("expected a comma or }"),
                Some(_) => return self.fail("expected a comma or ]"),
                None => return self.fail("the text ends too early"),
            }
        }
    }

    fn document(&mut self, max_depth: usize) -> Result<(), Invalid> {
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'{') => {
                    self.open(true, max_depth)?;
                    self.skip_space();
                    if self.peek() != Some(b'}') {
                        self.member()?;
                        continue;
                    }
                    self.close();
                }
                Some(b'[') => {
                    self.open(false, max_depth)?;
                    self.skip_space();
                    if self.peek() != Some(b']') {
                        continue;
                    }
                    self.close();
                }
                Some(b'"') => {
                    self.string(false)?;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal("true")?,
                Some(b'f') => self.literal("false")?,
                Some(b'n') => self.literal("null")?,
                Some(_) => return self.fail("expected a value"),
                None => return self.fail("the text ends too early"),
            }
            if !self.after_value()? {
                return match self.peek() {
                    None => Ok(()),
                    Some(_) => self.fail("something follows after the value"),
                };
            }
        }
    }
}

/// The bytes as text, when they are exactly one acceptable JSON value.
pub fn check(bytes: &[u8], max_depth: usize) -> Result<&str, Invalid> {
    let text = std::str::from_utf8(bytes).map_err(|error| Invalid {
        reason: "the text is not UTF-8",
        offset: error.valid_up_to(),
        pointer: "#".into(),
    })?;
    Scanner { text, bytes, at: 0, frames: Vec::new(), keys: Vec::new() }.document(max_depth)?;
    Ok(text)
}

/// The byte order mark, which who reads JSON may ignore (RFC 8259 §8.1).
pub const MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes without a byte order mark.
pub fn without_mark(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
    }
    bytes
}

/// What a value is called when it was not what was expected.
pub fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

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

/// The members of an object in their order, each with its own text; nothing where it is no object.
pub fn members(text: &str) -> Option<Vec<(Cow<'_, str>, &RawValue)>> {
    serde_json::from_str::<Members<'_>>(text).ok().map(|Members(members)| members)
}

/// An object of these members, in this order.
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

/// An object being read member by member. Faults are collected, never thrown: who sends a document
/// learns of all of them at once. [`Object::finish`] names the members nobody asked for.
pub struct Object<'a> {
    pointer: String,
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    faults: Vec<Fault>,
}

impl<'a> Object<'a> {
    /// `text` has passed [`check`]. A value that is no object is a fault at `pointer`.
    pub fn new(text: &'a str, pointer: &str) -> Result<Self, Fault> {
        match serde_json::from_str::<Members<'a>>(text) {
            Ok(Members(members)) => Ok(Self { pointer: pointer.into(), members, faults: Vec::new() }),
            Err(_) => Err(Fault::new(pointer, "must be an object")),
        }
    }

    pub fn pointer_to(&self, name: &str) -> String {
        child(&self.pointer, name)
    }

    pub fn fault(&mut self, name: &str, detail: impl Into<String>) {
        let pointer = self.pointer_to(name);
        self.faults.push(Fault::new(pointer, detail));
    }

    pub fn faults(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.extend(faults);
    }

    /// Whether there is such a member that has not been read yet; `null` counts as absent.
    pub fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(member, raw)| member == name && raw.get() != "null")
    }

    /// Whether there is such a member that has not been read yet and is an array.
    pub fn has_array(&self, name: &str) -> bool {
        self.members.iter().any(|(member, raw)| member == name && raw.get().starts_with('['))
    }

    /// The member's own text; `null` counts as absent, as in a merge patch.
    pub fn raw(&mut self, name: &str) -> Option<&'a RawValue> {
        self.raw_or_null(name).filter(|raw| raw.get() != "null")
    }

    pub fn raw_or_null(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.members.iter().position(|(member, _)| member == name)?;
        Some(self.members.swap_remove(at).1)
    }

    pub fn require<T>(&mut self, name: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            // Where something is there but wrong, that has been said already.
            let at = child(&self.pointer, name);
            let inside = format!("{at}/");
            if !self.faults.iter().any(|fault| fault.pointer == at || fault.pointer.starts_with(&inside)) {
                self.fault(name, "is required");
            }
        }
        value
    }

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
        // To JSON Schema 1.0 is an integer too.
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

    /// A string that `parse` knows; `expected` says which those are.
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

    /// An array of strings, each of 1 to `longest` characters.
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

    /// Takes over the faults of a nested object.
    pub fn absorb(&mut self, nested: Object<'a>) {
        self.faults.extend(nested.finish());
    }

    /// All faults; members nobody asked for are faults by name.
    pub fn finish(mut self) -> Vec<Fault> {
        for (name, _) in std::mem::take(&mut self.members) {
            self.fault(&name, "is not a known member");
        }
        self.faults
    }
}

#[cfg(test)]
mod tests;
