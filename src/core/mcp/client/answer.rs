//! What comes back from an upstream: messages, whole or by Server-Sent Events, each hostile until it is read.

use std::collections::VecDeque;

use serde_json::value::RawValue;

use super::super::super::json::Object;
use super::super::super::repair;
use super::super::super::sse::Events;
use super::super::super::upstream::{MAX_ANSWER_BYTES, MAX_ASIDE_BYTES, MAX_MESSAGE, clean};

/// All that an upstream may say beside its response to one request, in bytes; one message of it is smaller.
const MAX_BESIDE_BYTES: usize = 16 * MAX_ASIDE_BYTES;

/// The response that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    pub id: u64,
    /// The largest that is read, in bytes.
    pub most_bytes: usize,
}

impl Expected {
    /// One that says how things stand, or lists them.
    pub fn small(id: u64) -> Self {
        Self { id, most_bytes: MAX_ASIDE_BYTES }
    }

    /// The response to a request by this method: what a tool gives, a resource or a prompt, is as large as a result.
    pub fn of(method: &str, id: u64) -> Self {
        match method {
            "tools/call" | "resources/read" | "prompts/get" => Self { id, most_bytes: MAX_ANSWER_BYTES },
            _ => Self::small(id),
        }
    }
}

/// An error in the form of JSON-RPC.
#[derive(Debug, Clone)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
    /// All of it, as it came.
    pub whole: Box<RawValue>,
}

impl RpcError {
    /// Reads an error; nothing when this is none of JSON-RPC's.
    pub fn read(error: &RawValue) -> Option<Self> {
        let mut members = Object::new(error.get(), "#").ok()?;
        let code = members.raw("code")?.get().parse().ok()?;
        let said = members.raw("message").and_then(|message| serde_json::from_str::<String>(message.get()).ok());
        let message = said.map(|said| clean(&said, MAX_MESSAGE)).filter(|message| !message.is_empty());
        let message = message.unwrap_or_else(|| "The server gave no message.".into());
        Some(Self { code, message, whole: error.to_owned() })
    }
}

pub type Response = Result<Box<RawValue>, RpcError>;

#[derive(Debug)]
pub enum Incoming {
    /// The answer to what was asked.
    Response(Response),
    /// A request of the server's own.
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

/// What is no message, or too much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    NoMessage,
    TooLarge,
}

fn owned(raw: Option<&RawValue>) -> Option<Box<RawValue>> {
    raw.map(RawValue::to_owned)
}

/// Reads a message. A response to another request than `id` is nothing; an error that names none is an answer.
pub fn read(text: &str, id: u64) -> Result<Option<Incoming>, Broken> {
    let text = repair::json(text.as_bytes()).ok_or(Broken::NoMessage)?;
    let mut message = Object::new(&text, "#").map_err(|_| Broken::NoMessage)?;
    if message.string("jsonrpc", 1..=8).as_deref() != Some("2.0") {
        return Err(Broken::NoMessage);
    }
    let said = message.raw("id");
    if let Some(method) = message.string("method", 1..=128) {
        if text.len() > MAX_ASIDE_BYTES {
            return Err(Broken::TooLarge);
        }
        let params = owned(message.raw("params"));
        return Ok(Some(match said {
            Some(id) => Incoming::Request { id: id.to_owned(), method, params },
            None => Incoming::Notification { method, params },
        }));
    }
    let is_ours = said.is_none_or(|said| said.get() == id.to_string());
    if let Some(error) = message.raw("error") {
        let error = RpcError::read(error).ok_or(Broken::NoMessage)?;
        return Ok(is_ours.then_some(Incoming::Response(Err(error))));
    }
    match message.raw("result") {
        Some(result) if result.get().starts_with('{') && said.is_some() => {
            Ok(is_ours.then(|| Incoming::Response(Ok(result.to_owned()))))
        }
        _ => Err(Broken::NoMessage),
    }
}

/// The messages of an answer that comes in pieces.
#[derive(Debug)]
pub struct Messages {
    expected: Expected,
    events: Events,
    bytes: usize,
    waiting: VecDeque<String>,
}

impl Messages {
    pub fn new(expected: Expected) -> Self {
        Self { expected, events: Events::default(), bytes: 0, waiting: VecDeque::new() }
    }

