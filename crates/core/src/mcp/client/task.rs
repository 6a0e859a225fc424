//! A task at a server. A tool that can only be called as a task is started, polled until it ends or requests input, and
//! its result is fetched: by another request from a server of 2025-11-25, with the task's state from one of 2026. Tasks
//! of callers are the gateway's own and are not forwarded.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use super::super::client_capabilities::TASKS;
use super::response::{Response, RpcError};
use crate::base::json::Object;

/// The longest accepted id, in bytes.
const MAX_ID_BYTES: usize = 1024;
/// The polling interval in milliseconds: the default, the minimum and the maximum.
const USUAL_POLL_MS: u64 = 1_000;
const MIN_POLL_MS: u64 = 50;
const MAX_POLL_MS: u64 = 10_000;

/// The metadata of results and requests that belong to a task.
const RELATED: &str = "io.modelcontextprotocol/related-task";

/// A task with its last known state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: String,
    /// It has ended or requests input: both are in its result.
    pub is_ready: bool,
    /// When to poll again, in milliseconds.
    pub poll_ms: u64,
}

/// Whether a tool must be called as a task, by its definition.
pub fn is_required(tool: Option<&RawValue>) -> bool {
    let support = || {
        let execution = Object::new(tool?.get(), "#").ok()?.raw_or_null("execution")?;
        Object::new(execution.get(), "#").ok()?.string("taskSupport", 1..=16)
    };
    support().as_deref() == Some("required")
}

impl Job {
    /// The task that a call started; `None` if it returned something else.
    pub fn begun(result: &RawValue) -> Option<Self> {
        Self::read(Object::new(result.get(), "#").ok()?.raw_or_null("task")?)
    }

    /// Reads the response to `tasks/get`.
    pub fn read(task: &RawValue) -> Option<Self> {
        let mut members = Object::new(task.get(), "#").ok()?;
        let id = members.string("taskId", 1..=MAX_ID_BYTES)?;
        let status = members.string("status", 1..=32)?;
        let is_ready = match status.as_str() {
            "working" => false,
            "input_required" | "completed" | "failed" | "cancelled" => true,
            _ => return None,
        };
        let poll_ms = ["pollInterval", "pollIntervalMs"].into_iter().find_map(|name| members.raw(name));
        let poll_ms = poll_ms.and_then(|raw| raw.get().parse::<f64>().ok());
        let poll_ms = poll_ms.filter(|ms| ms.is_finite() && *ms >= 0.0).map_or(USUAL_POLL_MS, |ms| ms as u64);
        Some(Self { id, is_ready, poll_ms: poll_ms.clamp(MIN_POLL_MS, MAX_POLL_MS) })
    }
}

/// The state of a task at a modern server.
#[derive(Debug)]
pub enum TaskState {
    Goes(Job),
    /// It requests the input in there.
    Asks(Job),
    Ended(Response),
}

/// Whether a modern server requires a task for this tool.
pub fn is_wanted(error: &RpcError) -> bool {
    let wants = || {
        let data = Object::new(error.whole.get(), "#").ok()?.raw("data")?;
        let required = Object::new(data.get(), "#").ok()?.raw("requiredCapabilities")?;
        let extensions = Object::new(required.get(), "#").ok()?.raw("extensions")?;
        Object::new(extensions.get(), "#").ok()?.raw(TASKS).map(drop)
    };
    error.code == -32_021 && wants().is_some()
}

/// Capabilities, an object's text, with that for tasks added.
pub fn with_tasks(capabilities: &str) -> String {
    let mut all: serde_json::Map<String, serde_json::Value> = serde_json::from_str(capabilities).unwrap_or_default();
    all.insert("extensions".into(), serde_json::json!({TASKS: {}}));
    serde_json::Value::Object(all).to_string()
}

impl TaskState {
    /// Reads the response to a call, if it is a task, or to `tasks/get`.
    pub fn read(result: &RawValue) -> Option<Self> {
        let mut members = Object::new(result.get(), "#").ok()?;
        match members.string("status", 1..=32)?.as_str() {
            "completed" => Some(Self::Ended(Ok(members.raw("result")?.to_owned()))),
            "failed" => Some(Self::Ended(Err(RpcError::read(members.raw("error")?)?))),
            "cancelled" => {
                let error = r#"{"code":-32603,"message":"The server cancelled the task."}"#;
                Some(Self::Ended(Err(RpcError::read(&RawValue::from_string(error.into()).ok()?)?)))
            }
            "input_required" => Job::read(result).map(Self::Asks),
            _ => Job::read(result).map(Self::Goes),
        }
    }
}

