//! What a response in one piece reports about itself, found while it is passed on.

use serde_json::Value;

use super::endpoint::Format;
use super::request_body::{Mark, unescaped};
use super::scanner::{NotJson, Scanner, Sink};
use super::token_usage::Used;
use crate::base::json_repair;

/// The longest value that is kept, in bytes.
const MAX_VALUE: usize = 64 * 1024;

/// A whole response, or the data of an event, as a value, repaired if necessary: see [`json_repair`].
pub fn value_of(bytes: &[u8]) -> Option<Value> {
    serde_json::from_str(&json_repair::json(bytes)?).ok()
}

/// What is kept of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Usage,
    FinishReason,
    ServiceTier,
    Error,
    Object,
}

#[derive(Debug, Default)]
struct Parts {
    is_object: bool,
    /// The member of the response that is being read holds its choices.
    is_choices: bool,
    next: Option<Kept>,
    /// What is being kept, the depth of its value, and where it began and ended.
    open: Option<(Kept, usize)>,
    found: Vec<(Kept, u64, Option<u64>, Vec<u8>)>,
}

impl Sink for Parts {
    fn name(&mut self, depth: usize, name: &[u8]) {
        if depth != 1 && depth != 3 {
            return;
        }
        let name = unescaped(name);
        if depth == 1 {
            self.is_choices = name == "choices";
        }
        let at_top = depth == 1;
        self.next = match &*name {
            "usage" if at_top => Some(Kept::Usage),
            "service_tier" if at_top => Some(Kept::ServiceTier),
            "stop_reason" | "status" if at_top => Some(Kept::FinishReason),
            "error" if at_top => Some(Kept::Error),
            "object" if at_top => Some(Kept::Object),
            "finish_reason" if self.is_choices && !at_top => Some(Kept::FinishReason),
            _ => None,
        };
    }

    fn begin(&mut self, depth: usize, first: u8, at: u64) {
        if depth == 0 {
            self.is_object = first == b'{';
        }
        if let (Some(kept), None) = (self.next.take(), self.open) {
            // Of several, the last counts, but for reasons, of which the first does.
            let known = self.found.iter().position(|(known, ..)| *known == kept);
            match known {
                Some(_) if kept == Kept::FinishReason => return,
                Some(known) => drop(self.found.remove(known)),
                None => {}
            }
            self.found.push((kept, at, None, Vec::new()));
            self.open = Some((kept, depth));
        }
    }

    fn scalar(&mut self, _: usize, _: &[u8]) {}

    fn end(&mut self, depth: usize, at: u64) {
        if self.open.is_some_and(|(_, open)| open == depth) {
            self.open = None;
            if let Some((_, _, to, _)) = self.found.last_mut() {
                *to = Some(at);
            }
        }
    }
}

/// What a response reports.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResponseReport {
    pub used: Option<Used>,
    pub finish_reason: Option<String>,
    pub service_tier: Option<String>,
    /// The error that the response has.
    pub error: Option<Value>,
    /// The response itself is an error: its `object` is `error`.
    pub is_error: bool,
}

/// Reads a JSON response in pieces of any size.
#[derive(Debug)]
pub struct ResponseReader {
    format: Format,
    mark: Mark,
    scanner: Scanner,
    parts: Parts,
    invalid: Option<NotJson>,
}

impl ResponseReader {
    pub fn new(format: Format) -> Self {
        let (mark, scanner, parts) = (Mark::default(), Scanner::default(), Parts::default());
        Self { format, mark, scanner, parts, invalid: None }
    }

    /// Takes the next piece. A response that is not JSON is passed on like any other, and reports nothing.
    pub fn push(&mut self, piece: &[u8]) {
        if self.invalid.is_some() {
            return;
        }
        let base = self.scanner.read();
        let (piece, mut invalid) = match self.mark.skip(piece) {
            Ok(piece) => (piece, None),
            Err(invalid) => (&[][..], Some(invalid)),
        };
        invalid = invalid.or_else(|| self.scanner.push(piece, &mut self.parts).err());
        self.invalid = invalid;
        for (_, from, to, text) in &mut self.parts.found {
            let end = base + piece.len() as u64;
            let (from, to) = ((*from).max(base), to.unwrap_or(end).min(end));
            let range = from.saturating_sub(base) as usize..to.saturating_sub(base) as usize;
            if text.len() <= MAX_VALUE {
                text.extend_from_slice(piece.get(range).unwrap_or_default());
            }
        }
    }

    /// The number of bytes that were read.
    pub fn read(&self) -> u64 {
        self.scanner.read() + self.mark.length()
    }

    /// Whether the response is a whole JSON object so far.
    pub fn is_whole(&self) -> bool {
        self.invalid.is_none() && self.parts.is_object && self.scanner.is_over()
    }

    pub fn report(&self) -> ResponseReport {
        let mut report = ResponseReport::default();
        for (kept, _, to, text) in &self.parts.found {
            let Some(value) = to.and_then(|_| serde_json::from_slice::<Value>(text).ok()) else { continue };
            match kept {
                Kept::Usage => {
                    report.used = Used::read(self.format, &value);
                    // In Anthropic's format.
                    let tier = value.get("service_tier").and_then(Value::as_str).map(Into::into);
                    report.service_tier = report.service_tier.or(tier);
                }
                Kept::FinishReason => report.finish_reason = value.as_str().filter(|it| is_reason(it)).map(Into::into),
                Kept::ServiceTier => report.service_tier = value.as_str().map(Into::into).or(report.service_tier),
                Kept::Error => report.error = Some(value).filter(is_error),
                Kept::Object => report.is_error = value == "error",
            }
        }
        report
    }
}

