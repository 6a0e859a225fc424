//! What is asked of a context store, and what it replies.

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use narthex_core::base::id::ContextId;
use narthex_core::base::time::Timestamp;
use narthex_core::context::idempotency::Claim;
use narthex_core::context::status::Status;
use narthex_core::context::{Admission, AttemptReport, Background, ContextError, Progress, ReportedOutcome};

/// Every question carries the registry revision its asker decided with; who is behind is told so.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub revision: u64,
    pub ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Makes a context exist; leased to the asker when `lease_ms` is given, else queued.
    Admit {
        admission: Box<Admission>,
        parameters: Box<RawValue>,
        #[serde(default)]
        lease_ms: Option<u64>,
        /// The asker stands in line for it: for a while nobody else is to begin it.
        #[serde(default)]
        offers: bool,
        /// The reply is to show the context.
        #[serde(default)]
        show: bool,
        /// The idempotency key it comes under.
        #[serde(default)]
        claim: Option<Claim>,
    },
    /// What an idempotency key stands for, if for anything.
    Recall {
        claim: Claim,
    },
    /// Ends an attempt.
    Commit {
        id: ContextId,
        report: AttemptReport,
        #[serde(default)]
        result: Option<Box<RawValue>>,
        /// The asker would run the next attempt itself, if it comes within this time.
        #[serde(default)]
        stays_ms: u64,
    },
    /// Keeps what was executed without being admitted first (`durable: false`).
    Record {
        admission: Box<Admission>,
        parameters: Box<RawValue>,
        report: AttemptReport,
        #[serde(default)]
        result: Option<Box<RawValue>>,
    },
    /// Begins the next attempt of a context that waits.
    Lease {
        id: ContextId,
        lease_ms: u64,
    },
    /// Still at it: keeps a lease alive, or with the number 0 an offer.
    Renew {
        id: ContextId,
        lease: u64,
        lease_ms: u64,
    },
    /// Whatever should run next; what goes to one of the `gated` services is offered, not leased.
    Claim {
        lease_ms: u64,
        #[serde(default)]
        gated: Vec<String>,
        /// Nothing that goes to one of these.
        #[serde(default)]
        without: Vec<String>,
        /// When one of those services may be tried: whoever is rung for then finds something to do.
        #[serde(default)]
        again_at: Option<Timestamp>,
    },
    /// Gives an offered context back; with `until` it waits at least so long.
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
    /// What a service says by its callback, under the lease its address names.
    CallBack {
        id: ContextId,
        lease: u64,
        say: Say,
    },
    /// The attempt under this lease asks for something, and stays open for the answer.
    AskFor {
        id: ContextId,
        lease: u64,
        request: Box<RawValue>,
    },
    /// What that was answered, once it was, or the time is over.
    Hear {
        id: ContextId,
        lease: u64,
        milliseconds: u64,
    },
    /// The answer to what a service asked for.
    Answer {
        id: ContextId,
        input: Box<RawValue>,
    },
    /// A part of that answer: what is asked for then, in the place of what was.
    Narrow {
        id: ContextId,
        from: Box<RawValue>,
        to: Box<RawValue>,
    },
    Get {
        id: ContextId,
    },
    /// What a context was made from.
    Origin {
        id: ContextId,
    },
    /// As `Get`, once it has ended or the time is over; unless `to_the_end`, also when it asks for input.
    Wait {
        id: ContextId,
        milliseconds: u64,
        #[serde(default)]
        to_the_end: bool,
        /// Also once its service has told of progress after this one, by the number of its event.
        #[serde(default)]
        news_after: Option<u64>,
    },
    /// As `Wait`, for who has seen so many questions and so much progress.
    Follow {
        id: ContextId,
        milliseconds: u64,
        #[serde(default)]
        asked: usize,
        #[serde(default)]
        news_after: Option<u64>,
        /// Also once its service has taken the work on, to end it later.
        #[serde(default)]
        taken: bool,
    },
    Cancel {
        id: ContextId,
    },
    List(Query),
    /// The registry has changed.
    Revision,
    /// From the registry: how many days ended contexts are kept; nothing: as the deployment does.
    Retain {
        days: Option<u64>,
    },
    /// Sends out what is still to be told.
    Flush,
    /// Looks at all that is due and sets the alarm again.
    Sweep,
}

/// What must be true of a message's revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// Nothing: it concerns what has happened already, or what a lease permits, whatever the registry says by now.
    None,
    /// The store knows no newer one. Else the asker decides again, with a newer snapshot.
    Revision,
}

/// How lately a store must have asked the registry for its revision before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It need not have asked.
    None,
    /// Lately. It answers all the same when the registry cannot be reached.
    Wanted,
    /// Lately. It does not answer when the registry cannot be reached.
    Needed,
}

impl Ask {
    pub fn fence(&self) -> Fence {
        match self {
            Self::Revision
            | Self::Retain { .. }
            | Self::Commit { .. }
            | Self::Record { .. }
            | Self::Renew { .. }
            | Self::CallBack { .. }
            | Self::PutBack { .. }
            | Self::Refuse { .. }
            | Self::AskFor { .. }
            | Self::Hear { .. }
            | Self::Flush
            | Self::Sweep => Fence::None,
            Self::Admit { .. }
            | Self::Recall { .. }
            | Self::Lease { .. }
            | Self::Claim { .. }
            | Self::Get { .. }
            | Self::Origin { .. }
            | Self::Wait { .. }
            | Self::Follow { .. }
            | Self::Cancel { .. }
            | Self::Narrow { .. }
            | Self::Answer { .. }
            | Self::List(_) => Fence::Revision,
        }
    }

