//! Streamed responses (Server-Sent Events) as they are passed on: whole events only, as they came, and what they report
//! about usage and the end.

use std::fmt;
use std::rc::Rc;

use serde_json::Value;

use super::endpoint::Endpoint;
use super::response_body::{error_in, value_of};
use super::token_usage::{TokenUsage, Used, estimate};

/// The longest event, in bytes.
pub const MAX_EVENT: usize = 8 * 1024 * 1024;
/// Event types that only keep a connection open.
pub(super) const SIGNS_OF_LIFE: [&str; 5] = ["ping", "keepalive", "keep-alive", "heartbeat", "comment"];

/// What is passed on of the bytes that are held and those that just came: ranges in them. The rest is held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    pub ranges: Vec<(usize, usize)>,
    /// Where the rest begins.
    pub to: usize,
}

/// An error that a stream reported.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamError {
    /// The data of the event.
    pub data: String,
    pub value: Value,
    /// It shows credentials of the gateway, and does not pass.
    pub is_secret: bool,
}

impl StreamError {
    fn new(data: impl Into<String>, value: Value) -> Self {
        Self { data: data.into(), value, is_secret: false }
    }

    /// An event was not JSON.
    pub fn unreadable() -> Self {
        Self::new("", Value::Null)
    }
}

/// Whether a text shows credentials of the gateway.
#[derive(Clone)]
pub struct ShowsSecrets(pub Rc<dyn Fn(&str) -> bool>);

impl fmt::Debug for ShowsSecrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ShowsSecrets")
    }
}

/// Reads a streamed response.
#[derive(Debug)]
pub struct StreamReader {
    endpoint: Endpoint,
    /// Only the gateway asked for usage: the event with nothing else is not passed on.
    drops_usage: bool,
    shows_secrets: Option<ShowsSecrets>,
    /// An error that shows secrets did not pass.
    has_hidden: bool,
    /// The bytes of an incomplete event, where its last line begins, and up to where they were searched for its end.
    held: Vec<u8>,
    line_at: usize,
    searched: usize,
    /// An event with data has come.
    pub has_begun: bool,
    pub finish_reason: Option<String>,
    pub service_tier: Option<String>,
    pub error: Option<StreamError>,
    /// The event that ends a response of the format has come.
    is_done: bool,
    used: Option<Used>,
    /// Whether the usage is that of the whole response.
    is_final: bool,
    /// Events with a piece of the output, their bytes, and the bytes of the shortest one.
    pieces: u64,
    piece_bytes: u64,
    shortest: u64,
    /// An event was longer than is held: nothing more is read.
    pub is_too_long: bool,
    /// How many events of a Responses stream have come.
    pub events: u64,
}

/// Finds where the event ends whose last line begins at `line_at`: behind an empty line. Nothing before `searched` ends
/// a line. Otherwise where its last line begins, and up to where there is no end.
fn event_end(bytes: &[u8], mut line_at: usize, mut searched: usize) -> Result<usize, (usize, usize)> {
    loop {
        let rest = bytes.get(searched..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            return Err((line_at, bytes.len()));
        };
        let ending = searched + length;
        if bytes.get(ending) == Some(&b'\r') && bytes.len() == ending + 1 {
            // A line feed may follow.
            return Err((line_at, ending));
        }
        let is_pair = bytes.get(ending) == Some(&b'\r') && bytes.get(ending + 1) == Some(&b'\n');
        let is_empty = ending == line_at;
        line_at = ending + if is_pair { 2 } else { 1 };
        searched = line_at;
        if is_empty {
            return Ok(line_at);
        }
    }
}

/// The type and the data of an event.
fn parts(event: &[u8]) -> (String, String) {
    let (mut name, mut data, mut has_data) = (String::new(), String::new(), false);
    let text = String::from_utf8_lossy(event);
    for line in text.split(['\n', '\r']).map(|line| line.trim_start_matches('\u{feff}')) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => name = value.into(),
            "data" => {
                if std::mem::replace(&mut has_data, true) {
                    data.push('\n');
                }
                data.push_str(value);
            }
            _ => {}
        }
    }
    (name, data)
}

/// The type of an event that has a line for it.
fn named(event: &[u8]) -> Option<&[u8]> {
    let line = event.split(|byte| matches!(byte, b'\n' | b'\r')).find_map(|line| line.strip_prefix(b"event:"));
    line.map(<[u8]>::trim_ascii)
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == first)?;
        if bytes.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
}

