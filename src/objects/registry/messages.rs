//! What is asked of a tenant's registry, and what it replies.

use serde::{Deserialize, Serialize};

use serde_json::value::RawValue;

use crate::core::audit::By;
use crate::core::health::Reason;
use crate::core::id::StoreId;
use crate::core::json::Fault;
use crate::core::measured::Measured;
use crate::core::service::{Credentials, Service};
use crate::core::time::Timestamp;

/// A question, and the tenant whose registry is asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub tenant: String,
    pub ask: Ask,
    /// Who writes, when somebody does.
    #[serde(default)]
    pub by: By,
}

impl Message {
    /// A question of the gateway's own: nobody asks for it.
    pub fn new(tenant: impl Into<String>, ask: Ask) -> Self {
        Self { tenant: tenant.into(), ask, by: By::default() }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// A store says that it exists, and asks for the revision.
    Hello {
        store: StoreId,
    },
    /// Everything that is configured, unless the asker knows this revision.
    Snapshot {
        known: Option<u64>,
        /// How many stores the asker knows.
        #[serde(default)]
        stores: usize,
        /// What is measured that the asker knows; nothing: it does not ask for it.
        #[serde(default)]
        soft: Option<u64>,
    },
    PutService {
        id: String,
        document: String,
        condition: Condition,
        rules: WriteRules,
    },
    /// A merge patch (RFC 7396).
    PatchService {
        id: String,
        patch: String,
        condition: Condition,
        rules: WriteRules,
    },
    DeleteService {
        id: String,
        condition: Condition,
    },
    /// Registers or replaces a document, which the asker has checked.
    Put {
        kind: Kind,
        id: String,
        document: Box<RawValue>,
        condition: Condition,
    },
    Delete {
        kind: Kind,
        id: String,
        condition: Condition,
    },
    CreateKey(NewKey),
    RotateKey {
        id: String,
        overlap_seconds: u64,
        hash: String,
        last_four: String,
    },
    RevokeKey {
        id: String,
    },
    /// From a lane: what it measures now.
    Measured {
        service: String,
        measured: Measured,
        /// What decided; nothing when only a figure changed.
        reason: Option<Reason>,
    },
    /// Once in a while: pushes the revision to the stores again.
    Sweep,
}

/// What is configured beside services and keys: documents with an id and a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Role,
    Issuer,
    Client,
    /// A grant or a token that ended before its time.
    Revocation,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Role, Kind::Issuer, Kind::Client, Kind::Revocation];

    /// As rows, events and the audit log name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Role => "role",
            Kind::Issuer => "issuer",
            Kind::Client => "client",
            Kind::Revocation => "revocation",
        }
    }
}

/// A document as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    pub kind: Kind,
    pub id: String,
    pub document: Box<RawValue>,
    /// Grows with every change; the entity tag.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// RFC 9110 §13: what must hold of the resource before a write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    None,
    /// `If-Match: *`
    Exists,
    /// `If-Match: "3"`: any of these versions.
    Versions(Vec<u64>),
    /// `If-None-Match: *`
    Absent,
}

/// What the writer's gateway allows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WriteRules {
    pub allow_loopback: bool,
    pub own_host: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewKey {
    pub id: String,
    pub name: String,
    pub role: String,
    pub permissions: Vec<String>,
    pub hash: String,
    pub last_four: String,
    pub created_by: String,
    pub expires_at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Revision {
        revision: u64,
    },
    Unchanged,
    /// Only what is measured has changed.
    Measured {
        soft: u64,
        measured: Vec<(String, Measured)>,
    },
    Snapshot(Box<SnapshotData>),
    Service {
        service: Box<Registered>,
        created: bool,
        #[serde(default)]
        measured: Measured,
        /// Its lane is to be told.
        #[serde(default)]
        has_lane: bool,
        #[serde(default)]
        signing_secret: Option<String>,
    },
    Key(Box<Key>),
    Kept {
        kept: Box<Kept>,
        created: bool,
    },
    /// What cannot be deleted, as these still need it.
    InUse {
        by: Vec<String>,
    },
    Done,
    Absent,
    Faults(Vec<Fault>),
    Refused(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// 428: what exists is changed only with `If-Match`.
    PreconditionRequired,
    /// 412.
    PreconditionFailed,
    /// 409.
    Conflict,
}

/// All of a tenant's configuration, as isolates keep it.
#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotData {
    pub revision: u64,
    pub services: Vec<Registered>,
    pub keys: Vec<Key>,
    #[serde(default)]
    pub kept: Vec<Kept>,
    pub stores: Vec<StoreId>,
    /// Signs page cursors.
    pub cursor_secret: String,
    #[serde(default)]
    pub soft: u64,
    /// What is measured, by service.
    #[serde(default)]
    pub measured: Vec<(String, Measured)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Registered {
    pub service: Service,
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// `whsec_…`
    pub signing_secret: String,
    /// Grows with every change; the entity tag.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
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
