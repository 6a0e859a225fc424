//! Lone surrogates in chunks (RFC 8259 §8.2): servers that cut text by UTF-16 units send a character in two halves.
//!
//! Each half is replaced by a private-use character from the end of the last plane until the text is complete. Two
//! adjacent halves become their character again, a single one U+FFFD.

use std::borrow::Cow;

/// The replacements of U+D800 to U+DFFF.
const FIRST: u32 = 0x10_f800;
const SURROGATES: std::ops::Range<u32> = 0xd800..0xe000;

fn hex4(text: &[u8]) -> Option<u32> {
    let digits = text.get(..4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The code unit of the escape at the beginning of this text.
fn escaped(text: &[u8]) -> Option<u32> {
    hex4(text.strip_prefix(b"\\u")?)
}

/// A JSON text with its lone surrogates replaced.
pub fn set_aside(text: &str) -> Cow<'_, str> {
    if !text.contains("\\ud") && !text.contains("\\uD") {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let (mut safe, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\\')) {
        at += found;
        let rest = bytes.get(at..).unwrap_or_default();
        let unit = escaped(rest).filter(|unit| SURROGATES.contains(unit));
        let follower = rest.get(6..).and_then(escaped);
        at += match (unit, follower) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(unit), _) => {
                safe.push_str(text.get(copied..at).unwrap_or_default());
                safe.extend(char::from_u32(FIRST + unit - SURROGATES.start));
                copied = at + 6;
                6
            }
            (None, _) => 2,
        };
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    safe.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(safe)
}

/// The complete text, with characters restored where both halves arrived.
pub fn put_back(text: &str) -> String {
    let unit = |c: char| u32::from(c).checked_sub(FIRST).map(|unit| unit + SURROGATES.start);
    let mut whole = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let Some(high) = unit(c) else {
            whole.push(c);
            continue;
        };
        let low = chars.peek().and_then(|next| unit(*next)).filter(|low| *low >= 0xdc00);
        match low.filter(|_| high < 0xdc00) {
            Some(low) => {
                chars.next();
                whole.extend(char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)));
            }
            None => whole.push(char::REPLACEMENT_CHARACTER),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_that_meet_are_their_character_and_others_are_replaced() {
        for (text, read) in [
            (r#""a""#, "\"a\""),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""cut \ud83d""#, "\"cut \u{fffd}\""),
            (r#""\uDE00\uD83Dx\\ud83d""#, "\"\u{fffd}\u{fffd}x\\\\ud83d\""),
            (r#""\ud83d\ud83d\ude00""#, "\"\u{fffd}\\ud83d\\ude00\""),
            (r#""\ud8""#, r#""\ud8""#),
        ] {
            assert_eq!(put_back(&set_aside(text)), read, "{text}");
        }
        let halves = format!("{}{}", set_aside(r"\ud83d"), set_aside(r"\ude00"));
        assert_eq!(put_back(&halves), "😀");
    }
}
