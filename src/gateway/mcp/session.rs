//! Sessions of legacy clients: only for who can be asked, as all else is said by each request itself.
//!
//! A session's id names its object under a signature for one principal at one door, so what was made up costs no look-up.

use serde_json::value::RawValue;

use crate::objects::sessions::messages::{Ask, Message, Reply};
use crate::platform::objects::{Kind, PATIENCE_MS, send};
use narthex_core::base::json::Object;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::mcp::client_capabilities::ClientCapabilities;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::session::{Opener, Request};

use super::super::answer::internal;

pub const HEADER: &str = "mcp-session-id";

/// A session that is there, and its opener's.
#[derive(Clone)]
pub struct Session {
    pub object: String,
    pub opener: Opener,
    /// The least severe messages it asked for.
    pub level: Option<String>,
}

impl Session {
    /// What sessions at servers are known by that belong to this one.
    pub fn name(&self) -> &str {
        &self.object
    }

    pub fn able(&self) -> ClientCapabilities {
        ClientCapabilities::read(&self.opener.client)
    }

    pub async fn ask(&self, ask: Ask) -> Result<Reply, Problem> {
        ask_object(&self.object, &self.opener.principal, ask).await
    }

    pub async fn set_level(&self, level: &str) -> Result<(), Problem> {
        self.ask(Ask::SetLevel { level: level.into() }).await.map(drop)
    }

    /// A resource is watched from now on, or no more.
    pub async fn watch(&self, uri: String, on: bool) -> Result<(), Error> {
        match self.ask(Ask::Watch { uri, on }).await? {
            Reply::Done => Ok(()),
            Reply::Full => Err(Error::Params("This session watches as many resources as it may: 50.".into())),
            _ => Err(ended().into()),
        }
    }
}

pub async fn ask_object(object: &str, principal: &str, ask: Ask) -> Result<Reply, Problem> {
    let message = Message { principal: principal.into(), ask };
    send(Kind::Sessions, object, "", &message, PATIENCE_MS).await.map_err(internal)
}

pub fn ended() -> Problem {
    Problem::new(Code::NotFound, "There is no such session (any more). Begin another with initialize.")
}

/// The requests of a question, as a session remembers them.
pub fn remembered(name: &str, request: &RawValue) -> Request {
    let method = Object::new(request.get(), "#").ok().and_then(|mut request| request.string("method", 1..=64));
    Request { name: name.into(), elicits: method.as_deref() == Some("elicitation/create"), response: None }
}
