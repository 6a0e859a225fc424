//! What is asked of a tenant's registry, and what it replies.

use serde::{Deserialize, Serialize};

use serde_json::value::RawValue;

use narthex_core::access::audit::Actor;
use narthex_core::access::tenant::Retention;
use narthex_core::base::id::StoreId;
use narthex_core::base::json::Fault;
use narthex_core::base::time::Timestamp;
use narthex_core::http::egress_address::Policy;
use narthex_core::lane::health::StatusReason;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::registry::size::TooLarge;
use narthex_core::services::tool_catalogue::ToolsRead;

pub use super::stored::{Key, KeySecret, Page, Registered, Room, SnapshotData, Weighed};

/// A question, and the tenant whose registry is asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub tenant: String,
    pub ask: Ask,
    /// Who writes, when somebody does.
    #[serde(default)]
    pub by: Actor,
}

impl Message {
    /// A question of the gateway's own: nobody asks for it.
    pub fn new(tenant: impl Into<String>, ask: Ask) -> Self {
        Self { tenant: tenant.into(), ask, by: Actor::default() }
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
    /// Gives a service another signing secret: this one, or one that is made. The old one signs too for a while.
    RotateSecret {
        id: String,
        overlap_seconds: u64,
        #[serde(default)]
        signing_secret: Option<String>,
    },
    /// What was read of an MCP server's tools, at this address, or why it could not be.
    RenewTools {
        id: String,
        url: String,
        read: Result<Box<ToolsRead>, String>,
    },
    /// Serves tools that are held back: these, or all.
    AcceptTools {
        id: String,
        #[serde(default)]
        names: Option<Vec<String>>,
    },
    DeleteService {
        id: String,
        condition: Condition,
    },
    /// Gives a webhook this secret. The old one signs too for a while.
    RotateWebhookSecret {
        id: String,
        overlap_seconds: u64,
        secret: String,
    },
    /// Registers or replaces a document, which the asker has checked.
    Put {
        kind: DocumentKind,
        id: String,
        document: Box<RawValue>,
        condition: Condition,
    },
    Delete {
        kind: DocumentKind,
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
    /// A client registers itself; unused registrations make room for it.
    Register {
        id: String,
        document: Box<RawValue>,
    },
    /// A key was used; told at most once an hour, and no revision.
    Used {
        key: String,
        at: Timestamp,
    },
    /// A client was given a token; told at most once an hour, and no revision.
    UsedClient {
        client: String,
        at: Timestamp,
    },
    /// When keys and clients were used last.
    LastUsed,
    /// How much room documents take.
    Room,
    /// A page of all documents, from the one after this kind and id on.
    Documents {
        after: (String, String),
    },
    /// Entries of the audit log, the newest first.
    Audit(AuditQuery),
    /// Credentials were refused.
    Refused(Refused),
    /// The tenant is made, or its retention changes.
    Establish {
        retention: Retention,
        key: Option<NewKey>,
    },
    /// What the tenant has.
    Holdings,
    /// The tenant is deleted.
    Close,
    /// From a lane: what it measures now.
    Measured {
        service: String,
        measured: ObservedStatus,
        /// What decided; nothing when only a figure changed.
        reason: Option<StatusReason>,
    },
    /// Once in a while: pushes the revision to the stores again.
    Sweep,
}

/// What is configured beside services and keys: documents with an id and a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    Role,
    Issuer,
    Client,
    Limit,
    /// A grant or a token that ended before its time.
    Revocation,
    /// Only in the registry of the deployment's own tenant.
    Tenant,
    /// An address that is told of events.
    Webhook,
    /// What is created by itself.
    Schedule,
}

impl DocumentKind {
    pub const ALL: [DocumentKind; 8] = [
        DocumentKind::Role,
        DocumentKind::Issuer,
        DocumentKind::Client,
        DocumentKind::Limit,
        DocumentKind::Revocation,
        DocumentKind::Tenant,
        DocumentKind::Webhook,
        DocumentKind::Schedule,
    ];

    /// As rows, events and the audit log name it.
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
        }
    }
}

/// A document as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredDocument {
    pub kind: DocumentKind,
    pub id: String,
    pub document: Box<RawValue>,
    /// Grows with every change; the entity tag.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Deleted, and remembered so that its id is not given again.
    #[serde(default)]
    pub deleted_at: Option<Timestamp>,
    /// Of a client that registered itself: whose address it was, as a fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl StoredDocument {
    /// Differs for every state of every document that ever had this id, which the version alone does not: one that was
    /// deleted and made anew begins again.
    pub fn generation(&self) -> u64 {
        self.updated_at.0 * 1000 + self.version % 1000
    }
}

/// Which entries of the audit log; what is not set does not matter.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AuditQuery {
    pub actor: Option<String>,
    /// As SQLite's GLOB has it: checked by the gateway.
    pub action: Option<String>,
    pub object: Option<String>,
    pub after: Option<Timestamp>,
    pub before: Option<Timestamp>,
    /// Only entries with a smaller number.
    pub below: Option<u64>,
    pub limit: u64,
}

/// Credentials that were refused.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refused {
    /// The key's id, when it was in the form of a key.
    pub key: Option<String>,
    /// The client's id within the tenant, when an OAuth client did not prove that it is the one.
    #[serde(default)]
    pub client: Option<String>,
    /// SHA-256 of the whole text.
    pub hash: String,
    /// How often.
    pub count: u64,
    /// Why, where the asker knows: of what is no key.
    #[serde(default)]
    pub reason: Option<String>,
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
    /// Where services reach the gateway, when that is elsewhere.
    #[serde(default)]
    pub public_host: Option<String>,
    #[serde(default)]
    pub demo: bool,
}

impl WriteRules {
    pub fn addresses(&self) -> Policy {
        Policy { allow_loopback: self.allow_loopback }
    }

    /// Where the gateway itself is.
    pub fn own_hosts(&self) -> Vec<&str> {
        [Some(self.own_host.as_str()), self.public_host.as_deref()].into_iter().flatten().collect()
    }
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
        #[serde(default)]
        context_retention_days: Option<u64>,
    },
    Unchanged,
    /// Only what is measured has changed.
    Measured {
        soft: u64,
        measured: Vec<(String, ObservedStatus)>,
    },
    Snapshot(Box<SnapshotData>),
    Service {
        service: Box<Registered>,
        created: bool,
        #[serde(default)]
        measured: ObservedStatus,
        /// Its lane is to be told.
        #[serde(default)]
        has_lane: bool,
        #[serde(default)]
        signing_secret: Option<String>,
    },
    Key(Box<Key>),
    #[serde(rename = "kept")]
    Document {
        #[serde(rename = "kept")]
        stored: Box<StoredDocument>,
        created: bool,
    },
    /// What cannot be deleted, as these still need it.
    InUse {
        by: Vec<String>,
    },
    Audit {
        entries: Vec<(u64, Box<RawValue>)>,
    },
    /// A client is named `clients/{id}`.
    LastUsed(Vec<(String, Timestamp)>),
    Room(Box<Room>),
    Documents {
        page: Box<Page>,
        /// The last one of this page; nothing when it is the last page.
        next: Option<(String, String)>,
    },
    /// A write that does not fit.
    TooLarge(TooLarge),
    /// All registrations there is room for are in use.
    AllInUse,
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
