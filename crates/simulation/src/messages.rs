//! The messages between the actors of a world: those of the shells, without data that is only passed through.

use serde_json::value::RawValue;

use narthex_core::base::id::ContextId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::CallResult;
use narthex_core::context::idempotency::Claim;
use narthex_core::context::lease::{Hold, LeaseNumber};
use narthex_core::context::status::Status;
use narthex_core::context::{Admission, AttemptReport, ContextError, ReportedOutcome};
use narthex_core::lane::PermitDecision;

use crate::lane_actor::LaneAsk;

/// The sender and the number of a request: only the reply to the current request counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub actor: Actor,
    pub number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    Request(usize),
    Worker(u64),
    Consumer(u64),
    Job(usize),
    None,
}

#[derive(Debug, Clone)]
pub enum Ask {
    Admit { admission: Box<Admission>, lease_ms: Option<u64>, offers: bool, claim: Option<Claim> },
    Record { admission: Box<Admission>, report: AttemptReport },
    Commit { id: ContextId, report: AttemptReport, stays_ms: u64 },
    Lease { id: ContextId },
    Renew { id: ContextId, hold: Hold },
    Claim { gated: Vec<ServiceId>, without: Vec<ServiceId> },
    PutBack { id: ContextId, until: Option<Timestamp> },
    Refuse { id: ContextId, error: ContextError },
    CallBack { id: ContextId, lease: LeaseNumber, said: CallbackReport },
    Answer { id: ContextId },
    Cancel { id: ContextId },
    Get { id: ContextId },
    Sweep,
}

#[derive(Debug, Clone)]
pub enum CallbackReport {
    Outcome(ReportedOutcome),
    Beat { lease_ms: Option<u64>, progress: Option<Box<RawValue>> },
}

#[derive(Debug, Clone)]
pub enum Reply {
    Admitted {
        lease: Option<LeaseNumber>,
    },
    Taken,
    Replayed(ContextId),
    KeyReused,
    Leased(Box<Work>),
    Offered(Box<Work>),
    Nothing,
    Committed {
        retry_ms: Option<u64>,
    },
    Refused,
    Renewed {
        cancel: bool,
    },
    CalledBack {
        counts: bool,
    },
    Context(Status),
    Entered(PermitDecision),
    Done,
    /// No reply: it was lost, or the object crashed.
    Failed,
}

/// An attempt for a worker.
#[derive(Debug, Clone)]
pub struct Work {
    pub admission: Admission,
    pub hold: Hold,
    pub attempt: u64,
    pub tried: Vec<ServiceId>,
}

#[derive(Debug)]
pub enum Event {
    Begin(usize),
    Poll(usize),
    Cancel(usize),
    ToStore {
        store: usize,
        call: Call,
        ask: Ask,
    },
    Replied {
        call: Call,
        reply: Reply,
    },
    /// The alarm for this time.
    Alarm {
        store: usize,
        at: u64,
    },
    /// The same alarm a second time.
    AlarmAgain {
        store: usize,
    },
    Flush {
        store: usize,
        life: u64,
    },
    ToHub {
        store: usize,
        sending: u64,
        batch: Batch,
    },
    HubReplied {
        store: usize,
        sending: u64,
        head: Option<u64>,
    },
    Wakeup {
        store: usize,
        tries: u64,
    },
    LookAgain {
        consumer: u64,
    },
    Renew {
        worker: u64,
        step: u64,
    },
    Paused {
        worker: u64,
        step: u64,
    },
    Called {
        worker: u64,
        step: u64,
        work: Box<Work>,
    },
    Answered {
        worker: u64,
        step: u64,
        answer: CallResult,
    },
    CallBack {
        job: usize,
    },
    ToLane {
        service: usize,
        call: Call,
        ask: LaneAsk,
    },
    TurnOver {
        service: usize,
        life: u64,
        context: ContextId,
        call: Call,
    },
    LaneTicks {
        service: usize,
        life: u64,
    },
    LaneRests {
        service: usize,
        life: u64,
    },
    LaneCrashes {
        service: usize,
    },
    Sweep,
    Jump,
    Die {
        store: usize,
    },
    Calm,
}

/// A batch of events for the hub.
#[derive(Debug, Clone)]
pub struct Batch {
    pub first: u64,
    pub last: u64,
    pub count: u64,
    pub bundles: String,
}
