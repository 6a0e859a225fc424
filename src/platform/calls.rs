//! Calling a service: one request, limited in time and size, to an address that was checked.

use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;

use super::http::Headers;
use super::tasks::PlatformCall;
use super::{Failure, clock};
use narthex_core::access::oauth::metadata_document::CachingHeaders;
use narthex_core::calling::response::{CallResult, MAX_ASIDE_BYTES};
use narthex_core::context::http_status;
use narthex_core::http::egress_address::Address;
use narthex_core::http::{media_type, retry_after};

#[wasm_bindgen(module = "/src/platform/calls.js")]
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
    #[allow(clippy::too_many_arguments, reason = "the boundary takes flat values")]
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
    fn read_document(token: u32, binding: Option<&str>, url: &str, milliseconds: f64, limit: f64);
    #[wasm_bindgen(js_name = readConditional)]
    fn read_conditional(token: u32, url: &str, milliseconds: f64, limit: f64, etag: Option<&str>);
}

/// A call in progress. If it is dropped before the end of its response, it is aborted, which the service can see.
struct Call {
    token: u32,
    answered: bool,
    call: PlatformCall,
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
    /// The maximum size of the response, in bytes. Streams are not limited by it.
    pub max_bytes: usize,
    /// How long to wait for the response, or for the first bytes of a stream.
    pub milliseconds: u64,
    /// How much longer the rest of a stream may take.
    pub more_ms: u64,
    /// Whether these times end with the deadline of the context.
    pub deadline: bool,
}

impl<'a> Request<'a> {
    /// A request other than a call, with a small response.
    pub fn within(
        milliseconds: u64,
        method: Method,
        url: &'a Address,
        headers: &'a Headers,
        body: Option<&'a str>,
    ) -> Self {
        Self { method, url, headers, body, max_bytes: MAX_ASIDE_BYTES, milliseconds, more_ms: 0, deadline: false }
    }
}

/// How the response is read. `calls.js` has the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    Whole = 0,
    /// Server-Sent Events are streamed.
    Streams = 1,
    /// Only the status is read.
    Status = 2,
    /// A 200 is streamed, whatever its media type.
    Pieces = 3,
    /// A 200 is streamed, unless its media type is JSON.
    UnlessJson = 4,
}

/// A response, whole or streamed.
pub enum CallResponse {
    Whole(CallResult),
    Stream(BodyStream),
}

/// A streamed response. If it is dropped before its end, the call is aborted.
pub struct BodyStream {
    call: Call,
    /// The latest time of the first bytes, and of the end.
    begins_by: f64,
    until: f64,
    has_begun: bool,
    deadline: bool,
    /// Bytes read since other tasks could run.
    unyielded_bytes: usize,
}

/// After this many bytes other tasks run. Bytes that are already here are read without waiting, so with a fast sender
/// no timer of this isolate would fire, not even that of the stream.
const MAX_BYTES_PER_TURN: usize = 256 * 1024;

impl BodyStream {
    /// Limits the rest of the stream to this time.
    pub fn limit_rest(&mut self, milliseconds: u64) {
        self.until = self.until.min(js_sys::Date::now() + milliseconds as f64);
    }

    /// The next bytes. `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, CallResult> {
        if self.unyielded_bytes >= MAX_BYTES_PER_TURN {
            self.unyielded_bytes = 0;
            clock::pause(0).await;
        }
        let by = if self.has_begun { self.until } else { self.begins_by };
        let left = by - js_sys::Date::now();
        let is_over = self.has_begun && left <= 0.0;
        let timed_out = self.deadline && (self.has_begun || self.begins_by >= self.until);
        if is_over {
            return Err(CallResult::TimedOut { deadline: timed_out });
        }
        match PlatformCall::within(left.max(1.0), |token| read_piece(token, self.call.token)).await {
            Ok(piece) if piece.is_undefined() => Ok(None),
            Ok(piece) => {
                self.has_begun = true;
                let piece = piece.unchecked_into::<Uint8Array>().to_vec();
                self.unyielded_bytes += piece.len();
                Ok(Some(piece))
            }
            Err(error) if error.is_undefined() => Err(CallResult::TimedOut { deadline: timed_out }),
            Err(error) => Err(broken(&Failure::from(error).0)),
        }
    }
}

fn broken(detail: &str) -> CallResult {
    super::log_event!(CallFailed, detail = detail);
    CallResult::Broken
}

/// Sends a request and reads the whole response.
pub async fn send(request: &Request<'_>) -> CallResult {
    whole(begin(request, Reading::Whole).await.0)
}

/// Sends a request of whose response only the status is read.
pub async fn notify(request: &Request<'_>) -> CallResult {
    whole(begin(request, Reading::Status).await.0)
}

fn whole(answered: CallResponse) -> CallResult {
    match answered {
        CallResponse::Whole(answer) => answer,
        // Streaming was not requested.
        CallResponse::Stream(_) => CallResult::Broken,
    }
}

/// Sends a request. A response of Server-Sent Events is streamed.
pub async fn send_streaming(request: &Request<'_>) -> CallResponse {
    begin(request, Reading::Streams).await.0
}

/// Sends a request and reads its response in the given way.
pub async fn send_reading(request: &Request<'_>, reading: Reading) -> CallResponse {
    begin(request, reading).await.0
}

