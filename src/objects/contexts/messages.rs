//! The messages of a context store: its requests and replies.

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use narthex_core::base::id::ContextId;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::context::idempotency::Claim;
use narthex_core::context::lease::{Hold, LeaseNumber};
use narthex_core::context::status::Status;
use narthex_core::context::{Admission, AttemptReport, Background, ContextError, Progress, ReportedOutcome};
use narthex_core::registry::revision::Revision;

/// Carries the registry revision that the sender decided with; a store that knows a newer one answers `Stale`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub revision: Revision,
    pub ask: Ask,
}

impl Message {
    /// A message that the store answers under any revision: see [`Fence::None`](super::preconditions::Fence).
    pub fn unfenced(ask: Ask) -> Self {
        Self { revision: Revision::INITIAL, ask }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Creates a context: leased to the sender if `lease_ms` is given, otherwise queued.
    Admit {
        admission: Box<Admission>,
        parameters: Box<RawValue>,
        #[serde(default)]
        lease_ms: Option<u64>,
        /// The sender waits for a permit on the context's behalf; until the offer ends, the context is given to no
        /// other Worker.
        #[serde(default)]
        offers: bool,
        /// The reply includes the context's view.
        #[serde(default)]
        show: bool,
        /// The idempotency key of the request.
        #[serde(default)]
        claim: Option<Claim>,
    },
    /// Looks up an idempotency key.
    Recall {
        claim: Claim,
    },
    /// Ends an attempt.
    Commit {
        id: ContextId,
        report: AttemptReport,
        #[serde(default)]
        result: Option<Box<RawValue>>,
        /// The sender would run the next attempt itself if it starts within this time.
        #[serde(default)]
        stays_ms: u64,
    },
    /// Stores a context that was run without prior admission (`durable: false`).
    Record {
        admission: Box<Admission>,
        parameters: Box<RawValue>,
        report: AttemptReport,
        #[serde(default)]
        result: Option<Box<RawValue>>,
    },
    /// Starts the next attempt of a queued context.
    Lease {
        id: ContextId,
        lease_ms: u64,
    },
    /// Extends a lease or an offer.
    Renew {
        id: ContextId,
        #[serde(rename = "lease")]
        hold: Hold,
        lease_ms: u64,
    },
    /// Takes the context that should run next. A context for one of the `gated` services is offered instead of leased.
    Claim {
        lease_ms: u64,
        #[serde(default)]
        gated: Vec<ServiceId>,
        /// Services whose contexts are skipped.
        #[serde(default)]
        without: Vec<ServiceId>,
        /// When one of those services may be tried again: a consumer is notified at that time.
        #[serde(default)]
        again_at: Option<Timestamp>,
    },
    /// Returns an offered context to the queue; with `until`, not before that time.
    PutBack {
        id: ContextId,
        #[serde(default)]
        until: Option<Timestamp>,
    },
    /// Ends a waiting context without an attempt.
    Refuse {
        id: ContextId,
        error: ContextError,
    },
    /// A report that a service sends to a callback, under the lease in the callback's address.
    CallBack {
        id: ContextId,
        lease: LeaseNumber,
        #[serde(rename = "say")]
        callback: CallbackReport,
    },
    /// The attempt under this lease requests input, and stays open for the answer.
    AskFor {
        id: ContextId,
        lease: LeaseNumber,
        request: Box<RawValue>,
    },
    /// Waits for the answer to an input request of a running attempt.
    Hear {
        id: ContextId,
        lease: LeaseNumber,
        milliseconds: u64,
    },
    /// The answer to an input request.
    Answer {
        id: ContextId,
        input: Box<RawValue>,
    },
    /// Replaces an input request by what is left of it after a partial answer.
    Narrow {
        id: ContextId,
        from: Box<RawValue>,
        to: Box<RawValue>,
    },
    Get {
        id: ContextId,
    },
    /// The admission and the parameters that a context was created from.
    Origin {
        id: ContextId,
    },
    /// As `Get`, after the context has ended or the time is over; unless `to_the_end`, also when it requests input.
    Wait {
        id: ContextId,
        milliseconds: u64,
        #[serde(default)]
        to_the_end: bool,
        /// Returns also on progress after this one, by the number of its event.
        #[serde(default)]
        news_after: Option<u64>,
    },
    /// As `Wait`, for a client that has seen this many input requests and this progress.
    Follow {
        id: ContextId,
        milliseconds: u64,
        #[serde(default)]
        asked: usize,
        #[serde(default)]
        news_after: Option<u64>,
        /// Returns also when the service has accepted the work for the background.
        #[serde(default)]
        taken: bool,
    },
    Cancel {
        id: ContextId,
    },
    List(Query),
    /// The registry has changed.
    Revision,
    /// From the registry: how many days ended contexts are kept; `None` means the deployment's default.
    Retain {
        days: Option<u64>,
    },
    /// Publishes all queued events.
    Flush,
    /// Handles everything that is due, and sets the alarm again.
    Sweep,
}

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

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The sender's revision is older than this one: it must decide again.
    Stale {
        revision: Revision,
    },
    Admitted {
        #[serde(default)]
        lease: Option<LeaseNumber>,
        #[serde(default)]
        view: Option<Box<RawValue>>,
    },
    /// The id's key belongs to another context: create another id.
    Taken,
    /// The idempotency key already belongs to this context.
    Replayed {
        id: ContextId,
    },
    /// The idempotency key belongs to another request.
    KeyReused,
    /// The attempt is recorded. `retry_ms`: the sender should lease the context again after this time.
    Committed {
        view: Box<RawValue>,
        #[serde(default)]
        ended: bool,
        #[serde(default)]
        retry_ms: Option<u64>,
    },
    /// The lease was lost or the context has ended; this is its present state.
    Refused {
        view: Box<RawValue>,
    },
    Leased(Box<Work>),
    /// Reserved for the sender for a short time; no lease is taken yet.
    Offered(Box<Work>),
    Renewed {
        cancel: bool,
    },
    /// The answer to an input request of a running attempt; `None` until there is one.
    Heard {
        #[serde(default)]
        input: Option<Box<RawValue>>,
    },
    Nothing,
    Context(Box<ContextDetails>),
    Origin(Box<Origin>),
    Cancelled {
        view: Box<RawValue>,
        outcome: CancelOutcome,
        /// The service that must be notified because it runs the context in the background.
        #[serde(default)]
        background: Option<Background>,
    },
    /// The state of a waiting or running context after the change.
    Changed {
        view: Box<RawValue>,
        ended: bool,
    },
    CalledBack {
        status: Status,
        /// False if the lease was lost or the context has already ended with another outcome.
        counts: bool,
    },
    Page {
        items: Vec<ContextSummary>,
        /// The page ends before the limit because it would become too large.
        #[serde(default)]
        cut: bool,
    },
    Done,
    /// As `Done`, for a sweep: a context has been ready for some time and no Worker has taken it.
    Waits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelOutcome {
    Now,
    Asked,
    Ended,
}

/// An attempt to run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Work {
    pub admission: Admission,
    pub parameters: Box<RawValue>,
    #[serde(rename = "lease")]
    pub hold: Hold,
    /// Number of this attempt, from 1.
    pub attempt: u64,
    /// Services that already failed this context.
    #[serde(default)]
    pub tried: Vec<ServiceId>,
    /// The subset of these that would fail it again in the same way.
    #[serde(default)]
    pub hopeless: Vec<ServiceId>,
    /// The answer to the service's input request.
    #[serde(default)]
    pub input: Option<Box<RawValue>>,
    /// State that the service wants returned with the answer.
    #[serde(default)]
    pub input_state: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ContextDetails {
    pub owner: PrincipalId,
    pub capability: String,
    pub version: Version,
    pub service: ServiceId,
    pub status: Status,
    pub ended: bool,
    pub created_at: Timestamp,
    #[serde(default)]
    pub run_at: Option<Timestamp>,
    /// The service's latest input request.
    #[serde(default)]
    pub input_request: Option<Box<RawValue>>,
    /// The latest progress that the service reported.
    #[serde(default)]
    pub progress: Option<Progress>,
    pub view: Box<RawValue>,
    pub parameters: Box<RawValue>,
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
}

/// The admission and the parameters that a context was created from.
#[derive(Debug, Serialize, Deserialize)]
pub struct Origin {
    pub admission: Admission,
    pub parameters: Box<RawValue>,
    pub ended: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ContextSummary {
    pub id: ContextId,
    pub view: Box<RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    // Other versions of the Worker send and read these forms during a deployment.
    #[test]
    fn an_offer_is_sent_as_the_lease_zero() {
        let id = ContextId::parse(&format!("ctx_eu{}", "0".repeat(28))).unwrap();
        for (hold, lease) in [(Hold::Offered, 0), (Hold::Leased(LeaseNumber::FIRST), 1)] {
            let renew = Ask::Renew { id: id.clone(), hold, lease_ms: 10 };
            let sent = json!({"renew": {"id": id, "lease": lease, "lease_ms": 10}});
            assert_eq!(serde_json::to_value(renew).unwrap(), sent);
            let read = serde_json::from_value(sent).unwrap();
            assert!(matches!(read, Ask::Renew { hold: read, .. } if read == hold));
        }
    }
}
