//! The members of a request's body that decide about it, found while the body is read in pieces.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use super::conversation::{self, Conversation};
use super::scanner::{NotJson, Scanner, Sink};

/// Members that decide. One that comes twice could mean one thing here and another at the provider.
const DECIDING: [&str; 14] = [
    "model",
    "stream",
    "stream_options",
    "store",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "service_tier",
    "prompt_cache_key",
    "background",
    "previous_response_id",
    "conversation",
    "prompt",
];
/// Members that must be understood, as requests are decided by them. What cannot be understood of the others is as good
/// as absent: the provider judges it.
const UNDERSTOOD: [&str; 3] = ["model", "stream", "stream_options"];
/// The longest value that is understood, in bytes.
const MAX_VALUE: usize = 4 * 1024;
/// The byte order mark in UTF-8.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a body is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    #[error("The body is not acceptable JSON: {0}.")]
    NotJson(#[from] NotJson),
    #[error("The body must be a JSON object.")]
    NotObject,
    #[error("The member {0} is given more than once.")]
    Doubled(&'static str),
    #[error("The member {given} must be written {name}.")]
    Spelled { given: String, name: &'static str },
    #[error("{0} {1}.")]
    Member(&'static str, &'static str),
}

impl BodyFault {
    /// The member that is at fault.
    pub fn member(&self) -> Option<&str> {
        match self {
            Self::Doubled(name) | Self::Member(name, _) => Some(name),
            Self::Spelled { given, .. } => Some(given),
            Self::NotJson(_) | Self::NotObject => None,
        }
    }
}

/// A member's value as it was written, and its place.
#[derive(Debug)]
struct Found {
    name: &'static str,
    from: u64,
    /// Unknown until it ends.
    to: Option<u64>,
    text: Vec<u8>,
}

#[derive(Debug, Default)]
struct Members {
    found: Vec<Found>,
    /// The member whose value is being read is one of them.
    is_open: bool,
    /// The name that was read last.
    next: Option<&'static str>,
    /// A name for which the body is refused.
    fault: Option<BodyFault>,
    is_object: bool,
    conversation: Conversation,
}

/// A member name without escapes.
pub(super) fn unescaped(name: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(name);
    if !text.contains('\\') {
        return text;
    }
    serde_json::from_str::<String>(&format!("\"{text}\"")).map_or(text, Cow::Owned)
}

/// Whether some servers take a name for another: they ignore case, some of them as Unicode folds it.
fn is_spelling_of(name: &str, known: &str) -> bool {
    let folded = name.chars().map(|one| match one {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    folded.eq(known.chars())
}

/// A byte order mark (RFC 8259 §8.1) at the beginning of a text that comes in pieces: it may be ignored.
#[derive(Debug, Default)]
pub struct Mark {
    /// So many of its bytes have come.
    length: usize,
    is_past: bool,
}

impl Mark {
    /// What follows the mark in the next piece.
    ///
    /// # Errors
    /// The text begins with a part of the mark.
    pub fn skip<'p>(&mut self, mut piece: &'p [u8]) -> Result<&'p [u8], NotJson> {
        while let Some((first, rest)) = piece.split_first().filter(|_| !self.is_past) {
            if BYTE_ORDER_MARK.get(self.length) == Some(first) {
                (self.length, piece) = (self.length + 1, rest);
                continue;
            }
            self.is_past = true;
            if (1..BYTE_ORDER_MARK.len()).contains(&self.length) {
                return Err(NotJson { reason: "expected a value", offset: 0 });
            }
        }
        Ok(piece)
    }

    /// Its bytes so far.
    pub(super) fn length(&self) -> u64 {
        self.length as u64
    }
}

impl Sink for Members {
    fn name(&mut self, depth: usize, name: &[u8]) {
        let name = unescaped(name);
        if depth == 1 {
            let known = DECIDING.into_iter().find(|known| is_spelling_of(&name, known));
            self.next = known.filter(|known| *known == name);
            let is_doubled = |known: &&str| self.found.iter().any(|found| found.name == *known);
            let fault = match known {
                Some(known) if self.next.is_none() => Some(BodyFault::Spelled { given: name.to_string(), name: known }),
                known => known.filter(is_doubled).map(BodyFault::Doubled),
            };
            self.fault = self.fault.take().or(fault);
        }
        self.conversation.name(depth, &name);
    }

    fn begin(&mut self, depth: usize, first: u8, at: u64) {
        if depth == 0 {
            self.is_object = first == b'{';
        }
        if depth == 1
            && let Some(name) = self.next.take().filter(|_| self.fault.is_none())
        {
            self.found.push(Found { name, from: at, to: None, text: Vec::new() });
            self.is_open = true;
        }
        self.conversation.begin(depth, first, at);
    }

    fn scalar(&mut self, depth: usize, bytes: &[u8]) {
        self.conversation.scalar(depth, bytes);
    }

    fn end(&mut self, depth: usize, at: u64) {
        if depth == 1
            && std::mem::take(&mut self.is_open)
            && let Some(found) = self.found.last_mut()
        {
            found.to = Some(at);
        }
        self.conversation.end(depth);
    }
}

/// A place in a body, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: u64,
    pub to: u64,
}

/// What decides about a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestHead {
    pub model: Option<String>,
    pub model_at: Option<Span>,
    pub streams: bool,
    /// The value of `stream_options` that asks for usage in addition, if it does not yet, and where that value is now.
    pub usage_option: Option<(String, Option<Span>)>,
    pub store: Option<bool>,
    /// Where a `store` is that says nothing: it is null, or neither true nor false.
    pub store_at: Option<Span>,
    pub background: bool,
    /// A member that needs the state of earlier responses.
    pub stateful: Option<&'static str>,
    pub n: Option<u64>,
    /// The smallest of the bounds of the output.
    pub max_output_tokens: Option<u64>,
    pub service_tier: Option<String>,
    pub prompt_cache_key: Option<String>,
    /// A digest of the conversation's beginning; `None`: it has none.
    pub conversation: Option<u64>,
}

