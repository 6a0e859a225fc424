//! Calling a service: one request, bounded in time and size, to an address that was checked.

use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;

use super::http::Headers;
use super::tasks::Awaited;
use super::{Failure, clock};
use narthex_core::access::oauth::metadata_document::CachingHeaders;
use narthex_core::calling::response::{CallResult, MAX_ASIDE_BYTES};
use narthex_core::context::http_status;
use narthex_core::http::egress_address::Address;
use narthex_core::http::{media_type, retry_after};

#[wasm_bindgen(module = "/src/platform/boundary.js")]
extern "C" {
    type Reply;
    #[wasm_bindgen(method, getter)]
    fn kind(this: &Reply) -> u32;
    #[wasm_bindgen(method, getter)]
    fn status(this: &Reply) -> u16;
    #[wasm_bindgen(method, getter)]
    fn media(this: &Reply) -> String;
    #[wasm_bindgen(method, getter, js_name = retryAfter)]
    fn retry_after(this: &Reply) -> String;
    #[wasm_bindgen(method, getter, js_name = retryAfterMs)]
    fn retry_after_ms(this: &Reply) -> String;
    #[wasm_bindgen(method, getter)]
    fn location(this: &Reply) -> String;
    #[wasm_bindgen(method, getter)]
    fn session(this: &Reply) -> String;
    #[wasm_bindgen(method, getter)]
    fn body(this: &Reply) -> Uint8Array;
    #[wasm_bindgen(method, getter)]
    fn detail(this: &Reply) -> String;

    #[wasm_bindgen(js_name = callService)]
    #[allow(clippy::too_many_arguments)]
    fn call_service(
        token: u32,
        binding: Option<&str>,
        method: &str,
        url: &str,
        headers: &str,
        body: Option<&str>,
        limit: f64,
        reading: u32,
    );
    #[wasm_bindgen(js_name = readPiece)]
    fn read_piece(token: u32, call: u32);
    fn abort(token: u32);
    fn probe(token: u32, binding: Option<&str>, url: &str, headers: &str, milliseconds: f64);
    #[wasm_bindgen(js_name = readDocument)]
    fn read_document(token: u32, url: &str, milliseconds: f64, limit: f64);
    #[wasm_bindgen(js_name = readHeld)]
    fn read_held(token: u32, url: &str, milliseconds: f64, limit: f64, etag: Option<&str>);
}

/// A call under way. Dropped before the end of its answer, it is aborted: the service sees its caller go.
struct Call {
    token: u32,
    answered: bool,
    call: Awaited,
}

impl Call {
    async fn answer(&mut self) -> Result<JsValue, JsValue> {
        let answer = (&mut self.call).await;
        self.answered = answer.is_ok();
        answer
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.answered {
            abort(self.token);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Delete,
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }
}

/// One request to a service.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: Method,
    pub url: &'a Address,
    pub headers: &'a Headers,
    pub body: Option<&'a str>,
    /// The largest answer that is read, in bytes; a stream is not bounded by it.
    pub most_bytes: usize,
    /// How long its answer is waited for; of one that streams, the first piece.
    pub milliseconds: u64,
    /// How much longer the rest of an answer that streams may take.
    pub more_ms: u64,
    /// Whether all of that is all the time the context has.
    pub deadline: bool,
}

impl<'a> Request<'a> {
    /// A request beside the work, whose answer says little.
    pub fn within(
        milliseconds: u64,
        method: Method,
        url: &'a Address,
        headers: &'a Headers,
        body: Option<&'a str>,
    ) -> Self {
        Self { method, url, headers, body, most_bytes: MAX_ASIDE_BYTES, milliseconds, more_ms: 0, deadline: false }
    }
}

/// What is read of an answer; the numbers are known to `boundary.js`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    Whole = 0,
    /// Server-Sent Events are left to be read as they come.
    Streams = 1,
    /// Nothing but the status.
    Status = 2,
    /// A 200 is left to be read in pieces, whatever its type.
    Pieces = 3,
    /// The same unless its type is JSON.
    UnlessJson = 4,
}

/// What came of a request that may be answered by a stream.
pub enum Answered {
    Whole(CallResult),
    Stream(Pieces),
}

/// An answer that comes in pieces. Dropped before its end, it is broken off.
pub struct Pieces {
    call: Call,
    /// When the first piece must have come, and the last.
    begins_by: f64,
    until: f64,
    has_begun: bool,
    deadline: bool,
    /// Bytes since others had their turn.
    unpaused: usize,
}

