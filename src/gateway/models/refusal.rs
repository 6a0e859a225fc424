//! Refusals in the formats of model clients.

use crate::platform::http::Headers;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::models::endpoint::{Endpoint, Format, format_of_path};
use narthex_core::models::failure::{FailureKind, message_of, text_of};
use narthex_core::models::refusal;
use narthex_core::models::response_body::value_of;

use super::super::answer::{Answer, Body, JSON};
use super::super::call::Call;
use super::beginning::CallFailure;

/// The format of a request's refusals; `None`: problem details.
pub fn format(call: &Call) -> Option<Format> {
    format_of_path(&call.path, call.request.header("anthropic-version").is_some())
}

/// A problem in a format.
pub fn answer(call: &Call, format: Format, problem: &Problem) -> Answer {
    let fault = problem.errors.first();
    let param = fault.and_then(|fault| refusal::param(&fault.pointer));
    let details: Vec<String> =
        problem.errors.iter().map(|fault| format!("{} {}", fault.pointer, fault.detail)).collect();
    let code = match problem.code {
        Code::NotFound if param.as_deref() == Some("model") => "model_not_found",
        code => code.as_str(),
    };
    let is_lost = matches!(problem.code, Code::NotFound | Code::MethodNotAllowed);
    let message = match (problem.code, details.is_empty()) {
        _ if is_lost && !call.path.starts_with("/v1/") => {
            format!("There is no {} {}. {NO_VERSION}", call.method(), call.path)
        }
        _ if is_lost && call.path.starts_with("/v1/v1/") => {
            format!("There is no {} {}. {TWO_VERSIONS}", call.method(), call.path)
        }
        (Code::NotFound, true) => format!("There is no {} {}. {PATHS}", call.method(), call.path),
        (Code::ValidationFailed, false) => format!("{} {}", problem.detail, details.join("; ")),
        _ => problem.detail.clone(),
    };
    let status = problem.code.status();
    let text = refusal::body(format, status, code, &message, param.as_deref(), &call.request_id);
    let mut answer = Answer::text(status, JSON, text);
    for (name, value) in &problem.headers {
        answer.headers.set(name, value);
    }
    if format == Format::Anthropic {
        answer.headers.set("request-id", &call.request_id);
    }
    if useless_to_repeat(problem.code) {
        answer.headers.set("x-should-retry", "false");
    }
    answer.code = Some(problem.code.as_str());
    answer.cause.clone_from(&problem.cause);
    answer
}

const PATHS: &str = "For models there are POST /v1/chat/completions, /v1/responses, /v1/embeddings, /v1/messages and \
                     /v1/messages/count_tokens, and GET /v1/models.";

const NO_VERSION: &str = "The paths of models begin with /v1: add it to the base URL.";
const TWO_VERSIONS: &str = "This library adds /v1 itself: leave it out of the base URL.";

/// Whether libraries would repeat the request in vain.
fn useless_to_repeat(code: Code) -> bool {
    matches!(
        code,
        Code::NotConfigured | Code::LaterVersion | Code::Conflict | Code::Unauthenticated | Code::PermissionDenied
    )
}

/// The response to a request whose last target has failed: the provider's own, if there is one.
pub fn of_failure(call: &Call, endpoint: Endpoint, failed: &CallFailure, headers: Headers) -> Answer {
    let format = endpoint.format();
    let mut answer = match &failed.response {
        Some(response) if response.is_secret && response.shown != 401 => {
            let message = format!("The provider responded with status {}.", response.status);
            made(format, response.shown, "upstream_error", &message, &call.request_id)
        }
        Some(response) if passes(failed.kind, response.shown) => {
            let body = String::from_utf8_lossy(&response.body);
            let text = match response.shown == response.status {
                true => body.into_owned(),
                false => refusal::body_of_event(format, response.shown, &body, &call.request_id),
            };
            let mut answer = Answer::new(response.shown, Body::Text { content_type: JSON, text });
            if let Body::Text { text, .. } = &answer.body
                && response.shown == response.status
                && !value_of(text.as_bytes()).is_some_and(|value| value.is_object() || value.is_array())
            {
                let message = match text_of(&response.body) {
                    Some(words) => words.into(),
                    None => format!("The provider responded with status {}.", response.status),
                };
                answer = made(format, response.shown, "upstream_error", &message, &call.request_id);
            }
            let head = &response.head;
            for (name, value) in [
                ("retry-after", &head.retry_after),
                ("retry-after-ms", &head.retry_after_ms),
                ("x-should-retry", &head.should_retry),
            ] {
                if !value.is_empty() {
                    answer.headers.set(name, value);
                }
            }
            answer
        }
        Some(response) if failed.kind == FailureKind::Auth => {
            let body = value_of(&response.body).unwrap_or_default();
            let words = message_of(&body).filter(|_| !response.is_secret).map(without_secrets).unwrap_or_default();
            let message = format!("The provider refused the gateway's credentials. {words}");
            made(format, 502, "upstream_unauthenticated", message.trim_end(), &call.request_id)
                .with("x-should-retry", "false")
        }
        _ => {
            let (status, code, message) = ours(failed.kind);
            made(format, status, code, message, &call.request_id)
        }
    };
    if format == Format::Anthropic {
        answer.headers.set("request-id", &call.request_id);
    }
    answer.headers.append(&headers);
    answer.code = Some("upstream_error");
    answer.cause = Some(failed.detail.clone());
    answer
}

/// Whether the provider's own words are for the client.
fn passes(kind: FailureKind, shown: u16) -> bool {
    // Its 401 is about the gateway's credentials.
    kind != FailureKind::Format && shown != 401
}

fn made(format: Format, status: u16, code: &str, message: &str, request_id: &str) -> Answer {
    Answer::text(status, JSON, refusal::body(format, status, code, message, None, request_id))
}

/// Failures without a response of the provider.
fn ours(kind: FailureKind) -> (u16, &'static str, &'static str) {
    match kind {
        FailureKind::Late => (504, "upstream_timeout", "The provider did not respond in time."),
        FailureKind::Deadline => (504, "deadline_exceeded", "The deadline of the request has passed."),
        FailureKind::Format => (502, "upstream_invalid_response", "The provider's response has another form."),
        FailureKind::NotCalled => (502, "upstream_not_called", "The provider cannot be called as it is registered."),
        FailureKind::Unreachable => (502, "upstream_unreachable", "The provider cannot be reached."),
        FailureKind::Broken
        | FailureKind::Gone
        | FailureKind::RateLimited
        | FailureKind::Exhausted
        | FailureKind::Server
        | FailureKind::Auth
        | FailureKind::NotFound
        | FailureKind::ContextLength
        | FailureKind::ContentFilter
        | FailureKind::Request => (502, "upstream_error", "The connection to the provider broke."),
    }
}

/// A provider's words about credentials, without what may be one: long words with digits or stars.
fn without_secrets(text: &str) -> String {
    let hides = |word: &str| word.len() >= 12 && word.bytes().any(|byte| byte.is_ascii_digit() || byte == b'*');
    let words = text.split(' ').map(|word| if hides(word) { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}
