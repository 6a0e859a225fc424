//! `tools/call`: a context, as `POST /v1/contexts` makes it, and its end as the tool's result.

use std::rc::Rc;

use serde_json::value::RawValue;

use crate::auth::credential_watch::RequiredPermissions;
use crate::execution::notifications::Notifications;
use crate::platform::streams::Stream;
use narthex_core::access::principal::Principal;
use narthex_core::base::json::Object;
use narthex_core::context::create_request::{MAX_PARAMETERS_BYTES, NewContext};
use narthex_core::context::status::{Priority, Source};
use narthex_core::http::prefer::Prefer;
use narthex_core::http::problem::Problem;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::message::Request;
use narthex_core::mcp::request_state::CallIdentity;
use narthex_core::mcp::revision::{Envelope, progress_token};
use narthex_core::mcp::session::StreamPosition;
use narthex_core::mcp::task::extension;
use narthex_core::mcp::{call_result, param_headers, responses};
use narthex_core::services::capability::TaskSupport;

use super::super::answer::Answer;
use super::super::call::{Call, Caller};
use super::super::contexts::{self, ContextState};
use super::asking::{self, Asking, Standing};
use super::channel::{Channel, stream_headers};
use super::following::Following;
use super::session::Session;
use super::upstream::Wish;
use super::{Door, Served, brought_up_to_date, plain, tasks, tools};

/// A call that takes longer than this is answered with a stream, in seconds.
const SOON_SECONDS: u32 = 3;

/// How a call that takes a while may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// With its result alone, however long it takes.
    Whole,
    /// With a stream, if the client takes one.
    Stream,
    /// With a handle, to look again later, if it takes longer.
    Task,
    /// With a handle at once (legacy).
    TaskOnly,
}

impl Answers {
    fn is_task(self) -> bool {
        matches!(self, Self::Task | Self::TaskOnly)
    }
}

/// How a call of this tool may be answered, by what the tool and its client know of tasks.
fn as_supported(
    caller: &Caller,
    client: &Client<'_>,
    answers: Answers,
    task: bool,
    support: TaskSupport,
) -> Result<Answers, Error> {
    match (client, support) {
        (Client::Modern(envelope), TaskSupport::Required) if !envelope.able.tasks => {
            Err(Error::Capability { required: extension() })
        }
        (Client::Modern(_), TaskSupport::Forbidden) if answers == Answers::Task => Ok(Answers::Stream),
        (Client::Legacy(_), TaskSupport::Required) if !task => {
            Err(Error::Method { name: "tools/call of this tool without a task".into(), legacy: true })
        }
        (Client::Legacy(_), TaskSupport::Forbidden) if task => {
            Err(Error::Method { name: "tools/call of this tool as a task".into(), legacy: true })
        }
        (Client::Legacy(_), _) if task => {
            caller.principal.require("contexts:read")?;
            Ok(Answers::TaskOnly)
        }
        (Client::Modern(_) | Client::Legacy(_), _) => Ok(answers),
    }
}

/// The longest `requestState` that is read, in bytes.
const MAX_STATE_BYTES: usize = 8 * 1024;

/// Who calls, and what can be done with it.
#[derive(Clone, Copy)]
pub enum Client<'e> {
    Modern(&'e Envelope),
    Legacy(Option<&'e Session>),
}

/// What is called, with what.
struct Asked<'a> {
    name: String,
    arguments: &'a str,
    /// What it says to a question, and what the question came with.
    responses: Option<&'a RawValue>,
    state: Option<String>,
    /// As a task (revision 2025-11-25).
    task: bool,
}

fn read<'a>(params: Option<&'a RawValue>, legacy: bool) -> Result<Asked<'a>, Error> {
    let wrong = |detail: &str| Error::Params(detail.into());
    let params = params.ok_or_else(|| wrong("tools/call needs params"))?;
    let mut params = Object::new(params.get(), "#").map_err(|_| wrong("params must be an object"))?;
    let name = params.raw("name").and_then(|raw| serde_json::from_str(raw.get()).ok());
    let arguments = params.raw("arguments").map_or("{}", RawValue::get);
    if !arguments.starts_with('{') {
        return Err(wrong("arguments must be an object"));
    }
    let name = name.ok_or_else(|| wrong("name must be a string"))?;
    if legacy {
        let task = params.raw("task").is_some_and(|task| task.get().starts_with('{'));
        return Ok(Asked { name, arguments, responses: None, state: None, task });
    }
    let responses = params.raw_or_null("inputResponses");
    if responses.is_some_and(|responses| !responses.get().starts_with('{')) {
        return Err(wrong("inputResponses must be an object"));
    }
    let state = params.raw_or_null("requestState").map(|state| {
        let text = serde_json::from_str::<String>(state.get()).ok();
        text.filter(|text| text.len() <= MAX_STATE_BYTES)
            .ok_or_else(|| wrong("requestState must be one that was given"))
    });
    Ok(Asked { name, arguments, responses, state: state.transpose()?, task: false })
}

