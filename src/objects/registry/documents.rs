//! Configuration other than services and keys: versioned documents that the gateway has validated.

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::platform::{Failure, clock};
use narthex_core::access::audit::{Actor, changes};
use narthex_core::access::issuer::{Issuer, Reach};
use narthex_core::access::jose::jwt::SKEW_SECONDS;
use narthex_core::access::oauth::access_token::LIFETIME_SECONDS;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::version::VersionNumber;

use super::audit::Change;
use super::encryption::{RETIRING, retiring_of, secret_field, secret_of};
use super::messages::{Condition, DocumentKind, Refusal, StoredDocument, WriteRefusal, WrittenDocument};
use super::writes::WriteError;
use super::{Inner, check_precondition};

pub(super) fn object(kind: DocumentKind, id: &str) -> String {
    format!("{}s/{id}", kind.as_str())
}

/// How long a revocation is needed, in milliseconds: no access token lives longer.
const REVOKED_MS: u64 = (LIFETIME_SECONDS + 2 * SKEW_SECONDS) * 1000;

/// The minimum interval between two deletions of expired revocations, in milliseconds.
const DELETION_INTERVAL_MS: u64 = 1_000;

/// The document of a deleted tenant.
const NOTHING: &str = r#"{"name":""}"#;

/// Fills in the stored secret where a document has null instead of one.
fn with_known_secret(document: Box<RawValue>, known: Option<&StoredDocument>) -> Result<Box<RawValue>, Failure> {
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

impl Inner {
    /// A document as the audit log shows it.
    pub(super) fn document_audit_view(&self, kind: DocumentKind, document: Option<&RawValue>) -> Value {
        let mut value: Value = document.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        if let Some(secret) = value.pointer_mut("/secret_hash").filter(|secret| secret.is_string()) {
            *secret = self.fingerprint(secret.as_str().unwrap_or_default()).into();
        }
        if let Some(secret) = secret_field(kind).and_then(|field| value.pointer_mut(field.pointer))
            && let Ok(encrypted) = serde_json::from_value(secret.clone())
        {
            *secret = self.audit_fingerprint(&encrypted).into();
        }
        if let Some(retiring) = value.pointer_mut("/retiring/secret")
            && let Ok(encrypted) = serde_json::from_value(retiring.clone())
        {
            *retiring = self.audit_fingerprint(&encrypted).into();
        }
        value
    }

    /// Deletes expired revocations, together with a new one.
    fn delete_old_revocations(&self) -> Result<(), Failure> {
        let now = clock::now();
        if now.since(self.revocations_deleted_at.get()) < DELETION_INTERVAL_MS {
            return Ok(());
        }
        self.revocations_deleted_at.set(now);
        for stored in self.tables.documents_of(DocumentKind::Revocation)? {
            if now.since(stored.updated_at) > REVOKED_MS {
                self.tables.delete(stored.kind.as_str(), &stored.id)?;
            }
        }
        Ok(())
    }

    pub(super) fn put(
        &self,
        by: &Actor,
        kind: DocumentKind,
        id: &str,
        document: Box<RawValue>,
        condition: &Condition,
    ) -> Result<WrittenDocument, WriteError> {
        let known: Option<StoredDocument> = self.tables.get(kind.as_str(), id)?;
        if known.as_ref().is_some_and(|known| known.deleted_at.is_some()) {
            return Err(WriteRefusal::Refused(Refusal::Conflict).into());
        }
        check_precondition(known.as_ref().map(|known| known.version), condition)?;
        let document = with_known_secret(document, known.as_ref())?;
        let now = clock::now();
        let created = known.is_none();
        let stored = StoredDocument {
            kind,
            id: id.into(),
            document,
            version: known.as_ref().map_or(VersionNumber::FIRST, |known| known.version.next()),
            created_at: known.as_ref().map_or(now, |known| known.created_at),
            updated_at: now,
            deleted_at: None,
            source: known.as_ref().and_then(|known| known.source.clone()),
        };
        if kind == DocumentKind::Webhook && secret_of(&stored).is_none() {
            // Deleted since the writer saw it with a secret.
            return Err(WriteRefusal::Absent.into());
        }
        let change = Change {
            by,
            action: &format!("{}.{}", kind.as_str(), if created { "created" } else { "updated" }),
            object: &object(kind, id),
            changes: changes(
                &self.document_audit_view(kind, known.as_ref().map(|known| &*known.document)),
                &self.document_audit_view(kind, Some(&stored.document)),
            ),
        };
        self.write(&change, || {
            if kind == DocumentKind::Revocation {
                self.delete_old_revocations()?;
            }
            self.tables.put(kind.as_str(), id, &stored)
        })?;
        Ok(WrittenDocument { stored: Box::new(stored), created })
    }

    pub(super) fn delete(
        &self,
        by: &Actor,
        kind: DocumentKind,
        id: &str,
        condition: &Condition,
    ) -> Result<(), WriteError> {
        let known = self.tables.get::<StoredDocument>(kind.as_str(), id)?.filter(|known| known.deleted_at.is_none());
        let Some(known) = known else {
            return Err(WriteRefusal::Absent.into());
        };
        check_precondition(Some(known.version), condition)?;
        let needed_by = self.needed_by(kind, id)?;
        if !needed_by.is_empty() {
            return Err(WriteRefusal::InUse { by: needed_by }.into());
        }
        let change = Change {
            by,
            action: &format!("{}.deleted", kind.as_str()),
            object: &object(kind, id),
            changes: changes(&self.document_audit_view(kind, Some(&known.document)), &Value::Null),
        };
        self.write(&change, || match kind {
            DocumentKind::Role
            | DocumentKind::Issuer
            | DocumentKind::Limit
            | DocumentKind::Revocation
            | DocumentKind::Webhook
            | DocumentKind::Schedule => self.tables.delete(kind.as_str(), id),
            // The audit log can then distinguish it from a client that never existed.
            DocumentKind::Client => {
                self.tables.delete(kind.as_str(), id)?;
                self.tables.delete_last_use(&object(kind, id))?;
                self.tables.record_revoked(&object(kind, id), clock::now())
            }
            // Data stored under the tenant's name may outlive it for a while, so the name stays reserved.
            DocumentKind::Tenant => {
                let document = RawValue::from_string(NOTHING.into())?;
                self.tables.put(
                    kind.as_str(),
                    id,
                    &StoredDocument { deleted_at: Some(clock::now()), document, ..known.clone() },
                )
            }
        })
    }

    /// Documents that would change their meaning, or lose it, without this one.
    fn needed_by(&self, kind: DocumentKind, id: &str) -> Result<Vec<String>, Failure> {
        Ok(match kind {
            DocumentKind::Role => {
                let keys = self.tables.keys()?.into_iter().filter(|key| key.role == id);
                let issuers = self.tables.documents_of(DocumentKind::Issuer)?.into_iter().filter(|stored| {
                    // An issuer restricted to one other tenant uses that tenant's roles.
                    let gives = |issuer: Issuer| {
                        !matches!(issuer.reach(&TenantId::first()), Reach::Tenant(_))
                            && issuer.granted_roles().any(|role| role == id)
                    };
                    serde_json::from_str(stored.document.get()).is_ok_and(gives)
                });
                let keys = keys.map(|key| format!("keys/{}", key.id));
                keys.chain(issuers.map(|stored| object(stored.kind, &stored.id))).collect()
            }
            // Dependencies inside a tenant are known to its own registry.
            DocumentKind::Issuer
            | DocumentKind::Client
            | DocumentKind::Limit
            | DocumentKind::Revocation
            | DocumentKind::Tenant
            | DocumentKind::Webhook
            | DocumentKind::Schedule => Vec::new(),
        })
    }

    /// Whether keys can have this role.
    pub(super) fn has_role(&self, name: &str) -> Result<bool, Failure> {
        let own = || self.tables.get::<StoredDocument>(DocumentKind::Role.as_str(), name);
        Ok(narthex_core::access::role::built_in(name).is_some() || own()?.is_some())
    }
}
