//! Encrypts the registry's secrets before they are written. Encryption is asynchronous and lets other requests in
//! between, so it comes first; the decision that uses its result is made synchronously afterwards.

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::objects::secrets::{CREDENTIALS, SIGNING_SECRET, service_secret_data};
use crate::platform::{Failure, clock, log_event, random, secret_box};
use narthex_core::access::audit::fingerprint;
use narthex_core::access::encrypted_secret::{AssociatedData, EncryptedSecret};
use narthex_core::access::webhook_signature::Secret;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::services::RetiringSecret;
use narthex_core::services::credentials::MAX_FIELDS;

use super::Inner;
use super::messages::{DocumentKind, StoredDocument, StoredService};
use super::observed::needs_lane;
use super::tables::SERVICE;

const OWN_SECRET: &str = "cursor_secret";
/// The member of a webhook with its previous secret.
pub(super) const RETIRING: &str = "retiring";
/// Secrets re-encrypted per sweep at most.
const MAX_PER_SWEEP: usize = 50;

/// The associated data of the tenant's own secret.
pub(super) fn tenant_secret_data(tenant: &TenantId) -> AssociatedData<'_> {
    AssociatedData { tenant, kind: "tenant", id: tenant.as_str(), field: OWN_SECRET }
}

/// The secret in a document.
pub(super) struct SecretField {
    /// Its location, as a JSON Pointer.
    pub pointer: &'static str,
    name: &'static str,
}

/// The secret that documents of a kind may have.
pub(super) fn secret_field(kind: DocumentKind) -> Option<SecretField> {
    match kind {
        DocumentKind::Issuer => Some(SecretField { pointer: "/sign_in/client_secret", name: "client_secret" }),
        DocumentKind::Webhook => Some(SecretField { pointer: "/secret", name: "secret" }),
        DocumentKind::Role
        | DocumentKind::Client
        | DocumentKind::Revocation
        | DocumentKind::Limit
        | DocumentKind::Tenant
        | DocumentKind::Schedule => None,
    }
}

/// The associated data of a document's secret.
pub fn document_secret_data<'a>(tenant: &'a TenantId, kind: DocumentKind, id: &'a str) -> AssociatedData<'a> {
    AssociatedData { tenant, kind: kind.as_str(), id, field: secret_field(kind).map_or("", |field| field.name) }
}

/// The tenant's own secret, encrypted and decrypted.
pub(super) struct OwnSecret {
    pub encrypted: EncryptedSecret,
    plaintext: String,
}

/// The secrets in a write of a service.
pub(super) struct NewSecrets {
    /// The signing secret in the document, or one for a service that has none: its plaintext, to be shown, and its
    /// encrypted form.
    pub signing: (String, EncryptedSecret),
    /// In the order of the document; `None` for a credential without a value.
    pub credentials: Vec<Option<EncryptedSecret>>,
}

impl Inner {
    /// Decrypts the tenant's own secret; creates it on first use.
    pub(super) async fn load_own_secret(&self) -> Result<(), Failure> {
        if self.own_secret.borrow().is_some() {
            return Ok(());
        }
        let tenant = self.tenant();
        let data = tenant_secret_data(&tenant);
        if self.tables.meta(OWN_SECRET)?.is_none() {
            let made = Secret::from_random(random::bytes()).text();
            // Without a key it is stored as plaintext and encrypted when a key is set.
            let encrypted = match secret_box::newest() {
                Some(_) => secret_box::encrypt(data, clock::now(), "", &made).await?,
                None => EncryptedSecret::plaintext(made),
            };
            // Another request may have created one in the meantime.
            if self.tables.meta(OWN_SECRET)?.is_none() {
                self.tables.set_encrypted(OWN_SECRET, &encrypted)?;
            }
        }
        let encrypted =
            self.tables.encrypted(OWN_SECRET)?.ok_or_else(|| Failure("the tenant's secret is missing".into()))?;
        let plaintext = secret_box::decrypt(data, &encrypted).await?;
        *self.own_secret.borrow_mut() = Some(OwnSecret { encrypted, plaintext });
        Ok(())
    }

    pub(super) fn fingerprint(&self, secret: &str) -> String {
        let own = self.own_secret.borrow();
        fingerprint(own.as_ref().map_or("", |own| &own.plaintext), secret)
    }

    /// A secret as the audit log shows it.
    pub(super) fn audit_fingerprint(&self, secret: &EncryptedSecret) -> String {
        match (secret.parts(), secret.as_plaintext()) {
            (Some(parts), _) => format!("fingerprint:{}", parts.fingerprint),
            (None, plaintext) => self.fingerprint(plaintext.unwrap_or_default()),
        }
    }

    /// As [`Inner::fingerprint`], without the prefix.
    pub(super) fn short_fingerprint(&self, secret: &str) -> String {
        let fingerprint = self.fingerprint(secret);
        fingerprint.strip_prefix("fingerprint:").unwrap_or_default().to_string()
    }

