//! The live rows of contexts that have ended.
//!
//! The live row of an ended context stays until the hub has the context's last event. Then it is spare: the next
//! admission overwrites it, which writes one row where a deletion and an insertion write two. A spare row that is never
//! overwritten is deleted when its context is.
//!
//! What the hub has is written with each inserted row, and when a store comes to rest: otherwise every start of a
//! resting store would publish its last contexts again.
//!
//! Spare rows cost every look through the live ones, so those that were not needed for a minute are deleted.

use std::collections::BTreeSet;

use serde_json::value::RawValue;

use super::{ContextStore, Insertion, Storage, StorageError};
use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::context::Head;
use crate::context::idempotency::Claim;

/// Maximum number of spare rows: under load, as many as end between two replies of the hub.
pub const MAX_SPARE: usize = 256;
/// Maximum size of a spare row: head and parameters, in bytes.
pub const MAX_BYTES: usize = 8_192;
/// So many are kept though they are not needed.
const KEPT: usize = 8;
/// How long a spare row must not have been needed before it is deleted, in milliseconds.
const UNUSED_MS: u64 = 60_000;

/// The spare rows, by the ids of their contexts, which sort by time.
#[derive(Debug)]
pub struct SpareRows {
    rows: BTreeSet<ContextId>,
    max: usize,
    /// How few there were since the last look: so many were not needed.
    least: usize,
    looked_at: Timestamp,
}

impl SpareRows {
    pub fn new(now: Timestamp) -> Self {
        Self { rows: BTreeSet::new(), max: MAX_SPARE, least: 0, looked_at: now }
    }

    pub fn oldest(&self) -> Option<&ContextId> {
        self.rows.first()
    }

    /// Adds rows. Returns those for which there is room, and the others.
    fn add(&mut self, mut ids: Vec<ContextId>) -> (Vec<ContextId>, Vec<ContextId>) {
        let room = self.max.saturating_sub(self.rows.len());
        self.rows.extend(ids.iter().cloned());
        let surplus = ids.split_off(room.min(ids.len()));
        (ids, surplus)
    }

    fn remove(&mut self, id: &ContextId) {
        self.rows.remove(id);
        self.least = self.least.min(self.rows.len());
    }

    fn older_than(&self, before: Timestamp) -> Vec<ContextId> {
        self.rows.iter().take_while(|id| id.created_at() < before).cloned().collect()
    }

    /// The rows that were not needed since the last look, beyond those that are kept; none if it was just now.
    fn unused(&mut self, now: Timestamp) -> Vec<ContextId> {
        if now.since(self.looked_at) < UNUSED_MS {
            return Vec::new();
        }
        self.looked_at = now;
        let unused = std::mem::replace(&mut self.least, self.rows.len()).saturating_sub(KEPT);
        self.rows.iter().take(unused).cloned().collect()
    }
}

impl<S: Storage> ContextStore<S> {
    /// Inserts a live context, in place of the oldest spare row if there is one.
    pub(super) fn insert(
        &mut self,
        head: &Head,
        parameters: &RawValue,
        claim: Option<(&Claim, Timestamp)>,
    ) -> Result<bool, StorageError> {
        let acknowledged = self.outbox.acknowledged();
        let insertion = Insertion { head, parameters, claim, acknowledged, spare: None };
        let spare = self.spare.oldest().cloned();
        let takes_over = spare.is_some() && self.storage.insert(Insertion { spare: spare.as_ref(), ..insertion })?;
        if !takes_over && !self.storage.insert(insertion)? {
            return Ok(false);
        }
        self.stored_acknowledged = acknowledged;
        if let Some(spare) = spare {
            // If it was not taken over, the row is to blame, and left alone.
            self.spare.remove(&spare);
            if takes_over {
                self.ended.remove(&spare);
            }
        }
        Ok(true)
    }

    /// The hub has every event of these ended contexts: their live rows are spare, or deleted.
    pub(super) fn release(&mut self, published: Vec<ContextId>) -> Result<(), StorageError> {
        // Rows that cannot be deleted now are spare as well: no other way leads back to them.
        let (published, surplus) = self.spare.add(published);
        self.delete_rows(&surplus)?;
        if !published.is_empty() {
            let deleted = self.storage.clean(&published, MAX_BYTES)?;
            self.forget(&deleted);
        }
        Ok(())
    }

    /// If the hub has everything, stores that it has, for those events that a new instance would publish otherwise.
    pub(super) fn store_acknowledged(&mut self) -> Result<(), StorageError> {
        if self.outbox.is_empty() && self.last_of_rows > self.stored_acknowledged {
            let acknowledged = self.outbox.acknowledged();
            self.storage.set_acknowledged(acknowledged)?;
            self.stored_acknowledged = acknowledged;
        }
        Ok(())
    }

    /// Deletes the spare rows of contexts that were created before `before`.
    pub(super) fn delete_spare(&mut self, before: Timestamp) -> Result<(), StorageError> {
        self.delete_rows(&self.spare.older_than(before))
    }

    /// Deletes the spare rows that were not needed lately.
    pub(super) fn delete_unused(&mut self, now: Timestamp) -> Result<(), StorageError> {
        let unused = self.spare.unused(now);
        self.delete_rows(&unused)
    }

    /// Sets the maximum number of spare rows.
    #[cfg(any(test, feature = "test-support"))]
    pub fn limit_spare_rows(&mut self, max: usize) {
        self.spare.max = max;
    }

    fn delete_rows(&mut self, ids: &[ContextId]) -> Result<(), StorageError> {
        if !ids.is_empty() {
            self.storage.clean(ids, 0)?;
            self.forget(ids);
        }
        Ok(())
    }

    /// These live rows are deleted.
    fn forget(&mut self, ids: &[ContextId]) {
        for id in ids {
            self.ended.remove(id);
            self.spare.remove(id);
        }
    }
}
