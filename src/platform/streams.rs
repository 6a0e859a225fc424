//! Answers that are written piece by piece: Server-Sent Events.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use wasm_bindgen::prelude::*;

use super::http::Headers;
use super::tasks::Awaited;

#[wasm_bindgen(module = "/src/platform/boundary.js")]
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

/// The writing end of an answer. Dropped, it breaks the answer off; [`Stream::close`] ends it well.
///
/// It is a future, too: it ends when nobody reads any more, which is noticed by a write. Whoever is silent for long
/// writes a comment now and then.
pub struct Stream {
    token: u32,
    gone: Awaited,
    closed: Cell<bool>,
}

impl Stream {
    /// The answer for the platform, and what writes it.
    pub fn open(status: u16, headers: &Headers) -> (JsValue, Self) {
        let mut response = JsValue::UNDEFINED;
        let gone = Awaited::new(|token| response = open_stream(token, status, headers.as_str()));
        (response, Self { token: gone.token(), gone, closed: Cell::new(false) })
    }

    /// Gives how many bytes its reader has not taken yet.
    pub fn write(&self, text: &str) -> usize {
        write_stream(self.token, text) as usize
    }

    /// How many bytes its reader has not taken yet.
    pub fn unread(&self) -> usize {
        unread_of(self.token) as usize
    }

    /// Ends the answer, after what was written.
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
