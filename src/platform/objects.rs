//! Asking a Durable Object: typed messages as JSON, one reply, a time-out always.

use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::*;

use super::Failure;
use super::tasks::{self, Awaited};
use narthex_core::base::json_writer::written;

#[wasm_bindgen(module = "/src/platform/boundary.js")]
extern "C" {
    fn ask(token: u32, family: u32, kind: u32, name: &str, hint: &str, message: &str);
    fn connect(token: u32, kind: u32, name: &str, message: &str);
    #[wasm_bindgen(js_name = costsText)]
    fn costs_text() -> String;
    fn ring(token: u32, message: &str);
    #[wasm_bindgen(js_name = ringForWebhooks)]
    fn ring_webhooks(token: u32, message: &str);
    #[wasm_bindgen(js_name = ringForSchedules)]
    fn ring_schedules(token: u32, message: &str);
}

/// The classes of objects; the numbers are those of `boundary.js`.
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

/// How long an object may take to reply, in milliseconds.
pub const PATIENCE_MS: u64 = 10_000;

/// Sends a message and gives the reply.
pub async fn send<M: Serialize, R: DeserializeOwned>(
    kind: Kind,
    name: &str,
    hint: &str,
    message: &M,
    patience_ms: u64,
) -> Result<R, Failure> {
    let text = written(message)?;
    let began = |token| ask(token, tasks::family(), kind as u32, name, hint, &text);
    let asked = Awaited::within(patience_ms as f64, began);
    // The platform has it now, and it may be large.
    drop(text);
    let reply = asked.await.map_err(|error| match error.is_undefined() {
        true => Failure(format!("no reply from {name} within {patience_ms} ms")),
        false => error.into(),
    })?;
    let reply = reply.as_string().ok_or_else(|| Failure("an object's reply is not text".into()))?;
    Ok(serde_json::from_str(&reply)?)
}

/// An object's answer to a WebSocket's opening.
pub enum Opened {
    Here(JsValue),
    /// It is to be opened at another object; the text says which.
    Elsewhere(String),
}

/// Lets an object answer a WebSocket's opening.
pub async fn open_socket<M: Serialize>(kind: Kind, name: &str, message: &M) -> Result<Opened, Failure> {
    let text = serde_json::to_string(message)?;
    let answer = Awaited::new(|token| connect(token, kind as u32, name, &text)).await?;
    Ok(answer.as_string().map_or(Opened::Here(answer), Opened::Elsewhere))
}

/// Rings the queue's doorbell. The message says where there is work, not what.
pub async fn ring_doorbell(message: &str) -> Result<(), Failure> {
    Awaited::new(|token| ring(token, message)).await?;
    Ok(())
}

/// Rings for who delivers a tenant's events to webhooks.
pub async fn ring_for_webhooks(tenant: &str) -> Result<(), Failure> {
    Awaited::new(|token| ring_webhooks(token, tenant)).await?;
    Ok(())
}

/// Rings for who makes the runs of a tenant's schedules.
pub async fn ring_for_schedules(message: &str) -> Result<(), Failure> {
    Awaited::new(|token| ring_schedules(token, message)).await?;
    Ok(())
}

/// What the objects of this isolate cost so far, as JSON.
pub fn costs() -> String {
    costs_text()
}
