//! The messages of a tenant's registry: its requests and replies.

use serde::{Deserialize, Serialize};

use serde_json::value::RawValue;

use narthex_core::access::audit::Actor;
use narthex_core::access::tenant::Retention;
use narthex_core::base::id::StoreId;
use narthex_core::base::json::Fault;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::version::{Generation, VersionNumber};
use narthex_core::http::egress_address::Policy;
use narthex_core::lane::health::StatusReason;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::registry::revision::Revision;
use narthex_core::registry::size::TooLarge;
use narthex_core::services::tool_catalogue::ToolsRead;

pub use super::records::{DocumentPage, DocumentSize, Key, KeySecret, RegistrySize, SnapshotData, StoredService};

/// A request, with the tenant of the registry.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub tenant: TenantId,
    pub ask: Ask,
    /// The actor of a write, if there is one.
    #[serde(default)]
    pub by: Actor,
}

impl Message {
    /// A request that the gateway makes by itself, without an actor.
    pub fn new(tenant: TenantId, ask: Ask) -> Self {
        Self { tenant, ask, by: Actor::default() }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Registers a store, and asks for the revision.
    Hello {
        store: StoreId,
    },
    /// Fetches the configuration, unless the sender has this revision.
    Snapshot {
        known: Option<Revision>,
        /// How many stores the sender knows.
        #[serde(default)]
        stores: usize,
        /// The sender's counter of observed statuses; `None`: not requested.
        #[serde(default)]
        soft: Option<u64>,
    },
    PutService {
        id: ServiceId,
        document: String,
        condition: Condition,
        rules: WriteRules,
    },
    /// A merge patch (RFC 7396).
    PatchService {
        id: ServiceId,
        patch: String,
        condition: Condition,
        rules: WriteRules,
    },
    /// Replaces a service's signing secret by this one, or by a generated one. The old one also signs until the overlap
    /// is over.
    RotateSecret {
        id: ServiceId,
        overlap_seconds: u64,
        #[serde(default)]
        signing_secret: Option<String>,
    },
    /// The tools read from an MCP server at this URL, or why reading failed.
    RenewTools {
        id: ServiceId,
        url: String,
        read: Result<Box<ToolsRead>, String>,
    },
    /// Accepts tools that are held back: the named ones, or all.
    AcceptTools {
        id: ServiceId,
        #[serde(default)]
        names: Option<Vec<String>>,
    },
    DeleteService {
        id: ServiceId,
        condition: Condition,
    },
    /// Replaces a webhook's secret. The old one also signs until the overlap is over.
    RotateWebhookSecret {
        id: String,
        overlap_seconds: u64,
        secret: String,
    },
    /// Creates or replaces a document that the sender has validated.
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
    /// Registers a client dynamically; unused registrations make room for it.
    Register {
        id: String,
        document: Box<RawValue>,
    },
    /// The last use of a key; sent at most once an hour, and without a new revision.
    Used {
        key: String,
        at: Timestamp,
    },
    /// The last token for a client; sent at most once an hour, and without a new revision.
    UsedClient {
        client: String,
        at: Timestamp,
    },
    /// When keys and clients were last used.
    LastUsed,
    /// The size of the documents.
    Room,
    /// A page of all documents, after this kind and id.
    Documents {
        after: (String, String),
    },
    /// Entries of the audit log, newest first.
    Audit(AuditQuery),
    /// Credentials were rejected.
    Refused(RejectedCredentials),
    /// Creates the tenant, or changes its retention.
    Establish {
        retention: Retention,
        key: Option<NewKey>,
    },
    /// Lists the tenant's services and keys.
    Holdings,
    /// Deletes the tenant.
    Close,
    /// From a lane: the observed status of its service.
    Measured {
        service: ServiceId,
        measured: ObservedStatus,
        /// The cause of the change; `None` if only a figure changed.
        reason: Option<StatusReason>,
    },
    /// Periodic maintenance: pushes the revision to the stores again, among other things.
    Sweep,
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
}

impl StoredDocument {
    pub fn generation(&self) -> Generation {
        Generation::of(self.version, self.updated_at)
    }
}

/// Filters of the audit log; unset ones match everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AuditQuery {
    pub actor: Option<String>,
    /// A GLOB pattern of SQLite, validated by the gateway.
    pub action: Option<String>,
    pub object: Option<String>,
    pub after: Option<Timestamp>,
    pub before: Option<Timestamp>,
    /// Only entries with a smaller number.
    pub below: Option<u64>,
    pub limit: u64,
}

/// Rejected credentials.
#[derive(Debug, Serialize, Deserialize)]
pub struct RejectedCredentials {
    /// The key's id, if the text had the form of a key.
    pub key: Option<String>,
    /// The client's id within the tenant, if an OAuth client failed to authenticate.
    #[serde(default)]
    pub client: Option<String>,
    /// SHA-256 of the whole text.
    pub hash: String,
    /// The number of attempts.
    pub count: u64,
    /// The reason, if the sender knows it: for credentials other than keys.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The precondition of a write (RFC 9110 §13).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    None,
    /// `If-Match: *`
    Exists,
    /// `If-Match: "3"`: any of these versions.
    Versions(Vec<VersionNumber>),
    /// `If-None-Match: *`
    Absent,
}

/// Rules from the sender's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WriteRules {
    pub allow_loopback: bool,
    pub own_host: String,
    /// Where services reach the gateway, if at a different host.
    #[serde(default)]
    pub public_host: Option<String>,
    #[serde(default)]
    pub demo: bool,
}

impl WriteRules {
    pub fn addresses(&self) -> Policy {
        Policy { allow_loopback: self.allow_loopback }
    }

    /// The gateway's own hosts.
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
    pub created_by: PrincipalId,
    pub expires_at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Revision {
        revision: Revision,
        #[serde(default)]
        context_retention_days: Option<u64>,
    },
    Unchanged,
    /// Only observed statuses have changed.
    Measured {
        soft: u64,
        measured: Vec<(ServiceId, ObservedStatus)>,
    },
    Snapshot(Box<SnapshotData>),
    Service {
        service: Box<StoredService>,
        created: bool,
        #[serde(default)]
        measured: ObservedStatus,
        /// Its lane must be notified.
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
    /// The document cannot be deleted because these depend on it.
    InUse {
        by: Vec<String>,
    },
    Audit {
        entries: Vec<(u64, Box<RawValue>)>,
    },
    /// A client is named `clients/{id}`.
    LastUsed(Vec<(String, Timestamp)>),
    Room(Box<RegistrySize>),
    Documents {
        page: Box<DocumentPage>,
        /// The last document of this page; `None` on the last page.
        next: Option<(String, String)>,
    },
    /// The write exceeds a limit.
    TooLarge(TooLarge),
    /// All registrations are in use, so another one does not fit.
    AllInUse,
    Done,
    Absent,
    Faults(Vec<Fault>),
    Refused(Refusal),
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
}
