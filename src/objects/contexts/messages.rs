//! The requests to a context store. The core has those that its decisions alone answer.

use serde::{Deserialize, Serialize};

use crate::objects::protocol::{Address, Done, Object, requests};
use crate::platform::objects::{CALL_TIMEOUT_MS, CallError, Kind};
use narthex_core::base::id::{ContextId, StoreId};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::context::status::Status;
use narthex_core::registry::revision::Revision;

pub use super::replies::{ContextSummary, ListReply, Stale, SweepReply};
pub use narthex_core::context_store::messages::{
    Admit, AnswerInput, AwaitInput, CallBack, CallbackReport, Cancel, ClaimWork, Commit, Get, GetOrigin, Lease,
    NarrowInput, PutBack, Recall, Record, Refuse, Renew, RequestInput,
};
pub use narthex_core::context_store::replies::{
    AdmitReply, CallbackReply, CancelOutcome, CancelReply, ChangeReply, ClaimReply, CommitReply, ContextDetails,
    ContextReply, InputReply, LeaseReply, OriginReply, RecallReply, RenewReply, Work,
};

/// How long a store may take to confirm what its registry pushes, in milliseconds.
const PUSH_TIMEOUT_MS: u64 = 2_000;

pub struct Contexts;

impl Object for Contexts {
    const KIND: Kind = Kind::Contexts;
}

impl Contexts {
    /// A store, which its first call creates in its region.
    pub fn of(tenant: &TenantId, store: StoreId) -> Address<Self> {
        Address::near(store.object_name(tenant), store.region.location_hint())
    }

    /// The store of a context.
    pub fn holding(tenant: &TenantId, id: &ContextId) -> Result<Address<Self>, CallError> {
        let store = id.store().ok_or_else(|| CallError::Failed(format!("{id} names no store")))?;
        Ok(Self::of(tenant, store))
    }
}

/// A request with the registry revision that the sender decided with; a store that knows a newer one replies
/// [`Stale`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Message<A> {
    pub revision: Revision,
    pub ask: A,
}

requests! {
    pub enum Ask of Contexts {
        "admit": Admit => AdmitReply, Handle, |_| CALL_TIMEOUT_MS;
        "recall": Recall => RecallReply, Handle, |_| CALL_TIMEOUT_MS;
        "commit": Commit => CommitReply, Handle, |_| CALL_TIMEOUT_MS;
        "record": Record => Done, Handle, |_| CALL_TIMEOUT_MS;
        "lease": Lease => LeaseReply, Handle, |_| CALL_TIMEOUT_MS;
        "renew": Renew => RenewReply, Handle, |_| CALL_TIMEOUT_MS;
        "claim": ClaimWork => ClaimReply, Handle, |_| CALL_TIMEOUT_MS;
        "put_back": PutBack => Done, Handle, |_| CALL_TIMEOUT_MS;
        "refuse": Refuse => ChangeReply, Handle, |_| CALL_TIMEOUT_MS;
        "call_back": CallBack => CallbackReply, Handle, |_| CALL_TIMEOUT_MS;
        "ask_for": RequestInput => ChangeReply, Handle, |_| CALL_TIMEOUT_MS;
        "hear": AwaitInput => InputReply, HandleLater, |wait| CALL_TIMEOUT_MS + wait.milliseconds;
        "answer": AnswerInput => ChangeReply, Handle, |_| CALL_TIMEOUT_MS;
        "narrow": NarrowInput => ChangeReply, Handle, |_| CALL_TIMEOUT_MS;
        "get": Get => ContextReply, Handle, |_| CALL_TIMEOUT_MS;
        "origin": GetOrigin => OriginReply, Handle, |_| CALL_TIMEOUT_MS;
        "wait": Wait => ContextReply, HandleLater, |wait| CALL_TIMEOUT_MS + wait.milliseconds;
        "follow": Follow => ContextReply, HandleLater, |wait| CALL_TIMEOUT_MS + wait.milliseconds;
        "cancel": Cancel => CancelReply, Handle, |_| CALL_TIMEOUT_MS;
        "list": Query => ListReply, Handle, |_| CALL_TIMEOUT_MS;
        "retain": Retain => SweepReply, Handle, |_| PUSH_TIMEOUT_MS;
    }
    units {
        "revision": LearnRevision => Done, Handle, |_| PUSH_TIMEOUT_MS;
        "flush": Flush => Done, HandleLater, |_| CALL_TIMEOUT_MS;
        "sweep": Sweep => SweepReply, Handle, |_| CALL_TIMEOUT_MS;
    }
}

