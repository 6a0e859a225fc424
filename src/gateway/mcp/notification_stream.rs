//! A client's stream of notifications: changes of its tools, the states of its tasks, and messages of MCP servers.
//!
//! The tenant's event hub reports that something may have changed; the stream itself checks whether it has for this
//! client. The hub closes its socket when the credentials end.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::{self, LocalBoxStream};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::auth::credential_watch::CredentialWatch;
use crate::objects::contexts::client::call_with_revision;
use crate::objects::contexts::messages::{ContextDetails, ContextReply, Get};
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::objects::sessions::messages::{CheckStream, StreamState};
use crate::platform::sockets::ClientSocket;
use crate::platform::streams::Stream;
use crate::platform::{Failure, clock, settings};
use narthex_core::access::principal::Principal;
use narthex_core::base::id::ContextId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::events::filter::Filter;
use narthex_core::events::sequence::Sequence;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::responses::{self, KEEP_ALIVE};
use narthex_core::mcp::subscription::closed;
use narthex_core::mcp::task::Task;

use super::super::call::{Call, Caller};
use super::super::events;
use super::server_listener::ServerListener;
use super::session::Session;
use super::tasks::ttl_ms;
use super::{EndpointScope, refresh_caller, result_links, tools};

/// The prefix of event ids on a `GET` stream; the hub's sequence follows.
pub const GET_EVENT_PREFIX: &str = "g.";

/// The events that may change tools.
const TOOL_EVENTS: [&str; 4] =
    ["service.registered", "service.updated", "service.deregistered", "service.tool_changed"];
const CONTEXT_EVENTS: &str = "context.*";
/// The event of a stream without topics: its socket at the hub still ends with the credentials.
const NO_TOPIC_EVENT: &str = "key.revoked";

/// The reader of a stream, which determines the form of its messages.
pub(super) enum Reader {
    /// The id of the request that opened it.
    Subscription(Box<RawValue>),
    /// The session, and the number of the stream in it.
    Session(Session, u64),
}

/// The topics of a stream.
pub(super) struct Topics {
    /// Changes of the tools.
    pub tools: bool,
    /// States of these tasks.
    pub tasks: Vec<ContextId>,
    /// The hub's sequence after which the stream resumes.
    pub after: Option<Sequence>,
}

pub(super) struct NotificationStream {
    pub(super) principal: Principal,
    pub(super) snapshot: Rc<Snapshot>,
    pub(super) service: Option<ServiceId>,
    pub(super) reader: Reader,
    /// The digest of the visible tools, if the reader is notified of changes.
    tools: Option<String>,
    tasks: Vec<ContextId>,
    ttl_ms: u64,
    checked_at: Timestamp,
    /// The gateway's own address.
    pub(super) origin: String,
    /// The stream polls its session for the servers to listen to: the one behind the endpoint, or those that the client
    /// has called.
    pub(super) polls_session: bool,
    pub(super) servers: Vec<ServerListener>,
}

/// The relevant part of an event of the hub.
#[derive(Deserialize)]
struct HubEvent {
    r#type: String,
    subject: String,
}

/// What a stream waits for.
enum Signal {
    /// Events, as server-sent events.
    Hub(String),
    /// A notification of one of the servers; nothing if its stream has ended.
    Server(usize, Option<(String, String)>),
    Silence,
    /// The hub closed the socket, or the credentials ended.
    Ended,
    /// The reader has gone.
    ReaderGone,
}

impl NotificationStream {
    pub(super) async fn open(
        call: &Call,
        caller: &mut Caller,
        scope: EndpointScope<'_>,
        reader: Reader,
        topics: Topics,
    ) -> Result<(LocalBoxStream<'static, String>, Self), Error> {
        let Topics { tools: tools_topic, tasks, after } = topics;
        let mut types: Vec<String> = TOOL_EVENTS.iter().filter(|_| tools_topic).map(|name| (*name).into()).collect();
        if !tasks.is_empty() {
            types.push(CONTEXT_EVENTS.into());
        }
        if types.is_empty() {
            types.push(NO_TOPIC_EVENT.into());
        }
        let owner = (!caller.principal.sees_all_contexts()).then(|| caller.principal.principal.clone());
        let filter = Filter { types, owner, ..Filter::default() };
        let socket = events::held(caller, filter, after).await?;
        // The tools are read after the hub's socket is open, so that no change is missed in between.
        refresh_caller(call, caller).await?;
        tools::require_service(caller, scope)?;
        let resumes = after.is_some();
        let digest = || tools::visible_digest(&caller.snapshot, &caller.principal, scope);
        let notifications = Self {
            principal: caller.principal.clone(),
            snapshot: caller.snapshot.clone(),
            service: scope.0.cloned(),
            reader,
            // The earlier stream may have shown other tools.
            tools: tools_topic.then(|| if resumes { String::new() } else { digest() }),
            tasks,
            ttl_ms: ttl_ms(call),
            checked_at: clock::now(),
            origin: call.origin.clone(),
            polls_session: false,
            servers: Vec::new(),
        };
        Ok((hub_frames(socket), notifications))
    }

