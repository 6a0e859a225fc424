//! Configuration other than services and keys: versioned documents that the gateway has validated.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::audit::Change;
use super::later::Needs;
use super::messages::{Condition, DeleteDocument, DocumentKind, PutDocument, Refusal, StoredDocument, WriteRefusal};
use super::records::KEY;
use super::replies::WrittenDocument;
use super::secrets::{secret_field, secret_of, with_known_secret};
use super::storage::{self, Storage};
use super::writes::{after, check_precondition};
use super::{Registry, Turn, WriteError};
use crate::access::audit::changes;
use crate::access::issuer::{Issuer, Reach};
use crate::access::jose::jwt::SKEW_SECONDS;
use crate::access::oauth::access_token::LIFETIME_SECONDS;
use crate::access::oauth::client::Client;
use crate::access::role::{self, Role};
use crate::access::tenant::Tenant;
use crate::base::storage_error::StorageError;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;
use crate::base::unknown_members::text_with_unknown;
use crate::base::version::VersionNumber;
use crate::limits::policy::Limit;
use crate::models::route::ModelRoute;
use crate::schedules::Schedule;
use crate::webhooks::Webhook;

/// A document as a path below `/v1`.
pub fn object(kind: DocumentKind, id: &str) -> String {
    format!("{}s/{id}", kind.as_str())
}

/// How long a revocation is needed, in milliseconds: no access token lives longer.
const REVOKED_MS: u64 = (LIFETIME_SECONDS + 2 * SKEW_SECONDS) * 1000;

/// The minimum interval between two deletions of expired revocations, in milliseconds.
const DELETION_INTERVAL_MS: u64 = 1_000;

/// The document of a deleted tenant.
const NOTHING: &str = r#"{"name":""}"#;

/// The document, with the members of the stored one that this version does not know.
pub(super) fn with_unknown_members(document: Box<RawValue>, known: Option<&StoredDocument>) -> Box<RawValue> {
    let Some(known) = known else { return document };
    let (before, after) = (known.document.get(), document.get());
    let merge: fn(&str, String) -> String = match known.kind {
        DocumentKind::Role => text_with_unknown::<Role>,
        DocumentKind::Issuer => text_with_unknown::<Issuer>,
        DocumentKind::Client => text_with_unknown::<Client>,
        DocumentKind::Limit => text_with_unknown::<Limit>,
        DocumentKind::Tenant => text_with_unknown::<Tenant>,
        DocumentKind::Webhook => text_with_unknown::<Webhook>,
        DocumentKind::Schedule => text_with_unknown::<Schedule>,
        DocumentKind::ModelRoute => text_with_unknown::<ModelRoute>,
        DocumentKind::Revocation => return document,
    };
    RawValue::from_string(merge(before, after.into())).unwrap_or(document)
}

/// The parts of a key on which a role's deletion depends.
#[derive(Deserialize)]
struct KeyRole {
    id: String,
    role: String,
}

/// The parts of a document that all versions have.
#[derive(Deserialize)]
struct AnyDocument {
    id: String,
    document: Box<RawValue>,
}

/// The parts of a stored document that a deletion needs.
#[derive(Deserialize)]
struct Versioned {
    version: VersionNumber,
}

impl<S: Storage> Registry<S> {
    pub(super) fn document(&self, kind: DocumentKind, id: &str) -> Result<Option<StoredDocument>, StorageError> {
        storage::get(&self.storage, kind.as_str(), id)
    }

    /// All documents of one kind.
    pub(super) fn documents_of(&self, kind: DocumentKind) -> Result<Vec<StoredDocument>, StorageError> {
        storage::all(&self.storage, kind.as_str())
    }

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
    fn delete_old_revocations(&mut self, now: Timestamp) -> Result<(), StorageError> {
        if now.since(self.revocations_deleted_at) < DELETION_INTERVAL_MS {
            return Ok(());
        }
        self.revocations_deleted_at = now;
        for stored in self.documents_of(DocumentKind::Revocation)? {
            if now.since(stored.updated_at) > REVOKED_MS {
                self.remove(stored.kind.as_str(), &stored.id)?;
            }
        }
        Ok(())
    }

