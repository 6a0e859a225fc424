//! The client that receives Server-Sent Events while its context is worked on.

use std::cell::Cell;

use wasm_bindgen::JsValue;

use crate::platform::http::Headers;
use crate::platform::streams::Stream;
use narthex_core::http::one_line::one_line;

/// A client with more unread bytes than this receives no more pieces; it still receives the end.
const MAX_QUEUED: usize = 1024 * 1024;

/// The stream to a client. What is sent after the client has gone is lost, without consequences for the work.
pub struct ClientStream {
    stream: Stream,
    queued: Cell<usize>,
    /// Pieces of the latest attempt were sent.
    has_pieces: Cell<bool>,
}

impl ClientStream {
    /// The response for the platform, and the end that writes it.
    pub fn open(headers: &Headers) -> (JsValue, Self) {
        let (response, stream) = Stream::open(200, headers);
        (response, Self { stream, queued: Cell::new(0), has_pieces: Cell::new(false) })
    }

    /// Sends an event with its data, JSON.
    pub fn send(&self, event: &str, data: &str) {
        let data = one_line(data);
        let mut text = String::with_capacity(event.len() + data.len() + 16);
        for part in ["event: ", event, "\ndata: ", &data, "\n\n"] {
            text.push_str(part);
        }
        self.queued.set(self.stream.write(&text));
    }

    /// Sends a piece of the result, as the service sent it.
    pub fn delta(&self, data: &str) {
        self.has_pieces.set(true);
        if self.queued.get() < MAX_QUEUED {
            self.send("delta", data);
        }
    }

    /// Whether pieces were sent of an attempt that has ended.
    pub fn has_pieces(&self) -> bool {
        self.has_pieces.get()
    }

    /// Announces another attempt, which invalidates the pieces so far.
    pub fn attempt(&self, number: u64) {
        self.has_pieces.set(false);
        self.send("attempt", &format!(r#"{{"number":{number}}}"#));
    }

    /// Keeps a silent connection open.
    pub fn comment(&self) {
        self.stream.write(": still there\n\n");
    }

    /// Ends the stream.
    pub fn close(&self) {
        self.stream.close();
    }
}
