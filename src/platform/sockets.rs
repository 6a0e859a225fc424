//! Hibernating WebSockets of an object, each known by a slot number while the instance lives.

use js_sys::Array;
use wasm_bindgen::prelude::*;

use super::http::Headers;

#[wasm_bindgen(module = "/src/platform/boundary.js")]
extern "C" {
    #[wasm_bindgen(js_name = restoreSockets)]
    fn restore_sockets(state: &JsValue) -> Array;
    #[wasm_bindgen(js_name = acceptSocket)]
    fn accept_socket(state: &JsValue, attachment: &str, headers: &str) -> Array;
    #[wasm_bindgen(js_name = slotOf)]
    fn slot_of(state: &JsValue, socket: &JsValue) -> i32;
    fn attach(state: &JsValue, slot: u32, attachment: &str);
    fn send(state: &JsValue, slots: &[u32], text: &str);
    #[wasm_bindgen(js_name = closeSocket)]
    fn close_socket(state: &JsValue, slot: u32, code: u16, reason: &str);
}

/// An object's sockets. An attachment, at most 16,384 bytes, outlives hibernation.
#[derive(Clone)]
pub struct Sockets(JsValue);

impl Sockets {
    /// Takes up what outlived the last instance: slots with their attachments.
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

    /// The answer that opens the socket, and its slot.
    pub fn accept(&self, attachment: &str, headers: &Headers) -> (JsValue, u32) {
        let opened = accept_socket(&self.0, attachment, headers.as_str());
        (opened.get(0), opened.get(1).as_f64().unwrap_or_default() as u32)
    }

    /// The slot of a socket the platform hands over; nothing when it was closed meanwhile.
    pub fn slot(&self, socket: &JsValue) -> Option<u32> {
        u32::try_from(slot_of(&self.0, socket)).ok()
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
