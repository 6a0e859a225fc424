//! The index of a registry: the outlines of its services, and which revision changed which document.
//!
//! So a cold isolate reads what it needs to decide, and a warm one what has changed. Both are stored in the transaction
//! of the write that they belong to. A version without an index may have written in between, during a deployment or
//! after a rollback: [`Registry::open`] then finds a revision without recorded changes, and makes the index anew.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use super::messages::{CurrentService, IndexData, ReadServices, ReadSnapshot, Services, StoredOutline, StoredService};
use super::records::{KEY, SERVICE};
use super::revision::Revision;
use super::size::SAFE_BYTES;
use super::storage::{self, DocumentKey, Storage};
use super::{LogEntry, Registry};
use crate::base::order;
use crate::base::service_id::ServiceId;
use crate::base::storage_error::StorageError;
use crate::lane::observed::ObservedStatus;

/// The name of the stored form of outlines, and that form. A version that changes what an outline has must change it.
const INDEX_FORM: &str = "index_form";
const CURRENT_FORM: &str = "1";
/// The ids of services that the version which made the index could not read, as JSON. Another may.
const UNREADABLE: &str = "unreadable_services";
/// Changes are kept for so many revisions, at least.
const KEPT_REVISIONS: u64 = 1_000;
/// Old changes are deleted once in so many revisions.
const DELETION_INTERVAL: u64 = 64;
/// More changes than this are not sent one by one.
const MAX_CHANGES: u64 = 500;
/// The documents that are sent with an index, in bytes.
const INCLUDED_BYTES: usize = 256 * 1024;
/// The services that are remembered as likely to be needed.
const MAX_RECENT: usize = 64;
/// A reply with documents ends with the one that exceeds this, in bytes.
const REPLY_BYTES: usize = 4 * 1024 * 1024;
/// Services whose sizes are read at a time, to see whether all fit.
const FEW: u64 = 16;
/// Documents whose outlines are made at a time.
const AT_ONCE: u64 = 100;

/// What the running write changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    documents: BTreeSet<DocumentKey>,
    /// All documents of a kind were deleted.
    all: bool,
}

impl Changes {
    pub(super) fn add(&mut self, kind: &str, id: &str) {
        self.documents.insert((kind.into(), id.into()));
    }

    pub(super) fn add_all(&mut self) {
        self.all = true;
    }
}

/// Services that isolates read for calls, the last one first. After a start, those that were observed last.
#[derive(Debug, Default)]
pub(super) struct Recent(Vec<ServiceId>);

impl Recent {
    /// After a start: those that were observed last, by their calls or probes.
    fn restore(&mut self, measured: &[(ServiceId, ObservedStatus)]) {
        if !self.0.is_empty() {
            return;
        }
        let mut latest: Vec<_> = measured.iter().collect();
        order::sort_by(&mut latest, |(_, a), (_, b)| b.version.cmp(&a.version));
        self.0 = latest.into_iter().take(MAX_RECENT).map(|(service, _)| service.clone()).collect();
    }

    fn read(&mut self, service: &ServiceId) {
        self.0.retain(|known| known != service);
        self.0.insert(0, service.clone());
        self.0.truncate(MAX_RECENT);
    }
}

impl<S: Storage> Registry<S> {
    /// Within a transaction: stores a service and its outline.
    pub(super) fn put_service_document(&mut self, stored: &StoredService) -> Result<(), StorageError> {
        let id = stored.service.id.as_str();
        let text = self.write_document(SERVICE, id, stored)?;
        self.put_outline(id, &StoredOutline::of(stored, &text))
    }

    /// Within a transaction: deletes a service and its outline.
    pub(super) fn remove_service_document(&mut self, id: &ServiceId) -> Result<(), StorageError> {
        self.remove(SERVICE, id.as_str())?;
        let before = self.storage.outline(id.as_str())?.map(|(_, text)| text.len() as u64);
        self.storage.delete_outline(id.as_str())?;
        self.count_outline(before, None);
        Ok(())
    }

