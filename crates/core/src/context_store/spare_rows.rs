//! The live rows of contexts that have ended.
//!
//! The live row of an ended context stays until the hub has the context's last event. Then it is spare: the next
//! admission overwrites it, which writes one row where a deletion and an insertion write two. A spare row that is never
//! overwritten is deleted when its context is.
//!
//! What the hub has is written with each inserted row, and once when a store comes to rest: otherwise every start of a
//! resting store would publish its last contexts again.

use serde_json::value::RawValue;

use super::{ContextStore, Insertion, Storage, StorageError};
use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::context::Head;
use crate::context::idempotency::Claim;

/// Maximum number of spare rows: under load, as many as end between two replies of the hub.
pub const MAX_SPARE: usize = 256;

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
        let spare = self.spare.first().cloned();
        if let Some(spare) = &spare
            && self.storage.insert(Insertion { spare: Some(spare), ..insertion })?
        {
            self.stored_acknowledged = acknowledged;
            self.forget(std::slice::from_ref(spare));
            return Ok(true);
        }
        let inserted = self.storage.insert(insertion)?;
        if inserted {
            self.stored_acknowledged = acknowledged;
            if let Some(spare) = spare {
                // The row was to blame: it is left alone.
                self.spare.remove(&spare);
            }
        }
        Ok(inserted)
    }

    /// The hub has every event of these ended contexts: their live rows are spare, or deleted.
    pub(super) fn release(&mut self, mut published: Vec<ContextId>) -> Result<(), StorageError> {
        let room = MAX_SPARE.saturating_sub(self.spare.len());
        // Rows that cannot be deleted now are spare as well: no other way leads back to them.
        self.spare.extend(published.iter().cloned());
        let surplus = published.split_off(room.min(published.len()));
        if !surplus.is_empty() {
            self.storage.clean(&surplus)?;
            self.forget(&surplus);
        }
        if !published.is_empty() {
            let deleted = self.storage.clean_unfit(&published)?;
            self.forget(&deleted);
        }
        Ok(())
    }

    /// If the hub has everything, stores that it has.
    pub(super) fn store_acknowledged(&mut self) -> Result<(), StorageError> {
        let acknowledged = self.outbox.acknowledged();
        if self.outbox.is_empty() && acknowledged > self.stored_acknowledged {
            self.storage.set_acknowledged(acknowledged)?;
            self.stored_acknowledged = acknowledged;
        }
        Ok(())
    }

    /// Deletes the spare rows of contexts that were created before `before`.
    pub(super) fn delete_spare(&mut self, before: Timestamp) -> Result<(), StorageError> {
        // The ids of one store sort by time.
        let old: Vec<ContextId> = self.spare.iter().take_while(|id| id.created_at() < before).cloned().collect();
        if !old.is_empty() {
            self.storage.clean(&old)?;
            self.forget(&old);
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
