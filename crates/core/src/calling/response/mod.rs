//! What a service's response means.
//!
//! A response is untrusted until checked: only JSON of bounded size and depth is accepted. What a service states about
//! a failure is kept in `details`, and its cause in the error's message; both are bounded. The content of a response
//! has no effect on the service's health: the caller's parameters may have provoked it.

mod openai;
mod words;

use std::ops::RangeInclusive;

use serde_json::value::RawValue;

use crate::base::json::{Fault, Object};
use crate::base::json_repair;
use crate::base::service_id::ServiceId;
use crate::base::tree_size::{MAX_TREE_BYTES, tree_bytes};
use crate::context::status::ErrorCode;
use crate::context::{ContextError, ReportedOutcome};
use crate::http::egress_address::AddressError;
use crate::models::stated_usage::StatedUsage;
use crate::services::schema::Schema;

pub use openai::read_openai;
pub use words::{MAX_DETAILS_BYTES, MAX_MESSAGE, clean};

use crate::context::http_status::{RetryScope, StatusMeaning, meaning, nothing_arrived, passes};
use words::FailureText;

/// The range of the time within which a service may promise to report on background work, in seconds.
pub const LEASE_SECONDS: RangeInclusive<u64> = 5..=86_400;
/// The largest request for input, in bytes.
pub const MAX_INPUT_REQUEST_BYTES: usize = 16 * 1024;
/// The largest response that is stored, in bytes.
pub const MAX_ANSWER_BYTES: usize = 10 * 1024 * 1024;
/// The largest response that is not stored, and the largest message beside a response, in bytes.
pub const MAX_ASIDE_BYTES: usize = 1024 * 1024;

/// The name of the member that states usage, in JSON.
const USAGE: &[u8] = b"\"usage\"";
/// The longest URL of background work that is stored, in bytes.
const MAX_LOCATION_BYTES: usize = 2048;

/// The raw result of a call.
#[derive(Debug, Clone)]
pub enum CallResult {
    Http {
        status: u16,
        /// The media type is JSON's, or is generic while the body begins as JSON does.
        is_json: bool,
        retry_after_ms: Option<u64>,
        /// The `Location` of a 202.
        location: Option<String>,
        body: Vec<u8>,
    },
    /// More than [`MAX_ANSWER_BYTES`].
    TooLarge {
        status: u16,
    },
    /// The service accepted the work and will report its outcome itself.
    Accepted,
    /// The work was dispatched, but its outcome will remain unknown.
    Lost,
    /// The connection could not be made: nothing reached the service.
    Refused,
    /// The connection broke; the service may have done the work.
    Broken,
    /// No response before the attempt's end; `deadline` if that was the context's own.
    TimedOut {
        deadline: bool,
    },
    /// The attempt was stopped because its context was cancelled.
    Cancelled,
    NotCalled(NotCalled),
}

/// Why the selected service was not called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotCalled {
    /// The egress rules refuse its address, even if they allowed it at registration.
    Address(AddressError),
    /// Its document cannot be read, or it was deleted in the meantime.
    Document,
    /// Its credentials cannot be decrypted.
    Secrets,
    /// Its authorization server did not issue a token.
    Token,
}

impl CallResult {
    /// The HTTP status of the response, if there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            CallResult::Http { status, .. } | CallResult::TooLarge { status } => Some(*status),
            CallResult::Accepted
            | CallResult::Lost
            | CallResult::Refused
            | CallResult::Broken
            | CallResult::TimedOut { .. }
            | CallResult::Cancelled
            | CallResult::NotCalled(_) => None,
        }
    }

    /// Whether the request certainly did not reach the service.
    pub fn nothing_arrived(&self) -> bool {
        matches!(self, CallResult::Refused) || self.status().is_some_and(nothing_arrived)
    }

    /// Whether the same request may get another response a moment later.
    pub fn passes(&self) -> bool {
        match self {
            CallResult::Http { status, .. } | CallResult::TooLarge { status } => passes(*status),
            CallResult::Refused | CallResult::Broken => true,
            CallResult::Accepted
            | CallResult::Lost
            | CallResult::TimedOut { .. }
            | CallResult::Cancelled
            | CallResult::NotCalled(_) => false,
        }
    }
}

