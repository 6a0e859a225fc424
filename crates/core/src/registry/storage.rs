//! Where a registry keeps its documents.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::messages::AuditQuery;
use super::revision::Revision;
use crate::access::audit::AuditEntry;
use crate::access::oauth::registrations::Registration;
use crate::base::id::StoreId;
use crate::base::service_id::ServiceId;
use crate::base::storage_error::StorageError;
use crate::base::time::Timestamp;
use crate::events::bundle::Bundle;
use crate::lane::observed::ObservedStatus;

/// A document's kind and id.
pub type DocumentKey = (String, String);

/// The documents of one kind: how many, and their bytes without overhead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindTotal {
    pub kind: String,
    /// They are clients that registered themselves.
    pub registered_itself: bool,
    pub count: u64,
    pub bytes: u64,
}

/// The tables of a registry. A handle: clones share the tables.
pub trait Storage: Clone {
    /// Stores all that `work` writes, or nothing if it fails.
    fn transaction<T, E: From<StorageError>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E>;

    /// A document in stored form.
    fn text(&self, kind: &str, id: &str) -> Result<Option<String>, StorageError>;
    /// All documents of a kind in stored form, by id.
    fn texts(&self, kind: &str) -> Result<Vec<String>, StorageError>;
    /// The kinds and stored forms of all documents except those of one kind, by kind and id.
    fn texts_besides(&self, kind: &str) -> Result<Vec<(String, String)>, StorageError>;
    fn put_text(&self, kind: &str, id: &str, text: &str) -> Result<(), StorageError>;
    fn delete(&self, kind: &str, id: &str) -> Result<(), StorageError>;
    /// Deletes all documents of a kind.
    fn delete_all(&self, kind: &str) -> Result<(), StorageError>;
    /// The bytes of a document.
    fn size(&self, kind: &str, id: &str) -> Result<Option<u64>, StorageError>;
    /// The sizes of all documents, except those of one kind.
    fn totals(&self, except: Option<&str>) -> Result<Vec<KindTotal>, StorageError>;
    /// At most `most` documents by kind and id, after `after`, each with its bytes.
    fn sizes(&self, after: &DocumentKey, most: u64) -> Result<Vec<(DocumentKey, u64)>, StorageError>;
    /// The largest documents, each with its bytes.
    fn largest(&self, most: u64) -> Result<Vec<(DocumentKey, u64)>, StorageError>;
    /// The clients that registered themselves. Their documents are not parsed: they may be many and large.
    fn registrations(&self) -> Result<Vec<Registration>, StorageError>;

    /// The digest and the outline of a service in stored form.
    fn outline(&self, service: &str) -> Result<Option<(String, String)>, StorageError>;
    /// All outlines in stored form, by id.
    fn outlines(&self) -> Result<Vec<String>, StorageError>;
    fn put_outline(&self, service: &str, digest: &str, text: &str) -> Result<(), StorageError>;
    fn delete_outline(&self, service: &str) -> Result<(), StorageError>;
    fn delete_all_outlines(&self) -> Result<(), StorageError>;
    /// The number of outlines, and their bytes.
    fn outline_total(&self) -> Result<(u64, u64), StorageError>;

    /// Records that a revision changed a document.
    fn record_change(&self, revision: Revision, kind: &str, id: &str) -> Result<(), StorageError>;
    /// What later revisions have changed, at most `most` entries.
    fn changes_after(&self, revision: Revision, most: u64) -> Result<Vec<DocumentKey>, StorageError>;
    /// The first and the last revision with recorded changes.
    fn recorded_revisions(&self) -> Result<Option<(Revision, Revision)>, StorageError>;
    /// Deletes the changes of earlier revisions.
    fn delete_changes_before(&self, revision: Revision) -> Result<(), StorageError>;

    fn all_measured(&self) -> Result<Vec<(ServiceId, ObservedStatus)>, StorageError>;
    fn measured(&self, service: &ServiceId) -> Result<Option<ObservedStatus>, StorageError>;
    fn put_measured(&self, service: &ServiceId, measured: &ObservedStatus) -> Result<(), StorageError>;
    fn delete_measured(&self, service: &ServiceId) -> Result<(), StorageError>;

    fn add_audit(&self, entry: &AuditEntry<'_>) -> Result<(), StorageError>;
    /// Matching entries with their numbers, newest first.
    fn audit(&self, query: &AuditQuery) -> Result<Vec<(u64, Box<RawValue>)>, StorageError>;
    /// Deletes some of the older audit entries, and the older names of revoked keys.
    fn delete_old_audit(&self, before: Timestamp) -> Result<(), StorageError>;

    /// Remembers that this key or client existed.
    fn record_revoked(&self, name: &str, at: Timestamp) -> Result<(), StorageError>;
    fn was_revoked(&self, name: &str) -> Result<bool, StorageError>;
    /// Records the last use of a key, or of a client (`clients/{id}`).
    fn record_use(&self, name: &str, at: Timestamp) -> Result<(), StorageError>;
    /// The last use of each key and client.
    fn last_used(&self) -> Result<Vec<(String, Timestamp)>, StorageError>;
    fn delete_last_use(&self, name: &str) -> Result<(), StorageError>;

    fn stores(&self) -> Result<Vec<StoreId>, StorageError>;
    fn add_store(&self, store: StoreId) -> Result<(), StorageError>;

    fn meta(&self, name: &str) -> Result<Option<String>, StorageError>;
    fn set_meta(&self, name: &str, value: &str) -> Result<(), StorageError>;

    fn queue_event(&self, bundle: &Bundle) -> Result<(), StorageError>;
    /// Events the hub does not have yet, with their numbers.
    fn queued_events(&self) -> Result<Vec<(u64, Bundle)>, StorageError>;
    fn delete_published(&self, up_to: u64) -> Result<(), StorageError>;

    /// Queues a notification; returns its number.
    fn queue_notification(&self, text: &str) -> Result<u64, StorageError>;
    /// All queued notifications in stored form, by their numbers.
    fn queued_notifications(&self) -> Result<Vec<(u64, String)>, StorageError>;
    fn update_notification(&self, number: u64, text: &str) -> Result<(), StorageError>;
    fn delete_notification(&self, number: u64) -> Result<(), StorageError>;
}

/// A document.
pub fn get<T: DeserializeOwned>(storage: &impl Storage, kind: &str, id: &str) -> Result<Option<T>, StorageError> {
    Ok(storage.text(kind, id)?.map(|text| serde_json::from_str(&text)).transpose()?)
}

/// All documents of a kind that this version can read, by id; with a type of a few members, also of later ones.
pub fn all<T: DeserializeOwned>(storage: &impl Storage, kind: &str) -> Result<Vec<T>, StorageError> {
    Ok(storage.texts(kind)?.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
}

/// A value in stored form.
pub fn stored<T: Serialize>(value: &T) -> Result<String, StorageError> {
    Ok(serde_json::to_string(value)?)
}