/// After so many bytes others have their turn. What a sender never lets run dry is read without it, and then no timer of
/// this isolate ever ends, the stream's own among them.
const TURN_BYTES: usize = 256 * 1024;

impl Pieces {
    /// Gives the rest of it this long at most.
    pub fn hurry(&mut self, milliseconds: u64) {
        self.until = self.until.min(js_sys::Date::now() + milliseconds as f64);
    }

    /// The next piece; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, CallResult> {
        if self.unpaused >= TURN_BYTES {
            self.unpaused = 0;
            clock::pause(0).await;
        }
        let by = if self.has_begun { self.until } else { self.begins_by };
        let left = by - js_sys::Date::now();
        let is_over = self.has_begun && left <= 0.0;
        let timed_out = self.deadline && (self.has_begun || self.begins_by >= self.until);
        if is_over {
            return Err(CallResult::TimedOut { deadline: timed_out });
        }
        match Awaited::within(left.max(1.0), |token| read_piece(token, self.call.token)).await {
            Ok(piece) if piece.is_undefined() => Ok(None),
            Ok(piece) => {
                self.has_begun = true;
                let piece = piece.unchecked_into::<Uint8Array>().to_vec();
                self.unpaused += piece.len();
                Ok(Some(piece))
            }
            Err(error) if error.is_undefined() => Err(CallResult::TimedOut { deadline: timed_out }),
            Err(error) => Err(broke(&Failure::from(error).0)),
        }
    }
}

fn broke(detail: &str) -> CallResult {
    super::log_event!(CallFailed, detail = detail);
    CallResult::Broken
}

/// Sends a request and reads the whole answer.
pub async fn send(request: &Request<'_>) -> CallResult {
    whole(begin(request, Reading::Whole).await.0)
}

/// Sends a request to which the status is all the answer: a body is neither waited for nor read.
pub async fn notify(request: &Request<'_>) -> CallResult {
    whole(begin(request, Reading::Status).await.0)
}

fn whole(answered: Answered) -> CallResult {
    match answered {
        Answered::Whole(answer) => answer,
        // None was asked for.
        Answered::Stream(_) => CallResult::Broken,
    }
}

/// Sends a request; an answer of Server-Sent Events is left to be read as it comes.
pub async fn send_streaming(request: &Request<'_>) -> Answered {
    begin(request, Reading::Streams).await.0
}

/// Sends a request, and reads its answer this way.
pub async fn send_reading(request: &Request<'_>, reading: Reading) -> Answered {
    begin(request, reading).await.0
}

/// As [`send_streaming`], with the session that an MCP server names in its headers.
pub async fn send_in_session(request: &Request<'_>) -> (Answered, Option<String>) {
    begin(request, Reading::Streams).await
}

async fn begin(request: &Request<'_>, reading: Reading) -> (Answered, Option<String>) {
    let Request { method, url, headers, body, most_bytes, milliseconds, more_ms, deadline } = *request;
    let limit = most_bytes as f64;
    let begins_by = js_sys::Date::now() + milliseconds as f64;
    let reads = reading as u32;
    let begun = |token| {
        call_service(token, url.binding(), method.as_str(), url.as_str(), headers.as_str(), body, limit, reads);
    };
    let call = Awaited::within(milliseconds as f64, begun);
    let mut call = Call { token: call.token(), answered: false, call };
    // It fails by its time alone; however it ends in time is in the reply.
    let Ok(reply) = call.answer().await else {
        return (Answered::Whole(CallResult::TimedOut { deadline: deadline && more_ms == 0 }), None);
    };
    let reply: Reply = reply.unchecked_into();
    let streams = reading == Reading::Streams;
    let session = if streams { Some(reply.session()).filter(|session| !session.is_empty()) } else { None };
    let whole = Answered::Whole(match reply.kind() {
        0 => answered(&reply),
        1 => CallResult::TooLarge { status: reply.status() },
        2 => CallResult::Refused,
        4 => {
            call.answered = false;
            let until = begins_by + more_ms as f64;
            return (
                Answered::Stream(Pieces { call, begins_by, until, has_begun: false, deadline, unpaused: 0 }),
                session,
            );
        }
        _ => broke(&reply.detail()),
    });
    (whole, session)
}

