//! Encrypts stored secrets, and decrypts them, with the keys of the Worker (`KEK_1`, …).

use js_sys::{Array, Promise, Uint8Array};
use wasm_bindgen::prelude::*;

use super::{Failure, log_event, random, tasks};
use narthex_core::access::encrypted_secret::{AssociatedData, EncryptedSecret, KEK, KeyRing, Parts};
use narthex_core::base::time::Timestamp;

#[wasm_bindgen(module = "/src/platform/settings.js")]
extern "C" {
    #[wasm_bindgen(js_name = secretsNamed)]
    fn secrets_named(prefix: &str) -> Array;
}

#[wasm_bindgen(module = "/src/platform/crypto.js")]
extern "C" {
    fn encrypts(kek: Uint8Array, random: Uint8Array, bound: &str, text: &str) -> Promise;
    fn decrypts(kek: Uint8Array, encrypted: Uint8Array, bound: &str) -> Promise;
}

thread_local! {
    static RING: KeyRing = read();
}

fn read() -> KeyRing {
    let texts: Vec<String> = secrets_named(KEK).iter().filter_map(|text| text.as_string()).collect();
    let pairs = texts.chunks_exact(2).filter_map(|pair| match pair {
        [name, value] => Some((name.as_str(), value.as_str())),
        _ => None,
    });
    let ring = KeyRing::read(pairs.clone());
    let number = |name: &str| name.strip_prefix(KEK).and_then(|number| number.parse().ok());
    for (name, value) in pairs {
        let is_read = number(name).is_some_and(|number| ring.get(number).is_some());
        if !is_read && !value.trim().is_empty() {
            let detail = format!("{KEK} and a number from 1, with 32 bytes in base64");
            log_event!(SettingNotValid, variable = name, detail = detail);
        }
    }
    ring
}

/// The number of the key that encrypts. `None` if none is set.
pub fn newest() -> Option<u32> {
    RING.with(|ring| ring.newest().map(|(number, _)| number))
}

/// Encrypts a secret under the newest key. `version` is the time when it was set.
pub async fn encrypt(
    data: AssociatedData<'_>,
    version: Timestamp,
    fingerprint: &str,
    secret: &str,
) -> Result<EncryptedSecret, Failure> {
    let newest = RING.with(|ring| ring.newest().map(|(number, key)| (number, Uint8Array::from(key.as_slice()))));
    let (number, key) = newest.ok_or_else(|| Failure("no KEK_1 is set to encrypt secrets with".into()))?;
    // A data key, and two nonces.
    let fresh = random::bytes::<56>();
    let promise = encrypts(key, Uint8Array::from(fresh.as_slice()), &data.bound(version), secret);
    let bytes: Uint8Array = tasks::outcome(&promise).await?.unchecked_into();
    Ok(EncryptedSecret::new(number, version, fingerprint, &bytes.to_vec()))
}

/// Decrypts a secret. Fails if its key is no longer set, or if it was encrypted with other associated data.
pub async fn decrypt(data: AssociatedData<'_>, encrypted: &EncryptedSecret) -> Result<String, Failure> {
    if let Some(secret) = encrypted.as_plaintext() {
        return Ok(secret.to_string());
    }
    let parts = encrypted.parts().ok_or_else(|| Failure(format!("the stored secret {data:?} cannot be read")))?;
    let Parts { key: number, version, bytes, .. } = parts;
    let bound = data.bound(version);
    let key = RING.with(|ring| ring.get(number).map(|key| Uint8Array::from(key.as_slice())));
    let key = key.ok_or_else(|| Failure(format!("{bound} is encrypted under {KEK}{number}, which is not set")))?;
    let promise = decrypts(key, Uint8Array::from(bytes.as_slice()), &bound);
    let decrypted = tasks::outcome(&promise).await;
    let decrypted = decrypted.map_err(|_| Failure(format!("{bound} cannot be decrypted under {KEK}{number}")))?;
    decrypted.as_string().ok_or_else(|| Failure(format!("{bound} is not text")))
}

/// Encrypts a secret again under the newest key. `None` if it is already, or if there is no key. `fingerprint` is for
/// secrets that were stored in plain text.
pub async fn encrypt_again(
    data: AssociatedData<'_>,
    encrypted: &EncryptedSecret,
    now: Timestamp,
    fingerprint: impl FnOnce(&str) -> String,
) -> Result<Option<EncryptedSecret>, Failure> {
    if newest().is_none_or(|newest| encrypted.is_under(newest)) {
        return Ok(None);
    }
    let secret = decrypt(data, encrypted).await?;
    let (version, fingerprint) = match encrypted.parts() {
        Some(parts) => (parts.version, parts.fingerprint.to_string()),
        None => (now, fingerprint(&secret)),
    };
    Ok(Some(encrypt(data, version, &fingerprint, &secret).await?))
}
