//! The requests to a context store.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::objects::protocol::{Address, Done, Object, requests};
use crate::platform::objects::{CALL_TIMEOUT_MS, CallError, Kind};
use narthex_core::base::id::{ContextId, StoreId};
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::context::idempotency::Claim;
use narthex_core::context::lease::{Hold, LeaseNumber};
use narthex_core::context::status::Status;
use narthex_core::context::{Admission, AttemptReport, ContextError, ReportedOutcome};
use narthex_core::registry::revision::Revision;

pub use super::replies::{
    AdmitReply, CallbackReply, CancelOutcome, CancelReply, ChangeReply, ClaimReply, CommitReply, ContextDetails,
    ContextReply, ContextSummary, InputReply, LeaseReply, ListReply, Origin, OriginReply, RecallReply, RenewReply,
    Stale, SweepReply, Work,
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

/// Creates a context: leased to the sender if `lease_ms` is given, otherwise queued.
#[derive(Debug, Serialize, Deserialize)]
pub struct Admit {
    pub admission: Box<Admission>,
    pub parameters: Box<RawValue>,
    #[serde(default)]
    pub lease_ms: Option<u64>,
    /// The sender waits for a permit on the context's behalf; until the offer ends, the context is given to no
    /// other Worker.
    #[serde(default)]
    pub offers: bool,
    /// The reply includes the context's view.
    #[serde(default)]
    pub show: bool,
    /// The idempotency key of the request.
    #[serde(default)]
    pub claim: Option<Claim>,
}

/// Looks up an idempotency key.
#[derive(Debug, Serialize, Deserialize)]
pub struct Recall {
    pub claim: Claim,
}

/// Ends an attempt.
#[derive(Debug, Serialize, Deserialize)]
pub struct Commit {
    pub id: ContextId,
    pub report: AttemptReport,
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
    /// The sender would run the next attempt itself if it starts within this time.
    #[serde(default)]
    pub stays_ms: u64,
}

/// Stores a context that was run without prior admission (`durable: false`).
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    pub admission: Box<Admission>,
    pub parameters: Box<RawValue>,
    pub report: AttemptReport,
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
}

/// Starts the next attempt of a queued context.
#[derive(Debug, Serialize, Deserialize)]
pub struct Lease {
    pub id: ContextId,
    pub lease_ms: u64,
}

/// Extends a lease or an offer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Renew {
    pub id: ContextId,
    #[serde(rename = "lease")]
    pub hold: Hold,
    pub lease_ms: u64,
}

/// Takes the context that should run next. A context for one of the `gated` services is offered instead of leased.
#[derive(Debug, Serialize, Deserialize)]
pub struct ClaimWork {
    pub lease_ms: u64,
    #[serde(default)]
    pub gated: Vec<ServiceId>,
    /// Services whose contexts are skipped.
    #[serde(default)]
    pub without: Vec<ServiceId>,
    /// When one of those services may be tried again: a consumer is notified at that time.
    #[serde(default)]
    pub again_at: Option<Timestamp>,
}

/// Returns an offered context to the queue; with `until`, not before that time.
#[derive(Debug, Serialize, Deserialize)]
pub struct PutBack {
    pub id: ContextId,
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// Ends a waiting context without an attempt.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refuse {
    pub id: ContextId,
    pub error: ContextError,
}

/// A report that a service sends to a callback, under the lease in the callback's address.
#[derive(Debug, Serialize, Deserialize)]
pub struct CallBack {
    pub id: ContextId,
    pub lease: LeaseNumber,
    #[serde(rename = "say")]
    pub callback: CallbackReport,
}

/// The attempt under this lease requests input, and stays open for the answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestInput {
    pub id: ContextId,
    pub lease: LeaseNumber,
    pub request: Box<RawValue>,
}

/// Waits for the answer to an input request of a running attempt.
#[derive(Debug, Serialize, Deserialize)]
pub struct AwaitInput {
    pub id: ContextId,
    pub lease: LeaseNumber,
    pub milliseconds: u64,
}

/// The answer to an input request.
#[derive(Debug, Serialize, Deserialize)]
pub struct AnswerInput {
    pub id: ContextId,
    pub input: Box<RawValue>,
}

/// Replaces an input request by what is left of it after a partial answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct NarrowInput {
    pub id: ContextId,
    pub from: Box<RawValue>,
    pub to: Box<RawValue>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Get {
    pub id: ContextId,
}

/// The admission and the parameters that a context was created from.
#[derive(Debug, Serialize, Deserialize)]
pub struct GetOrigin {
    pub id: ContextId,
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

#[derive(Debug, Serialize, Deserialize)]
pub struct Cancel {
    pub id: ContextId,
}

/// The registry has changed.
#[derive(Debug, Serialize)]
pub struct LearnRevision;

/// From the registry: how many days ended contexts are kept; `None` means the deployment's default.
#[derive(Debug, Serialize, Deserialize)]
pub struct Retain {
    pub days: Option<u64>,
}

/// Publishes all queued events.
#[derive(Debug, Serialize)]
pub struct Flush;

/// Handles everything that is due, and sets the alarm again.
#[derive(Debug, Serialize)]
pub struct Sweep;

/// A service's report about a context in progress.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackReport {
    Outcome {
        outcome: ReportedOutcome,
        #[serde(default)]
        result: Option<Box<RawValue>>,
    },
    Beat {
        #[serde(default)]
        lease_ms: Option<u64>,
        #[serde(default)]
        progress: Option<Box<RawValue>>,
    },
}

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