/// As [`send_streaming`], with the session that an MCP server names in its headers.
pub async fn send_in_session(request: &Request<'_>) -> (CallResponse, Option<String>) {
    begin(request, Reading::Streams).await
}

async fn begin(request: &Request<'_>, reading: Reading) -> (CallResponse, Option<String>) {
    let Request { method, url, headers, body, max_bytes, milliseconds, more_ms, deadline } = *request;
    let limit = max_bytes as f64;
    let begins_by = js_sys::Date::now() + milliseconds as f64;
    let reads = reading as u32;
    let begun = |token| {
        call_service(token, url.binding(), method.as_str(), url.as_str(), headers.as_str(), body, limit, reads);
    };
    let call = PlatformCall::within(milliseconds as f64, begun);
    let mut call = Call { token: call.token(), answered: false, call };
    // The boundary never rejects, so an error means a time-out.
    let Ok(reply) = call.answer().await else {
        return (CallResponse::Whole(CallResult::TimedOut { deadline: deadline && more_ms == 0 }), None);
    };
    let reply: Reply = reply.unchecked_into();
    let streams = reading == Reading::Streams;
    let session = if streams { Some(reply.session()).filter(|session| !session.is_empty()) } else { None };
    let whole = CallResponse::Whole(match reply.kind() {
        0 => answered(&reply),
        1 => CallResult::TooLarge { status: reply.status() },
        2 => CallResult::Refused,
        4 => {
            call.answered = false;
            let until = begins_by + more_ms as f64;
            return (
                CallResponse::Stream(BodyStream {
                    call,
                    begins_by,
                    until,
                    has_begun: false,
                    deadline,
                    unyielded_bytes: 0,
                }),
                session,
            );
        }
        _ => broken(&reply.detail()),
    });
    (whole, session)
}

fn answered(reply: &Reply) -> CallResult {
    let (status, body) = (reply.status(), reply.body().to_vec());
    let non_empty = |header: String| Some(header).filter(|header| !header.is_empty());
    let retry_after_ms = if status == 200 {
        None
    } else {
        retry_after::read(&reply.retry_after(), &reply.retry_after_ms(), clock::now())
    };
    CallResult::Http {
        status,
        is_json: media_type::is_json(&reply.media(), &body),
        retry_after_ms,
        location: if status == 202 { non_empty(reply.location()) } else { None },
        body,
    }
}

/// The result of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResponse {
    Answered(u16),
    Unreachable,
    TimedOut,
}

/// Requests a page without reading it, to see whether the service responds.
pub async fn probe_service(url: &Address, headers: &Headers, milliseconds: u64) -> ProbeResponse {
    let status =
        PlatformCall::new(|token| probe(token, url.binding(), url.as_str(), headers.as_str(), milliseconds as f64))
            .await;
    match status.ok().and_then(|status| status.as_f64()) {
        Some(status) if status > 0.0 => ProbeResponse::Answered(status as u16),
        Some(status) if status < 0.0 => ProbeResponse::TimedOut,
        _ => ProbeResponse::Unreachable,
    }
}

/// A small JSON document, and its caching header.
pub struct Document {
    pub body: Vec<u8>,
    pub cache_control: String,
}

/// The delays before a request for a document is repeated, in milliseconds.
const DOCUMENT_RETRY_DELAYS_MS: [u64; 2] = [150, 600];

/// Reads a document of at most `limit` bytes. Fails for every status but 200, redirects included. Repeats the request
/// while the server is unavailable.
pub async fn document(url: &Address, milliseconds: u64, limit: usize) -> Result<Document, Failure> {
    let until = clock::now().plus_ms(milliseconds);
    let mut pauses = DOCUMENT_RETRY_DELAYS_MS.into_iter();
    loop {
        let left = until.since(clock::now()).max(1);
        let begun = |token| read_document(token, url.binding(), url.as_str(), left as f64, limit as f64);
        let failure = match PlatformCall::new(begun).await {
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

/// The response to a conditional request for a document.
pub struct FetchedDocument {
    pub status: u16,
    /// The body of a 200. `None` if it exceeds the limit.
    pub body: Option<Vec<u8>>,
    pub caching: CachingHeaders,
}

/// Requests a document of at most `limit` bytes, unless its entity tag is unchanged. Redirects are not followed.
///
/// # Errors
/// The server cannot be reached, or does not respond in time.
pub async fn conditional_document(
    url: &Address,
    milliseconds: u64,
    limit: usize,
    etag: Option<&str>,
) -> Result<FetchedDocument, Failure> {
    let until = clock::now().plus_ms(milliseconds);
    let mut pauses = DOCUMENT_RETRY_DELAYS_MS.into_iter();
    let (status, parts) = loop {
        let left = until.since(clock::now()).max(1);
        let begun = |token| read_conditional(token, url.as_str(), left as f64, limit as f64, etag);
        let parts: js_sys::Array = PlatformCall::new(begun).await?.unchecked_into();
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
    Ok(FetchedDocument {
        status,
        body: (!body.is_undefined()).then(|| body.unchecked_into::<Uint8Array>().to_vec()),
        caching: CachingHeaders {
            cache_control: text(2),
            age: text(3),
            expires: text(4),
            date: text(5),
            etag: text(6),
        },
    })
}