/// Whether a member with this name, in quotes, has a value other than null, or an empty text.
fn has_value(event: &[u8], name: &[u8]) -> bool {
    let mut rest = event;
    while let Some(at) = find(rest, name) {
        rest = rest.get(at + name.len()..).unwrap_or_default();
        let value = rest.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        if value.is_some_and(|value| !value.starts_with(b"null") && !value.starts_with(b"\"\"")) {
            return true;
        }
    }
    false
}

/// Whether this word, in quotes, is a value and not the name of a member.
fn is_value(event: &[u8], word: &[u8]) -> bool {
    let mut rest = event;
    while let Some(at) = find(rest, word) {
        rest = rest.get(at + word.len()..).unwrap_or_default();
        if !rest.trim_ascii_start().starts_with(b":") {
            return true;
        }
    }
    false
}

impl StreamReader {
    pub fn new(endpoint: Endpoint, drops_usage: bool) -> Self {
        Self {
            endpoint,
            drops_usage,
            shows_secrets: None,
            has_hidden: false,
            held: Vec::new(),
            line_at: 0,
            searched: 0,
            has_begun: false,
            finish_reason: None,
            service_tier: None,
            error: None,
            is_done: false,
            used: None,
            is_final: false,
            pieces: 0,
            piece_bytes: 0,
            shortest: u64::MAX,
            is_too_long: false,
            events: 0,
        }
    }

    /// Errors that show secrets do not pass.
    #[must_use]
    pub fn hiding(self, shows_secrets: Option<ShowsSecrets>) -> Self {
        Self { shows_secrets, ..self }
    }

    /// Whether data belongs to an error that did not pass.
    pub fn hides(&self, data: &str) -> bool {
        self.has_hidden && self.shows_secrets.as_ref().is_some_and(|shows| (shows.0)(data))
    }

    /// Takes a piece of any size. Once the end marker has come, or an event was too long, nothing more is read, passed
    /// on or held.
    pub fn push(&mut self, piece: &[u8]) -> Passed {
        if self.is_done || self.is_too_long {
            return Passed { ranges: Vec::new(), to: piece.len() };
        }
        let passed = if self.held.is_empty() {
            let passed = self.events(piece);
            self.held.extend_from_slice(piece.get(passed.to..).unwrap_or_default());
            passed
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(piece);
            let passed = self.events(&held);
            held.drain(..passed.to);
            self.held = held;
            passed
        };
        if self.held.len() > MAX_EVENT {
            self.is_too_long = true;
            self.held = Vec::new();
        }
        passed
    }

    /// Reads the events that are complete.
    fn events(&mut self, bytes: &[u8]) -> Passed {
        let mut passed = Passed::default();
        let (mut line_at, mut searched) = (self.line_at, self.searched);
        loop {
            let end = match event_end(bytes, line_at, searched) {
                Ok(end) => end,
                Err((line_at, searched)) => {
                    (self.line_at, self.searched) = (line_at - passed.to, searched - passed.to);
                    return passed;
                }
            };
            if self.event(bytes.get(passed.to..end).unwrap_or_default()) {
                match passed.ranges.last_mut() {
                    Some((_, to)) if *to == passed.to => *to = end,
                    _ => passed.ranges.push((passed.to, end)),
                }
            }
            (passed.to, line_at, searched) = (end, end, end);
            if self.is_done {
                passed.to = bytes.len();
                return passed;
            }
        }
    }

    /// The stream has ended. Some servers send no empty line behind the last event: returns whether what is held is
    /// one, which is passed on. All else that is held is not.
    pub fn finish(&mut self) -> bool {
        let held = std::mem::take(&mut self.held);
        (self.line_at, self.searched) = (0, 0);
        if held.trim_ascii().is_empty() {
            return !held.is_empty();
        }
        let (_, data) = parts(&held);
        let is_whole = data.trim() == "[DONE]" || serde_json::from_str::<Value>(&data).is_ok();
        is_whole && self.event(&held)
    }

    /// How many bytes of an incomplete event are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether the last event of the response has come.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether the response is complete, as its format says.
    pub fn is_whole(&self) -> bool {
        self.error.is_none() && (self.is_done || self.finish_reason.is_some())
    }

