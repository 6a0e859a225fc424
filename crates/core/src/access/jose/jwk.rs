//! Public keys as JSON Web Keys (RFC 7517, RFC 7518 §6, RFC 8037), and the choice of the key for a token.
//!
//! A set that contains a private key is rejected as a whole: its keys are compromised. A key of an unknown kind is
//! ignored in a set, as RFC 7517 §5 requires, and is a fault in a registration.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::algorithm::{Algorithm, KeyKind};
use crate::base::json::{Fault, Object, check};

/// The largest key set, in bytes.
pub const MAX_SET_BYTES: usize = 64 * 1024;
/// Maximum number of keys in a set.
pub const MAX_KEYS: usize = 50;
const MAX_DEPTH: usize = 8;
/// The members of private and shared keys.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// The accepted lengths of an RSA modulus, in bytes.
const RSA_BYTES: RangeInclusive<usize> = 256..=512;

/// Base64url with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A public key that signatures can be verified with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    pub kid: Option<String>,
    pub kind: KeyKind,
    /// The only algorithm of the key, if it names one.
    pub algorithm: Option<Algorithm>,
    /// The required members in the order of RFC 7638: the input of the platform's import and of the thumbprint.
    pub text: String,
}

impl Jwk {
    /// Whether the key may verify a signature of this algorithm.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        self.kind == algorithm.kind() && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// The thumbprint (RFC 7638 §3).
    pub fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(&self.text))
    }

    /// The key as it is published, with `use`, `kid` and `alg`.
    pub fn view(&self) -> serde_json::Value {
        let mut view: serde_json::Value = serde_json::from_str(&self.text).unwrap_or_default();
        if let Some(members) = view.as_object_mut() {
            members.insert("use".into(), "sig".into());
            if let Some(kid) = &self.kid {
                members.insert("kid".into(), kid.as_str().into());
            }
            if let Some(algorithm) = self.algorithm {
                members.insert("alg".into(), algorithm.name().into());
            }
        }
        view
    }
}

/// Why a key cannot be used.
enum UnusableKey {
    /// The kind or use is not supported.
    Foreign(Fault),
    Faulty(Fault),
}

/// Why a set is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("the key set is larger than {MAX_SET_BYTES} bytes")]
    TooLarge,
    #[error("the key set is not acceptable JSON with an array `keys`")]
    Form,
    #[error("the key set has more than {MAX_KEYS} keys")]
    TooMany,
    #[error("the key set contains private or shared keys")]
    Private,
}

/// Reads a published set, without the keys that cannot be used.
pub fn read_set(bytes: &[u8]) -> Result<Vec<Jwk>, KeySetError> {
    if bytes.len() > MAX_SET_BYTES {
        return Err(KeySetError::TooLarge);
    }
    #[derive(Deserialize)]
    struct Set<'a> {
        #[serde(borrow)]
        keys: Vec<&'a RawValue>,
    }
    let text = check(bytes, MAX_DEPTH).map_err(|_| KeySetError::Form)?;
    let set: Set<'_> = serde_json::from_str(text).map_err(|_| KeySetError::Form)?;
    if set.keys.len() > MAX_KEYS {
        return Err(KeySetError::TooMany);
    }
    if set.keys.iter().any(|raw| is_private(raw)) {
        return Err(KeySetError::Private);
    }
    Ok(set.keys.iter().filter_map(|raw| read(raw, "#").ok()).collect())
}

/// Reads keys in a registration, with all faults.
pub fn read_registered(keys: &[&RawValue], pointer: &str) -> (Vec<Jwk>, Vec<Fault>) {
    let (mut read_keys, mut faults) = (Vec::new(), Vec::new());
    for (index, raw) in keys.iter().enumerate() {
        let at = format!("{pointer}/{index}");
        if is_private(raw) {
            faults.push(Fault::new(at, "contains a private or shared key: give the public part only"));
            continue;
        }
        match read(raw, &at) {
            Ok(key) => read_keys.push(key),
            Err(UnusableKey::Foreign(fault) | UnusableKey::Faulty(fault)) => faults.push(fault),
        }
    }
    (read_keys, faults)
}

