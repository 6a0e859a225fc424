//! Services and keys as a registry stores them, and what it hands out of all it has.

use serde::{Deserialize, Serialize};

use narthex_core::access::encrypted_secret::EncryptedSecret;
use narthex_core::base::id::StoreId;
use narthex_core::base::time::Timestamp;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::registry::size::KindSize;
use narthex_core::services::credentials::EncryptedCredentials;
use narthex_core::services::{RetiringSecret, Service};

use super::messages::StoredDocument;

/// All of a tenant's configuration, as isolates keep it.
#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotData {
    pub revision: u64,
    pub services: Vec<Registered>,
    pub keys: Vec<Key>,
    #[serde(default, rename = "kept")]
    pub documents: Vec<StoredDocument>,
    pub stores: Vec<StoreId>,
    /// What cursors, callbacks and grants are signed with.
    pub cursor_secret: EncryptedSecret,
    #[serde(default)]
    pub soft: u64,
    /// What is measured, by service.
    #[serde(default)]
    pub measured: Vec<(String, ObservedStatus)>,
    /// What is stored and does not fit into this message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Weighed>,
}

/// A document and its size.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Weighed {
    pub kind: String,
    pub id: String,
    pub bytes: u64,
}

/// Some of a registry's documents.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Page {
    pub services: Vec<Registered>,
    pub keys: Vec<Key>,
    #[serde(rename = "kept")]
    pub documents: Vec<StoredDocument>,
}

/// How much room a registry's documents take.
#[derive(Debug, Serialize, Deserialize)]
pub struct Room {
    pub kinds: Vec<(String, KindSize)>,
    pub registrations: KindSize,
    /// What counts against the tenant's own limit.
    pub bytes: u64,
    pub largest: Vec<Weighed>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Registered {
    pub service: Service,
    #[serde(default)]
    pub credentials: Option<EncryptedCredentials>,
    pub signing_secret: EncryptedSecret,
    /// The one before, while a rotation lasts.
    #[serde(default)]
    pub retiring: Option<RetiringSecret>,
    /// Grows with every change; the entity tag.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When it was given another address: what was measured before is of another service.
    #[serde(default)]
    pub moved_at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Key {
    pub id: String,
    pub name: String,
    pub role: String,
    pub permissions: Vec<String>,
    /// Secrets that are valid; more than one while a rotation overlaps.
    pub secrets: Vec<KeySecret>,
    pub created_by: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeySecret {
    pub hash: String,
    pub last_four: String,
    /// Set when a newer one takes its place.
    #[serde(default)]
    pub until: Option<Timestamp>,
}
