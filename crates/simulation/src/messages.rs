//! The messages between the actors of a world. To a store they are those of production.

use std::rc::Rc;

use narthex_core::base::id::ContextId;
use narthex_core::base::retries::CallFault;
use narthex_core::base::storage_error::StorageError;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::calling::response::CallResult;
use narthex_core::context_store::ContextStore;
use narthex_core::context_store::answers::ContextRequest;
use narthex_core::context_store::memory::MemoryStorage;
use narthex_core::context_store::messages::{
    Admit, AnswerInput, AwaitInput, CallBack, Cancel, ClaimWork, Commit, Get, Lease, PutBack, Record, Refuse, Renew,
    RequestInput,
};
use narthex_core::context_store::preconditions::{Fence, Freshness};
use narthex_core::context_store::replies::{
    AdmitReply, CallbackReply, CancelReply, ChangeReply, ClaimReply, CommitReply, ContextReply, InputReply, LeaseReply,
    RenewReply, Work,
};
use narthex_core::lane::PermitDecision;
use narthex_core::registry::notifications::LaneSettings;
use narthex_core::registry::revision::Revision;
use narthex_core::service_lane::RequestNumber;

use crate::lane_actor::LaneAsk;
use crate::recipients::Content;
use crate::registry_object::{RegistryAsk, RegistryReply};

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
    /// The client of a request, who cancels it.
    Canceller(usize),
    /// The lane of a service.
    Lane(usize),
    /// The sweep by cron of a store.
    Sweep(usize),
    Registry,
    /// A store that asks the registry before it answers a request.
    Store(usize),
    /// The administrator of a change.
    Administrator(usize),
    /// The gateway of a client that opens sockets.
    Viewer,
    None,
}

/// The requests to a store, with their replies.
macro_rules! asks {
    ($($Request:ident => $Reply:ident $(($Inner:ty))?,)*) => {
        #[derive(Debug, Clone)]
        pub enum Ask {
            $($Request($Request),)*
            Sweep,
            /// The registry has a new revision.
            LearnRevision,
        }

        impl Ask {
            /// The condition on the revision of the sender.
            pub fn fence(&self) -> Fence {
                match self {
                    $(Self::$Request(_) => <$Request as ContextRequest>::FENCE,)*
                    Self::Sweep => Fence::AnyRevision,
                    Self::LearnRevision => Fence::Pushed,
                }
            }

            /// How recently the store must have asked the registry.
            pub fn freshness(&self) -> Freshness {
                match self {
                    $(Self::$Request(_) => <$Request as ContextRequest>::FRESHNESS,)*
                    Self::Sweep => Freshness::Needed,
                    Self::LearnRevision => Freshness::None,
                }
            }
        }

        /// Answers a request as the store's object does.
        pub fn answer(
            contexts: &mut ContextStore<MemoryStorage>,
            ask: Ask,
            now: Timestamp,
            random: u64,
        ) -> Result<Reply, StorageError> {
            Ok(match ask {
                $(Ask::$Request(request) => reply!(request.answer(contexts, now, random)?, $Reply $(($Inner))?),)*
                Ask::Sweep => sweep(contexts, now, random)?,
                Ask::LearnRevision => Reply::Done,
            })
        }
    };
}

macro_rules! reply {
    ($answer:expr, $Reply:ident ($Inner:ty)) => {
        Reply::$Reply($answer)
    };
    ($answer:expr, $Reply:ident) => {{
        let _ = $answer;
        Reply::$Reply
    }};
}

asks! {
    Admit => Admit(AdmitReply),
    Record => Done,
    Commit => Commit(CommitReply),
    Lease => Lease(LeaseReply),
    Renew => Renew(RenewReply),
    ClaimWork => Claim(ClaimReply),
    PutBack => Done,
    Refuse => Change(ChangeReply),
    CallBack => CallBack(CallbackReply),
    RequestInput => Change(ChangeReply),
    AwaitInput => Input(InputReply),
    AnswerInput => Change(ChangeReply),
    Cancel => Cancel(CancelReply),
    Get => Get(ContextReply),
}

