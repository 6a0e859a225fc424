//! What a service has secret, opened where it is called: in a Worker, and in its lane for probes.

use crate::core::sealed::{Place, Sealed};
use crate::core::service::{Credentials, OAuthClient, Retiring, SealedCredentials};
use crate::core::signature::Secret;
use crate::core::time::Timestamp;
use crate::platform::http::Headers;
use crate::platform::{Failure, vault};

use super::lanes::messages::Target;
use super::registry::messages::Registered;

pub const SIGNING_SECRET: &str = "signing_secret";
pub const CREDENTIALS: &str = "credentials";

/// Credentials shorter than this are found in any text by chance.
const SHORTEST: usize = 8;

/// Where a secret of a service is bound to.
pub fn place<'a>(tenant: &'a str, service: &'a str, field: &'static str) -> Place<'a> {
    Place { tenant, kind: "service", id: service, field }
}

/// As it is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stored<'s> {
    credentials: Option<&'s SealedCredentials>,
    signing_secret: &'s Sealed,
    retiring: Option<&'s Retiring>,
}

impl<'s> From<&'s Registered> for Stored<'s> {
    fn from(from: &'s Registered) -> Self {
        let (credentials, retiring) = (from.credentials.as_ref(), from.retiring.as_ref());
        Self { credentials, signing_secret: &from.signing_secret, retiring }
    }
}

impl<'s> From<&'s Target> for Stored<'s> {
    fn from(from: &'s Target) -> Self {
        let (credentials, retiring) = (from.credentials.as_ref(), from.retiring.as_ref());
        Self { credentials, signing_secret: &from.signing_secret, retiring }
    }
}

/// What a service is called with.
pub struct Opened {
    credentials: Option<Credentials>,
    signing: Secret,
    retiring: Option<(Secret, Timestamp)>,
}

impl Opened {
    pub async fn of(tenant: &str, service: &str, stored: Stored<'_>, now: Timestamp) -> Result<Self, Failure> {
        let signing = place(tenant, service, SIGNING_SECRET);
        let read = |text: String| Secret::parse(&text).ok_or_else(|| Failure("a signing secret is none".into()));
        let retiring = match stored.retiring.filter(|old| now < old.until) {
            Some(Retiring { secret, until }) => Some((read(vault::open(signing, secret).await?)?, *until)),
            None => None,
        };
        let credentials = match stored.credentials {
            Some(SealedCredentials { header, value, client }) => {
                let value = vault::open(place(tenant, service, CREDENTIALS), value).await?;
                Some(Credentials { header: header.clone(), value, client: client.clone() })
            }
            None => None,
        };
        Ok(Self { credentials, signing: read(vault::open(signing, stored.signing_secret).await?)?, retiring })
    }

    /// Whether the service's credentials are in a text of its own: in whole, or without the word before them.
    pub fn shows_in(&self, text: &str) -> bool {
        let credentials = self.credentials.as_ref();
        let secret = credentials.and_then(|known| known.value.rsplit(' ').find(|part| !part.is_empty()));
        secret.is_some_and(|secret| secret.len() >= SHORTEST && shows(text, secret))
    }

    /// The headers by which a service knows its gateway (Standard Webhooks 1.0), and its credentials. While a rotation
    /// lasts there are two signatures.
    pub fn add(&self, headers: &mut Headers, id: &str, now: Timestamp, body: &[u8]) {
        let timestamp = now.seconds();
        let mut signature = self.signing.sign(id, timestamp, body);
        if let Some((old, _)) = self.retiring.as_ref().filter(|(_, until)| now < *until) {
            signature.push(' ');
            signature.push_str(&old.sign(id, timestamp, body));
        }
        headers.set("webhook-id", id);
        headers.set("webhook-timestamp", &timestamp.to_string());
        headers.set("webhook-signature", &signature);
        self.add_credentials(headers);
    }

    /// The client that tokens are had for, with its secret.
    pub fn client(&self) -> Option<(&OAuthClient, &str)> {
        let credentials = self.credentials.as_ref()?;
        Some((credentials.client.as_ref()?, &credentials.value))
    }

    /// The service's own credentials alone; where tokens are had for it, nothing.
    pub fn add_credentials(&self, headers: &mut Headers) {
        if let Some(Credentials { header, value, client: None }) = &self.credentials {
            headers.set(header, value);
        }
    }
}

/// Whether a secret is in a text, as it is or escaped as JSON escapes it; or begins where the text was cut off.
fn shows(text: &str, secret: &str) -> bool {
    let escaped = serde_json::to_string(secret).unwrap_or_default();
    let escaped = escaped.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(secret);
    let end = text.trim_end_matches(['"', '…']);
    let is_cut = |length: usize| secret.get(..length).is_some_and(|beginning| end.ends_with(beginning));
    text.contains(secret)
        || text.contains(escaped)
        || text.contains(&secret.replace('/', "\\/"))
        || (SHORTEST..secret.len()).any(is_cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_as_it_is_as_json_writes_it_and_cut_off() {
        let secret = "sk-se/cret\"1234567";
        for text in [
            r#"no sk-se/cret"1234567 here"#,
            r#"{"error":"sk-se/cret\"1234567"}"#,
            r#"{"error":"sk-se\/cret"1234567"}"#,
            r#""… Bearer sk-se/cr""#,
            "Bearer sk-se/cret…",
        ] {
            assert!(shows(text, secret), "{text}");
        }
        for text in ["", "sk-se", r#""sk-se/cr was cut""#, "Bearer sk-se/"] {
            assert!(!shows(text, secret), "{text}");
        }
    }
}
