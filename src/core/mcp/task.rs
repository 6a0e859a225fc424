//! Contexts as tasks (extension `io.modelcontextprotocol/tasks`): a call that goes on is a handle, and the handle is the
//! context's id.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::json::Object;
use super::super::lifecycle::Status;
use super::outcome::{self, Broke};
use super::reply::{quoted, result};

/// What a client declares that knows tasks.
pub const EXTENSION: &str = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
/// What a client declares that can ask its user.
pub const ELICITATION: &str = r#"{"elicitation":{}}"#;
/// How often it is worth looking, in milliseconds.
const POLL_MS: u64 = 1_000;

#[derive(Deserialize)]
pub struct Task<'a> {
    id: &'a str,
    status: Status,
    #[serde(borrow, default)]
    error: Option<Broke<'a>>,
    created_at: &'a str,
    updated_at: &'a str,
    #[serde(default)]
    history: Vec<Step>,
    #[serde(borrow, default)]
    input_request: Option<&'a RawValue>,
    #[serde(borrow, default)]
    progress: Option<Told<'a>>,
}

#[derive(Deserialize)]
struct Step {
    status: Status,
}

#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What a client says to what it was asked.
#[derive(Debug, PartialEq)]
pub enum Answered {
    /// The input, as JSON.
    With(String),
    /// Its user does not want to.
    Declined,
    /// Nothing of what is asked now.
    Not,
}

/// The word for a context's status.
fn word(status: Status) -> &'static str {
    match status {
        Status::Created | Status::Validated | Status::Queued | Status::Executing => "working",
        Status::InputRequired => "input_required",
        Status::Completed => "completed",
        Status::Failed | Status::TimedOut => "failed",
        Status::Cancelled => "cancelled",
    }
}

impl<'a> Task<'a> {
    /// From a context as it is shown.
    pub fn read(view: &'a str) -> Option<Self> {
        serde_json::from_str(view).ok()
    }

    /// Whether its user is asked for something.
    pub fn asks(&self) -> bool {
        self.status == Status::InputRequired
    }

    /// Each question has a name of its own over the task's life.
    fn question(&self) -> String {
        let asked = self.history.iter().filter(|step| step.status == Status::InputRequired).count();
        format!("input-{asked}")
    }

    fn members(&self, ttl_ms: u64) -> String {
        let mut text = format!(
            r#""taskId":"{}","status":"{}","createdAt":"{}","lastUpdatedAt":"{}","ttlMs":{ttl_ms},"pollIntervalMs":{POLL_MS}"#,
            self.id,
            word(self.status),
            self.created_at,
            self.updated_at
        );
        let told = self.progress.as_ref().filter(|_| !self.status.is_final()).map(|told| told.data.get());
        let message = self.error.as_ref().map(|error| error.message.as_ref()).or(told);
        if let Some(message) = message {
            text.push_str(&format!(r#","statusMessage":{}"#, quoted(message)));
        }
        text
    }

    /// The answer to a call that goes on. It is stored by now.
    pub fn created(&self, ttl_ms: u64) -> String {
        let plain = result(false, &[&self.members(ttl_ms)]);
        plain.replacen(r#""resultType":"complete""#, r#""resultType":"task""#, 1)
    }

    /// All there is to know of it: its result, its error, or what it asks for. `view` is what it was read from.
    pub fn detailed(&self, view: &str, given: Option<&str>, ttl_ms: u64) -> String {
        let more = match word(self.status) {
            "completed" => format!(r#""result":{}"#, outcome::of(false, self.id, view, given)),
            "failed" => {
                let message = self.error.as_ref().map_or_else(
                    || "The call failed.".to_string(),
                    |error| format!("{}: {}", error.code, error.message),
                );
                format!(r#""error":{{"code":-32603,"message":{}}}"#, quoted(&message))
            }
            "input_required" => format!(r#""inputRequests":{{"{}":{}}}"#, self.question(), self.elicitation()),
            _ => String::new(),
        };
        result(false, &[&self.members(ttl_ms), &more])
    }

    /// The message and the schema of what the service asks for.
    fn asked(&self) -> (String, Option<&'a RawValue>) {
        let mut request = self.input_request.and_then(|request| Object::new(request.get(), "#").ok());
        let message = request.as_mut().and_then(|request| request.string("message", 0..=10_000));
        let schema = request.as_mut().and_then(|request| request.raw("schema"));
        (message.unwrap_or_else(|| "The service asks for input.".into()), schema)
    }

    /// A form is an object; anything else is its one member.
    fn is_form(schema: Option<&RawValue>) -> bool {
        let of_type = schema.and_then(|schema| Object::new(schema.get(), "#").ok()?.raw("type"));
        of_type.is_some_and(|of_type| of_type.get() == r#""object""#)
    }

    fn elicitation(&self) -> String {
        let (message, schema) = self.asked();
        let form = match schema {
            Some(schema) if Self::is_form(Some(schema)) => schema.get().to_string(),
            schema => {
                let schema = schema.map_or(r#"{"type":"string"}"#, RawValue::get);
                format!(r#"{{"type":"object","properties":{{"input":{schema}}},"required":["input"]}}"#)
            }
        };
        let message = quoted(&message);
        format!(
            r#"{{"method":"elicitation/create","params":{{"mode":"form","message":{message},"requestedSchema":{form}}}}}"#
        )
    }

    /// What `inputResponses` say to the question that is open. Others are passed over.
    pub fn answered(&self, responses: &str) -> Answered {
        let response = Object::new(responses, "#").ok().and_then(|mut all| all.raw(&self.question()));
        let Some(mut response) = response.and_then(|response| Object::new(response.get(), "#").ok()) else {
            return Answered::Not;
        };
        if response.string("action", 1..=20).as_deref() != Some("accept") {
            return Answered::Declined;
        }
        let Some(content) = response.raw("content") else { return Answered::Not };
        if Self::is_form(self.asked().1) {
            return Answered::With(content.get().into());
        }
        match Object::new(content.get(), "#").ok().and_then(|mut content| content.raw_or_null("input")) {
            Some(input) => Answered::With(input.get().into()),
            None => Answered::Not,
        }
    }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