/// The meaning of a response: the outcome to report and, on success, the result.
#[derive(Debug)]
pub struct Verdict {
    pub outcome: ReportedOutcome,
    pub result: Option<Box<RawValue>>,
    /// A retry at this service would fail the same way, but another service may succeed. The outcome is not `retryable`
    /// then.
    pub try_elsewhere: bool,
    /// The response is not the service's own: a web page instead of JSON.
    pub unhealthy: bool,
}

impl Verdict {
    /// A verdict without further signs.
    pub fn of(outcome: ReportedOutcome, result: Option<Box<RawValue>>) -> Self {
        Self { outcome, result, try_elsewhere: false, unhealthy: false }
    }
}

struct Failure<'a> {
    service: &'a ServiceId,
    code: ErrorCode,
    message: String,
    details: Option<Box<RawValue>>,
    again: RetryScope,
    untouched: bool,
    unhealthy: bool,
    retry_after_ms: Option<u64>,
}

impl<'a> Failure<'a> {
    fn new(service: &'a ServiceId, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            service,
            code,
            message: message.into(),
            details: None,
            again: RetryScope::Nowhere,
            untouched: false,
            unhealthy: false,
            retry_after_ms: None,
        }
    }

    /// Not a valid response; another service may give one.
    fn invalid(service: &'a ServiceId, message: impl Into<String>) -> Self {
        Self { again: RetryScope::Elsewhere, ..Self::new(service, ErrorCode::UpstreamInvalidResponse, message) }
    }

    fn verdict(self) -> Verdict {
        let error = ContextError {
            code: self.code,
            message: self.message,
            service: Some(self.service.clone()),
            details: self.details,
        };
        let Failure { again, untouched, unhealthy, retry_after_ms, .. } = self;
        let retryable = again == RetryScope::Anywhere;
        let outcome = ReportedOutcome::Failed { error, retryable, untouched, retry_after_ms };
        Verdict { outcome, result: None, try_elsewhere: again == RetryScope::Elsewhere, unhealthy }
    }
}

/// A failure that the service itself explained.
pub fn reported(service: &ServiceId, message: &str, details: Option<Box<RawValue>>, retryable: bool) -> Verdict {
    let again = if retryable { RetryScope::Anywhere } else { RetryScope::Nowhere };
    let details = details.and_then(|raw| words::details(raw.get()));
    let message = clean(message, MAX_MESSAGE);
    Failure { details, again, ..Failure::new(service, ErrorCode::UpstreamError, message) }.verdict()
}

/// The cause that a service states in the body of an error response, in one line.
pub fn stated_cause(body: &[u8]) -> Option<String> {
    words::of_body(body).message
}

/// What a response states in `usage`; `None` without it, or if it has another form. The rest of the response need not
/// be acceptable: what failed may have cost something.
///
/// # Errors
/// The faults of its members.
pub fn stated_usage(answer: &CallResult) -> Result<Option<StatedUsage>, Vec<Fault>> {
    let CallResult::Http { status, body, .. } = answer else { return Ok(None) };
    // Most responses have none, and need not be read twice.
    let may_have = *status != 202 && body.windows(USAGE.len()).any(|part| part == USAGE);
    let text = if may_have { json_repair::json(body) } else { None };
    let Some(text) = text else { return Ok(None) };
    let usage = Object::new(&text, "#").ok().and_then(|mut answer| answer.raw("usage"));
    usage.map_or(Ok(None), |usage| StatedUsage::read_known(usage, "#/usage"))
}

/// A response that is not acceptable.
pub fn unacceptable(service: &ServiceId, message: &str) -> Verdict {
    Failure::invalid(service, message).verdict()
}

/// Another media type instead of JSON: a page in the service's place. An empty response may be the service's own.
pub fn not_json(service: &ServiceId, body: &[u8]) -> Verdict {
    let message = "The service's response is not application/json.";
    Failure { unhealthy: !body.is_empty(), ..Failure::invalid(service, message) }.verdict()
}

