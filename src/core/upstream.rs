//! What a service's answer means.
//!
//! An answer is hostile until checked: only JSON of bounded size and depth counts. What the service
//! said itself is kept in `details`, never in a message of the gateway's own.

use std::ops::RangeInclusive;

use serde_json::value::RawValue;

use super::address::Refusal;
use super::context::{ContextError, Outcome};
use super::json::{Fault, MAX_DEPTH, Object, check};
use super::lifecycle::ErrorCode;
use super::schema::Schema;
use super::tree::{MAX_TREE_BYTES, tree_bytes};

/// How soon a service may promise to report on work it does in the background, in seconds.
pub const LEASE_SECONDS: RangeInclusive<u64> = 5..=86_400;
/// The largest request for input, in bytes.
pub const MAX_INPUT_REQUEST_BYTES: usize = 16 * 1024;
/// The largest answer that is kept, in bytes.
pub const MAX_ANSWER_BYTES: usize = 10 * 1024 * 1024;
/// The largest answer of which nothing is kept, and the largest message beside an answer, in bytes.
pub const MAX_ASIDE_BYTES: usize = 1024 * 1024;

/// What came back, before anybody looked into it.
#[derive(Debug, Clone)]
pub enum Answer {
    Http {
        status: u16,
        is_json: bool,
        retry_after_ms: Option<u64>,
        /// Where a 202 says the work can be found.
        location: Option<String>,
        body: Vec<u8>,
    },
    /// More than [`MAX_ANSWER_BYTES`].
    TooLarge {
        status: u16,
    },
    /// The service has it now, and will say itself how it ended.
    TakenOn,
    /// It was handed over, and nobody will say whether it was done.
    Lost,
    /// The connection could not be made: nothing reached the service.
    Refused,
    /// The connection broke; the service may have done the work.
    Broken,
    /// No answer before the attempt's end; `deadline` when that was the context's own.
    TimedOut {
        deadline: bool,
    },
    /// The attempt was stopped because its context was cancelled.
    Cancelled,
    NotCalled(NotCalled),
}

/// Why a service that was chosen was not called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotCalled {
    /// The rules refuse its address now, whatever they did when it was registered.
    Address(Refusal),
    /// What it is to be called with cannot be opened.
    Secrets,
    /// Its authorization server gave no token.
    Token,
}

impl Answer {
    pub fn status(&self) -> Option<u16> {
        match self {
            Answer::Http { status, .. } | Answer::TooLarge { status } => Some(*status),
            Answer::TakenOn
            | Answer::Lost
            | Answer::Refused
            | Answer::Broken
            | Answer::TimedOut { .. }
            | Answer::Cancelled
            | Answer::NotCalled(_) => None,
        }
    }
}

/// A verdict on an answer: the outcome to report and, when it succeeded, the result.
#[derive(Debug)]
pub struct Verdict {
    pub outcome: Outcome,
    pub result: Option<Box<RawValue>>,
}

struct Failure<'a> {
    service: &'a str,
    code: ErrorCode,
    message: String,
    details: Option<Box<RawValue>>,
    retryable: bool,
    untouched: bool,
    retry_after_ms: Option<u64>,
}

impl<'a> Failure<'a> {
    fn new(service: &'a str, code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { service, code, message, details: None, retryable: false, untouched: false, retry_after_ms: None }
    }

    fn verdict(self) -> Verdict {
        let error = ContextError {
            code: self.code,
            message: self.message,
            service: Some(self.service.into()),
            details: self.details,
        };
        let Failure { retryable, untouched, retry_after_ms, .. } = self;
        Verdict { outcome: Outcome::Failed { error, retryable, untouched, retry_after_ms }, result: None }
    }
}

/// A failure of which the service itself said what was wrong.
pub fn reported(service: &str, message: impl Into<String>, details: Option<Box<RawValue>>, retryable: bool) -> Verdict {
    let details = details.filter(|details| details.get().len() <= 4096);
    Failure { details, retryable, ..Failure::new(service, ErrorCode::UpstreamError, message) }.verdict()
}

/// An answer that is none.
pub fn unacceptable(service: &str, message: &str) -> Verdict {
    Failure::new(service, ErrorCode::UpstreamInvalidResponse, message).verdict()
}

