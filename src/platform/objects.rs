//! Asking a Durable Object: typed messages as JSON, one reply, a time-out always.

use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use super::Failure;

#[wasm_bindgen(module = "/src/platform/boundary.js")]
extern "C" {
    fn ask(kind: u32, name: &str, hint: &str, message: &str, milliseconds: f64) -> js_sys::Promise;
    fn connect(kind: u32, name: &str, message: &str) -> js_sys::Promise;
    #[wasm_bindgen(js_name = costsText)]
    fn costs_text() -> String;
    #[wasm_bindgen(catch)]
    fn ring(message: &str) -> Result<js_sys::Promise, JsValue>;
}

/// The classes of objects; the numbers are those of `boundary.js`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Registry = 0,
    Contexts = 1,
    Events = 2,
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
    let text = serde_json::to_string(message)?;
    let reply = JsFuture::from(ask(kind as u32, name, hint, &text, patience_ms as f64)).await?;
    let reply = reply
        .as_string()
        .ok_or_else(|| Failure("an object's reply is not text".into()))?;
    Ok(serde_json::from_str(&reply)?)
}

/// Lets an object answer a WebSocket's opening.
pub async fn open_socket<M: Serialize>(kind: Kind, name: &str, message: &M) -> Result<JsValue, Failure> {
    let text = serde_json::to_string(message)?;
    Ok(JsFuture::from(connect(kind as u32, name, &text)).await?)
}

/// Rings the queue's doorbell. The message says where there is work, not what.
pub async fn ring_doorbell(message: &str) -> Result<(), Failure> {
    JsFuture::from(ring(message)?).await?;
    Ok(())
}

/// What the objects of this isolate cost so far, as JSON.
pub fn costs() -> String {
    costs_text()
}
