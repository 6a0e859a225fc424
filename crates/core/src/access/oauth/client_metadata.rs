//! What a client says of itself: when it registers (RFC 7591), and in a document at its own address (Client ID Metadata
//! Documents). It may ask people, and nothing else.
//!
//! What this server does not have is passed over, as RFC 7591 §2 allows, and the answer says what was registered. A
//! member that is `null` is a member that is not there. What is too long or of another type than it must be is refused.

use serde_json::{Map, Value};

use super::super::issuer::Keys;
use super::super::permission;
use super::client::{
    AuthMethod, Client, GrantType, LONGEST_REDIRECT, LONGEST_SCOPE, MAX_REDIRECTS, acceptable_redirect,
};
use super::{Error, Refused};
use crate::http::egress_address::{self, Policy};

/// What a client may be given that names no scope: what the role `caller` has.
const USUAL_SCOPE: &str = "contexts:create:* contexts:read contexts:cancel services:read events:read";
/// All redirect addresses together, in bytes.
const MAX_REDIRECT_BYTES: usize = 16 * 1024;
/// Entries of a list that is read at all.
const MAX_LISTED: usize = 100;
/// The longest name of a grant type, and so on, in bytes.
const LONGEST_WORD: usize = 200;
const LONGEST_NAME: usize = 200;

/// What a client says of itself, read member by member.
struct Said(Map<String, Value>);

fn wrong(description: &str) -> Refused {
    Refused::new(Error::InvalidClientMetadata, description)
}

impl Said {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn string(&self, name: &str, longest: usize) -> Result<Option<&str>, Refused> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= longest => Ok(Some(text)),
            Some(Value::String(_)) => Err(wrong(&format!("{name} may have at most {longest} bytes"))),
            Some(_) => Err(wrong(&format!("{name} must be a string"))),
        }
    }

    /// The entries of a list that are strings.
    fn list(&self, name: &str, longest: usize) -> Result<Option<Vec<&str>>, Refused> {
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

/// A client that says who it is by a document at its own address.
pub fn read_metadata(address: &str, text: &str, policy: Policy) -> Option<Client> {
    let said = Said(serde_json::from_str(text).ok()?);
    let named = said.get("client_id").and_then(Value::as_str) == Some(address);
    if !named || said.get("client_secret").is_some() {
        return None;
    }
    let client = by_itself(address, &said, "none", policy).ok()?;
    // A secret that stands in a public document is none.
    (!client.auth_method.has_secret()).then_some(client)
}

/// A client that registers itself.
///
/// # Errors
/// Nothing could be registered that would serve it.
pub fn read_registration(id: &str, text: &str, policy: Policy) -> Result<Client, Refused> {
    let said = serde_json::from_str(text).map_err(|_| wrong("the body must be a JSON object"))?;
    by_itself(id, &Said(said), "client_secret_basic", policy)
}

fn by_itself(id: &str, said: &Said, usual_method: &str, policy: Policy) -> Result<Client, Refused> {
    let redirect_uris = redirects(said)?;
    let asked = said.list("grant_types", LONGEST_WORD)?.unwrap_or_default();
    let serves = |name: &&str| *name == "authorization_code" || *name == "refresh_token";
    if !asked.is_empty() && !asked.iter().any(serves) {
        return Err(wrong("none of the grant_types is served: ask for authorization_code"));
    }
    // The only response type goes with the code.
    said.list("response_types", LONGEST_WORD)?;
    let method = said.string("token_endpoint_auth_method", LONGEST_WORD)?.unwrap_or(usual_method);
    let auth_method = AuthMethod::parse(method).ok_or_else(|| wrong("token_endpoint_auth_method is not known"))?;
    let jwks_uri = said.string("jwks_uri", LONGEST_REDIRECT)?;
    let keys = if auth_method == AuthMethod::PrivateKeyJwt {
        let url = jwks_uri.and_then(|url| egress_address::check(url, policy, &[]).ok());
        Some(Keys::Url(url.ok_or_else(|| wrong("private_key_jwt needs a jwks_uri"))?.into()))
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

/// Those of its redirect addresses that answers may go to.
fn redirects(said: &Said) -> Result<Vec<String>, Refused> {
    let refused = |description: &str| Refused::new(Error::InvalidRedirectUri, description);
    // An address that is too long is one that no answer goes to.
    let listed = said.list("redirect_uris", LONGEST_REDIRECT).map_err(|refusal| refused(&refusal.description))?;
    let mut good: Vec<String> = Vec::new();
    for uri in listed.unwrap_or_default() {
        if acceptable_redirect(uri) && !good.iter().any(|known| known == uri) {
            good.push(uri.into());
        }
    }
    if good.is_empty() {
        return Err(refused(
            "redirect_uris must be https, loopback by http, or an app's own scheme such as cursor://done",
        ));
    }
    if good.len() > MAX_REDIRECTS || good.iter().map(String::len).sum::<usize>() > MAX_REDIRECT_BYTES {
        let most = format!("redirect_uris may be at most {MAX_REDIRECTS}, with {MAX_REDIRECT_BYTES} bytes in all");
        return Err(refused(&most));
    }
    Ok(good)
}

/// The permissions it asks for. Words of OpenID Connect and others without an area are no permissions here.
fn scope(said: &Said) -> Result<Vec<String>, Refused> {
    let named = said.string("scope", LONGEST_SCOPE)?.unwrap_or_default();
    let mut words: Vec<&str> = named.split(' ').filter(|word| !word.is_empty()).collect();
    let asks = !words.is_empty();
    words.retain(|word| permission::valid(word));
    if asks && words.is_empty() {
        return Err(wrong("scope has no permission of this gateway"));
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
