//! Responses of an upstream: messages, whole or by Server-Sent Events, untrusted until read.

use std::collections::VecDeque;

use serde_json::value::RawValue;

use crate::base::json::{Object, kind};
use crate::base::json_repair;
use crate::calling::response::{MAX_ANSWER_BYTES, MAX_ASIDE_BYTES, MAX_DETAILS_BYTES, MAX_MESSAGE, clean};
use crate::http::sse::{Event, EventReader};

/// The maximum size of everything an upstream may send besides its response to one request, in bytes; a single message
/// is smaller.
const MAX_BESIDE_BYTES: usize = 16 * MAX_ASIDE_BYTES;
/// The largest page of a list of tools, in bytes: more than a service may have, so that the rest can be named.
const MAX_LIST_BYTES: usize = 4 * MAX_ASIDE_BYTES;

/// The expected response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedResponse {
    pub id: u64,
    /// Its maximum size, in bytes.
    pub max_bytes: usize,
}

impl ExpectedResponse {
    /// A status or a list.
    pub fn small(id: u64) -> Self {
        Self { id, max_bytes: MAX_ASIDE_BYTES }
    }

    /// The response to a request with this method: the result of a tool, resource or prompt is as large as a result.
    pub fn of(method: &str, id: u64) -> Self {
        match method {
            "tools/call" | "tasks/result" | "resources/read" | "prompts/get" => {
                Self { id, max_bytes: MAX_ANSWER_BYTES }
            }
            "tools/list" => Self { id, max_bytes: MAX_LIST_BYTES },
            _ => Self::small(id),
        }
    }
}

/// A JSON-RPC error.
#[derive(Debug, Clone)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
    /// All of it, verbatim.
    pub whole: Box<RawValue>,
}

/// The code of an error without one: internal.
const INTERNAL: i64 = -32603;

impl RpcError {
    /// Reads an error; `None` if it is not a JSON-RPC error.
    pub fn read(error: &RawValue) -> Option<Self> {
        let mut members = Object::new(error.get(), "#").ok()?;
        let code = members.raw("code")?.get().parse().ok()?;
        let said = members.raw("message").and_then(|message| serde_json::from_str::<String>(message.get()).ok());
        Some(Self { code, message: words(said), whole: error.to_owned() })
    }