fn is_private(raw: &RawValue) -> bool {
    Object::new(raw.get(), "#").is_ok_and(|mut key| {
        PRIVATE.iter().any(|name| key.raw_or_null(name).is_some())
            || key.raw("kty").is_some_and(|kty| kty.get() == r#""oct""#)
    })
}

/// What bytes represent, which determines the meaning of leading zeros.
#[derive(Clone, Copy)]
enum Number {
    /// Not a number: every byte counts.
    None,
    /// A number in the minimum number of bytes (RFC 7518 §2, Base64urlUInt).
    Free,
    /// A number in a fixed number of bytes (RFC 7518 §6.2.1.2).
    Fixed,
}

/// Maximum number of missing leading zeros in a number of fixed length.
const MAX_MISSING: usize = 2;

impl Number {
    /// Removes a leading sign octet, or adds missing leading zeros, as some implementations write them.
    fn canonical(self, bytes: Vec<u8>, length: usize) -> Vec<u8> {
        let digits = || bytes.iter().copied().skip_while(|byte| *byte == 0);
        match self {
            Number::None => bytes,
            Number::Free => digits().collect(),
            Number::Fixed => {
                let missing = length.saturating_sub(digits().count());
                if bytes.len() + MAX_MISSING < length {
                    return bytes;
                }
                std::iter::repeat_n(0, missing).chain(digits()).collect()
            }
        }
    }
}

fn read(raw: &RawValue, pointer: &str) -> Result<Jwk, UnusableKey> {
    let mut key = Object::new(raw.get(), pointer).map_err(UnusableKey::Faulty)?;
    let foreign = |name: &str, detail: &str| UnusableKey::Foreign(Fault::new(format!("{pointer}/{name}"), detail));
    let text = |key: &mut Object<'_>, name: &str| key.string(name, 1..=1024);
    let (kty, crv) = (text(&mut key, "kty"), text(&mut key, "crv"));
    let kind = match (kty.as_deref(), crv.as_deref()) {
        (Some("EC"), Some("P-256")) => KeyKind::P256,
        (Some("EC"), Some("P-384")) => KeyKind::P384,
        (Some("OKP"), Some("Ed25519")) => KeyKind::Ed25519,
        (Some("RSA"), None) => KeyKind::Rsa,
        _ => return Err(foreign("kty", "must be EC with crv P-256 or P-384, OKP with crv Ed25519, or RSA")),
    };
    if text(&mut key, "use").is_some_and(|used| used != "sig") {
        return Err(foreign("use", "must be sig"));
    }
    let operations = key.strings("key_ops", 10, 30);
    if operations.is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
        return Err(foreign("key_ops", "must contain verify"));
    }
    let algorithm = match text(&mut key, "alg") {
        None => None,
        Some(name) => match Algorithm::parse(&name).filter(|algorithm| algorithm.kind() == kind) {
            Some(algorithm) => Some(algorithm),
            None => {
                let fitting = Algorithm::ALL.into_iter().filter(|algorithm| algorithm.kind() == kind);
                return Err(foreign("alg", &format!("must be {}, as fits the key", Algorithm::listed(fitting))));
            }
        },
    };
    let kid = key.string("kid", 1..=256);
    let text = required_members(&mut key, kind, pointer)?;
    // Faults in merely descriptive members do not count, and unknown members are allowed (RFC 7517 §4).
    Ok(Jwk { kid, kind, algorithm, text })
}

/// The text of the members that a key of this kind requires, in the order of RFC 7638.
fn required_members(key: &mut Object<'_>, kind: KeyKind, pointer: &str) -> Result<String, UnusableKey> {
    let faulty = |name: &str, detail: &str| UnusableKey::Faulty(Fault::new(format!("{pointer}/{name}"), detail));
    let mut bytes = |name: &str, length: RangeInclusive<usize>, number: Number| {
        let text = key.string(name, 1..=1024).unwrap_or_default();
        let bytes = LENIENT.decode(&text).ok().map(|bytes| number.canonical(bytes, *length.end()));
        bytes
            .filter(|bytes| length.contains(&bytes.len()))
            .ok_or_else(|| faulty(name, &format!("must be base64url of {} to {} bytes", length.start(), length.end())))
    };
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let mut on_curve = |name: &str, length: usize| {
        let mut coordinate = |name| bytes(name, length..=length, Number::Fixed).map(|bytes| encode(&bytes));
        let (x, y) = (coordinate("x")?, coordinate("y")?);
        Ok::<_, UnusableKey>(format!(r#"{{"crv":"{name}","kty":"EC","x":"{x}","y":"{y}"}}"#))
    };
    match kind {
        KeyKind::P256 => on_curve("P-256", 32),
        KeyKind::P384 => on_curve("P-384", 48),
        KeyKind::Ed25519 => {
            let x = encode(&bytes("x", 32..=32, Number::None)?);
            Ok(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#))
        }
        KeyKind::Rsa => {
            let (exponent, modulus) = (bytes("e", 1..=4, Number::Free)?, bytes("n", RSA_BYTES, Number::Free)?);
            let is_odd = exponent.last().is_some_and(|last| last & 1 == 1) && exponent != [1];
            if !is_odd {
                return Err(faulty("e", "is not a valid RSA public exponent"));
            }
            Ok(format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, encode(&exponent), encode(&modulus)))
        }
    }
}

/// The keys that may have made a signature: all with the token's `kid`, or the only one that fits if the token has
/// none.
pub fn choose<'k>(keys: &'k [Jwk], kid: Option<&str>, algorithm: Algorithm) -> Vec<&'k Jwk> {
    let mut fitting: Vec<&Jwk> = keys.iter().filter(|key| key.fits(algorithm)).collect();
    match kid {
        Some(kid) => fitting.retain(|key| key.kid.as_deref() == Some(kid)),
        None if fitting.len() > 1 => fitting.clear(),
        None => {}
    }
    fitting
}

#[cfg(test)]
mod tests;