/// Interprets a response. `service` gave it; `schema` is what its result must match.
pub fn read(service: &ServiceId, answer: CallResult, schema: Option<&Schema>) -> Verdict {
    match answer {
        CallResult::Accepted => Verdict::of(ReportedOutcome::Accepted { lease_ms: None, location: None }, None),
        CallResult::TooLarge { status } if !(200..300).contains(&status) => refusal(service, status, b"", None),
        CallResult::TooLarge { .. } => {
            Failure::invalid(service, format!("The service's response is larger than {MAX_ANSWER_BYTES} bytes."))
                .verdict()
        }
        CallResult::Http { status: 202, location, body, .. } => {
            let lease_ms = json_repair::json(&body).and_then(|text| promised_ms(&text));
            let location = location.filter(|location| location.len() <= MAX_LOCATION_BYTES);
            Verdict::of(ReportedOutcome::Accepted { lease_ms, location }, None)
        }
        CallResult::Http { status: 200, is_json, body, .. } => success(service, is_json, &body, schema),
        CallResult::Http { status: 201..=299, .. } => {
            Failure::invalid(service, "The service responded with a status that carries no result.").verdict()
        }
        CallResult::Http { status, retry_after_ms, body, .. } => refusal(service, status, &body, retry_after_ms),
        CallResult::NotCalled(reason) => not_called(service, &reason),
        CallResult::Lost
        | CallResult::Refused
        | CallResult::Broken
        | CallResult::TimedOut { .. }
        | CallResult::Cancelled => no_response(service, &answer),
    }
}

/// A call without a response.
fn no_response(service: &ServiceId, answer: &CallResult) -> Verdict {
    let (code, again, message) = match answer {
        CallResult::Lost => (
            ErrorCode::OutcomeUnknown,
            RetryScope::Anywhere,
            "The service's connection dropped and it did not resume this work; whether it was done is unknown.",
        ),
        CallResult::Refused => {
            (ErrorCode::ServiceUnavailable, RetryScope::Anywhere, "The service could not be reached.")
        }
        CallResult::TimedOut { deadline: true } => (
            ErrorCode::DeadlineExceeded,
            RetryScope::Nowhere,
            "The service did not respond before the context's deadline.",
        ),
        CallResult::TimedOut { deadline: false } => {
            (ErrorCode::UpstreamTimeout, RetryScope::Anywhere, "The service did not respond in time.")
        }
        CallResult::Cancelled => {
            (ErrorCode::Cancelled, RetryScope::Nowhere, "The context was cancelled during the call.")
        }
        _ => (
            ErrorCode::ServiceUnavailable,
            RetryScope::Anywhere,
            "The connection to the service broke before its response was complete.",
        ),
    };
    let untouched = matches!(answer, CallResult::Refused);
    Failure { again, untouched, ..Failure::new(service, code, message) }.verdict()
}

/// A call that was not made. Another service may be callable.
fn not_called(service: &ServiceId, reason: &NotCalled) -> Verdict {
    let (code, reason) = match reason {
        NotCalled::Address(refusal) => (ErrorCode::AddressRefused, format!("{refusal}.")),
        NotCalled::Token => {
            (ErrorCode::ServiceUnavailable, "its authorization server did not issue a token.".to_string())
        }
        NotCalled::Document => {
            (ErrorCode::Internal, "its configuration could not be read, or has changed.".to_string())
        }
        NotCalled::Secrets => (
            ErrorCode::Internal,
            "its credentials could not be decrypted. The reason is in the gateway's log.".to_string(),
        ),
    };
    let message = format!("The service was not called: {reason}");
    Failure { again: RetryScope::Anywhere, untouched: true, ..Failure::new(service, code, message) }.verdict()
}

/// `{"lease_seconds": 30}`: the service promises to report within this time.
fn promised_ms(text: &str) -> Option<u64> {
    let seconds = Object::new(text, "#").ok()?.integer("lease_seconds", LEASE_SECONDS)?;
    Some(seconds * 1000)
}

/// An error response. What the service itself states takes precedence over the status.
fn refusal(service: &ServiceId, status: u16, body: &[u8], retry_after_ms: Option<u64>) -> Verdict {
    let FailureText { message, details, retryable, again: stated_cause } = words::of_body(body);
    let says_undone = retry_after_ms.is_some() || retryable == Some(true);
    let StatusMeaning { code, again, untouched } = meaning(status, says_undone);
    let again = match (retryable, stated_cause) {
        (Some(false), _) => RetryScope::Nowhere,
        (_, Some(RetryScope::Elsewhere)) => RetryScope::Elsewhere,
        (Some(true), _) => RetryScope::Anywhere,
        (None, _) => again,
    };
    let message = match message {
        Some(message) => format!("The service responded with status {status}: {message}"),
        None => format!("The service responded with status {status}."),
    };
    Failure { details, again, untouched, retry_after_ms, ..Failure::new(service, code, message) }.verdict()
}

