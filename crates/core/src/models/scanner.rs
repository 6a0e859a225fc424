//! Reads a JSON text (RFC 8259) in pieces of any size, without keeping them: a [`Sink`] learns of names and values as
//! they come. Nothing is unescaped, and characters are not checked, as nothing is rewritten.

/// The deepest nesting that is read.
const MAX_DEPTH: usize = 256;
/// The longest member name that a sink learns, in bytes as they are written.
const MAX_NAME: usize = 256;

/// Why a text is not acceptable JSON. `offset` is in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct NotJson {
    pub reason: &'static str,
    pub offset: u64,
}

/// What learns of the parts of a text. Depth is the number of open objects and arrays around a part.
pub trait Sink {
    /// A member name as it is written, without its quotes; empty if it is too long to matter.
    fn name(&mut self, depth: usize, name: &[u8]);
    /// A value begins, with this byte.
    fn begin(&mut self, depth: usize, first: u8, at: u64);
    /// Some bytes of a string (with its quotes), a number or a word.
    fn scalar(&mut self, depth: usize, bytes: &[u8]);
    /// A value has ended before this offset.
    fn end(&mut self, depth: usize, at: u64);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A value must follow.
    Value,
    /// A value or the end of the array.
    FirstItem,
    /// A member or the end of the object.
    FirstName,
    Name,
    Colon,
    /// A comma, or the end of what is open.
    After,
    Text {
        is_name: bool,
        escape: Escape,
    },
    Number(NumberPart),
    /// The rest of `true`, `false` or `null`.
    Word(&'static [u8]),
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    /// So many hexadecimal digits must follow.
    Hex(u8),
}

/// How far a number has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NumberPart {
    Sign,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl NumberPart {
    fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Sign, b'0') => Self::Zero,
            (Self::Sign | Self::Whole, b'0'..=b'9') => Self::Whole,
            (Self::Zero | Self::Whole, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => Self::ExponentDigits,
            _ => return None,
        })
    }

    fn is_whole(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::ExponentDigits)
    }
}

#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// Of each open value, whether it is an object.
    open: Vec<bool>,
    /// How many bytes were read.
    at: u64,
    name: Vec<u8>,
    is_long_name: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { state: State::Value, open: Vec::new(), at: 0, name: Vec::new(), is_long_name: false }
    }
}

/// How many of these bytes are neither the end of a string, nor an escape, nor a control character. Eight at a time:
/// most bytes of large bodies are in strings.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let mut length = 0;
    let (chunks, _) = bytes.as_chunks::<8>();
    for chunk in chunks {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        if zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\'))) | control != 0 {
            break;
        }
        length += 8;
    }
    let rest = bytes.get(length..).unwrap_or_default();
    length + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}

impl Scanner {
    fn fail<T>(&self, reason: &'static str) -> Result<T, NotJson> {
        Err(NotJson { reason, offset: self.at })
    }

    /// Whether the text is complete. Only white space may follow.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The number of bytes that were read.
    pub fn read(&self) -> u64 {
        self.at
    }

    /// # Errors
    /// The text is not JSON. Nothing more can be read.
    pub fn push(&mut self, piece: &[u8], sink: &mut impl Sink) -> Result<(), NotJson> {
        let mut rest = piece;
        while let Some((first, after)) = rest.split_first() {
            let taken = match self.state {
                State::Text { is_name, escape: Escape::None } => self.text(rest, is_name, sink)?,
                State::Number(digits) => match digits.next(*first) {
                    Some(next) => {
                        self.state = State::Number(next);
                        sink.scalar(self.open.len(), &[*first]);
                        1
                    }
                    None if digits.is_whole() => {
                        self.end(0, sink);
                        0
                    }
                    None => return self.fail("expected a digit"),
                },
                _ => {
                    self.byte(*first, sink)?;
                    1
                }
            };
            self.at += taken as u64;
            rest = if taken == 1 { after } else { rest.get(taken..).unwrap_or_default() };
        }
        Ok(())
    }

    /// The end of the text.
    ///
    /// # Errors
    /// The text is incomplete.
    pub fn finish(&mut self, sink: &mut impl Sink) -> Result<(), NotJson> {
        if let State::Number(digits) = self.state
            && digits.is_whole()
        {
            self.end(0, sink);
        }
        if self.is_over() { Ok(()) } else { self.fail("the text ends too early") }
    }

    /// A value has ended, `length` bytes from here.
    fn end(&mut self, length: u64, sink: &mut impl Sink) {
        sink.end(self.open.len(), self.at + length);
        self.state = if self.open.is_empty() { State::Over } else { State::After };
    }

