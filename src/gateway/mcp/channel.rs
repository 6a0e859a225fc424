//! Where what is said of a call goes: the stream of its request. In a session it is kept too, so that a stream that
//! broke off is resumed where it was.

use crate::objects::sessions::messages::{Ask, Reply};
use crate::platform::http::Headers;
use crate::platform::log_event;
use crate::platform::streams::Stream;
use narthex_core::http::media_type::EVENT_STREAM;
use narthex_core::http::problem::Problem;
use narthex_core::mcp::responses;
use narthex_core::mcp::session::{CallInfo, Request, StreamPosition, event_id};

use super::session::{Session, ended};

/// A client that lost its stream comes back after this, in milliseconds.
const RETRY_MS: u32 = 1_000;

pub struct Channel {
    pub stream: Stream,
    kept: Option<Kept>,
}

struct Kept {
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
        Self { stream, kept: None }
    }

    pub fn kept(stream: Stream, session: Session, call: u64, turn: u64) -> Self {
        Self { stream, kept: Some(Kept { session, call, turn }) }
    }

    /// The number the call has in its session.
    pub fn call(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.call)
    }

    /// The first event of a stream that can be resumed, before there is any message.
    pub fn prime(&self) {
        if let Some(kept) = &self.kept {
            self.stream.write(&format!("id: {}\nretry: {RETRY_MS}\ndata: \n\n", event_id(kept.call, Some(0))));
        }
    }

    /// Says messages; `requests` are those of them that ask the client. False when somebody else says the rest.
    pub async fn tell(&self, texts: Vec<String>, reached: StreamPosition, requests: Vec<Request>) -> bool {
        let Some(kept) = &self.kept else {
            for text in texts {
                self.stream.write(&responses::event(&text));
            }
            return true;
        };
        let ask = Ask::Send { call: kept.call, turn: kept.turn, texts: texts.clone(), reached, requests };
        match kept.session.ask(ask).await {
            Ok(Reply::Sent { first }) => {
                for (number, text) in (first..).zip(&texts) {
                    self.repeat(number, text);
                }
                true
            }
            Ok(_) => false,
            Err(problem) => {
                let cause = problem.cause.as_deref().unwrap_or(&problem.detail);
                log_event!(SessionNotWritten, object = kept.session.name(), detail = cause);
                false
            }
        }
    }

    /// Writes what the session has under this number.
    pub fn repeat(&self, number: u64, text: &str) {
        self.identified(Some(number), text);
    }

    fn identified(&self, number: Option<u64>, text: &str) {
        let id = self.kept.as_ref().map_or_else(String::new, |kept| format!("id: {}\n", event_id(kept.call, number)));
        self.stream.write(&format!("{id}{}", responses::event(text)));
    }

    /// The last there is to say.
    pub fn end(&self, response: &str) {
        self.identified(None, response);
        self.stream.close();
    }
}

impl Session {
    /// A call that is answered by a stream: what is written there is kept.
    pub async fn begin(&self, begun: CallInfo, stream: Stream) -> Result<Channel, Problem> {
        match self.ask(Ask::Begin(begun)).await? {
            Reply::Begun { call } => {
                let channel = Channel::kept(stream, self.clone(), call, 1);
                if self.opener.version == "2025-11-25" {
                    // Earlier revisions know no event without a message.
                    channel.prime();
                }
                Ok(channel)
            }
            _ => Err(ended()),
        }
    }
}