fn answered(reply: &Reply) -> CallResult {
    let (status, body) = (reply.status(), reply.body().to_vec());
    let is_said = |header: String| Some(header).filter(|header| !header.is_empty());
    let retry_after_ms = if status == 200 {
        None
    } else {
        retry_after::read(&reply.retry_after(), &reply.retry_after_ms(), clock::now())
    };
    CallResult::Http {
        status,
        is_json: media_type::is_json(&reply.media(), &body),
        retry_after_ms,
        location: if status == 202 { is_said(reply.location()) } else { None },
        body,
    }
}

/// What a look at a service gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    Answered(u16),
    Unreachable,
    TimedOut,
}

/// Asks for a page without reading it, to see whether somebody answers.
pub async fn look(url: &Address, headers: &Headers, milliseconds: u64) -> Looked {
    let status =
        Awaited::new(|token| probe(token, url.binding(), url.as_str(), headers.as_str(), milliseconds as f64)).await;
    match status.ok().and_then(|status| status.as_f64()) {
        Some(status) if status > 0.0 => Looked::Answered(status as u16),
        Some(status) if status < 0.0 => Looked::TimedOut,
        _ => Looked::Unreachable,
    }
}

/// A small JSON document that was read, and what its server says of how long it holds.
pub struct Document {
    pub body: Vec<u8>,
    pub cache_control: String,
}

/// Before a document is asked for again, in milliseconds; more with each time.
const DOCUMENT_PAUSES_MS: [u64; 2] = [150, 600];

/// Reads a document of at most `limit` bytes. Fails for whatever is not 200, redirects among it; repeated where the
/// server was away.
pub async fn document(url: &Address, milliseconds: u64, limit: usize) -> Result<Document, Failure> {
    let until = clock::now().plus_ms(milliseconds);
    let mut pauses = DOCUMENT_PAUSES_MS.into_iter();
    loop {
        let left = until.since(clock::now()).max(1);
        let read = Awaited::new(|token| read_document(token, url.as_str(), left as f64, limit as f64)).await;
        let failure = match read {
            Ok(read) if read.is_undefined() => return Err(Failure("too large".into())),
            Ok(read) => {
                let parts: js_sys::Array = read.unchecked_into();
                let status = parts.get(2).as_f64().unwrap_or_default() as u16;
                if status == 200 {
                    let body = parts.get(0).unchecked_into::<Uint8Array>().to_vec();
                    return Ok(Document { body, cache_control: parts.get(1).as_string().unwrap_or_default() });
                }
                let failure = Failure(format!("status {status}"));
                if !http_status::is_away(status) {
                    return Err(failure);
                }
                failure
            }
            Err(error) => Failure::from(error),
        };
        match pauses.next() {
            Some(pause_ms) if until.since(clock::now()) > pause_ms => clock::pause(pause_ms).await,
            _ => return Err(failure),
        }
    }
}

/// What came of asking for a document that may be held.
pub struct Fetched {
    pub status: u16,
    /// Of a 200; nothing where it is larger than the limit.
    pub body: Option<Vec<u8>>,
    pub said: CachingHeaders,
}

/// Asks for a document of at most `limit` bytes, unless it is still the one of this tag. Redirects are not followed.
///
/// # Errors
/// Its server cannot be reached, or does not answer in time.
pub async fn held_document(
    url: &Address,
    milliseconds: u64,
    limit: usize,
    etag: Option<&str>,
) -> Result<Fetched, Failure> {
    let until = clock::now().plus_ms(milliseconds);
    let mut pauses = DOCUMENT_PAUSES_MS.into_iter();
    let (status, parts) = loop {
        let left = until.since(clock::now()).max(1);
        let begun = |token| read_held(token, url.as_str(), left as f64, limit as f64, etag);
        let parts: js_sys::Array = Awaited::new(begun).await?.unchecked_into();
        let status = parts.get(0).as_f64().unwrap_or_default() as u16;
        match pauses.next() {
            Some(pause_ms) if http_status::nothing_arrived(status) && until.since(clock::now()) > pause_ms => {
                clock::pause(pause_ms).await;
            }
            _ => break (status, parts),
        }
    };
    let text = |at| parts.get(at).as_string().unwrap_or_default();
    let body = parts.get(1);
    Ok(Fetched {
        status,
        body: (!body.is_undefined()).then(|| body.unchecked_into::<Uint8Array>().to_vec()),
        said: CachingHeaders { cache_control: text(2), age: text(3), expires: text(4), date: text(5), etag: text(6) },
    })
}
