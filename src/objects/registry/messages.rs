//! The messages of a tenant's registry. The core has its requests and replies.

use serde::{Deserialize, Serialize};

use crate::objects::protocol::{Address, Done, Object, requests};
use crate::objects::reply::{Reply, Variants};
use crate::platform::objects::{CALL_TIMEOUT_MS, Kind};
use narthex_core::access::audit::Actor;
use narthex_core::base::tenant_id::TenantId;

pub use narthex_core::registry::messages::*;

/// How long a write may take, in milliseconds: it waits until every store knows of it, or may not admit without asking,
/// which takes half a minute.
const WRITE_TIMEOUT_MS: u64 = 45_000;
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
        "renew_tools": RenewTools => Reply<ToolsReply, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "accept_tools": AcceptTools => Reply<ToolsReply, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "delete_service": DeleteService => Reply<Done, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "rotate_webhook_secret": RotateWebhookSecret => Reply<DocumentReply, WriteRefusal>, HandleLater,
            |_| WRITE_TIMEOUT_MS;
        "put": PutDocument => Reply<DocumentReply, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "delete": DeleteDocument => Reply<Done, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "create_key": CreateKey => Reply<KeyReply, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "rotate_key": RotateKey => Reply<KeyReply, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "revoke_key": RevokeKey => Reply<Done, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "register": RegisterClient => Reply<RegisterReply, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "used": RecordKeyUse => Done, HandleLater, |_| CALL_TIMEOUT_MS;
        "used_client": RecordClientUse => Done, HandleLater, |_| CALL_TIMEOUT_MS;
        "services": ReadServices => Services, HandleLater, |_| CALL_TIMEOUT_MS;
        "documents": ReadDocuments => Documents, HandleLater, |_| CALL_TIMEOUT_MS;
        "audit": AuditQuery => AuditEntries, HandleLater, |_| API_READ_TIMEOUT_MS;
        "refused": RejectedCredentials => Done, HandleLater, |_| CALL_TIMEOUT_MS;
        "establish": Establish => Reply<EstablishReply, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "measured": ReportStatus => StatusReply, HandleLater, |_| STATUS_TIMEOUT_MS;
        "end": RelayRevocation => Done, HandleLater, |_| CALL_TIMEOUT_MS;
    }
    units {
        "last_used": ReadLastUsed => LastUsed, HandleLater, |_| API_READ_TIMEOUT_MS;
        "room": ReadSize => SizeReply, HandleLater, |_| API_READ_TIMEOUT_MS;
        "holdings": ListHoldings => Holdings, HandleLater, |_| API_READ_TIMEOUT_MS;
        "close": Close => Reply<Done, WriteRefusal>, HandleLater, |_| WRITE_TIMEOUT_MS;
        "sweep": Sweep => Done, HandleLater, |_| CALL_TIMEOUT_MS;
    }
}

impl Variants for WriteRefusal {
    const NAMES: &'static [&'static str] = &["absent", "in_use", "faults", "refused", "too_large"];
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
