//! Which secrets a registry holds, and under which names they are encrypted. The shell encrypts and decrypts.

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::messages::{DocumentKind, StoredDocument, StoredService};
use super::notifications::Notification;
use super::revision::Revision;
use super::storage::{self, Storage};
use super::{Registry, needs_lane};
use crate::access::audit::fingerprint;
use crate::access::encrypted_secret::{AssociatedData, EncryptedSecret};
use crate::base::storage_error::StorageError;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;
use crate::registry::records::SERVICE;
use crate::services::RetiringSecret;

const OWN_SECRET: &str = "cursor_secret";
/// The member of a webhook with its previous secret.
pub const RETIRING: &str = "retiring";

/// The associated data of the tenant's own secret.
pub fn tenant_secret_data(tenant: &TenantId) -> AssociatedData<'_> {
    AssociatedData { tenant, kind: "tenant", id: tenant.as_str(), field: OWN_SECRET }
}

/// The secret in a document.
#[derive(Debug, Clone, Copy)]
pub struct SecretField {
    /// Its location, as a JSON Pointer.
    pub pointer: &'static str,
    name: &'static str,
}

/// The secret that documents of a kind may have.
pub fn secret_field(kind: DocumentKind) -> Option<SecretField> {
    match kind {
        DocumentKind::Issuer => Some(SecretField { pointer: "/sign_in/client_secret", name: "client_secret" }),
        DocumentKind::Webhook => Some(SecretField { pointer: "/secret", name: "secret" }),
        DocumentKind::Role
        | DocumentKind::Client
        | DocumentKind::Revocation
        | DocumentKind::Limit
        | DocumentKind::Tenant
        | DocumentKind::Schedule
        | DocumentKind::ModelRoute => None,
    }
}

/// The associated data of a document's secret.
pub fn document_secret_data<'a>(tenant: &'a TenantId, kind: DocumentKind, id: &'a str) -> AssociatedData<'a> {
    AssociatedData { tenant, kind: kind.as_str(), id, field: secret_field(kind).map_or("", |field| field.name) }
}

/// The tenant's own secret, encrypted and decrypted.
#[derive(Clone)]
pub struct OwnSecret {
    pub encrypted: EncryptedSecret,
    pub plaintext: String,
}

/// The secrets in a write of a service.
pub struct NewSecrets {
    /// The signing secret in the document, or one for a service that has none: its plaintext, to be shown, and its
    /// encrypted form.
    pub signing: (String, EncryptedSecret),
    /// The values of credentials, each as plaintext and encrypted.
    pub credentials: Vec<(String, EncryptedSecret)>,
}

/// Documents with secrets that are not under the newest key, or with expired ones.
#[derive(Debug, Default)]
pub struct Outdated {
    pub services: Vec<StoredService>,
    /// How many other services there are.
    pub more_services: usize,
    pub documents: Vec<StoredDocument>,
}

/// All services were checked: none is outdated.
#[derive(Debug)]
pub(super) struct CheckedServices {
    newest: u32,
    revision: Revision,
    /// When the first replaced secret expires.
    expires_at: Option<Timestamp>,
}

/// Services whose secrets are looked at together.
const AT_ONCE: u64 = 100;

