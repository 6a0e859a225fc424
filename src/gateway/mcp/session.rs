//! Sessions of legacy clients that need state between requests: for elicitations, subscriptions, and sessions at
//! servers.
//!
//! A session id names its object under a signature for one principal at one endpoint, so a forged id costs no look-up.

use serde_json::value::RawValue;

use crate::objects::sessions::messages::{Ask, Message, Reply};
use crate::platform::objects::{CALL_TIMEOUT_MS, Kind, send};
use narthex_core::base::json::Object;
use narthex_core::base::object_name::ObjectName;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::mcp::client_capabilities::ClientCapabilities;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::session::{Opener, Request};

use super::super::answer::internal;

pub const HEADER: &str = "mcp-session-id";

/// An open session of the caller.
#[derive(Clone)]
pub struct Session {
    pub object: ObjectName,
    pub opener: Opener,
    /// The lowest severity of log messages that the client asked for.
    pub level: Option<String>,
}

impl Session {
    /// The name under which this session's sessions at servers are kept.
    pub fn name(&self) -> &ObjectName {
        &self.object
    }

    pub fn client_capabilities(&self) -> ClientCapabilities {
        ClientCapabilities::read(&self.opener.client)
    }

    pub async fn ask(&self, ask: Ask) -> Result<Reply, Problem> {
        ask_object(&self.object, &self.opener.principal, ask).await
    }

    pub async fn set_level(&self, level: &str) -> Result<(), Problem> {
        self.ask(Ask::SetLevel { level: level.into() }).await.map(drop)
    }

    /// Subscribes to a resource, or ends the subscription.
    pub async fn set_watched(&self, uri: String, on: bool) -> Result<(), Error> {
        match self.ask(Ask::Watch { uri, on }).await? {
            Reply::Done => Ok(()),
            Reply::Full => Err(Error::Params("A session may subscribe to at most 50 resources.".into())),
            _ => Err(ended().into()),
        }
    }
}

pub async fn ask_object(object: &ObjectName, principal: &PrincipalId, ask: Ask) -> Result<Reply, Problem> {
    let message = Message { principal: principal.clone(), ask };
    send(Kind::Sessions, object, "", &message, CALL_TIMEOUT_MS).await.map_err(internal)
}

pub fn ended() -> Problem {
    Problem::new(Code::NotFound, "The session is unknown or has ended. Open another with initialize.")
}

/// A request of an elicitation, as a session stores it.
pub fn session_request(name: &str, request: &RawValue) -> Request {
    let method = Object::new(request.get(), "#").ok().and_then(|mut request| request.string("method", 1..=64));
    Request { name: name.into(), elicits: method.as_deref() == Some("elicitation/create"), response: None }
}
