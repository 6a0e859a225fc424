//! `transport.kind: "mcp"`: a server of the Model Context Protocol, called over Streamable HTTP.
//!
//! The messages are composed in `narthex_core::mcp::client` and sent here. A server receives nothing of the caller but
//! its capabilities.

pub mod catalogue_refresh;
mod discovery;
mod exchange;
mod link;
mod link_cache;
mod shared_sessions;
mod subscription;
mod tokens;
mod tools;
mod upstream_tasks;

use std::rc::Rc;

use serde_json::json;
use serde_json::value::RawValue;

use crate::objects::registry::snapshot::ServiceDocument;
use crate::objects::secrets::DecryptedSecrets;
use crate::platform::tasks;
use narthex_core::base::object_name::ObjectName;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::CallResult;
use narthex_core::http::egress_address::Address;
use narthex_core::mcp::client::discovery::is_modern;
use narthex_core::mcp::client::request::{self, UpstreamRequest};
use narthex_core::mcp::client::response::{ExpectedResponse, Response, UpstreamMessage};
use narthex_core::mcp::client::result::RequestOutcome;
use narthex_core::mcp::client::session_loss::{self, SessionState};
use narthex_core::mcp::client_capabilities::ClientCapabilities;

use exchange::{Exchange, SendResult, send};
use link::Link;
pub use link_cache::{close_service, close_session, services_of};
pub use shared_sessions::end as end_upstream;
pub use subscription::{NotificationStream, Subscription, listen, update_watches};
pub use tools::{call_tool, list_tools};

/// How long a notification to a server may take, in milliseconds.
const NOTIFY_TIMEOUT_MS: u64 = 5_000;

/// The requester on whose behalf an upstream is called.
#[derive(Debug, Clone, Copy, Default)]
pub struct Requester<'a> {
    /// `None` for requests of the gateway itself.
    pub principal: Option<&'a PrincipalId>,
    /// The session of a legacy client at the gateway, which has a session of its own at the server.
    pub session: Option<&'a ObjectName>,
    pub capabilities: Option<&'a RawValue>,
    /// The client cannot be asked during this request. The session is created with its capabilities nevertheless, as
    /// other requests use it too.
    pub unasked: bool,
}

/// An upstream, and the requester on whose behalf it is called.
#[derive(Clone)]
pub struct Peer {
    pub address: Rc<Address>,
    pub secrets: Rc<DecryptedSecrets>,
    tenant: TenantId,
    service: ServiceId,
    /// The key of its tokens: tenant, service and configuration.
    config_key: String,
    /// The key of its links: tenant, service and configuration, and the requester: the session at the gateway, or the
    /// principal with its capabilities. Other requesters must not find them.
    key: String,
    principal: Option<PrincipalId>,
    session: Option<Rc<ObjectName>>,
    /// Its links are not shared.
    is_private: bool,
    /// The revision when its tools were last read.
    hint: Option<String>,
    /// The capabilities that its session is created with.
    capabilities: String,
    /// The capabilities in this request.
    current_capabilities: String,
}

impl Peer {
    pub fn new(
        tenant: &TenantId,
        document: &ServiceDocument,
        (address, secrets): (Rc<Address>, Rc<DecryptedSecrets>),
        requester: Requester<'_>,
    ) -> Self {
        let Requester { principal, session, capabilities, unasked } = requester;
        let (registered, service) = (&document.registered, document.service());
        let capabilities = capabilities.and_then(request::forwarded_capabilities);
        let capabilities = capabilities.map_or_else(|| "{}".into(), |declared| declared.get().to_string());
        let current_capabilities = if unasked { "{}".into() } else { capabilities.clone() };
        let config_key = format!("{tenant} {} {}", service.id, registered.updated_at.0);
        let named = principal.map_or("", PrincipalId::as_str);
        let key = match session {
            Some(session) => format!("{config_key} {named} session {session}"),
            None => format!("{config_key} {named} {capabilities}"),
        };
        let hint = service.catalogue.as_ref().and_then(|catalogue| catalogue.protocol_version.clone());
        let (tenant, service) = (tenant.clone(), service.id.clone());
        let session = session.map(|session| Rc::new(session.clone()));
        let principal = principal.cloned();
        let is_private = false;
        Self {
            address,
            secrets,
            tenant,
            service,
            principal,
            config_key,
            key,
            session,
            is_private,
            hint,
            capabilities,
            current_capabilities,
        }
    }

    /// The same peer with links that are not shared. It must be closed by [`link_cache::close`].
    fn private(&self) -> Self {
        Self { key: format!("{} apart {}", self.key, link::next_id()), session: None, is_private: true, ..self.clone() }
    }

    fn is_of(&self, tenant: &TenantId, service: &ServiceId) -> bool {
        self.tenant == *tenant && self.service == *service
    }
}

impl Peer {
    /// The capabilities of the client in this request.
    fn client_capabilities(&self) -> ClientCapabilities {
        serde_json::from_str::<&RawValue>(&self.current_capabilities).map(ClientCapabilities::read).unwrap_or_default()
    }
}

/// A request in progress. If it is dropped before its end, a legacy server is notified of the cancellation; a modern
/// one sees its stream close.
struct PendingRequest {
    peer: Peer,
    link: Rc<Link>,
    id: u64,
    over: bool,
}

/// A request that was sent, and the messages of its response.
pub struct Conversation {
    pending: PendingRequest,
    exchange: Exchange,
    until: Timestamp,
    deadline: bool,
    resumed: u32,
    /// Whether a notification of changed tools refreshes them.
    refreshes_tools: bool,
}