    /// Writes notifications until the reader goes, the hub closes the socket or the credentials end.
    pub(super) async fn run(
        mut self,
        mut hub: LocalBoxStream<'static, String>,
        mut stream: Stream,
        credentials: CredentialWatch,
    ) {
        let mut ended = pin!(credentials.ended());
        for id in self.tasks.clone() {
            self.write_task(&stream, &id, true).await;
        }
        let (mut written_at, timing) = (clock::now(), settings::timing());
        loop {
            let pause_ms = if self.polls_session { timing.subscription_check_ms } else { timing.keep_alive_ms };
            let signal = self.next_signal(&mut hub, &mut stream, pause_ms);
            let signal = match select(pin!(signal), ended.as_mut()).await {
                Either::Left((signal, _)) => signal,
                Either::Right(_) => Signal::Ended,
            };
            if matches!(signal, Signal::ReaderGone) {
                return;
            }
            if clock::now().since(written_at) >= timing.keep_alive_ms {
                written_at = clock::now();
                stream.write(KEEP_ALIVE);
            }
            // The end of the credentials also interrupts a write that waits for others.
            let continues = match select(pin!(self.handle(signal, &stream)), ended.as_mut()).await {
                Either::Left((continues, _)) => continues,
                Either::Right(_) => false,
            };
            if !continues {
                break;
            }
        }
        if let Reader::Subscription(id) = &self.reader {
            stream.write(&responses::event(&closed(id)));
        }
        stream.close();
    }

    /// Handles a signal. False if the stream is over.
    async fn handle(&mut self, signal: Signal, stream: &Stream) -> bool {
        match signal {
            Signal::ReaderGone | Signal::Ended => false,
            Signal::Hub(frames) => self.handle_events(stream, &frames).await,
            Signal::Server(at, Some((method, params))) => {
                self.forward(stream, at, &method, &params).await;
                true
            }
            Signal::Server(at, None) => {
                // A session reconnects to the server at its next poll.
                let has_session = matches!(self.reader, Reader::Session(..));
                self.servers.get_mut(at).filter(|_| has_session).map(ServerListener::disconnect).is_some()
            }
            Signal::Silence => {
                self.handle_events(stream, "").await && (!self.polls_session || self.poll_session(stream).await)
            }
        }
    }

    async fn next_signal(
        &mut self,
        hub: &mut LocalBoxStream<'static, String>,
        stream: &mut Stream,
        pause_ms: u64,
    ) -> Signal {
        let from_servers = poll_fn(|context| {
            for (at, server) in self.servers.iter_mut().enumerate() {
                if let Poll::Ready(notification) = server.notifications.poll_next_unpin(context) {
                    return Poll::Ready((at, notification));
                }
            }
            Poll::Pending
        });
        let (from_servers, pause) = (pin!(from_servers), pin!(clock::pause(pause_ms)));
        match select(select(hub.next(), from_servers), select(pause, stream)).await {
            Either::Left((Either::Left((Some(frames), _)), _)) => Signal::Hub(frames),
            Either::Left((Either::Left((None, _)), _)) => Signal::Ended,
            Either::Left((Either::Right(((at, notification), _)), _)) => Signal::Server(at, notification),
            Either::Right((Either::Left(_), _)) => Signal::Silence,
            Either::Right((Either::Right(_), _)) => Signal::ReaderGone,
        }
    }

