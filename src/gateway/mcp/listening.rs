//! What a client is told of without asking: that its tools have changed, and how its tasks stand. In the modern era by
//! `subscriptions/listen`, in a legacy session by the stream of a `GET`.
//!
//! The tenant's event hub says when something may have changed; whether it has for this client is looked at here. The
//! hub closes what it holds when the credentials end.

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

use crate::auth::credential_watch::{CredentialWatch, RequiredPermissions};
use crate::execution::call_with_revision;
use crate::objects::contexts::messages::{Ask, ContextDetails, Reply};
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::objects::sessions::messages::{Ask as SessionAsk, Reply as SessionReply};
use crate::platform::sockets::Held;
use crate::platform::streams::Stream;
use crate::platform::{Failure, clock, settings};
use crate::transport::mcp::catalogue_refresh;
use narthex_core::access::principal::Principal;
use narthex_core::base::id::ContextId;
use narthex_core::base::time::Timestamp;
use narthex_core::events::filter::Filter;
use narthex_core::http::problem::Problem;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::message::Request;
use narthex_core::mcp::responses::{self, KEEP_ALIVE};
use narthex_core::mcp::revision::Envelope;
use narthex_core::mcp::subscription::{SubscriptionFilter, acknowledged, closed};
use narthex_core::mcp::task::{Task, extension};

use super::super::answer::Answer;
use super::super::call::{Call, Caller};
use super::super::{contexts, events};
use super::channel::stream_headers;
use super::server::Server;
use super::session::Session;
use super::tasks::{refused, ttl_ms};
use super::upstream::Client;
use super::{Door, Served, brought_up_to_date, joined, offered, tools};

/// What changes tools.
const REGISTRY: [&str; 4] = ["service.registered", "service.updated", "service.deregistered", "service.tool_changed"];
const CONTEXTS: &str = "context.*";
/// What the id of an event of a `GET` stream begins with; the hub's sequence follows.
pub const BY_GET: &str = "g.";

/// Whose stream it is, and how its messages look.
pub(super) enum Kind {
    /// The id of the request that opened it.
    Subscription(Box<RawValue>),
    /// The session, and the number of the stream there.
    Get(Session, u64),
}

pub(super) struct Listening {
    pub(super) principal: Principal,
    pub(super) snapshot: Rc<Snapshot>,
    pub(super) door: Option<String>,
    pub(super) form: Kind,
    /// What it sees of the tools, when it is told of them.
    tools: Option<String>,
    tasks: Vec<ContextId>,
    ttl_ms: u64,
    looked_at: Timestamp,
    /// The gateway's own address.
    pub(super) origin: String,
    /// Servers are looked at in its session: that behind the door, or those that its client has called.
    pub(super) watches: bool,
    pub(super) servers: Vec<Server>,
}