    pub fn push(&mut self, piece: &[u8]) -> Result<(), Broken> {
        self.bytes += piece.len();
        // An event without data asks for nothing: servers begin resumable streams with one.
        let said = self.events.push(piece).into_iter().map(|event| event.data);
        self.waiting.extend(said.filter(|data| !data.trim().is_empty()));
        let most = self.expected.most_bytes;
        let large = self.waiting.iter().any(|data| data.len() > most);
        match large || self.bytes > most + MAX_BESIDE_BYTES || self.events.held() > most {
            true => Err(Broken::TooLarge),
            false => Ok(()),
        }
    }

    /// Where a stream that ended too early goes on: the last id, and how long to wait.
    pub fn resumption(&self) -> Option<(String, Option<u64>)> {
        self.events.resumption().map(|(id, retry_ms)| (id.into(), retry_ms))
    }

    /// An answer that came whole.
    pub fn push_whole(&mut self, body: &[u8]) {
        self.waiting.push_back(String::from_utf8_lossy(body).into_owned());
    }

    /// The next message that is there; nothing until more has come.
    pub fn take(&mut self) -> Result<Option<Incoming>, Broken> {
        while let Some(text) = self.waiting.pop_front() {
            if let Some(message) = read(&text, self.expected.id)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_told_apart() {
        let one = |text: &str| read(text, 1);
        assert!(matches!(one(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Ok(Some(Incoming::Response(Ok(_))))));
        assert!(matches!(one(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#), Ok(None)));
        let Ok(Some(Incoming::Response(Err(error)))) =
            one(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"no","data":{"supported":[]}}}"#)
        else {
            panic!("an error without an id is an answer");
        };
        assert_eq!((error.code, error.message.as_str()), (-32022, "no"));
        let asked = one(r#"{"jsonrpc":"2.0","id":"a","method":"elicitation/create","params":{}}"#);
        assert!(matches!(asked, Ok(Some(Incoming::Request { .. }))));
        let told = one(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#);
        assert!(matches!(told, Ok(Some(Incoming::Notification { .. }))));
        for text in [
            "",
            "[]",
            "{}",
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":[]}"#,
            r#"{"id":1,"result":{}}"#,
        ] {
            assert!(matches!(one(text), Err(Broken::NoMessage)), "{text}");
        }
    }

    #[test]
    fn one_character_does_not_cost_a_message() {
        let read = |text: &str| match read(text, 1) {
            Ok(Some(Incoming::Response(Ok(result)))) => result.get().to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(read(r#"{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}"#), r#"{"a":2}"#);
        assert_eq!(read("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"), "{}");
        assert_eq!(read(r#"{"jsonrpc":"2.0","id":1,"result":{"a":"\ud83d"}}"#), r#"{"a":"\ufffd"}"#);
    }

    #[test]
    fn a_stream_is_read_as_it_comes_and_is_bounded() {
        let mut messages = Messages::new(Expected::small(1));
        messages.push(b"id: 0\ndata:\n\n: hello\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"a\"}\n").unwrap();
        assert!(messages.take().unwrap().is_none());
        messages.push(b"\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n").unwrap();
        assert!(matches!(messages.take(), Ok(Some(Incoming::Notification { .. }))));
        assert!(matches!(messages.take(), Ok(Some(Incoming::Response(_)))));
        let endless = vec![b'x'; MAX_ASIDE_BYTES + 1];
        assert_eq!(messages.push(&endless), Err(Broken::TooLarge));
        let mut messages = Messages::new(Expected::of("tools/call", 1));
        assert_eq!(messages.push(&endless), Ok(()));
        assert_eq!(messages.push(&vec![b'x'; MAX_ANSWER_BYTES]), Err(Broken::TooLarge));
    }

    #[test]
    fn what_is_said_beside_a_response_is_smaller_than_one() {
        let long = "x".repeat(MAX_ASIDE_BYTES);
        let result = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"a":"{long}"}}}}"#);
        assert!(matches!(read(&result, 1), Ok(Some(Incoming::Response(Ok(_))))));
        for begun in [r#"{"jsonrpc":"2.0","#, r#"{"jsonrpc":"2.0","id":"a","#] {
            let told = format!(r#"{begun}"method":"notifications/message","params":{{"data":"{long}"}}}}"#);
            assert!(matches!(read(&told, 1), Err(Broken::TooLarge)));
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(text in "\\PC{0,60}", id in "[0-9\"a]{0,3}", result in "[{}\\[\\]1a\":]{0,8}") {
            let _ = read(&text, 1);
            let _ = read(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#), 1);
            let mut messages = Messages::new(Expected::small(1));
            let _ = messages.push(text.as_bytes());
            while let Ok(Some(_)) = messages.take() {}
        }
    }
}
