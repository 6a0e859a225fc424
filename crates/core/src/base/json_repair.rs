//! Repair of JSON from services. Requests of clients must pass [`check`] as they are, but a whole answer of a service
//! should not be lost for one character.
//!
//! A byte order mark is skipped (RFC 8259 §8.1), invalid UTF-8 and lone surrogates become U+FFFD (§8.2), the last of
//! several members with the same name counts (§4), and control characters in strings are escaped. The result passes
//! [`check`], so that every later reader reads the same.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::de::IgnoredAny;

use super::json::{MARK, MAX_DEPTH, check};

/// The escape of the replacement character.
const REPLACEMENT: &str = "\\ufffd";

/// Returns the bytes as JSON that passes [`check`], repaired if necessary, copied only if repaired. `None` if they are
/// not JSON.
pub fn json(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let bytes = bytes.strip_prefix(MARK).unwrap_or(bytes);
    if let Ok(text) = check(bytes, MAX_DEPTH) {
        return Some(Cow::Borrowed(text));
    }
    let text = String::from_utf8_lossy(bytes);
    let repaired = Repair::of(&text).run()?;
    check(repaired.as_bytes(), MAX_DEPTH).ok()?;
    Some(Cow::Owned(repaired))
}

/// An object or array that is open.
struct Frame {
    /// The name and the place in the output of each member; `None` for an array.
    members: Option<Vec<Member>>,
    /// The place in the output after the opening bracket.
    from: usize,
}

/// A member in the output; `to` is 0 while it is open.
struct Member {
    name: String,
    from: usize,
    to: usize,
}

/// Copies a text once and repairs it on the way. Text that is not JSON stays invalid.
struct Repair<'a> {
    text: &'a str,
    at: usize,
    out: String,
    frames: Vec<Frame>,
}

