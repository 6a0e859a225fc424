//! Client data that a call carries to a service that is an MCP server: capabilities, session, log level,
//! `_meta`.

use serde_json::value::RawValue;

use crate::objects::registry::snapshot::Entry;
use crate::transport::observer::Notification;
use narthex_core::base::object_name::ObjectName;
use narthex_core::mcp::MODERN;
use narthex_core::mcp::client::request::forwarded_capabilities;
use narthex_core::mcp::client::request_meta;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::responses;
use narthex_core::mcp::revision::{self, Envelope};

use super::session::Session;

/// The log level for a legacy client that set none.
const DEFAULT_LEVEL: &str = "info";

/// The client that reaches a server through the gateway.
#[derive(Clone, Copy)]
pub struct ClientProfile<'a> {
    /// The client's capabilities, a JSON object.
    pub capabilities: Option<&'a RawValue>,
    /// The client's session at the gateway, which has its own session at the server.
    pub session: Option<&'a ObjectName>,
    pub legacy: bool,
}

impl<'a> ClientProfile<'a> {
    /// From the envelope of a modern request.
    pub fn modern(params: Option<&'a RawValue>) -> Self {
        Self { capabilities: revision::capabilities(params), session: None, legacy: false }
    }

    /// From the `initialize` of a legacy client's session.
    pub fn legacy(session: Option<&'a Session>) -> Self {
        let capabilities = session.map(|session| &*session.opener.client);
        Self { capabilities, session: session.map(Session::name), legacy: true }
    }
}

/// Options of a call at an upstream. They are empty for services that are not MCP servers.
#[derive(Debug, Default)]
pub struct UpstreamOptions {
    /// The client capabilities that the gateway may declare to the server.
    pub capabilities: Option<Box<RawValue>>,
    /// The client's session at the gateway.
    pub session: Option<ObjectName>,
    /// The client cannot answer elicitations during this call.
    pub unasked: bool,
    pub log_level: Option<String>,
    /// The request's `_meta` for the server.
    pub meta: Option<Box<RawValue>>,
    /// Log messages of the server are forwarded.
    pub messages: bool,
}

impl UpstreamOptions {
    /// The options of a modern request.
    pub fn of_modern(entry: &Entry, envelope: &Envelope) -> Self {
        let client = RawValue::from_string(envelope.client.clone()).ok();
        let level = envelope.log_level.clone();
        let messages = level.is_some();
        Self::for_upstream(entry, client.as_deref(), level, messages)
    }

    /// The options of a legacy client. Without a session it cannot answer elicitations, nor during a call without a
    /// stream and without a task. Its session at the server serves all its calls, so each call declares all
    /// capabilities.
    pub fn of_legacy(entry: &Entry, session: Option<&Session>, streams: bool, is_task: bool) -> Self {
        let server = entry.service().server.as_ref();
        // Without a level, a legacy server decides; a modern server sends no messages unless the request sets one.
        let modern = server.is_some_and(|server| server.protocol_version.as_deref() == Some(MODERN));
        let level = session.and_then(|session| session.level.clone());
        let level = level.or_else(|| modern.then(|| DEFAULT_LEVEL.into()));
        let client = session.map(|session| &*session.opener.client);
        let options = Self::for_upstream(entry, client, level, streams);
        let unasked = session.is_some() && !streams && !is_task;
        Self { session: session.map(|session| session.name().clone()), unasked, ..options }
    }

    /// Adds the part of the request's `_meta` for the server.
    pub fn with_meta(self, entry: &Entry, params: Option<&RawValue>) -> Result<Self, Error> {
        let meta = if entry.service().transport.is_mcp() { request_meta::passed(params)? } else { None };
        Ok(Self { meta, ..self })
    }

    fn for_upstream(entry: &Entry, client: Option<&RawValue>, level: Option<String>, messages: bool) -> Self {
        let service = entry.service();
        if !service.transport.is_mcp() {
            return Self::default();
        }
        let empty = RawValue::from_string("{}".into()).ok();
        let logs = service.declares("logging");
        let messages = messages && logs;
        let capabilities = client.and_then(forwarded_capabilities).or(empty);
        Self { capabilities, session: None, unasked: false, log_level: level.filter(|_| logs), meta: None, messages }
    }
}

/// The notification of an upstream in the client's form; nothing if the client did not ask for it. Modern clients learn
/// of changes through their subscriptions only.
pub fn notification(notice: &Notification, token: Option<&RawValue>, messages: bool, legacy: bool) -> Option<String> {
    match notice {
        Notification::Progress(params) => responses::forwarded_progress(token?, params),
        Notification::Message(params) => {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{}}}"#, params.get());
            messages.then_some(text)
        }
        Notification::Changed(method) => legacy.then(|| format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#)),
    }
}
