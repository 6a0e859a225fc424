//! The replies of a context store to the requests of [`super::messages`].

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::content::Content;
use crate::base::id::ContextId;
use crate::base::principal_id::PrincipalId;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::context::lease::{Hold, LeaseNumber};
use crate::context::status::Status;
use crate::context::{Admission, Background, Progress};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdmitReply {
    Admitted {
        #[serde(default)]
        lease: Option<LeaseNumber>,
        #[serde(default)]
        view: Option<Box<RawValue>>,
    },
    /// The id's key belongs to another context: create another id.
    Taken,
    /// The idempotency key already belongs to this context.
    Replayed { id: ContextId },
    /// The idempotency key belongs to another request.
    KeyReused,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecallReply {
    /// The key is unknown.
    Nothing,
    Replayed {
        id: ContextId,
    },
    KeyReused,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitReply {
    /// The attempt is recorded. `retry_ms`: the sender should lease the context again after this time.
    Committed {
        view: Box<RawValue>,
        #[serde(default)]
        ended: bool,
        #[serde(default)]
        retry_ms: Option<u64>,
    },
    /// The lease was lost or the context has ended; this is its present state.
    Refused { view: Box<RawValue> },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseReply {
    Leased(Box<Work>),
    /// Another Worker has leased it, it has ended, or it does not exist.
    Nothing,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimReply {
    Leased(Box<Work>),
    /// Reserved for the sender for a short time; no lease is taken yet.
    Offered(Box<Work>),
    Nothing,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewReply {
    /// `cancel`: the context was cancelled, so the attempt is to be ended.
    Renewed { cancel: bool },
    /// The lease or the offer is lost.
    Nothing,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackReply {
    CalledBack {
        status: Status,
        /// False if the lease was lost or the context has already ended with another outcome.
        counts: bool,
    },
    Nothing,
}

/// The answer to an input request of a running attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputReply {
    /// `None` until there is an answer.
    Heard {
        #[serde(default)]
        input: Option<Box<RawValue>>,
    },
    /// The attempt no longer waits for one.
    Nothing,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeReply {
    /// The state of a waiting or running context after the change.
    Changed {
        view: Box<RawValue>,
        ended: bool,
    },
    /// The change does not apply to its present state.
    Refused {
        view: Box<RawValue>,
    },
    Nothing,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextReply {
    Context(Box<ContextDetails>),
    Nothing,
}

impl ContextReply {
    pub fn found(self) -> Option<Box<ContextDetails>> {
        match self {
            Self::Context(found) => Some(found),
            Self::Nothing => None,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginReply {
    Origin(Box<Origin>),
    Nothing,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReply {
    Cancelled {
        view: Box<RawValue>,
        outcome: CancelOutcome,
        /// The service that must be notified because it runs the context in the background.
        #[serde(default)]
        background: Option<Background>,
    },
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelOutcome {
    Now,
    Asked,
    Ended,
}

/// An attempt to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
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

impl Work {
    /// The first attempt of a context.
    pub fn first(admission: Admission, parameters: Box<RawValue>, hold: Hold) -> Self {
        let (tried, hopeless) = (Vec::new(), Vec::new());
        Self { admission, parameters, hold, attempt: 1, tried, hopeless, input: None, input_state: None }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContextDetails {
    pub owner: PrincipalId,
    pub capability: String,
    pub version: Version,
    pub service: ServiceId,
    pub status: Status,
    pub ended: bool,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Content::is_full")]
    pub content: Content,
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Origin {
    pub admission: Admission,
    pub parameters: Box<RawValue>,
    pub ended: bool,
}