/// A result, or the parameters of a request, without the metadata of the server's task.
pub fn unrelated(of: &RawValue) -> Box<RawValue> {
    let without = || {
        let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(of.get()).ok()?;
        let mut meta: BTreeMap<String, &RawValue> = serde_json::from_str(members.get("_meta")?.get()).ok()?;
        meta.remove(RELATED)?;
        let meta = to_raw_value(&meta).ok()?;
        match meta.get() {
            "{}" => members.remove("_meta"),
            _ => members.insert("_meta".into(), &meta),
        };
        to_raw_value(&members).ok()
    };
    without().unwrap_or_else(|| of.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn raw(value: &Value) -> Box<RawValue> {
        to_raw_value(value).unwrap()
    }

    #[test]
    fn required_task_support_is_recognized() {
        let is = |tool: Value| is_required(Some(&raw(&tool)));
        assert!(is(json!({"execution": {"taskSupport": "required"}})));
        for other in [json!({}), json!({"execution": null}), json!({"execution": {"taskSupport": "optional"}})] {
            assert!(!is(other));
        }
        assert!(!is_required(None));
    }

    #[test]
    fn a_task_is_read_as_it_stands() {
        let of = |task: Value| Job::begun(&raw(&json!({"task": task})));
        let job = |is_ready, poll_ms| Some(Job { id: "t".into(), is_ready, poll_ms });
        assert_eq!(of(json!({"taskId": "t", "status": "working", "pollInterval": 200})), job(false, 200));
        assert_eq!(of(json!({"taskId": "t", "status": "working", "pollInterval": 0})), job(false, MIN_POLL_MS));
        assert_eq!(of(json!({"taskId": "t", "status": "working", "pollInterval": 1e9})), job(false, MAX_POLL_MS));
        for status in ["input_required", "completed", "failed", "cancelled"] {
            assert_eq!(of(json!({"taskId": "t", "status": status})), job(true, USUAL_POLL_MS));
        }
        for wrong in [json!({"taskId": "t", "status": "odd"}), json!({"status": "working"}), json!("t")] {
            assert_eq!(of(wrong), None);
        }
        assert_eq!(Job::begun(&raw(&json!({"content": []}))), None);
    }

    #[test]
    fn a_modern_servers_task_has_its_state_and_result() {
        let of = |task: Value| TaskState::read(&raw(&task));
        let working = json!({"resultType": "task", "taskId": "t", "status": "working", "pollIntervalMs": 70});
        assert!(matches!(of(working), Some(TaskState::Goes(Job { poll_ms: 70, is_ready: false, .. }))));
        let asks = json!({"taskId": "t", "status": "input_required", "inputRequests": {}});
        assert!(matches!(of(asks), Some(TaskState::Asks(_))));
        let ended = |more: Value| match of(more) {
            Some(TaskState::Ended(response)) => {
                response.map(|result| result.get().to_string()).map_err(|error| error.code)
            }
            _ => panic!("it has ended"),
        };
        assert_eq!(ended(json!({"taskId": "t", "status": "completed", "result": {"a": 1}})), Ok(r#"{"a":1}"#.into()));
        assert_eq!(ended(json!({"taskId": "t", "status": "failed", "error": {"code": -7, "message": "no"}})), Err(-7));
        assert_eq!(ended(json!({"taskId": "t", "status": "cancelled"})), Err(-32_603));
        assert!(of(json!({"content": []})).is_none() && of(json!({"taskId": "t", "status": "completed"})).is_none());
    }

    #[test]
    fn a_modern_server_asks_for_tasks() {
        let error = |code: i64, data: Value| {
            RpcError::read(&raw(&json!({"code": code, "message": "no", "data": data}))).unwrap()
        };
        let needed = json!({"requiredCapabilities": {"extensions": {TASKS: {}}}});
        assert!(is_wanted(&error(-32_021, needed.clone())) && !is_wanted(&error(-32_602, needed)));
        assert!(!is_wanted(&error(-32_021, json!({"requiredCapabilities": {"elicitation": {}}}))));
        let with: Value = serde_json::from_str(&with_tasks(r#"{"roots":{}}"#)).unwrap();
        assert_eq!(with, json!({"roots": {}, "extensions": {TASKS: {}}}));
    }

    #[test]
    fn metadata_of_the_servers_task_is_removed() {
        let of = |value: Value| serde_json::from_str::<Value>(unrelated(&raw(&value)).get()).unwrap();
        assert_eq!(of(json!({"a": 1, "_meta": {RELATED: {"taskId": "t"}}})), json!({"a": 1}));
        let more = json!({"_meta": {RELATED: {"taskId": "t"}, "b": 2}});
        assert_eq!(of(more), json!({"_meta": {"b": 2}}));
        assert_eq!(of(json!({"a": {"_meta": 1}})), json!({"a": {"_meta": 1}}));
    }

    proptest! {
        #[test]
        fn any_input_is_read_or_rejected(text in "[{}\\[\\]\":,a-z1]{0,40}") {
            if let Ok(raw) = RawValue::from_string(text) {
                let _ = (Job::begun(&raw), Job::read(&raw), TaskState::read(&raw), unrelated(&raw), is_required(Some(&raw)));
            }
        }
    }
}
