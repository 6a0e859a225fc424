//! The conditions under which a store answers a request: the revision of the sender, and the age of its own.

use crate::objects::protocol::Request;

use super::messages::*;

/// A request to a store.
pub trait StoreRequest: Request<Object = Contexts> {
    /// [`AnyRevision`], [`KnownRevision`] or [`Pushed`].
    type Fence;
}

/// The fence of requests that a store answers under any revision: they concern past events, or what a lease permits.
pub struct AnyRevision;

/// The fence of what a registry pushes: the revision is the content.
pub struct Pushed;

/// The fence of requests that a store answers unless it knows a newer revision than the sender, which then decides
/// again with a newer snapshot.
pub struct KnownRevision;

/// The condition on the revision of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    AnyRevision,
    Pushed,
    KnownRevision,
}

/// How recently a store must have asked the registry for its revision before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// No check is required.
    None,
    /// Recently. If the registry cannot be reached, the store answers anyway.
    Wanted,
    /// Recently. If the registry cannot be reached, the store does not answer.
    Needed,
}

macro_rules! preconditions {
    ($($Request:ident: $Fence:ident, $Freshness:ident;)*) => {
        $(impl StoreRequest for $Request {
            type Fence = $Fence;
        })*

        impl Ask {
            pub fn fence(&self) -> Fence {
                match self {
                    $(Self::$Request { .. } => Fence::$Fence,)*
                }
            }

            pub fn freshness(&self) -> Freshness {
                match self {
                    $(Self::$Request { .. } => Freshness::$Freshness,)*
                }
            }
        }
    };
}

preconditions! {
    Admit: KnownRevision, Needed;
    Recall: KnownRevision, Needed;
    Commit: AnyRevision, None;
    // The outcome of an execution is stored, whether or not the registry can be reached.
    Record: AnyRevision, Wanted;
    Lease: KnownRevision, Needed;
    Renew: AnyRevision, None;
    ClaimWork: KnownRevision, Needed;
    PutBack: AnyRevision, Needed;
    Refuse: AnyRevision, Needed;
    CallBack: AnyRevision, Wanted;
    RequestInput: AnyRevision, None;
    AwaitInput: AnyRevision, None;
    AnswerInput: KnownRevision, Needed;
    NarrowInput: KnownRevision, Needed;
    Get: KnownRevision, Needed;
    GetOrigin: KnownRevision, Needed;
    Wait: KnownRevision, Needed;
    Follow: KnownRevision, Needed;
    Cancel: KnownRevision, Needed;
    Query: KnownRevision, Needed;
    Retain: AnyRevision, None;
    LearnRevision: Pushed, None;
    Flush: AnyRevision, Needed;
    Sweep: AnyRevision, Needed;
}
