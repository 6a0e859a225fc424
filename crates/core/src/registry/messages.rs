//! The requests to a registry, as Workers, stores and lanes send them.
//!
//! Both versions of a deployment read them: members are only added, with defaults.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::access::revocation::Revocation;
use crate::access::tenant::Retention;
use crate::base::id::StoreId;
use crate::base::principal_id::PrincipalId;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::base::version::VersionNumber;
use crate::http::egress_address::{Origin, Policy};
use crate::lane::health::StatusReason;
use crate::lane::observed::ObservedStatus;
use crate::services::tool_catalogue::ToolsRead;

use super::revision::Revision;

pub use super::records::{
    CurrentService, DocumentKind, DocumentPage, DocumentSize, IndexData, Key, KeySecret, RegistrySize, SnapshotData,
    StoredDocument, StoredOutline, StoredService,
};
pub use super::replies::{
    AuditEntries, DocumentReply, Documents, EstablishReply, HelloReply, Holdings, KeyReply, LastUsed, Refusal,
    RegisterReply, ServiceReply, Services, SizeReply, SnapshotReply, StatusReply, ToolsReply, WriteRefusal,
    WrittenDocument, WrittenService,
};

/// Registers a store, and asks for the revision.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    pub store: StoreId,
}

/// Fetches the configuration, unless the sender has this revision.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ReadSnapshot {
    pub known: Option<Revision>,
    /// How many stores the sender knows.
    #[serde(default)]
    pub stores: usize,
    /// The sender's counter of observed statuses; `None`: not requested.
    #[serde(default)]
    pub soft: Option<u64>,
    /// The sender keeps outlines of services, and reads their documents when it needs them ([`ReadServices`]). Without
    /// this, it is of an earlier version.
    #[serde(default)]
    pub index: bool,
    /// Documents are missing in what the sender knows, so that changes are not enough.
    #[serde(default)]
    pub incomplete: bool,
}

/// Reads the documents of services.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadServices {
    pub ids: Vec<ServiceId>,
    /// For a list; otherwise for calls, which are likely to be repeated in other isolates.
    #[serde(default)]
    pub for_list: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct PutService {
    pub id: ServiceId,
    pub document: String,
    pub condition: Condition,
    pub rules: WriteRules,
}

/// A merge patch (RFC 7396).
#[derive(Debug, Serialize, Deserialize)]
pub struct PatchService {
    pub id: ServiceId,
    pub patch: String,
    pub condition: Condition,
    pub rules: WriteRules,
}

/// Replaces a service's signing secret by this one, or by a generated one. The old one also signs until the overlap is
/// over.
#[derive(Debug, Serialize, Deserialize)]
pub struct RotateSecret {
    pub id: ServiceId,
    pub overlap_seconds: u64,
    #[serde(default)]
    pub signing_secret: Option<String>,
}

/// The tools read from an MCP server at this URL, or why reading failed.
#[derive(Debug, Serialize, Deserialize)]
pub struct RenewTools {
    pub id: ServiceId,
    pub url: String,
    pub read: Result<Box<ToolsRead>, String>,
}

/// Accepts tools that are held back: the named ones, or all.
#[derive(Debug, Serialize, Deserialize)]
pub struct AcceptTools {
    pub id: ServiceId,
    #[serde(default)]
    pub names: Option<Vec<String>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct DeleteService {
    pub id: ServiceId,
    pub condition: Condition,
}

/// Replaces a webhook's secret. The old one also signs until the overlap is over.
#[derive(Debug, Serialize, Deserialize)]
pub struct RotateWebhookSecret {
    pub id: String,
    pub overlap_seconds: u64,
    pub secret: String,
}

/// Creates or replaces a document that the sender has validated.
#[derive(Debug, Serialize, Deserialize)]
pub struct PutDocument {
    pub kind: DocumentKind,
    pub id: String,
    pub document: Box<RawValue>,
    pub condition: Condition,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct DeleteDocument {
    pub kind: DocumentKind,
    pub id: String,
    pub condition: Condition,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct CreateKey(pub NewKey);

#[derive(Debug, Serialize, Deserialize)]
pub struct RotateKey {
    pub id: String,
    pub overlap_seconds: u64,
    pub hash: String,
    pub last_four: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct RevokeKey {
    pub id: String,
}

/// Registers a client dynamically; unused registrations make room for it.
#[derive(Debug, Serialize, Deserialize)]
pub struct RegisterClient {
    pub id: String,
    pub document: Box<RawValue>,
}

/// The last use of a key; sent at most once an hour, and without a new revision.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordKeyUse {
    pub key: String,
    pub at: Timestamp,
}

/// The last token for a client; sent at most once an hour, and without a new revision.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordClientUse {
    pub client: String,
    pub at: Timestamp,
}

/// A page of all documents, after this kind and id.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadDocuments {
    pub after: (String, String),
}

/// Reads entries of the audit log, newest first. Unset filters match everything.
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

/// Reports rejected credentials.
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

/// Creates the tenant, or changes its retention.
#[derive(Debug, Serialize, Deserialize)]
pub struct Establish {
    pub retention: Retention,
    pub key: Option<NewKey>,
}

/// From a lane: the observed status of its service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportStatus {
    pub service: ServiceId,
    /// When the service was given the address that was observed; `None` from a version that does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_at: Option<Timestamp>,
    pub measured: ObservedStatus,
    /// The cause of the change; `None` if only a figure changed.
    pub reason: Option<StatusReason>,
}

/// From the registry of the deployment's own tenant: what was revoked there.
#[derive(Debug, Serialize, Deserialize)]
pub struct RelayRevocation(pub Revocation);

/// Reads when keys and clients were last used.
#[derive(Debug, Serialize)]
pub struct ReadLastUsed;

/// Reads the size of the documents.
#[derive(Debug, Serialize)]
pub struct ReadSize;

/// Lists the tenant's services and keys.
#[derive(Debug, Serialize)]
pub struct ListHoldings;

/// Deletes the tenant.
#[derive(Debug, Serialize)]
pub struct Close;

/// Periodic maintenance: pushes the revision to the stores again, among other things.
#[derive(Debug, Serialize)]
pub struct Sweep;

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
    /// Origins that are allowed beside public addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_origins: Vec<Origin>,
    pub own_host: String,
    /// Where services reach the gateway, if at a different host.
    #[serde(default)]
    pub public_host: Option<String>,
    #[serde(default)]
    pub demo: bool,
}

impl WriteRules {
    pub fn addresses(&self) -> Policy<'_> {
        Policy { allow_loopback: self.allow_loopback, origins: &self.allowed_origins }
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