    /// Reads one event. Returns whether it is passed on.
    fn event(&mut self, event: &[u8]) -> bool {
        let is_data = find(event, b"data").is_some();
        if !is_data {
            return true;
        }
        let earlier = self.error.take();
        let passes = match self.endpoint {
            Endpoint::Chat => self.chat(event),
            Endpoint::Messages => self.message(event),
            Endpoint::Responses => self.respond(event),
            Endpoint::Embeddings | Endpoint::CountTokens => true,
        };
        let Some(error) = &mut self.error else {
            self.error = earlier;
            return passes;
        };
        error.is_secret = self.shows_secrets.as_ref().is_some_and(|shows| (shows.0)(&error.data));
        self.has_hidden |= error.is_secret;
        passes && !error.is_secret
    }

    fn count(&mut self, event: &[u8]) {
        let bytes = event.len() as u64;
        self.pieces += 1;
        self.piece_bytes += bytes;
        self.shortest = self.shortest.min(bytes);
    }

    fn chat(&mut self, event: &[u8]) -> bool {
        const TEXTS: [&[u8]; 5] =
            [b"\"content\"", b"\"arguments\"", b"\"reasoning_content\"", b"\"reasoning\"", b"\"refusal\""];
        if TEXTS.iter().any(|name| has_value(event, name)) {
            self.count(event);
            self.has_begun = true;
        }
        let decides = [&b"\"usage\""[..], b"\"finish_reason\"", b"\"error\"", b"\"errors\""];
        let is_named = find(event, b"event").is_some();
        let is_done = find(event, b"[DONE]").is_some();
        let is_error = is_value(event, b"\"error\"");
        if !is_named && !is_done && !is_error && !decides.iter().any(|name| has_value(event, name)) {
            self.has_begun |= find(event, b"{").is_some();
            return true;
        }
        let (name, data) = parts(event);
        let data = data.trim();
        if data.is_empty() || SIGNS_OF_LIFE.contains(&name.as_str()) {
            return true;
        }
        if data.eq_ignore_ascii_case("[DONE]") {
            self.is_done = true;
            return true;
        }
        let value = value_of(data.as_bytes()).unwrap_or_default();
        let error = error_in(&value);
        if name == "error" || error.is_some() {
            self.error = Some(StreamError::new(data, error.cloned().unwrap_or(value)));
            return true;
        }
        self.has_begun = true;
        let choices = value.get("choices").and_then(Value::as_array);
        let reason = |choice: &'_ Value| Some(choice.get("finish_reason")?.as_str()?.to_string());
        let reason = choices.into_iter().flatten().filter_map(reason).find(|reason| !reason.is_empty());
        self.finish_reason = self.finish_reason.take().or(reason);
        if let Some(tier) = value.get("service_tier").and_then(Value::as_str) {
            self.service_tier = Some(tier.into());
        }
        if let Some(used) = value.get("usage").and_then(|usage| Used::read(self.endpoint.format(), usage)) {
            (self.used, self.is_final) = (Some(used), true);
            return !(self.drops_usage && choices.is_some_and(Vec::is_empty));
        }
        true
    }

    fn message(&mut self, event: &[u8]) -> bool {
        if named(event) == Some(b"content_block_delta") {
            self.count(event);
            self.has_begun = true;
            return true;
        }
        let (name, data) = parts(event);
        let value = value_of(data.trim().as_bytes()).unwrap_or_default();
        let kind = value.get("type").and_then(Value::as_str).unwrap_or(&name);
        let format = self.endpoint.format();
        match kind {
            "message_start" => {
                self.has_begun = true;
                self.used = value.pointer("/message/usage").and_then(|usage| Used::read(format, usage));
                let tier = value.pointer("/message/usage/service_tier").and_then(Value::as_str);
                self.service_tier = tier.map(Into::into);
            }
            "message_delta" => {
                let reason = value.pointer("/delta/stop_reason").and_then(Value::as_str);
                self.finish_reason = reason.map(Into::into).or_else(|| self.finish_reason.take());
                if let Some(usage) = value.get("usage") {
                    self.used = Some(self.used.unwrap_or_default().updated(format, usage));
                    self.is_final = true;
                }
            }
            "content_block_delta" => {
                self.count(event);
                self.has_begun = true;
            }
            "message_stop" => self.is_done = true,
            "error" => {
                self.is_done = true;
                let error = value.get("error").cloned().unwrap_or_else(|| value.clone());
                self.error = Some(StreamError::new(data.clone(), error));
            }
            _ => {}
        }
        true
    }