pub async fn call_tool(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    request: &Request<'_>,
    client: Client<'_>,
    answers: Answers,
) -> Result<Served, Error> {
    let legacy = matches!(client, Client::Legacy(_));
    let asked = read(request.params, legacy)?;
    if door.0.is_none() && plain::is_one(&asked.name) {
        return plain::serve(call, caller, &asked.name, asked.arguments, legacy).await.map(Served::Result);
    }
    if tools::find(&caller.snapshot, door, &asked.name).is_none() {
        brought_up_to_date(call, caller).await?;
        tools::known(caller, door)?;
    }
    let Some(tool) = tools::find(&caller.snapshot, door, &asked.name) else {
        return Err(Error::Params(format!("Unknown tool: {}", asked.name)));
    };
    if !legacy && let Some(schema) = &tool.capability.input_schema {
        param_headers::check(schema.get(), asked.arguments, |name| call.request.header(name))?;
    }
    if asked.arguments.len() > MAX_PARAMETERS_BYTES {
        let message = format!("The arguments may have at most {MAX_PARAMETERS_BYTES} bytes.");
        return Ok(Served::Result(responses::tool_error(legacy, &message, None)));
    }
    let tool_call = ToolCall { call, door, request, client, asked, legacy };
    let mut plan = tool_call.plan(caller, &tool, answers)?;
    match tool_call.start(caller, &mut plan).await? {
        Ok(standing) => tool_call.respond(caller, plan, standing).await,
        Err(refused) => call_result::rejection(legacy, refused).map(Served::Result),
    }
}

/// A call of a tool, as it came.
struct ToolCall<'a> {
    call: &'a Call,
    door: Door<'a>,
    request: &'a Request<'a>,
    client: Client<'a>,
    asked: Asked<'a>,
    legacy: bool,
}

/// How a call is made and answered.
struct Plan {
    service: String,
    capability: String,
    answers: Answers,
    /// The tool is called as a task only.
    requires: bool,
    /// The answer is a stream, if it takes longer.
    streams: bool,
    /// How long the result is waited for before that.
    seconds: u32,
    asking: Asking,
    /// What progress is reported under.
    token: Option<Box<RawValue>>,
    wish: Wish,
    /// What the service says during the call.
    notifications: Notifications,
}

