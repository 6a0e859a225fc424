//! The requests that the decisions of a context store answer, as Workers send them. [`super::answers`] answers them.
//!
//! Both versions of a deployment read them: members are only added, with defaults.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::id::ContextId;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::context::idempotency::Claim;
use crate::context::lease::{Hold, LeaseNumber};
use crate::context::{Admission, AttemptReport, ContextError, ReportedOutcome};
use crate::models::stated_usage::StatedUsage;

/// Creates a context: leased to the sender if `lease_ms` is given, otherwise queued.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recall {
    pub claim: Claim,
}

/// Ends an attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Commit {
    pub id: ContextId,
    pub report: AttemptReport,
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
    /// The sender would run the next attempt itself if it starts within this time.
    #[serde(default)]
    pub stays_ms: u64,
    /// Attempts under the same lease that failed before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<AttemptReport>,
}

/// Stores a context that was run without prior admission (`durable: false`).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub admission: Box<Admission>,
    pub parameters: Box<RawValue>,
    pub report: AttemptReport,
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
    /// Attempts that failed before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<AttemptReport>,
}

impl Record {
    /// The record as its worker sends it: without the words of the service, if the content is not kept.
    #[must_use]
    pub fn without_words(self) -> Self {
        let content = self.admission.content;
        let earlier = self.earlier.into_iter().map(|attempt| attempt.without_words(content)).collect();
        Self { report: self.report.without_words(content), earlier, ..self }.kept()
    }

    /// The record as it is stored.
    #[must_use]
    pub fn kept(self) -> Self {
        let content = self.admission.content;
        if content.is_full() {
            return self;
        }
        Self {
            admission: Box::new(self.admission.kept()),
            parameters: RawValue::NULL.to_owned(),
            report: self.report.kept(content),
            result: None,
            earlier: self.earlier.into_iter().map(|attempt| attempt.kept(content)).collect(),
        }
    }
}

/// Starts the next attempt of a queued context.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lease {
    pub id: ContextId,
    pub lease_ms: u64,
}

/// Extends a lease or an offer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Renew {
    pub id: ContextId,
    #[serde(rename = "lease")]
    pub hold: Hold,
    pub lease_ms: u64,
}

/// Takes the context that should run next. A context for one of the `gated` services is offered instead of leased.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutBack {
    pub id: ContextId,
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// Ends a waiting context without an attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Refuse {
    pub id: ContextId,
    pub error: ContextError,
}

/// A report that a service sends to a callback, under the lease in the callback's address.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallBack {
    pub id: ContextId,
    pub lease: LeaseNumber,
    #[serde(rename = "say")]
    pub callback: CallbackReport,
}

/// The attempt under this lease requests input, and stays open for the answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RequestInput {
    pub id: ContextId,
    pub lease: LeaseNumber,
    pub request: Box<RawValue>,
}

/// Waits for the answer to an input request of a running attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AwaitInput {
    pub id: ContextId,
    pub lease: LeaseNumber,
    pub milliseconds: u64,
}

/// The answer to an input request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AnswerInput {
    pub id: ContextId,
    pub input: Box<RawValue>,
}

/// Replaces an input request by what is left of it after a partial answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NarrowInput {
    pub id: ContextId,
    pub from: Box<RawValue>,
    pub to: Box<RawValue>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Get {
    pub id: ContextId,
}

/// The admission and the parameters that a context was created from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetOrigin {
    pub id: ContextId,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cancel {
    pub id: ContextId,
}

/// What a service reports about a context that it works on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackReport {
    /// The attempt ended, or asks for input.
    Outcome {
        outcome: ReportedOutcome,
        #[serde(default)]
        result: Option<Box<RawValue>>,
        /// What the service states that the attempt used and cost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stated: Option<Box<StatedUsage>>,
    },
    /// The service is still working, and promises its next report within `lease_ms`.
    Beat {
        #[serde(default)]
        lease_ms: Option<u64>,
        #[serde(default)]
        progress: Option<Box<RawValue>>,
    },
}
