//! OAuth clients: their identity, authentication and redirect URIs.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use url::{Host, Url};

use super::super::issuer::{AddressRules, Keys, read_keys};
use super::super::permission;
use super::redirect_uri;
use crate::base::canonical::digest;
use crate::base::json::{Fault, Object};
use crate::base::tenant_id::TenantId;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    ClientCredentials,
    AuthorizationCode,
    RefreshToken,
}

impl GrantType {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "client_credentials" => GrantType::ClientCredentials,
            "authorization_code" => GrantType::AuthorizationCode,
            "refresh_token" => GrantType::RefreshToken,
            _ => return None,
        })
    }
}

/// RFC 7591 §2, `token_endpoint_auth_method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    ClientSecretBasic,
    ClientSecretPost,
    PrivateKeyJwt,
    None,
}

impl AuthMethod {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "client_secret_basic" => AuthMethod::ClientSecretBasic,
            "client_secret_post" => AuthMethod::ClientSecretPost,
            "private_key_jwt" => AuthMethod::PrivateKeyJwt,
            "none" => AuthMethod::None,
            _ => return None,
        })
    }

    pub fn has_secret(self) -> bool {
        matches!(self, AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost)
    }
}

/// A registered client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Unique within the tenant; the client uses [`client_id`].
    pub id: String,
    pub name: String,
    pub grant_types: Vec<GrantType>,
    pub auth_method: AuthMethod,
    pub redirect_uris: Vec<String>,
    /// The largest scope that it can be granted.
    pub scope: Vec<String>,
    /// The keys of its assertions.
    pub keys: Option<Keys>,
    /// SHA-256 of its secret, in hex.
    pub secret_hash: Option<String>,
}

/// The `client_id`, `{tenant}.{id}`. Neither part contains a dot.
pub fn client_id(tenant: &TenantId, id: &str) -> String {
    format!("{tenant}.{id}")
}

/// The prefix of the ids of clients that registered themselves. They belong to the deployment: people of any tenant may
/// grant them access.
pub const SELF_REGISTERED: &str = "dyn-";

/// Splits a `client_id` into the tenant and the id.
pub fn split_client_id(text: &str) -> Option<(&str, &str)> {
    text.split_once('.')
}

impl Client {
    pub fn may(&self, grant_type: GrantType) -> bool {
        self.grant_types.contains(&grant_type)
    }

    /// Whether `uri` is a registered redirect URI; for loopback addresses any port is accepted (RFC 8252 §7.3).
    pub fn redirects_to(&self, uri: &str) -> bool {
        self.redirect_uris.iter().any(|known| redirect_uri::matches(known, uri))
    }
}

/// Compares a secret with the stored hash in constant time, even if there is none.
pub fn secret_matches(stored: Option<&str>, secret: &str) -> bool {
    const NO_SECRETS_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    digest(secret).as_bytes().ct_eq(stored.unwrap_or(NO_SECRETS_HASH).as_bytes()).into()
}

fn loopback(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let own = match url.host()? {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => name == "localhost",
    };
    (own && url.scheme() == "http" && url.username().is_empty() && url.password().is_none()).then_some(url)
}

/// Schemes that do not belong to an app: their URLs execute, read or send something, belong to the system, or lead to
/// public resources.
const NO_APPS_SCHEME: [&str; 46] = [
    "about",
    "acct",
    "blob",
    "cid",
    "chrome",
    "content",
    "data",
    "dns",
    "edge",
    "feed",
    "file",
    "filesystem",
    "ftp",
    "ftps",
    "geo",
    "git",
    "gopher",
    "imap",
    "intent",
    "irc",
    "jar",
    "javascript",
    "jdbc",
    "ldap",
    "ldaps",
    "livescript",
    "localhost",
    "mailto",
    "mhtml",
    "mid",
    "mocha",
    "news",
    "nfs",
    "nntp",
    "resource",
    "search-ms",
    "sftp",
    "sms",
    "smb",
    "ssh",
    "tel",
    "telnet",
    "urn",
    "vbscript",
    "view-source",
    "ws",
];

