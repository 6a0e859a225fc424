//! Contexts as tasks (extension `io.modelcontextprotocol/tasks`): a call that goes on is a handle, and the handle is the
//! context's id.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::lifecycle::Status;
use super::super::time::Timestamp;
use super::outcome::{self, Broke};
use super::question::Question;
use super::reply::{quoted, result};

/// What a client declares that knows tasks.
pub fn extension() -> Value {
    json!({"extensions": {"io.modelcontextprotocol/tasks": {}}})
}

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
            "input_required" => format!(r#""inputRequests":{}"#, self.question().requests()),
            _ => String::new(),
        };
        result(false, &[&self.members(ttl_ms), &more])
    }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