/// As `Get`, after the context has ended or the time is over; unless `to_the_end`, also when it requests input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Wait {
    pub id: ContextId,
    pub milliseconds: u64,
    #[serde(default)]
    pub to_the_end: bool,
    /// Returns also on progress after this one, by the number of its event.
    #[serde(default)]
    pub news_after: Option<u64>,
}

/// As `Wait`, for a client that has seen this many input requests and this progress.
#[derive(Debug, Serialize, Deserialize)]
pub struct Follow {
    pub id: ContextId,
    pub milliseconds: u64,
    #[serde(default)]
    pub asked: usize,
    #[serde(default)]
    pub news_after: Option<u64>,
    /// Returns also when the service has accepted the work for the background.
    #[serde(default)]
    pub taken: bool,
}

/// The registry has changed.
#[derive(Debug, Serialize)]
pub struct LearnRevision;

/// From the registry: how many days ended contexts are kept; `None` means the deployment's default.
#[derive(Debug, Serialize, Deserialize)]
pub struct Retain {
    pub days: Option<u64>,
    /// The revision of the registry that says so; a late message does not undo a newer one.
    #[serde(default)]
    pub revision: Revision,
}

/// Publishes all queued events.
#[derive(Debug, Serialize)]
pub struct Flush;

/// Handles everything that is due, and sets the alarm again.
#[derive(Debug, Serialize)]
pub struct Sweep;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Query {
    /// Any text: it may be no principal.
    #[serde(default)]
    pub owner: Option<String>,
    #[serde(default)]
    pub status: Option<Status>,
    #[serde(default)]
    pub service: Option<String>,
    #[serde(default)]
    pub capability: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    #[serde(default)]
    pub created_after: Option<Timestamp>,
    #[serde(default)]
    pub created_before: Option<Timestamp>,
    /// Only contexts that sort before this id, newest first.
    #[serde(default)]
    pub before: Option<String>,
    pub limit: u64,
    /// The approximate maximum size of the reply, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_bytes: Option<u64>,
    /// The sender understands a list that ends before it has found anything. Without this, it is of an earlier version.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stops: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::protocol::enclosed;
    use crate::objects::reply::{ReadReply, Reply};
    use crate::objects::wire_tests::assert_pinned;

    #[test]
    fn other_versions_read_the_messages() {
        assert_pinned::<Ask>(include_str!("wire.json"));
    }

    #[test]
    fn a_request_comes_with_the_revision_of_its_sender() {
        let revision = Revision::parse("3").unwrap();
        let sent = enclosed(&Message { revision, ask: () }, &Sweep).unwrap();
        assert_eq!(sent, r#"{"revision":3,"ask":"sweep"}"#);
        let read: Message<Ask> = serde_json::from_str(&sent).unwrap();
        assert!(matches!(read, Message { revision: read, ask: Ask::Sweep } if read == revision));
    }

    #[test]
    fn every_fenced_reply_may_say_that_the_sender_is_behind() {
        let sent = r#"{"stale":{"revision":9}}"#;
        let read = Reply::<ContextReply, Stale>::read(sent).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), sent);
        assert!(matches!(read, Reply(Err(Stale::Stale { .. }))));
    }
}
