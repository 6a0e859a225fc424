//! `subscriptions/listen`: a stream that tells a modern client what it wants to know, until it goes away.
//!
//! It is fed by the tenant's hub, as any stream of events here: so it ends with the credentials that opened it. What a
//! server behind the gateway has to tell comes by a subscription there.

use std::rc::Rc;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::{self, LocalBoxStream};
use serde_json::value::RawValue;

use crate::auth::{Principal, standing};
use crate::core::filter::Filter;
use crate::core::id::ContextId;
use crate::core::json::Object;
use crate::core::mcp::client::answer::Incoming;
use crate::core::mcp::client::request::Asked;
use crate::core::mcp::era::{self, Envelope};
use crate::core::mcp::error::Error;
use crate::core::mcp::message::Request;
use crate::core::mcp::reply;
use crate::core::mcp::subscription::{Wanted, acknowledged, closed, notification};
use crate::core::mcp::task::{Task, extension};
use crate::core::sse::Events;
use crate::execution::ask_decided;
use crate::objects::contexts::messages::{Ask, Reply};
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::platform::clock;
use crate::platform::sockets::Held;
use crate::platform::streams::Stream;
use crate::transport::mcp::{Conversation, ask};

use super::super::answer::Answer;
use super::super::call::{Call, Caller};
use super::super::{contexts, events};
use super::channel::stream_headers;
use super::{Door, Served, brought_up_to_date, passing, tasks, tools};

/// Something is written at least so often, in milliseconds: that nobody reads any more is noticed by a write.
const SILENT_MS: u64 = 15_000;
/// How long a server may take to say what it will tell, and how long it is listened to, in milliseconds.
const AGREE_MS: u64 = 5_000;
const LISTEN_MS: u64 = 3_600_000;
/// What changes the tools that somebody sees.
const SERVICE_EVENTS: [&str; 4] =
    ["service.registered", "service.updated", "service.deregistered", "service.tool_changed"];

pub async fn serve(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    request: &Request<'_>,
    envelope: &Envelope,
) -> Result<Served, Error> {
    let mut told = Wanted::read(request.params)?;
    if !told.task_ids.is_empty() && !envelope.able.tasks {
        return Err(Error::Capability { required: extension() });
    }
    if !call.accepts_stream() {
        return Err(Error::Invalid("this is answered by a stream: accept text/event-stream".into()));
    }
    brought_up_to_date(call, caller).await?;
    tools::known(caller, door)?;
    let tasks = of_tasks(call, caller, &mut told.task_ids).await?;
    let server = of_a_server(call, caller, door, &mut told, era::capabilities(request.params)).await;
    let viewer = events::viewer(caller, "contexts:read");
    let types = SERVICE_EVENTS.iter().filter(|_| told.tools_list_changed).map(ToString::to_string);
    let types = types.chain((!tasks.is_empty()).then(|| "context.*".into()));
    let mut types: Vec<String> = types.collect();
    if types.is_empty() {
        // Nobody's, but it ends with the credentials.
        types.push("stream.gap".into());
    }
    let principal = caller.principal.clone();
    let filter = Filter { types, owner: Some(principal.principal.clone()), ..Filter::default() };
    let hub = hears(events::held(viewer, filter).await?);
    let (response, stream) = Stream::open(200, &stream_headers());
    stream.write(&reply::event(&acknowledged(request.id, &told)));
    let listening = Listening {
        id: request.id.to_owned(),
        door: door.0.map(Into::into),
        mark: tools::mark(&principal, &caller.snapshot, door),
        principal,
        snapshot: caller.snapshot.clone(),
        ttl_ms: tasks::ttl_ms(call),
        tasks,
        told,
    };
    call.keep_running(listening.tell(stream, stream::select(hub, server).boxed_local()));
    Ok(Served::Stream(Answer::made(200, response)))
}

