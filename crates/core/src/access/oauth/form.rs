//! Parts of OAuth requests: forms, scopes, PKCE, Basic credentials.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::super::permission;
use super::{OAuthError, OAuthErrorCode};
use crate::base::order;

/// Maximum number of permissions in a scope.
const MAX_SCOPE: usize = 50;

/// The parameters of a form, each at most once; an empty one counts as absent (RFC 6749 §3.1).
#[derive(Debug, Default, Clone)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    pub fn read(bytes: &[u8]) -> Result<Self, OAuthError> {
        let mut members = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(bytes) {
            if members.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(OAuthError::new(OAuthErrorCode::InvalidRequest, "a parameter is repeated"));
            }
        }
        members.retain(|_, value| !value.is_empty());
        Ok(Self(members))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn require(&self, name: &str) -> Result<&str, OAuthError> {
        self.get(name).ok_or_else(|| OAuthError::new(OAuthErrorCode::InvalidRequest, format!("{name} is missing")))
    }
}

/// Client id and secret from a Basic header, form-decoded after base64 (RFC 6749 §2.3.1).
pub fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decoded = |text: &str| {
        // Parsed as a single name: an unescaped `=` or `&` must not split it.
        let text = text.replace('=', "%3D").replace('&', "%26");
        url::form_urlencoded::parse(text.as_bytes()).next().map(|(text, _)| text.into_owned()).unwrap_or_default()
    };
    Some((decoded(id), decoded(secret)))
}

/// Reads a scope: permissions separated by spaces.
pub fn scope(text: &str) -> Result<Vec<String>, OAuthError> {
    let mut scope: Vec<String> = Vec::new();
    let words = || text.split(' ').filter(|word| !word.is_empty());
    for word in words().map(permission::of_scope) {
        if !permission::valid(&word) {
            return Err(OAuthError::new(
                OAuthErrorCode::InvalidScope,
                "a scope must consist of permissions such as contexts:read",
            ));
        }
        if permission::is_named(&word) && !scope.iter().any(|known| *known == word) {
            scope.push(word.into());
        }
    }
    if order::insert_all::<BTreeSet<_>, _>(words()).len() > MAX_SCOPE {
        return Err(OAuthError::new(
            OAuthErrorCode::InvalidScope,
            format!("a scope may have at most {MAX_SCOPE} permissions"),
        ));
    }
    Ok(scope)
}

/// Whether a text can be a code challenge of the method S256 (RFC 7636 §4.2).
pub fn is_challenge(text: &str) -> bool {
    text.len() == 43 && URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

/// Whether a code verifier matches the challenge (RFC 7636 §4.6).
pub fn proves(verifier: &str, challenge: &str) -> bool {
    let well_formed = (43..=128).contains(&verifier.len())
        && verifier.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'));
    let made = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    well_formed && bool::from(made.as_bytes().ct_eq(challenge.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636 appendix B.
    #[test]
    fn the_proof_key_of_the_standard_proves_itself() {
        let (verifier, challenge) =
            ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(is_challenge(challenge) && proves(verifier, challenge));
        assert!(!proves(&verifier.replace('d', "e"), challenge));
        assert!(!proves(verifier, verifier) && !proves("short", challenge) && !proves(&"a".repeat(129), challenge));
        assert!(!is_challenge("short") && !is_challenge(&"+".repeat(43)));
    }

    #[test]
    fn a_parameter_is_there_once_or_not_at_all() {
        let form = Form::read(b"a=1&b=&c=x%20y+z").unwrap();
        assert_eq!((form.get("a"), form.get("b"), form.get("c")), (Some("1"), None, Some("x y z")));
        assert_eq!(form.require("b").unwrap_err().error, OAuthErrorCode::InvalidRequest);
        for doubled in ["a=1&a=1", "a=&a=1", "a&a"] {
            assert_eq!(Form::read(doubled.as_bytes()).unwrap_err().error, OAuthErrorCode::InvalidRequest, "{doubled}");
        }
    }

    #[test]
    fn basic_credentials_are_form_decoded() {
        let header = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert_eq!(basic(&header("a%3Ab+c:s%2Be=c&r%26t")), Some(("a:b c".into(), "s+e=c&r&t".into())));
        assert_eq!(basic("Bearer abc"), None);
        assert_eq!(basic("Basic !!"), None);
        assert_eq!(basic(&header("no colon")), None);
    }

    #[test]
    fn a_scope_is_permissions() {
        assert_eq!(scope("contexts:read  openid contexts:read services:*").unwrap(), ["contexts:read", "services:*"]);
        assert_eq!(scope("openid profile email offline_access contexts:read").unwrap(), ["contexts:read"]);
        assert_eq!(scope("openid profile User.Read").unwrap(), [""; 0]);
        assert_eq!(scope("* profile").unwrap(), ["*"]);
        assert_eq!(scope("a b&").unwrap_err().error, OAuthErrorCode::InvalidScope);
        assert!(scope(&(0..51).map(|n| format!("p{n} ")).collect::<String>()).is_err());
    }
}
