//! JSON Web Tokens (RFC 7519, RFC 8725, RFC 9068): what a token says, and whether it may be believed once its
//! signature was verified elsewhere.
//!
//! Only compact JWS (RFC 7515 §7.1) of the algorithms here, so neither `none` nor a shared secret is anything
//! that could be asked for. Keys come from the issuer's configuration alone: `jku`, `jwk` and `x5u` are never looked at.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::jwk::Kind;
use crate::base::json::check;
use crate::base::time::Timestamp;

/// The longest token taken, in bytes.
pub const MAX_BYTES: usize = 16 * 1024;
/// How far clocks may differ, in seconds.
pub const SKEW_SECONDS: u64 = 60;
/// The longest subject, in bytes: it becomes part of a principal.
pub const MAX_SUBJECT: usize = 1024;
/// The claims that name who a token is about and for whom it is, where an issuer has no others.
pub const SUBJECT: &str = "sub";
pub const AUDIENCE: &str = "aud";
const MAX_DEPTH: usize = 16;

/// RFC 7518 §3, RFC 8037 §3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "PS256")]
    Ps256,
    #[serde(rename = "ES384")]
    Es384,
    #[serde(rename = "RS384")]
    Rs384,
    #[serde(rename = "RS512")]
    Rs512,
    #[serde(rename = "PS384")]
    Ps384,
    #[serde(rename = "PS512")]
    Ps512,
}

impl Algorithm {
    pub const ALL: [Algorithm; 9] = [
        Algorithm::Es256,
        Algorithm::EdDsa,
        Algorithm::Rs256,
        Algorithm::Ps256,
        Algorithm::Es384,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps384,
        Algorithm::Ps512,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
            Algorithm::Rs256 => "RS256",
            Algorithm::Ps256 => "PS256",
            Algorithm::Es384 => "ES384",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
        }
    }

    /// By its name; `Ed25519` is what RFC 9864 calls the one curve of `EdDSA` that is known here.
    pub fn parse(name: &str) -> Option<Self> {
        let name = if name == "Ed25519" { "EdDSA" } else { name };
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The names of several, as a sentence lists them.
    pub fn listed(some: impl IntoIterator<Item = Algorithm>) -> String {
        let names: Vec<&str> = some.into_iter().map(Algorithm::name).collect();
        match names.split_last() {
            Some((last, [])) => (*last).into(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }

    pub fn kind(self) -> Kind {
        match self {
            Algorithm::Es256 => Kind::P256,
            Algorithm::Es384 => Kind::P384,
            Algorithm::EdDsa => Kind::Ed25519,
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => Kind::Rsa,
        }
    }
}

/// Why a token is refused. For the log: outside all of them look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the token is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("the token is not three parts of base64url")]
    Form,
    #[error("the token's header or claims are not acceptable JSON")]
    Json,
    #[error("the token has critical extensions")]
    Critical,
    #[error("the token's algorithm is not one of its issuer's")]
    Algorithm,
    #[error("the token's type is not its issuer's")]
    Type,
    #[error("the token's issuer is not known")]
    Issuer,
    #[error("the token's key is not known")]
    Key,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token is for somebody else")]
    Audience,
    #[error("the token has no subject that can be used")]
    Subject,
    #[error("the token says no end")]
    NoEnd,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    Early,
    #[error("the token, or the grant it came from, was revoked")]
    Revoked,
    #[error("the token's client is no more")]
    Client,
    #[error("who the token acts for is no more")]
    Holder,
    #[error("the token's claims give no role or tenant here")]
    Unmapped,
}

/// A token taken apart. Nothing in it is to be believed before the signature is.
#[derive(Debug)]
pub struct Token<'t> {
    pub algorithm: Algorithm,
    pub kid: Option<String>,
    typ: Option<String>,
    /// What was signed: the header and the claims as they came.
    pub signed: &'t str,
    pub signature: Vec<u8>,
    pub claims: Value,
}

/// A text that means to be a token rather than a key.
pub fn looks_like_token(text: &str) -> bool {
    text.starts_with("ey") && text.contains('.')
}

fn part(text: &str) -> Result<Value, Refused> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Refused::Form)?;
    let text = check(&bytes, MAX_DEPTH).map_err(|_| Refused::Json)?;
    serde_json::from_str(text).ok().filter(Value::is_object).ok_or(Refused::Json)
}

/// Takes a token apart.
pub fn parse(text: &str) -> Result<Token<'_>, Refused> {
    if text.len() > MAX_BYTES {
        return Err(Refused::TooLong);
    }
    let (signed, signature) = text.rsplit_once('.').ok_or(Refused::Form)?;
    let (header, claims) = signed.split_once('.').ok_or(Refused::Form)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refused::Form)?;
    if claims.contains('.') || signature.is_empty() {
        return Err(Refused::Form);
    }
    let header = part(header)?;
    // RFC 7515 §4.1.11: an extension that is not understood; none is.
    if header.get("crit").is_some() {
        return Err(Refused::Critical);
    }
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::parse).ok_or(Refused::Algorithm)?;
    let optional = |name: &str| match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Refused::Json),
    };
    Ok(Token { algorithm, kid: optional("kid")?, typ: optional("typ")?, signed, signature, claims: part(claims)? })
}

