//! `transport.kind: "mcp"`: a server of the Model Context Protocol, asked as its client over Streamable HTTP.
//!
//! What is said is decided in `core/mcp/client`; here it is sent. Nothing of the caller's goes along but what they can.

pub mod catalogue_refresh;
mod exchange;
mod jobs;
mod known;
mod link;
mod links;
mod listening;
mod shared;
mod tokens;
mod tools;

use std::rc::Rc;

use serde_json::json;
use serde_json::value::RawValue;

use crate::objects::registry::snapshot::Entry;
use crate::objects::secrets::DecryptedSecrets;
use crate::platform::tasks;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::CallResult;
use narthex_core::http::egress_address::Address;
use narthex_core::mcp::client::discovery::is_modern;
use narthex_core::mcp::client::request::{self, UpstreamRequest};
use narthex_core::mcp::client::response::{Expected, Incoming, Response};
use narthex_core::mcp::client::result::RequestOutcome;
use narthex_core::mcp::client::session_loss::{self, SessionState};
use narthex_core::mcp::client_capabilities::ClientCapabilities;

use exchange::{Exchange, Sent, send};
pub use known::{close_service, close_session, services_of};
use link::Link;
pub use listening::{Ear, Heard, listen, watch_in_time};
pub use shared::end as end_upstream;
pub use tools::{call_tool, list_tools};

/// How long a server may take to hear that nobody waits any more, in milliseconds.
const NOTICE_MS: u64 = 5_000;

/// On whose behalf an upstream is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asker<'a> {
    /// Nothing for the gateway's own questions.
    pub principal: &'a str,
    /// The session of a legacy client at the gateway, which has one of its own at the server.
    pub session: Option<&'a str>,
    pub capabilities: Option<&'a RawValue>,
    /// Nothing of that can be asked during this request. The session is begun with all of it: other requests use it too.
    pub unasked: bool,
}

/// An upstream, and on whose behalf it is asked.
#[derive(Clone)]
pub struct Peer {
    pub address: Rc<Address>,
    pub secrets: Rc<DecryptedSecrets>,
    tenant: Rc<str>,
    service: Rc<str>,
    /// What its tokens are kept under: tenant, service and configuration.
    place: String,
    /// What its links are kept under: tenant, service and configuration, and who asks: the session here, or the principal
    /// with what it can be asked. Nobody else is to find them.
    key: String,
    principal: Rc<str>,
    session: Option<Rc<str>>,
    /// Its links are its own.
    is_apart: bool,
    /// The revision it spoke when its tools were read.
    hint: Option<String>,
    /// The capabilities that its session is begun with.
    capabilities: String,
    /// Those that it is asked with now.
    able: String,
}

impl Peer {
    pub fn new(
        tenant: &str,
        entry: &Entry,
        (address, secrets): (Rc<Address>, Rc<DecryptedSecrets>),
        asker: Asker<'_>,
    ) -> Self {
        let Asker { principal, session, capabilities, unasked } = asker;
        let (registered, service) = (&entry.registered, entry.service());
        let capabilities = capabilities.and_then(request::forwarded_capabilities);
        let capabilities = capabilities.map_or_else(|| "{}".into(), |declared| declared.get().to_string());
        let able = if unasked { "{}".into() } else { capabilities.clone() };
        let place = format!("{tenant} {} {}", service.id, registered.updated_at.0);
        let key = match session {
            Some(session) => format!("{place} {principal} session {session}"),
            None => format!("{place} {principal} {capabilities}"),
        };
        let hint = service.catalogue.as_ref().and_then(|catalogue| catalogue.protocol_version.clone());
        let (tenant, service, session) = (tenant.into(), service.id.as_str().into(), session.map(Into::into));
        let principal = principal.into();
        let is_apart = false;
        Self { address, secrets, tenant, service, principal, place, key, session, is_apart, hint, capabilities, able }
    }

    /// The same with links of its own, which nobody else finds and which it has to [`known::close`].
    fn apart(&self) -> Self {
        Self { key: format!("{} apart {}", self.key, link::next_id()), session: None, is_apart: true, ..self.clone() }
    }

    fn is_of(&self, tenant: &str, service: &str) -> bool {
        *self.tenant == *tenant && *self.service == *service
    }
}

impl Peer {
    /// What may be asked of whom it is asked for.
    fn able(&self) -> ClientCapabilities {
        serde_json::from_str::<&RawValue>(&self.able).map(ClientCapabilities::read).unwrap_or_default()
    }
}

/// A request under way. Dropped before its end, a legacy server is told that it is cancelled; a modern one sees its
/// stream close.
struct Pending {
    peer: Peer,
    link: Rc<Link>,
    id: u64,
    over: bool,
}

/// A request that was sent, and what comes of it.
pub struct Conversation {
    pending: Pending,
    exchange: Exchange,
    until: Timestamp,
    deadline: bool,
    resumed: u32,
    /// That its tools have changed is heeded.
    heeds: bool,
}

/// What a server says whose tools are others than before, on whatever stream it has.
const TOOLS_CHANGED: &str = "notifications/tools/list_changed";