    pub fn freshness(&self) -> Freshness {
        match self {
            Self::Revision
            | Self::Retain { .. }
            | Self::Commit { .. }
            | Self::Renew { .. }
            | Self::AskFor { .. }
            | Self::Hear { .. } => Freshness::None,
            // What has been executed is kept, whether or not the registry can be reached.
            Self::Record { .. } | Self::CallBack { .. } => Freshness::Wanted,
            Self::Admit { .. }
            | Self::Recall { .. }
            | Self::Lease { .. }
            | Self::Claim { .. }
            | Self::PutBack { .. }
            | Self::Refuse { .. }
            | Self::Get { .. }
            | Self::Origin { .. }
            | Self::Wait { .. }
            | Self::Follow { .. }
            | Self::Cancel { .. }
            | Self::Narrow { .. }
            | Self::Answer { .. }
            | Self::List(_)
            | Self::Flush
            | Self::Sweep => Freshness::Needed,
        }
    }

    /// Whether the reply may take a while.
    pub fn waits(&self) -> bool {
        matches!(self, Self::Wait { .. } | Self::Follow { .. } | Self::Hear { .. } | Self::Flush)
    }
}

/// What a service says of a context it works on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Say {
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
    /// Only what sorts before this, newest first.
    #[serde(default)]
    pub before: Option<String>,
    pub limit: u64,
    /// About how many bytes the reply may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_bytes: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The asker's revision is older than this one: decide again.
    Stale {
        revision: u64,
    },
    Admitted {
        #[serde(default)]
        lease: Option<u64>,
        #[serde(default)]
        view: Option<Box<RawValue>>,
    },
    /// The id's key belongs to another context: make another id.
    Taken,
    /// The idempotency key stands for this context already.
    Replayed {
        id: ContextId,
    },
    /// The idempotency key stands for another request.
    KeyReused,
    /// The attempt is taken in. `retry_ms`: the asker is to lease it again after that.
    Committed {
        view: Box<RawValue>,
        #[serde(default)]
        ended: bool,
        #[serde(default)]
        retry_ms: Option<u64>,
    },
    /// The lease was lost or the context had ended; this is what it is now.
    Refused {
        view: Box<RawValue>,
    },
    Leased(Box<Work>),
    /// Kept for the asker for a while; its lease has no number yet.
    Offered(Box<Work>),
    Renewed {
        cancel: bool,
    },
    /// What an attempt that asked was answered; nothing yet.
    Heard {
        #[serde(default)]
        input: Option<Box<RawValue>>,
    },
    Nothing,
    Context(Box<Found>),
    Origin(Box<Origin>),
    Cancelled {
        view: Box<RawValue>,
        outcome: CancelOutcome,
        /// The service that works on it in the background, to be told.
        #[serde(default)]
        background: Option<Background>,
    },
    /// What a waiting or running context is now that it was changed.
    Changed {
        view: Box<RawValue>,
        ended: bool,
    },
    CalledBack {
        status: Status,
        /// False when the lease was lost or the context had ended otherwise.
        counts: bool,
    },
    Page {
        items: Vec<Listed>,
        /// There is more after the last than the limit says: it would be too much at once.
        #[serde(default)]
        cut: bool,
    },
    Done,
    /// As `Done`, of a sweep: something has been waiting for a while that nobody has taken.
    Waits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelOutcome {
    Now,
    Asked,
    Ended,
}

/// An attempt to be made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Work {
    pub admission: Admission,
    pub parameters: Box<RawValue>,
    pub lease: u64,
    /// Number of this attempt, from 1.
    pub attempt: u64,
    /// Services that failed it before.
    #[serde(default)]
    pub tried: Vec<String>,
    /// Of these, the ones that would fail it in the same way again.
    #[serde(default)]
    pub hopeless: Vec<String>,
    /// What the service asked for, answered.
    #[serde(default)]
    pub input: Option<Box<RawValue>>,
    /// What it wanted back with the answer.
    #[serde(default)]
    pub input_state: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Found {
    pub owner: String,
    pub capability: String,
    pub version: Version,
    pub service: String,
    pub status: Status,
    pub ended: bool,
    pub created_at: Timestamp,
    #[serde(default)]
    pub run_at: Option<Timestamp>,
    /// What its service asked for last.
    #[serde(default)]
    pub input_request: Option<Box<RawValue>>,
    /// What its service last told of its work.
    #[serde(default)]
    pub progress: Option<Progress>,
    pub view: Box<RawValue>,
    pub parameters: Box<RawValue>,
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
}

/// What a context was made from.
#[derive(Debug, Serialize, Deserialize)]
pub struct Origin {
    pub admission: Admission,
    pub parameters: Box<RawValue>,
    pub ended: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Listed {
    pub id: ContextId,
    pub view: Box<RawValue>,
}