    fn put_outline(&mut self, id: &str, outline: &StoredOutline) -> Result<(), StorageError> {
        let text = storage::stored(outline)?;
        let before = self.storage.outline(id)?.map(|(_, text)| text.len() as u64);
        self.storage.put_outline(id, &outline.digest, &text)?;
        self.count_outline(before, Some(text.len() as u64));
        Ok(())
    }

    fn count_outline(&mut self, before: Option<u64>, after: Option<u64>) {
        if let Some(sizes) = &mut self.sizes {
            sizes.change_outline(before, after);
        }
    }

    /// Within the transaction of a write: records what it changes.
    pub(super) fn record_changes(&mut self, revision: Revision) -> Result<(), StorageError> {
        let Changes { documents, all } = std::mem::take(&mut self.uncommitted.changes);
        if all {
            return self.begin_changes(revision);
        }
        for (kind, id) in &documents {
            self.storage.record_change(revision, kind, id)?;
        }
        if documents.is_empty() {
            self.storage.record_change(revision, "", "")?;
        }
        if !std::mem::replace(&mut self.has_index_form, true) {
            self.storage.set_meta(INDEX_FORM, CURRENT_FORM)?;
        }
        if revision.number().is_multiple_of(DELETION_INTERVAL) {
            self.storage.delete_changes_before(revision.before(KEPT_REVISIONS))?;
        }
        Ok(())
    }

    /// Nothing is known of the changes before this revision.
    fn begin_changes(&self, revision: Revision) -> Result<(), StorageError> {
        self.storage.delete_changes_before(revision.next())?;
        self.storage.record_change(revision, "", "")
    }

    /// Makes the index anew if a version without one has written last, or one with another form of outlines.
    pub(super) fn restore_index(&mut self) -> Result<(), StorageError> {
        let revision = self.revision;
        let last = self.storage.recorded_revisions()?.map(|(_, last)| last);
        if last.is_none() && revision == Revision::INITIAL {
            return Ok(());
        }
        self.has_index_form = self.storage.meta(INDEX_FORM)?.as_deref() == Some(CURRENT_FORM);
        if last == Some(revision) && self.has_index_form {
            return self.outline_unreadable(revision);
        }
        let storage = self.storage.clone();
        storage.transaction(|| {
            self.storage.delete_all_outlines()?;
            self.outline_all()?;
            self.storage.set_meta(INDEX_FORM, CURRENT_FORM)?;
            self.begin_changes(revision)
        })?;
        self.has_index_form = true;
        Ok(())
    }

    /// Makes the outlines of services that this version can read, and the one that made the index could not.
    fn outline_unreadable(&mut self, revision: Revision) -> Result<(), StorageError> {
        let stored = self.storage.meta(UNREADABLE)?.unwrap_or_default();
        let ids: Vec<String> = serde_json::from_str(&stored).unwrap_or_default();
        let (mut outlines, mut unreadable) = (Vec::new(), Vec::new());
        for id in ids {
            let Some(text) = self.storage.text(SERVICE, &id)? else { continue };
            match serde_json::from_str::<StoredService>(&text) {
                Ok(stored) => outlines.push((id, StoredOutline::of(&stored, &text))),
                Err(_) => unreadable.push(id),
            }
        }
        if outlines.is_empty() {
            return Ok(());
        }
        let storage = self.storage.clone();
        storage.transaction(|| {
            for (id, outline) in &outlines {
                self.put_outline(id, outline)?;
            }
            self.storage.set_meta(UNREADABLE, &storage::stored(&unreadable)?)?;
            self.begin_changes(revision)
        })
    }

    fn outline_all(&mut self) -> Result<(), StorageError> {
        let mut outlines = Vec::new();
        let mut unreadable = Vec::new();
        self.each_service(AT_ONCE, |id, text| {
            match serde_json::from_str::<StoredService>(text) {
                Ok(stored) => outlines.push((id.to_string(), StoredOutline::of(&stored, text))),
                // It is of a later version, and this one cannot call it.
                Err(_) => {
                    outlines.extend(StoredOutline::unreadable(text).map(|outline| (id.to_string(), outline)));
                    unreadable.push(id.to_string());
                }
            }
            Ok(())
        })?;
        for (id, outline) in outlines {
            self.put_outline(&id, &outline)?;
        }
        if !unreadable.is_empty() {
            self.storage.set_meta(UNREADABLE, &storage::stored(&unreadable)?)?;
        }
        self.effects.logs.extend(unreadable.into_iter().map(|service| LogEntry::ServiceNotRead { service }));
        Ok(())
    }