/// Times a stream goes on that ended before its response.
const MAX_RESUMED: u32 = 20;

impl Conversation {
    /// The next thing the server says, until the response, which is the last.
    pub async fn next(&mut self) -> Result<Incoming, RequestOutcome> {
        let mut came = self.exchange.next().await;
        while matches!(came, Err(RequestOutcome::Transport(CallResult::Broken))) && self.resumed < MAX_RESUMED {
            self.resumed += 1;
            let Pending { peer, link, .. } = &self.pending;
            if !self.exchange.resume(peer, link.seat(), self.until, self.deadline).await {
                break;
            }
            came = self.exchange.next().await;
        }
        self.pending.over |= !matches!(came, Ok(Incoming::Notification { .. } | Incoming::Request { .. }));
        if let Ok(Incoming::Notification { method, .. }) = &came
            && self.heeds
            && method == TOOLS_CHANGED
        {
            let Peer { tenant, service, .. } = &self.pending.peer;
            catalogue_refresh::heed(tenant, service);
        }
        came
    }

    /// Answers a request of the server's own, apart from the stream it came on.
    pub async fn respond(&self, id: &RawValue, result: Option<&str>) {
        let Pending { peer, link, .. } = &self.pending;
        let headers = request::about(&link.spoken, link.session.as_deref());
        send(peer, &headers, &request::response(id, result), Expected::small(0), NOTICE_MS, false).await;
    }

    /// The response, when nothing else the server says is of interest.
    pub async fn response(mut self) -> Result<Response, RequestOutcome> {
        loop {
            match self.next().await? {
                Incoming::Response(response) => return Ok(response),
                Incoming::Request { id, method, .. } => {
                    self.respond(&id, (method == "ping").then_some("{}")).await;
                }
                Incoming::Notification { .. } => {}
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.over || self.link.spoken.is_modern() {
            return;
        }
        let (peer, link, id) = (self.peer.clone(), self.link.clone(), self.id);
        tasks::spawn(async move {
            let params = json!({"requestId": id, "reason": "nobody waits for it any more"});
            let body = request::notification("notifications/cancelled", &params);
            let headers = request::about(&link.spoken, link.session.as_deref());
            send(&peer, &headers, &body, Expected::small(0), NOTICE_MS, false).await;
        });
    }
}

/// What a legacy server says of the session it was asked in.
fn says(link: &Link, sent: &Sent) -> SessionState {
    if link.session.is_none() { SessionState::Nothing } else { sent.said(session_loss::session_state) }
}

/// Whether a server that spoke the modern revision before does not any more.
fn is_another_era(link: &Link, sent: &Sent) -> bool {
    let says_so = |response: &Response| response.as_ref().is_err_and(|error| is_modern(error) || error.code == -32602);
    let known = sent.response().is_some_and(says_so);
    link.spoken.is_modern() && !known && matches!(sent.status(), Some(400 | 404 | 405 | 406 | 415))
}

/// Asks, until `until`; `deadline` when that is all the time the context has. `more` are headers that repeat arguments.
pub async fn ask(
    peer: &Peer,
    asked: &UpstreamRequest<'_>,
    more: &[(String, String)],
    until: Timestamp,
    deadline: bool,
) -> Result<Conversation, RequestOutcome> {
    let (mut hint, mut gone, mut again) = (peer.hint.as_deref(), None, true);
    loop {
        let link = links::open_after(peer, hint, gone.as_deref(), until, deadline).await?;
        let asked = UpstreamRequest { capabilities: &peer.able, ..*asked };
        let id = link::next_id();
        let Some(body) = asked.body(&link.spoken, id) else {
            return Err(RequestOutcome::Transport(CallResult::Refused));
        };
        let mut headers: Vec<(&str, String)> = asked.headers(&link.spoken, link.session.as_deref());
        if link.spoken.is_modern() {
            headers.extend(more.iter().map(|(name, value)| (name.as_str(), value.clone())));
        } else {
            links::set_level(peer, &link, asked.log_level, until).await;
        }
        let mut pending = Pending { peer: peer.clone(), link: link.clone(), id, over: false };
        let expected = Expected::of(asked.method, id);
        let sent = send(peer, &headers, &body, expected, exchange::left(until), deadline).await;
        // What was not answered in time goes on there.
        pending.over = !matches!(sent, Sent::Messages { .. } | Sent::Other { answer: CallResult::TimedOut { .. }, .. });
        let (says, is_another_era) = (says(&link, &sent), is_another_era(&link, &sent));
        if says != SessionState::Nothing || is_another_era {
            known::forget(peer, &link);
        }
        if again && (says == SessionState::Gone || is_another_era) {
            again = false;
            gone.clone_from(&link.session);
            // A link that turned out to be wrong is not made again from the same knowledge.
            hint = hint.filter(|_| !is_another_era);
            pending.over = true;
            continue;
        }
        if says == SessionState::Maybe {
            shared::find(peer, link.session.as_deref()).await;
        }
        let exchange = sent.exchange()?;
        return Ok(Conversation { pending, exchange, until, deadline, resumed: 0, heeds: !peer.is_apart });
    }
}
