//! What a service's answer means.
//!
//! An answer is hostile until checked: only JSON of bounded size and depth counts. What a service said of a failure is
//! kept in `details`, and its cause in the error's message; both are bounded. What stands in an answer says nothing of
//! the service's health: the caller's parameters may have provoked it.

mod openai;
mod words;

use std::ops::RangeInclusive;

use serde_json::value::RawValue;

use crate::base::json::{Fault, Object};
use crate::base::json_repair;
use crate::base::tree_size::{MAX_TREE_BYTES, tree_bytes};
use crate::context::status::ErrorCode;
use crate::context::{ContextError, Outcome};
use crate::http::egress_address::Refusal;
use crate::services::schema::Schema;

pub use openai::read_openai;
pub use words::{MAX_DETAILS_BYTES, MAX_MESSAGE, clean};

use crate::context::http_status::{Again, Meaning, meaning, nothing_arrived, passes};
use words::Words;

/// How soon a service may promise to report on work it does in the background, in seconds.
pub const LEASE_SECONDS: RangeInclusive<u64> = 5..=86_400;
/// The largest request for input, in bytes.
pub const MAX_INPUT_REQUEST_BYTES: usize = 16 * 1024;
/// The largest answer that is kept, in bytes.
pub const MAX_ANSWER_BYTES: usize = 10 * 1024 * 1024;
/// The largest answer of which nothing is kept, and the largest message beside an answer, in bytes.
pub const MAX_ASIDE_BYTES: usize = 1024 * 1024;

/// The longest address of work in the background that is kept, in bytes.
const MAX_LOCATION_BYTES: usize = 2048;

/// What came back, before anybody looked into it.
#[derive(Debug, Clone)]
pub enum Answer {
    Http {
        status: u16,
        /// Whether its media type is JSON's, or leaves it open and the body begins as JSON does.
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

    /// Whether the request is known not to have reached its receiver.
    pub fn nothing_arrived(&self) -> bool {
        matches!(self, Answer::Refused) || self.status().is_some_and(nothing_arrived)
    }

    /// Whether the same request may be answered otherwise a moment later.
    pub fn passes(&self) -> bool {
        match self {
            Answer::Http { status, .. } | Answer::TooLarge { status } => passes(*status),
            Answer::Refused | Answer::Broken => true,
            Answer::TakenOn | Answer::Lost | Answer::TimedOut { .. } | Answer::Cancelled | Answer::NotCalled(_) => {
                false
            }
        }
    }
}

/// A verdict on an answer: the outcome to report and, when it succeeded, the result.
#[derive(Debug)]
pub struct Verdict {
    pub outcome: Outcome,
    pub result: Option<Box<RawValue>>,
    /// It failed, and asked again this service would say the same; another need not. The outcome is not `retryable` then.
    pub elsewhere: bool,
    /// The answer is not the service's own: a web page came where JSON was due.
    pub unwell: bool,
}

impl Verdict {
    pub fn of(outcome: Outcome, result: Option<Box<RawValue>>) -> Self {
        Self { outcome, result, elsewhere: false, unwell: false }
    }
}

struct Failure<'a> {
    service: &'a str,
    code: ErrorCode,
    message: String,
    details: Option<Box<RawValue>>,
    again: Again,
    untouched: bool,
    unwell: bool,
    retry_after_ms: Option<u64>,
}

impl<'a> Failure<'a> {
    fn new(service: &'a str, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            service,
            code,
            message: message.into(),
            details: None,
            again: Again::Nowhere,
            untouched: false,
            unwell: false,
            retry_after_ms: None,
        }
    }

    /// Something that is no answer; another service may give one.
    fn invalid(service: &'a str, message: impl Into<String>) -> Self {
        Self { again: Again::Elsewhere, ..Self::new(service, ErrorCode::UpstreamInvalidResponse, message) }
    }

    fn verdict(self) -> Verdict {
        let error = ContextError {
            code: self.code,
            message: self.message,
            service: Some(self.service.into()),
            details: self.details,
        };
        let Failure { again, untouched, unwell, retry_after_ms, .. } = self;
        let retryable = again == Again::Anywhere;
        let outcome = Outcome::Failed { error, retryable, untouched, retry_after_ms };
        Verdict { outcome, result: None, elsewhere: again == Again::Elsewhere, unwell }
    }
}

