//! The response to a chat request with streaming, in whatever form: as Server-Sent Events, more or less by the
//! standard, or in one piece after all.

use super::completion::{ChunkError, ChunkKind, Completion};
use super::fault;
use crate::base::json::{MARK, without_mark};
use crate::calling::response::{CallResult, MAX_ANSWER_BYTES};
use crate::http::sse::{Event, EventReader};

/// The end of a stream.
const DONE: &str = "[DONE]";
/// Event types that only keep a connection open.
const SIGNS_OF_LIFE: [&str; 5] = ["ping", "keepalive", "keep-alive", "heartbeat", "comment"];

/// How far a response has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    More,
    /// The completion is complete. Only the usage may follow.
    Whole,
    /// Nothing that follows counts.
    Over,
}

/// The form of a response, by its first byte.
#[derive(Debug, Default)]
enum Form {
    #[default]
    Unknown,
    Events,
    /// Not a stream: all of it.
    Document(Vec<u8>),
}

/// Reads a streamed response piece by piece.
#[derive(Debug, Default)]
pub struct Reader {
    form: Form,
    /// The first bytes, while they may be a byte order mark.
    start: Vec<u8>,
    events: EventReader,
    completion: Completion,
    /// How it ended early, if it did.
    ended: Option<StreamEnd>,
}

#[derive(Debug)]
enum StreamEnd {
    /// By its own end marker.
    Done,
    Words(String),
    Fault,
    Invalid,
    TooLarge,
}

impl Reader {
    /// Takes a piece of any size. Each chunk is passed to `each` as it came.
    pub fn push(&mut self, piece: &[u8], mut each: impl FnMut(&str)) -> Step {
        let mut start = std::mem::take(&mut self.start);
        if matches!(self.form, Form::Unknown) {
            start.extend_from_slice(piece);
            if MARK.starts_with(&start) {
                self.start = start;
                return Step::More;
            }
            self.form = match first_of(&start) {
                None => return Step::More,
                // What a line of an event stream may begin with.
                Some(b'd' | b'e' | b'i' | b'r' | b':') => Form::Events,
                Some(_) => Form::Document(Vec::new()),
            };
        }
        let piece = if start.is_empty() { piece } else { &start };
        if let Form::Document(bytes) = &mut self.form {
            bytes.extend_from_slice(piece);
            if bytes.len() > MAX_ANSWER_BYTES {
                self.ended = Some(StreamEnd::TooLarge);
            }
            return self.step();
        }
        for event in self.events.push(piece) {
            self.take(&event, &mut each);
            if self.ended.is_some() {
                return Step::Over;
            }
        }
        if self.events.held() > MAX_ANSWER_BYTES {
            self.ended = Some(StreamEnd::TooLarge);
        }
        self.step()
    }

    fn step(&self) -> Step {
        match &self.ended {
            Some(_) => Step::Over,
            None if self.completion.is_whole() => Step::Whole,
            None => Step::More,
        }
    }

    fn take(&mut self, event: &Event, each: &mut impl FnMut(&str)) {
        let data = event.data.trim();
        if data.is_empty() || SIGNS_OF_LIFE.contains(&event.name.as_str()) {
            return;
        }
        if data.eq_ignore_ascii_case(DONE) {
            self.ended = Some(StreamEnd::Done);
            return;
        }
        self.ended = match self.completion.push(data) {
            Ok(ChunkKind::Fault) => Some(StreamEnd::Fault),
            // An error may have any form.
            _ if event.name == "error" => Some(StreamEnd::Words(data.into())),
            Ok(ChunkKind::Chunk) => {
                each(&event.data);
                None
            }
            Ok(ChunkKind::KeepAlive) => None,
            Err(ChunkError::TooLarge) => Some(StreamEnd::TooLarge),
            Err(ChunkError::Invalid) if data == "null" => None,
            Err(ChunkError::Invalid) if data.starts_with(['{', '[']) => Some(StreamEnd::Invalid),
            Err(ChunkError::Invalid) => Some(StreamEnd::Words(data.into())),
        };
    }

    /// The response at the end of the stream. `broke` is what cut it off, if anything did.
    pub fn end(mut self, broke: Option<CallResult>) -> CallResult {
        if let Form::Document(body) = self.form {
            return match (self.ended, broke) {
                (Some(_), _) => CallResult::TooLarge { status: 200 },
                (None, None) => document(body),
                (None, Some(broke)) => broke,
            };
        }
        if self.ended.is_none()
            && let Some(event) = self.events.take_unfinished()
        {
            self.take(&event, &mut |_| {});
            // A broken connection leaves half a chunk.
            self.ended = self.ended.filter(|ended| !matches!(ended, StreamEnd::Invalid));
        }
        match self.ended {
            Some(StreamEnd::Fault) => {
                let error = self.completion.fault().map_or("null", |error| error.get());
                http(fault::body(error).into_bytes())
            }
            Some(StreamEnd::Words(words)) => http(fault::body_of_words(&words).into_bytes()),
            Some(StreamEnd::Invalid) => http(Vec::new()),
            Some(StreamEnd::TooLarge) => CallResult::TooLarge { status: 200 },
            Some(StreamEnd::Done) if self.completion.has_content() => http(self.completion.text().into_bytes()),
            Some(StreamEnd::Done) => CallResult::Broken,
            // Some endpoints send no end marker.
            None if self.completion.is_whole() => http(self.completion.text().into_bytes()),
            None => broke.unwrap_or(CallResult::Broken),
        }
    }
}

/// The first significant byte.
fn first_of(piece: &[u8]) -> Option<u8> {
    let piece = piece.strip_prefix(MARK).unwrap_or(piece);
    piece.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

fn http(body: Vec<u8>) -> CallResult {
    CallResult::Http { status: 200, is_json: true, retry_after_ms: None, location: None, body }
}

/// A response in one piece that was not a stream, whatever its Content-Type.
fn document(body: Vec<u8>) -> CallResult {
    http(without_mark(body))
}

/// The response to a request without streaming. If it is a stream all the same, it is assembled.
pub fn whole(answer: CallResult) -> CallResult {
    let CallResult::Http { status: 200, body, .. } = &answer else { return answer };
    let text = body.strip_prefix(MARK).unwrap_or(body).trim_ascii_start();
    if [&b"data:"[..], b"event:", b"id:", b"retry:", b":"].iter().any(|field| text.starts_with(field)) {
        let mut reader = Reader::default();
        reader.push(body, |_| {});
        return reader.end(None);
    }
    match answer {
        CallResult::Http { body, .. } if matches!(first_of(&body), Some(b'{' | b'[')) => document(body),
        other => other,
    }
}

#[cfg(test)]
mod tests;
