//! Calling a service: one request, bounded in time and size, to an address that was checked.

use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;

use super::Failure;
use super::http::Headers;
use super::tasks::Awaited;
use crate::core::address::Address;
use crate::core::oauth::document::Said;
use crate::core::upstream::Answer;

#[wasm_bindgen(module = "/src/platform/boundary.js")]
extern "C" {
    type Reply;
    #[wasm_bindgen(method, getter)]
    fn kind(this: &Reply) -> u32;
    #[wasm_bindgen(method, getter)]
    fn status(this: &Reply) -> u16;
    #[wasm_bindgen(method, getter)]
    fn json(this: &Reply) -> bool;
    #[wasm_bindgen(method, getter, js_name = retryAfter)]
    fn retry_after(this: &Reply) -> String;
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
        streams: bool,
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

/// `Retry-After` in seconds; a date is not worth reading a clock for.
fn retry_after_ms(text: &str) -> Option<u64> {
    text.trim().parse::<u64>().ok().map(|seconds| seconds.min(86_400) * 1000)
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
pub struct Request<'a> {
    pub method: Method,
    pub url: &'a Address,
    pub headers: &'a Headers,
    pub body: Option<&'a str>,
    /// The largest answer that is read, in bytes; a stream is not bounded by it.
    pub most_bytes: usize,
    /// How long its answer is waited for.
    pub milliseconds: u64,
    /// Whether that is all the time the context has.
    pub deadline: bool,
}

/// What came of a request that may be answered by a stream.
pub enum Answered {
    Whole(Answer),
    Stream(Pieces),
}

/// An answer that comes in pieces. Dropped before its end, it is broken off.
pub struct Pieces {
    call: Call,
    until: f64,
    deadline: bool,
}

impl Pieces {
    /// The next piece; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Answer> {
        let left = (self.until - js_sys::Date::now()).max(1.0);
        match Awaited::within(left, |token| read_piece(token, self.call.token)).await {
            Ok(piece) if piece.is_undefined() => Ok(None),
            Ok(piece) => Ok(Some(piece.unchecked_into::<Uint8Array>().to_vec())),
            Err(error) if error.is_undefined() => Err(Answer::TimedOut { deadline: self.deadline }),
            Err(error) => Err(broke(&Failure::from(error).0)),
        }
    }
}

fn broke(detail: &str) -> Answer {
    super::log(&format!(r#"{{"level":"warn","message":"call broke","detail":{detail:?}}}"#));
    Answer::Broken
}

/// Sends a request and reads the whole answer.
pub async fn send(request: &Request<'_>) -> Answer {
    match begin(request, false).await.0 {
        Answered::Whole(answer) => answer,
        // None was asked for.
        Answered::Stream(_) => Answer::Broken,
    }
}

/// Sends a request; an answer of Server-Sent Events is left to be read as it comes.
pub async fn send_streaming(request: &Request<'_>) -> Answered {
    begin(request, true).await.0
}

/// As [`send_streaming`], with the session that an MCP server names in its headers.
pub async fn send_in_session(request: &Request<'_>) -> (Answered, Option<String>) {
    begin(request, true).await
}

async fn begin(request: &Request<'_>, streams: bool) -> (Answered, Option<String>) {
    let Request { method, url, headers, body, most_bytes, milliseconds, deadline } = *request;
    let limit = most_bytes as f64;
    let until = js_sys::Date::now() + milliseconds as f64;
    let begun = |token| {
        call_service(token, url.binding(), method.as_str(), url.as_str(), headers.as_str(), body, limit, streams);
    };
    let call = Awaited::within(milliseconds as f64, begun);
    let mut call = Call { token: call.token(), answered: false, call };
    // It fails by its time alone; however it ends in time is in the reply.
    let Ok(reply) = call.answer().await else {
        return (Answered::Whole(Answer::TimedOut { deadline }), None);
    };
    let reply: Reply = reply.unchecked_into();
    let session = if streams { Some(reply.session()).filter(|session| !session.is_empty()) } else { None };
    let whole = Answered::Whole(match reply.kind() {
        0 => {
            let retry_after = if reply.status() == 200 { None } else { retry_after_ms(&reply.retry_after()) };
            let location = if reply.status() == 202 { Some(reply.location()) } else { None };
            Answer::Http {
                status: reply.status(),
                is_json: reply.json(),
                retry_after_ms: retry_after,
                location: location.filter(|location| !location.is_empty()),
                body: reply.body().to_vec(),
            }
        }
        1 => Answer::TooLarge { status: reply.status() },
        2 => Answer::Refused,
        4 => {
            call.answered = false;
            return (Answered::Stream(Pieces { call, until, deadline }), session);
        }
        _ => broke(&reply.detail()),
    });
    (whole, session)
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

/// Reads a document of at most `limit` bytes. Fails for whatever is not 200, redirects among it.
pub async fn document(url: &Address, milliseconds: u64, limit: usize) -> Result<Document, Failure> {
    let read = Awaited::new(|token| read_document(token, url.as_str(), milliseconds as f64, limit as f64)).await?;
    let parts: js_sys::Array = read.unchecked_into();
    let body = parts.get(0).unchecked_into::<Uint8Array>().to_vec();
    Ok(Document { body, cache_control: parts.get(1).as_string().unwrap_or_default() })
}

/// What came of asking for a document that may be held.
pub struct Fetched {
    pub status: u16,
    /// Of a 200; nothing where it is larger than the limit.
    pub body: Option<Vec<u8>>,
    pub said: Said,
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
    let begun = |token| read_held(token, url.as_str(), milliseconds as f64, limit as f64, etag);
    let parts: js_sys::Array = Awaited::new(begun).await?.unchecked_into();
    let text = |at| parts.get(at).as_string().unwrap_or_default();
    let body = parts.get(1);
    Ok(Fetched {
        status: parts.get(0).as_f64().unwrap_or_default() as u16,
        body: (!body.is_undefined()).then(|| body.unchecked_into::<Uint8Array>().to_vec()),
        said: Said { cache_control: text(2), age: text(3), expires: text(4), date: text(5), etag: text(6) },
    })
}