fn sweep(contexts: &mut ContextStore<MemoryStorage>, now: Timestamp, random: u64) -> Result<Reply, StorageError> {
    let mut seed = random;
    contexts.sweep(now, || {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        seed >> 11
    });
    Ok(Reply::Swept { waits: contexts.has_overdue(Timing::DEFAULT.overdue_ms, now)? })
}

#[derive(Debug, Clone)]
pub enum Reply {
    Admit(AdmitReply),
    Commit(CommitReply),
    Lease(LeaseReply),
    Renew(RenewReply),
    Claim(ClaimReply),
    Change(ChangeReply),
    CallBack(CallbackReply),
    Cancel(CancelReply),
    Input(InputReply),
    Get(ContextReply),
    Done,
    Swept {
        waits: bool,
    },
    /// The store knows a newer revision of the registry.
    Stale,
    Permit(PermitDecision),
    Registry(RegistryReply),
    /// Whether a connection has the work.
    Dispatched(bool),
    /// Whether the outcome of a delivery came too late.
    Reported {
        is_late: bool,
    },
    /// No reply: it was lost, or the object crashed.
    Failed(CallFault),
}

#[derive(Debug)]
pub enum Event {
    Begin(usize),
    Poll(usize),
    Cancel(usize),
    ToStore {
        store: usize,
        call: Call,
        revision: Revision,
        ask: Ask,
    },
    Registry(RegistryEvent),
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
        at: u64,
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
    /// The timer of a consumer.
    WakeConsumer {
        consumer: u64,
        timer: u64,
    },
    /// The worker's timer.
    Wake {
        worker: u64,
        timer: u64,
    },
    /// A worker repeats a message that has failed.
    Repeat {
        worker: u64,
        number: u64,
    },
    Called {
        worker: u64,
        call: u64,
        work: Rc<Work>,
        service: usize,
    },
    /// The service sends a piece of its result.
    Piece {
        worker: u64,
        call: u64,
    },
    /// The service asks for input, and keeps the attempt open.
    AsksForInput {
        worker: u64,
        call: u64,
    },
    Answered {
        worker: u64,
        call: u64,
        answer: CallResult,
    },
    ConnectionChanges {
        service: usize,
    },
    /// The service opens a connection again.
    ConnectionOpens {
        service: usize,
    },
    LaneAlarm {
        service: usize,
        alarm: u64,
    },
    /// The platform fires the alarm of a lane a second time.
    LaneAlarmAgain {
        service: usize,
        alarm: u64,
    },
    /// The lane repeats a report to a store.
    LaneRepeats {
        service: usize,
        number: u64,
    },
    CallBack {
        job: usize,
    },
    ToLane {
        service: usize,
        call: Call,
        settings: LaneSettings,
        ask: LaneAsk,
    },
    TurnOver {
        service: usize,
        life: u64,
        context: ContextId,
        request: RequestNumber,
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

/// What happens at the registry, to its recipients and to those who change it.
#[derive(Debug)]
pub enum RegistryEvent {
    Arrives {
        call: Call,
        ask: RegistryAsk,
    },
    /// Something changes.
    Changes,
    /// An administrator repeats a change that was not answered.
    ChangeAgain {
        change: usize,
    },
    Ticks {
        life: u64,
    },
    Alarm {
        at: Timestamp,
    },
    Dies,
    /// A notification arrives.
    Notified {
        call: Call,
        content: Content,
    },
    /// A client opens sockets through the gateway of an isolate.
    OpenSockets {
        isolate: usize,
    },
    SocketOpens {
        key: String,
    },
}

/// A batch of events for the hub.
#[derive(Debug, Clone)]
pub struct Batch {
    pub first: u64,
    pub last: u64,
    pub count: u64,
    pub bundles: String,
}
