//! What isolates cache of a registry, and the requests that are not writes.

use super::messages::{ReadSnapshot, SnapshotData, SnapshotReply};
use super::records::{KEY, SERVICE};
use super::size::SAFE_BYTES;
use super::storage::{self, Storage};
use super::{Registry, Turn};
use crate::access::encrypted_secret::EncryptedSecret;
use crate::base::storage_error::StorageError;
use crate::registry::messages::DocumentKind;

impl<S: Storage> Registry<S> {
    /// The whole configuration, or less if the sender knows the rest.
    ///
    /// # Errors
    /// The storage cannot be read, or the tenant's own secret is not decrypted yet.
    pub fn snapshot(&mut self, request: &ReadSnapshot) -> Result<SnapshotReply, StorageError> {
        let (revision, soft) = (self.revision, self.soft);
        let stores = self.storage.stores()?;
        let cursor_secret = self.encrypted_own_secret()?;
        if request.known == Some(revision) && request.stores == stores.len() {
            return Ok(match request.soft {
                Some(known) if known != soft => {
                    SnapshotReply::Measured { soft, measured: self.measured_since(request.soft)? }
                }
                _ => SnapshotReply::Unchanged,
            });
        }
        if request.index {
            return Ok(SnapshotReply::Index(Box::new(self.index(request)?)));
        }
        let mut data = SnapshotData {
            revision,
            services: Vec::new(),
            keys: Vec::new(),
            documents: Vec::new(),
            stores,
            cursor_secret,
            soft,
            measured: self.storage.all_measured()?,
            left_out: Vec::new(),
        };
        if self.sizes()?.total() <= SAFE_BYTES {
            data.services = storage::all(&self.storage, SERVICE)?;
            data.keys = storage::all(&self.storage, KEY)?;
            for kind in DocumentKind::ALL {
                data.documents.extend(self.documents_of(kind)?);
            }
        } else {
            self.fit_snapshot(&mut data)?;
        }
        Ok(SnapshotReply::Snapshot(Box::new(data)))
    }

    pub(super) fn encrypted_own_secret(&self) -> Result<EncryptedSecret, StorageError> {
        let own_secret = self.own_secret.as_ref().map(|own| own.encrypted.clone());
        own_secret.ok_or_else(|| StorageError("the tenant's secret is not decrypted yet".into()))
    }

    /// Periodic maintenance.
    ///
    /// # Errors
    /// The storage fails. The next sweep does the rest.
    pub fn sweep(&mut self, turn: &Turn<'_>) -> Result<(), StorageError> {
        // An alarm may have been lost.
        self.alarm.take();
        self.do_due(turn.now);
        self.sweep_lanes();
        self.end_registrations(turn);
        self.log_due_rejections(turn)?;
        self.delete_old_audit(turn.now)
    }
}