    fn respond(&mut self, event: &[u8]) -> bool {
        self.events += 1;
        if named(event).is_some_and(|name| name.ends_with(b".delta")) {
            self.count(event);
            self.has_begun = true;
            return true;
        }
        let (name, data) = parts(event);
        let value = value_of(data.trim().as_bytes()).unwrap_or_default();
        let kind = value.get("type").and_then(Value::as_str).unwrap_or(&name);
        let response = value.get("response").unwrap_or(&Value::Null);
        match kind {
            "response.completed" | "response.incomplete" => {
                self.has_begun = true;
                self.is_done = true;
                self.finish_reason = response.get("status").and_then(Value::as_str).map(Into::into);
                self.service_tier = response.get("service_tier").and_then(Value::as_str).map(Into::into);
                if let Some(used) = response.get("usage").and_then(|usage| Used::read(self.endpoint.format(), usage)) {
                    (self.used, self.is_final) = (Some(used), true);
                }
            }
            kind if kind.ends_with(".delta") => {
                self.count(event);
                self.has_begun = true;
            }
            "response.failed" => {
                self.is_done = true;
                let error = response.get("error").cloned().unwrap_or_default();
                self.error = Some(StreamError::new(data, error));
            }
            "error" => self.error = Some(StreamError::new(data, value.clone())),
            _ => self.has_begun = true,
        }
        true
    }

