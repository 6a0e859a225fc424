//! What a service has secret, decrypted where it is called: in a Worker, and in its lane for probes.

use narthex_core::access::encrypted_secret::{AssociatedData, EncryptedSecret};
use std::borrow::Cow;

use crate::platform::http::Headers;
use crate::platform::{Failure, secret_box};
use narthex_core::access::webhook_signature::Secret;
use narthex_core::base::time::Timestamp;
use narthex_core::http::egress_address::Address;
use narthex_core::services::RetiringSecret;
use narthex_core::services::credentials::{self, CredentialPlace, EncryptedCredentials, OAuthClient};

use super::lanes::messages::Target;
use super::registry::messages::Registered;

pub const SIGNING_SECRET: &str = "signing_secret";
pub const CREDENTIALS: &str = "credentials";

/// What a secret of a service is bound to.
pub fn of_service<'a>(tenant: &'a str, service: &'a str, field: &'static str) -> AssociatedData<'a> {
    AssociatedData { tenant, kind: "service", id: service, field }
}

/// As it is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stored<'s> {
    credentials: Option<&'s EncryptedCredentials>,
    signing_secret: &'s EncryptedSecret,
    retiring: Option<&'s RetiringSecret>,
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
pub struct DecryptedSecrets {
    credentials: Vec<(CredentialPlace, String)>,
    /// Tokens are had for it, by the only one of `credentials`.
    client: Option<OAuthClient>,
    signing: Secret,
    retiring: Option<(Secret, Timestamp)>,
}

impl DecryptedSecrets {
    pub async fn of(tenant: &str, service: &str, stored: Stored<'_>, now: Timestamp) -> Result<Self, Failure> {
        let signing = of_service(tenant, service, SIGNING_SECRET);
        let read = |text: String| Secret::parse(&text).ok_or_else(|| Failure("a signing secret is none".into()));
        let retiring = match stored.retiring.filter(|old| now < old.until) {
            Some(RetiringSecret { secret, until }) => {
                Some((read(secret_box::decrypt(signing, secret).await?)?, *until))
            }
            None => None,
        };
        let mut credentials = Vec::new();
        for (place, value) in stored.credentials.iter().flat_map(|known| known.each()) {
            credentials.push((place, secret_box::decrypt(of_service(tenant, service, CREDENTIALS), value).await?));
        }
        let client = stored.credentials.and_then(|known| known.client.clone());
        Ok(Self {
            credentials,
            client,
            signing: read(secret_box::decrypt(signing, stored.signing_secret).await?)?,
            retiring,
        })
    }

    /// Whether one of the service's credentials is in a text of its own: in whole, without the word before it, or as
    /// it stands in an address or in JSON.
    pub fn shows_in(&self, text: &str) -> bool {
        self.credentials.iter().any(|(_, value)| credentials::shows(value, text))
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
        Some((self.client.as_ref()?, &self.credentials.first()?.1))
    }

    /// The service's own credentials alone; where tokens are had for it, nothing.
    pub fn add_credentials(&self, headers: &mut Headers) {
        for (place, value) in &self.credentials {
            if let (CredentialPlace::Header(name), None) = (place, &self.client) {
                headers.set(name, value);
            }
        }
    }

    /// Where the service is called: its address with what it is place in the query.
    pub fn addressed<'a>(&self, address: &'a Address) -> Cow<'a, Address> {
        let mut pairs = self.credentials.iter().filter_map(|(place, value)| match place {
            CredentialPlace::Query(name) => Some((name.as_str(), value.as_str())),
            CredentialPlace::Header(_) => None,
        });
        match pairs.clone().next() {
            Some(_) => Cow::Owned(address.with_query(&mut pairs)),
            None => Cow::Borrowed(address),
        }
    }
}