/// Reads a body in pieces of any size.
#[derive(Debug, Default)]
pub struct BodyReader {
    scanner: Scanner,
    members: Members,
    /// Where the last byte that is not white space is, behind the mark. So are all places that are kept here.
    last_at: u64,
    mark: Mark,
}

impl BodyReader {
    /// # Errors
    /// The body is refused, whatever follows.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), BodyFault> {
        let piece = self.mark.skip(piece)?;
        let base = self.scanner.read();
        let pushed = self.scanner.push(piece, &mut self.members);
        pushed.map_err(|fault| self.in_body(fault))?;
        if let Some(last) = piece.iter().rposition(|byte| !byte.is_ascii_whitespace()) {
            self.last_at = base + last as u64;
        }
        if let Some(fault) = &self.members.fault {
            return Err(fault.clone());
        }
        for found in &mut self.members.found {
            let wanted = found.from.max(base)..found.to.unwrap_or(u64::MAX).min(base + piece.len() as u64);
            let (from, to) = (wanted.start.saturating_sub(base) as usize, wanted.end.saturating_sub(base) as usize);
            found.text.extend_from_slice(piece.get(from..to).unwrap_or_default());
            if found.text.len() > MAX_VALUE && UNDERSTOOD.contains(&found.name) {
                return Err(BodyFault::Member(found.name, "is too long"));
            }
            // One byte more than may be understood.
            found.text.truncate(MAX_VALUE + 1);
        }
        if self.members.is_object || piece.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        Err(BodyFault::NotObject)
    }

    /// The end of the body.
    ///
    /// # Errors
    /// The body is refused.
    pub fn finish(&mut self) -> Result<(), BodyFault> {
        let finished = self.scanner.finish(&mut self.members);
        Ok(finished.map_err(|fault| self.in_body(fault))?)
    }

    /// With its place in the body, which begins with the mark.
    fn in_body(&self, fault: NotJson) -> NotJson {
        NotJson { offset: fault.offset + self.mark.length(), ..fault }
    }

    /// The number of bytes that were read.
    pub fn read(&self) -> u64 {
        self.scanner.read() + self.mark.length()
    }

    /// Where the closing brace of the body is. Members are added before it.
    pub fn closing_at(&self) -> u64 {
        self.last_at + self.mark.length()
    }

    /// Whether these members are known already.
    pub fn has(&self, names: &[&str]) -> bool {
        let is_known = |name: &&str| self.members.found.iter().any(|found| found.name == *name && found.to.is_some());
        names.iter().all(is_known)
    }

    /// What is known so far.
    ///
    /// # Errors
    /// A member that must be understood has another type than it must have.
    pub fn head(&self) -> Result<RequestHead, BodyFault> {
        let mut head = RequestHead { conversation: self.members.conversation.digest(), ..RequestHead::default() };
        let mut usage_option = Some((r#"{"include_usage":true}"#.to_string(), None));
        let skipped = self.mark.length();
        for Found { name, from, to, text } in &self.members.found {
            let Some(at) = to.map(|to| Span { from: from + skipped, to: to + skipped }) else { continue };
            let fault = |detail| BodyFault::Member(name, detail);
            match *name {
                "store" => {
                    (head.store, head.store_at) = understood(text).map_or((None, Some(at)), |it| (Some(it), None))
                }
                "stream_options" if text == b"null" => {
                    usage_option = usage_option.map(|(text, _)| (text, Some(at)));
                }
                _ if text == b"null" => {}
                "model" => {
                    let model = understood(text).ok_or_else(|| fault("must be a string"))?;
                    (head.model, head.model_at) = (Some(model), Some(at));
                }
                "stream" => head.streams = understood(text).ok_or_else(|| fault("must be true or false"))?,
                "stream_options" => usage_option = with_usage(text).map_err(fault)?.map(|text| (text, Some(at))),
                "background" => head.background = understood(text).unwrap_or_default(),
                "n" => head.n = whole(text),
                "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                    head.max_output_tokens = [head.max_output_tokens, whole(text)].into_iter().flatten().min();
                }
                "service_tier" => head.service_tier = understood(text),
                "prompt_cache_key" => head.prompt_cache_key = understood(text),
                stateful => head.stateful = Some(stateful),
            }
        }
        head.usage_option = usage_option.filter(|_| head.streams);
        Ok(head)
    }
}

