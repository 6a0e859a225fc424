//! How a write is made: one transaction with its revision, its audit entry, its events and its notifications.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::audit::Change;
use super::index::Changes;
use super::messages::Condition;
use super::notifications::Notification;
use super::replies::{Refusal, WriteRefusal};
use super::size::{Reach, StoredSizes};
use super::storage::{Storage, stored};
use super::{LogEntry, REVISION, Registry, Turn, WriteError};
use crate::access::audit::AuditOutcome;
use crate::access::oauth::client::SELF_REGISTERED;
use crate::base::storage_error::StorageError;
use crate::base::time::Timestamp;
use crate::base::unknown_members::with_unknown;
use crate::base::version::VersionNumber;
use crate::events::bundle::{Bundle, EventKind, Item, RegistryEvent};
use crate::registry::records::{DocumentKind, SERVICE};

/// Ids of documents read at a time.
const AT_ONCE: u64 = 1_000;

/// What a write adds beside documents.
#[derive(Debug, Default)]
pub(super) struct Uncommitted {
    notifications: Vec<(u64, Notification)>,
    pub(super) changes: Changes,
    pub logs: Vec<LogEntry>,
}

/// Whether a document is a client that registered itself.
pub(super) fn registered_itself(kind: &str, id: &str) -> bool {
    kind == DocumentKind::Client.as_str() && id.starts_with(SELF_REGISTERED)
}

/// Checks the precondition of a write (RFC 9110 §13.2). `version` is that of the existing document.
pub(super) fn check_precondition(version: Option<VersionNumber>, condition: &Condition) -> Result<(), WriteRefusal> {
    let refusal = match (version, condition) {
        (Some(_), Condition::None) => Refusal::PreconditionRequired,
        (Some(_), Condition::Absent) => Refusal::PreconditionFailed,
        (Some(version), Condition::Versions(list)) if !list.contains(&version) => Refusal::PreconditionFailed,
        (None, Condition::Exists | Condition::Versions(_)) => Refusal::PreconditionFailed,
        (Some(_), Condition::Exists | Condition::Versions(_)) | (None, Condition::None | Condition::Absent) => {
            return Ok(());
        }
    };
    Err(WriteRefusal::Refused(refusal))
}

/// When a document is written now: later than its previous state, even if the clock has gone back. Lanes and isolates
/// tell by this time which state is newer.
pub(super) fn after(known: Option<Timestamp>, now: Timestamp) -> Timestamp {
    known.map_or(now, |known| now.max(known.plus_ms(1)))
}

impl<S: Storage> Registry<S> {
    /// Writes in one transaction, under the next revision, together with the audit entry.
    ///
    /// # Errors
    /// The storage fails, or the registry would exceed a limit.
    pub(super) fn write<T>(
        &mut self,
        change: &Change<'_>,
        turn: &Turn<'_>,
        work: impl FnOnce(&mut Self) -> Result<T, StorageError>,
    ) -> Result<T, WriteError> {
        self.write_within(Reach::Limit, change, turn, work)
    }

    /// As [`Registry::write`], with the given limit.
    pub(super) fn write_within<T>(
        &mut self,
        reach: Reach,
        change: &Change<'_>,
        turn: &Turn<'_>,
        work: impl FnOnce(&mut Self) -> Result<T, StorageError>,
    ) -> Result<T, WriteError> {
        if self.is_closed()? {
            return Err(WriteRefusal::Absent.into());
        }
        let next = self.revision.next();
        let before = self.begin_sizes()?;
        let done = self.transaction(turn.now, |registry| {
            let done = work(registry)?;
            let after = registry.sizes()?;
            after.check(&before, reach)?;
            registry.warn(&after, turn.now)?;
            registry.storage.set_meta(REVISION, &next.to_string())?;
            registry.record_changes(next)?;
            registry.add_audit_entry(change, turn, AuditOutcome::Done)?;
            Ok::<T, WriteError>(done)
        })?;
        self.revision = next;
        self.followers.changed(next);
        Ok(done)
    }

    /// Stores all that `work` writes, and afterwards lets the rest of it count; or nothing.
    pub(super) fn transaction<T, E: From<StorageError>>(
        &mut self,
        now: Timestamp,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.uncommitted = Uncommitted::default();
        let storage = self.storage.clone();
        let done = storage.transaction(|| work(self));
        let Uncommitted { notifications, logs, .. } = std::mem::take(&mut self.uncommitted);
        if done.is_err() {
            // The count includes writes that were rolled back, and so may this be.
            self.sizes = None;
            self.has_index_form = false;
            return done;
        }
        self.effects.logs.extend(logs);
        for (number, notification) in notifications {
            self.notifications.add(number, notification, now);
            self.added.push(number);
        }
        self.guard_notifications(now);
        self.outbox.may_have_events();
        done
    }

    /// The size of the stored documents.
    pub(super) fn sizes(&mut self) -> Result<StoredSizes, StorageError> {
        if let Some(sizes) = &self.sizes {
            return Ok(sizes.clone());
        }
        let sizes = self.counted(None)?;
        self.sizes = Some(sizes.clone());
        Ok(sizes)
    }

