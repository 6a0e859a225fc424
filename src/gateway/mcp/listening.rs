//! What a client is told of without asking: that its tools have changed, and how its tasks stand. In the modern era by
//! `subscriptions/listen`, in a legacy session by the stream of a `GET`.
//!
//! The tenant's event hub says when something may have changed; whether it has for this client is looked at here. The
//! hub closes what it holds when the credentials end.

use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, select};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::auth::{Principal, standing};
use crate::core::filter::Filter;
use crate::core::id::ContextId;
use crate::core::json::Object;
use crate::core::mcp::era::Envelope;
use crate::core::mcp::error::Error;
use crate::core::mcp::message::Request;
use crate::core::mcp::reply::{self, SILENCE};
use crate::core::mcp::task::{Task, extension};
use crate::core::problem::Problem;
use crate::core::time::Timestamp;
use crate::execution::ask_decided;
use crate::objects::contexts::messages::{Ask, Found, Reply};
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::objects::sessions::messages::{Ask as SessionAsk, Reply as SessionReply};
use crate::platform::sockets::Held;
use crate::platform::streams::Stream;
use crate::platform::{Failure, clock};

use super::super::answer::Answer;
use super::super::call::{Call, Caller};
use super::super::{contexts, events};
use super::channel::stream_headers;
use super::session::Session;
use super::tasks::{refused, ttl_ms};
use super::{Door, Served, brought_up_to_date, tools};

/// A silent stream says so after this time, in milliseconds.
const SILENT_MS: u64 = 15_000;
/// What no event tells of (a role that grants more or less) is looked at so often, in milliseconds.
const LOOK_MS: u64 = 60_000;
/// Tasks one subscription may be for.
const MOST_TASKS: usize = 50;
/// What changes tools.
const REGISTRY: [&str; 4] = ["service.registered", "service.updated", "service.deregistered", "service.tool_changed"];
const CONTEXTS: &str = "context.*";
/// What the id of an event of a `GET` stream begins with; the hub's sequence follows.
pub const BY_GET: &str = "g.";

/// Whose stream it is, and how its messages look.
enum Kind {
    /// The id of the request that opened it.
    Subscription(Box<RawValue>),
    /// The session, and the number of the stream there.
    Get(Session, u64),
}

struct Listening {
    principal: Principal,
    snapshot: Rc<Snapshot>,
    door: Option<String>,
    form: Kind,
    /// What it sees of the tools, when it is told of them.
    tools: Option<String>,
    tasks: Vec<ContextId>,
    ttl_ms: u64,
    looked_at: Timestamp,
}

/// What is asked for, as far as it can be had.
struct Wanted {
    tools: bool,
    tasks: Vec<ContextId>,
}

