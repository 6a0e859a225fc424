//! `tools/call`: creates a context, as `POST /v1/contexts` does, and returns its outcome as the tool's result.

use std::rc::Rc;

use serde_json::value::RawValue;

use crate::auth::credential_watch::RequiredPermissions;
use crate::execution::notifications::Notifications;
use crate::platform::streams::Stream;
use crate::platform::tasks::keep_running;
use narthex_core::access::principal::Principal;
use narthex_core::base::content::Content;
use narthex_core::base::json::Object;
use narthex_core::base::service_id::ServiceId;
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
use super::super::registry_client::unread;
use super::call_follower::CallFollower;
use super::channel::{Channel, stream_headers};
use super::elicitation::{self, CallState, ElicitationMode};
use super::session::Session;
use super::upstream::UpstreamOptions;
use super::{EndpointScope, MethodResponse, context_tools, refresh_caller, tasks, tools};

/// A call that takes longer than this is answered with a stream, in seconds.
const INLINE_WAIT_SECONDS: u32 = 3;

/// How a call that takes a while may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseMode {
    /// With its result alone, however long it takes.
    Inline,
    /// With a stream, if the client accepts one.
    Stream,
    /// With a task that the client polls, if the call takes longer.
    Task,
    /// With a task at once (legacy).
    ImmediateTask,
}

impl ResponseMode {
    fn is_task(self) -> bool {
        matches!(self, Self::Task | Self::ImmediateTask)
    }
}

/// How a call of this tool may be answered, given the task support of the tool and of its client.
fn supported_mode(
    caller: &Caller,
    client: &Client<'_>,
    mode: ResponseMode,
    task: bool,
    support: TaskSupport,
) -> Result<ResponseMode, Error> {
    match (client, support) {
        (Client::Modern(envelope), TaskSupport::Required) if !envelope.able.tasks => {
            Err(Error::Capability { required: extension() })
        }
        (Client::Modern(_), TaskSupport::Forbidden) if mode == ResponseMode::Task => Ok(ResponseMode::Stream),
        (Client::Legacy(_), TaskSupport::Required) if !task => {
            Err(Error::Method { name: "tools/call of this tool without a task".into(), legacy: true })
        }
        (Client::Legacy(_), TaskSupport::Forbidden) if task => {
            Err(Error::Method { name: "tools/call of this tool as a task".into(), legacy: true })
        }
        (Client::Legacy(_), _) if task => {
            caller.principal.require("contexts:read")?;
            Ok(ResponseMode::ImmediateTask)
        }
        (Client::Modern(_) | Client::Legacy(_), _) => Ok(mode),
    }
}

/// The longest `requestState` that a call may send, in bytes.
const MAX_STATE_BYTES: usize = 8 * 1024;

/// The client of a call, by its revision.
#[derive(Clone, Copy)]
pub enum Client<'e> {
    Modern(&'e Envelope),
    Legacy(Option<&'e Session>),
}

/// The parameters of `tools/call`.
struct CallParams<'a> {
    name: String,
    arguments: &'a str,
    /// The responses to an elicitation, and the state that came with it.
    responses: Option<&'a RawValue>,
    state: Option<String>,
    /// The call asks for a task (revision 2025-11-25).
    task: bool,
}

fn read_params<'a>(params: Option<&'a RawValue>, legacy: bool) -> Result<CallParams<'a>, Error> {
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
        return Ok(CallParams { name, arguments, responses: None, state: None, task });
    }
    let responses = params.raw_or_null("inputResponses");
    if responses.is_some_and(|responses| !responses.get().starts_with('{')) {
        return Err(wrong("inputResponses must be an object"));
    }
    let state = params.raw_or_null("requestState").map(|state| {
        let text = serde_json::from_str::<String>(state.get()).ok();
        text.filter(|text| text.len() <= MAX_STATE_BYTES)
            .ok_or_else(|| wrong("requestState must be one from an earlier result"))
    });
    Ok(CallParams { name, arguments, responses, state: state.transpose()?, task: false })
}