/// A failure of which the service itself said what was wrong.
pub fn reported(service: &str, message: &str, details: Option<Box<RawValue>>, retryable: bool) -> Verdict {
    let again = if retryable { Again::Anywhere } else { Again::Nowhere };
    let details = details.and_then(|raw| words::details(raw.get()));
    let message = clean(message, MAX_MESSAGE);
    Failure { details, again, ..Failure::new(service, ErrorCode::UpstreamError, message) }.verdict()
}

/// What a service says of its failure in the body of an answer with an error status, in one line.
pub fn said(body: &[u8]) -> Option<String> {
    words::of_body(body).message
}

/// An answer that is none.
pub fn unacceptable(service: &str, message: &str) -> Verdict {
    Failure::invalid(service, message).verdict()
}

/// Another media type came where JSON was due: a page in the service's place. An empty answer may be the service's own.
pub fn not_json(service: &str, body: &[u8]) -> Verdict {
    let message = "The service's answer is not application/json.";
    Failure { unwell: !body.is_empty(), ..Failure::invalid(service, message) }.verdict()
}

/// Reads an answer. `service` is who gave it; `schema` what its result must match.
#[expect(clippy::too_many_lines, reason = "one arm for each answer")]
pub fn read(service: &str, answer: Answer, schema: Option<&Schema>) -> Verdict {
    match answer {
        Answer::TakenOn => {
            Verdict::of(Outcome::Accepted { lease_ms: None, location: None }, None)
        }
        Answer::Lost => Failure {
            again: Again::Anywhere,
            ..Failure::new(
                service,
                ErrorCode::OutcomeUnknown,
                "The service's connection dropped, and it did not come back with this work; whether it did it is not known.",
            )
        }
        .verdict(),
        Answer::Refused => Failure {
            again: Again::Anywhere,
            untouched: true,
            ..Failure::new(service, ErrorCode::ServiceUnavailable, "The service could not be reached.")
        }
        .verdict(),
        Answer::Broken => Failure {
            again: Again::Anywhere,
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
            again: Again::Anywhere,
            ..Failure::new(service, ErrorCode::UpstreamTimeout, "The service did not answer in time.")
        }
        .verdict(),
        Answer::Cancelled => Failure::new(service, ErrorCode::Cancelled, "It was cancelled while it ran.").verdict(),
        Answer::NotCalled(NotCalled::Address(refusal)) => Failure {
            // Another service may be where it may be called.
            again: Again::Anywhere,
            untouched: true,
            ..Failure::new(service, ErrorCode::AddressRefused, format!("The service was not called: {refusal}."))
        }
        .verdict(),
        Answer::NotCalled(NotCalled::Token) => Failure {
            again: Again::Anywhere,
            untouched: true,
            ..Failure::new(
                service,
                ErrorCode::ServiceUnavailable,
                "The service was not called: its authorization server gave no token.",
            )
        }
        .verdict(),
        Answer::NotCalled(NotCalled::Secrets) => Failure {
            again: Again::Anywhere,
            untouched: true,
            ..Failure::new(
                service,
                ErrorCode::Internal,
                "The service was not called: its secrets could not be opened. Who runs this gateway finds why in its log.",
            )
        }
        .verdict(),
        Answer::TooLarge { status } if !(200..300).contains(&status) => refusal(service, status, b"", None),
        Answer::TooLarge { .. } => {
            Failure::invalid(service, format!("The service's answer is larger than {MAX_ANSWER_BYTES} bytes.")).verdict()
        }
        Answer::Http { status: 202, location, body, .. } => {
            let lease_ms = json_repair::json(&body).and_then(|text| promised_ms(&text));
            let location = location.filter(|location| location.len() <= MAX_LOCATION_BYTES);
            Verdict::of(Outcome::Accepted { lease_ms, location }, None)
        }
        Answer::Http { status: 200, is_json, body, .. } => success(service, is_json, &body, schema),
        Answer::Http { status: 201..=299, .. } => {
            Failure::invalid(service, "The service answered with a status that carries no result.").verdict()
        }
        Answer::Http { status, retry_after_ms, body, .. } => refusal(service, status, &body, retry_after_ms),
    }
}

