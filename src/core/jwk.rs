//! Public keys as JSON Web Keys (RFC 7517, RFC 7518 §6, RFC 8037), and which of them may verify what.
//!
//! A set with anything private in it is refused whole: whoever published it has lost those keys. A key of a kind that
//! is not known here is passed over in a set, as RFC 7517 §5 says, and is a fault where people register it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::json::{Fault, Object, check};
use super::jwt::Algorithm;

/// The largest set, in bytes, and the most keys in it.
pub const MAX_SET_BYTES: usize = 64 * 1024;
pub const MAX_KEYS: usize = 50;
const MAX_DEPTH: usize = 8;
/// The members that hold a private or a shared key.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// The shortest RSA modulus taken and the longest, in bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// What a key is, which decides what it can verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    P256,
    Ed25519,
    Rsa,
}

/// A public key that signatures can be verified with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    pub kid: Option<String>,
    pub kind: Kind,
    /// The only algorithm it is for, if it names one.
    pub algorithm: Option<Algorithm>,
    /// The members its kind requires, as RFC 7638 orders them: what the platform imports, and what a thumbprint is of.
    pub text: String,
}

impl Jwk {
    /// Whether the key may verify a signature of this algorithm.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        self.kind == algorithm.kind() && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// RFC 7638 §3.
    pub fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(&self.text))
    }

    /// As it is shown and published: for signatures, with its name and algorithm.
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
enum Unusable {
    /// Of a kind, or for a use, that is not one of ours.
    Foreign(Fault),
    Faulty(Fault),
}

/// A set as a whole is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the key set is larger than {MAX_SET_BYTES} bytes")]
    TooLarge,
    #[error("the key set is not acceptable JSON with an array `keys`")]
    Form,
    #[error("the key set has more than {MAX_KEYS} keys")]
    TooMany,
    #[error("the key set has private or shared keys in it")]
    Private,
}

/// Reads a published set.
pub fn read_set(bytes: &[u8]) -> Result<Vec<Jwk>, Refused> {
    if bytes.len() > MAX_SET_BYTES {
        return Err(Refused::TooLarge);
    }
    #[derive(Deserialize)]
    struct Set<'a> {
        #[serde(borrow)]
        keys: Vec<&'a RawValue>,
    }
    let text = check(bytes, MAX_DEPTH).map_err(|_| Refused::Form)?;
    let set: Set<'_> = serde_json::from_str(text).map_err(|_| Refused::Form)?;
    if set.keys.len() > MAX_KEYS {
        return Err(Refused::TooMany);
    }
    if set.keys.iter().any(|raw| is_private(raw)) {
        return Err(Refused::Private);
    }
    Ok(set.keys.iter().filter_map(|raw| read(raw, "#").ok()).collect())
}

/// Reads keys that people register, with all their faults.
pub fn read_registered(keys: &[&RawValue], pointer: &str) -> (Vec<Jwk>, Vec<Fault>) {
    let (mut read_keys, mut faults) = (Vec::new(), Vec::new());
    for (index, raw) in keys.iter().enumerate() {
        let at = format!("{pointer}/{index}");
        if is_private(raw) {
            faults.push(Fault::new(at, "has a private or shared key in it: give the public part only"));
            continue;
        }
        match read(raw, &at) {
            Ok(key) => read_keys.push(key),
            Err(Unusable::Foreign(fault) | Unusable::Faulty(fault)) => faults.push(fault),
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

fn read(raw: &RawValue, pointer: &str) -> Result<Jwk, Unusable> {
    let mut key = Object::new(raw.get(), pointer).map_err(Unusable::Faulty)?;
    let foreign = |name: &str, detail: &str| Unusable::Foreign(Fault::new(format!("{pointer}/{name}"), detail));
    let text = |key: &mut Object<'_>, name: &str| key.string(name, 1..=1024);
    let (kty, crv) = (text(&mut key, "kty"), text(&mut key, "crv"));
    let kind = match (kty.as_deref(), crv.as_deref()) {
        (Some("EC"), Some("P-256")) => Kind::P256,
        (Some("OKP"), Some("Ed25519")) => Kind::Ed25519,
        (Some("RSA"), None) => Kind::Rsa,
        _ => return Err(foreign("kty", "must be EC with crv P-256, OKP with crv Ed25519, or RSA")),
    };
    if text(&mut key, "use").is_some_and(|used| used != "sig") {
        return Err(foreign("use", "must be sig"));
    }
    let operations = key.strings("key_ops", 10, 30);
    if operations.is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
        return Err(foreign("key_ops", "must have verify"));
    }
    let algorithm = match text(&mut key, "alg") {
        None => None,
        Some(name) => match Algorithm::parse(&name).filter(|algorithm| algorithm.kind() == kind) {
            Some(algorithm) => Some(algorithm),
            None => return Err(foreign("alg", "must be ES256, EdDSA, RS256 or PS256, as fits the key")),
        },
    };
    let kid = key.string("kid", 1..=256);
    let mut bytes = |name: &str, length: std::ops::RangeInclusive<usize>| {
        let text = key.string(name, 1..=1024).unwrap_or_default();
        match URL_SAFE_NO_PAD.decode(&text) {
            Ok(bytes) if length.contains(&bytes.len()) => Ok((text, bytes)),
            _ => {
                let detail = format!("must be base64url of {} to {} bytes", length.start(), length.end());
                Err(Unusable::Faulty(Fault::new(format!("{pointer}/{name}"), detail)))
            }
        }
    };
    let text = match kind {
        Kind::P256 => {
            let ((x, _), (y, _)) = (bytes("x", 32..=32)?, bytes("y", 32..=32)?);
            format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
        }
        Kind::Ed25519 => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, bytes("x", 32..=32)?.0),
        Kind::Rsa => {
            let ((e, exponent), (n, modulus)) = (bytes("e", 1..=4)?, bytes("n", RSA_BYTES)?);
            let odd = exponent.last().is_some_and(|last| last & 1 == 1) && exponent != [1];
            if !odd || modulus.first() == Some(&0) {
                return Err(Unusable::Faulty(Fault::new(format!("{pointer}/e"), "is no public exponent of RSA")));
            }
            format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#)
        }
    };
    // Faults of members that only describe the key; what it does not know itself, a key may say (RFC 7517 §4).
    Ok(Jwk { kid, kind, algorithm, text })
}

/// The key of a set that is to verify: by its name, or the only one that fits when the token names none.
pub fn choose<'k>(keys: &'k [Jwk], kid: Option<&str>, algorithm: Algorithm) -> Option<&'k Jwk> {
    let mut fitting = keys.iter().filter(|key| key.fits(algorithm));
    match kid {
        Some(kid) => fitting.find(|key| key.kid.as_deref() == Some(kid)),
        None => {
            let only = fitting.next();
            if fitting.next().is_some() { None } else { only }
        }
    }
}

#[cfg(test)]
#[path = "jwk_tests.rs"]
mod tests;