impl<'a> Repair<'a> {
    fn of(text: &'a str) -> Self {
        Self { text, at: 0, out: String::with_capacity(text.len() + 16), frames: Vec::new() }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn run(mut self) -> Option<String> {
        while let Some(next) = self.rest().chars().next() {
            match next {
                '"' => self.string()?,
                '{' | '[' => {
                    if self.frames.len() >= MAX_DEPTH {
                        return None;
                    }
                    self.take(next);
                    let members = (next == '{').then(Vec::new);
                    self.frames.push(Frame { members, from: self.out.len() });
                }
                '}' | ']' => {
                    self.close()?;
                    self.take(next);
                }
                ',' => {
                    self.end_member();
                    self.take(next);
                }
                next => self.take(next),
            }
        }
        Some(self.out)
    }

    fn take(&mut self, next: char) {
        self.out.push(next);
        self.at += next.len_utf8();
    }

    /// Copies a string, which is a member name if one is due.
    fn string(&mut self) -> Option<()> {
        let from = self.out.len();
        self.take('"');
        loop {
            let next = self.rest().chars().next()?;
            match next {
                '"' => break self.take(next),
                '\\' => self.escape()?,
                '\u{0}'..='\u{1f}' => {
                    self.out.push_str(&format!("\\u{:04x}", u32::from(next)));
                    self.at += 1;
                }
                next => self.take(next),
            }
        }
        let Some(Frame { members: Some(members), .. }) = self.frames.last_mut() else { return Some(()) };
        if members.last().is_none_or(|last| last.to > 0) {
            let name = serde_json::from_str(self.out.get(from..)?).ok()?;
            members.push(Member { name, from, to: 0 });
        }
        Some(())
    }

    /// Copies an escape. Lone surrogates are replaced.
    fn escape(&mut self) -> Option<()> {
        let hex = |text: &str| u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok();
        let rest = self.rest();
        match hex(rest) {
            Some(0xd800..0xdc00) => {
                let low = rest.get(6..).and_then(hex).is_some_and(|low| (0xdc00..0xe000).contains(&low));
                let length = if low { 12 } else { 6 };
                self.out.push_str(if low { rest.get(..length)? } else { REPLACEMENT });
                self.at += length;
            }
            Some(0xdc00..0xe000) => {
                self.out.push_str(REPLACEMENT);
                self.at += 6;
            }
            _ => {
                self.take('\\');
                let next = self.rest().chars().next()?;
                self.take(next);
            }
        }
        Some(())
    }

    fn end_member(&mut self) {
        let to = self.out.len();
        if let Some(Frame { members: Some(members), .. }) = self.frames.last_mut()
            && let Some(last) = members.last_mut()
        {
            last.to = to;
        }
    }

    /// Closes an object or array. Of members with the same name only the last stays, in its place. The removed ones
    /// must be valid members, too.
    fn close(&mut self) -> Option<()> {
        self.end_member();
        let Frame { members, from } = self.frames.pop()?;
        let members = members.unwrap_or_default();
        let mut last = HashMap::new();
        for (at, member) in members.iter().enumerate() {
            last.insert(member.name.as_str(), at);
        }
        if last.len() == members.len() {
            return Some(());
        }
        let mut kept = String::with_capacity(self.out.len() - from);
        for (at, member) in members.iter().enumerate() {
            let text = self.out.get(member.from..member.to)?;
            if last.get(member.name.as_str()) == Some(&at) {
                kept.push_str(if kept.is_empty() { "" } else { "," });
                kept.push_str(text);
            } else {
                serde_json::from_str::<IgnoredAny>(&format!("{{{text}}}")).ok()?;
            }
        }
        self.out.truncate(from);
        self.out.push_str(&kept);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn of(text: &str) -> Option<String> {
        json(text.as_bytes()).map(Cow::into_owned)
    }

    #[test]
    fn valid_json_is_not_changed() {
        for text in [r#"{"a": 1.0, "b":"\ud83d\ude00 \u0000"}"#, " [1] ", "null", r#""\\ud83d""#] {
            assert!(matches!(json(text.as_bytes()), Some(Cow::Borrowed(known)) if known == text), "{text}");
        }
    }

    #[test]
    fn one_character_does_not_cost_an_answer() {
        for (text, expected) in [
            ("\u{feff}{\"a\":1}", r#"{"a":1}"#),
            (r#"{"a":"cut \ud83d"}"#, r#"{"a":"cut \ufffd"}"#),
            (r#"{"a":"\ude00\ud83d\ude00\ud83dx\ud83d\n"}"#, r#"{"a":"\ufffd\ud83d\ude00\ufffdx\ufffd\n"}"#),
            (r#"{"\ud83d":1,"\udfff":2}"#, r#"{"\ufffd":2}"#),
            (r#"["\\ud83d","\ud83d"]"#, r#"["\\ud83d","\ufffd"]"#),
            ("{\"a\":\"line\nline\"}", r#"{"a":"line\u000aline"}"#),
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"b":2,"a":3}"#),
            (r#"{"a":1,"\u0061":{"c":1,"c":[{"d":1,"d":2}]}}"#, r#"{"\u0061":{"c":[{"d":2}]}}"#),
            (r#"{"a":{"x":"a"},"b":"a","a":"b"}"#, r#"{"b":"a","a":"b"}"#),
            (r#"[{"a":1, "a" : 2 }, {"b":12345678901234567890.10}]"#, r#"[{"a" : 2 }, {"b":12345678901234567890.10}]"#),
        ] {
            assert_eq!(of(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(json(b"{\"a\":\"\xff\xc3\"}").as_deref(), Some("{\"a\":\"\u{fffd}\u{fffd}\"}"));
    }

    #[test]
    fn text_that_is_not_json_stays_invalid() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        let doubled_and_deep = format!(r#"{{"a":1,"a":{deep}}}"#);
        for text in [
            "",
            "<html>",
            r#"{"a":1,"a""#,
            r#"{"a":1,"a":}"#,
            r#"{"a":1,"a":2,}"#,
            r#"{"a":1,,"a":2}"#,
            r#"{"a":1 "a":2}"#,
            r#"{"a","a":2}"#,
            r#""\ud83"#,
            r#""\x \ud83d""#,
            "{\"a\":\"\\\u{fffd}\"}",
            "}{",
            r#"{"a":1,"a":2}}"#,
            &deep,
            &doubled_and_deep,
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_repaired_text_is_what_serde_reads(text in r#"[\[\]{},:"ab1 \\ud83n\x00]{0,40}"#) {
            if let Some(repaired) = of(&text) {
                prop_assert!(check(repaired.as_bytes(), MAX_DEPTH).is_ok());
            }
        }

        #[test]
        fn the_last_of_doubled_members_counts(names in prop::collection::vec("[ab]", 1..8), deep in 0usize..5) {
            let members: Vec<String> = names.iter().enumerate().map(|(at, name)| format!(r#""{name}":{at}"#)).collect();
            let mut text = format!("{{{}}}", members.join(","));
            for _ in 0..deep {
                text = format!(r#"{{"x":0,"x":{text},"y":[{text}]}}"#);
            }
            let plain: Value = serde_json::from_str(&text).unwrap();
            let repaired: Value = serde_json::from_str(&of(&text).unwrap()).unwrap();
            prop_assert_eq!(plain, repaired);
        }

        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = json(&bytes);
        }
    }
}