    /// Creates or replaces a document, and revokes what depended on its previous state.
    ///
    /// # Errors
    /// The storage fails, or the write is refused.
    pub fn put_document(&mut self, request: PutDocument, turn: &Turn<'_>) -> Result<WrittenDocument, WriteError> {
        let PutDocument { kind, id, document, condition } = request;
        let known: Option<StoredDocument> = self.known(kind.as_str(), &id)?;
        if known.as_ref().is_some_and(|known| known.deleted_at.is_some()) {
            return Err(WriteRefusal::Refused(Refusal::Conflict).into());
        }
        check_precondition(known.as_ref().map(|known| known.version), &condition)?;
        let created = known.is_none();
        let stored = StoredDocument {
            kind,
            document: with_unknown_members(with_known_secret(document, known.as_ref())?, known.as_ref()),
            version: known.as_ref().map_or(VersionNumber::FIRST, |known| known.version.next()),
            created_at: known.as_ref().map_or(turn.now, |known| known.created_at),
            updated_at: after(known.as_ref().map(|known| known.updated_at), turn.now),
            deleted_at: None,
            source: known.as_ref().and_then(|known| known.source.clone()),
            id,
            needs: Needs,
        };
        if kind == DocumentKind::Webhook && secret_of(&stored).is_none() {
            // Deleted since the writer saw it with a secret.
            return Err(WriteRefusal::Absent.into());
        }
        let before = known.as_ref().map(|known| &*known.document);
        let change = Change {
            by: turn.by,
            action: &format!("{}.{}", kind.as_str(), if created { "created" } else { "updated" }),
            object: &object(kind, &stored.id),
            changes: changes(
                &self.document_audit_view(kind, before),
                &self.document_audit_view(kind, Some(&stored.document)),
            ),
        };
        self.write(&change, turn, |registry| {
            if kind == DocumentKind::Revocation {
                registry.delete_old_revocations(turn.now)?;
            }
            registry.put(kind.as_str(), &stored.id, &stored)?;
            registry.revoke_dependents(kind, &stored.id, before, Some(&stored.document))
        })?;
        Ok(WrittenDocument { stored: Box::new(stored), created })
    }

    /// Deletes a document, and revokes what depended on it.
    ///
    /// # Errors
    /// The storage fails, or the write is refused.
    pub fn delete_document(&mut self, request: &DeleteDocument, turn: &Turn<'_>) -> Result<(), WriteError> {
        let DeleteDocument { kind, id, condition } = request;
        self.delete_kind(*kind, id, condition, turn)
    }

    pub(super) fn delete_kind(
        &mut self,
        kind: DocumentKind,
        id: &str,
        condition: &Condition,
        turn: &Turn<'_>,
    ) -> Result<(), WriteError> {
        let known: Option<StoredDocument> = match self.known(kind.as_str(), id) {
            Err(WriteError::Refused(WriteRefusal::Refused(Refusal::Unreadable))) => {
                return self.delete_unreadable(kind, id, condition, turn);
            }
            known => known?,
        };
        let Some(known) = known.filter(|known| known.deleted_at.is_none()) else {
            return Err(WriteRefusal::Absent.into());
        };
        check_precondition(Some(known.version), condition)?;
        self.check_unneeded(kind, id)?;
        let change = Change {
            by: turn.by,
            action: &format!("{}.deleted", kind.as_str()),
            object: &object(kind, id),
            changes: changes(&self.document_audit_view(kind, Some(&known.document)), &Value::Null),
        };
        self.write(&change, turn, |registry| {
            registry.remove_document(&known, turn.now)?;
            registry.revoke_dependents(kind, id, Some(&known.document), None)
        })
    }