/// Those of the tasks that are there for who asks; the others are taken out.
async fn of_tasks(call: &Call, caller: &mut Caller, wanted: &mut Vec<String>) -> Result<Vec<Followed>, Error> {
    let mut found = Vec::new();
    if !wanted.is_empty() {
        caller.principal.require("contexts:read")?;
    }
    for id in wanted.iter() {
        if let Ok((id, found_at)) = contexts::visible(call, caller, id, |id| Ask::Get { id }).await {
            found.push(Followed { id, status: status_of(&found_at.view) });
        }
    }
    wanted.retain(|id| found.iter().any(|known| known.id.as_str() == id));
    Ok(found)
}

fn status_of(view: &RawValue) -> Option<String> {
    Object::new(view.get(), "#").ok()?.string("status", 1..=32)
}

enum Heard {
    /// Events of the tenant, as server-sent events.
    Hub(String),
    /// A server's notification, with its parameters.
    Server(String, String),
    /// There is nothing more to hear there.
    Over,
}

fn hears(socket: Held) -> LocalBoxStream<'static, Heard> {
    let next = |socket: Option<Held>| async move {
        let socket = socket?;
        loop {
            match socket.next(SILENT_MS).await {
                Ok(Some(text)) => {
                    socket.ping();
                    return Some((Heard::Hub(text), Some(socket)));
                }
                Ok(None) => return Some((Heard::Over, None)),
                Err(_) => {}
            }
        }
    };
    stream::unfold(Some(socket), next).boxed_local()
}

/// A subscription at the server behind the door, for as much as it agrees to; `told` has no more of it than that.
async fn of_a_server(
    call: &Call,
    caller: &Caller,
    door: Door<'_>,
    told: &mut Wanted,
    capabilities: Option<&RawValue>,
) -> LocalBoxStream<'static, Heard> {
    let agreed = agreed(call, caller, door, told, capabilities).await;
    told.prompts_list_changed = false;
    told.resources_list_changed = false;
    told.resource_subscriptions.clear();
    let Some((conversation, theirs)) = agreed else { return stream::empty().boxed_local() };
    *told =
        Wanted { tools_list_changed: told.tools_list_changed, task_ids: std::mem::take(&mut told.task_ids), ..theirs };
    let next = |conversation: Option<Conversation>| async move {
        let mut conversation = conversation?;
        loop {
            match conversation.next().await {
                Ok(Incoming::Notification { method, params }) => {
                    let params = params.map_or_else(|| "{}".into(), |params| params.get().to_string());
                    return Some((Heard::Server(method, params), Some(conversation)));
                }
                Ok(Incoming::Request { .. }) => {}
                Ok(Incoming::Response(_)) | Err(_) => return Some((Heard::Over, None)),
            }
        }
    };
    stream::unfold(Some(conversation), next).boxed_local()
}

async fn agreed(
    call: &Call,
    caller: &Caller,
    door: Door<'_>,
    told: &Wanted,
    capabilities: Option<&RawValue>,
) -> Option<(Conversation, Wanted)> {
    let entry = caller.snapshot.service(door.0?)?;
    // Only a modern server can be asked to tell.
    if !entry.service().catalogue.as_ref()?.is_modern() {
        return None;
    }
    let may = |kind: &str| caller.principal.may(&passing::permission(&entry.service().id, kind));
    let mut wanted = told.of_a_server()?;
    wanted.prompts_list_changed &= may("prompts");
    if !may("resources") {
        wanted.resources_list_changed = false;
        wanted.resource_subscriptions.clear();
    }
    let wanted = wanted.of_a_server()?;
    let (peer, _) = passing::peer(call, caller, entry, capabilities).await.ok()?;
    let params = serde_json::json!({"notifications": wanted}).to_string();
    let until = clock::now().plus_ms(LISTEN_MS);
    let agreeing = async {
        let mut conversation =
            ask(&peer, &Asked::new("subscriptions/listen", &params), &[], until, false).await.ok()?;
        loop {
            match conversation.next().await.ok()? {
                Incoming::Notification { method, params } if method == "notifications/subscriptions/acknowledged" => {
                    return Some((conversation, Wanted::read(params.as_deref()).ok()?.of_a_server()?));
                }
                Incoming::Notification { .. } | Incoming::Request { .. } => {}
                Incoming::Response(_) => return None,
            }
        }
    };
    match select(std::pin::pin!(agreeing), std::pin::pin!(clock::pause(AGREE_MS))).await {
        Either::Left((agreed, _)) => agreed,
        Either::Right(_) => None,
    }
}

