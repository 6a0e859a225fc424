//! Errors of providers, in the words of the client's format.

use serde_json::Value;

use super::super::super::endpoint::{Endpoint, Format};
use super::super::super::failure::{FailureKind, error_of, status_of_error};
use super::super::super::refusal;
use super::super::members::word;

/// A provider's error body for a client of `from`, by its status.
pub fn error(from: Endpoint, status: u16, body: &Value, request_id: &str) -> Value {
    let kind = FailureKind::of_response(status, body);
    converted(from, status, kind, error_of(body), request_id)
}

/// An error that a provider's stream reported.
pub fn of_stream(from: Endpoint, error: &Value) -> Value {
    let mut body = converted(from, status_of_error(error), FailureKind::of_error(error), error, "");
    if let Some(members) = body.as_object_mut() {
        members.remove("request_id");
    }
    body
}

fn converted(from: Endpoint, status: u16, kind: FailureKind, error: &Value, request_id: &str) -> Value {
    let stated = word(error, "message");
    let message = match error.as_str().unwrap_or(stated) {
        "" => format!("The provider's response has the status {status}."),
        message => message.into(),
    };
    // What comes from OpenAI's format is kept.
    let code = match word(error, "code") {
        "" => code(kind),
        code => code,
    };
    let param = error.get("param").and_then(Value::as_str);
    let text = refusal::body(from.format(), status, code, &message, param, request_id);
    let mut body: Value = serde_json::from_str(&text).unwrap_or_default();
    if from.format() == Format::OpenAi
        && let Some(code) = body.pointer_mut("/error/code").filter(|code| **code == "")
    {
        *code = Value::Null;
    }
    body
}

/// OpenAI's code for a kind of failure; empty if it has none.
fn code(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::RateLimited => "rate_limit_exceeded",
        FailureKind::Exhausted => "insufficient_quota",
        FailureKind::NotFound => "model_not_found",
        FailureKind::ContextLength => "context_length_exceeded",
        FailureKind::ContentFilter => "content_filter",
        FailureKind::Server => "server_error",
        _ => "",
    }
}
