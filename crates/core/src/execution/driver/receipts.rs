//! What the replies of a store mean to a [`Driver`](super::Driver): only what it decides by. The documents in them stay
//! with the caller, which answers the client.

use crate::context_store::replies::{AdmitReply, ChangeReply, CommitReply, LeaseReply, RenewReply};

use super::{AdmissionResult, CommitReceipt, LeaseResult, RefusalReceipt, RenewResult};

impl From<LeaseReply> for LeaseResult {
    fn from(reply: LeaseReply) -> Self {
        match reply {
            LeaseReply::Leased(work) => Self::Leased(work),
            LeaseReply::Nothing => Self::Nothing,
        }
    }
}

impl From<RenewReply> for RenewResult {
    fn from(reply: RenewReply) -> Self {
        match reply {
            RenewReply::Renewed { cancel } => Self::Renewed { cancel },
            RenewReply::Nothing => Self::Nothing,
        }
    }
}

impl AdmissionResult {
    pub fn of(reply: &AdmitReply) -> Self {
        match reply {
            AdmitReply::Admitted { lease, .. } => Self::Admitted(*lease),
            AdmitReply::Taken | AdmitReply::Replayed { .. } | AdmitReply::KeyReused => Self::Rejected,
        }
    }
}

impl CommitReceipt {
    pub fn of(reply: &CommitReply) -> Self {
        match reply {
            CommitReply::Committed { retry_ms: Some(ms), .. } => Self::Retry { ms: *ms },
            CommitReply::Committed { ended: true, .. } => Self::Ended,
            CommitReply::Committed { ended: false, .. } => Self::Ongoing,
            CommitReply::Refused { .. } => Self::Rejected,
        }
    }
}

impl RefusalReceipt {
    pub fn of(reply: &ChangeReply) -> Self {
        match reply {
            ChangeReply::Changed { ended: true, .. } => Self::Ended,
            ChangeReply::Changed { ended: false, .. } | ChangeReply::Refused { .. } | ChangeReply::Nothing => {
                Self::Rejected
            }
        }
    }
}