/// Reads an answer. `service` is who gave it; `schema` what its result must match.
pub fn read(service: &str, answer: Answer, schema: Option<&Schema>) -> Verdict {
    match answer {
        Answer::TakenOn => {
            Verdict { outcome: Outcome::Accepted { lease_ms: None, location: None }, result: None }
        }
        Answer::Lost => Failure {
            retryable: true,
            ..Failure::new(
                service,
                ErrorCode::OutcomeUnknown,
                "The service's connection dropped, and it did not come back with this work; whether it did it is not known.",
            )
        }
        .verdict(),
        Answer::Refused => Failure {
            retryable: true,
            untouched: true,
            ..Failure::new(service, ErrorCode::ServiceUnavailable, "The service could not be reached.")
        }
        .verdict(),
        Answer::Broken => Failure {
            retryable: true,
            ..Failure::new(
                service,
                ErrorCode::ServiceUnavailable,
                "The connection to the service broke before its answer was whole.",
            )
        }
        .verdict(),
        Answer::TimedOut { deadline: true } => {
            Failure::new(service, ErrorCode::DeadlineExceeded, "The service did not answer within the context's time.")
                .verdict()
        }
        Answer::TimedOut { deadline: false } => Failure {
            retryable: true,
            ..Failure::new(service, ErrorCode::UpstreamTimeout, "The service did not answer in time.")
        }
        .verdict(),
        Answer::Cancelled => Failure::new(service, ErrorCode::Cancelled, "It was cancelled while it ran.").verdict(),
        Answer::NotCalled(NotCalled::Address(refusal)) => Failure {
            // Another service may be where it may be called.
            retryable: true,
            untouched: true,
            ..Failure::new(service, ErrorCode::AddressRefused, format!("The service was not called: {refusal}."))
        }
        .verdict(),
        Answer::NotCalled(NotCalled::Token) => Failure {
            retryable: true,
            untouched: true,
            ..Failure::new(
                service,
                ErrorCode::ServiceUnavailable,
                "The service was not called: its authorization server gave no token.",
            )
        }
        .verdict(),
        Answer::NotCalled(NotCalled::Secrets) => Failure {
            retryable: true,
            untouched: true,
            ..Failure::new(
                service,
                ErrorCode::Internal,
                "The service was not called: its secrets could not be opened. Who runs this gateway finds why in its log.",
            )
        }
        .verdict(),
        Answer::TooLarge { .. } => Failure::new(
            service,
            ErrorCode::UpstreamInvalidResponse,
            format!("The service's answer is larger than {MAX_ANSWER_BYTES} bytes."),
        )
        .verdict(),
        Answer::Http { status, is_json, retry_after_ms, location, body } => {
            let text = check(&body, MAX_DEPTH).ok();
            if status == 202 {
                let lease_ms = text.and_then(promised_ms);
                Verdict { outcome: Outcome::Accepted { lease_ms, location }, result: None }
            } else if (200..300).contains(&status) {
                success(service, status, is_json, text, schema)
            } else {
                refusal(service, status, text, retry_after_ms)
            }
        }
    }
}

/// `{"lease_seconds": 30}`: the service promises to report within this.
fn promised_ms(text: &str) -> Option<u64> {
    let seconds = Object::new(text, "#").ok()?.integer("lease_seconds", LEASE_SECONDS)?;
    Some(seconds * 1000)
}

fn refusal(service: &str, status: u16, text: Option<&str>, retry_after_ms: Option<u64>) -> Verdict {
    let code = match status {
        429 | 503 => ErrorCode::ServiceUnavailable,
        408 | 504 => ErrorCode::UpstreamTimeout,
        _ => ErrorCode::UpstreamError,
    };
    Failure {
        details: text.filter(|text| text.len() <= 4096).and_then(|text| RawValue::from_string(text.into()).ok()),
        retryable: matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504),
        // These say by their definition that the request was not acted upon.
        untouched: matches!(status, 425 | 429 | 503),
        retry_after_ms,
        ..Failure::new(service, code, format!("The service answered with status {status}."))
    }
    .verdict()
}