impl<S: Storage> Registry<S> {
    /// The tenant's own secret as it is stored; `None` before it is created.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn stored_own_secret(&self) -> Result<Option<EncryptedSecret>, StorageError> {
        Ok(self.storage.meta(OWN_SECRET)?.map(|text| serde_json::from_value(text.into())).transpose()?)
    }

    /// Stores the tenant's own secret: a new one, or the same one encrypted again.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn store_own_secret(&mut self, encrypted: &EncryptedSecret) -> Result<(), StorageError> {
        self.storage.set_meta(OWN_SECRET, serde_json::to_value(encrypted)?.as_str().unwrap_or_default())?;
        if let Some(own) = &mut self.own_secret {
            own.encrypted = encrypted.clone();
        }
        Ok(())
    }

    /// The tenant's own secret, once it is decrypted.
    pub fn own_secret(&self) -> Option<&OwnSecret> {
        self.own_secret.as_ref()
    }

    pub fn set_own_secret(&mut self, own: OwnSecret) {
        self.own_secret = Some(own);
    }

    pub(super) fn fingerprint(&self, secret: &str) -> String {
        fingerprint(self.own_secret.as_ref().map_or("", |own| &own.plaintext), secret)
    }

    /// A secret as the audit log shows it.
    pub(super) fn audit_fingerprint(&self, secret: &EncryptedSecret) -> String {
        match (secret.parts(), secret.as_plaintext()) {
            (Some(parts), _) => format!("fingerprint:{}", parts.fingerprint),
            (None, plaintext) => self.fingerprint(plaintext.unwrap_or_default()),
        }
    }

    /// A fingerprint without the prefix.
    pub fn short_fingerprint(&self, secret: &str) -> String {
        let fingerprint = self.fingerprint(secret);
        fingerprint.strip_prefix("fingerprint:").unwrap_or_default().to_string()
    }

    /// What must be encrypted again, or has secrets that have expired; of services, at most so many.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn outdated_secrets(&mut self, newest: u32, now: Timestamp, most: usize) -> Result<Outdated, StorageError> {
        let mut outdated = Outdated::default();
        self.check_services(newest, now, most, &mut outdated)?;
        let is_old = |secret: &EncryptedSecret| !secret.is_under(newest);
        let is_over = |old: &RetiringSecret| old.until <= now;
        let mut documents: Vec<StoredDocument> = Vec::new();
        for kind in DocumentKind::ALL.into_iter().filter(|kind| secret_field(*kind).is_some()) {
            documents.extend(storage::all::<StoredDocument>(&self.storage, kind.as_str())?);
        }
        documents.retain(|stored| {
            secret_of(stored).is_some_and(|secret| is_old(&secret))
                || retiring_of(stored).is_some_and(|old| is_old(&old.secret) || is_over(&old))
        });
        outdated.documents = documents;
        Ok(outdated)
    }

    /// Looks at one service after the other, because their documents may be many and large. What was found to be in
    /// order is looked at again only if it changes, or a secret expires.
    fn check_services(
        &mut self,
        newest: u32,
        now: Timestamp,
        most: usize,
        outdated: &mut Outdated,
    ) -> Result<(), StorageError> {
        let is_in_order =
            |known: &CheckedServices| known.newest == newest && known.expires_at.is_none_or(|at| at > now);
        let known = self.checked_services.take().filter(is_in_order);
        let mut expires_at = known.as_ref().and_then(|known| known.expires_at);
        let mut check = |text: &str| {
            // A service of a later version is left to that version.
            let Ok(service) = serde_json::from_str::<StoredService>(text) else { return };
            let is_over = service.retiring.as_ref().is_some_and(|old| old.until <= now);
            if !is_over && secrets_of(&service).all(|secret| secret.is_under(newest)) {
                let expiries = service.retiring.map(|old| old.until).into_iter().chain(expires_at);
                expires_at = expiries.min();
            } else if outdated.services.len() < most {
                outdated.services.push(service);
            } else {
                outdated.more_services += 1;
            }
        };
        let changed = known.map(|known| self.changes_since(known.revision)).transpose()?.flatten();
        match changed {
            Some(changed) => {
                for (_, id) in changed.iter().filter(|(kind, _)| kind == SERVICE) {
                    self.storage.text(SERVICE, id)?.iter().for_each(|text| check(text));
                }
            }
            None => self.each_service(AT_ONCE, |_, text| {
                check(text);
                Ok(())
            })?,
        }
        if outdated.services.is_empty() {
            self.checked_services = Some(CheckedServices { newest, revision: self.revision, expires_at });
        }
        Ok(())
    }

    /// Replaces a service by the same with its secrets encrypted again. The meaning stays, so the revision does too.
    /// Does nothing if another write has changed the service.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn store_service_again(
        &mut self,
        before: &StoredService,
        after: &StoredService,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let id = before.service.id.clone();
        let known: Option<StoredService> = storage::get(&self.storage, SERVICE, id.as_str())?;
        if known.is_none_or(|known| (known.version, known.created_at) != (before.version, before.created_at)) {
            return Ok(());
        }
        self.transaction(now, |registry| {
            registry.put(SERVICE, id.as_str(), after)?;
            if needs_lane(&after.service) {
                registry.notify(Notification::ConfigureLane { service: id })?;
            }
            Ok(())
        })
    }

    /// As [`Registry::store_service_again`], for another document: with this secret, and with the previous one if that
    /// has not expired.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn store_document_again(
        &mut self,
        before: &StoredDocument,
        secret: &EncryptedSecret,
        retiring: Option<&RetiringSecret>,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let kind = before.kind.as_str();
        let known: Option<StoredDocument> = storage::get(&self.storage, kind, &before.id)?;
        if known.is_none_or(|known| (known.version, known.created_at) != (before.version, before.created_at)) {
            return Ok(());
        }
        let mut value: Value = serde_json::from_str(before.document.get())?;
        if let Some(member) = secret_field(before.kind).and_then(|field| value.pointer_mut(field.pointer)) {
            *member = serde_json::to_value(secret)?;
        }
        if let Some(members) = value.as_object_mut() {
            match retiring {
                Some(retiring) => members.insert(RETIRING.into(), serde_json::to_value(retiring)?),
                None => members.remove(RETIRING),
            };
        }
        let after = StoredDocument { document: to_raw_value(&value)?, ..before.clone() };
        self.transaction(now, |registry| registry.put(kind, &before.id, &after))
    }
}

fn secrets_of(registered: &StoredService) -> impl Iterator<Item = &EncryptedSecret> {
    let credentials = registered.credentials.iter().flat_map(|known| known.values());
    let retiring = registered.retiring.iter().map(|old| &old.secret);
    [&registered.signing_secret].into_iter().chain(credentials).chain(retiring)
}

/// A document's secret, if it has one.
pub fn secret_of(stored: &StoredDocument) -> Option<EncryptedSecret> {
    let field = secret_field(stored.kind)?;
    let value: Value = serde_json::from_str(stored.document.get()).ok()?;
    serde_json::from_value(value.pointer(field.pointer)?.clone()).ok()
}

/// A webhook's previous secret, while it is kept.
pub fn retiring_of(stored: &StoredDocument) -> Option<RetiringSecret> {
    let value: Value =
        serde_json::from_str(stored.document.get()).ok().filter(|_| stored.kind == DocumentKind::Webhook)?;
    serde_json::from_value(value.get(RETIRING)?.clone()).ok()
}

/// Fills in the stored secret where a document has null instead of one.
pub(super) fn with_known_secret(
    document: Box<RawValue>,
    known: Option<&StoredDocument>,
) -> Result<Box<RawValue>, StorageError> {
    let Some((field, secret)) = known.and_then(|known| secret_field(known.kind).zip(secret_of(known))) else {
        return Ok(document);
    };
    let mut value: Value = serde_json::from_str(document.get())?;
    match value.pointer_mut(field.pointer).filter(|member| member.is_null()) {
        Some(member) => *member = serde_json::to_value(&secret)?,
        None => return Ok(document),
    }
    if let (Some(retiring), Some(members)) = (known.and_then(retiring_of), value.as_object_mut()) {
        members.insert(RETIRING.into(), serde_json::to_value(&retiring)?);
    }
    Ok(to_raw_value(&value)?)
}
