//! The conditions under which a store answers a request: the revision of the sender, and the age of its own.

use crate::objects::protocol::Request;
use narthex_core::context_store::ContextRequest;
pub use narthex_core::context_store::preconditions::{Fence, Freshness};

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

/// The core knows the preconditions of its own requests; those of the others follow.
macro_rules! preconditions {
    (
        core { $($Core:ident: $CoreFence:ident;)* }
        shell { $($Request:ident: $Fence:ident, $Freshness:ident;)* }
    ) => {
        $(impl StoreRequest for $Core {
            type Fence = $CoreFence;
        }

        const _: () = assert!(matches!(<$Core as ContextRequest>::FENCE, Fence::$CoreFence));)*

        $(impl StoreRequest for $Request {
            type Fence = $Fence;
        })*

        impl Ask {
            pub fn fence(&self) -> Fence {
                match self {
                    $(Self::$Core { .. } => <$Core as ContextRequest>::FENCE,)*
                    $(Self::$Request { .. } => Fence::$Fence,)*
                }
            }

            pub fn freshness(&self) -> Freshness {
                match self {
                    $(Self::$Core { .. } => <$Core as ContextRequest>::FRESHNESS,)*
                    $(Self::$Request { .. } => Freshness::$Freshness,)*
                }
            }
        }
    };
}

preconditions! {
    core {
        Admit: KnownRevision;
        Recall: KnownRevision;
        Commit: AnyRevision;
        Record: AnyRevision;
        Lease: KnownRevision;
        Renew: AnyRevision;
        ClaimWork: KnownRevision;
        PutBack: AnyRevision;
        Refuse: AnyRevision;
        CallBack: AnyRevision;
        RequestInput: AnyRevision;
        AwaitInput: AnyRevision;
        AnswerInput: KnownRevision;
        NarrowInput: KnownRevision;
        Get: KnownRevision;
        GetOrigin: KnownRevision;
        Cancel: KnownRevision;
    }
    shell {
        Wait: KnownRevision, Needed;
        Follow: KnownRevision, Needed;
        Query: KnownRevision, Needed;
        Retain: AnyRevision, None;
        LearnRevision: Pushed, None;
        Flush: AnyRevision, Needed;
        Sweep: AnyRevision, Needed;
    }
}
