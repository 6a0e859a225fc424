//! Responses that are written piece by piece: Server-Sent Events.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use wasm_bindgen::prelude::*;

use super::http::Headers;
use super::tasks::PlatformCall;

#[wasm_bindgen(module = "/src/platform/streams.js")]
extern "C" {
    #[wasm_bindgen(js_name = openStream)]
    fn open_stream(token: u32, status: u16, headers: &str) -> JsValue;
    #[wasm_bindgen(js_name = writeStream)]
    fn write_stream(token: u32, text: &str) -> f64;
    #[wasm_bindgen(js_name = unreadOf)]
    fn unread_of(token: u32) -> f64;
    #[wasm_bindgen(js_name = closeStream)]
    fn close_stream(token: u32, whole: bool);
}

/// The writing end of a response. [`Stream::close`] ends it properly; dropping it without that breaks it off.
///
/// It is also a future, which ends when the reader has gone. Only a write detects that, so a silent stream needs a
/// comment from time to time.
pub struct Stream {
    token: u32,
    gone: PlatformCall,
    closed: Cell<bool>,
}

impl Stream {
    /// The response for the platform, and its writing end.
    pub fn open(status: u16, headers: &Headers) -> (JsValue, Self) {
        let mut response = JsValue::UNDEFINED;
        let gone = PlatformCall::new(|token| response = open_stream(token, status, headers.as_str()));
        (response, Self { token: gone.token(), gone, closed: Cell::new(false) })
    }

    /// Returns the number of bytes that have not been read yet.
    pub fn write(&self, text: &str) -> usize {
        write_stream(self.token, text) as usize
    }

    /// The number of bytes that have not been read yet.
    pub fn unread(&self) -> usize {
        unread_of(self.token) as usize
    }

    /// Ends the response after everything written.
    pub fn close(&self) {
        if !self.closed.replace(true) {
            close_stream(self.token, true);
        }
    }
}

impl Future for Stream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.gone).poll(context).map(drop)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.closed.get() {
            close_stream(self.token, false);
        }
    }
}
