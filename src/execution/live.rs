//! Who listens while a context is worked on: an answer of Server-Sent Events.

use std::cell::Cell;

use wasm_bindgen::JsValue;

use crate::platform::http::Headers;
use crate::platform::streams::Stream;
use narthex_core::http::one_line::one_line;

/// Who takes no more than this is told nothing in between any more, in bytes; the end still comes.
const MAX_QUEUED: usize = 1024 * 1024;

/// A listener. What is told after it went away is lost, and changes nothing for the work.
pub struct Live {
    stream: Stream,
    queued: Cell<usize>,
    /// It was told pieces of the latest attempt.
    has_pieces: Cell<bool>,
}

impl Live {
    /// The answer for the platform, and the telling end.
    pub fn open(headers: &Headers) -> (JsValue, Self) {
        let (response, stream) = Stream::open(200, headers);
        (response, Self { stream, queued: Cell::new(0), has_pieces: Cell::new(false) })
    }

    /// An event with its data, JSON.
    pub fn tell(&self, event: &str, data: &str) {
        let data = one_line(data);
        let mut text = String::with_capacity(event.len() + data.len() + 16);
        for part in ["event: ", event, "\ndata: ", &data, "\n\n"] {
            text.push_str(part);
        }
        self.queued.set(self.stream.write(&text));
    }

    /// A piece of the result, as the service sent it.
    pub fn delta(&self, data: &str) {
        self.has_pieces.set(true);
        if self.queued.get() < MAX_QUEUED {
            self.tell("delta", data);
        }
    }

    /// Whether it was told pieces of an attempt that has ended since.
    pub fn has_pieces(&self) -> bool {
        self.has_pieces.get()
    }

    /// Another attempt begins: the pieces so far are of no worth.
    pub fn attempt(&self, number: u64) {
        self.has_pieces.set(false);
        self.tell("attempt", &format!(r#"{{"number":{number}}}"#));
    }

    /// Keeps a silent connection open.
    pub fn comment(&self) {
        self.stream.write(": still there\n\n");
    }

    /// There is nothing more to tell.
    pub fn close(&self) {
        self.stream.close();
    }
}
