//! Calls of Durable Objects, with a message and its reply as text, and messages to the queues.

use serde::Serialize;
use wasm_bindgen::prelude::*;

use super::Failure;
use super::tasks::{self, PlatformCall};
use narthex_core::base::object_name::ObjectName;
use narthex_core::base::retries::CallFault;
use narthex_core::base::tenant_id::TenantId;

#[wasm_bindgen(module = "/src/platform/objects.js")]
extern "C" {
    fn ask(token: u32, family: u32, kind: u32, name: &str, hint: &str, message: &str);
    fn connect(token: u32, kind: u32, name: &str, message: &str);
    #[wasm_bindgen(js_name = costsText)]
    fn costs_text() -> String;
    #[wasm_bindgen(js_name = enqueueWakeup)]
    fn enqueue(token: u32, message: &str);
    #[wasm_bindgen(js_name = enqueueWebhookWakeup)]
    fn enqueue_webhook(token: u32, message: &str);
    #[wasm_bindgen(js_name = enqueueScheduleWakeup)]
    fn enqueue_schedule(token: u32, message: &str);
}

/// The classes of objects. `objects.js` has the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Registry = 0,
    Contexts = 1,
    Events = 2,
    Lanes = 3,
    Grants = 4,
    Limits = 5,
    Schedules = 6,
    Shards = 7,
    Sessions = 8,
}

/// The default time-out of a call, in milliseconds.
pub const CALL_TIMEOUT_MS: u64 = 10_000;

/// Why a call of an object has failed. Whether the object has acted is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("no reply from {object} within {timeout_ms} ms")]
    TimedOut { object: String, timeout_ms: u64 },
    /// It has more requests than it can handle: another one would make it worse.
    #[error("{0}")]
    Overloaded(String),
    /// The connection was lost, or the object was starting or moving. The platform has already repeated the call as
    /// often as is safe, which excludes requests that the object may have received.
    #[error("{0}")]
    Retryable(String),
    /// The object failed, the message could not be sent, or the reply is not text.
    #[error("{0}")]
    Failed(String),
    /// It replied, but the reply cannot be read.
    #[error("unreadable reply to `{request}`: {detail}")]
    Malformed { request: &'static str, detail: String },
}

impl CallError {
    fn of(error: &JsValue) -> Self {
        let has = |name: &str| {
            let value = js_sys::Reflect::get(error, &JsValue::from_str(name));
            value.is_ok_and(|value| value.is_truthy())
        };
        let Failure(text) = Failure::from(error.clone());
        Self::classified(text, has("overloaded"), has("retryable"))
    }

    /// The kind of failure, on which it depends whether the call is made again.
    pub fn fault(&self) -> CallFault {
        match self {
            Self::TimedOut { .. } => CallFault::TimedOut,
            Self::Overloaded(_) => CallFault::Overloaded,
            Self::Retryable(_) => CallFault::Retryable,
            Self::Failed(_) => CallFault::Failed,
            Self::Malformed { .. } => CallFault::Malformed,
        }
    }

    fn classified(text: String, overloaded: bool, retryable: bool) -> Self {
        match (overloaded, retryable) {
            (true, _) => Self::Overloaded(text),
            (false, true) => Self::Retryable(text),
            (false, false) => Self::Failed(text),
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Failure(error.to_string())
    }
}

/// Sends a message and returns the reply, both as JSON.
pub async fn exchange(
    kind: Kind,
    name: &ObjectName,
    hint: &str,
    message: String,
    timeout_ms: u64,
) -> Result<String, CallError> {
    let began = |token| ask(token, tasks::family(), kind as u32, name.as_str(), hint, &message);
    let asked = PlatformCall::within(timeout_ms as f64, began);
    // The platform has a copy, and the text may be large.
    drop(message);
    let reply = asked.await.map_err(|error| match error.is_undefined() {
        true => CallError::TimedOut { object: name.to_string(), timeout_ms },
        false => CallError::of(&error),
    })?;
    reply.as_string().ok_or_else(|| CallError::Failed("the reply is not text".into()))
}

/// The response of an object to a WebSocket upgrade.
pub enum SocketResponse {
    Here(JsValue),
    /// The socket must be opened at another object, named by the text.
    Elsewhere(String),
}

/// Passes a WebSocket upgrade to an object.
pub async fn open_socket<M: Serialize>(kind: Kind, name: &ObjectName, message: &M) -> Result<SocketResponse, Failure> {
    let text = serde_json::to_string(message)?;
    let answer = PlatformCall::new(|token| connect(token, kind as u32, name.as_str(), &text)).await?;
    Ok(answer.as_string().map_or(SocketResponse::Here(answer), SocketResponse::Elsewhere))
}

/// Enqueues a wake-up message. It names the store that has work, not the work.
pub async fn enqueue_wakeup(store: &ObjectName) -> Result<(), Failure> {
    PlatformCall::new(|token| enqueue(token, store.as_str())).await?;
    Ok(())
}

/// Enqueues a wake-up message for the webhook deliveries of a tenant.
pub async fn enqueue_webhook_wakeup(tenant: &TenantId) -> Result<(), Failure> {
    PlatformCall::new(|token| enqueue_webhook(token, tenant.as_str())).await?;
    Ok(())
}

/// Enqueues a wake-up message for the schedules of a tenant.
pub async fn enqueue_schedule_wakeup(tenant: &TenantId) -> Result<(), Failure> {
    let message = format!("{tenant}/schedules");
    PlatformCall::new(|token| enqueue_schedule(token, &message)).await?;
    Ok(())
}

/// The costs of the objects of this isolate so far, as JSON.
pub fn costs() -> String {
    costs_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_what_the_platform_says() {
        let text = || String::from("The object cannot be reached.");
        assert_eq!(CallError::classified(text(), true, false), CallError::Overloaded(text()));
        assert_eq!(CallError::classified(text(), false, true), CallError::Retryable(text()));
        assert_eq!(CallError::classified(text(), false, false), CallError::Failed(text()));
        // An overloaded object must not be called again, even if the failure is said to be temporary.
        assert_eq!(CallError::classified(text(), true, true), CallError::Overloaded(text()));
    }
}