    /// The tokens of the response: reported, or estimated by what came of it and by the size of the request.
    pub fn used(&self, request_bytes: u64) -> Used {
        let mut used = self.used.unwrap_or_else(|| Used {
            tokens: TokenUsage { input_tokens: estimate(request_bytes), ..TokenUsage::default() },
            ..Used::default()
        });
        if !self.is_final {
            let text = self.piece_bytes.saturating_sub(self.pieces.saturating_mul(self.shortest));
            used.tokens.output_tokens = self.pieces.max(estimate(text));
            used.tokens.estimated = true;
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::pieces::cut;
    use proptest::prelude::*;

    const CHAT: &str = concat!(
        ": processing\n\n",
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel \\\"usage\\\":{\"},\"finish_reason\":null}]}\r\n\r\n",
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\": \"lo\"},\"finish_reason\":null}]}\n\n",
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}\n\n",
        "data: [DONE]\n\n"
    );
    const MESSAGE: &str = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n",
        "event: ping\ndata: {\"type\":\"ping\"}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"Hi\"}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":4}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
    );
    const RESPONSE: &str = concat!(
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null,\"status\":\"in_progress\"}}\n\n",
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n",
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"usage\":{\"input_tokens\":3,\"output_tokens\":2}}}\n\n"
    );

    fn read(endpoint: Endpoint, drops_usage: bool, pieces: &[&[u8]]) -> (StreamReader, String) {
        let (mut reader, mut held, mut text) = (StreamReader::new(endpoint, drops_usage), Vec::new(), Vec::new());
        for piece in pieces {
            held.extend_from_slice(piece);
            let Passed { ranges, to } = reader.push(piece);
            for (from, to) in ranges {
                text.extend_from_slice(&held[from..to]);
            }
            held.drain(..to);
        }
        if reader.finish() {
            text.extend_from_slice(&held);
        }
        (reader, String::from_utf8(text).unwrap())
    }

    #[test]
    fn events_are_passed_on_as_they_came() {
        for (endpoint, text, tokens, reason) in [
            (Endpoint::Chat, CHAT, (7, 5), "stop"),
            (Endpoint::Messages, MESSAGE, (9, 4), "end_turn"),
            (Endpoint::Responses, RESPONSE, (3, 2), "completed"),
        ] {
            let (reader, passed) = read(endpoint, false, &[text.as_bytes()]);
            assert_eq!(passed, text);
            assert!(reader.is_whole() && reader.has_begun, "{endpoint:?}");
            let used = reader.used(1_000).tokens;
            assert_eq!((used.input_tokens, used.output_tokens), tokens);
            assert!(!used.estimated);
            assert_eq!(reader.finish_reason.as_deref(), Some(reason));
        }
    }

    #[test]
    fn only_a_usage_event_that_the_client_did_not_ask_for_is_dropped() {
        let (reader, passed) = read(Endpoint::Chat, true, &[CHAT.as_bytes()]);
        let expected = CHAT.replace(
            "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}\n\n",
            "",
        );
        assert_eq!(passed, expected);
        assert_eq!(reader.used(0).tokens.output_tokens, 5);
        // Usage beside a choice is passed on with it.
        let beside = "data: {\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}\n\n";
        assert_eq!(read(Endpoint::Chat, true, &[beside.as_bytes()]).1, beside);
    }

    #[test]
    fn the_text_of_a_response_says_nothing_about_its_events() {
        let text = RESPONSE.replace("\"status\":\"completed\"", "\"status\":\"completed\",\"text\":\"Call it.delta\"");
        let (reader, _) = read(Endpoint::Responses, false, &[text.as_bytes()]);
        assert!(reader.is_whole());
        let text = MESSAGE.replace("end_turn", "content_block_delta");
        assert!(read(Endpoint::Messages, false, &[text.as_bytes()]).0.is_whole());
        // Without lines for the types.
        let bare: String =
            MESSAGE.split('\n').filter(|line| !line.starts_with("event:")).collect::<Vec<_>>().join("\n");
        let (reader, _) = read(Endpoint::Messages, false, &[bare.as_bytes()]);
        assert_eq!((reader.is_whole(), reader.used(0).tokens.output_tokens), (true, 4));
    }

    #[test]
    fn an_incomplete_event_is_not_passed_on() {
        let whole = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
        let (reader, passed) = read(Endpoint::Chat, false, &[whole.as_bytes(), b"data: {\"choices\":[{\"del"]);
        assert_eq!(passed, whole);
        assert!(!reader.is_whole());
        // Without the last empty line, a whole event is.
        let last = "data: [DONE]";
        let (reader, passed) = read(Endpoint::Chat, false, &[whole.as_bytes(), last.as_bytes()]);
        assert_eq!(passed, format!("{whole}{last}"));
        assert!(reader.is_whole());
    }

    #[test]
    fn what_is_held_at_the_end_passes_only_if_it_is_an_event_for_the_client() {
        let finish = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
        let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}";
        for (drops_usage, last, passes) in
            [(false, usage, true), (true, usage, false), (false, "data: {\"choices\":[", false), (false, "data", false)]
        {
            let mut reader = StreamReader::new(Endpoint::Chat, drops_usage);
            reader.push(finish.as_bytes());
            reader.push(last.as_bytes());
            assert_eq!((reader.finish(), reader.held(), reader.is_whole()), (passes, 0, true), "{last}");
        }
    }

    #[test]
    fn nothing_counts_behind_the_end_marker() {
        for (endpoint, text) in [(Endpoint::Chat, CHAT), (Endpoint::Messages, MESSAGE), (Endpoint::Responses, RESPONSE)]
        {
            let behind = "event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":\"late\"}}\n\ndata: hal";
            let all = format!("{text}{behind}");
            for pieces in [vec![all.as_bytes()], vec![text.as_bytes(), behind.as_bytes()]] {
                let (reader, passed) = read(endpoint, false, &pieces);
                assert_eq!(passed, text);
                assert!(reader.is_done() && reader.is_whole() && reader.held() == 0);
            }
        }
    }

    #[test]
    fn an_event_that_is_too_long_ends_the_reading() {
        let first = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
        let piece = vec![b'x'; 64 * 1024];
        let mut reader = StreamReader::new(Endpoint::Chat, false);
        assert_eq!(reader.push(first.as_bytes()).to, first.len());
        for _ in 0..MAX_EVENT / piece.len() {
            assert_eq!(reader.push(&piece), Passed::default());
        }
        assert!(!reader.is_too_long);
        reader.push(b"x");
        assert_eq!((reader.is_too_long, reader.held(), reader.is_done()), (true, 0, false));
        assert_eq!(reader.push(first.as_bytes()), Passed { ranges: Vec::new(), to: first.len() });
        // In one piece, too.
        let mut reader = StreamReader::new(Endpoint::Chat, false);
        let passed = reader.push(&[first.as_bytes(), &vec![b'x'; MAX_EVENT + 1]].concat());
        assert_eq!((passed.ranges, reader.is_too_long), (vec![(0, first.len())], true));
    }

    #[test]
    fn a_stream_that_is_cut_is_estimated() {
        let (start, mut text) =
            ("data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n", String::new());
        text.push_str(start);
        for _ in 0..20 {
            text.push_str("data: {\"choices\":[{\"delta\":{\"content\":\" tok\"}}]}\n\n");
        }
        let (reader, _) = read(Endpoint::Chat, false, &[text.as_bytes()]);
        let tokens = reader.used(400).tokens;
        assert_eq!((tokens.input_tokens, tokens.output_tokens, tokens.estimated), (100, 20, true));
        let (reader, _) =
            read(Endpoint::Messages, false, &[MESSAGE.split("event: message_delta").next().unwrap().as_bytes()]);
        let tokens = reader.used(400).tokens;
        assert_eq!((tokens.input_tokens, tokens.output_tokens, tokens.estimated), (9, 1, true));
    }

    #[test]
    fn an_empty_reason_is_no_end() {
        let chunk = |reason: &str| {
            format!(
                "data: {{\"choices\":[{{\"delta\":{{\"content\":\"a\"}},\"finish_reason\":\"{reason}\"}}],\
                 \"usage\":{{\"prompt_tokens\":1}}}}\n\n"
            )
        };
        let (reader, _) = read(Endpoint::Chat, false, &[chunk("").as_bytes(), chunk("").as_bytes()]);
        assert_eq!((reader.is_whole(), reader.finish_reason), (false, None));
        let (reader, _) = read(Endpoint::Chat, false, &[chunk("").as_bytes(), chunk("stop").as_bytes()]);
        assert_eq!((reader.is_whole(), reader.finish_reason.as_deref()), (true, Some("stop")));
    }

    #[test]
    fn errors_in_a_stream_are_found() {
        for (endpoint, text, has_begun) in [
            (Endpoint::Chat, "data: {\"error\":{\"message\":\"busy\"}}\n\n", false),
            (Endpoint::Chat, "event: error\ndata: too busy now\n\n", false),
            (Endpoint::Chat, "data: {\"object\": \"error\",\"message\":\"busy\",\"code\":503}\n\n", false),
            (
                Endpoint::Messages,
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n",
                false,
            ),
            (Endpoint::Responses, "event: error\ndata: {\"type\":\"error\",\"message\":\"busy\"}\n\n", false),
            (
                Endpoint::Responses,
                "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"message\":\"busy\"}}}\n\n",
                false,
            ),
        ] {
            let (reader, passed) = read(endpoint, false, &[text.as_bytes()]);
            let error = reader.error.as_ref().unwrap();
            assert!(error.data.contains("busy"), "{text}");
            assert_eq!((reader.has_begun, reader.is_whole(), passed.as_str()), (has_begun, false, text));
        }
        let said = "data: {\"object\":\"c\",\"choices\":[{\"delta\":{\"content\":\"error\"}}]}\n\n";
        assert!(read(Endpoint::Chat, false, &[said.as_bytes()]).0.error.is_none());
        let empty = "data: {\"error\":null,\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
        assert!(read(Endpoint::Chat, false, &[empty.as_bytes()]).0.error.is_none());
    }

    #[test]
    fn an_error_that_shows_credentials_does_not_pass() {
        let shows = ShowsSecrets(Rc::new(|text| text.contains("sk-1")));
        let first = "data: {\"choices\":[{\"delta\":{\"content\":\"sk-1\"}}]}\n\n";
        for (error, is_secret) in [("busy", false), ("wrong key sk-1", true)] {
            let mut reader = StreamReader::new(Endpoint::Chat, false).hiding(Some(shows.clone()));
            let text = format!("{first}data: {{\"error\":{{\"message\":\"{error}\"}}}}\n\n");
            let Passed { ranges, to } = reader.push(text.as_bytes());
            let end = if is_secret { first.len() } else { text.len() };
            assert_eq!((ranges, to), (vec![(0, end)], text.len()));
            assert_eq!(reader.error.map(|error| error.is_secret), Some(is_secret));
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_say_the_same(cuts in prop::collection::vec(0usize..40, 1..80), which in 0usize..3) {
            let (endpoint, text) = [
                (Endpoint::Chat, CHAT), (Endpoint::Messages, MESSAGE), (Endpoint::Responses, RESPONSE),
            ][which];
            let pieces = cut(text.as_bytes(), &cuts);
            let (reader, passed) = read(endpoint, false, &pieces);
            prop_assert_eq!(passed, text);
            prop_assert!(reader.is_whole());
            prop_assert_eq!(reader.used(0), read(endpoint, false, &[text.as_bytes()]).0.used(0));
        }

        #[test]
        fn any_bytes_are_read(pieces in prop::collection::vec("(data: |event: error|\\{\"error\":|\n|\r|[a-z\"{}:]){0,8}", 0..20)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
            for endpoint in [Endpoint::Chat, Endpoint::Messages, Endpoint::Responses] {
                read(endpoint, true, &pieces);
            }
        }
    }
}
