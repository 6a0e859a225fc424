//! Where a ledger keeps its contexts.

use serde_json::value::RawValue;

use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::context::Head;
use crate::context::idempotency::Claim;
use crate::context::status::Status;

/// The shelf could not be read or written. The text is for the log.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

impl From<serde_json::Error> for Broken {
    fn from(error: serde_json::Error) -> Self {
        Broken(error.to_string())
    }
}

/// A context with its large parts.
#[derive(Debug)]
pub struct Whole {
    pub head: Head,
    pub parameters: Box<RawValue>,
    pub result: Option<Box<RawValue>>,
}

/// A live context, as far as the alarm needs it.
#[derive(Debug)]
pub struct Due {
    pub id: ContextId,
    pub status: Option<Status>,
    pub due: Timestamp,
    pub expires: Timestamp,
}

/// A context that waits and may begin.
#[derive(Debug)]
pub struct Ready {
    pub id: ContextId,
    pub service: String,
}

/// A context that has ended, with its result if its event carries that.
pub type Ended = (Head, Option<Box<RawValue>>);

/// Each write is atomic: after a crash all of it is there, or nothing. How a result lies in rows is the matter of
/// [`super::result_pieces`].
pub trait Shelf {
    /// Puts a new context among the live, with the key it comes under. False when the id's key is taken.
    fn insert(&self, head: &Head, parameters: &RawValue, claim: Option<(&Claim, Timestamp)>) -> Result<bool, Broken>;
    fn update(&self, head: &Head) -> Result<(), Broken>;
    /// Puts an ended context beside the live one; [`Shelf::clean`] takes the live one away later.
    fn finish(&self, head: &Head, result: Option<&RawValue>) -> Result<(), Broken>;
    /// Keeps a context that was never live; false when its key is taken.
    fn insert_done(&self, head: &Head, parameters: &RawValue, result: Option<&RawValue>) -> Result<bool, Broken>;
    fn clean(&self, ids: &[ContextId]) -> Result<(), Broken>;

    fn live_head(&self, id: &ContextId) -> Result<Option<Head>, Broken>;
    fn done_head(&self, id: &ContextId) -> Result<Option<Head>, Broken>;
    fn live(&self, id: &ContextId) -> Result<Option<Whole>, Broken>;
    fn done(&self, id: &ContextId) -> Result<Option<Whole>, Broken>;
    /// What has ended and is still among the live; of results only those of at most
    /// `bundle::MAX_RESULT_BYTES`.
    fn untold(&self) -> Result<Vec<Ended>, Broken>;
    fn live_heads(&self) -> Result<Vec<Head>, Broken>;
    /// Everything live, soonest first.
    fn by_due(&self) -> Result<Vec<Due>, Broken>;
    /// What waits and may begin, but not at one of the services `without`: highest priority first, then oldest.
    fn ready(&self, now: Timestamp, without: &[String], most: u64) -> Result<Vec<Ready>, Broken>;

    /// What an idempotency key stands for: a context, and the fingerprint of what was sent.
    fn claimed(&self, scope: &str, now: Timestamp) -> Result<Option<(ContextId, String)>, Broken>;
    /// Forgets a piece of the keys whose time is over.
    fn forget_claims(&self, now: Timestamp) -> Result<(), Broken>;

    /// When the oldest context that has ended was created.
    fn oldest_done(&self) -> Result<Option<Timestamp>, Broken>;
    /// Deletes at most so many of those that have ended and were created before, with all their pieces; gives how
    /// many.
    fn forget_done(&self, before: Timestamp, most: u64) -> Result<u64, Broken>;

    /// The bound up to which event numbers may have been given.
    fn reserved(&self) -> Result<u64, Broken>;
    fn reserve(&self, bound: u64) -> Result<(), Broken>;
}