    /// Writes the changes that events of the hub announce. False if the stream is over.
    async fn handle_events(&mut self, stream: &Stream, frames: &str) -> bool {
        let (mut sequence, mut check_tools, mut tasks) = (None, false, BTreeMap::new());
        for line in frames.lines() {
            if let Some(id) = line.strip_prefix("id: ") {
                sequence = Sequence::parse(id.trim()).or(sequence);
            }
            let event = line.strip_prefix("data: ").and_then(|data| serde_json::from_str::<HubEvent>(data).ok());
            let Some(event) = event else { continue };
            check_tools |= event.r#type.starts_with("service.");
            if let Some(id) = self.tasks.iter().find(|id| id.as_str() == event.subject) {
                tasks.insert(event.subject, id.clone());
            }
        }
        // No event reports a changed role, so the tools are also compared at intervals.
        if clock::now().since(self.checked_at) >= settings::timing().permissions_check_ms {
            check_tools = true;
        }
        if check_tools {
            match self.check_tools().await {
                Ok(Some(changed)) => {
                    if changed {
                        stream.write(&self.notification("notifications/tools/list_changed", "", sequence));
                    }
                }
                Ok(None) => return false,
                // The next event or silence repeats the check.
                Err(_) => {}
            }
        }
        for id in tasks.into_values() {
            self.write_task(stream, &id, false).await;
        }
        true
    }

    /// Whether the visible tools have changed; nothing if the credentials or the session ended.
    pub(super) async fn check_tools(&mut self) -> Result<Option<bool>, Failure> {
        self.checked_at = clock::now();
        self.snapshot = snapshot::refreshed(&self.principal.tenant).await?;
        if self.principal.principal.key().is_some() {
            let Some(principal) = self.snapshot.principal(&self.principal.tenant, &self.principal.principal) else {
                return Ok(None);
            };
            self.principal = principal;
        }
        let (principal, snapshot) = (&self.principal, &self.snapshot);
        let in_session = matches!(self.reader, Reader::Session(..));
        self.servers.retain_mut(|server| {
            server.refresh_permissions(principal, snapshot.service(server.service.as_str()), in_session)
        });
        if let Reader::Session(session, number) = &self.reader {
            let state = session.ask(&CheckStream { number: *number, takes: false }).await;
            if !matches!(state, Ok(Ok(StreamState::Current { .. }))) {
                return Ok(None);
            }
        }
        let Some(before) = &mut self.tools else { return Ok(Some(false)) };
        let digest = tools::visible_digest(&self.snapshot, &self.principal, EndpointScope(self.service.as_ref()));
        let changed = *before != digest;
        *before = digest;
        Ok(Some(changed))
    }

    /// Writes the state of a task; `only_ended`: if it has ended.
    async fn write_task(&mut self, stream: &Stream, id: &ContextId, only_ended: bool) {
        let get = Get { id: id.clone() };
        let reply = call_with_revision(&self.principal.tenant, id, &mut self.snapshot, &get).await;
        let Ok(Some(found)) = reply.map(ContextReply::found) else { return };
        if only_ended && !found.ended {
            return;
        }
        let ContextDetails { view, result, .. } = *found;
        if let Some(task) = Task::read(view.get()) {
            let result = result_links::rewrite(&self.snapshot, self.service.is_none(), &view, result.as_deref());
            let params = task.state(view.get(), result.as_deref(), self.ttl_ms);
            stream.write(&self.notification("notifications/tasks", &params, None));
        }
    }

    /// A notification; `params` are members without braces.
    fn notification(&self, method: &str, params: &str, sequence: Option<Sequence>) -> String {
        let comma = if params.is_empty() { "" } else { "," };
        match &self.reader {
            Reader::Subscription(id) => {
                let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
                responses::event(&format!(
                    r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{meta}{comma}{params}}}}}"#
                ))
            }
            Reader::Session(..) => {
                let id = sequence.map_or_else(String::new, |sequence| format!("id: {GET_EVENT_PREFIX}{sequence}\n"));
                let params = if params.is_empty() { String::new() } else { format!(r#","params":{{{params}}}"#) };
                format!("{id}{}", responses::event(&format!(r#"{{"jsonrpc":"2.0","method":"{method}"{params}}}"#)))
            }
        }
    }
}

/// The hub's events, as server-sent events.
fn hub_frames(socket: ClientSocket) -> LocalBoxStream<'static, String> {
    let next = |socket: ClientSocket| async move {
        loop {
            match socket.next(settings::timing().keep_alive_ms).await {
                Ok(Some(text)) => {
                    socket.ping();
                    return Some((text, socket));
                }
                Ok(None) => return None,
                Err(_) => {}
            }
        }
    };
    stream::unfold(socket, next).boxed_local()
}