pub async fn call_tool(
    call: &Call,
    caller: &mut Caller,
    scope: EndpointScope<'_>,
    request: &Request<'_>,
    client: Client<'_>,
    mode: ResponseMode,
) -> Result<MethodResponse, Error> {
    let legacy = matches!(client, Client::Legacy(_));
    let params = read_params(request.params, legacy)?;
    if scope.0.is_none() && context_tools::is_context_tool(&params.name) {
        return context_tools::serve(call, caller, &params.name, params.arguments, legacy)
            .await
            .map(MethodResponse::Result);
    }
    if tools::find(&caller.snapshot, scope, &params.name).is_none() {
        refresh_caller(call, caller).await?;
        tools::require_service(caller, scope)?;
    }
    let Some(tool) = tools::find(&caller.snapshot, scope, &params.name) else {
        return Err(Error::Params(format!("Unknown tool: {}", params.name)));
    };
    if !legacy {
        // The call itself finds that a service was deleted in the meantime.
        let document = match tool.entry.document().await {
            Ok(document) => Some(document),
            Err(missing) => match unread(tool.entry.service(), missing) {
                Some(problem) => return Err(problem.into()),
                None => None,
            },
        };
        let schema = document.as_ref().and_then(|document| {
            let at = document.position(&tool.capability.name, &tool.capability.version)?;
            document.service().capabilities.get(at)?.input_schema.as_deref()
        });
        if let Some(schema) = schema {
            param_headers::check(schema.get(), params.arguments, |name| call.request.header(name))?;
        }
    }
    if params.arguments.len() > MAX_PARAMETERS_BYTES {
        let message = format!("The arguments must not exceed {MAX_PARAMETERS_BYTES} bytes.");
        return Ok(MethodResponse::Result(responses::tool_error(legacy, &message, None)));
    }
    let tool_call = ToolCall { call, scope, request, client, params, legacy };
    let mut plan = tool_call.plan(caller, &tool, mode)?;
    match tool_call.start(caller, &mut plan).await? {
        Ok(state) => tool_call.respond(caller, plan, state).await,
        Err(problem) => call_result::rejection(legacy, problem).map(MethodResponse::Result),
    }
}

/// A tool call, as it arrived.
struct ToolCall<'a> {
    call: &'a Call,
    scope: EndpointScope<'a>,
    request: &'a Request<'a>,
    client: Client<'a>,
    params: CallParams<'a>,
    legacy: bool,
}

/// How a call is executed and answered.
struct Plan {
    service: ServiceId,
    capability: String,
    mode: ResponseMode,
    /// The tool can only be called as a task.
    requires_task: bool,
    /// A call that takes longer is answered with a stream.
    streams: bool,
    /// The wait for the result before that, in seconds.
    seconds: u32,
    elicitation: ElicitationMode,
    progress_token: Option<Box<RawValue>>,
    options: UpstreamOptions,
    /// What is kept of the call.
    content: Content,
    /// The notifications of the service during the call.
    notifications: Notifications,
}