/// For whom a token has to be: one of several, as a claim names it.
#[derive(Debug, Clone, Copy)]
pub struct Audience<'e> {
    pub claim: &'e str,
    pub first: &'e str,
    pub more: &'e [String],
}

impl<'e> From<&'e str> for Audience<'e> {
    /// RFC 7519 §4.1.3.
    fn from(first: &'e str) -> Self {
        Self { claim: AUDIENCE, first, more: &[] }
    }
}

impl<'e> Audience<'e> {
    pub fn names(self) -> impl Iterator<Item = &'e str> {
        std::iter::once(self.first).chain(self.more.iter().map(String::as_str))
    }

    pub fn accepts(self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }
}

/// What a token has to say to be one of an issuer's.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'e> {
    pub issuer: &'e str,
    pub audience: Audience<'e>,
    pub typ: &'e str,
    pub algorithms: &'e [Algorithm],
}

/// RFC 7515 §4.1.9: without regard to case, and `application/` may be left out.
fn media_type(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    text.strip_prefix("application/").map_or(text.clone(), Into::into)
}

/// A point in time (RFC 7519 §2, NumericDate) in seconds, rounded down.
fn seconds(value: &Value) -> Option<u64> {
    value.as_f64().filter(|seconds| (0.0..1e11).contains(seconds)).map(|seconds| seconds as u64)
}

/// Nothing that cannot be seen, nor what turns the order of what is seen around.
fn usable_subject(subject: &str) -> bool {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    (1..=MAX_SUBJECT).contains(&subject.len()) && !subject.chars().any(hidden)
}

impl Token<'_> {
    pub fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    /// Whose token it says it is.
    pub fn issuer(&self) -> Option<&str> {
        self.text("iss")
    }

    /// What can be told before any key is looked for.
    pub fn check_header(&self, expected: &Expected<'_>) -> Result<(), Refused> {
        if !expected.algorithms.contains(&self.algorithm) {
            return Err(Refused::Algorithm);
        }
        let typ = self.typ.as_deref().map(media_type);
        // RFC 7519 §5.1 recommends the type of a plain JWT and does not require it.
        let fits = typ.as_deref().map_or(media_type(expected.typ) == "jwt", |typ| typ == media_type(expected.typ));
        if fits { Ok(()) } else { Err(Refused::Type) }
    }

    /// All that the claims have to be, whoever the issuer is. Gives when the token ends.
    pub fn check_claims(&self, expected: &Expected<'_>, now: Timestamp) -> Result<Timestamp, Refused> {
        if self.issuer() != Some(expected.issuer) {
            return Err(Refused::Issuer);
        }
        self.place_of(expected.audience).ok_or(Refused::Audience)?;
        let now = now.seconds();
        let end = self.claims.get("exp").and_then(seconds).ok_or(Refused::NoEnd)?;
        if end.saturating_add(SKEW_SECONDS) <= now {
            return Err(Refused::Expired);
        }
        for claim in ["nbf", "iat"] {
            if let Some(value) = self.claims.get(claim).filter(|value| !value.is_null()) {
                let from = seconds(value).ok_or(Refused::Json)?;
                if from > now + SKEW_SECONDS {
                    return Err(Refused::Early);
                }
            }
        }
        Ok(Timestamp((end + SKEW_SECONDS) * 1000))
    }

    /// The place among those it names of the first audience that is accepted.
    pub fn place_of(&self, audience: Audience<'_>) -> Option<usize> {
        let accepted = |value: &Value| value.as_str().is_some_and(|name| audience.accepts(name));
        match self.claim(audience.claim)? {
            Value::Array(list) if list.iter().all(Value::is_string) => list.iter().position(accepted),
            one => accepted(one).then_some(0),
        }
    }

    /// Who it is about, as a claim says it and as it can stand in a principal.
    pub fn subject(&self, claim: &str) -> Result<&str, Refused> {
        let subject = self.claim(claim).and_then(Value::as_str);
        subject.filter(|subject| usable_subject(subject)).ok_or(Refused::Subject)
    }

    /// A claim by its name, or inside of others by a JSON Pointer (RFC 6901).
    pub fn claim(&self, name: &str) -> Option<&Value> {
        if name.starts_with('/') { self.claims.pointer(name) } else { self.claims.get(name) }
    }
}

/// A claim's words: an array of strings, or one string of words between spaces (RFC 6749 §3.3).
pub fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => text.split(' ').filter(|word| !word.is_empty()).collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