    async fn encrypt(&self, data: AssociatedData<'_>, secret: &str) -> Result<EncryptedSecret, Failure> {
        secret_box::encrypt(data, clock::now(), &self.short_fingerprint(secret), secret).await
    }

    /// Encrypts the secrets in a service's document or patch. They are validated when the document is read.
    pub(super) async fn encrypt_fresh(&self, id: &ServiceId, document: &str) -> Result<NewSecrets, Failure> {
        let document: Value = serde_json::from_str(document).unwrap_or_default();
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
        let given = document.pointer("/credentials");
        let each = given.map(|given| given.as_array().map_or(std::slice::from_ref(given), Vec::as_slice));
        let mut credentials = Vec::new();
        for credential in each.unwrap_or_default().iter().take(MAX_FIELDS) {
            let value = credential.get("value").or_else(|| credential.get("client_secret")).and_then(Value::as_str);
            credentials.push(match value {
                Some(value) => Some(self.encrypt(service_secret_data(&self.tenant(), id, CREDENTIALS), value).await?),
                None => None,
            });
        }
        let signing = self.encrypt_signing(id, text("/signing_secret").map(Into::into)).await?;
        Ok(NewSecrets { signing, credentials })
    }

    pub(super) async fn encrypt_signing(
        &self,
        id: &ServiceId,
        given: Option<String>,
    ) -> Result<(String, EncryptedSecret), Failure> {
        let plain = given.unwrap_or_else(|| Secret::from_random(random::bytes()).text());
        let encrypted = self.encrypt(service_secret_data(&self.tenant(), id, SIGNING_SECRET), &plain).await?;
        Ok((plain, encrypted))
    }

    pub(super) async fn encrypt_webhook(&self, id: &str, secret: &str) -> Result<EncryptedSecret, Failure> {
        self.encrypt(document_secret_data(&self.tenant(), DocumentKind::Webhook, id), secret).await
    }

    /// A document with its secret encrypted, if it has one.
    pub(super) async fn encrypt_document(
        &self,
        kind: DocumentKind,
        id: &str,
        document: Box<RawValue>,
    ) -> Result<Box<RawValue>, Failure> {
        let Some(field) = secret_field(kind) else { return Ok(document) };
        let mut value: Value = serde_json::from_str(document.get())?;
        let Some(secret) = value.pointer_mut(field.pointer).filter(|secret| secret.is_string()) else {
            return Ok(document);
        };
        let tenant = self.tenant();
        let data = document_secret_data(&tenant, kind, id);
        let encrypted = self.encrypt(data, secret.as_str().unwrap_or_default()).await?;
        *secret = serde_json::to_value(&encrypted)?;
        Ok(to_raw_value(&value)?)
    }

    /// Re-encrypts some of the secrets that are not under the newest key. The meaning stays the same, so the revision
    /// does too: the old text can be decrypted as long as its key is set.
    pub(super) async fn encrypt_again(&self) -> Result<(), Failure> {
        let Some(newest) = secret_box::newest() else { return Ok(()) };
        self.encrypt_own_again().await?;
        let now = clock::now();
        let is_old = |secret: &EncryptedSecret| !secret.is_under(newest);
        let is_over = |old: &RetiringSecret| old.until <= now;
        let mut services = self.tables.services()?;
        services.retain(|service| secrets_of(service).any(is_old) || service.retiring.as_ref().is_some_and(is_over));
        let mut documents = Vec::new();
        for kind in DocumentKind::ALL.into_iter().filter(|kind| secret_field(*kind).is_some()) {
            documents.extend(self.tables.documents_of(kind)?);
        }
        documents.retain(|stored| {
            secret_of(stored).is_some_and(|secret| is_old(&secret))
                || retiring_of(stored).is_some_and(|old| is_old(&old.secret) || is_over(&old))
        });
        let (all, mut done) = (services.len() + documents.len(), 0);
        for service in services.into_iter().take(MAX_PER_SWEEP) {
            let id = service.service.id.clone();
            done += self.log_failure(id.as_str(), self.encrypt_service_again(service, now).await);
        }
        for stored in documents.iter().take(MAX_PER_SWEEP) {
            done += self.log_failure(&stored.id, self.encrypt_document_again(stored, now).await);
        }
        if all > 0 {
            let (tenant, left) = (self.tenant(), all - done);
            log_event!(SecretsEncryptedAgain, tenant = &tenant, key = newest, done = done, left = left);
        }
        Ok(())
    }

    /// A secret that cannot be decrypted does not keep the others from being re-encrypted.
    fn log_failure(&self, id: &str, outcome: Result<(), Failure>) -> usize {
        let Err(failure) = outcome else { return 1 };
        log_event!(SecretsNotEncryptedAgain, tenant = &self.tenant(), object = id, detail = &failure);
        0
    }