    /// Reads the services one after the other: their ids, and their stored forms.
    pub(super) fn each_service(
        &self,
        at_once: u64,
        mut read: impl FnMut(&str, &str) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let mut after = (SERVICE.to_string(), String::new());
        loop {
            let keys = self.storage.sizes(&after, at_once)?;
            let services = keys.into_iter().map(|(key, _)| key).take_while(|(kind, _)| kind == SERVICE);
            let mut is_end = true;
            for (kind, id) in services {
                if let Some(text) = self.storage.text(SERVICE, &id)? {
                    read(&id, &text)?;
                }
                after = (kind, id);
                is_end = false;
            }
            if is_end {
                return Ok(());
            }
        }
    }

    /// The outlines of all services, or what stands for those that this version cannot read.
    pub(super) fn outlines(&self) -> Result<Vec<StoredOutline>, StorageError> {
        Ok(self.storage.outlines()?.iter().filter_map(|text| StoredOutline::read(text)).collect())
    }

    /// What an isolate does not know of the index.
    pub(super) fn index(&mut self, request: &ReadSnapshot) -> Result<IndexData, StorageError> {
        let fits = self.index_total()? <= SAFE_BYTES;
        if fits
            && !request.incomplete
            && let Some(known) = request.known
            && let Some(changed) = self.changes_since(known)?
        {
            return self.changed(known, request.soft, changed);
        }
        let mut data = self.empty_index()?;
        if fits {
            data.outlines = self.storage.outlines()?.into_iter().map(raw).collect::<Result<_, _>>()?;
            for (kind, text) in self.storage.texts_besides(SERVICE)? {
                let of_kind = if kind == KEY { &mut data.keys } else { &mut data.documents };
                of_kind.push(raw(text)?);
            }
        } else {
            self.fit_index(&mut data)?;
        }
        data.measured = self.storage.all_measured()?;
        self.recent.restore(&data.measured);
        data.services = self.included()?;
        Ok(data)
    }

    /// The size of a whole index. Until something is written, the documents of services are not counted: they take long
    /// to read.
    fn index_total(&mut self) -> Result<u64, StorageError> {
        if let Some(sizes) = &self.sizes {
            return Ok(sizes.index_total());
        }
        if let Some((_, total)) = self.counted_index.filter(|(revision, _)| *revision == self.revision) {
            return Ok(total);
        }
        let total = self.counted(Some(SERVICE))?.index_total();
        self.counted_index = Some((self.revision, total));
        Ok(total)
    }

    /// What has changed since a revision, unless that is unknown or too much.
    pub(super) fn changes_since(&self, known: Revision) -> Result<Option<BTreeSet<DocumentKey>>, StorageError> {
        let first = self.storage.recorded_revisions()?.map(|(first, _)| first);
        if known > self.revision || first.is_none_or(|first| known < first) {
            return Ok(None);
        }
        let changed = self.storage.changes_after(known, MAX_CHANGES + 1)?;
        Ok((changed.len() as u64 <= MAX_CHANGES).then(|| changed.into_iter().collect()))
    }

