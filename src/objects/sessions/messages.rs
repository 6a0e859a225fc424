//! What is asked of a session, and what it replies.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use narthex_core::mcp::session::{CallInfo, Opener, Request, StreamPosition, UpstreamSession};

/// Everything but opening says who asks: a session is its opener's alone.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub principal: String,
    pub ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    Open(Opener),
    /// What there is to know of it, before anything is done for it.
    Use,
    SetLevel {
        level: String,
    },
    /// A call is answered by a stream.
    Begin(CallInfo),
    /// Messages are sent on a call's stream; `requests` are those among them that ask the client.
    Tell {
        call: u64,
        turn: u64,
        texts: Vec<String>,
        reached: StreamPosition,
        #[serde(default)]
        requests: Vec<Request>,
    },
    /// A call's stream is taken up again, after this event.
    Resume {
        call: u64,
        after: u64,
    },
    /// The client's response to a request, by the id as it was written; nothing for an error.
    Respond {
        id: String,
        #[serde(default)]
        response: Option<Box<RawValue>>,
    },
    /// The context of a request that goes on.
    Find {
        request: String,
    },
    /// Another stream by GET.
    Listen,
    /// Whether that stream is still the one that is told, and what is watched.
    Listens {
        number: u64,
        /// What was noted is told by whoever asks.
        #[serde(default)]
        takes: bool,
    },
    /// A server says during a call that something has changed, which that stream is to tell.
    Note {
        service: String,
        method: String,
    },
    /// Its session at a server, by its service and the place of that, unless it is the one that is gone.
    Upstream {
        service: String,
        place: String,
        #[serde(default)]
        gone: Option<String>,
    },
    /// A session was begun there; the reply has the one that counts.
    Begun {
        service: String,
        upstream: UpstreamSession,
    },
    /// A resource is watched, or no more.
    Watch {
        uri: String,
        on: bool,
    },
    End,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    /// There is no such session (any more), or it is another's.
    Gone,
    Used {
        opener: Opener,
        #[serde(default)]
        level: Option<String>,
    },
    Begun {
        call: u64,
    },
    /// The number of the first message.
    Told {
        first: u64,
    },
    /// Somebody else has taken up that stream, or there is none.
    Replaced,
    Resumed {
        begun: CallInfo,
        turn: u64,
        reached: StreamPosition,
        /// Numbers and messages.
        events: Vec<(u64, String)>,
    },
    Answered {
        context: String,
        question: usize,
        responses: String,
    },
    Refused {
        context: String,
    },
    Found {
        context: Option<String>,
    },
    Listening {
        number: u64,
    },
    /// It is, and these resources are watched.
    Listens {
        watched: Vec<String>,
        /// Services, and what they say that has changed.
        #[serde(default)]
        noted: Vec<(String, String)>,
        /// The services that it has sessions at.
        #[serde(default)]
        services: Vec<String>,
    },
    Upstream {
        #[serde(default)]
        known: Option<UpstreamSession>,
    },
    /// It has ended, and these sessions at servers are nobody's any more, by their services.
    Ended {
        upstreams: Vec<(String, UpstreamSession)>,
    },
    /// There are as many already as there may be.
    Full,
}
