//! Contexts as tasks (extension `io.modelcontextprotocol/tasks`): a call that goes on is a handle, and the handle is the
//! context's id.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::call_result::{self, Broke};
use super::elicitation::Question;
use super::responses::{quoted, result};
use crate::base::json::Object;
use crate::base::time::Timestamp;
use crate::context::status::Status;

/// What a client declares that knows tasks.
pub fn extension() -> Value {
    json!({"extensions": {"io.modelcontextprotocol/tasks": {}}})
}

/// The code of a context whose service says itself that it failed.
const SAYS_ERROR: &str = "upstream_error";
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
    expires_at: &'a str,
    #[serde(default)]
    history: Vec<Step>,
    #[serde(borrow, default)]
    input_request: Option<&'a RawValue>,
    #[serde(borrow, default)]
    progress: Option<Told<'a>>,
    /// What it gave is a tool's result already.
    #[serde(default)]
    tool_result: bool,
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

/// The word for a context's status. A tool that ran and says itself that it failed has a result; what else fails has none.
fn word(status: Status, code: Option<&str>) -> &'static str {
    match status {
        Status::Failed if code == Some(SAYS_ERROR) => "completed",
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

    pub fn id(&self) -> &'a str {
        self.id
    }

    /// Its time is over then.
    pub fn expires_at(&self) -> Option<Timestamp> {
        Timestamp::parse(self.expires_at)
    }

    /// What it asks for now.
    pub fn question(&self) -> Question<'a> {
        let asked = self.history.iter().filter(|step| step.status == Status::InputRequired).count();
        Question::new(asked, self.input_request)
    }

    fn word(&self) -> &'static str {
        word(self.status, self.error.as_ref().map(|error| error.code.as_ref()))
    }

    fn members(&self, ttl_ms: u64) -> String {
        let mut text = format!(
            r#""taskId":"{}","status":"{}","createdAt":"{}","lastUpdatedAt":"{}","ttlMs":{ttl_ms},"pollIntervalMs":{POLL_MS}"#,
            self.id,
            self.word(),
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

    /// Its members as revision 2025-11-25 has them, without braces: there an error of the tool itself is a failure.
    pub fn of_2025(&self, given: Option<&str>, ttl_ms: u64) -> String {
        let says_error = || Object::new(given?, "#").ok()?.boolean("isError");
        let word = match self.status {
            Status::Failed => "failed",
            Status::Completed if self.tool_result && says_error() == Some(true) => "failed",
            status => word(status, None),
        };
        let members = self.members(ttl_ms).replacen(
            &format!(r#""status":"{}""#, self.word()),
            &format!(r#""status":"{word}""#),
            1,
        );
        members.replacen(r#""ttlMs":"#, r#""ttl":"#, 1).replacen(r#""pollIntervalMs":"#, r#""pollInterval":"#, 1)
    }

    /// The answer to a call that goes on. It is stored by now.
    pub fn created(&self, ttl_ms: u64) -> String {
        let plain = result(false, &[&self.members(ttl_ms)]);
        plain.replacen(r#""resultType":"complete""#, r#""resultType":"task""#, 1)
    }

    /// All there is to know of it: its result, its error, or what it asks for. `view` is what it was read from.
    pub fn detailed(&self, view: &str, given: Option<&str>, ttl_ms: u64) -> String {
        result(false, &[&self.state(view, given, ttl_ms)])
    }

    /// The members of that, without braces.
    pub fn state(&self, view: &str, given: Option<&str>, ttl_ms: u64) -> String {
        let more = match self.word() {
            "completed" => format!(r#""result":{}"#, call_result::of(false, self.id, view, given)),
            "failed" => {
                let message = self.error.as_ref().map_or_else(
                    || "The call failed.".to_string(),
                    |error| format!("{}: {}", error.code, error.message),
                );
                format!(r#""error":{{"code":-32603,"message":{}}}"#, quoted(&message))
            }
            "input_required" => format!(r#""inputRequests":{}"#, self.question().requests()),
            _ => String::new(),
        };
        [self.members(ttl_ms), more].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests;
