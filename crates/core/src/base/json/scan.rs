//! The check of a JSON text, in one pass and without recursion.

use std::borrow::Cow;
use std::collections::HashSet;

use super::{Fault, child};

/// The maximum nesting depth of a document.
pub const MAX_DEPTH: usize = 64;

/// Why a text is not acceptable JSON. `offset` is in bytes.
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

/// An object or array that is open.
struct Frame<'a> {
    is_object: bool,
    /// The name of the current member; none before the first.
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

/// With more members than this, an object's names are looked up in a set instead of one by one.
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
            return self.fail("expected a digit");
        }
        if leading_zero && whole > 1 {
            return self.fail("a number must not begin with 0");
        }
        let mut plain = true;
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return self.fail("expected a digit after the decimal point");
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            plain = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.fail("expected a digit in the exponent");
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
            None => self.fail("expected four hexadecimal digits after \\u"),
        }
    }

    /// Reads a string. Returns its text without escapes, but only if `wanted`.
    fn string(&mut self, wanted: bool) -> Result<Cow<'a, str>, Invalid> {
        self.at += 1;
        let mut run = self.at;
        let mut owned = String::new();
        loop {
            match self.peek() {
                None => return self.fail("unexpected end of the text inside a string"),
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

    /// Reads `"name":` and stores the name.
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
            return self.fail("duplicate member name");
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

    /// After a value: closes the frames that end here. Returns true if another value follows.
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
                    Some(_) => self.fail("unexpected text after the value"),
                };
            }
        }
    }
}

/// Returns the bytes as text if they are exactly one acceptable JSON value of at most `max_depth` levels.
pub fn check(bytes: &[u8], max_depth: usize) -> Result<&str, Invalid> {
    let text = std::str::from_utf8(bytes).map_err(|error| Invalid {
        reason: "the text is not UTF-8",
        offset: error.valid_up_to(),
        pointer: "#".into(),
    })?;
    Scanner { text, bytes, at: 0, frames: Vec::new(), keys: Vec::new() }.document(max_depth)?;
    Ok(text)
}
