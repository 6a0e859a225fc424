//! Sessions of legacy clients that need state between requests: for elicitations, subscriptions, and sessions at
//! servers.
//!
//! A session id names its object under a signature for one principal at one endpoint, so a forged id costs no look-up.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::objects::protocol;
use crate::objects::reply::Reply;
use crate::objects::sessions::messages::{Gone, Sessions, SetLevel, SetWatched, Watching, call};
use narthex_core::base::json::Object;
use narthex_core::base::object_name::ObjectName;
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

    /// Calls the session, which may have ended in the meantime.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        request: &impl protocol::Request<Object = Sessions, Reply = Reply<T, Gone>>,
    ) -> Result<Result<T, Gone>, Problem> {
        let Reply(reply) = call(&self.object, &self.opener.principal, request).await.map_err(internal)?;
        Ok(reply)
    }

    pub async fn set_level(&self, level: &str) -> Result<(), Problem> {
        self.ask(&SetLevel { level: level.into() }).await?.map(drop).map_err(|Gone::Gone| ended())
    }

    /// Subscribes to a resource, or ends the subscription.
    pub async fn set_watched(&self, uri: String, on: bool) -> Result<(), Error> {
        match self.ask(&SetWatched { uri, on }).await?.map_err(|Gone::Gone| ended())? {
            Watching::Done => Ok(()),
            Watching::Full => Err(Error::Params("A session may subscribe to at most 50 resources.".into())),
        }
    }
}

pub fn ended() -> Problem {
    Problem::new(Code::NotFound, "The session is unknown or has ended. Open another with initialize.")
}

/// A request of an elicitation, as a session stores it.
pub fn session_request(name: &str, request: &RawValue) -> Request {
    let method = Object::new(request.get(), "#").ok().and_then(|mut request| request.string("method", 1..=64));
    Request { name: name.into(), elicits: method.as_deref() == Some("elicitation/create"), response: None }
}