    /// Reads on inside a string. Returns how many bytes.
    fn text(&mut self, rest: &[u8], is_name: bool, sink: &mut impl Sink) -> Result<usize, NotJson> {
        let length = plain(rest);
        let special = rest.get(length).copied();
        if special.is_some_and(|byte| byte < 0x20) {
            return self.fail("a control character must be escaped");
        }
        let taken = length + usize::from(special.is_some());
        let bytes = rest.get(..taken).unwrap_or_default();
        if is_name {
            self.is_long_name |= self.name.len() + length > MAX_NAME;
            if !self.is_long_name {
                let without_quote = if special == Some(b'"') { length } else { taken };
                self.name.extend_from_slice(bytes.get(..without_quote).unwrap_or_default());
            }
        } else {
            sink.scalar(self.open.len(), bytes);
        }
        match special {
            None => {}
            Some(b'\\') => self.state = State::Text { is_name, escape: Escape::Begun },
            Some(_) if is_name => {
                let name = if self.is_long_name { &[] } else { self.name.as_slice() };
                sink.name(self.open.len(), name);
                self.name.clear();
                self.is_long_name = false;
                self.state = State::Colon;
            }
            Some(_) => self.end(taken as u64, sink),
        }
        Ok(taken)
    }

    fn byte(&mut self, byte: u8, sink: &mut impl Sink) -> Result<(), NotJson> {
        if let State::Text { is_name, escape } = self.state {
            return self.escaped(byte, is_name, escape, sink);
        }
        if let State::Word(rest) = self.state {
            return self.word(byte, rest, sink);
        }
        if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            return Ok(());
        }
        match (self.state, byte) {
            (State::FirstItem, b']') | (State::FirstName, b'}') => self.close(sink),
            (State::Value | State::FirstItem, _) => self.value(byte, sink)?,
            (State::FirstName | State::Name, b'"') => self.state = State::Text { is_name: true, escape: Escape::None },
            (State::FirstName | State::Name, _) => return self.fail("expected a member name in double quotes"),
            (State::Colon, b':') => self.state = State::Value,
            (State::Colon, _) => return self.fail("expected a colon after the member name"),
            (State::After, _) => {
                let is_object = self.open.last().copied().unwrap_or_default();
                match (is_object, byte) {
                    (true, b',') => self.state = State::Name,
                    (false, b',') => self.state = State::Value,
                    (true, b'}') | (false, b']') => self.close(sink),
                    (true, _) => return self.fail("expected a comma or }"),
                    (false, _) => return self.fail("expected a comma or ]"),
                }
            }
            (State::Over, _) => return self.fail("unexpected text after the value"),
            (State::Text { .. } | State::Number(_) | State::Word(_), _) => {}
        }
        Ok(())
    }

    fn close(&mut self, sink: &mut impl Sink) {
        self.open.pop();
        self.end(1, sink);
    }

    fn escaped(&mut self, byte: u8, is_name: bool, escape: Escape, sink: &mut impl Sink) -> Result<(), NotJson> {
        let next = match (escape, byte) {
            (Escape::Begun, b'u') => Escape::Hex(4),
            (Escape::Begun, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Escape::None,
            (Escape::Hex(1), _) if byte.is_ascii_hexdigit() => Escape::None,
            (Escape::Hex(left), _) if byte.is_ascii_hexdigit() => Escape::Hex(left - 1),
            _ => return self.fail("unknown escape in a string"),
        };
        if !is_name {
            sink.scalar(self.open.len(), &[byte]);
        } else if !self.is_long_name {
            self.name.push(byte);
        }
        self.state = State::Text { is_name, escape: next };
        Ok(())
    }

    fn word(&mut self, byte: u8, rest: &'static [u8], sink: &mut impl Sink) -> Result<(), NotJson> {
        match rest.split_first() {
            Some((expected, after)) if *expected == byte => {
                sink.scalar(self.open.len(), &[byte]);
                self.state = State::Word(after);
                if after.is_empty() {
                    self.end(1, sink);
                }
                Ok(())
            }
            _ => self.fail("unknown word; expected true, false or null"),
        }
    }

    fn value(&mut self, byte: u8, sink: &mut impl Sink) -> Result<(), NotJson> {
        let next = match byte {
            b'{' | b'[' => {
                if self.open.len() >= MAX_DEPTH {
                    return self.fail("nested too deeply");
                }
                sink.begin(self.open.len(), byte, self.at);
                self.open.push(byte == b'{');
                self.state = if byte == b'{' { State::FirstName } else { State::FirstItem };
                return Ok(());
            }
            b'"' => State::Text { is_name: false, escape: Escape::None },
            b'-' => State::Number(NumberPart::Sign),
            b'0' => State::Number(NumberPart::Zero),
            b'1'..=b'9' => State::Number(NumberPart::Whole),
            b't' => State::Word(b"rue"),
            b'f' => State::Word(b"alse"),
            b'n' => State::Word(b"ull"),
            _ => return self.fail("expected a value"),
        };
        sink.begin(self.open.len(), byte, self.at);
        sink.scalar(self.open.len(), &[byte]);
        self.state = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::json;
    use crate::base::pieces::cut;
    use proptest::prelude::*;

    #[derive(Default, PartialEq, Debug)]
    struct Notes(Vec<String>);

    impl Sink for Notes {
        fn name(&mut self, depth: usize, name: &[u8]) {
            self.0.push(format!("{depth} {}:", String::from_utf8_lossy(name)));
        }

        fn begin(&mut self, depth: usize, first: u8, at: u64) {
            self.0.push(format!("{depth} {at} {} ", first as char));
        }

        fn scalar(&mut self, _: usize, bytes: &[u8]) {
            if let Some(last) = self.0.last_mut() {
                // A piece may end inside a character.
                last.extend(bytes.iter().copied().map(char::from));
            }
        }

        fn end(&mut self, depth: usize, at: u64) {
            self.0.push(format!("{depth} {at}."));
        }
    }

    fn scan(pieces: &[&[u8]]) -> Result<Notes, NotJson> {
        let (mut scanner, mut notes) = (Scanner::default(), Notes::default());
        for piece in pieces {
            scanner.push(piece, &mut notes)?;
        }
        scanner.finish(&mut notes)?;
        Ok(notes)
    }

    #[test]
    fn values_are_found_with_their_places() {
        let notes = scan(&[br#"{"a": [1, "x\"y"], "b\u0062" :null }"#]).unwrap();
        assert_eq!(
            notes.0,
            [
                "0 0 { ",
                "1 a:",
                "1 6 [ ",
                "2 7 1 1",
                "2 8.",
                "2 10 \" \"x\\\"y\"",
                "2 16.",
                "1 17.",
                r"1 b\u0062:",
                "1 30 n null",
                "1 34.",
                "0 36."
            ]
        );
        assert_eq!(scan(&[b" 12 "]).unwrap().0, ["0 1 1 12", "0 3."]);
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for (text, offset) in [
            ("", 0),
            ("{", 1),
            ("{}x", 2),
            ("{'a':1}", 1),
            ("{\"a\" 1}", 5),
            ("[1,]", 3),
            ("[01]", 2),
            ("[1.]", 3),
            ("-", 1),
            ("tru", 3),
            ("nul!", 3),
            ("\"\\x\"", 2),
            ("\"\\u12g4\"", 5),
            ("\"a\nb\"", 1),
            ("{\"a\":1,}", 7),
        ] {
            assert_eq!(scan(&[text.as_bytes()]).unwrap_err().offset, offset, "{text}");
        }
        assert!(scan(&["[".repeat(257).as_bytes()]).is_err());
        assert!(scan(&[format!("{}{}", "[".repeat(256), "]".repeat(256)).as_bytes()]).is_ok());
    }

    #[test]
    fn a_long_name_is_not_kept() {
        let text = format!("{{\"{}\":1}}", "n".repeat(5_000));
        let (mut scanner, mut notes) = (Scanner::default(), Notes::default());
        for piece in text.as_bytes().chunks(7) {
            scanner.push(piece, &mut notes).unwrap();
            assert!(scanner.name.len() <= MAX_NAME);
        }
        assert_eq!(notes.0[1], "1 :");
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Into::into),
            "(\\PC|[\"\\\\\n]){0,40}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map("\\PC{0,9}", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_say_the_same(value in value(), cuts in prop::collection::vec(0usize..20, 1..80)) {
            let text = value.to_string();
            let whole = scan(&[text.as_bytes()]).unwrap();
            let pieces = cut(text.as_bytes(), &cuts);
            prop_assert_eq!(scan(&pieces).unwrap(), whole);
        }

        /// What the strict check of whole texts accepts is accepted here, and what is refused here is refused there.
        #[test]
        fn any_text_is_judged_as_by_the_check_of_whole_texts(text in "[\\[\\]{}:,\"\\\\ue0-9.tfn\\-+ a]{0,24}") {
            if json::check(text.as_bytes(), MAX_DEPTH).is_ok() {
                prop_assert!(scan(&[text.as_bytes()]).is_ok(), "{}", text);
            }
            if scan(&[text.as_bytes()]).is_ok() {
                // Doubled names and numbers beyond a double are not refused here.
                prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{}", text);
            }
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = scan(&[&bytes]);
        }
    }
}
