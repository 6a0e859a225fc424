//! Services, keys and other documents as the registry stores them, and the forms in which it sends its contents.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::access::encrypted_secret::EncryptedSecret;
use crate::access::issuer::DocumentVersion;
use crate::base::id::StoreId;
use crate::base::principal_id::PrincipalId;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::base::version::{Generation, VersionNumber};
use crate::lane::observed::ObservedStatus;
use crate::registry::later::{Needs, ServiceNeeds, readable};
use crate::registry::notifications::LaneSettings;
use crate::registry::revision::Revision;
use crate::registry::size::KindSize;
use crate::services::credentials::EncryptedCredentials;
use crate::services::outline::{CapabilityNames, ServiceOutline, short_digest};
use crate::services::{RetiringSecret, Service};

/// The kinds of documents that are not [`DocumentKind`]s.
pub const SERVICE: &str = "service";
pub const KEY: &str = "key";

/// A tenant's whole configuration, as isolates of an earlier version cache it.
#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotData {
    pub revision: Revision,
    pub services: Vec<StoredService>,
    pub keys: Vec<Key>,
    #[serde(default, rename = "kept")]
    pub documents: Vec<StoredDocument>,
    pub stores: Vec<StoreId>,
    /// Signs cursors, callbacks and grants.
    pub cursor_secret: EncryptedSecret,
    #[serde(default)]
    pub soft: u64,
    /// Observed statuses, by service.
    #[serde(default, deserialize_with = "readable")]
    pub measured: Vec<(ServiceId, ObservedStatus)>,
    /// Stored documents that do not fit into this message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<DocumentSize>,
}

/// What isolates cache of a registry: the outlines of its services, and all other documents. Either all of it, or what
/// has changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IndexData {
    pub revision: Revision,
    /// The revision that the changes begin with; `None`: this is everything.
    #[serde(default)]
    pub since: Option<Revision>,
    /// [`StoredOutline`]s in stored form.
    pub outlines: Vec<Box<RawValue>>,
    /// [`Key`]s in stored form, also those that this version cannot read.
    pub keys: Vec<Box<RawValue>>,
    /// [`StoredDocument`]s in stored form, likewise, of all kinds.
    pub documents: Vec<Box<RawValue>>,
    /// The kinds and ids of documents that were deleted.
    #[serde(default)]
    pub deleted: Vec<(String, String)>,
    pub stores: Vec<StoreId>,
    /// Signs cursors, callbacks and grants.
    pub own_secret: EncryptedSecret,
    pub soft: u64,
    /// Observed statuses, by service: all, or those that may have changed.
    #[serde(deserialize_with = "readable")]
    pub measured: Vec<(ServiceId, ObservedStatus)>,
    /// Stored documents that do not fit into this message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<DocumentSize>,
    /// The documents of some of these services: those that are likely to be needed first.
    #[serde(default)]
    pub services: Vec<CurrentService>,
}

/// The outline of a service as the registry stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOutline {
    pub service: ServiceOutline,
    /// Identifies the state of the document.
    pub digest: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When its address last changed: earlier observations refer to another service.
    #[serde(default)]
    pub moved_at: Timestamp,
    #[serde(default, skip_serializing_if = "ServiceNeeds::are_none")]
    pub needs: ServiceNeeds,
}

/// The parts of an outline or a service that all versions have.
#[derive(Deserialize)]
struct Named {
    service: NamedService,
    #[serde(default)]
    digest: String,
}

#[derive(Deserialize)]
struct NamedService {
    id: String,
    #[serde(default)]
    capabilities: CapabilityNames,
}

/// The document of a service, and the digest in its outline.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CurrentService {
    pub digest: String,
    /// A [`StoredService`] in stored form.
    pub service: Box<RawValue>,
}

/// A document and its size.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DocumentSize {
    pub kind: String,
    pub id: String,
    pub bytes: u64,
}

/// Some of a registry's documents in stored form, also those that this version cannot read.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct DocumentPage {
    pub services: Vec<Box<RawValue>>,
    pub keys: Vec<Box<RawValue>>,
    #[serde(rename = "kept")]
    pub documents: Vec<Box<RawValue>>,
}

/// The size of a registry's documents.
#[derive(Debug, Serialize, Deserialize)]
pub struct RegistrySize {
    pub kinds: Vec<(String, KindSize)>,
    pub registrations: KindSize,
    /// The part that counts against the tenant's own limit.
    pub bytes: u64,
    /// The part of the index that does: of everything that each isolate keeps.
    #[serde(default)]
    pub index_bytes: u64,
    pub largest: Vec<DocumentSize>,
}

