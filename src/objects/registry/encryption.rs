//! Encrypts the registry's secrets before they are written. Encryption is asynchronous and lets other requests in
//! between, so it comes first; the decision that uses its result is made synchronously afterwards.

use std::rc::Rc;

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::objects::secrets::{CREDENTIALS, SIGNING_SECRET, service_secret_data};
use crate::platform::{Failure, clock, log_event, random, secret_box};
use narthex_core::access::encrypted_secret::{AssociatedData, EncryptedSecret};
use narthex_core::access::webhook_signature::Secret;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::registry::NewSecrets;
use narthex_core::registry::secrets::{
    OwnSecret, document_secret_data, retiring_of, secret_field, secret_of, tenant_secret_data,
};
use narthex_core::services::RetiringSecret;
use narthex_core::services::credentials::{self, MAX_FIELDS};

use super::Inner;
use super::messages::{DocumentKind, StoredDocument, StoredService};

/// Secrets re-encrypted per sweep at most.
const MAX_PER_SWEEP: usize = 50;

impl Inner {
    fn tenant(&self) -> TenantId {
        self.registry.borrow().tenant()
    }

    /// Decrypts the tenant's own secret; creates it on first use.
    pub(super) async fn load_own_secret(&self) -> Result<(), Failure> {
        if self.registry.borrow().own_secret().is_some() {
            return Ok(());
        }
        let tenant = self.tenant();
        let data = tenant_secret_data(&tenant);
        let encrypted = match self.stored_own_secret()? {
            Some(encrypted) => encrypted,
            None => self.create_own_secret(data).await?,
        };
        let plaintext = secret_box::decrypt(data, &encrypted).await?;
        self.registry.borrow_mut().set_own_secret(OwnSecret { encrypted, plaintext });
        Ok(())
    }

    fn stored_own_secret(&self) -> Result<Option<EncryptedSecret>, Failure> {
        Ok(self.registry.borrow().stored_own_secret()?)
    }

    async fn create_own_secret(&self, data: AssociatedData<'_>) -> Result<EncryptedSecret, Failure> {
        let made = Secret::from_random(random::bytes()).text();
        // Without a key it is stored as plaintext and encrypted when a key is set.
        let encrypted = match secret_box::newest() {
            Some(_) => secret_box::encrypt(data, clock::now(), "", &made).await?,
            None => EncryptedSecret::plaintext(made),
        };
        // Another request may have created one in the meantime.
        if let Some(known) = self.stored_own_secret()? {
            return Ok(known);
        }
        self.registry.borrow_mut().store_own_secret(&encrypted)?;
        Ok(encrypted)
    }

    async fn encrypt(&self, data: AssociatedData<'_>, secret: &str) -> Result<EncryptedSecret, Failure> {
        let fingerprint = self.registry.borrow().short_fingerprint(secret);
        secret_box::encrypt(data, clock::now(), &fingerprint, secret).await
    }

    /// Encrypts the secrets in a service's document or patch. They are validated when the document is read.
    pub(super) async fn encrypt_fresh(&self, id: &ServiceId, document: &str) -> Result<NewSecrets, Failure> {
        let mut credentials = Vec::new();
        for value in credentials::values(document).into_iter().take(MAX_FIELDS) {
            let encrypted = self.encrypt(service_secret_data(&self.tenant(), id, CREDENTIALS), &value).await?;
            credentials.push((value, encrypted));
        }
        let document: Value = serde_json::from_str(document).unwrap_or_default();
        let given = document.pointer("/signing_secret").and_then(Value::as_str);
        let signing = self.encrypt_signing(id, given.map(Into::into)).await?;
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
    pub(super) async fn encrypt_again(self: &Rc<Self>) -> Result<(), Failure> {
        let Some(newest) = secret_box::newest() else { return Ok(()) };
        self.encrypt_own_again().await?;
        let now = clock::now();
        let outdated = self.registry.borrow_mut().outdated_secrets(newest, now, MAX_PER_SWEEP)?;
        let all = outdated.services.len() + outdated.more_services + outdated.documents.len();
        let mut done = 0;
        for service in outdated.services {
            let id = service.service.id.clone();
            done += self.log_failure(id.as_str(), self.encrypt_service_again(service, now).await);
        }
        for stored in outdated.documents.iter().take(MAX_PER_SWEEP) {
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
        let fingerprint = |secret: &str| self.registry.borrow().short_fingerprint(secret);
        if let Some(again) = secret_box::encrypt_again(data, secret, now, fingerprint).await? {
            *secret = again;
        }
        Ok(())
    }

    async fn encrypt_own_again(&self) -> Result<(), Failure> {
        let tenant = self.tenant();
        let Some(encrypted) = self.stored_own_secret()? else { return Ok(()) };
        let data = tenant_secret_data(&tenant);
        let again = secret_box::encrypt_again(data, &encrypted, clock::now(), |_| String::new()).await?;
        if let Some(again) = again {
            self.registry.borrow_mut().store_own_secret(&again)?;
        }
        Ok(())
    }

    async fn encrypt_service_again(self: &Rc<Self>, before: StoredService, now: Timestamp) -> Result<(), Failure> {
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
        Ok(self.decide(|registry| registry.store_service_again(&before, &after, clock::now()))?)
    }

    async fn encrypt_document_again(self: &Rc<Self>, before: &StoredDocument, now: Timestamp) -> Result<(), Failure> {
        let tenant = self.tenant();
        let Some(mut secret) = secret_of(before) else { return Ok(()) };
        let data = document_secret_data(&tenant, before.kind, &before.id);
        self.reencrypt(data, &mut secret, now).await?;
        // An expired secret is dropped.
        let mut retiring = retiring_of(before).filter(|old| now < old.until);
        if let Some(RetiringSecret { secret, .. }) = &mut retiring {
            self.reencrypt(data, secret, now).await?;
        }
        Ok(self.decide(|registry| registry.store_document_again(before, &secret, retiring.as_ref(), clock::now()))?)
    }
}
