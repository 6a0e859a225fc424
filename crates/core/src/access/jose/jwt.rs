//! JSON Web Tokens (RFC 7519, RFC 8725, RFC 9068): parsing and checking. The signature is verified elsewhere.
//!
//! Only compact JWS (RFC 7515 §7.1) with the algorithms below, so that neither `none` nor a shared secret is possible.
//! Keys come only from the issuer's configuration: `jku`, `jwk` and `x5u` are ignored.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::algorithm::Algorithm;
use crate::base::json::check;
use crate::base::principal_id::MAX_SUBJECT;
use crate::base::time::Timestamp;

/// The longest accepted token, in bytes.
pub const MAX_BYTES: usize = 16 * 1024;
/// The accepted difference of clocks, in seconds.
pub const SKEW_SECONDS: u64 = 60;
/// The default claim with the subject.
pub const SUBJECT: &str = "sub";
/// The default claim with the audience.
pub const AUDIENCE: &str = "aud";
const MAX_DEPTH: usize = 16;

/// Why a token is rejected. For the log only; clients see the same response for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
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
    #[error("the token's type is not the one its issuer uses")]
    Type,
    #[error("the token's issuer is unknown")]
    Issuer,
    #[error("the token's key is unknown")]
    Key,
    #[error("the token's signature is invalid")]
    Signature,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token has no usable subject")]
    Subject,
    #[error("the token has no expiration time")]
    NoEnd,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    Early,
    #[error("the token, or the grant it came from, was revoked")]
    Revoked,
    #[error("the token's client no longer exists")]
    Client,
    #[error("the token's subject no longer exists")]
    Holder,
    #[error("the token's claims map to no role or tenant")]
    Unmapped,
}

/// A parsed token. Its content must not be trusted before the signature is verified.
#[derive(Debug)]
pub struct Token<'t> {
    pub algorithm: Algorithm,
    pub kid: Option<String>,
    typ: Option<String>,
    /// The signed text: the header and the claims as they were received.
    pub signed: &'t str,
    pub signature: Vec<u8>,
    pub claims: Value,
}

/// Whether a text is meant as a token rather than a key.
pub fn looks_like_token(text: &str) -> bool {
    text.starts_with("ey") && text.contains('.')
}

fn part(text: &str) -> Result<Value, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Form)?;
    let text = check(&bytes, MAX_DEPTH).map_err(|_| TokenError::Json)?;
    serde_json::from_str(text).ok().filter(Value::is_object).ok_or(TokenError::Json)
}

/// Parses a token.
pub fn parse(text: &str) -> Result<Token<'_>, TokenError> {
    if text.len() > MAX_BYTES {
        return Err(TokenError::TooLong);
    }
    let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Form)?;
    let (header, claims) = signed.split_once('.').ok_or(TokenError::Form)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Form)?;
    if claims.contains('.') || signature.is_empty() {
        return Err(TokenError::Form);
    }
    let header = part(header)?;
    // RFC 7515 §4.1.11: unknown critical extensions must be rejected, and none is known.
    if header.get("crit").is_some() {
        return Err(TokenError::Critical);
    }
    let algorithm =
        header.get("alg").and_then(Value::as_str).and_then(Algorithm::parse).ok_or(TokenError::Algorithm)?;
    let optional = |name: &str| match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(TokenError::Json),
    };
    Ok(Token { algorithm, kid: optional("kid")?, typ: optional("typ")?, signed, signature, claims: part(claims)? })
}

/// The accepted audiences, and the claim that contains the audience.
#[derive(Debug, Clone, Copy)]
pub struct Audience<'e> {
    pub claim: &'e str,
    pub first: &'e str,
    pub more: &'e [String],
}

impl<'e> From<&'e str> for Audience<'e> {
    /// One audience in the standard claim (RFC 7519 §4.1.3).
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

/// What a token of an issuer must contain.
#[derive(Debug, Clone, Copy)]
pub struct TokenRequirements<'e> {
    pub issuer: &'e str,
    pub audience: Audience<'e>,
    pub typ: &'e str,
    pub algorithms: &'e [Algorithm],
}

/// Normalizes a `typ` (RFC 7515 §4.1.9): case-insensitive, and `application/` is optional.
fn media_type(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    text.strip_prefix("application/").map_or(text.clone(), Into::into)
}

/// A NumericDate (RFC 7519 §2) in seconds, rounded down.
fn seconds(value: &Value) -> Option<u64> {
    value.as_f64().filter(|seconds| (0.0..1e11).contains(seconds)).map(|seconds| seconds as u64)
}

/// Rejects invisible characters and those that change the direction of the text.
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

    /// The claimed issuer.
    pub fn issuer(&self) -> Option<&str> {
        self.text("iss")
    }

    /// Checks the header, before the search for a key.
    pub fn check_header(&self, expected: &TokenRequirements<'_>) -> Result<(), TokenError> {
        if !expected.algorithms.contains(&self.algorithm) {
            return Err(TokenError::Algorithm);
        }
        let typ = self.typ.as_deref().map(media_type);
        // RFC 7519 §5.1 recommends the type of a plain JWT and does not require it.
        let fits = typ.as_deref().map_or(media_type(expected.typ) == "jwt", |typ| typ == media_type(expected.typ));
        if fits { Ok(()) } else { Err(TokenError::Type) }
    }

    /// Checks the claims. Returns when the token expires, including the accepted difference of clocks.
    pub fn check_claims(&self, expected: &TokenRequirements<'_>, now: Timestamp) -> Result<Timestamp, TokenError> {
        if self.issuer() != Some(expected.issuer) {
            return Err(TokenError::Issuer);
        }
        self.place_of(expected.audience).ok_or(TokenError::Audience)?;
        let now = now.seconds();
        let end = self.claims.get("exp").and_then(seconds).ok_or(TokenError::NoEnd)?;
        if end.saturating_add(SKEW_SECONDS) <= now {
            return Err(TokenError::Expired);
        }
        for claim in ["nbf", "iat"] {
            if let Some(value) = self.claims.get(claim).filter(|value| !value.is_null()) {
                let from = seconds(value).ok_or(TokenError::Json)?;
                if from > now + SKEW_SECONDS {
                    return Err(TokenError::Early);
                }
            }
        }
        Ok(Timestamp((end + SKEW_SECONDS) * 1000))
    }

    /// The index of the first accepted audience among those in the token.
    pub fn place_of(&self, audience: Audience<'_>) -> Option<usize> {
        let accepted = |value: &Value| value.as_str().is_some_and(|name| audience.accepts(name));
        match self.claim(audience.claim)? {
            Value::Array(list) if list.iter().all(Value::is_string) => list.iter().position(accepted),
            one => accepted(one).then_some(0),
        }
    }

    /// The subject in this claim, if it can be part of a principal.
    pub fn subject(&self, claim: &str) -> Result<&str, TokenError> {
        let subject = self.claim(claim).and_then(Value::as_str);
        subject.filter(|subject| usable_subject(subject)).ok_or(TokenError::Subject)
    }

    /// A claim by its name or by a JSON Pointer (RFC 6901).
    pub fn claim(&self, name: &str) -> Option<&Value> {
        if name.starts_with('/') { self.claims.pointer(name) } else { self.claims.get(name) }
    }
}

/// The words of a claim: an array of strings, or one string with words separated by spaces (RFC 6749 §3.3).
pub fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => text.split(' ').filter(|word| !word.is_empty()).collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
