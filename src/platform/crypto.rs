//! Verifying signatures.
//!
//! By the platform, whose native code is many times faster than the same in Wasm and adds nothing to its size. It
//! answers later than at once, which the cache of verified tokens keeps away from most requests.

use js_sys::{Promise, Uint8Array};
use wasm_bindgen::prelude::*;

use super::tasks;
use crate::core::jwk::Jwk;
use crate::core::jwt::Algorithm;

#[wasm_bindgen(module = "/src/platform/crypto.js")]
extern "C" {
    fn verifies(algorithm: &str, jwk: &str, signature: Uint8Array, text: &str) -> Promise;
}

/// Whether a signature is of this text, by this key. A key that cannot be imported verifies nothing.
pub async fn verify(algorithm: Algorithm, key: &Jwk, signature: &[u8], text: &str) -> bool {
    let promise = verifies(algorithm.name(), &key.text, Uint8Array::from(signature), text);
    tasks::outcome(&promise).await.is_ok_and(|verified| verified.is_truthy())
}