/// The notification that the tools have changed.
const TOOLS_CHANGED: &str = "notifications/tools/list_changed";

/// How often a stream that ended before its response is resumed.
const MAX_RESUMED: u32 = 20;

impl Conversation {
    /// The next message. The response is the last one.
    pub async fn next(&mut self) -> Result<UpstreamMessage, RequestOutcome> {
        let mut outcome = self.exchange.next().await;
        while matches!(outcome, Err(RequestOutcome::Transport(CallResult::Broken))) && self.resumed < MAX_RESUMED {
            self.resumed += 1;
            let PendingRequest { peer, link, .. } = &self.pending;
            if !self.exchange.resume(peer, link.revision_and_session(), self.until, self.deadline).await {
                break;
            }
            outcome = self.exchange.next().await;
        }
        self.pending.over |=
            !matches!(outcome, Ok(UpstreamMessage::Notification { .. } | UpstreamMessage::Request { .. }));
        if let Ok(UpstreamMessage::Notification { method, .. }) = &outcome
            && self.refreshes_tools
            && method == TOOLS_CHANGED
        {
            let Peer { tenant, service, .. } = &self.pending.peer;
            catalogue_refresh::refresh_soon(tenant, service);
        }
        outcome
    }

    /// Responds to a request of the server, in a request of its own.
    pub async fn respond(&self, id: &RawValue, result: Option<&str>) {
        let PendingRequest { peer, link, .. } = &self.pending;
        let headers = request::about(&link.revision, link.session.as_deref());
        send(peer, &headers, &request::response(id, result), ExpectedResponse::small(0), NOTIFY_TIMEOUT_MS, false)
            .await;
    }

    /// The response, ignoring all other messages.
    pub async fn response(mut self) -> Result<Response, RequestOutcome> {
        loop {
            match self.next().await? {
                UpstreamMessage::Response(response) => return Ok(response),
                UpstreamMessage::Request { id, method, .. } => {
                    self.respond(&id, (method == "ping").then_some("{}")).await;
                }
                UpstreamMessage::Notification { .. } => {}
            }
        }
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        if self.over || self.link.revision.is_modern() {
            return;
        }
        let (peer, link, id) = (self.peer.clone(), self.link.clone(), self.id);
        tasks::keep_running(async move {
            let params = json!({"requestId": id, "reason": "the client no longer waits"});
            let body = request::notification("notifications/cancelled", &params);
            let headers = request::about(&link.revision, link.session.as_deref());
            send(&peer, &headers, &body, ExpectedResponse::small(0), NOTIFY_TIMEOUT_MS, false).await;
        });
    }
}

/// The state of the session according to the response of a legacy server.
fn session_state(link: &Link, sent: &SendResult) -> SessionState {
    if link.session.is_none() { SessionState::Nothing } else { sent.inspect(session_loss::session_state) }
}

/// Whether a server no longer supports the modern revision.
fn is_other_revision(link: &Link, sent: &SendResult) -> bool {
    let says_so = |response: &Response| response.as_ref().is_err_and(|error| is_modern(error) || error.code == -32602);
    let known = sent.response().is_some_and(says_so);
    link.revision.is_modern() && !known && matches!(sent.status(), Some(400 | 404 | 405 | 406 | 415))
}

/// Sends a request, with time until `until`; `deadline` if that is all the time the context has. `more` are headers
/// that repeat arguments.
pub async fn ask(
    peer: &Peer,
    asked: &UpstreamRequest<'_>,
    more: &[(String, String)],
    until: Timestamp,
    deadline: bool,
) -> Result<Conversation, RequestOutcome> {
    let (mut hint, mut gone, mut again) = (peer.hint.as_deref(), None, true);
    loop {
        let link = discovery::open_after(peer, hint, gone.as_deref(), until, deadline).await?;
        let asked = UpstreamRequest { capabilities: &peer.current_capabilities, ..*asked };
        let id = link::next_id();
        let Some(body) = asked.body(&link.revision, id) else {
            return Err(RequestOutcome::Transport(CallResult::Refused));
        };
        let mut headers: Vec<(&str, String)> = asked.headers(&link.revision, link.session.as_deref());
        if link.revision.is_modern() {
            headers.extend(more.iter().map(|(name, value)| (name.as_str(), value.clone())));
        } else {
            discovery::set_level(peer, &link, asked.log_level, until).await;
        }
        let mut pending = PendingRequest { peer: peer.clone(), link: link.clone(), id, over: false };
        let expected = ExpectedResponse::of(asked.method, id);
        let sent = send(peer, &headers, &body, expected, exchange::left(until), deadline).await;
        // A request that timed out still runs at the server.
        pending.over = !matches!(
            sent,
            SendResult::Messages { .. } | SendResult::Other { answer: CallResult::TimedOut { .. }, .. }
        );
        let (state, is_other_revision) = (session_state(&link, &sent), is_other_revision(&link, &sent));
        if state != SessionState::Nothing || is_other_revision {
            link_cache::forget(peer, &link);
        }
        if again && (state == SessionState::Gone || is_other_revision) {
            again = false;
            gone.clone_from(&link.session);
            // A link that turned out to be wrong must not be created from the same hint again.
            hint = hint.filter(|_| !is_other_revision);
            pending.over = true;
            continue;
        }
        if state == SessionState::Maybe {
            shared_sessions::find(peer, link.session.as_deref()).await;
        }
        let exchange = sent.exchange()?;
        return Ok(Conversation { pending, exchange, until, deadline, resumed: 0, refreshes_tools: !peer.is_private });
    }
}
