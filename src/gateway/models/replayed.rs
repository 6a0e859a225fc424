//! The response to a repeated request: what the first one with the same idempotency key got, or gets.

use std::pin::pin;

use futures_util::future::{Either, select};
use serde::Deserialize;
use serde_json::Value;

use crate::auth::credential_watch::RequiredPermissions;
use crate::objects::contexts::client::call_with_revision;
use crate::objects::contexts::messages::{ContextDetails, Wait};
use crate::platform::clock;
use narthex_core::base::id::ContextId;
use narthex_core::base::time::Timestamp;
use narthex_core::context::ContextError;
use narthex_core::context::status::{ErrorCode, Status};
use narthex_core::http::media_type::EVENT_STREAM;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::models::endpoint::{Endpoint, Format};
use narthex_core::models::refusal;
use narthex_core::models::request_body::RequestHead;
use narthex_core::models::restream;

use super::super::answer::{Answer, JSON, internal};
use super::super::call::{Call, Caller};

/// How long one request waits at the store, in milliseconds.
const WAIT_MS: u64 = 20_000;

/// Waits for the context of the first request, and responds with what came of it.
pub async fn answer(
    call: &Call,
    caller: &Caller,
    id: &ContextId,
    (endpoint, head): (Endpoint, &RequestHead),
    deadline: Timestamp,
) -> Result<Answer, Problem> {
    let found = ended(call, caller, id, deadline).await?;
    let made = match &found.result {
        Some(result) if found.status == Status::Completed => completed(endpoint, head, result.get())?,
        _ if found.status == Status::Completed => {
            let detail = "The response to the first request with this Idempotency-Key was too large to be kept.";
            return Err(Problem::new(Code::ContentNotKept, detail));
        }
        _ => failed(call, endpoint, &found),
    };
    let mut made = made.with("idempotency-replayed", "true").with("x-narthex-context", id.as_str());
    made.headers.set("x-narthex-service", found.service.as_str());
    if endpoint.format() == Format::Anthropic {
        made.headers.set("request-id", &call.request_id);
    }
    Ok(made.about(id.clone(), Some(found.service.as_str())))
}

async fn ended(
    call: &Call,
    caller: &Caller,
    id: &ContextId,
    deadline: Timestamp,
) -> Result<Box<ContextDetails>, Problem> {
    let mut snapshot = caller.snapshot.clone();
    loop {
        let milliseconds = WAIT_MS.min(deadline.since(clock::now()));
        let wait = Wait { id: id.clone(), milliseconds, to_the_end: true, news_after: None };
        let reply = call_with_revision(&caller.principal.tenant, id, &mut snapshot, &wait);
        let reply = call.while_good(&caller.principal, RequiredPermissions::ToCreate, reply);
        let gone = || Problem::new(Code::RequestTimeout, "The client has left.");
        let reply = match select(pin!(reply), call.request.left()).await {
            Either::Left((reply, _)) => reply?.map_err(internal)?,
            Either::Right(_) => return Err(gone()),
        };
        let found = reply.found().ok_or_else(|| Problem::internal("the store does not know an admitted context"))?;
        if found.ended {
            return Ok(found);
        }
        if clock::now() >= deadline {
            let detail = "The first request with this Idempotency-Key has not ended yet. Try again.";
            return Err(Problem::new(Code::Conflict, detail).with_header("Retry-After", "1"));
        }
    }
}

fn completed(endpoint: Endpoint, head: &RequestHead, result: &str) -> Result<Answer, Problem> {
    if !head.streams {
        return Ok(Answer::text(200, JSON, result.into()));
    }
    let unreadable = || Problem::internal("a kept response cannot be streamed");
    let whole: Value = serde_json::from_str(result).map_err(|_| unreadable())?;
    let events = restream::events(endpoint, &whole, head.usage_option.is_none()).ok_or_else(unreadable)?;
    Ok(Answer::text(200, EVENT_STREAM, events))
}

/// The failure, with the status that the provider responded with, if it did.
fn failed(call: &Call, endpoint: Endpoint, found: &ContextDetails) -> Answer {
    #[derive(Deserialize)]
    struct Failed {
        error: ContextError,
        attempts: Vec<Attempt>,
    }
    #[derive(Deserialize)]
    struct Attempt {
        status_code: Option<u16>,
    }
    let read: Option<Failed> = serde_json::from_str(found.view.get()).ok();
    let (code, message) = match &read {
        Some(Failed { error, .. }) => (error.code.as_str(), error.message.as_str()),
        None => (found.status.as_str(), "The first request with this Idempotency-Key has failed."),
    };
    let given = read.as_ref().and_then(|read| read.attempts.last()?.status_code).filter(|status| *status >= 400);
    let status = given.unwrap_or(match read.as_ref().map(|read| read.error.code) {
        Some(ErrorCode::UpstreamTimeout | ErrorCode::DeadlineExceeded) => 504,
        _ => 502,
    });
    let text = refusal::body(endpoint.format(), status, code, message, None, &call.request_id);
    // The same key gets the same response.
    let mut answer = Answer::text(status, JSON, text).with("x-should-retry", "false");
    answer.code = Some("upstream_error");
    answer
}
