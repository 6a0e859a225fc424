//! The messages of an MCP session: its requests and replies. Each request is sent together with its caller.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::objects::protocol::{self, Address, Done, Object, Pending, call_enclosed, requests};
use crate::objects::reply::{Reply, Variants};
use crate::platform::objects::{CALL_TIMEOUT_MS, Kind};
use narthex_core::base::object_name::ObjectName;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::mcp::session::{CallInfo, Opener, Request, StreamPosition, UpstreamSession};

pub struct Sessions;

impl Object for Sessions {
    const KIND: Kind = Kind::Sessions;
}

impl Sessions {
    /// The name of the object of a session. Contexts store it.
    pub fn object(tenant: &TenantId, session: &str) -> ObjectName {
        tenant.object_for(session)
    }

    pub fn at(object: &ObjectName) -> Address<Self> {
        Address::new(object.clone())
    }
}

/// A request and its caller: a session belongs to the principal that opened it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message<A> {
    pub principal: PrincipalId,
    pub ask: A,
}

/// Calls a session on behalf of a principal.
pub fn call<R: protocol::Request<Object = Sessions>>(
    object: &ObjectName,
    principal: &PrincipalId,
    request: &R,
) -> Pending<R::Reply> {
    call_enclosed(&Sessions::at(object), &Message { principal: principal.clone(), ask: () }, request)
}

requests! {
    pub enum Ask of Sessions {
        "open": Open => Done, Handle, |_| CALL_TIMEOUT_MS;
        "set_level": SetLevel => Reply<Done, Gone>, Handle, |_| CALL_TIMEOUT_MS;
        "begin": BeginCall => Reply<Begun, Gone>, Handle, |_| CALL_TIMEOUT_MS;
        "tell": SendMessages => Reply<Sent, Gone>, Handle, |_| CALL_TIMEOUT_MS;
        "resume": Resume => Reply<Resumed, Gone>, Handle, |_| CALL_TIMEOUT_MS;
        "respond": Respond => Reply<ResponseEffect, Gone>, Handle, |_| CALL_TIMEOUT_MS;
        "find": FindContext => Reply<Found, Gone>, Handle, |_| CALL_TIMEOUT_MS;
        "listens": CheckStream => Reply<StreamState, Gone>, Handle, |_| CALL_TIMEOUT_MS;
        "note": NoteChange => Reply<Done, Gone>, Handle, |_| CALL_TIMEOUT_MS;
        "upstream": FindUpstream => Reply<Upstream, Gone>, Handle, |_| CALL_TIMEOUT_MS;
        "begun": AddUpstream => Reply<Upstream, Gone>, Handle, |_| CALL_TIMEOUT_MS;
        "watch": SetWatched => Reply<Watching, Gone>, Handle, |_| CALL_TIMEOUT_MS;
    }
    units {
        "use": Use => Reply<Used, Gone>, Handle, |_| CALL_TIMEOUT_MS;
        "listen": Listen => Reply<Listening, Gone>, Handle, |_| CALL_TIMEOUT_MS;
        "end": End => Reply<Ended, Gone>, Handle, |_| CALL_TIMEOUT_MS;
    }
}

/// The session does not exist, has ended, or belongs to another principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gone {
    Gone,
}

impl Variants for Gone {
    const NAMES: &'static [&'static str] = &["gone"];
}

/// Opens the session.
#[derive(Debug, Serialize, Deserialize)]
pub struct Open(pub Opener);

