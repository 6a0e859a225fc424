//! Calling Durable Objects: typed messages as JSON, one reply, always with a time-out.

use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::*;

use super::Failure;
use super::tasks::{self, PlatformCall};
use narthex_core::base::json_writer::written;
use narthex_core::base::object_name::ObjectName;
use narthex_core::base::tenant_id::TenantId;

#[wasm_bindgen(module = "/src/platform/boundary.js")]
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

/// The classes of objects. `boundary.js` has the same numbers.
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

/// Sends a message and returns the reply.
pub async fn send<M: Serialize, R: DeserializeOwned>(
    kind: Kind,
    name: &ObjectName,
    hint: &str,
    message: &M,
    timeout_ms: u64,
) -> Result<R, Failure> {
    let text = written(message)?;
    let began = |token| ask(token, tasks::family(), kind as u32, name.as_str(), hint, &text);
    let asked = PlatformCall::within(timeout_ms as f64, began);
    // The platform has a copy, and the text may be large.
    drop(text);
    let reply = asked.await.map_err(|error| match error.is_undefined() {
        true => Failure(format!("no reply from {name} within {timeout_ms} ms")),
        false => error.into(),
    })?;
    let reply = reply.as_string().ok_or_else(|| Failure("an object's reply is not text".into()))?;
    Ok(serde_json::from_str(&reply)?)
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
