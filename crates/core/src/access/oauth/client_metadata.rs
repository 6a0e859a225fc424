//! Metadata that a client gives itself: in a registration (RFC 7591), or in a document at its own URL (Client ID
//! Metadata Documents). Such a client can only use the authorization code grant.
//!
//! Unsupported values are ignored, as RFC 7591 §2 allows; the response shows what was registered. A `null` member
//! counts as absent. Values that are too long or of the wrong type are rejected.

use serde_json::{Map, Value};

use super::super::issuer::Keys;
use super::super::permission;
use super::client::{
    AuthMethod, Client, GrantType, LONGEST_REDIRECT, LONGEST_SCOPE, MAX_REDIRECTS, acceptable_redirect,
};
use super::{OAuthError, OAuthErrorCode};
use crate::http::egress_address::{self, Policy};

/// The scope of a client that requests none: the permissions of the role `caller`.
const USUAL_SCOPE: &str = "contexts:create:* contexts:read contexts:cancel services:read events:read";
/// Maximum size of all redirect URIs together, in bytes.
const MAX_REDIRECT_BYTES: usize = 16 * 1024;
/// Maximum number of entries of a list.
const MAX_LISTED: usize = 100;
/// The longest value such as a grant type, in bytes.
const LONGEST_WORD: usize = 200;
const LONGEST_NAME: usize = 200;

/// The metadata, read member by member.
struct Metadata(Map<String, Value>);

fn wrong(description: &str) -> OAuthError {
    OAuthError::new(OAuthErrorCode::InvalidClientMetadata, description)
}

impl Metadata {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn string(&self, name: &str, longest: usize) -> Result<Option<&str>, OAuthError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= longest => Ok(Some(text)),
            Some(Value::String(_)) => Err(wrong(&format!("{name} must not exceed {longest} bytes"))),
            Some(_) => Err(wrong(&format!("{name} must be a string"))),
        }
    }

    /// The strings of an array that are not too long.
    fn list(&self, name: &str, longest: usize) -> Result<Option<Vec<&str>>, OAuthError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(list)) if list.len() <= MAX_LISTED => {
                let words = list.iter().filter_map(Value::as_str).filter(|word| word.len() <= longest);
                Ok(Some(words.collect()))
            }
            Some(Value::Array(_)) => Err(wrong(&format!("{name} may have at most {MAX_LISTED} entries"))),
            Some(_) => Err(wrong(&format!("{name} must be an array"))),
        }
    }
}

/// Reads the metadata document at `address`. `None` if it is not a valid document of a client with this `client_id`.
pub fn read_metadata(address: &str, text: &str, policy: Policy<'_>) -> Option<Client> {
    let said = Metadata(serde_json::from_str(text).ok()?);
    let named = said.get("client_id").and_then(Value::as_str) == Some(address);
    if !named || said.get("client_secret").is_some() {
        return None;
    }
    let client = by_itself(address, &said, "none", policy).ok()?;
    // A secret in a public document would not be secret.
    (!client.auth_method.has_secret()).then_some(client)
}

/// Reads a registration request.
///
/// # Errors
/// The request cannot be registered in a useful form.
pub fn read_registration(id: &str, text: &str, policy: Policy<'_>) -> Result<Client, OAuthError> {
    let said = serde_json::from_str(text).map_err(|_| wrong("the body must be a JSON object"))?;
    by_itself(id, &Metadata(said), "client_secret_basic", policy)
}

fn by_itself(id: &str, said: &Metadata, usual_method: &str, policy: Policy<'_>) -> Result<Client, OAuthError> {
    let redirect_uris = redirects(said)?;
    let asked = said.list("grant_types", LONGEST_WORD)?.unwrap_or_default();
    let serves = |name: &&str| *name == "authorization_code" || *name == "refresh_token";
    if !asked.is_empty() && !asked.iter().any(serves) {
        return Err(wrong("none of the grant_types is supported: use authorization_code"));
    }
    // The only response type is that of the code.
    said.list("response_types", LONGEST_WORD)?;
    let method = said.string("token_endpoint_auth_method", LONGEST_WORD)?.unwrap_or(usual_method);
    let auth_method = AuthMethod::parse(method).ok_or_else(|| wrong("token_endpoint_auth_method is not supported"))?;
    let jwks_uri = said.string("jwks_uri", LONGEST_REDIRECT)?;
    let keys = if auth_method == AuthMethod::PrivateKeyJwt {
        let url = jwks_uri.and_then(|url| egress_address::check(url, policy, &[]).ok());
        Some(Keys::Url(url.ok_or_else(|| wrong("private_key_jwt requires a jwks_uri"))?.into()))
    } else {
        None
    };
    let name = said.string("client_name", usize::MAX)?.unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
    Ok(Client {
        id: id.into(),
        name: if name.is_empty() { id.into() } else { name },
        grant_types: vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
        auth_method,
        redirect_uris,
        scope: scope(said)?,
        keys,
        secret_hash: None,
    })
}

/// The acceptable redirect URIs.
fn redirects(said: &Metadata) -> Result<Vec<String>, OAuthError> {
    let refused = |description: &str| OAuthError::new(OAuthErrorCode::InvalidRedirectUri, description);
    // An address that is too long is not acceptable either.
    let listed = said.list("redirect_uris", LONGEST_REDIRECT).map_err(|refusal| refused(&refusal.description))?;
    let mut good: Vec<String> = Vec::new();
    for uri in listed.unwrap_or_default() {
        if acceptable_redirect(uri) && !good.iter().any(|known| known == uri) {
            good.push(uri.into());
        }
    }
    if good.is_empty() {
        return Err(refused(
            "redirect_uris must be https, http on loopback, or an app's own scheme such as cursor://done",
        ));
    }
    if good.len() > MAX_REDIRECTS || good.iter().map(String::len).sum::<usize>() > MAX_REDIRECT_BYTES {
        let most =
            format!("there may be at most {MAX_REDIRECTS} redirect_uris, with {MAX_REDIRECT_BYTES} bytes in all");
        return Err(refused(&most));
    }
    Ok(good)
}

/// The requested permissions. Words without an area, such as those of OpenID Connect, are not permissions.
fn scope(said: &Metadata) -> Result<Vec<String>, OAuthError> {
    let named = said.string("scope", LONGEST_SCOPE)?.unwrap_or_default();
    let mut words: Vec<&str> = named.split(' ').filter(|word| !word.is_empty()).collect();
    let asks = !words.is_empty();
    words.retain(|word| permission::valid(word));
    if asks && words.is_empty() {
        return Err(wrong("scope contains no permission of this gateway"));
    }
    words.retain(|word| *word == "*" || word.contains(':'));
    let usual = if words.is_empty() { USUAL_SCOPE } else { "" };
    let mut scope: Vec<String> = Vec::new();
    for word in words.into_iter().chain(usual.split(' ').filter(|word| !word.is_empty())) {
        if !scope.iter().any(|known| known == word) {
            scope.push(word.into());
        }
    }
    Ok(scope)
}

#[cfg(test)]
mod tests;