/// What is asked for, as far as it can be had.
async fn wanted(
    call: &Call,
    caller: &mut Caller,
    request: &Request<'_>,
    envelope: &Envelope,
) -> Result<(SubscriptionFilter, Vec<ContextId>), Error> {
    let mut wanted = SubscriptionFilter::read(request.params)?;
    if !wanted.task_ids.is_empty() && !envelope.able.tasks {
        return Err(Error::Capability { required: extension() });
    }
    let mut tasks = Vec::new();
    if caller.principal.may("contexts:read") {
        for id in &wanted.task_ids {
            match contexts::visible(call, caller, id, |id| Ask::Get { id }).await.map_err(refused) {
                Ok((id, _)) => tasks.push(id),
                // What is not there is not agreed on.
                Err(Error::Params(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    wanted.task_ids = tasks.iter().map(ToString::to_string).collect();
    Ok((wanted, tasks))
}

/// The credentials by which somebody listens. Who could call something ends with that; which tools those are is looked
/// at by itself.
fn watched(call: &Call, caller: &Caller) -> CredentialWatch {
    let calls = caller.principal.may_create_any();
    call.watched(
        &caller.principal,
        if calls { RequiredPermissions::ToCreate } else { RequiredPermissions::All(Vec::new()) },
    )
}

/// `subscriptions/listen`.
pub async fn subscribe(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    request: &Request<'_>,
    envelope: &Envelope,
) -> Result<Served, Error> {
    let (mut wanted, tasks) = wanted(call, caller, request, envelope).await?;
    if !call.accepts_stream() {
        return Err(Error::Invalid("this is answered by a stream: accept text/event-stream".into()));
    }
    let form = Kind::Subscription(request.id.to_owned());
    let (hub, mut listening) =
        Listening::open(call, caller, door, form, wanted.tools_list_changed, tasks, None).await?;
    if let Some(entry) = door.0.and_then(|id| caller.snapshot.service(id)) {
        let client = Client::modern(request.params);
        listening.servers.extend(Server::of(&caller.principal, &call.origin, entry, client).await);
    }
    let theirs = match listening.servers.first_mut() {
        Some(server) => server.hear(&wanted).await,
        None => SubscriptionFilter::default(),
    };
    wanted = SubscriptionFilter { tools_list_changed: wanted.tools_list_changed, task_ids: wanted.task_ids, ..theirs };
    let (response, stream) = Stream::open(200, &stream_headers());
    stream.write(&responses::event(&acknowledged(request.id, &wanted)));
    call.keep_running(kept(listening.run(hub, stream, watched(call, caller))));
    Ok(Served::Stream(Answer::stream(response)))
}

/// The stream of a session by `GET`; from after an event of an earlier one, if it names one.
pub async fn get(call: &Call, caller: &mut Caller, door: Door<'_>, session: Session) -> Result<Answer, Error> {
    let left_at = call.request.header("last-event-id").and_then(|text| text.trim().strip_prefix(BY_GET));
    let after = left_at.and_then(|text| text.parse().ok());
    let SessionReply::Listening { number } = session.ask(SessionAsk::Listen).await? else {
        return Err(Problem::not_found("session").into());
    };
    let form = Kind::Get(session, number);
    let (hub, mut listening) = Listening::open(call, caller, door, form, true, Vec::new(), after).await?;
    listening.watches = match door.0 {
        Some(id) => caller.snapshot.service(id).is_some_and(|entry| entry.service().transport.upstream().is_some()),
        None => offered::has_sessions(door, caller),
    };
    let (response, stream) = Stream::open(200, &stream_headers());
    stream.write(KEEP_ALIVE);
    if listening.watches {
        // What is told from the time on that this is answered is not lost.
        listening.watch(&stream).await;
    }
    call.keep_running(kept(listening.run(hub, stream, watched(call, caller))));
    Ok(Answer::stream(response))
}

/// An event of the hub, as far as it matters here.
#[derive(Deserialize)]
struct Heard {
    r#type: String,
    subject: String,
}

/// What comes next.
enum Next {
    /// Events, as server-sent events.
    Hub(String),
    /// A notification of one of the servers; nothing when it says no more.
    Server(usize, Option<(String, String)>),
    Silence,
    /// The hub has ended it, or the credentials have ended.
    Over,
    /// Nobody reads any more.
    Gone,
}

impl Listening {
    async fn open(
        call: &Call,
        caller: &mut Caller,
        door: Door<'_>,
        form: Kind,
        of_tools: bool,
        tasks: Vec<ContextId>,
        after: Option<u64>,
    ) -> Result<(LocalBoxStream<'static, String>, Self), Error> {
        let mut types: Vec<String> = REGISTRY.iter().filter(|_| of_tools).map(|name| (*name).into()).collect();
        if !tasks.is_empty() {
            types.push(CONTEXTS.into());
        }
        if types.is_empty() {
            // Nothing is told of, but the end.
            types.push("key.revoked".into());
        }
        let owner = (!caller.principal.sees_all_contexts()).then(|| caller.principal.principal.clone());
        let filter = Filter { types, owner, ..Filter::default() };
        let socket = events::held(caller, filter, after).await?;
        // What is seen is looked at once the hub listens, so that nothing falls in between.
        brought_up_to_date(call, caller).await?;
        tools::known(caller, door)?;
        let resumes = after.is_some();
        let seen = || tools::seen(&caller.snapshot, &caller.principal, door);
        let listening = Self {
            principal: caller.principal.clone(),
            snapshot: caller.snapshot.clone(),
            door: door.0.map(Into::into),
            form,
            // Who resumes may have seen something else.
            tools: of_tools.then(|| if resumes { String::new() } else { seen() }),
            tasks,
            ttl_ms: ttl_ms(call),
            looked_at: clock::now(),
            origin: call.origin.clone(),
            watches: false,
            servers: Vec::new(),
        };
        Ok((heard(socket), listening))
    }

    async fn run(mut self, mut hub: LocalBoxStream<'static, String>, mut stream: Stream, watched: CredentialWatch) {
        let mut ended = pin!(watched.ended());
        for id in self.tasks.clone() {
            self.tell_task(&stream, &id, true).await;
        }
        let (mut said_at, timing) = (clock::now(), settings::timing());
        loop {
            let wait_ms = if self.watches { timing.subscription_check_ms } else { timing.keep_alive_ms };
            let next = self.next(&mut hub, &mut stream, wait_ms);
            let next = match select(pin!(next), ended.as_mut()).await {
                Either::Left((next, _)) => next,
                Either::Right(_) => Next::Over,
            };
            if matches!(next, Next::Gone) {
                return;
            }
            if clock::now().since(said_at) >= timing.keep_alive_ms {
                said_at = clock::now();
                stream.write(KEEP_ALIVE);
            }
            // Whatever it waits for, the end of the credentials ends it.
            let goes_on = match select(pin!(self.heed(next, &stream)), ended.as_mut()).await {
                Either::Left((goes_on, _)) => goes_on,
                Either::Right(_) => false,
            };
            if !goes_on {
                break;
            }
        }
        if let Kind::Subscription(id) = &self.form {
            stream.write(&responses::event(&closed(id)));
        }
        stream.close();
    }

    /// Does what comes next. False when this stream is over.
    async fn heed(&mut self, next: Next, stream: &Stream) -> bool {
        match next {
            Next::Gone | Next::Over => false,
            Next::Hub(frames) => self.take_in(stream, &frames).await,
            Next::Server(at, Some((method, params))) => {
                self.pass_on(stream, at, &method, &params).await;
                true
            }
            Next::Server(at, None) => {
                // A session listens to it again, with what is looked at next.
                let by_get = matches!(self.form, Kind::Get(..));
                self.servers.get_mut(at).filter(|_| by_get).map(Server::deaf).is_some()
            }
            Next::Silence => self.take_in(stream, "").await && (!self.watches || self.watch(stream).await),
        }
    }

    async fn next(&mut self, hub: &mut LocalBoxStream<'static, String>, stream: &mut Stream, ms: u64) -> Next {
        let theirs = poll_fn(|context| {
            for (at, server) in self.servers.iter_mut().enumerate() {
                if let Poll::Ready(said) = server.news.poll_next_unpin(context) {
                    return Poll::Ready((at, said));
                }
            }
            Poll::Pending
        });
        let (theirs, pause) = (pin!(theirs), pin!(clock::pause(ms)));
        match select(select(hub.next(), theirs), select(pause, stream)).await {
            Either::Left((Either::Left((Some(frames), _)), _)) => Next::Hub(frames),
            Either::Left((Either::Left((None, _)), _)) => Next::Over,
            Either::Left((Either::Right(((at, said), _)), _)) => Next::Server(at, said),
            Either::Right((Either::Left(_), _)) => Next::Silence,
            Either::Right((Either::Right(_), _)) => Next::Gone,
        }
    }

    /// Tells what has come of events. False when this stream is over.
    async fn take_in(&mut self, stream: &Stream, frames: &str) -> bool {
        let (mut sequence, mut registry, mut tasks) = (None, false, BTreeMap::new());
        for line in frames.lines() {
            if let Some(id) = line.strip_prefix("id: ") {
                sequence = id.trim().parse::<u64>().ok().or(sequence);
            }
            let Some(heard) = line.strip_prefix("data: ").and_then(|data| serde_json::from_str::<Heard>(data).ok())
            else {
                continue;
            };
            registry |= heard.r#type.starts_with("service.");
            if let Some(id) = self.tasks.iter().find(|id| id.as_str() == heard.subject) {
                tasks.insert(heard.subject, id.clone());
            }
        }
        if clock::now().since(self.looked_at) >= settings::timing().permissions_check_ms {
            registry = true;
        }
        if registry {
            match self.look().await {
                Ok(Some(changed)) => {
                    if changed {
                        stream.write(&self.written("notifications/tools/list_changed", "", sequence));
                    }
                }
                Ok(None) => return false,
                // It is looked at again with what comes next.
                Err(_) => {}
            }
        }
        for id in tasks.into_values() {
            self.tell_task(stream, &id, false).await;
        }
        true
    }

    /// Whether what it sees has changed; nothing when it may see nothing any more.
    pub(super) async fn look(&mut self) -> Result<Option<bool>, Failure> {
        self.looked_at = clock::now();
        self.snapshot = snapshot::refreshed(&self.principal.tenant).await?;
        if self.principal.principal.starts_with("key:") {
            let Some(principal) = self.snapshot.principal(&self.principal.tenant, &self.principal.principal) else {
                return Ok(None);
            };
            self.principal = principal;
        }
        let (principal, snapshot) = (&self.principal, &self.snapshot);
        let in_session = matches!(self.form, Kind::Get(..));
        self.servers.retain_mut(|server| server.renewed(principal, snapshot.service(&server.service), in_session));
        if let Kind::Get(session, number) = &self.form {
            let still = session.ask(SessionAsk::Listens { number: *number, takes: false }).await;
            if !matches!(still, Ok(SessionReply::Listens { .. })) {
                return Ok(None);
            }
        }
        let Some(before) = &mut self.tools else { return Ok(Some(false)) };
        let seen = tools::seen(&self.snapshot, &self.principal, Door(self.door.as_deref()));
        let changed = *before != seen;
        *before = seen;
        Ok(Some(changed))
    }

    async fn tell_task(&mut self, stream: &Stream, id: &ContextId, only_its_end: bool) {
        let get = Ask::Get { id: id.clone() };
        let asked = call_with_revision(&self.principal.tenant, id, &mut self.snapshot, get).await;
        let Ok(Reply::Context(found)) = asked else { return };
        if only_its_end && !found.ended {
            return;
        }
        let ContextDetails { view, result, .. } = *found;
        if let Some(task) = Task::read(view.get()) {
            let result = joined::result(&self.snapshot, self.door.is_none(), &view, result.as_deref());
            let params = task.state(view.get(), result.as_deref(), self.ttl_ms);
            stream.write(&self.written("notifications/tasks", &params, None));
        }
    }

    /// A notification; `params` are members without braces.
    fn written(&self, method: &str, params: &str, sequence: Option<u64>) -> String {
        let comma = if params.is_empty() { "" } else { "," };
        match &self.form {
            Kind::Subscription(id) => {
                let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
                responses::event(&format!(
                    r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{meta}{comma}{params}}}}}"#
                ))
            }
            Kind::Get(..) => {
                let id = sequence.map_or_else(String::new, |sequence| format!("id: {BY_GET}{sequence}\n"));
                let params = if params.is_empty() { String::new() } else { format!(r#","params":{{{params}}}"#) };
                format!("{id}{}", responses::event(&format!(r#"{{"jsonrpc":"2.0","method":"{method}"{params}}}"#)))
            }
        }
    }
}

/// A stream, and after it the reading of tools that it has begun: others wait for that.
async fn kept(run: impl Future<Output = ()>) {
    run.await;
    catalogue_refresh::settled().await;
}

/// What the hub tells, as server-sent events.
fn heard(socket: Held) -> LocalBoxStream<'static, String> {
    let next = |socket: Held| async move {
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
