//! HTTP in, HTTP out. A request passes these phases:
//!
//! describe → preflight → size of the headers → route → credentials → permission → handler → response → log
//!
//! Routes are rows of one table (`routes/table.rs`), so the whole surface is seen in one place. Handlers return an
//! [`Answer`] or a [`Problem`]; headers that all responses have are added here. What is stored belongs to `objects`,
//! how a context runs to `execution`.

pub mod answer;
mod audit;
mod authenticate;
mod call;
mod callbacks;
mod capabilities;
mod connections;
mod contexts;
#[cfg(test)]
mod contract_tests;
mod cors;
mod credentials;
mod decision;
mod documents;
mod events;
mod idempotency;
mod keys;
mod later_use;
mod limits;
mod lists;
mod log_line;
mod mcp;
mod measured;
mod meta;
mod models;
mod oauth;
mod refusals;
mod registry;
mod registry_client;
mod routes;
pub mod schedules;
mod service_view;
mod services;
mod sse;
mod tools;
mod usage;
mod webhooks;

use wasm_bindgen::JsValue;

use crate::platform::{settings, tasks};
use narthex_core::http::problem::{Code, Problem};

use answer::Answer;
use call::{Call, MAX_HEADER_BYTES};

/// Serves one request.
pub async fn serve(request: JsValue, env: &JsValue) -> JsValue {
    let call = Call::new(request, settings::of(env));
    // Who only reads or watches can do so again after a restart.
    tasks::count_as_call(!matches!(call.method(), "GET" | "HEAD" | "OPTIONS"));
    let answer = match handle(&call).await {
        Ok(answer) => answer,
        Err(problem) => match models::refusal::format(&call) {
            Some(format) => models::refusal::answer(&call, format, &problem),
            None => Answer::problem(&problem, call.public_path(), &call.request_id),
        },
    };
    finish(&call, answer)
}

async fn handle(call: &Call) -> Result<Answer, Problem> {
    if let Some(preflight) = cors::preflight(call) {
        return Ok(preflight);
    }
    if call.request.header_bytes() > MAX_HEADER_BYTES {
        let detail = format!("All headers together must not exceed {MAX_HEADER_BYTES} bytes.");
        return Err(Problem::new(Code::HeaderTooLarge, detail));
    }
    routes::dispatch(call).await
}

/// Adds the headers that every response has, and writes the log line.
fn finish(call: &Call, mut answer: Answer) -> JsValue {
    let headers = &mut answer.headers;
    headers.set("x-request-id", &call.request_id);
    headers.set("traceparent", &call.trace.header());
    let timing = log_line::server_timing(call.auth_ms.get(), call.limits.waited_ms.get(), &answer.timings);
    headers.set("server-timing", &timing);
    call.limits.headers(headers);
    headers.set("x-content-type-options", "nosniff");
    if answer.streams {
        // Compression on the way delays events, and a proxy may wait for the whole response.
        headers.set("cache-control", "no-store, no-transform");
        headers.set("x-accel-buffering", "no");
    } else if !answer.public {
        headers.set("cache-control", "no-store");
    }
    cors::headers(call, headers, answer.public);
    log_line::write(call, &answer);
    if let Some(code) = answer.code {
        refusals::count(call, code);
    }
    answer.send()
}
