//! Contexts as tasks (extension `io.modelcontextprotocol/tasks`): a call that continues is returned as a handle, and
//! the handle is the context's id.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::call_result::{self, FailureView};
use super::elicitation::Elicitation;
use super::responses::{quoted, result};
use crate::base::json::Object;
use crate::base::time::Timestamp;
use crate::context::status::Status;

/// The declaration of clients with task support.
pub fn extension() -> Value {
    json!({"extensions": {"io.modelcontextprotocol/tasks": {}}})
}

/// The code of a context whose service reported the error itself.
const SAYS_ERROR: &str = "upstream_error";
/// The recommended polling interval, in milliseconds.
const POLL_MS: u64 = 1_000;

/// A context read as a task.
#[derive(Deserialize)]
pub struct Task<'a> {
    id: &'a str,
    status: Status,
    #[serde(borrow, default)]
    error: Option<FailureView<'a>>,
    created_at: &'a str,
    updated_at: &'a str,
    #[serde(default)]
    expires_at: &'a str,
    #[serde(default)]
    history: Vec<Step>,
    #[serde(borrow, default)]
    input_request: Option<&'a RawValue>,
    #[serde(borrow, default)]
    progress: Option<ProgressView<'a>>,
    /// The result is that of a tool.
    #[serde(default)]
    tool_result: bool,
}

#[derive(Deserialize)]
struct Step {
    status: Status,
}

#[derive(Deserialize)]
struct ProgressView<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The task status of a context. A tool that ran and reported an error itself has a result; other failures have none.
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
    /// Reads a context's public view.
    pub fn read(view: &'a str) -> Option<Self> {
        serde_json::from_str(view).ok()
    }

    /// Whether it requests input from its user.
    pub fn asks(&self) -> bool {
        self.status == Status::InputRequired
    }

    /// The context's id.
    pub fn id(&self) -> &'a str {
        self.id
    }

    /// When its deadline passes.
    pub fn expires_at(&self) -> Option<Timestamp> {
        Timestamp::parse(self.expires_at)
    }

    /// What it currently asks for.
    pub fn question(&self) -> Elicitation<'a> {
        let asked = self.history.iter().filter(|step| step.status == Status::InputRequired).count();
        Elicitation::new(asked, self.input_request)
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
        let progress = self.progress.as_ref().filter(|_| !self.status.is_final()).map(|progress| progress.data.get());
        let message = self.error.as_ref().map(|error| error.message.as_ref()).or(progress);
        if let Some(message) = message {
            text.push_str(&format!(r#","statusMessage":{}"#, quoted(message)));
        }
        text
    }

    /// Its members by revision 2025-11-25, without braces: there, an error of the tool itself is a failure.
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

    /// The response to a call that continues; it is stored by now.
    pub fn created(&self, ttl_ms: u64) -> String {
        let plain = result(false, &[&self.members(ttl_ms)]);
        plain.replacen(r#""resultType":"complete""#, r#""resultType":"task""#, 1)
    }

    /// Everything about it: its result, its error, or its question. `view` is what it was read from.
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
