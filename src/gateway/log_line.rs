//! One JSON line per request, and the same figures for the client (Server-Timing).

use std::fmt::Write as _;

use crate::execution::Timings;
use crate::platform::log::{self, Field, Level, Message};
use crate::platform::{clock, memory};
use narthex_core::base::id::ContextId;
use narthex_core::base::names::valid_id;

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

/// Never the query: a ticket may ride in it.
pub fn write(call: &Call, answer: &Answer) {
    let level = match answer.status {
        500.. => Level::Error,
        400.. => Level::Warn,
        _ => Level::Info,
    };
    let principal = call.principal.borrow();
    let tenant = call.tenant.borrow();
    let context = answer.context.as_ref().map(ContextId::as_str).or_else(|| in_path(&call.path));
    let fields = [
        (Field::request_id, call.request_id.as_str().into()),
        (Field::trace_id, call.trace.trace_id_hex().into()),
        (Field::tenant, principal.as_ref().map(|_| &*tenant).into()),
        (Field::principal, principal.as_ref().into()),
        (Field::region, call.region().code().into()),
        (Field::context, context.into()),
        (Field::service, answer.service.as_deref().or_else(|| service_in_path(&call.path)).into()),
        (Field::method, call.method().into()),
        (Field::path, call.public_path().into()),
        (Field::status, answer.status.into()),
        (Field::duration_ms, clock::now().since(call.began).into()),
        (Field::memory_bytes, memory::bytes().into()),
        (Field::code, answer.code.into()),
        (Field::cause, answer.cause.as_deref().into()),
    ];
    log::write_at(level, Message::Request, &fields);
}

/// The service that a path names.
fn service_in_path(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/v1/services/").or_else(|| path.strip_prefix("/mcp/"))?;
    rest.split('/').next().filter(|id| valid_id(id))
}

/// The context that a path names.
fn in_path(path: &str) -> Option<&str> {
    let id = path.strip_prefix("/v1/contexts/")?.split('/').next()?;
    ContextId::parse(id).map(|_| id)
}