impl ToolCall<'_> {
    fn plan(&self, caller: &Caller, tool: &tools::Tool<'_>, mode: ResponseMode) -> Result<Plan, Error> {
        let Self { call, request, client, params, .. } = self;
        let support = tool.capability.task_support;
        let mode = supported_mode(caller, client, mode, params.task, support)?;
        let streams = mode == ResponseMode::Stream && call.accepts_stream();
        let elicitation = self.elicitation_mode(caller, streams)?;
        let progress_token = progress_token(request.params).filter(|_| streams);
        let options = match client {
            Client::Modern(envelope) => UpstreamOptions::of_modern(tool.entry, envelope),
            Client::Legacy(session) => UpstreamOptions::of_legacy(tool.entry, *session, streams, mode.is_task()),
        };
        let options = options.with_meta(tool.entry, request.params)?;
        // A client that asks for progress or log messages gets them from the beginning.
        let seconds = match mode {
            ResponseMode::Task | ResponseMode::ImmediateTask => 0,
            ResponseMode::Stream | ResponseMode::Inline if progress_token.is_some() || streams && options.messages => 0,
            ResponseMode::Stream | ResponseMode::Inline => INLINE_WAIT_SECONDS,
        };
        Ok(Plan {
            service: tool.entry.service().id.clone(),
            capability: tool.capability.name.clone(),
            mode,
            requires_task: support == TaskSupport::Required,
            streams,
            seconds,
            elicitation,
            progress_token: progress_token.map(RawValue::to_owned),
            options,
            content: tool.capability.content.unwrap_or_default(),
            notifications: Notifications::default(),
        })
    }

    /// How the client receives elicitations of the tool.
    fn elicitation_mode(&self, caller: &Caller, streams: bool) -> Result<ElicitationMode, Error> {
        Ok(match self.client {
            Client::Modern(envelope) => {
                let Principal { tenant, principal, .. } = &caller.principal;
                let (scope, CallParams { name, arguments, .. }) = (self.scope.name(), &self.params);
                let identity = CallIdentity::new(tenant, principal, scope, name, arguments);
                let identity =
                    identity.ok_or_else(|| Error::Params("The arguments are not acceptable JSON.".into()))?;
                ElicitationMode::InResult {
                    capabilities: envelope.able,
                    identity,
                    key: caller.snapshot.state_key.clone(),
                }
            }
            Client::Legacy(Some(session)) if streams => {
                ElicitationMode::OnStream { capabilities: session.client_capabilities() }
            }
            Client::Legacy(_) => ElicitationMode::Unsupported,
        })
    }

    /// Creates the context, or continues it if the call carries the responses to its elicitation. A rejected context
    /// becomes the tool's result.
    async fn start(&self, caller: &mut Caller, plan: &mut Plan) -> Result<Result<CallState, Problem>, Error> {
        let CallParams { responses, state, .. } = &self.params;
        match (&plan.elicitation, state) {
            (ElicitationMode::InResult { identity, .. }, Some(state)) => {
                let seconds = if plan.mode == ResponseMode::Task { INLINE_WAIT_SECONDS } else { plan.seconds };
                elicitation::continue_call(self.call, caller, identity, state, *responses, seconds).await.map(Ok)
            }
            (ElicitationMode::InResult { .. } | ElicitationMode::OnStream { .. } | ElicitationMode::Unsupported, _) => {
                let created = match self.create(caller, plan).await {
                    Ok(context) if plan.mode == ResponseMode::Task => {
                        elicitation::wait_until_accepted(caller, context.id, INLINE_WAIT_SECONDS).await?
                    }
                    Ok(context) => context.into(),
                    Err(problem) => return Ok(Err(problem)),
                };
                match *responses {
                    Some(responses) if !created.ended && created.asks()? => {
                        elicitation::apply_early_responses(self.call, caller, created, responses, plan.seconds)
                            .await
                            .map(Ok)
                    }
                    _ => Ok(Ok(created)),
                }
            }
        }
    }

    async fn create(&self, caller: &mut Caller, plan: &mut Plan) -> Result<ContextState, Problem> {
        let options = &mut plan.options;
        let new = NewContext {
            capability: plan.capability.clone(),
            service: Some(plan.service.clone()),
            version: None,
            tags: Vec::new(),
            parameters: self.params.arguments,
            priority: Priority::default(),
            timeout_seconds: None,
            source: Source::default(),
            metadata: None,
            run_at: None,
            replay_of: None,
            client: options.capabilities.take(),
            session: options.session.take(),
            unasked: options.unasked,
            log_level: options.log_level.take(),
            meta: options.meta.take(),
        };
        // The client of a task may go away: it polls later.
        let preference = Prefer { respond_async: plan.mode.is_task(), wait_seconds: Some(plan.seconds) };
        contexts::create_and_wait(self.call, caller, &new, &preference, &plan.notifications).await
    }

    /// The task with which the call is answered, if its client polls for the outcome.
    fn task(&self, plan: &Plan, state: &CallState) -> Result<Option<String>, Problem> {
        if !plan.mode.is_task() || state.pending.is_some() {
            return Ok(None);
        }
        let task = elicitation::read_task(&state.view)?;
        let ttl_ms = tasks::ttl_ms(self.call);
        Ok(match plan.mode {
            ResponseMode::ImmediateTask => {
                let task = format!(r#""task":{{{}}}"#, task.of_2025(None, ttl_ms));
                Some(responses::result(true, &[&task]))
            }
            _ => (!task.asks() && (plan.requires_task || !state.ended)).then(|| task.created(ttl_ms)),
        })
    }

    async fn respond(&self, caller: &Caller, plan: Plan, state: CallState) -> Result<MethodResponse, Error> {
        if let Some(task) = self.task(&plan, &state)? {
            return Ok(MethodResponse::CallResult(task, state.timings));
        }
        let Self { call, legacy, .. } = *self;
        let Plan { service, capability, streams, elicitation, progress_token, options, content, notifications, .. } =
            plan;
        let asks = state.asks()?;
        let CallState { id, view, result, ended, timings, pending } = state;
        let is_kept = content.is_full() && pending.is_none();
        let needed = RequiredPermissions::one(format!("contexts:create:{service}.{capability}"));
        let mut follower = CallFollower {
            canceller: contexts::Canceller::new(call, caller),
            snapshot: caller.snapshot.clone(),
            id,
            request: self.request.id.to_owned(),
            request_id: call.request_id.clone(),
            progress_token,
            legacy,
            names_task: false,
            combined: self.scope.is_combined(),
            forwards_logs: options.messages,
            notifications,
            elicitation,
            position: StreamPosition::default(),
            credentials: Rc::new(call.watched(&caller.principal, needed)),
            pending,
        };
        if ended || asks && !follower.elicitation.can_ask_on_stream(&view)? {
            return follower
                .result(&view, result.as_deref())
                .await
                .map(|result| MethodResponse::CallResult(result, timings));
        }
        if !streams {
            return follower.wait_for_result(call).await.map(MethodResponse::Result);
        }
        let (response, stream) = Stream::open(200, &stream_headers());
        let channel = match self.client {
            Client::Legacy(Some(session)) => {
                if is_kept {
                    session.begin_call(follower.call_info(), stream).await?
                } else {
                    session.begin_call(follower.call_info().unkept(), stream).await?.unkept()
                }
            }
            Client::Legacy(None) | Client::Modern(_) => Channel::plain(stream),
        };
        keep_running(follower.write_to(channel));
        Ok(MethodResponse::Stream(Answer::stream(response)))
    }
}