    fn changed(
        &self,
        since: Revision,
        soft: Option<u64>,
        changed: BTreeSet<DocumentKey>,
    ) -> Result<IndexData, StorageError> {
        let mut data = IndexData { since: Some(since), ..self.empty_index()? };
        let mut measured: BTreeMap<ServiceId, ObservedStatus> = self.measured_since(soft)?.into_iter().collect();
        let mut bytes = 0;
        // A revision without documents is recorded without a kind.
        for (kind, id) in changed.into_iter().filter(|(kind, _)| !kind.is_empty()) {
            let text = match kind.as_str() {
                SERVICE => self.storage.outline(&id)?.map(|(_, text)| text),
                _ => self.storage.text(&kind, &id)?,
            };
            let Some(text) = text else {
                data.deleted.push((kind, id));
                continue;
            };
            match kind.as_str() {
                SERVICE => {
                    let id = ServiceId::from_stored(id);
                    data.outlines.push(raw(text)?);
                    measured.insert(id.clone(), self.measured_of(&id));
                    if self.recent.0.contains(&id) {
                        self.include(&id, &mut bytes, &mut data.services)?;
                    }
                }
                KEY => data.keys.push(raw(text)?),
                _ => data.documents.push(raw(text)?),
            }
        }
        data.measured = measured.into_iter().collect();
        Ok(data)
    }

    fn empty_index(&self) -> Result<IndexData, StorageError> {
        Ok(IndexData {
            revision: self.revision,
            since: None,
            outlines: Vec::new(),
            keys: Vec::new(),
            documents: Vec::new(),
            deleted: Vec::new(),
            stores: self.storage.stores()?,
            own_secret: self.encrypted_own_secret()?,
            soft: self.soft,
            measured: Vec::new(),
            left_out: Vec::new(),
            services: Vec::new(),
        })
    }

    /// The documents that a cold isolate is likely to need: all, or those that others have read.
    fn included(&self) -> Result<Vec<CurrentService>, StorageError> {
        let all = self.all_if_few()?;
        let (mut included, mut bytes) = (Vec::new(), 0);
        for service in all.as_ref().unwrap_or(&self.recent.0) {
            self.include(service, &mut bytes, &mut included)?;
        }
        Ok(included)
    }

    /// All services, if their documents fit together. Otherwise only a few of them are looked at.
    fn all_if_few(&self) -> Result<Option<Vec<ServiceId>>, StorageError> {
        let (mut all, mut bytes) = (Vec::new(), 0);
        loop {
            let last = all.last().map_or_else(String::new, |id: &ServiceId| id.to_string());
            let some = self.storage.sizes(&(SERVICE.into(), last), FEW)?;
            let services: Vec<_> = some.into_iter().take_while(|((kind, _), _)| kind == SERVICE).collect();
            bytes += services.iter().map(|(_, bytes)| bytes).sum::<u64>();
            if bytes > INCLUDED_BYTES as u64 {
                return Ok(None);
            }
            let is_end = (services.len() as u64) < FEW;
            all.extend(services.into_iter().map(|((_, id), _)| ServiceId::from_stored(id)));
            if is_end {
                return Ok(Some(all));
            }
        }
    }

    /// Adds a document as far as there is room.
    fn include(
        &self,
        service: &ServiceId,
        bytes: &mut usize,
        included: &mut Vec<CurrentService>,
    ) -> Result<(), StorageError> {
        let size = self.storage.size(SERVICE, service.as_str())?.map_or(usize::MAX, |size| size as usize);
        if bytes.saturating_add(size) <= INCLUDED_BYTES
            && let Some(current) = self.current(service)?
        {
            *bytes += size;
            included.push(current);
        }
        Ok(())
    }

    fn current(&self, service: &ServiceId) -> Result<Option<CurrentService>, StorageError> {
        let Some((digest, _)) = self.storage.outline(service.as_str())? else { return Ok(None) };
        let Some(text) = self.storage.text(SERVICE, service.as_str())? else { return Ok(None) };
        Ok(Some(CurrentService { digest, service: raw(text)? }))
    }

    /// The documents of services.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn read_services(&mut self, request: &ReadServices) -> Result<Services, StorageError> {
        let (mut services, mut read, mut bytes) = (Vec::new(), 0, 0);
        for id in &request.ids {
            if bytes > REPLY_BYTES {
                break;
            }
            read += 1;
            let Some(current) = self.current(id)? else { continue };
            bytes += current.service.get().len();
            services.push(current);
            if !request.for_list {
                self.recent.read(id);
            }
        }
        Ok(Services::Services { services, read })
    }
}

fn raw(text: String) -> Result<Box<RawValue>, StorageError> {
    Ok(RawValue::from_string(text)?)
}