/// Whether a word of a provider may be kept as the reason why a model stopped: 1 to 40 bytes of a-z, 0-9 and _.
pub fn is_reason(word: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=40).contains(&word.len()) && word.bytes().all(is_allowed)
}

/// The error in a chunk of a stream: its member, or all of it.
pub(super) fn error_in(chunk: &Value) -> Option<&Value> {
    let member = chunk.get("error").or_else(|| chunk.get("errors")).filter(|error| is_error(error));
    member.or_else(|| (chunk.get("object")? == "error").then_some(chunk))
}

/// Some servers send the member in every response, empty.
pub(super) fn is_error(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(members) => {
            members.values().any(|value| !matches!(value, Value::Null | Value::Number(_)) && *value != "")
        }
        Value::Array(items) => !items.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::pieces::cut;
    use proptest::prelude::*;

    const CHAT: &str = r#"{"id":"c","choices":[{"index":0,"message":{"content":"{\"usage\":1}","error":"no"},
        "finish_reason":"length"},{"index":1,"finish_reason":"stop"}],"service_tier":"flex",
        "usage":{"prompt_tokens":3,"completion_tokens":2},"error":null}"#;

    fn read(format: Format, pieces: &[&[u8]]) -> (ResponseReport, bool) {
        let mut reader = ResponseReader::new(format);
        for piece in pieces {
            reader.push(piece);
        }
        (reader.report(), reader.is_whole())
    }

    #[test]
    fn a_response_reports_its_usage_and_how_it_ended() {
        let (report, is_whole) = read(Format::OpenAi, &[CHAT.as_bytes()]);
        assert!(is_whole);
        assert_eq!((report.finish_reason.as_deref(), report.service_tier.as_deref()), (Some("length"), Some("flex")));
        assert_eq!((report.used.unwrap().tokens.output_tokens, report.error), (2, None));
        let message =
            br#"{"type":"message","content":[],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":2}}"#;
        let (report, _) = read(Format::Anthropic, &[message]);
        assert_eq!((report.finish_reason.as_deref(), report.used.unwrap().tokens.input_tokens), (Some("end_turn"), 1));
    }

    #[test]
    fn the_service_tier_of_a_message_is_in_its_usage() {
        let message = br#"{"usage":{"input_tokens":1,"output_tokens":2,"service_tier":"priority"}}"#;
        assert_eq!(read(Format::Anthropic, &[message]).0.service_tier.as_deref(), Some("priority"));
        let both = br#"{"usage":{"prompt_tokens":1,"service_tier":"a"},"service_tier":"b"}"#;
        assert_eq!(read(Format::OpenAi, &[both]).0.service_tier.as_deref(), Some("b"));
    }

    #[test]
    fn only_a_word_is_kept_as_the_reason_of_an_end() {
        let reason = |word: &str| {
            let text = format!(r#"{{"choices":[{{"finish_reason":"{word}"}}]}}"#);
            read(Format::OpenAi, &[text.as_bytes()]).0.finish_reason
        };
        assert_eq!(reason("tool_calls_2").as_deref(), Some("tool_calls_2"));
        for word in ["", "STOP", "the user said no", &"a".repeat(41)] {
            assert_eq!(reason(word), None, "{word}");
        }
    }

    #[test]
    fn what_is_no_whole_object_says_so() {
        for text in ["", "{", "[]", "<html>", "{}}", "7", "\u{feff}", "\u{feff}{"] {
            assert!(!read(Format::OpenAi, &[text.as_bytes()]).1, "{text}");
        }
        assert!(!read(Format::OpenAi, &[b"\xef\xbb", b"{}"]).1);
        assert!(read(Format::OpenAi, &[b"\xef", b"\xbb\xbf {}"]).1);
        assert!(read(Format::OpenAi, &[br#"{"object":"error","message":"no","code":400}"#]).0.is_error);
        assert!(!read(Format::OpenAi, &[br#"{"object":"chat.completion","choices":[{"object":"error"}]}"#]).0.is_error);
        let error = br#"{"error":{"message":"no","code":400}}"#;
        assert!(read(Format::OpenAi, &[error]).0.error.is_some());
        for empty in [r#"{"error":""}"#, r#"{"error":{}}"#, r#"{"error":{"message":"","code":0,"param":null}}"#] {
            assert_eq!(read(Format::OpenAi, &[empty.as_bytes()]).0.error, None, "{empty}");
        }
        // Of a doubled member, the last counts.
        let doubled = br#"{"usage":{"prompt_tokens":1},"usage":{"prompt_tokens":2}}"#;
        assert_eq!(read(Format::OpenAi, &[doubled]).0.used.unwrap().tokens.input_tokens, 2);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_say_the_same(
            is_marked in any::<bool>(),
            cuts in prop::collection::vec(0usize..15, 1..60),
        ) {
            let text = format!("{}{CHAT}", if is_marked { "\u{feff}" } else { "" });
            let pieces = cut(text.as_bytes(), &cuts);
            prop_assert_eq!(read(Format::OpenAi, &pieces), read(Format::OpenAi, &[CHAT.as_bytes()]));
        }
    }
}
