//! A tenant's life cycle in its own registry: creation, change of retention, deletion.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::audit::Change;
use super::messages::{Establish, EstablishReply};
use super::notifications::{Notification, Recipient};
use super::records::KEY;
use super::storage::{Storage, stored};
use super::{Registry, Turn, WriteError, as_value};
use crate::access::audit::changes;
use crate::access::revocation::Revocation;
use crate::access::tenant::Retention;
use crate::base::storage_error::StorageError;

const RETENTION: &str = "retention";
const CLOSED: &str = "closed";
/// The mark of a deletion of which all will be notified. An earlier version has left another.
const NOTIFIED: &str = "notified";

impl<S: Storage> Registry<S> {
    pub fn retention(&self) -> Retention {
        let stored = self.storage.meta(RETENTION).ok().flatten();
        stored.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Whether the tenant was deleted, after which every write is refused.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn is_closed(&self) -> Result<bool, StorageError> {
        Ok(self.storage.meta(CLOSED)?.is_some())
    }

    /// Sets the retention, and creates the tenant's first key if one is given.
    ///
    /// # Errors
    /// The storage fails, or the write is refused.
    pub fn establish(&mut self, request: Establish, turn: &Turn<'_>) -> Result<EstablishReply, WriteError> {
        let Establish { retention, key } = request;
        if retention != self.retention() {
            let changes = changes(&as_value(&self.retention()), &as_value(&retention));
            let change = Change { by: turn.by, action: "tenant.updated", object: "tenant", changes };
            self.write(&change, turn, |registry| {
                registry.storage.set_meta(RETENTION, &stored(&retention)?)?;
                registry.notify(Notification::Retain)
            })?;
        }
        let key = key.map(|key| self.create_key(key, turn)).transpose()?;
        Ok(key.map_or(EstablishReply::Done, EstablishReply::Key))
    }

    /// The services and keys that would be lost with the tenant.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn holdings(&self) -> Result<Vec<String>, StorageError> {
        let services = self.outlines()?.into_iter().map(|outline| format!("services/{}", outline.service.id));
        let keys = self.ids_of(KEY)?.into_iter().map(|id| format!("keys/{id}"));
        Ok(services.chain(keys).collect())
    }

    /// Deletes the tenant: its keys stop working, its services are removed, and the rest is deleted soon. Repeating the
    /// request completes a deletion that an earlier version has left unfinished.
    ///
    /// # Errors
    /// The storage fails.
    pub fn close(&mut self, turn: &Turn<'_>) -> Result<(), WriteError> {
        match self.storage.meta(CLOSED)?.as_deref() {
            Some(NOTIFIED) => return Ok(()),
            Some(_) => return Ok(self.transaction(turn.now, Self::notify_end)?),
            None => {}
        }
        let services = self.outlines()?;
        let keys = self.ids_of(KEY)?.len();
        let contents = json!({"services": services.len(), "keys": keys});
        let changes = changes(&contents, &Value::Null);
        let change = Change { by: turn.by, action: "tenant.deleted", object: "tenant", changes };
        self.write(&change, turn, |registry| {
            // Also of kinds that only a later version knows.
            let kinds: BTreeSet<String> = registry.storage.totals(None)?.into_iter().map(|total| total.kind).collect();
            for kind in kinds {
                registry.remove_all(&kind)?;
            }
            for service in &services {
                registry.notify(Notification::ForgetLane(service.lane_settings()))?;
            }
            registry.storage.set_meta(RETENTION, &stored(&Retention::ENDED)?)?;
            registry.notify_end()
        })
    }

    fn notify_end(&mut self) -> Result<(), StorageError> {
        let revocation = Revocation::Tenant;
        self.notify(Notification::RevokeDependents { revocation, at: Recipient::Hub })?;
        self.notify(Notification::Retain)?;
        self.storage.set_meta(CLOSED, NOTIFIED)
    }
}
