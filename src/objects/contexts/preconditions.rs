//! The conditions under which a store answers: the sender's revision, and the age of its own.

use super::messages::Ask;

/// The condition on a message's revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// Nothing: the message concerns past events, or what a lease permits, whatever the registry's state.
    None,
    /// The store must not know a newer one. Otherwise the sender decides again with a newer snapshot.
    Revision,
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
            // The outcome of an execution is stored, whether or not the registry can be reached.
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

    /// Whether the reply may be delayed.
    pub fn waits(&self) -> bool {
        matches!(self, Self::Wait { .. } | Self::Follow { .. } | Self::Hear { .. } | Self::Flush)
    }
}