impl ToolCall<'_> {
    fn plan(&self, caller: &Caller, tool: &tools::Tool<'_>, answers: Answers) -> Result<Plan, Error> {
        let Self { call, request, client, asked, .. } = self;
        let support = tool.capability.task_support;
        let answers = as_supported(caller, client, answers, asked.task, support)?;
        let streams = answers == Answers::Stream && call.accepts_stream();
        let asking = self.asking(caller, streams)?;
        let token = progress_token(request.params).filter(|_| streams);
        let wish = match client {
            Client::Modern(envelope) => Wish::of(tool.entry, envelope),
            Client::Legacy(session) => Wish::of_legacy(tool.entry, *session, streams, answers.is_task()),
        };
        let wish = wish.with_meta(tool.entry, request.params)?;
        // Who asks for progress is told of it from the beginning, as of what an upstream logs.
        let seconds = match answers {
            Answers::Task | Answers::TaskOnly => 0,
            Answers::Stream | Answers::Whole if token.is_some() || streams && wish.messages => 0,
            Answers::Stream | Answers::Whole => SOON_SECONDS,
        };
        Ok(Plan {
            service: tool.entry.service().id.clone(),
            capability: tool.capability.name.clone(),
            answers,
            requires: support == TaskSupport::Required,
            streams,
            seconds,
            asking,
            token: token.map(RawValue::to_owned),
            wish,
            notifications: Notifications::default(),
        })
    }

    /// How the client is asked what the tool asks for.
    fn asking(&self, caller: &Caller, streams: bool) -> Result<Asking, Error> {
        Ok(match self.client {
            Client::Modern(envelope) => {
                let Principal { tenant, principal, .. } = &caller.principal;
                let (door, Asked { name, arguments, .. }) = (self.door.0.unwrap_or_default(), &self.asked);
                let called = CallIdentity::new(tenant, principal, door, name, arguments);
                let called = called.ok_or_else(|| Error::Params("The arguments are not acceptable JSON.".into()))?;
                Asking::ByResult { able: envelope.able, called, key: caller.snapshot.state_key.clone() }
            }
            Client::Legacy(Some(session)) if streams => Asking::BySession { able: session.able() },
            Client::Legacy(_) => Asking::Not,
        })
    }

    /// Makes the context, or takes it up again where the call has the answer to its question. A refusal of the context
    /// is the tool's result.
    async fn start(&self, caller: &mut Caller, plan: &mut Plan) -> Result<Result<Standing, Problem>, Error> {
        let Asked { responses, state, .. } = &self.asked;
        match (&plan.asking, state) {
            (Asking::ByResult { called, .. }, Some(state)) => {
                let seconds = if plan.answers == Answers::Task { SOON_SECONDS } else { plan.seconds };
                asking::answered(self.call, caller, called, state, *responses, seconds).await.map(Ok)
            }
            (Asking::ByResult { .. } | Asking::BySession { .. } | Asking::Not, _) => {
                let made = match self.create(caller, plan).await {
                    Ok(told) if plan.answers == Answers::Task => asking::taken(caller, told.id, SOON_SECONDS).await?,
                    Ok(told) => Standing::delivered(told),
                    Err(problem) => return Ok(Err(problem)),
                };
                match *responses {
                    Some(responses) if !made.ended && made.task()?.asks() => {
                        asking::answered_before(self.call, caller, made, responses, plan.seconds).await.map(Ok)
                    }
                    _ => Ok(Ok(made)),
                }
            }
        }
    }

    async fn create(&self, caller: &mut Caller, plan: &mut Plan) -> Result<ContextState, Problem> {
        let wish = &mut plan.wish;
        let new = NewContext {
            capability: plan.capability.clone(),
            service: Some(plan.service.clone()),
            version: None,
            tags: Vec::new(),
            parameters: self.asked.arguments,
            priority: Priority::default(),
            timeout_seconds: None,
            source: Source::default(),
            metadata: None,
            run_at: None,
            replay_of: None,
            client: wish.client.take(),
            session: wish.session.take(),
            unasked: wish.unasked,
            log_level: wish.log_level.take(),
            meta: wish.meta.take(),
        };
        // What is looked at later does not depend on who asked being there.
        let preference = Prefer { respond_async: plan.answers.is_task(), wait_seconds: Some(plan.seconds) };
        contexts::create_and_wait(self.call, caller, &new, &preference, &plan.notifications).await
    }

    async fn respond(&self, caller: &Caller, plan: Plan, standing: Standing) -> Result<Served, Error> {
        let Self { call, legacy, .. } = *self;
        let Plan { service, capability, answers, requires, streams, asking, token, wish, notifications, .. } = plan;
        let Standing { id, view, result, ended, timings } = standing;
        let task = asking::read(&view)?;
        let needed = RequiredPermissions::one(format!("contexts:create:{service}.{capability}"));
        let mut following = Following {
            canceller: contexts::Canceller::new(call, caller),
            snapshot: caller.snapshot.clone(),
            id,
            request: self.request.id.to_owned(),
            request_id: call.request_id.clone(),
            token,
            legacy,
            related: false,
            joined: self.door.joins(),
            messages: wish.messages,
            notifications,
            asking,
            reached: StreamPosition::default(),
            watched: Rc::new(call.watched(&caller.principal, needed)),
        };
        if answers == Answers::TaskOnly && legacy {
            let task = format!(r#""task":{{{}}}"#, task.of_2025(None, tasks::ttl_ms(call)));
            return Ok(Served::Called(responses::result(true, &[&task]), timings));
        }
        if answers == Answers::Task && requires && !task.asks() {
            return Ok(Served::Called(task.created(tasks::ttl_ms(call)), timings));
        }
        if ended || task.asks() && !following.asking.asks_on_the_way(&view)? {
            return following.result(&view, result.as_deref()).await.map(|result| Served::Called(result, timings));
        }
        if answers == Answers::Task {
            return Ok(Served::Called(task.created(tasks::ttl_ms(call)), timings));
        }
        if !streams {
            return following.wait_out(call).await.map(Served::Result);
        }
        let (response, stream) = Stream::open(200, &stream_headers());
        let channel = match self.client {
            Client::Legacy(Some(session)) => session.begin(following.begun(), stream).await?,
            Client::Legacy(None) | Client::Modern(_) => Channel::plain(stream),
        };
        call.keep_running(following.write_to(channel));
        Ok(Served::Stream(Answer::stream(response)))
    }
}
