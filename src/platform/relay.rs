//! Calls of models: bodies stay with the platform, and pass by in pieces, so that a large one takes no memory here.

use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;

use super::Failure;
use super::http::Headers;
use super::tasks::{self, PlatformCall};
use narthex_core::http::egress_address::Address;

mod bodies;
mod observer;

pub use bodies::{BodySource, Parts, Piece, Upload};
use bodies::{array, failure};
pub use observer::{Closing, Next, Observer, Passing, RelayEnd, RelayRules, Relayed, Seen, begin, begin_behind, start};

#[wasm_bindgen(module = "/src/platform/relay.js")]
extern "C" {
    #[wasm_bindgen(js_name = abortCall)]
    fn abort_call(token: u32);
    #[wasm_bindgen(js_name = forgetCall)]
    fn forget_call(token: u32);
    #[wasm_bindgen(js_name = callModel)]
    fn call_model(token: u32, binding: Option<&str>, url: &str, headers: &str, body: &JsValue);
    #[wasm_bindgen(js_name = madeCall)]
    fn made_call(token: u32, texts: &Array, milliseconds: f64);
    #[wasm_bindgen(js_name = nextOfCall)]
    fn next_of_call(token: u32, call: u32);
    #[wasm_bindgen(js_name = wholeResponse)]
    fn whole_response(status: u16, headers: &str, pieces: &Array) -> JsValue;

    type Begun;
    #[wasm_bindgen(method, getter)]
    fn kind(this: &Begun) -> u32;
    #[wasm_bindgen(method, getter)]
    fn status(this: &Begun) -> u16;
    #[wasm_bindgen(method, getter)]
    fn media(this: &Begun) -> String;
    #[wasm_bindgen(method, getter, js_name = retryAfter)]
    fn retry_after(this: &Begun) -> String;
    #[wasm_bindgen(method, getter, js_name = retryAfterMs)]
    fn retry_after_ms(this: &Begun) -> String;
    #[wasm_bindgen(method, getter, js_name = shouldRetry)]
    fn should_retry(this: &Begun) -> String;
    #[wasm_bindgen(method, getter, js_name = requestId)]
    fn request_id(this: &Begun) -> String;
    #[wasm_bindgen(method, getter)]
    fn body(this: &Begun) -> Uint8Array;
    #[wasm_bindgen(method, getter)]
    fn detail(this: &Begun) -> String;
}

/// What a call sends.
pub enum CallBody<'a> {
    Parts(&'a Parts),
    Upload(&'a Upload),
}

/// How a call began.
pub enum CallStart {
    /// The whole response, which is small or has another status than 200.
    Whole(WholeResponse),
    /// A response that comes in pieces.
    Pieces(PiecedResponse),
    /// There was no connection.
    Refused(String),
    Broken(String),
    TimedOut,
}

/// The head of a response.
pub struct ResponseHead {
    pub status: u16,
    pub media: String,
    pub retry_after: String,
    pub retry_after_ms: String,
    pub should_retry: String,
    /// The provider's id of the request.
    pub request_id: String,
}

pub struct WholeResponse {
    pub head: ResponseHead,
    pub body: Piece,
}

/// A call in progress. Dropping it aborts it, unless its response is relayed.
pub struct PiecedResponse {
    pub head: ResponseHead,
    call: RunningCall,
}

struct RunningCall {
    token: u32,
    is_over: bool,
}

impl RunningCall {
    /// Its response was read to its end.
    fn end(mut self) {
        self.is_over = true;
        forget_call(self.token);
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        if !self.is_over {
            abort_call(self.token);
        }
    }
}

/// Calls a model. The response must begin within this time.
pub async fn call(url: &Address, headers: &Headers, body: CallBody<'_>, milliseconds: u64) -> CallStart {
    let body: &JsValue = match body {
        CallBody::Parts(parts) => &parts.0,
        CallBody::Upload(upload) => &upload.readable,
    };
    let begun = |token| call_model(token, url.binding(), url.as_str(), headers.as_str(), body);
    let begun = PlatformCall::within(milliseconds as f64, begun);
    let call = RunningCall { token: begun.token(), is_over: false };
    let Ok(begun) = begun.await else { return CallStart::TimedOut };
    let begun: Begun = begun.unchecked_into();
    let head = ResponseHead {
        status: begun.status(),
        media: begun.media(),
        retry_after: begun.retry_after(),
        retry_after_ms: begun.retry_after_ms(),
        should_retry: begun.should_retry(),
        request_id: begun.request_id(),
    };
    match begun.kind() {
        0 => {
            if head.status == 200 {
                // It was read to its end, so that there is nothing to abort.
                call.end();
            }
            CallStart::Whole(WholeResponse { head, body: Piece(begun.body()) })
        }
        1 => CallStart::Pieces(PiecedResponse { head, call }),
        2 => CallStart::Refused(begun.detail()),
        _ => CallStart::Broken(begun.detail()),
    }
}

impl ResponseHead {
    /// Of a response that the gateway makes itself.
    pub fn made(media: &str) -> Self {
        let none = String::new;
        Self {
            status: 200,
            media: media.into(),
            retry_after: none(),
            retry_after_ms: none(),
            should_retry: none(),
            request_id: none(),
        }
    }
}

impl PiecedResponse {
    /// A response that the gateway makes itself: these texts, one each time so much time has passed.
    pub fn made(media: &str, texts: &[String], milliseconds: u64) -> Self {
        let token = tasks::token();
        made_call(token, &texts.iter().map(|text| JsValue::from_str(text)).collect(), milliseconds as f64);
        Self { head: ResponseHead::made(media), call: RunningCall { token, is_over: false } }
    }

    /// The next piece. `None` at the end.
    ///
    /// # Errors
    /// The transfer broke, or (`None`) nothing came in this time.
    pub async fn next(&self, milliseconds: u64) -> Result<Option<Piece>, Option<Failure>> {
        let token = self.call.token;
        let read = PlatformCall::within(milliseconds as f64, |waiting| next_of_call(waiting, token)).await;
        let piece = read.map_err(failure)?;
        Ok((!piece.is_undefined()).then(|| Piece(piece.unchecked_into())))
    }

    /// Ends the call. Returns the head of its response.
    pub fn abandon(self) -> ResponseHead {
        self.head
    }

    /// The head of a response that has been read to its end.
    pub fn into_head(self) -> ResponseHead {
        self.call.end();
        self.head
    }
}

/// A response of these pieces.
pub fn response_of(status: u16, headers: &Headers, pieces: &[Piece]) -> JsValue {
    whole_response(status, headers.as_str(), &array(pieces))
}
