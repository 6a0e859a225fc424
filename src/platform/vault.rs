//! Sealing what is stored secret, and opening it again, with the Worker's own keys (`KEK_1`, …).

use js_sys::{Array, Promise, Uint8Array};
use wasm_bindgen::prelude::*;

use super::{Failure, random, tasks};
use narthex_core::access::encrypted_secret::{KEK, KeyRing, Parts, Place, Sealed};
use narthex_core::base::time::Timestamp;

#[wasm_bindgen(module = "/src/platform/boundary.js")]
extern "C" {
    #[wasm_bindgen(js_name = secretsNamed)]
    fn secrets_named(prefix: &str) -> Array;
}

#[wasm_bindgen(module = "/src/platform/crypto.js")]
extern "C" {
    fn seals(kek: Uint8Array, random: Uint8Array, bound: &str, text: &str) -> Promise;
    fn opens(kek: Uint8Array, sealed: Uint8Array, bound: &str) -> Promise;
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
    KeyRing::read(pairs)
}

/// The number of the key that seals; nothing when none is set.
pub fn newest() -> Option<u32> {
    RING.with(|ring| ring.newest().map(|(number, _)| number))
}

/// Seals a secret under the newest key. `version` is when it was given.
pub async fn seal(place: Place<'_>, version: Timestamp, fingerprint: &str, secret: &str) -> Result<Sealed, Failure> {
    let newest = RING.with(|ring| ring.newest().map(|(number, key)| (number, Uint8Array::from(key.as_slice()))));
    let (number, key) = newest.ok_or_else(|| Failure("no KEK_1 is set to seal secrets with".into()))?;
    // A data key, and a nonce for each of the two.
    let fresh = random::bytes::<56>();
    let promise = seals(key, Uint8Array::from(fresh.as_slice()), &place.bound(version), secret);
    let bytes: Uint8Array = tasks::outcome(&promise).await?.unchecked_into();
    Ok(Sealed::new(number, version, fingerprint, &bytes.to_vec()))
}

/// The secret itself. Fails when its key is not set any more, or when it was sealed for another place.
pub async fn open(place: Place<'_>, sealed: &Sealed) -> Result<String, Failure> {
    if let Some(secret) = sealed.as_open() {
        return Ok(secret.to_string());
    }
    let parts = sealed.parts().ok_or_else(|| Failure(format!("what is kept of {place:?} is not readable")))?;
    let Parts { key: number, version, bytes, .. } = parts;
    let bound = place.bound(version);
    let key = RING.with(|ring| ring.get(number).map(|key| Uint8Array::from(key.as_slice())));
    let key = key.ok_or_else(|| Failure(format!("{bound} is sealed under {KEK}{number}, which is not set")))?;
    let promise = opens(key, Uint8Array::from(bytes.as_slice()), &bound);
    let opened = tasks::outcome(&promise).await;
    let opened = opened.map_err(|_| Failure(format!("{bound} does not open under {KEK}{number}")))?;
    opened.as_string().ok_or_else(|| Failure(format!("{bound} is no text")))
}

/// The same secret under the newest key; nothing when it is, or when there is no key. `fingerprint` is of one that was
/// still open.
pub async fn seal_again(
    place: Place<'_>,
    sealed: &Sealed,
    now: Timestamp,
    fingerprint: impl FnOnce(&str) -> String,
) -> Result<Option<Sealed>, Failure> {
    if newest().is_none_or(|newest| sealed.is_under(newest)) {
        return Ok(None);
    }
    let secret = open(place, sealed).await?;
    let (version, fingerprint) = match sealed.parts() {
        Some(parts) => (parts.version, parts.fingerprint.to_string()),
        None => (now, fingerprint(&secret)),
    };
    Ok(Some(seal(place, version, &fingerprint, &secret).await?))
}
