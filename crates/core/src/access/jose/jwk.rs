//! Public keys as JSON Web Keys (RFC 7517, RFC 7518 §6, RFC 8037), and which of them may verify what.
//!
//! A set with anything private in it is refused whole: whoever published it has lost those keys. A key of a kind that
//! is not known here is passed over in a set, as RFC 7517 §5 says, and is a fault where people register it.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::jwt::Algorithm;
use crate::base::json::{Fault, Object, check};

/// The largest set, in bytes, and the most keys in it.
pub const MAX_SET_BYTES: usize = 64 * 1024;
pub const MAX_KEYS: usize = 50;
const MAX_DEPTH: usize = 8;
/// The members that hold a private or a shared key.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// The shortest RSA modulus taken and the longest, in bytes.
const RSA_BYTES: RangeInclusive<usize> = 256..=512;

/// What a key is, which decides what it can verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    P256,
    Ed25519,
    Rsa,
    P384,
}

/// Base64url with its padding or without: both are met.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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

/// What bytes are, which says what zeros in front of them mean.
#[derive(Clone, Copy)]
enum Number {
    /// No number: every byte counts.
    None,
    /// A number in as many bytes as it needs (RFC 7518 §2, Base64urlUInt).
    Free,
    /// A number in so many bytes (RFC 7518 §6.2.1.2).
    Fixed,
}

/// Zeros that may have been left out in front of a number of fixed length: more of them means another number.
const MAX_MISSING: usize = 2;

impl Number {
    /// Some write a sign's octet in front of a number, or leave zeros out that belong there.
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

fn read(raw: &RawValue, pointer: &str) -> Result<Jwk, Unusable> {
    let mut key = Object::new(raw.get(), pointer).map_err(Unusable::Faulty)?;
    let foreign = |name: &str, detail: &str| Unusable::Foreign(Fault::new(format!("{pointer}/{name}"), detail));
    let text = |key: &mut Object<'_>, name: &str| key.string(name, 1..=1024);
    let (kty, crv) = (text(&mut key, "kty"), text(&mut key, "crv"));
    let kind = match (kty.as_deref(), crv.as_deref()) {
        (Some("EC"), Some("P-256")) => Kind::P256,
        (Some("EC"), Some("P-384")) => Kind::P384,
        (Some("OKP"), Some("Ed25519")) => Kind::Ed25519,
        (Some("RSA"), None) => Kind::Rsa,
        _ => return Err(foreign("kty", "must be EC with crv P-256 or P-384, OKP with crv Ed25519, or RSA")),
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
            None => {
                let fitting = Algorithm::ALL.into_iter().filter(|algorithm| algorithm.kind() == kind);
                return Err(foreign("alg", &format!("must be {}, as fits the key", Algorithm::listed(fitting))));
            }
        },
    };
    let kid = key.string("kid", 1..=256);
    let mut bytes = |name: &str, length: RangeInclusive<usize>, number: Number| {
        let text = key.string(name, 1..=1024).unwrap_or_default();
        let bytes = LENIENT.decode(&text).ok().map(|bytes| number.canonical(bytes, *length.end()));
        bytes.filter(|bytes| length.contains(&bytes.len())).ok_or_else(|| {
            let detail = format!("must be base64url of {} to {} bytes", length.start(), length.end());
            Unusable::Faulty(Fault::new(format!("{pointer}/{name}"), detail))
        })
    };
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let mut on_curve = |name: &str, length: usize| {
        let mut coordinate = |name| bytes(name, length..=length, Number::Fixed).map(|bytes| encode(&bytes));
        let (x, y) = (coordinate("x")?, coordinate("y")?);
        Ok(format!(r#"{{"crv":"{name}","kty":"EC","x":"{x}","y":"{y}"}}"#))
    };
    let text = match kind {
        Kind::P256 => on_curve("P-256", 32)?,
        Kind::P384 => on_curve("P-384", 48)?,
        Kind::Ed25519 => {
            let x = encode(&bytes("x", 32..=32, Number::None)?);
            format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)
        }
        Kind::Rsa => {
            let (exponent, modulus) = (bytes("e", 1..=4, Number::Free)?, bytes("n", RSA_BYTES, Number::Free)?);
            let odd = exponent.last().is_some_and(|last| last & 1 == 1) && exponent != [1];
            if !odd {
                return Err(Unusable::Faulty(Fault::new(format!("{pointer}/e"), "is no public exponent of RSA")));
            }
            format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, encode(&exponent), encode(&modulus))
        }
    };
    // Faults of members that only describe the key; what it does not know itself, a key may say (RFC 7517 §4).
    Ok(Jwk { kid, kind, algorithm, text })
}

/// The keys of a set that may have made a signature: all of its name, or the only one that fits when the token names
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