    /// Deletes a document that only a later version can read. Whatever it may have granted is revoked.
    fn delete_unreadable(
        &mut self,
        kind: DocumentKind,
        id: &str,
        condition: &Condition,
        turn: &Turn<'_>,
    ) -> Result<(), WriteError> {
        let text = self.storage.text(kind.as_str(), id)?.ok_or(WriteRefusal::Absent)?;
        let version = serde_json::from_str(&text).map_or(VersionNumber::FIRST, |Versioned { version }| version);
        check_precondition(Some(version), condition)?;
        self.check_unneeded(kind, id)?;
        if kind == DocumentKind::Tenant {
            // Its registry may hold what only a later version can end.
            return Err(WriteRefusal::Refused(Refusal::Unreadable).into());
        }
        let (action, object) = (format!("{}.deleted", kind.as_str()), object(kind, id));
        let change = Change { by: turn.by, action: &action, object: &object, changes: Map::new() };
        self.write(&change, turn, |registry| {
            registry.remove_with_traces(kind, id, turn.now)?;
            let unknown = RawValue::from_string(text)?;
            registry.revoke_dependents(kind, id, Some(&unknown), None)
        })
    }

    fn remove_document(&mut self, known: &StoredDocument, now: Timestamp) -> Result<(), StorageError> {
        let (kind, id) = (known.kind, known.id.as_str());
        match kind {
            DocumentKind::Role
            | DocumentKind::Issuer
            | DocumentKind::Client
            | DocumentKind::Limit
            | DocumentKind::Revocation
            | DocumentKind::Webhook
            | DocumentKind::Schedule
            | DocumentKind::ModelRoute => self.remove_with_traces(kind, id, now),
            // Data stored under the tenant's name may outlive it for a while, so the name stays reserved.
            DocumentKind::Tenant => {
                let document = RawValue::from_string(NOTHING.into())?;
                self.put(kind.as_str(), id, &StoredDocument { deleted_at: Some(now), document, ..known.clone() })
            }
        }
    }

    /// Within a transaction: deletes a document, and what is kept beside it.
    fn remove_with_traces(&mut self, kind: DocumentKind, id: &str, now: Timestamp) -> Result<(), StorageError> {
        self.remove(kind.as_str(), id)?;
        if kind == DocumentKind::Client {
            // The audit log can then distinguish it from a client that never existed.
            self.storage.delete_last_use(&object(kind, id))?;
            self.storage.record_revoked(&object(kind, id), now)?;
        }
        Ok(())
    }

    fn check_unneeded(&self, kind: DocumentKind, id: &str) -> Result<(), WriteError> {
        let by = self.needed_by(kind, id)?;
        if by.is_empty() { Ok(()) } else { Err(WriteRefusal::InUse { by }.into()) }
    }

    /// Documents that would change their meaning, or lose it, without this one.
    fn needed_by(&self, kind: DocumentKind, id: &str) -> Result<Vec<String>, StorageError> {
        Ok(match kind {
            DocumentKind::Role => {
                let keys = storage::all::<KeyRole>(&self.storage, KEY)?.into_iter().filter(|key| key.role == id);
                let issuers = storage::all::<AnyDocument>(&self.storage, DocumentKind::Issuer.as_str())?;
                let issuers = issuers.into_iter().filter(|stored| {
                    // An issuer restricted to one other tenant uses that tenant's roles.
                    let gives = |issuer: Issuer| {
                        !matches!(issuer.reach(&TenantId::first()), Reach::Tenant(_))
                            && issuer.granted_roles().any(|role| role == id)
                    };
                    // One that only a later version can read may have it.
                    serde_json::from_str(stored.document.get()).map_or(true, gives)
                });
                let keys = keys.map(|key| format!("keys/{}", key.id));
                keys.chain(issuers.map(|stored| object(DocumentKind::Issuer, &stored.id))).collect()
            }
            // Dependencies inside a tenant are known to its own registry.
            DocumentKind::Issuer
            | DocumentKind::Client
            | DocumentKind::Limit
            | DocumentKind::Revocation
            | DocumentKind::Tenant
            | DocumentKind::Webhook
            | DocumentKind::Schedule
            | DocumentKind::ModelRoute => Vec::new(),
        })
    }

    /// Whether keys can have this role.
    pub(super) fn has_role(&self, name: &str) -> Result<bool, StorageError> {
        Ok(role::built_in(name).is_some() || self.document(DocumentKind::Role, name)?.is_some())
    }
}
