//! The replies of a tenant's registry. A reply to a write may instead be a [`WriteRefusal`].

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::json::Fault;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::lane::observed::ObservedStatus;
use crate::registry::later::readable;
use crate::registry::revision::Revision;
use crate::registry::size::TooLarge;

use super::records::{
    CurrentService, DocumentPage, IndexData, Key, RegistrySize, SnapshotData, StoredDocument, StoredService,
};

/// Why a write was refused.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteRefusal {
    /// What it refers to does not exist, or the tenant was deleted.
    Absent,
    /// The document cannot be deleted because these depend on it.
    InUse {
        by: Vec<String>,
    },
    Faults(Vec<Fault>),
    Refused(Refusal),
    /// It exceeds a limit.
    TooLarge(TooLarge),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// 428: an existing document is only changed with `If-Match`.
    PreconditionRequired,
    /// 412.
    PreconditionFailed,
    /// 409.
    Conflict,
    /// 503: a later version has written it, and this one cannot read it.
    Unreadable,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HelloReply {
    Revision {
        revision: Revision,
        #[serde(default)]
        context_retention_days: Option<u64>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotReply {
    Unchanged,
    /// Only observed statuses have changed.
    Measured {
        soft: u64,
        #[serde(deserialize_with = "readable")]
        measured: Vec<(ServiceId, ObservedStatus)>,
    },
    /// To an earlier version.
    Snapshot(Box<SnapshotData>),
    Index(Box<IndexData>),
}

/// The documents of the first requested services, as far as they are registered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Services {
    Services {
        services: Vec<CurrentService>,
        /// How many of the requested services this covers; the sender asks for the others again.
        read: usize,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceReply {
    Service(WrittenService),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolsReply {
    Service(WrittenService),
    Unchanged,
}

/// A service after a write.
#[derive(Debug, Serialize, Deserialize)]
pub struct WrittenService {
    pub service: Box<StoredService>,
    pub created: bool,
    #[serde(default)]
    pub measured: ObservedStatus,
    /// Its lane must be notified.
    #[serde(default)]
    pub has_lane: bool,
    #[serde(default)]
    pub signing_secret: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum DocumentReply {
    #[serde(rename = "kept")]
    Document(WrittenDocument),
}

/// A document after a write.
#[derive(Debug, Serialize, Deserialize)]
pub struct WrittenDocument {
    #[serde(rename = "kept")]
    pub stored: Box<StoredDocument>,
    pub created: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterReply {
    #[serde(rename = "kept")]
    Client(WrittenDocument),
    /// All registrations are in use, so another one does not fit.
    AllInUse,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyReply {
    Key(Box<Key>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EstablishReply {
    /// No key was given.
    Done,
    Key(Box<Key>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusReply {
    #[serde(rename = "done")]
    Recorded,
    /// The service was deleted.
    Absent,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastUsed {
    /// A client is named `clients/{id}`.
    LastUsed(Vec<(String, Timestamp)>),
}

#[derive(Debug, Serialize, Deserialize)]
pub enum SizeReply {
    #[serde(rename = "room")]
    Size(Box<RegistrySize>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Documents {
    Documents {
        page: Box<DocumentPage>,
        /// The last document of this page; `None` on the last page.
        next: Option<(String, String)>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditEntries {
    Audit { entries: Vec<(u64, Box<RawValue>)> },
}

/// The services and keys that would be lost with the tenant, as paths below `/v1`.
#[derive(Debug, Serialize, Deserialize)]
pub enum Holdings {
    #[serde(rename = "in_use")]
    Holdings {
        #[serde(rename = "by")]
        objects: Vec<String>,
    },
}
