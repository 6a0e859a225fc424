//! The channel for a call's messages: the stream of its request. In a session the messages are also stored, so that an
//! interrupted stream resumes where it stopped.

use crate::objects::sessions::messages::{BeginCall, Begun, Gone, SendMessages, Sent};
use crate::platform::http::Headers;
use crate::platform::log_event;
use crate::platform::streams::Stream;
use narthex_core::http::media_type::EVENT_STREAM;
use narthex_core::http::problem::Problem;
use narthex_core::mcp::responses;
use narthex_core::mcp::session::{CallInfo, Request, StreamPosition, event_id};

use super::session::{Session, ended};

/// A client that lost its stream reconnects after this time, in milliseconds.
const RETRY_MS: u32 = 1_000;

pub struct Channel {
    pub stream: Stream,
    stored: Option<StoredCall>,
    /// Its messages are stored.
    is_kept: bool,
}

/// A call whose messages its session stores.
struct StoredCall {
    session: Session,
    call: u64,
    turn: u64,
}

/// The headers of every stream here.
pub fn stream_headers() -> Headers {
    let mut headers = Headers::default();
    headers.set("content-type", EVENT_STREAM);
    headers
}

impl Channel {
    pub fn plain(stream: Stream) -> Self {
        Self { stream, stored: None, is_kept: false }
    }

    pub fn resumable(stream: Stream, session: Session, call: u64, turn: u64) -> Self {
        Self { stream, stored: Some(StoredCall { session, call, turn }), is_kept: true }
    }

    /// The same channel for a call whose content is not kept: its session knows the call, but none of its messages.
    #[must_use]
    pub fn unkept(self) -> Self {
        Self { is_kept: false, ..self }
    }

    /// The number of the call in its session.
    pub fn call(&self) -> u64 {
        self.stored.as_ref().map_or(0, |stored| stored.call)
    }

    /// Writes the first event of a resumable stream, before any message.
    pub fn prime(&self) {
        if let Some(stored) = &self.stored {
            self.stream.write(&format!("id: {}\nretry: {RETRY_MS}\ndata: \n\n", event_id(stored.call, Some(0))));
        }
    }

    /// Sends messages; `requests` are those among them that the client must answer. False if another stream has taken
    /// over.
    pub async fn send(&self, texts: Vec<String>, reached: StreamPosition, requests: Vec<Request>) -> bool {
        let Some(stored) = self.stored.as_ref().filter(|_| self.is_kept) else {
            for text in texts {
                self.stream.write(&responses::event(&text));
            }
            return true;
        };
        let message = SendMessages { call: stored.call, turn: stored.turn, texts, reached, requests };
        match stored.session.ask(&message).await {
            Ok(Ok(Sent::Sent { first })) => {
                for (number, text) in (first..).zip(&message.texts) {
                    self.write_numbered(number, text);
                }
                true
            }
            Ok(Ok(Sent::Replaced) | Err(Gone::Gone)) => false,
            Err(problem) => {
                let cause = problem.cause.as_deref().unwrap_or(&problem.detail);
                log_event!(SessionNotWritten, object = stored.session.name(), detail = cause);
                false
            }
        }
    }

    /// Writes the message that the session has stored under this number.
    pub fn write_numbered(&self, number: u64, text: &str) {
        self.write_event(Some(number), text);
    }

    fn write_event(&self, number: Option<u64>, text: &str) {
        let id =
            self.stored.as_ref().map(|stored| format!("id: {}\n", event_id(stored.call, number))).unwrap_or_default();
        self.stream.write(&format!("{id}{}", responses::event(text)));
    }

    /// Writes the response and closes the stream.
    pub fn end(&self, response: &str) {
        self.write_event(None, response);
        self.stream.close();
    }
}

impl Session {
    /// Begins a call that is answered with a stream, whose messages the session stores.
    pub async fn begin_call(&self, info: CallInfo, stream: Stream) -> Result<Channel, Problem> {
        let Begun::Begun { call } = self.ask(&BeginCall(info)).await?.map_err(|Gone::Gone| ended())?;
        let channel = Channel::resumable(stream, self.clone(), call, 1);
        if self.opener.version == "2025-11-25" {
            // Earlier revisions do not allow an event without a message.
            channel.prime();
        }
        Ok(channel)
    }
}
