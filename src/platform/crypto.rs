//! Verifying and creating signatures.
//!
//! The native code of the platform is many times faster than Wasm, and adds nothing to its size. It is asynchronous,
//! but the cache of verified tokens spares most requests that.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use js_sys::{Array, Promise, Uint8Array};
use wasm_bindgen::prelude::*;

use super::{Failure, tasks};
use narthex_core::access::jose::algorithm::{Algorithm, KeyKind};
use narthex_core::access::jose::jwk::Jwk;

#[wasm_bindgen(module = "/src/platform/crypto.js")]
extern "C" {
    fn verifies(algorithm: &str, jwk: &str, signature: Uint8Array, text: &str) -> Promise;
    #[wasm_bindgen(js_name = makesPair)]
    fn makes_pair() -> Promise;
    fn signs(jwk: &str, text: &str) -> Promise;
}

/// Whether a signature is valid for this text and key. A key that cannot be imported verifies nothing.
pub async fn verify(algorithm: Algorithm, key: &Jwk, signature: &[u8], text: &str) -> bool {
    let promise = verifies(algorithm.name(), &key.text, Uint8Array::from(signature), text);
    tasks::outcome(&promise).await.is_ok_and(|verified| verified.is_truthy())
}

/// Creates a key pair for ES256: the public part, with its thumbprint as its id, and the private part.
pub async fn make_pair() -> Result<(Jwk, String), Failure> {
    let made: Array = tasks::outcome(&makes_pair()).await?.unchecked_into();
    let text = |at: u32| made.get(at).as_string().ok_or_else(|| Failure("a key is not text".into()));
    let (public, private) = (text(0)?, text(1)?);
    let key = Jwk { kid: None, kind: KeyKind::P256, algorithm: None, text: public };
    Ok((Jwk { kid: Some(key.thumbprint()), ..key }, private))
}

/// A compact JWS (RFC 7515 §7.1) of claims, signed by ES256.
pub async fn sign(kid: &str, private: &str, typ: &str, claims: &str) -> Result<String, Failure> {
    let header = format!(r#"{{"alg":"ES256","kid":"{kid}","typ":"{typ}"}}"#);
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature: Uint8Array = tasks::outcome(&signs(private, &signed)).await?.unchecked_into();
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_vec())))
}