/// `{"lease_seconds": 30}`: the service promises to report within this.
fn promised_ms(text: &str) -> Option<u64> {
    let seconds = Object::new(text, "#").ok()?.integer("lease_seconds", LEASE_SECONDS)?;
    Some(seconds * 1000)
}

/// An answer with the status of an error. What the service says of it itself counts for more than the status.
fn refusal(service: &str, status: u16, body: &[u8], retry_after_ms: Option<u64>) -> Verdict {
    let Words { message, details, retryable, again: said } = words::of_body(body);
    let says_undone = retry_after_ms.is_some() || retryable == Some(true);
    let Meaning { code, again, untouched } = meaning(status, says_undone);
    let again = match (retryable, said) {
        (Some(false), _) => Again::Nowhere,
        (_, Some(Again::Elsewhere)) => Again::Elsewhere,
        (Some(true), _) => Again::Anywhere,
        (None, _) => again,
    };
    let message = match message {
        Some(message) => format!("The service answered with status {status}: {message}"),
        None => format!("The service answered with status {status}."),
    };
    Failure { details, again, untouched, retry_after_ms, ..Failure::new(service, code, message) }.verdict()
}

fn success(service: &str, is_json: bool, body: &[u8], schema: Option<&Schema>) -> Verdict {
    let invalid = |message: &str| unacceptable(service, message);
    if !is_json {
        return not_json(service, body);
    }
    let Some(text) = json_repair::json(body) else {
        return invalid("The service's answer is not acceptable JSON.");
    };
    let Ok(mut answer) = Object::new(&text, "#") else {
        return invalid("The service's answer must be an object with a result or an error.");
    };
    let error = answer.raw("error");
    if let Some(error) = error.filter(|error| !is_nothing(error)) {
        return own_error(service, error);
    }
    if let Some(request) = answer.raw("input_required") {
        return match acceptable_request(request) {
            Ok(()) => Verdict::of(Outcome::InputRequired { request: request.to_owned(), state: None }, None),
            Err(message) => invalid(message),
        };
    }
    match (answer.raw_or_null("result"), error) {
        (Some(result), _) => fitting(service, result, schema),
        (None, Some(_)) => invalid("The service's error says neither a code nor a message."),
        (None, None) => invalid("The service's answer has neither a result, nor an error, nor a request for input."),
    }
}

fn is_nothing(error: &RawValue) -> bool {
    // What is large says something.
    error.get().len() <= words::MAX_READ_BYTES
        && serde_json::from_str(error.get()).is_ok_and(|error| words::is_nothing(&error))
}

/// An error that a service reports in an answer that is otherwise well. It says itself whether to try again.
fn own_error(service: &str, error: &RawValue) -> Verdict {
    let Words { message, details, retryable, again: said } = words::of_error(error);
    let again = match (retryable, said) {
        (Some(true), _) => Again::Anywhere,
        (None, Some(Again::Elsewhere)) => Again::Elsewhere,
        (Some(false) | None, _) => Again::Nowhere,
    };
    let message = message.unwrap_or_else(|| "The service reported an error without a message.".into());
    Failure { details, again, ..Failure::new(service, ErrorCode::UpstreamError, message) }.verdict()
}

/// A result, when it matches what the capability promises.
pub fn fitting(service: &str, result: &RawValue, schema: Option<&Schema>) -> Verdict {
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
    Verdict::of(Outcome::Succeeded, Some(result.to_owned()))
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

#[cfg(test)]
mod tests;