/// Reads the session before a request is handled.
#[derive(Debug, Serialize)]
pub struct Use;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Used {
    Used {
        opener: Opener,
        #[serde(default)]
        level: Option<String>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SetLevel {
    pub level: String,
}

/// A call is answered by a stream.
#[derive(Debug, Serialize, Deserialize)]
pub struct BeginCall(pub CallInfo);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begun {
    Begun { call: u64 },
}

/// Sends messages on a call's stream; `requests` are those among them that need a response from the client.
#[derive(Debug, Serialize, Deserialize)]
pub struct SendMessages {
    pub call: u64,
    pub turn: u64,
    pub texts: Vec<String>,
    pub reached: StreamPosition,
    #[serde(default)]
    pub requests: Vec<Request>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// The messages are stored; `first` is the number of the first one.
    #[serde(rename = "told")]
    Sent { first: u64 },
    /// Another request has resumed that stream, or it does not exist.
    Replaced,
}

/// Resumes a call's stream after this event.
#[derive(Debug, Serialize, Deserialize)]
pub struct Resume {
    pub call: u64,
    pub after: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resumed {
    Resumed {
        begun: CallInfo,
        turn: u64,
        reached: StreamPosition,
        /// Numbers and messages.
        events: Vec<(u64, String)>,
    },
    /// That stream does not exist.
    Replaced,
}

/// The client's response to a request, by the exact id; `None` for an error.
#[derive(Debug, Serialize, Deserialize)]
pub struct Respond {
    pub id: String,
    #[serde(default)]
    pub response: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseEffect {
    /// It answers no open request, or other requests of the question are open.
    Done,
    Answered {
        context: String,
        question: usize,
        responses: String,
    },
    Refused {
        context: String,
    },
}

/// Reads the context of a request in progress.
#[derive(Debug, Serialize, Deserialize)]
pub struct FindContext {
    pub request: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    Found { context: Option<String> },
}

/// Opens another stream by GET.
#[derive(Debug, Serialize)]
pub struct Listen;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listening {
    Listening { number: u64 },
}

/// Whether that stream is still the current one, and which resources are watched.
#[derive(Debug, Serialize, Deserialize)]
pub struct CheckStream {
    pub number: u64,
    /// The caller delivers the recorded changes.
    #[serde(default)]
    pub takes: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// It is current, and these resources are watched.
    #[serde(rename = "listens")]
    Current {
        watched: Vec<String>,
        /// Services, and the kinds of changes they reported.
        #[serde(default)]
        noted: Vec<(ServiceId, String)>,
        /// Services at which the session has sessions of its own.
        #[serde(default)]
        services: Vec<ServiceId>,
    },
    /// Another stream has replaced it.
    Replaced,
}

/// A server reports a change during a call; the stream by GET must deliver it.
#[derive(Debug, Serialize, Deserialize)]
pub struct NoteChange {
    pub service: ServiceId,
    pub method: String,
}

/// Reads the session at a server, by the service and its configuration, unless it is the lost one.
#[derive(Debug, Serialize, Deserialize)]
pub struct FindUpstream {
    pub service: ServiceId,
    pub place: String,
    #[serde(default)]
    pub gone: Option<String>,
}

/// A session was opened at a server; the reply has the session to use.
#[derive(Debug, Serialize, Deserialize)]
pub struct AddUpstream {
    pub service: ServiceId,
    pub upstream: UpstreamSession,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upstream {
    Upstream {
        #[serde(default)]
        known: Option<UpstreamSession>,
    },
}

/// Starts or stops watching a resource.
#[derive(Debug, Serialize, Deserialize)]
pub struct SetWatched {
    pub uri: String,
    pub on: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Watching {
    Done,
    /// The limit is reached.
    Full,
}

#[derive(Debug, Serialize)]
pub struct End;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    Done,
    /// These sessions at servers must end too, by service.
    Ended {
        upstreams: Vec<(ServiceId, UpstreamSession)>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::protocol::enclosed;
    use crate::objects::wire_tests::{assert_pinned, assert_refusals_pinned};

    #[test]
    fn other_versions_read_the_messages() {
        assert_pinned::<Ask>(include_str!("wire.json"));
        assert_refusals_pinned::<Gone>(include_str!("wire.json"));
    }

    #[test]
    fn a_message_names_its_caller() {
        let text = r#"{"principal":"key:k1","ask":"use"}"#;
        let envelope = Message { principal: PrincipalId::of_key("k1"), ask: () };
        assert_eq!(enclosed(&envelope, &Use).unwrap(), text);
        assert!(matches!(serde_json::from_str::<Message<Ask>>(text).unwrap().ask, Ask::Use));
    }
}
