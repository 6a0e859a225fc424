//! One JSON line per request, and the same figures for the client (Server-Timing).

use std::fmt::Write as _;

use serde::Serialize;

use crate::execution::Timings;
use crate::platform::{clock, log};

use super::answer::Answer;
use super::call::Call;

/// W3C Server Timing: milliseconds spent waiting for others.
pub fn server_timing(auth_ms: u64, limit_ms: u64, timings: &Timings) -> String {
    let mut text = format!("auth;dur={auth_ms}");
    let Timings { admit, upstream, commit } = *timings;
    for (name, ms) in [("limit", limit_ms), ("admit", admit), ("upstream", upstream), ("commit", commit)] {
        if ms > 0 {
            // Writing to a string does not fail.
            let _ = write!(text, ", {name};dur={ms}");
        }
    }
    text
}

#[derive(Serialize)]
struct Line<'a> {
    level: &'a str,
    message: &'a str,
    request_id: &'a str,
    trace_id: String,
    method: &'a str,
    path: &'a str,
    status: u16,
    duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
}

/// Never the query: a ticket may ride in it.
pub fn write(call: &Call, answer: &Answer) {
    let level = match answer.status {
        500.. => "error",
        400.. => "warn",
        _ => "info",
    };
    let line = Line {
        level,
        message: "request",
        request_id: &call.request_id,
        trace_id: call.trace.trace_id_hex(),
        method: call.method(),
        path: call.told_path(),
        status: answer.status,
        duration_ms: clock::now().since(call.began),
        code: answer.code,
        cause: answer.cause.as_deref(),
    };
    if let Ok(text) = serde_json::to_string(&line) {
        log(&text);
    }
}