fn success(service: &str, status: u16, is_json: bool, text: Option<&str>, schema: Option<&Schema>) -> Verdict {
    let invalid = |message: &str| Failure::new(service, ErrorCode::UpstreamInvalidResponse, message).verdict();
    if status != 200 {
        return invalid("The service answered with a status that carries no result.");
    }
    if !is_json {
        return invalid("The service's answer is not application/json.");
    }
    let Some(text) = text else {
        return invalid("The service's answer is not acceptable JSON.");
    };
    let Ok(mut answer) = Object::new(text, "#") else {
        return invalid("The service's answer must be an object with a result or an error.");
    };
    if let Some(mut error) = answer.object("error") {
        let code = error.string("code", 1..=200);
        let message = error.string("message", 1..=2000);
        let retryable = error.boolean("retryable").unwrap_or(false);
        let (Some(_), Some(message)) = (code, message) else {
            return invalid("The service's error has no code or no message.");
        };
        let details = raw_member(text, "error");
        return Failure { details, retryable, ..Failure::new(service, ErrorCode::UpstreamError, message) }.verdict();
    }
    if let Some(request) = answer.raw("input_required") {
        return match acceptable_request(request) {
            Ok(()) => {
                Verdict { outcome: Outcome::InputRequired { request: request.to_owned(), state: None }, result: None }
            }
            Err(message) => invalid(message),
        };
    }
    let Some(result) = answer.raw_or_null("result") else {
        return invalid("The service's answer has neither a result, nor an error, nor a request for input.");
    };
    fitting(service, result, schema)
}

/// A result, when it matches what the capability promises.
pub fn fitting(service: &str, result: &RawValue, schema: Option<&Schema>) -> Verdict {
    let invalid = |message: &str| Failure::new(service, ErrorCode::UpstreamInvalidResponse, message).verdict();
    if let Some(schema) = schema.filter(|schema| !schema.accepts_all()) {
        if tree_bytes(result.get()) > MAX_TREE_BYTES {
            return invalid(
                "The service's result has too many parts to be checked against the capability's output schema.",
            );
        }
        let faults: Vec<Fault> = match serde_json::from_str(result.get()) {
            Ok(value) => {
                let faults = schema.validate(&value).err().unwrap_or_default();
                faults.into_iter().map(|fault| Fault { pointer: format!("#{}", fault.pointer), ..fault }).collect()
            }
            Err(_) => return invalid("The service's result is not acceptable JSON."),
        };
        if !faults.is_empty() {
            let details = serde_json::to_string(&faults).ok().and_then(|text| RawValue::from_string(text).ok());
            let message = "The service's result does not match the capability's output schema.";
            return Failure { details, ..Failure::new(service, ErrorCode::UpstreamInvalidResponse, message) }.verdict();
        }
    }
    Verdict { outcome: Outcome::Succeeded, result: Some(result.to_owned()) }
}

/// `{"message": "…", "schema": {…}}`: what is asked for, and what the answer must match.
fn acceptable_request(request: &RawValue) -> Result<(), &'static str> {
    if request.get().len() > MAX_INPUT_REQUEST_BYTES {
        return Err("The service's request for input is too large.");
    }
    let mut members = Object::new(request.get(), "#").map_err(|_| "The service's request for input is no object.")?;
    if members.string("message", 1..=2000).is_none() {
        return Err("The service's request for input has no message.");
    }
    match members.raw("schema").map(|schema| Schema::compile(schema.get())) {
        Some(Err(_)) => Err("The schema in the service's request for input cannot be compiled."),
        _ => Ok(()),
    }
}

/// Reads an answer of an endpoint that speaks OpenAI's API: all of it is the result, or its `error`.
pub fn read_openai(service: &str, answer: Answer, schema: Option<&Schema>) -> Verdict {
    let Answer::Http { status, is_json, body, .. } = &answer else { return read(service, answer, schema) };
    match status {
        200 => {}
        // Nothing it could say would be a result; least of all that it goes on with it later.
        201..300 => return refusal(service, *status, None, None),
        _ => return read(service, answer, schema),
    }
    let invalid = |message: &str| Failure::new(service, ErrorCode::UpstreamInvalidResponse, message).verdict();
    if !is_json {
        return invalid("The service's answer is not application/json.");
    }
    let text = check(body, MAX_DEPTH).ok().filter(|text| text.trim_start().starts_with('{'));
    let Some(text) = text else {
        return invalid("The service's answer is not acceptable JSON.");
    };
    if let Some(error) = raw_member(text, "error").filter(|error| error.get() != "null") {
        let details = Some(error).filter(|error| error.get().len() <= 4096);
        let message = "The service reported an error in its answer.";
        // It may have done a part of the work; asked again it does all of it.
        return Failure { details, retryable: true, ..Failure::new(service, ErrorCode::UpstreamError, message) }
            .verdict();
    }
    match RawValue::from_string(text.into()) {
        Ok(result) => fitting(service, &result, schema),
        Err(_) => invalid("The service's answer is not acceptable JSON."),
    }
}

fn raw_member(text: &str, name: &str) -> Option<Box<RawValue>> {
    Object::new(text, "#").ok()?.raw(name).map(RawValue::to_owned)
}

#[cfg(test)]
#[path = "upstream_tests.rs"]
mod tests;
