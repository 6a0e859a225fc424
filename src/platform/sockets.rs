//! Hibernating WebSockets of an object, identified by slot numbers that are valid as long as the instance.

use js_sys::Array;
use wasm_bindgen::prelude::*;

use super::http::Headers;
use super::tasks::PlatformCall;
use narthex_core::base::time::Timestamp;

#[wasm_bindgen(module = "/src/platform/sockets.js")]
extern "C" {
    #[wasm_bindgen(js_name = restoreSockets)]
    fn restore_sockets(state: &JsValue) -> Array;
    #[wasm_bindgen(js_name = acceptSocket)]
    fn accept_socket(state: &JsValue, attachment: &str, headers: &str) -> Array;
    #[wasm_bindgen(js_name = slotOf)]
    fn slot_of(state: &JsValue, socket: &JsValue) -> i32;
    #[wasm_bindgen(js_name = pingedAt)]
    fn pinged_at(state: &JsValue, slot: u32) -> f64;
    fn attach(state: &JsValue, slot: u32, attachment: &str);
    fn send(state: &JsValue, slots: &[u32], text: &str);
    #[wasm_bindgen(js_name = takeSocket)]
    fn take_socket(response: &JsValue) -> JsValue;
    #[wasm_bindgen(js_name = nextText)]
    fn next_text(token: u32, socket: &JsValue);
    #[wasm_bindgen(js_name = pingSocket)]
    fn ping_socket(socket: &JsValue);
    #[wasm_bindgen(js_name = dropSocket)]
    fn drop_socket(socket: &JsValue);
    #[wasm_bindgen(js_name = closeSocket)]
    fn close_socket(state: &JsValue, slot: u32, code: u16, reason: &str);
}

/// The sockets of an object. An attachment, of at most 16,384 bytes, outlives hibernation.
#[derive(Clone)]
pub struct Sockets(JsValue);

impl Sockets {
    /// Restores the sockets that outlived the last instance: their slots and attachments.
    pub fn restore(state: &JsValue) -> (Self, Vec<(u32, String)>) {
        let flat: Vec<JsValue> = restore_sockets(state).iter().collect();
        let sockets = flat
            .chunks_exact(2)
            .filter_map(|pair| match pair {
                [slot, attachment] => Some((slot.as_f64()? as u32, attachment.as_string()?)),
                _ => None,
            })
            .collect();
        (Self(state.clone()), sockets)
    }

    /// The response that opens the socket, and its slot.
    pub fn accept(&self, attachment: &str, headers: &Headers) -> (JsValue, u32) {
        let opened = accept_socket(&self.0, attachment, headers.as_str());
        (opened.get(0), opened.get(1).as_f64().unwrap_or_default() as u32)
    }

    /// The slot of a socket that the platform passes in. `None` if it was closed in the meantime.
    pub fn slot(&self, socket: &JsValue) -> Option<u32> {
        u32::try_from(slot_of(&self.0, socket)).ok()
    }

    /// When a `ping` of its client was last answered, hibernation included.
    pub fn pinged_at(&self, slot: u32) -> Option<Timestamp> {
        let at = pinged_at(&self.0, slot);
        (at > 0.0).then_some(Timestamp(at as u64))
    }

    pub fn attach(&self, slot: u32, attachment: &str) {
        attach(&self.0, slot, attachment);
    }

    pub fn send(&self, slots: &[u32], text: &str) {
        send(&self.0, slots, text);
    }

    pub fn close(&self, slot: u32, code: u16, reason: &str) {
        close_socket(&self.0, slot, code, reason);
    }
}

/// The Worker's end of a socket of an object. Dropping it closes the socket.
pub struct ClientSocket(JsValue);

impl ClientSocket {
    /// Takes the socket out of the response that opened it.
    pub fn take(response: &JsValue) -> Self {
        Self(take_socket(response))
    }

    /// All text received since the last call, waiting for it if there is none. `None` if the socket is closed and read
    /// to its end. `Err` after the time-out.
    pub async fn next(&self, milliseconds: u64) -> Result<Option<String>, JsValue> {
        let text = PlatformCall::within(milliseconds as f64, |token| next_text(token, &self.0)).await?;
        Ok(text.as_string())
    }

    /// Confirms that the received text was read.
    pub fn ping(&self) {
        ping_socket(&self.0);
    }
}

impl Drop for ClientSocket {
    fn drop(&mut self) {
        drop_socket(&self.0);
    }
}
