//! The messages of a tenant's registry: its requests, and the replies in `replies.rs`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::objects::protocol::{Address, Done, Object, requests};
use crate::objects::reply::Reply;
use crate::platform::objects::{CALL_TIMEOUT_MS, Kind};
use narthex_core::access::audit::Actor;
use narthex_core::access::tenant::Retention;
use narthex_core::base::id::StoreId;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::version::VersionNumber;
use narthex_core::http::egress_address::Policy;
use narthex_core::lane::health::StatusReason;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::registry::revision::Revision;
use narthex_core::services::tool_catalogue::ToolsRead;

pub use super::records::{
    DocumentKind, DocumentPage, DocumentSize, Key, KeySecret, RegistrySize, SnapshotData, StoredDocument, StoredService,
};
pub use super::replies::{
    AuditEntries, DocumentReply, Documents, EstablishReply, HelloReply, Holdings, KeyReply, LastUsed, Refusal,
    RegisterReply, ServiceReply, SizeReply, SnapshotReply, StatusReply, ToolsReply, WriteRefusal, WrittenDocument,
    WrittenService,
};

/// How long a write may take, in milliseconds: it waits until every store has been informed.
const WRITE_TIMEOUT_MS: u64 = 15_000;
/// How long a read for a request to the API may take, in milliseconds.
const API_READ_TIMEOUT_MS: u64 = 15_000;
/// How long the report of a lane may take, in milliseconds. Requests may be waiting for it.
const STATUS_TIMEOUT_MS: u64 = 2_000;

/// The class of the registries.
pub struct Registries;

impl Object for Registries {
    const KIND: Kind = Kind::Registry;
}

impl Registries {
    pub(super) fn of(tenant: &TenantId) -> Address<Self> {
        Address::new(tenant.object())
    }
}

/// A request, with the tenant of the registry.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message<A> {
    pub tenant: TenantId,
    /// The actor of a write, if there is one.
    #[serde(default)]
    pub by: Actor,
    pub ask: A,
}

requests! {
    pub enum Ask of Registries {
        "hello": Hello => HelloReply, HandleLater, |_| CALL_TIMEOUT_MS;
        "snapshot": ReadSnapshot => SnapshotReply, HandleLater, |_| CALL_TIMEOUT_MS;
        "put_service": PutService => Reply<ServiceReply, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "patch_service": PatchService => Reply<ServiceReply, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "rotate_secret": RotateSecret => Reply<ServiceReply, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "renew_tools": RenewTools => Reply<ToolsReply, WriteRefusal>, HandleLater, |_| CALL_TIMEOUT_MS;
        "accept_tools": AcceptTools => Reply<ToolsReply, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "delete_service": DeleteService => Reply<Done, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "rotate_webhook_secret": RotateWebhookSecret => Reply<DocumentReply, WriteRefusal>, HandleLater,
            |_| WRITE_TIMEOUT_MS;
        "put": PutDocument => Reply<DocumentReply, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "delete": DeleteDocument => Reply<Done, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "create_key": CreateKey => Reply<KeyReply, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "rotate_key": RotateKey => Reply<KeyReply, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "revoke_key": RevokeKey => Reply<Done, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "register": RegisterClient => Reply<RegisterReply, WriteRefusal>, HandleLater, |_| CALL_TIMEOUT_MS;
        "used": RecordKeyUse => Done, HandleLater, |_| CALL_TIMEOUT_MS;
        "used_client": RecordClientUse => Done, HandleLater, |_| CALL_TIMEOUT_MS;
        "documents": ReadDocuments => Documents, HandleLater, |_| CALL_TIMEOUT_MS;
        "audit": AuditQuery => AuditEntries, HandleLater, |_| API_READ_TIMEOUT_MS;
        "refused": RejectedCredentials => Done, HandleLater, |_| CALL_TIMEOUT_MS;
        "establish": Establish => Reply<EstablishReply, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "measured": ReportStatus => StatusReply, HandleLater, |_| STATUS_TIMEOUT_MS;
    }
    units {
        "last_used": ReadLastUsed => LastUsed, HandleLater, |_| API_READ_TIMEOUT_MS;
        "room": ReadSize => SizeReply, HandleLater, |_| API_READ_TIMEOUT_MS;
        "holdings": ListHoldings => Holdings, HandleLater, |_| API_READ_TIMEOUT_MS;
        "close": Close => Reply<Done, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "sweep": Sweep => Done, HandleLater, |_| CALL_TIMEOUT_MS;
    }
}

/// Registers a store, and asks for the revision.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    pub store: StoreId,
}

/// Fetches the configuration, unless the sender has this revision.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadSnapshot {
    pub known: Option<Revision>,
    /// How many stores the sender knows.
    #[serde(default)]
    pub stores: usize,
    /// The sender's counter of observed statuses; `None`: not requested.
    #[serde(default)]
    pub soft: Option<u64>,
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
#[derive(Debug, Serialize, Deserialize)]
pub struct ReportStatus {
    pub service: ServiceId,
    pub measured: ObservedStatus,
    /// The cause of the change; `None` if only a figure changed.
    pub reason: Option<StatusReason>,
}

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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Ask, Message, ReadSize, WriteRefusal};
    use crate::objects::protocol::enclosed;
    use crate::objects::wire_tests::{assert_pinned, assert_refusals_pinned};
    use narthex_core::access::audit::Actor;
    use narthex_core::base::tenant_id::TenantId;

    #[test]
    fn other_versions_read_the_messages() {
        assert_pinned::<Ask>(include_str!("wire.json"));
        assert_refusals_pinned::<WriteRefusal>(include_str!("wire.json"));
    }

    #[test]
    fn other_versions_read_what_a_request_is_sent_with() {
        let by = Actor { actor: "key:ci".into(), name: Some("CI".into()), ..Actor::default() };
        let envelope = Message { tenant: TenantId::first(), by: by.clone(), ask: () };
        let sent: Value = serde_json::from_str(&enclosed(&envelope, &ReadSize).unwrap()).unwrap();
        let form = json!({
            "tenant": "default",
            "ask": "room",
            "by": {"actor": "key:ci", "name": "CI", "request_id": "", "address": ""},
        });
        assert_eq!(sent, form);
        let read: Message<Ask> = serde_json::from_value(form).unwrap();
        assert!(matches!(read, Message { ask: Ask::ReadSize, by: actor, .. } if actor == by));
        let older: Message<Ask> = serde_json::from_value(json!({"tenant": "default", "ask": "sweep"})).unwrap();
        assert!(matches!(older, Message { ask: Ask::Sweep, by: actor, .. } if actor == Actor::default()));
    }
}