struct Followed {
    id: ContextId,
    /// As it was told last.
    status: Option<String>,
}

struct Listening {
    /// The subscription's, which is that of its request.
    id: Box<RawValue>,
    door: Option<String>,
    principal: Principal,
    snapshot: Rc<Snapshot>,
    /// Of the tools that were there when it was told last.
    mark: u64,
    tasks: Vec<Followed>,
    ttl_ms: u64,
    told: Wanted,
}

impl Listening {
    async fn tell(mut self, mut stream: Stream, mut news: LocalBoxStream<'static, Heard>) {
        let mut frames = Events::default();
        loop {
            let silence = std::pin::pin!(clock::pause(SILENT_MS));
            match select(news.next(), select(silence, &mut stream)).await {
                Either::Right((Either::Right(_), _)) => return,
                Either::Right((Either::Left(_), _)) => {
                    stream.write(reply::SILENCE);
                }
                Either::Left((Some(Heard::Hub(text)), _)) => {
                    let told = frames.push(text.as_bytes());
                    for message in self.of_events(&told).await {
                        stream.write(&reply::event(&message));
                    }
                }
                Either::Left((Some(Heard::Server(method, params)), _)) => {
                    let uri = Object::new(&params, "#").ok().and_then(|mut params| params.string("uri", 1..=2048));
                    if self.told.takes(&method, uri.as_deref()) {
                        stream.write(&reply::event(&notification(&self.id, &method, &params)));
                    }
                }
                Either::Left((Some(Heard::Over) | None, _)) => {
                    stream.write(&reply::event(&closed(&self.id)));
                    return stream.close();
                }
            }
        }
    }

    /// What events come to, for who listens.
    async fn of_events(&mut self, events: &[String]) -> Vec<String> {
        let mut messages = Vec::new();
        let mut services = false;
        let mut subjects: Vec<String> = Vec::new();
        for event in events {
            let Ok(mut event) = Object::new(event, "#") else { continue };
            let kind = event.string("type", 1..=64).unwrap_or_default();
            services |= kind.starts_with("service.");
            if kind.starts_with("context.")
                && let Some(subject) = event.string("subject", 1..=64)
                && !subjects.contains(&subject)
            {
                subjects.push(subject);
            }
        }
        if services && self.sees_other_tools().await {
            messages.push(notification(&self.id, "notifications/tools/list_changed", "{}"));
        }
        for subject in subjects {
            if let Some(at) = self.tasks.iter().position(|task| task.id.as_str() == subject) {
                messages.extend(self.of_task(at).await);
            }
        }
        messages
    }

    async fn sees_other_tools(&mut self) -> bool {
        let tenant = &self.principal.tenant;
        let Ok(snapshot) = snapshot::refreshed(tenant).await else { return true };
        if let Some(now) = standing(tenant, &self.principal.principal, &snapshot) {
            self.principal = now;
        }
        let mark = tools::mark(&self.principal, &snapshot, Door(self.door.as_deref()));
        self.snapshot = snapshot;
        std::mem::replace(&mut self.mark, mark) != mark
    }

    /// A task as it is now, where that is another state than was told.
    async fn of_task(&mut self, at: usize) -> Option<String> {
        let task = self.tasks.get_mut(at)?;
        let get = Ask::Get { id: task.id.clone() };
        let reply = ask_decided(&self.principal.tenant, &task.id, &mut self.snapshot, get).await.ok()?;
        let Reply::Context(found) = reply else { return None };
        let status = status_of(&found.view);
        if task.status == status && status.as_deref() != Some("input_required") {
            return None;
        }
        task.status = status;
        let given = found.result.as_deref().map(RawValue::get);
        let detailed = Task::read(found.view.get())?.detailed(found.view.get(), given, self.ttl_ms);
        Some(notification(&self.id, "notifications/tasks", &detailed))
    }
}