async fn wanted(call: &Call, caller: &mut Caller, request: &Request<'_>, envelope: &Envelope) -> Result<Wanted, Error> {
    let wrong = |detail: &str| Error::Params(detail.into());
    let notifications = request.params.and_then(|params| Object::new(params.get(), "#").ok()?.raw("notifications"));
    let notifications = notifications.ok_or_else(|| wrong("notifications must be an object"))?;
    let mut asked = Object::new(notifications.get(), "#").map_err(|_| wrong("notifications must be an object"))?;
    let tools = asked.boolean("toolsListChanged").unwrap_or(false);
    let ids = match asked.has("taskIds") {
        true => {
            asked.strings("taskIds", MOST_TASKS, 64).ok_or_else(|| wrong("taskIds must be up to 50 ids of tasks"))?
        }
        false => Vec::new(),
    };
    if !ids.is_empty() && !envelope.able.tasks {
        return Err(Error::Capability { required: extension() });
    }
    let mut tasks = Vec::new();
    if caller.principal.may("contexts:read") {
        for id in ids {
            match contexts::visible(call, caller, &id, |id| Ask::Get { id }).await.map_err(refused) {
                Ok((id, _)) => tasks.push(id),
                // What is not there is not agreed on.
                Err(Error::Params(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Wanted { tools, tasks })
}

/// `subscriptions/listen`.
pub async fn subscribe(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    request: &Request<'_>,
    envelope: &Envelope,
) -> Result<Served, Error> {
    let wanted = wanted(call, caller, request, envelope).await?;
    let (socket, listening) =
        Listening::open(call, caller, door, Kind::Subscription(request.id.to_owned()), &wanted, None).await?;
    let mut agreed = Vec::new();
    if wanted.tools {
        agreed.push(r#""toolsListChanged":true"#.to_string());
    }
    if !wanted.tasks.is_empty() {
        let ids: Vec<String> = wanted.tasks.iter().map(|id| format!(r#""{id}""#)).collect();
        agreed.push(format!(r#""taskIds":[{}]"#, ids.join(",")));
    }
    let (response, stream) = Stream::open(200, &stream_headers());
    let agreed = format!(r#""notifications":{{{}}}"#, agreed.join(","));
    stream.write(&listening.written("notifications/subscriptions/acknowledged", &agreed, None));
    call.keep_running(listening.run(socket, stream));
    Ok(Served::Stream(Answer::made(200, response)))
}

/// The stream of a session by `GET`; from after an event of an earlier one, if it names one.
pub async fn get(call: &Call, caller: &mut Caller, door: Door<'_>, session: Session) -> Result<Answer, Error> {
    let left_at = call.request.header("last-event-id").and_then(|text| text.trim().strip_prefix(BY_GET));
    let after = left_at.and_then(|text| text.parse().ok());
    let SessionReply::Listening { number } = session.ask(SessionAsk::Listen).await? else {
        return Err(Problem::not_found("session").into());
    };
    let wanted = Wanted { tools: true, tasks: Vec::new() };
    let (socket, listening) = Listening::open(call, caller, door, Kind::Get(session, number), &wanted, after).await?;
    let (response, stream) = Stream::open(200, &stream_headers());
    stream.write(SILENCE);
    call.keep_running(listening.run(socket, stream));
    Ok(Answer::made(200, response))
}

/// An event of the hub, as far as it matters here.
#[derive(Deserialize)]
struct Heard {
    r#type: String,
    subject: String,
}

impl Listening {
    async fn open(
        call: &Call,
        caller: &mut Caller,
        door: Door<'_>,
        form: Kind,
        wanted: &Wanted,
        after: Option<u64>,
    ) -> Result<(Held, Self), Error> {
        let mut types: Vec<String> = REGISTRY.iter().filter(|_| wanted.tools).map(|name| (*name).into()).collect();
        if !wanted.tasks.is_empty() {
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
            tools: wanted.tools.then(|| if resumes { String::new() } else { seen() }),
            tasks: wanted.tasks.clone(),
            ttl_ms: ttl_ms(call),
            looked_at: clock::now(),
        };
        Ok((socket, listening))
    }

    async fn run(mut self, socket: Held, mut stream: Stream) {
        for id in self.tasks.clone() {
            self.tell_task(&stream, &id, true).await;
        }
        loop {
            let text = match select(pin!(socket.next(SILENT_MS)), &mut stream).await {
                Either::Right(_) => return,
                Either::Left((Ok(Some(text)), _)) => text,
                Either::Left((Ok(None), _)) => break,
                Either::Left((Err(_), _)) => {
                    stream.write(SILENCE);
                    String::new()
                }
            };
            socket.ping();
            if !self.take_in(&stream, &text).await {
                break;
            }
        }
        if let Kind::Subscription(id) = &self.form {
            let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
            stream.write(&reply::event(&reply::response(id, &format!(r#"{{"resultType":"complete",{meta}}}"#))));
        }
        stream.close();
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
        if clock::now().since(self.looked_at) >= LOOK_MS {
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
    async fn look(&mut self) -> Result<Option<bool>, Failure> {
        self.looked_at = clock::now();
        self.snapshot = snapshot::refreshed(&self.principal.tenant).await?;
        if self.principal.principal.starts_with("key:") {
            let Some(principal) = standing(&self.principal.tenant, &self.principal.principal, &self.snapshot) else {
                return Ok(None);
            };
            self.principal = principal;
        }
        if let Kind::Get(session, number) = &self.form {
            let still = session.ask(SessionAsk::Listens { number: *number }).await;
            if !matches!(still, Ok(SessionReply::Done)) {
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
        let asked = ask_decided(&self.principal.tenant, id, &mut self.snapshot, get).await;
        let Ok(Reply::Context(found)) = asked else { return };
        if only_its_end && !found.ended {
            return;
        }
        let Found { view, result, .. } = *found;
        if let Some(task) = Task::read(view.get()) {
            let params = task.state(view.get(), result.as_deref().map(RawValue::get), self.ttl_ms);
            stream.write(&self.written("notifications/tasks", &params, None));
        }
    }

    /// A notification; `params` are members without braces.
    fn written(&self, method: &str, params: &str, sequence: Option<u64>) -> String {
        let comma = if params.is_empty() { "" } else { "," };
        match &self.form {
            Kind::Subscription(id) => {
                let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
                reply::event(&format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{meta}{comma}{params}}}}}"#))
            }
            Kind::Get(..) => {
                let id = sequence.map_or_else(String::new, |sequence| format!("id: {BY_GET}{sequence}\n"));
                let params = if params.is_empty() { String::new() } else { format!(r#","params":{{{params}}}"#) };
                format!("{id}{}", reply::event(&format!(r#"{{"jsonrpc":"2.0","method":"{method}"{params}}}"#)))
            }
        }
    }
}