impl StoredOutline {
    /// Of a service whose document has this stored form.
    pub fn of(stored: &StoredService, text: &str) -> Self {
        let StoredService { service, created_at, updated_at, moved_at, .. } = stored;
        let (created_at, updated_at, moved_at) = (*created_at, *updated_at, *moved_at);
        let (digest, needs) = (short_digest(text), ServiceNeeds::of(service));
        Self { service: service.outline(), digest, created_at, updated_at, moved_at, needs }
    }

    /// A stored outline, or what stands for one that this version cannot read. `None`: not even its id can be read.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().or_else(|| Self::unreadable(text))
    }

    /// Of a service that this version cannot read, by the stored form of its outline or document.
    pub fn unreadable(text: &str) -> Option<Self> {
        let Named { service, digest } = serde_json::from_str(text).ok()?;
        let times = Timestamp::default();
        Some(Self {
            service: ServiceOutline::unreadable(ServiceId::from_stored(service.id), service.capabilities.0),
            digest,
            created_at: times,
            updated_at: times,
            moved_at: times,
            needs: ServiceNeeds::default(),
        })
    }

    /// What every message to its lane says of it.
    pub fn lane_settings(&self) -> LaneSettings {
        let Self { service, updated_at, moved_at, .. } = self;
        LaneSettings::new(&service.id, (*updated_at, *moved_at), &service.limits, service.transport.grace_ms())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredService {
    pub service: Service,
    #[serde(default)]
    pub credentials: Option<EncryptedCredentials>,
    pub signing_secret: EncryptedSecret,
    /// The previous secret, during a rotation.
    #[serde(default)]
    pub retiring: Option<RetiringSecret>,
    /// Incremented by every change; the entity tag.
    pub version: VersionNumber,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When its address last changed: earlier observations refer to another service.
    #[serde(default)]
    pub moved_at: Timestamp,
    #[serde(default, skip_serializing_if = "ServiceNeeds::are_none")]
    pub needs: ServiceNeeds,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Key {
    pub id: String,
    pub name: String,
    pub role: String,
    pub permissions: Vec<String>,
    /// Valid secrets; several during a rotation.
    pub secrets: Vec<KeySecret>,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    #[serde(default, skip_serializing)]
    pub needs: Needs,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeySecret {
    pub hash: String,
    pub last_four: String,
    /// Set when a newer secret replaces it.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// The kinds of configuration besides services and keys: documents with an id and a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    Role,
    Issuer,
    Client,
    Limit,
    /// A grant or token revoked before its expiry.
    Revocation,
    /// Only in the registry of the deployment's own tenant.
    Tenant,
    /// A URL that events are delivered to.
    Webhook,
    /// A rule that creates contexts.
    Schedule,
    /// A name for one or several models.
    #[serde(rename = "model-route")]
    ModelRoute,
}

impl DocumentKind {
    pub const ALL: [DocumentKind; 9] = [
        DocumentKind::Role,
        DocumentKind::Issuer,
        DocumentKind::Client,
        DocumentKind::Limit,
        DocumentKind::Revocation,
        DocumentKind::Tenant,
        DocumentKind::Webhook,
        DocumentKind::Schedule,
        DocumentKind::ModelRoute,
    ];

    /// The name in rows, events and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            DocumentKind::Role => "role",
            DocumentKind::Issuer => "issuer",
            DocumentKind::Client => "client",
            DocumentKind::Limit => "limit",
            DocumentKind::Revocation => "revocation",
            DocumentKind::Tenant => "tenant",
            DocumentKind::Webhook => "webhook",
            DocumentKind::Schedule => "schedule",
            DocumentKind::ModelRoute => "model-route",
        }
    }
}

/// A document in the registry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredDocument {
    pub kind: DocumentKind,
    pub id: String,
    pub document: Box<RawValue>,
    /// Incremented by every change; the entity tag.
    pub version: VersionNumber,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Set on a deleted document that reserves its id.
    #[serde(default)]
    pub deleted_at: Option<Timestamp>,
    /// For a client that registered itself: a fingerprint of its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing)]
    pub needs: Needs,
}

impl StoredDocument {
    pub fn generation(&self) -> Generation {
        Generation::of(self.version, self.updated_at)
    }

    pub fn written(&self) -> DocumentVersion {
        DocumentVersion { created_at: self.created_at, generation: self.generation() }
    }
}
