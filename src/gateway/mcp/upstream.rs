//! What goes along to a service that is an MCP server itself: what the client can be asked, and what it wants to hear.

use serde_json::value::RawValue;

use crate::objects::registry::snapshot::Entry;
use crate::transport::observer::Notice;
use narthex_core::mcp::MODERN;
use narthex_core::mcp::client::request::forwarded_capabilities;
use narthex_core::mcp::client::request_meta;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::responses;
use narthex_core::mcp::revision::{self, Envelope};

use super::session::Session;

/// The level of messages for a client of 2025 that asked for none.
const USUAL_LEVEL: &str = "info";

/// Who asks a server through the gateway, beside the principal.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    /// What it can be asked, an object's text.
    pub capabilities: Option<&'a RawValue>,
    /// Its session here, which has one of its own there.
    pub session: Option<&'a str>,
    pub legacy: bool,
}

impl<'a> Client<'a> {
    /// As a modern request says it.
    pub fn modern(params: Option<&'a RawValue>) -> Self {
        Self { capabilities: revision::capabilities(params), session: None, legacy: false }
    }

    /// As a legacy client said it when its session began.
    pub fn legacy(session: Option<&'a Session>) -> Self {
        let capabilities = session.map(|session| &*session.opener.client);
        Self { capabilities, session: session.map(Session::name), legacy: true }
    }
}

/// What a caller brings for an upstream. Of services of other kinds nothing is told.
#[derive(Debug, Default)]
pub struct Wish {
    /// The capabilities that may be declared for it.
    pub client: Option<Box<RawValue>>,
    /// Its session here.
    pub session: Option<String>,
    /// It cannot be asked during this call.
    pub unasked: bool,
    pub log_level: Option<String>,
    /// What its client says of the call.
    pub meta: Option<Box<RawValue>>,
    /// Messages of the server's log are shown.
    pub messages: bool,
}

impl Wish {
    /// What a modern request says of its sender.
    pub fn of(entry: &Entry, envelope: &Envelope) -> Self {
        let client = RawValue::from_string(envelope.client.clone()).ok();
        let level = envelope.log_level.clone();
        let messages = level.is_some();
        Self::for_upstream(entry, client.as_deref(), level, messages)
    }

    /// What a legacy client has said before; without a session it cannot be asked, nor during a call that has no stream and
    /// no task. Its session at the server is one for all of its calls, so all of it is declared with each.
    pub fn of_legacy(entry: &Entry, session: Option<&Session>, streams: bool, is_task: bool) -> Self {
        let catalogue = entry.service().catalogue.as_ref();
        // A client that asked for no level leaves it to the server; one of 2026 says nothing unless it is asked to.
        let modern = catalogue.is_some_and(|known| known.protocol_version.as_deref() == Some(MODERN));
        let level = session.and_then(|session| session.level.clone());
        let level = level.or_else(|| modern.then(|| USUAL_LEVEL.into()));
        let client = session.map(|session| &*session.opener.client);
        let wish = Self::for_upstream(entry, client, level, streams);
        let unasked = session.is_some() && !streams && !is_task;
        Self { session: session.map(|session| session.name().into()), unasked, ..wish }
    }

    /// With what the request says in its `_meta` for the server.
    pub fn with_meta(self, entry: &Entry, params: Option<&RawValue>) -> Result<Self, Error> {
        let meta = if entry.service().transport.upstream().is_some() { request_meta::passed(params)? } else { None };
        Ok(Self { meta, ..self })
    }

    fn for_upstream(entry: &Entry, client: Option<&RawValue>, level: Option<String>, messages: bool) -> Self {
        let service = entry.service();
        if service.transport.upstream().is_none() {
            return Self::default();
        }
        let none = RawValue::from_string("{}".into()).ok();
        let logs = service.catalogue.as_ref().is_some_and(|known| known.server.declares("logging"));
        let messages = messages && logs;
        let client = client.and_then(forwarded_capabilities).or(none);
        Self { client, session: None, unasked: false, log_level: level.filter(|_| logs), meta: None, messages }
    }
}

/// A notice as the client is told of it; nothing where it did not ask for that. A modern client is told of changes by
/// its subscriptions only.
pub fn notification(notice: &Notice, token: Option<&RawValue>, messages: bool, legacy: bool) -> Option<String> {
    match notice {
        Notice::Progress(params) => responses::forwarded_progress(token?, params),
        Notice::Message(params) => {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{}}}"#, params.get());
            messages.then_some(text)
        }
        Notice::Changed(method) => legacy.then(|| format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#)),
    }
}