    async fn reencrypt(
        &self,
        data: AssociatedData<'_>,
        secret: &mut EncryptedSecret,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let fingerprint = |secret: &str| self.short_fingerprint(secret);
        if let Some(again) = secret_box::encrypt_again(data, secret, now, fingerprint).await? {
            *secret = again;
        }
        Ok(())
    }

    async fn encrypt_own_again(&self) -> Result<(), Failure> {
        let tenant = self.tenant();
        let Some(encrypted) = self.own_secret.borrow().as_ref().map(|own| own.encrypted.clone()) else { return Ok(()) };
        let again =
            secret_box::encrypt_again(tenant_secret_data(&tenant), &encrypted, clock::now(), |_| String::new()).await?;
        if let Some(again) = again {
            self.tables.set_encrypted(OWN_SECRET, &again)?;
            if let Some(own) = self.own_secret.borrow_mut().as_mut() {
                own.encrypted = again;
            }
        }
        Ok(())
    }

    async fn encrypt_service_again(&self, before: StoredService, now: Timestamp) -> Result<(), Failure> {
        let (tenant, id) = (self.tenant(), before.service.id.clone());
        let mut after = before.clone();
        let signing = service_secret_data(&tenant, &id, SIGNING_SECRET);
        self.reencrypt(signing, &mut after.signing_secret, now).await?;
        // An expired secret is dropped.
        after.retiring = after.retiring.filter(|old| now < old.until);
        if let Some(RetiringSecret { secret, .. }) = &mut after.retiring {
            self.reencrypt(signing, secret, now).await?;
        }
        for value in after.credentials.iter_mut().flat_map(|known| known.values_mut()) {
            self.reencrypt(service_secret_data(&tenant, &id, CREDENTIALS), value, now).await?;
        }
        // A concurrent write has already encrypted it.
        let known: Option<StoredService> = self.tables.get(SERVICE, id.as_str())?;
        if known.is_some_and(|known| (known.version, known.created_at) == (before.version, before.created_at)) {
            self.tables.put(SERVICE, id.as_str(), &after)?;
            if needs_lane(&after.service) {
                self.configure_lane(&after).await;
            }
        }
        Ok(())
    }

    async fn encrypt_document_again(&self, before: &StoredDocument, now: Timestamp) -> Result<(), Failure> {
        let tenant = self.tenant();
        let Some((field, mut secret)) = secret_field(before.kind).zip(secret_of(before)) else { return Ok(()) };
        self.reencrypt(document_secret_data(&tenant, before.kind, &before.id), &mut secret, now).await?;
        let mut value: Value = serde_json::from_str(before.document.get())?;
        if let Some(member) = value.pointer_mut(field.pointer) {
            *member = serde_json::to_value(&secret)?;
        }
        // An expired secret is dropped.
        let mut retiring = retiring_of(before).filter(|old| now < old.until);
        if let Some(RetiringSecret { secret, .. }) = &mut retiring {
            self.reencrypt(document_secret_data(&tenant, before.kind, &before.id), secret, now).await?;
        }
        if let Some(members) = value.as_object_mut() {
            match retiring {
                Some(retiring) => members.insert(RETIRING.into(), serde_json::to_value(&retiring)?),
                None => members.remove(RETIRING),
            };
        }
        let after = StoredDocument { document: to_raw_value(&value)?, ..before.clone() };
        let kind = before.kind.as_str();
        let known: Option<StoredDocument> = self.tables.get(kind, &before.id)?;
        if known.is_some_and(|known| (known.version, known.created_at) == (before.version, before.created_at)) {
            self.tables.put(kind, &before.id, &after)?;
        }
        Ok(())
    }
}

fn secrets_of(registered: &StoredService) -> impl Iterator<Item = &EncryptedSecret> {
    let credentials = registered.credentials.iter().flat_map(|known| known.values());
    let retiring = registered.retiring.iter().map(|old| &old.secret);
    [&registered.signing_secret].into_iter().chain(credentials).chain(retiring)
}

/// A document's secret, if it has one.
pub(super) fn secret_of(stored: &StoredDocument) -> Option<EncryptedSecret> {
    let field = secret_field(stored.kind)?;
    let value: Value = serde_json::from_str(stored.document.get()).ok()?;
    serde_json::from_value(value.pointer(field.pointer)?.clone()).ok()
}

/// A webhook's previous secret, while it is kept.
pub(super) fn retiring_of(stored: &StoredDocument) -> Option<RetiringSecret> {
    let value: Value =
        serde_json::from_str(stored.document.get()).ok().filter(|_| stored.kind == DocumentKind::Webhook)?;
    serde_json::from_value(value.get(RETIRING)?.clone()).ok()
}
