//! A service's secrets, decrypted where the service is called: in a Worker, and in its lane for probes.

use narthex_core::access::encrypted_secret::{AssociatedData, EncryptedSecret};
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use std::borrow::Cow;

use crate::platform::http::Headers;
use crate::platform::{Failure, secret_box};
use narthex_core::access::webhook_signature::Secret;
use narthex_core::base::time::Timestamp;
use narthex_core::http::egress_address::Address;
use narthex_core::service_lane::probing::Target;
use narthex_core::services::RetiringSecret;
use narthex_core::services::credentials::{self, CredentialPlace, EncryptedCredentials, OAuthClient};

use super::registry::messages::StoredService;

pub const SIGNING_SECRET: &str = "signing_secret";
pub const CREDENTIALS: &str = "credentials";

/// The associated data of a service's secret.
pub fn service_secret_data<'a>(
    tenant: &'a TenantId,
    service: &'a ServiceId,
    field: &'static str,
) -> AssociatedData<'a> {
    AssociatedData { tenant, kind: "service", id: service.as_str(), field }
}

/// A service's secrets in stored form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StoredSecrets<'s> {
    credentials: Option<&'s EncryptedCredentials>,
    signing_secret: &'s EncryptedSecret,
    retiring: Option<&'s RetiringSecret>,
}

impl<'s> From<&'s StoredService> for StoredSecrets<'s> {
    fn from(from: &'s StoredService) -> Self {
        let (credentials, retiring) = (from.credentials.as_ref(), from.retiring.as_ref());
        Self { credentials, signing_secret: &from.signing_secret, retiring }
    }
}

impl<'s> From<&'s Target> for StoredSecrets<'s> {
    fn from(from: &'s Target) -> Self {
        let (credentials, retiring) = (from.credentials.as_ref(), from.retiring.as_ref());
        Self { credentials, signing_secret: &from.signing_secret, retiring }
    }
}

/// The secrets that a call of a service needs.
pub struct DecryptedSecrets {
    credentials: Vec<(CredentialPlace, String)>,
    /// OAuth client for which access tokens are requested, with the only one of `credentials` as its secret.
    client: Option<OAuthClient>,
    signing: Secret,
    retiring: Option<(Secret, Timestamp)>,
}

impl DecryptedSecrets {
    pub async fn of(
        tenant: &TenantId,
        service: &ServiceId,
        stored: StoredSecrets<'_>,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let signing = service_secret_data(tenant, service, SIGNING_SECRET);
        let read = |text: String| Secret::parse(&text).ok_or_else(|| Failure("a signing secret is malformed".into()));
        let retiring = match stored.retiring.filter(|old| now < old.until) {
            Some(RetiringSecret { secret, until }) => {
                Some((read(secret_box::decrypt(signing, secret).await?)?, *until))
            }
            None => None,
        };
        let mut credentials = Vec::new();
        for (place, value) in stored.credentials.iter().flat_map(|known| known.each()) {
            credentials
                .push((place, secret_box::decrypt(service_secret_data(tenant, service, CREDENTIALS), value).await?));
        }
        let client = stored.credentials.and_then(|known| known.client.clone());
        Ok(Self {
            credentials,
            client,
            signing: read(secret_box::decrypt(signing, stored.signing_secret).await?)?,
            retiring,
        })
    }

    /// Whether a text of the service's contains one of its credentials: in full, without its scheme, or as encoded in a
    /// URL or in JSON.
    pub fn shows_in(&self, text: &str) -> bool {
        self.credentials.iter().any(|(_, value)| credentials::shows(value, text))
    }

    /// Adds the headers by which a service recognizes its gateway (Standard Webhooks 1.0), and the service's
    /// credentials. During a rotation there are two signatures.
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

    /// The OAuth client that tokens are requested for, with its secret.
    pub fn client(&self) -> Option<(&OAuthClient, &str)> {
        Some((self.client.as_ref()?, &self.credentials.first()?.1))
    }

    /// Adds only the service's own credentials; none if tokens are requested for it.
    pub fn add_credentials(&self, headers: &mut Headers) {
        for (place, value) in &self.credentials {
            if let (CredentialPlace::Header(name), None) = (place, &self.client) {
                headers.set(name, value);
            }
        }
    }

    /// The address that is called: with the credentials that belong into the query.
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
