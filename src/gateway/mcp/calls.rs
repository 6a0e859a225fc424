//! `tools/call`: a context, as `POST /v1/contexts` makes it, and its end as the tool's result.

use serde_json::value::RawValue;

use crate::core::json::Object;
use crate::core::lifecycle::{Priority, Source};
use crate::core::mcp::era::progress_token;
use crate::core::mcp::error::Error;
use crate::core::mcp::message::Request;
use crate::core::mcp::task::Task;
use crate::core::mcp::{mirror, outcome, reply};
use crate::core::prefer::Prefer;
use crate::core::problem::Problem;
use crate::core::request::{MAX_PARAMETERS_BYTES, NewContext};
use crate::platform::http::Headers;
use crate::platform::streams::Stream;

use super::super::answer::Answer;
use super::super::call::{Call, Caller};
use super::super::contexts;
use super::following::Following;
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
    /// With a handle, to look again later.
    Task,
}

/// What is called, with what.
struct Called<'a> {
    name: String,
    arguments: &'a str,
}

fn read<'a>(params: Option<&'a RawValue>) -> Result<Called<'a>, Error> {
    let wrong = |detail: &str| Error::Params(detail.into());
    let params = params.ok_or_else(|| wrong("tools/call needs params"))?;
    let mut params = Object::new(params.get(), "#").map_err(|_| wrong("params must be an object"))?;
    let name = params.raw("name").and_then(|raw| serde_json::from_str(raw.get()).ok());
    let arguments = params.raw("arguments").map_or("{}", RawValue::get);
    if !arguments.starts_with('{') {
        return Err(wrong("arguments must be an object"));
    }
    Ok(Called { name: name.ok_or_else(|| wrong("name must be a string"))?, arguments })
}

fn takes_streams(call: &Call) -> bool {
    call.request.header("accept").is_some_and(|accept| accept.contains("text/event-stream"))
}

pub async fn call_tool(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    request: &Request<'_>,
    legacy: bool,
    answers: Answers,
) -> Result<Served, Error> {
    let Called { name, arguments } = read(request.params)?;
    if door.0.is_none() && plain::is_one(&name) {
        return plain::serve(call, caller, &name, arguments, legacy).await.map(Served::Result);
    }
    if tools::find(&caller.snapshot, door, &name).is_none() {
        brought_up_to_date(call, caller).await?;
        tools::known(caller, door)?;
    }
    let Some(tool) = tools::find(&caller.snapshot, door, &name) else {
        return Err(Error::Params(format!("Unknown tool: {name}")));
    };
    if !legacy && let Some(schema) = &tool.capability.input_schema {
        mirror::check(schema.get(), arguments, |name| call.request.header(name))?;
    }
    if arguments.len() > MAX_PARAMETERS_BYTES {
        let message = format!("The arguments may have at most {MAX_PARAMETERS_BYTES} bytes.");
        return Ok(Served::Result(reply::failed(legacy, &message, None)));
    }
    let new = NewContext {
        capability: tool.capability.name.clone(),
        service: Some(tool.entry.service().id.clone()),
        version: None,
        tags: Vec::new(),
        parameters: arguments,
        priority: Priority::default(),
        timeout_seconds: None,
        source: Source::default(),
        metadata: None,
        run_at: None,
    };
    let streams = answers == Answers::Stream && takes_streams(call);
    let token = progress_token(request.params).filter(|_| streams);
    // Who asks for progress is told of it from the beginning.
    let seconds = if token.is_some() { 0 } else { SOON_SECONDS };
    // What is looked at later does not depend on who asked being there.
    let preference = Prefer { respond_async: answers == Answers::Task, wait_seconds: Some(seconds) };
    let told = match contexts::make(call, caller, &new, &preference, None).await {
        Ok(told) => told,
        Err(problem) => return outcome::refused(legacy, problem).map(Served::Result),
    };
    if told.ended {
        let result = told.result.as_deref().map(RawValue::get);
        return Ok(Served::Called(outcome::of(legacy, told.id.as_str(), told.view.get(), result), told.timings));
    }
    if answers == Answers::Task {
        let task = Task::read(told.view.get()).ok_or_else(|| Problem::internal("a context that cannot be read"))?;
        return Ok(Served::Called(task.created(tasks::ttl_ms(call)), told.timings));
    }
    let mut following = Following {
        stopping: contexts::Stopping::of(call, caller),
        snapshot: caller.snapshot.clone(),
        id: told.id,
        request: request.id.to_owned(),
        request_id: call.request_id.clone(),
        token: token.map(RawValue::to_owned),
        legacy,
    };
    if !streams {
        return following.wait_out().await.map(Served::Result);
    }
    let mut headers = Headers::default();
    headers.set("content-type", "text/event-stream");
    headers.set("x-accel-buffering", "no");
    let (response, stream) = Stream::open(200, &headers);
    call.keep_running(following.write_to(stream));
    Ok(Served::Stream(Answer::made(200, response)))
}