/// A value of a type; `None` if it is of another, or too long.
fn understood<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    serde_json::from_slice(text).ok().filter(|_| text.len() <= MAX_VALUE)
}

/// A whole number, however it is written; `None` if it is something else, or too large.
fn whole(text: &[u8]) -> Option<u64> {
    let is_exact = |number: &f64| (0.0..2f64.powi(53)).contains(number) && number.fract() == 0.0;
    understood(text).or_else(|| understood::<f64>(text).filter(is_exact).map(|number| number as u64))
}

/// The value of `stream_options` that asks for usage as well; `None` if it does already.
fn with_usage(text: &[u8]) -> Result<Option<String>, &'static str> {
    let mut options: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(text).map_err(|_| "must be an object")?;
    if options.get("include_usage") == Some(&true.into()) {
        return Ok(None);
    }
    options.insert("include_usage".into(), true.into());
    Ok(Some(serde_json::Value::Object(options).to_string()))
}

/// The digest of what names a conversation: a session, or a cache key.
pub fn digest_of(name: &str) -> u64 {
    conversation::hash(conversation::BASIS, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::pieces::cut;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<RequestHead, BodyFault> {
        let mut reader = BodyReader::default();
        reader.push(text.as_bytes())?;
        reader.finish()?;
        reader.head()
    }

    #[test]
    fn members_that_decide_are_found_with_their_places() {
        let text = r#" {"messages":[{"model":"inner"}],"mod\u0065l":"gpt-5","stream":true,"n":2,"max_tokens":9,
            "max_completion_tokens":7,"service_tier":"flex"} "#;
        let head = read(text).unwrap();
        assert_eq!(head.model.as_deref(), Some("gpt-5"));
        let Span { from, to } = head.model_at.unwrap();
        assert_eq!(&text[from as usize..to as usize], "\"gpt-5\"");
        assert_eq!((head.streams, head.n, head.max_output_tokens), (true, Some(2), Some(7)));
        assert_eq!(head.service_tier.as_deref(), Some("flex"));
        assert_eq!(head.usage_option, Some((r#"{"include_usage":true}"#.into(), None)));
        let mut reader = BodyReader::default();
        reader.push(text.as_bytes()).unwrap();
        assert_eq!(&text[reader.closing_at() as usize..], "} ");
    }

    #[test]
    fn usage_is_asked_for_only_in_streams_that_lack_it() {
        let option = |text: &str| read(text).unwrap().usage_option.map(|(text, at)| (text, at.is_some()));
        assert_eq!(option(r#"{"stream":false}"#), None);
        assert_eq!(option(r#"{"stream":true,"stream_options":{"include_usage":true}}"#), None);
        let text = r#"{"stream":true,"stream_options":{"include_usage":false,"include_obfuscation":false}}"#;
        let asked = r#"{"include_obfuscation":false,"include_usage":true}"#;
        let (found, in_place) = option(text).unwrap();
        assert_eq!(
            (serde_json::from_str::<serde_json::Value>(&found).unwrap(), in_place),
            (serde_json::from_str(asked).unwrap(), true)
        );
        assert_eq!(
            option(r#"{"stream":true,"stream_options":null}"#),
            Some((r#"{"include_usage":true}"#.into(), true))
        );
    }

    #[test]
    fn a_body_with_a_fault_is_refused_by_its_name() {
        for (text, fault) in [
            (r#"{"model":"a","mod\u0065l":"b"}"#, BodyFault::Doubled("model")),
            (r#"{"stream":true,"a":1,"stream":false}"#, BodyFault::Doubled("stream")),
            (r#"{"stream":"yes"}"#, BodyFault::Member("stream", "must be true or false")),
            (r#"{"stream_options":[]}"#, BodyFault::Member("stream_options", "must be an object")),
            (r#"{"model":7}"#, BodyFault::Member("model", "must be a string")),
            ("[1]", BodyFault::NotObject),
            ("7", BodyFault::NotObject),
            (r#"{"model":"a""#, BodyFault::NotJson(NotJson { reason: "the text ends too early", offset: 12 })),
        ] {
            assert_eq!(read(text), Err(fault), "{text}");
        }
        assert_eq!(read(&format!(r#"{{"model":"{}"}}"#, "m".repeat(5_000))).unwrap_err().member(), Some("model"));
        // Members that do not decide may come twice, or be of any type.
        assert!(read(r#"{"temperature":1,"temperature":"warm","model":null}"#).is_ok());
    }

    #[test]
    fn a_name_that_some_servers_take_for_a_deciding_one_is_refused() {
        for (given, name) in
            [("MODEL", "model"), ("Stream", "stream"), ("\u{17f}tore", "store"), ("max_to\u{212a}ens", "max_tokens")]
        {
            let fault = read(&format!(r#"{{"model":"allowed","{given}":"forbidden"}}"#)).unwrap_err();
            assert_eq!(fault, BodyFault::Spelled { given: given.into(), name });
            assert_eq!(fault.member(), Some(given));
        }
        let fault = read(r#"{"\u004dodel":"a"}"#).unwrap_err();
        assert_eq!(fault.to_string(), "The member Model must be written model.");
        assert!(read(r#"{"Temperature":1,"tools":[{"MODEL":"a"}],"models":["b"]}"#).is_ok());
    }

    #[test]
    fn what_cannot_be_understood_is_as_good_as_absent() {
        let long = format!(r#"{{"prompt_cache_key":"{}"}}"#, "k".repeat(5_000));
        for text in [
            r#"{"max_tokens":-1,"n":1.5,"max_output_tokens":1e30,"max_completion_tokens":123456789012345678901}"#,
            r#"{"n":"2","background":"yes","service_tier":7,"prompt_cache_key":[]}"#,
            r#"{"stream":null,"model":null,"stream_options":null,"background":null}"#,
            &long,
        ] {
            assert_eq!(read(text), Ok(RequestHead::default()), "{text}");
        }
        let head = read(r#"{"max_tokens":100.0,"max_output_tokens":1e3,"n":0.0}"#).unwrap();
        assert_eq!((head.max_output_tokens, head.n), (Some(100), Some(0)));
    }

    #[test]
    fn a_store_that_says_nothing_is_found_with_its_place() {
        for text in [r#"{"store": null}"#, r#"{"store": "no"}"#] {
            let head = read(text).unwrap();
            let Span { from, to } = head.store_at.unwrap();
            assert_eq!((head.store, from, to as usize), (None, 10, text.len() - 1));
        }
        let store = |text| read(text).map(|head| (head.store, head.store_at)).unwrap();
        assert_eq!(store(r#"{"store":true}"#), (Some(true), None));
        assert_eq!(store("{}"), (None, None));
    }

    #[test]
    fn a_byte_order_mark_is_a_part_of_the_body() {
        let text = "\u{feff}{\"model\":\"gpt-5\", \"store\":null }\n";
        let mut reader = BodyReader::default();
        reader.push(text.as_bytes()).unwrap();
        let head = reader.head().unwrap();
        let Span { from, to } = head.model_at.unwrap();
        assert_eq!(&text[from as usize..to as usize], "\"gpt-5\"");
        let Span { from, to } = head.store_at.unwrap();
        assert_eq!(&text[from as usize..to as usize], "null");
        assert_eq!(&text[reader.closing_at() as usize..], "}\n");
        assert_eq!(reader.read() as usize, text.len());
        let refused = |bytes: &[u8]| BodyReader::default().push(bytes).unwrap_err().to_string();
        for bytes in [&b"\xef{}"[..], b"\xef\xbb{}", b" \xef\xbb\xbf{}", b"\xef\xbb\xbf\xef\xbb\xbf{}"] {
            assert!(refused(bytes).contains("expected a value"), "{bytes:?}");
        }
        assert!(refused(b"\xef\xbb\xbf{]").contains("at byte 4"));
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_say_the_same(
            is_marked in any::<bool>(),
            cuts in prop::collection::vec(0usize..15, 1..60),
        ) {
            let text = r#"{"system":"be kind","model":"g\u00fc","messages":[{"role":"user","content":[{"text":"hi"}]}],
                "stream":true,"stream_options":{"include_usage":false},"prompt_cache_key":"k","n":1,"store":null}"#;
            let text = &format!("{}{text}", if is_marked { "\u{feff}" } else { "" });
            let mut reader = BodyReader::default();
            for piece in cut(text.as_bytes(), &cuts) {
                reader.push(piece).unwrap();
            }
            reader.finish().unwrap();
            prop_assert_eq!(reader.head().unwrap(), read(text).unwrap());
            prop_assert_eq!(reader.closing_at() as usize, text.len() - 1);
        }
    }
}
