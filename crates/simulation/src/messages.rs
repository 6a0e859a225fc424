//! The messages between the actors of a world. Those of stores are the ones that Workers and objects exchange.

use narthex_core::base::id::ContextId;
use narthex_core::calling::response::CallResult;
use narthex_core::context_store::messages::{
    Admit, AnswerInput, CallBack, Cancel, ClaimWork, Commit, Get, Lease, PutBack, Record, Refuse, Renew,
};
use narthex_core::context_store::replies::{
    AdmitReply, CallbackReply, CancelReply, ChangeReply, ClaimReply, CommitReply, ContextReply, LeaseReply, RenewReply,
    Work,
};
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

/// A request to a store.
#[derive(Debug, Clone)]
pub enum Ask {
    Admit(Admit),
    Record(Record),
    Commit(Commit),
    Lease(Lease),
    Renew(Renew),
    Claim(ClaimWork),
    PutBack(PutBack),
    Refuse(Refuse),
    CallBack(CallBack),
    Answer(AnswerInput),
    Cancel(Cancel),
    Get(Get),
    Sweep,
}

/// The reply of a store or a lane.
#[derive(Debug)]
pub enum Reply {
    Admit(AdmitReply),
    Commit(CommitReply),
    Lease(LeaseReply),
    Renew(RenewReply),
    Claim(ClaimReply),
    CallBack(CallbackReply),
    #[expect(dead_code, reason = "only traces show it")]
    Change(ChangeReply),
    #[expect(dead_code, reason = "only traces show it")]
    Cancel(CancelReply),
    Context(ContextReply),
    Entered(PermitDecision),
    Done,
    /// No reply: it was lost, or the object crashed.
    Failed,
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