    /// Counts what is stored, except documents of one kind.
    pub(super) fn counted(&self, except: Option<&str>) -> Result<StoredSizes, StorageError> {
        let mut sizes = StoredSizes::default();
        for total in self.storage.totals(except)? {
            sizes.add(&total.kind, total.registered_itself, total.count, total.bytes);
        }
        let (count, bytes) = self.storage.outline_total()?;
        sizes.add_outlines(count, bytes);
        Ok(sizes)
    }

    /// The size before a write.
    fn begin_sizes(&mut self) -> Result<StoredSizes, StorageError> {
        self.sizes()?;
        if let Some(sizes) = &mut self.sizes {
            sizes.begin();
        }
        self.sizes()
    }

    pub(super) fn put<T: Serialize + DeserializeOwned>(
        &mut self,
        kind: &str,
        id: &str,
        document: &T,
    ) -> Result<(), StorageError> {
        self.write_document(kind, id, document).map(drop)
    }

    /// Stores a document, with what a later version has added to the one that it replaces. Returns its stored form.
    pub(super) fn write_document<T: Serialize + DeserializeOwned>(
        &mut self,
        kind: &str,
        id: &str,
        document: &T,
    ) -> Result<String, StorageError> {
        let known = self.storage.text(kind, id)?;
        let text = match &known {
            Some(known) => with_unknown(known, document)?,
            None => stored(document)?,
        };
        self.storage.put_text(kind, id, &text)?;
        self.count(kind, id, known.map(|known| known.len() as u64), Some(text.len() as u64));
        self.uncommitted.changes.add(kind, id);
        Ok(text)
    }

    /// The ids of all documents of a kind.
    pub(super) fn ids_of(&self, kind: &str) -> Result<Vec<String>, StorageError> {
        let (mut ids, mut after) = (Vec::new(), (kind.to_string(), String::new()));
        loop {
            let keys = self.storage.sizes(&after, AT_ONCE)?.into_iter().map(|(key, _)| key);
            let own: Vec<String> = keys.take_while(|(other, _)| other == kind).map(|(_, id)| id).collect();
            let Some(last) = own.last() else { return Ok(ids) };
            after.1.clone_from(last);
            ids.extend(own);
        }
    }

    /// A document that is to be written anew.
    ///
    /// # Errors
    /// The storage cannot be read, or a later version has written the document.
    pub(super) fn known<T: DeserializeOwned>(&self, kind: &str, id: &str) -> Result<Option<T>, WriteError> {
        let Some(text) = self.storage.text(kind, id)? else { return Ok(None) };
        match serde_json::from_str(&text) {
            Ok(known) => Ok(Some(known)),
            Err(_) => Err(WriteRefusal::Refused(Refusal::Unreadable).into()),
        }
    }

    pub(super) fn remove(&mut self, kind: &str, id: &str) -> Result<(), StorageError> {
        let before = self.storage.size(kind, id)?;
        self.storage.delete(kind, id)?;
        self.count(kind, id, before, None);
        self.uncommitted.changes.add(kind, id);
        Ok(())
    }

    /// Deletes all documents of a kind.
    pub(super) fn remove_all(&mut self, kind: &str) -> Result<(), StorageError> {
        self.storage.delete_all(kind)?;
        if kind == SERVICE {
            self.storage.delete_all_outlines()?;
        }
        self.uncommitted.changes.add_all();
        self.sizes = None;
        Ok(())
    }

    fn count(&mut self, kind: &str, id: &str, before: Option<u64>, after: Option<u64>) {
        if let Some(sizes) = &mut self.sizes {
            sizes.change(kind, registered_itself(kind, id), before, after);
        }
    }

    /// Queues an event, within a transaction.
    pub(super) fn queue_event(
        &self,
        subject: &str,
        kind: RegistryEvent,
        data: &serde_json::Value,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let kind = EventKind::Registry { kind, data: RawValue::from_string(data.to_string())? };
        let item = Item { number: 0, at: now, kind };
        self.storage.queue_event(&Bundle {
            subject: subject.into(),
            owner: None,
            owner_name: None,
            replay_of: None,
            capability: None,
            service: None,
            trace: None,
            role: None,
            model: None,
            previous_number: None,
            items: vec![item],
        })
    }

    /// Queues a notification, within a transaction.
    pub(super) fn notify(&mut self, notification: Notification) -> Result<(), StorageError> {
        for number in self.notifications.obsoleted_by(&notification) {
            self.storage.delete_notification(number)?;
        }
        let earlier = std::mem::take(&mut self.uncommitted.notifications);
        let (obsolete, kept): (Vec<_>, Vec<_>) =
            earlier.into_iter().partition(|(_, earlier)| notification.supersedes(earlier));
        self.uncommitted.notifications = kept;
        for (number, _) in obsolete {
            self.storage.delete_notification(number)?;
        }
        let number = self.storage.queue_notification(&stored(&notification)?)?;
        self.uncommitted.notifications.push((number, notification));
        Ok(())
    }

    /// After a start. A notification of a later version, which this one cannot read, stays for that version.
    pub(super) fn restore_notifications(&mut self, now: Timestamp) -> Result<(), StorageError> {
        for (number, text) in self.storage.queued_notifications()? {
            if let Ok(notification) = serde_json::from_str(&text) {
                self.notifications.add(number, notification, now);
            }
        }
        self.guard_notifications(now);
        Ok(())
    }
}
