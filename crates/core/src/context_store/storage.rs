//! Where a context store keeps its contexts.

use serde_json::value::RawValue;

use crate::base::id::ContextId;
use crate::base::service_id::ServiceId;
use crate::base::storage_error::StorageError;
use crate::base::time::Timestamp;
use crate::context::Head;
use crate::context::idempotency::Claim;
use crate::context::status::Status;

/// A context with its large parts.
#[derive(Debug)]
pub struct StoredContext {
    pub head: Head,
    pub parameters: Box<RawValue>,
    pub result: Option<Box<RawValue>>,
}

/// What the alarm needs of a live context.
#[derive(Debug)]
pub struct DueContext {
    pub id: ContextId,
    /// `None` if the stored word is unknown to this version.
    pub status: Option<Status>,
    pub due: Timestamp,
    pub expires: Timestamp,
}

/// A queued context that may start now.
#[derive(Debug)]
pub struct ReadyContext {
    pub id: ContextId,
    pub service: ServiceId,
}

/// An ended context, with its result if the event carries it.
pub type EndedContext = (Head, Option<Box<RawValue>>);

/// A context to insert.
#[derive(Debug, Clone, Copy)]
pub struct Insertion<'a> {
    pub head: &'a Head,
    pub parameters: &'a RawValue,
    /// Its idempotency key, and the time at which the key expires.
    pub claim: Option<(&'a Claim, Timestamp)>,
    /// The hub has every event up to this number.
    pub acknowledged: u64,
    /// An ended context whose live row is overwritten.
    pub spare: Option<&'a ContextId>,
}

/// The tables of a store. Each write is atomic: after a crash either all of it is stored or nothing.
/// [`super::result_pieces`] defines how a result is laid out in rows.
pub trait Storage {
    /// Inserts a live context. `false` if the row key of its id is taken, or the row to overwrite is not that of an
    /// ended context.
    fn insert(&self, insertion: Insertion<'_>) -> Result<bool, StorageError>;
    /// Updates a live context.
    fn update(&self, head: &Head) -> Result<(), StorageError>;
    /// Stores an ended context beside its live row, which stays until it is deleted or overwritten.
    fn finish(&self, head: &Head, result: Option<&RawValue>) -> Result<(), StorageError>;
    /// Stores an ended context that was never live. `false` if its row key is taken.
    fn insert_done(&self, head: &Head, parameters: &RawValue, result: Option<&RawValue>) -> Result<bool, StorageError>;
    /// Deletes live rows of ended contexts: those in which the context is queued, or whose head and parameters have
    /// more than `max_bytes`. Returns the contexts whose rows are deleted.
    fn clean(&self, ids: &[ContextId], max_bytes: usize) -> Result<Vec<ContextId>, StorageError>;

    fn live_head(&self, id: &ContextId) -> Result<Option<Head>, StorageError>;
    fn done_head(&self, id: &ContextId) -> Result<Option<Head>, StorageError>;
    fn live(&self, id: &ContextId) -> Result<Option<StoredContext>, StorageError>;
    fn done(&self, id: &ContextId) -> Result<Option<StoredContext>, StorageError>;
    /// The number in the live row with the highest key: the hub has every event up to it.
    fn acknowledged(&self) -> Result<u64, StorageError>;
    /// Replaces that number.
    fn set_acknowledged(&self, number: u64) -> Result<(), StorageError>;
    /// Ended contexts that still have a live row, with results of at most `bundle::MAX_RESULT_BYTES`; `None` for one
    /// that this version cannot read.
    fn unpublished(&self) -> Result<Vec<(ContextId, Option<EndedContext>)>, StorageError>;
    /// The live rows of contexts that have not ended; `None` for a context that this version cannot read.
    fn live_heads(&self) -> Result<Vec<(ContextId, Option<Head>)>, StorageError>;
    /// All live rows, the soonest due first.
    fn by_due(&self) -> Result<Vec<DueContext>, StorageError>;
    /// At most `most` queued contexts that may start now, except those of the services in `without`: highest priority
    /// first, then oldest first. They may include some that have ended.
    fn ready(&self, now: Timestamp, without: &[ServiceId], most: u64) -> Result<Vec<ReadyContext>, StorageError>;

    /// The context that an idempotency key belongs to, and the fingerprint of the request body.
    fn find_claim(&self, scope: &str, now: Timestamp) -> Result<Option<(ContextId, String)>, StorageError>;
    /// Deletes a batch of expired idempotency keys.
    fn delete_expired_claims(&self, now: Timestamp) -> Result<(), StorageError>;

    /// The creation time of the oldest ended context that has no live row.
    fn oldest_done(&self) -> Result<Option<Timestamp>, StorageError>;
    /// Deletes at most `most` ended contexts that were created before `before`, with their result pieces, unless they
    /// still have a live row. Returns how many it deleted.
    fn delete_done(&self, before: Timestamp, most: u64) -> Result<u64, StorageError>;

    /// The bound below which event numbers may have been assigned.
    fn reserved_number(&self) -> Result<u64, StorageError>;
    fn reserve_number(&self, bound: u64) -> Result<(), StorageError>;
}
