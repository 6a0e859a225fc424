//! The messages of an MCP session: its requests and replies.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::mcp::session::{CallInfo, Opener, Request, StreamPosition, UpstreamSession};

/// Every request but `Open` identifies the caller: a session belongs to the principal that opened it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub principal: PrincipalId,
    pub ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    Open(Opener),
    /// Reads the session before a request is handled.
    Use,
    SetLevel {
        level: String,
    },
    /// A call is answered by a stream.
    Begin(CallInfo),
    /// Sends messages on a call's stream; `requests` are those among them that need a response from the client.
    #[serde(rename = "tell")]
    Send {
        call: u64,
        turn: u64,
        texts: Vec<String>,
        reached: StreamPosition,
        #[serde(default)]
        requests: Vec<Request>,
    },
    /// Resumes a call's stream after this event.
    Resume {
        call: u64,
        after: u64,
    },
    /// The client's response to a request, by the exact id; `None` for an error.
    Respond {
        id: String,
        #[serde(default)]
        response: Option<Box<RawValue>>,
    },
    /// The context of a request in progress.
    Find {
        request: String,
    },
    /// Opens another stream by GET.
    Listen,
    /// Whether that stream is still the current one, and which resources are watched.
    Listens {
        number: u64,
        /// The caller delivers the recorded changes.
        #[serde(default)]
        takes: bool,
    },
    /// A server reports a change during a call; the stream by GET must deliver it.
    Note {
        service: ServiceId,
        method: String,
    },
    /// The session at a server, by the service and its configuration, unless it is the lost one.
    Upstream {
        service: ServiceId,
        place: String,
        #[serde(default)]
        gone: Option<String>,
    },
    /// A session was opened at a server; the reply has the session to use.
    Begun {
        service: ServiceId,
        upstream: UpstreamSession,
    },
    /// Starts or stops watching a resource.
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
    /// The session does not exist, has ended, or belongs to another principal.
    Gone,
    Used {
        opener: Opener,
        #[serde(default)]
        level: Option<String>,
    },
    Begun {
        call: u64,
    },
    /// The messages are stored; `first` is the number of the first one.
    #[serde(rename = "told")]
    Sent {
        first: u64,
    },
    /// Another request has resumed that stream, or it does not exist.
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
    /// It is current, and these resources are watched.
    Listens {
        watched: Vec<String>,
        /// Services, and the kinds of changes they reported.
        #[serde(default)]
        noted: Vec<(ServiceId, String)>,
        /// Services at which the session has sessions of its own.
        #[serde(default)]
        services: Vec<ServiceId>,
    },
    Upstream {
        #[serde(default)]
        known: Option<UpstreamSession>,
    },
    /// The session has ended, and so must these sessions at servers, by service.
    Ended {
        upstreams: Vec<(ServiceId, UpstreamSession)>,
    },
    /// The limit is reached.
    Full,
}