    /// Reads the `error` of a message in whatever form a server writes it; its content counts for more than its form.
    fn parse_leniently(error: &RawValue) -> Self {
        if let Some(well) = Self::read(error) {
            return well;
        }
        let mut members = Object::new(error.get(), "#").ok();
        let mut member = |name: &str| members.as_mut().and_then(|members| members.raw(name));
        let text = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).ok();
        let (code, message, data) = (member("code"), member("message"), member("data"));
        let code = code.and_then(|code| number(text(code).as_deref().unwrap_or(code.get())));
        let code = code.filter(|code| code.fract() == 0.0 && code.abs() < 1e15).map_or(INTERNAL, |code| code as i64);
        let message = words(message.map_or_else(|| text(error), text));
        let data = data.map_or_else(String::new, |data| format!(r#","data":{data}"#));
        let whole = format!(r#"{{"code":{code},"message":{}{data}}}"#, serde_json::json!(message));
        let whole = RawValue::from_string(whole).unwrap_or_else(|_| error.to_owned());
        Self { code, message, whole }
    }

    /// The error in a body that is an error message.
    pub fn of_body(body: &[u8]) -> Option<Self> {
        let text = json_repair::json(body)?;
        let mut message = Object::new(&text, "#").ok()?;
        let is_message = message.string("jsonrpc", 1..=8).as_deref() == Some("2.0");
        message.raw("error").filter(|_| is_message).map(Self::parse_leniently)
    }

    /// The part that is stored with a context: all, or without its data if that is too large.
    pub fn stored(&self) -> Box<RawValue> {
        if self.whole.get().len() <= MAX_DETAILS_BYTES {
            return self.whole.clone();
        }
        // In the worst case a character is escaped as six.
        let message = clean(&self.message, MAX_DETAILS_BYTES / 8);
        let short = format!(r#"{{"code":{},"message":{}}}"#, self.code, serde_json::json!(message));
        RawValue::from_string(short).unwrap_or_else(|_| self.whole.clone())
    }
}

fn words(said: Option<String>) -> String {
    let message = said.map(|said| clean(&said, MAX_MESSAGE)).filter(|message| !message.is_empty());
    message.unwrap_or_else(|| "The server returned no message.".into())
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// The result of a request, or its error.
pub type Response = Result<Box<RawValue>, RpcError>;

/// A message from an upstream.
#[derive(Debug)]
pub enum UpstreamMessage {
    /// The response to the request.
    Response(Response),
    /// A request of the server.
    Request {
        id: Box<RawValue>,
        method: String,
        params: Option<Box<RawValue>>,
    },
    Notification {
        method: String,
        params: Option<Box<RawValue>>,
    },
}

/// An invalid message, or too many bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseError {
    /// With the reason.
    NoMessage(String),
    TooLarge,
}

fn owned(raw: Option<&RawValue>) -> Option<Box<RawValue>> {
    raw.map(RawValue::to_owned)
}

/// Whether an id is this one, as a number or as a string: some servers return numbers as strings.
fn is_id(said: &RawValue, id: u64) -> bool {
    let text = serde_json::from_str::<String>(said.get()).ok();
    number(text.as_deref().unwrap_or(said.get())).is_some_and(|said| said.to_bits() == (id as f64).to_bits())
}

/// The fault in the JSON-RPC version of a message.
fn version_fault(said: Option<&RawValue>) -> Option<String> {
    match said.map(RawValue::get) {
        Some(r#""2.0""#) => None,
        Some(other) if other.len() <= 16 => Some(format!(r#"its jsonrpc is {other}, not "2.0""#)),
        Some(_) => Some(r#"its jsonrpc is not "2.0""#.into()),
        None => Some(r#"it has no member jsonrpc, which must be "2.0""#.into()),
    }
}

/// The meaning of one text of a response.
enum Read {
    Message(UpstreamMessage),
    /// A response to another request, with its id.
    Another(String),
    /// An invalid message, and whether it names the pending request.
    Strange {
        why: String,
        ours: bool,
    },
    TooLarge,
}

/// Reads a message. An error without a request id counts as the response.
fn read(text: &str, id: u64) -> Read {
    let strange = |why: &str| Read::Strange { why: why.into(), ours: false };
    let Some(text) = json_repair::json(text.as_bytes()) else { return strange("it is not JSON") };
    let Ok(mut message) = Object::new(&text, "#") else { return strange("it is not an object") };
    let said = message.raw("id");
    let ours = said.is_some_and(|said| is_id(said, id));
    if let Some(why) = version_fault(message.raw("jsonrpc")) {
        return Read::Strange { why, ours };
    }
    if let Some(method) = message.raw("method").and_then(|raw| serde_json::from_str::<String>(raw.get()).ok()) {
        if text.len() > MAX_ASIDE_BYTES {
            return Read::TooLarge;
        }
        let params = owned(message.raw("params"));
        return Read::Message(match said {
            Some(id) => UpstreamMessage::Request { id: id.to_owned(), method, params },
            None => UpstreamMessage::Notification { method, params },
        });
    }
    if let Some(said) = said.filter(|_| !ours) {
        return Read::Another(clean(said.get(), 40));
    }
    if let Some(error) = message.raw("error") {
        return Read::Message(UpstreamMessage::Response(Err(RpcError::parse_leniently(error))));
    }
    match message.raw_or_null("result") {
        Some(result) if result.get().starts_with('{') && ours => {
            Read::Message(UpstreamMessage::Response(Ok(result.to_owned())))
        }
        Some(_) if !ours => strange("its id is missing"),
        Some(result) => Read::Strange { why: format!("its result is {}, not an object", kind(result)), ours },
        None => Read::Strange { why: "it has neither a result nor an error".into(), ours },
    }
}

/// The messages of a streamed response.
#[derive(Debug)]
pub struct Messages {
    expected: ExpectedResponse,
    events: EventReader,
    bytes: usize,
    waiting: VecDeque<String>,
    /// It is a stream: an invalid message may be followed by a valid one.
    streams: bool,
    /// What was wrong with the last message that was skipped.
    passed_over: Option<String>,
}

impl Messages {
    /// Reads the messages up to the expected response.
    pub fn new(expected: ExpectedResponse) -> Self {
        let (events, waiting) = (EventReader::default(), VecDeque::new());
        Self { expected, events, bytes: 0, waiting, streams: false, passed_over: None }
    }

    /// Adds a piece of the response.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), ResponseError> {
        self.streams = true;
        self.bytes += piece.len();
        // Events of a type other than `message` are not part of the protocol, and one without data can be ignored:
        // servers begin resumable streams with one.
        let is_message = |event: &Event| matches!(event.name.as_str(), "" | "message") && !event.data.trim().is_empty();
        let said = self.events.push(piece).into_iter().filter(is_message).map(|event| event.data);
        self.waiting.extend(said);
        let most = self.expected.max_bytes;
        let large = self.waiting.iter().any(|data| data.len() > most);
        match large || self.bytes > most + MAX_BESIDE_BYTES || self.events.held() > most {
            true => Err(ResponseError::TooLarge),
            false => Ok(()),
        }
    }

    /// Where a stream that ended early resumes: the last id, and how long to wait.
    pub fn resumption(&self) -> Option<(String, Option<u64>)> {
        self.events.resumption().map(|(id, retry_ms)| (id.into(), retry_ms))
    }

    /// A response in one piece.
    pub fn push_whole(&mut self, body: &[u8]) {
        self.waiting.push_back(String::from_utf8_lossy(body).into_owned());
    }

    /// The next complete message, if there is one.
    pub fn take(&mut self) -> Result<Option<UpstreamMessage>, ResponseError> {
        while let Some(text) = self.waiting.pop_front() {
            if let Some(batch) = batch(&text) {
                batch.into_iter().rev().for_each(|text| self.waiting.push_front(text));
                continue;
            }
            match read(&text, self.expected.id) {
                Read::Message(message) => return Ok(Some(message)),
                Read::TooLarge => return Err(ResponseError::TooLarge),
                Read::Another(said) => {
                    self.passed_over = Some(format!("it responds to a request with the id {said}, which was not sent"));
                }
                Read::Strange { why, ours } if ours || !self.streams => return Err(ResponseError::NoMessage(why)),
                Read::Strange { why, .. } => self.passed_over = Some(why),
            }
        }
        Ok(None)
    }

    /// Why a finished response had no message for the request; `None` if the rest may still be requested.
    pub fn ended(&self) -> Option<ResponseError> {
        if self.streams && (self.resumption().is_some() || self.passed_over.is_none()) {
            return None;
        }
        let why = self.passed_over.clone();
        Some(ResponseError::NoMessage(why.unwrap_or_else(|| "it has no response to the request".into())))
    }
}

/// The messages of a batch, which servers of revision 2025-03-26 may respond with.
fn batch(text: &str) -> Option<Vec<String>> {
    if !text.trim_start_matches('\u{feff}').trim_start().starts_with('[') {
        return None;
    }
    let text = json_repair::json(text.as_bytes())?;
    let all: Vec<&RawValue> = serde_json::from_str(&text).ok()?;
    (!all.is_empty()).then(|| all.into_iter().map(|one| one.get().to_string()).collect())
}

#[cfg(test)]
mod tests;