/// Whether a scheme may belong to an app (RFC 8252 §7.1): a reversed domain name, or a plain name, as many apps have. A
/// single letter is a drive.
fn apps_own(scheme: &str) -> bool {
    scheme.len() > 1 && scheme != "wss" && !NO_APPS_SCHEME.contains(&scheme) && !scheme.starts_with("ms-")
}

/// The longest scope, in bytes.
pub const LONGEST_SCOPE: usize = 4000;
/// Maximum number of redirect URIs of a client.
pub const MAX_REDIRECTS: usize = 20;
/// The longest redirect URI, in bytes.
pub const LONGEST_REDIRECT: usize = 2048;

/// Whether a text can be a redirect URI: https, http on loopback, or the scheme of an app (RFC 8252 §7).
pub fn acceptable_redirect(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let plain = text.len() <= LONGEST_REDIRECT && text.bytes().all(|b| b.is_ascii_graphic()) && !text.contains('#');
    let without_user = url.username().is_empty() && url.password().is_none();
    plain
        && without_user
        && match url.scheme() {
            "https" => url.host().is_some(),
            "http" => loopback(text).is_some(),
            scheme => apps_own(scheme),
        }
}

/// Reads a document that has passed `json::check`. Returns every fault.
pub fn read(id: &str, text: &str, rules: AddressRules<'_>) -> Result<Client, Vec<Fault>> {
    let mut body = Object::new(text, "#").map_err(|fault| vec![fault])?;
    let name = body.string("name", 1..=200);
    let name = body.require("name", name).unwrap_or_default();
    let listed = body.strings("grant_types", 3, 40);
    let listed = body.require("grant_types", listed);
    let parse = |listed: &Vec<String>| listed.iter().map(|name| GrantType::parse(name)).collect::<Option<Vec<_>>>();
    let grant_types = listed.as_ref().and_then(parse).unwrap_or_default();
    if listed.is_some() && grant_types.is_empty() {
        body.fault("grant_types", "must be an array of client_credentials, authorization_code and refresh_token");
    }
    let method = body.parsed(
        "auth_method",
        "client_secret_basic, client_secret_post, private_key_jwt or none",
        AuthMethod::parse,
    );
    let auth_method = method.unwrap_or(AuthMethod::ClientSecretBasic);
    let redirect_uris = body.strings("redirect_uris", MAX_REDIRECTS, LONGEST_REDIRECT).unwrap_or_default();
    for (index, uri) in redirect_uris.iter().enumerate() {
        if !acceptable_redirect(uri) {
            let detail = "must be https, http on loopback, or an app's own scheme such as cursor://done, without #";
            body.faults([Fault::new(format!("#/redirect_uris/{index}"), detail)]);
        }
    }
    let scope = body.string("scope", 1..=LONGEST_SCOPE);
    let scope = body.require("scope", scope).unwrap_or_default();
    let scope: Vec<String> =
        scope.split(' ').filter(|word| !word.is_empty()).map(|word| permission::of_scope(word).into_owned()).collect();
    if !scope.iter().all(|permission| permission::valid(permission)) {
        body.fault("scope", "must be permissions separated by spaces, such as contexts:read services:read");
    }
    let keys = read_keys(&mut body, rules, false);
    let asks_people = grant_types.contains(&GrantType::AuthorizationCode);
    if asks_people == redirect_uris.is_empty() && !grant_types.is_empty() {
        body.fault("redirect_uris", "are for the grant type authorization_code, which requires at least one");
    }
    if grant_types.contains(&GrantType::RefreshToken) && !asks_people {
        body.fault("grant_types", "refresh_token requires authorization_code");
    }
    if grant_types.contains(&GrantType::ClientCredentials) && auth_method == AuthMethod::None {
        body.fault("auth_method", "cannot be none for client_credentials");
    }
    if (auth_method == AuthMethod::PrivateKeyJwt) != keys.is_some() {
        body.fault("jwks_url", "and keys are for private_key_jwt, which requires one of them");
    }
    let faults = body.finish();
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Client { id: id.into(), name, grant_types, auth_method, redirect_uris, scope, keys, secret_hash: None })
}

#[cfg(test)]
mod tests;