fn success(service: &ServiceId, is_json: bool, body: &[u8], schema: Option<&Schema>) -> Verdict {
    let invalid = |message: &str| unacceptable(service, message);
    if !is_json {
        return not_json(service, body);
    }
    let Some(text) = json_repair::json(body) else {
        return invalid("The service's response is not acceptable JSON.");
    };
    let Ok(mut answer) = Object::new(&text, "#") else {
        return invalid("The service's response must be an object with a result or an error.");
    };
    let error = answer.raw("error");
    if let Some(error) = error.filter(|error| !is_nothing(error)) {
        return own_error(service, error);
    }
    if let Some(request) = answer.raw("input_required") {
        return match acceptable_request(request) {
            Ok(()) => Verdict::of(ReportedOutcome::InputRequired { request: request.to_owned(), state: None }, None),
            Err(message) => invalid(message),
        };
    }
    match (answer.raw_or_null("result"), error) {
        (Some(result), _) => fitting(service, result, schema),
        (None, Some(_)) => invalid("The service's error has neither a code nor a message."),
        (None, None) => invalid("The service's response has neither a result, nor an error, nor a request for input."),
    }
}

fn is_nothing(error: &RawValue) -> bool {
    // A large one is not empty.
    error.get().len() <= words::MAX_READ_BYTES
        && serde_json::from_str(error.get()).is_ok_and(|error| words::is_nothing(&error))
}

/// An error in an otherwise valid response. The service states itself whether to retry.
fn own_error(service: &ServiceId, error: &RawValue) -> Verdict {
    let FailureText { message, details, retryable, again: stated_cause } = words::of_error(error);
    let again = match (retryable, stated_cause) {
        (Some(true), _) => RetryScope::Anywhere,
        (None, Some(RetryScope::Elsewhere)) => RetryScope::Elsewhere,
        (Some(false) | None, _) => RetryScope::Nowhere,
    };
    let message = message.unwrap_or_else(|| "The service reported an error without a message.".into());
    Failure { details, again, ..Failure::new(service, ErrorCode::UpstreamError, message) }.verdict()
}

/// A result, if it matches the capability's output schema.
pub fn fitting(service: &ServiceId, result: &RawValue, schema: Option<&Schema>) -> Verdict {
    if let Some(schema) = schema.filter(|schema| !schema.accepts_all()) {
        let text = schema.needed(result.get());
        if tree_bytes(&text) > MAX_TREE_BYTES {
            let message =
                "The service's result has too many parts to be checked against the capability's output schema.";
            return unacceptable(service, message);
        }
        let faults = schema.check(&text).err().unwrap_or_default().into_iter();
        let faults: Vec<Fault> =
            faults.map(|fault| Fault { pointer: format!("#{}", fault.pointer), ..fault }).collect();
        if !faults.is_empty() {
            let details = serde_json::to_string(&faults).ok().and_then(|text| RawValue::from_string(text).ok());
            let message = "The service's result does not match the capability's output schema.";
            return Failure { details, ..Failure::invalid(service, message) }.verdict();
        }
    }
    Verdict::of(ReportedOutcome::Succeeded, Some(result.to_owned()))
}

/// `{"message": "…", "schema": {…}}`: the question, and what the answer must match.
fn acceptable_request(request: &RawValue) -> Result<(), &'static str> {
    if request.get().len() > MAX_INPUT_REQUEST_BYTES {
        return Err("The service's request for input is too large.");
    }
    let mut members =
        Object::new(request.get(), "#").map_err(|_| "The service's request for input is not an object.")?;
    if members.string("message", 1..=2000).is_none() {
        return Err("The service's request for input has no message.");
    }
    match members.raw("schema").map(|schema| Schema::compile(schema.get())) {
        Some(Err(_)) => Err("The schema in the service's request for input cannot be compiled."),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
