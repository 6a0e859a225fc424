//! A storage in memory for tests, with the keys and the write behavior of a registry's tables.
//!
//! It outlives the registry that uses it. A snapshot taken before a turn is the state after a crash that came before
//! the turn's writes were on disk. The alarm is part of it, as the platform writes it together with the rows.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::value::RawValue;

use super::messages::AuditQuery;
use super::records::{DocumentKind, StoredDocument};
use super::revision::Revision;
use super::size::weight;
use super::storage::{DocumentKey, KindTotal, Storage};
use super::writes::registered_itself;
use crate::access::audit::AuditEntry;
use crate::access::oauth::registrations::Registration;
use crate::base::id::StoreId;
use crate::base::service_id::ServiceId;
use crate::base::storage_error::StorageError;
use crate::base::time::Timestamp;
use crate::base::write_fault::WriteFault;
use crate::events::bundle::Bundle;
use crate::lane::observed::ObservedStatus;

/// Events read at a time.
const MAX_EVENTS: usize = 200;

/// An entry of the audit log.
#[derive(Debug)]
pub struct AuditRow {
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub object: String,
    pub entry: String,
}

/// The contents of the disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub documents: BTreeMap<DocumentKey, Rc<str>>,
    /// The digest and the outline of each service.
    pub outlines: BTreeMap<String, (String, Rc<str>)>,
    pub changes: BTreeSet<(Revision, String, String)>,
    pub measured: BTreeMap<ServiceId, ObservedStatus>,
    pub audit: BTreeMap<u64, Rc<AuditRow>>,
    pub revoked: BTreeMap<String, Timestamp>,
    pub used: BTreeMap<String, Timestamp>,
    pub stores: BTreeSet<StoreId>,
    pub meta: BTreeMap<String, String>,
    pub outbox: BTreeMap<u64, Rc<str>>,
    pub notifications: BTreeMap<u64, Rc<str>>,
    pub alarm: Option<Timestamp>,
    /// The last numbers that an event and a notification received.
    pub last_event: u64,
    pub last_notification: u64,
}

#[derive(Debug, Clone, Default)]
pub struct MemoryStorage(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    disk: Disk,
    fault: WriteFault,
    loses_notifications: bool,
    loses_revisions: bool,
    loses_changes: bool,
}

impl MemoryStorage {
    pub fn snapshot(&self) -> Disk {
        self.0.borrow().disk.clone()
    }

    pub fn restore(&self, disk: Disk) {
        self.0.borrow_mut().disk = disk;
    }

    pub fn read<T>(&self, read: impl FnOnce(&Disk) -> T) -> T {
        read(&self.0.borrow().disk)
    }

    pub fn set_alarm(&self, at: Option<Timestamp>) {
        self.0.borrow_mut().disk.alarm = at;
    }

    pub fn alarm(&self) -> Option<Timestamp> {
        self.0.borrow().disk.alarm
    }

    /// Makes the nth write from now fail and change nothing; `None` removes the fault.
    pub fn fail_write(&self, nth: Option<u32>) {
        self.0.borrow_mut().fault = WriteFault::at(nth);
    }

    /// A defect for the simulation to find: the stores are not found. They are taken out, to be put back.
    pub fn hide_stores(&self, hides: bool) -> BTreeSet<StoreId> {
        let stores = &mut self.0.borrow_mut().disk.stores;
        if hides { std::mem::take(stores) } else { BTreeSet::new() }
    }

    pub fn show_stores(&self, stores: BTreeSet<StoreId>) {
        self.0.borrow_mut().disk.stores.extend(stores);
    }

    /// A defect for the simulation to find: notifications are not written.
    pub fn lose_notifications(&self) {
        self.0.borrow_mut().loses_notifications = true;
    }

    /// A defect for the simulation to find: it is not recorded which documents a revision changes.
    pub fn lose_changes(&self) {
        self.0.borrow_mut().loses_changes = true;
    }

    /// A defect for the simulation to find: revisions are not written.
    pub fn lose_revisions(&self) {
        self.0.borrow_mut().loses_revisions = true;
    }

    fn write<T>(&self, write: impl FnOnce(&mut Disk) -> T) -> Result<T, StorageError> {
        let mut state = self.0.borrow_mut();
        state.fault.count()?;
        Ok(write(&mut state.disk))
    }
}

fn key(kind: &str, id: &str) -> DocumentKey {
    (kind.into(), id.into())
}

fn bytes(text: &str) -> u64 {
    text.len() as u64
}

fn at_most<T>(found: impl Iterator<Item = T>, most: u64) -> Vec<T> {
    found.take(usize::try_from(most).unwrap_or(usize::MAX)).collect()
}

/// Whether a text matches a GLOB pattern of SQLite that has no other special character than `*`.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..]))
        }),
    }
}

impl Storage for MemoryStorage {
    fn transaction<T, E: From<StorageError>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let before = self.snapshot();
        let done = work();
        if done.is_err() {
            self.restore(before);
        }
        done
    }

    fn text(&self, kind: &str, id: &str) -> Result<Option<String>, StorageError> {
        self.read(|disk| Ok(disk.documents.get(&key(kind, id)).map(ToString::to_string)))
    }

    fn texts(&self, kind: &str) -> Result<Vec<String>, StorageError> {
        self.read(|disk| {
            let of_kind = disk.documents.iter().filter(|((other, _), _)| other == kind);
            Ok(of_kind.map(|(_, text)| text.to_string()).collect())
        })
    }

    fn texts_besides(&self, kind: &str) -> Result<Vec<(String, String)>, StorageError> {
        self.read(|disk| {
            let others = disk.documents.iter().filter(|((other, _), _)| other != kind);
            Ok(others.map(|((kind, _), text)| (kind.clone(), text.to_string())).collect())
        })
    }

    fn put_text(&self, kind: &str, id: &str, text: &str) -> Result<(), StorageError> {
        self.write(|disk| {
            disk.documents.insert(key(kind, id), text.into());
        })
    }

    fn delete(&self, kind: &str, id: &str) -> Result<(), StorageError> {
        self.write(|disk| {
            disk.documents.remove(&key(kind, id));
        })
    }

    fn delete_all(&self, kind: &str) -> Result<(), StorageError> {
        self.write(|disk| disk.documents.retain(|(other, _), _| other != kind))
    }

    fn outline(&self, service: &str) -> Result<Option<(String, String)>, StorageError> {
        self.read(|disk| Ok(disk.outlines.get(service).map(|(digest, outline)| (digest.clone(), outline.to_string()))))
    }

    fn outlines(&self) -> Result<Vec<String>, StorageError> {
        self.read(|disk| Ok(disk.outlines.values().map(|(_, outline)| outline.to_string()).collect()))
    }

    fn put_outline(&self, service: &str, digest: &str, text: &str) -> Result<(), StorageError> {
        self.write(|disk| {
            disk.outlines.insert(service.into(), (digest.into(), text.into()));
        })
    }

    fn delete_outline(&self, service: &str) -> Result<(), StorageError> {
        self.write(|disk| {
            disk.outlines.remove(service);
        })
    }

    fn delete_all_outlines(&self) -> Result<(), StorageError> {
        self.write(|disk| disk.outlines.clear())
    }

    fn outline_total(&self) -> Result<(u64, u64), StorageError> {
        self.read(|disk| {
            let sizes = disk.outlines.values().map(|(_, outline)| bytes(outline));
            Ok((disk.outlines.len() as u64, sizes.sum()))
        })
    }

    fn record_change(&self, revision: Revision, kind: &str, id: &str) -> Result<(), StorageError> {
        let (kind, id) = if self.0.borrow().loses_changes { ("", "") } else { (kind, id) };
        self.write(|disk| {
            disk.changes.insert((revision, kind.into(), id.into()));
        })
    }

    fn changes_after(&self, revision: Revision, most: u64) -> Result<Vec<DocumentKey>, StorageError> {
        self.read(|disk| {
            let later = disk.changes.range((revision.next(), String::new(), String::new())..);
            Ok(at_most(later.map(|(_, kind, id)| key(kind, id)), most))
        })
    }

    fn recorded_revisions(&self) -> Result<Option<(Revision, Revision)>, StorageError> {
        self.read(|disk| Ok(disk.changes.first().zip(disk.changes.last()).map(|(first, last)| (first.0, last.0))))
    }

    fn delete_changes_before(&self, revision: Revision) -> Result<(), StorageError> {
        self.write(|disk| disk.changes.retain(|(of, ..)| *of >= revision))
    }

    fn size(&self, kind: &str, id: &str) -> Result<Option<u64>, StorageError> {
        self.read(|disk| Ok(disk.documents.get(&key(kind, id)).map(|text| bytes(text))))
    }

    fn totals(&self, except: Option<&str>) -> Result<Vec<KindTotal>, StorageError> {
        let mut totals: BTreeMap<(String, bool), (u64, u64)> = BTreeMap::new();
        self.read(|disk| {
            for ((kind, id), text) in disk.documents.iter().filter(|((kind, _), _)| Some(kind.as_str()) != except) {
                let (count, sum) = totals.entry((kind.clone(), registered_itself(kind, id))).or_default();
                *count += 1;
                *sum += bytes(text);
            }
        });
        let total = |((kind, registered_itself), (count, bytes))| KindTotal { kind, registered_itself, count, bytes };
        Ok(totals.into_iter().map(total).collect())
    }

    fn sizes(&self, after: &DocumentKey, most: u64) -> Result<Vec<(DocumentKey, u64)>, StorageError> {
        self.read(|disk| {
            let later = disk.documents.iter().filter(|(key, _)| *key > after);
            Ok(at_most(later.map(|(key, text)| (key.clone(), bytes(text))), most))
        })
    }

    fn largest(&self, most: u64) -> Result<Vec<(DocumentKey, u64)>, StorageError> {
        let mut all = self.sizes(&DocumentKey::default(), u64::MAX)?;
        all.sort_by_key(|(key, bytes)| (Reverse(*bytes), key.clone()));
        Ok(at_most(all.into_iter(), most))
    }

    fn registrations(&self) -> Result<Vec<Registration>, StorageError> {
        let kind = DocumentKind::Client.as_str();
        self.read(|disk| {
            let own = disk.documents.iter().filter(|((other, id), _)| other == kind && registered_itself(kind, id));
            own.map(|((_, id), text)| {
                let client: StoredDocument = serde_json::from_str(text)?;
                Ok(Registration {
                    id: id.clone(),
                    bytes: weight(kind, bytes(text)),
                    created_at: client.created_at,
                    used_at: disk.used.get(&format!("clients/{id}")).copied(),
                    source: client.source.unwrap_or_default(),
                })
            })
            .collect()
        })
    }

    fn all_measured(&self) -> Result<Vec<(ServiceId, ObservedStatus)>, StorageError> {
        self.read(|disk| Ok(disk.measured.iter().map(|(service, measured)| (service.clone(), *measured)).collect()))
    }

    fn measured(&self, service: &ServiceId) -> Result<Option<ObservedStatus>, StorageError> {
        self.read(|disk| Ok(disk.measured.get(service).copied()))
    }

    fn put_measured(&self, service: &ServiceId, measured: &ObservedStatus) -> Result<(), StorageError> {
        self.write(|disk| {
            disk.measured.insert(service.clone(), *measured);
        })
    }

    fn delete_measured(&self, service: &ServiceId) -> Result<(), StorageError> {
        self.write(|disk| {
            disk.measured.remove(service);
        })
    }

    fn add_audit(&self, entry: &AuditEntry<'_>) -> Result<(), StorageError> {
        let row = AuditRow {
            at: entry.at,
            actor: entry.actor.into(),
            action: entry.action.into(),
            object: entry.object.into(),
            entry: serde_json::to_string(entry)?,
        };
        self.write(|disk| {
            let number = disk.audit.keys().next_back().map_or(1, |last| last + 1);
            disk.audit.insert(number, Rc::new(row));
        })
    }

    fn audit(&self, query: &AuditQuery) -> Result<Vec<(u64, Box<RawValue>)>, StorageError> {
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
        let found: Vec<(u64, String)> = self.read(|disk| {
            let rows = disk.audit.iter().rev().filter(|(number, row)| {
                is(&query.actor, &row.actor)
                    && query.action.as_ref().is_none_or(|pattern| matches(pattern, &row.action))
                    && is(&query.object, &row.object)
                    && query.after.is_none_or(|after| row.at > after)
                    && query.before.is_none_or(|before| row.at < before)
                    && query.below.is_none_or(|below| **number < below)
            });
            at_most(rows.map(|(number, row)| (*number, row.entry.clone())), query.limit)
        });
        found.into_iter().map(|(number, entry)| Ok((number, RawValue::from_string(entry)?))).collect()
    }

    fn delete_old_audit(&self, before: Timestamp) -> Result<(), StorageError> {
        self.write(|disk| {
            disk.audit.retain(|_, row| row.at >= before);
            disk.revoked.retain(|_, at| *at >= before);
        })
    }

    fn record_revoked(&self, name: &str, at: Timestamp) -> Result<(), StorageError> {
        self.write(|disk| {
            disk.revoked.insert(name.into(), at);
        })
    }

    fn was_revoked(&self, name: &str) -> Result<bool, StorageError> {
        self.read(|disk| Ok(disk.revoked.contains_key(name)))
    }

    fn record_use(&self, name: &str, at: Timestamp) -> Result<(), StorageError> {
        let of = name.strip_prefix("clients/").map_or_else(|| key("key", name), |id| key("client", id));
        self.write(|disk| {
            if disk.documents.contains_key(&of) {
                let used = disk.used.entry(name.into()).or_default();
                *used = at.max(*used);
            }
        })
    }

    fn last_used(&self) -> Result<Vec<(String, Timestamp)>, StorageError> {
        self.read(|disk| Ok(disk.used.iter().map(|(name, at)| (name.clone(), *at)).collect()))
    }

    fn delete_last_use(&self, name: &str) -> Result<(), StorageError> {
        self.write(|disk| {
            disk.used.remove(name);
        })
    }

    fn stores(&self) -> Result<Vec<StoreId>, StorageError> {
        self.read(|disk| Ok(disk.stores.iter().copied().collect()))
    }

    fn add_store(&self, store: StoreId) -> Result<(), StorageError> {
        self.write(|disk| {
            disk.stores.insert(store);
        })
    }

    fn meta(&self, name: &str) -> Result<Option<String>, StorageError> {
        self.read(|disk| Ok(disk.meta.get(name).cloned()))
    }

    fn set_meta(&self, name: &str, value: &str) -> Result<(), StorageError> {
        let loses = name == "revision" && self.0.borrow().loses_revisions;
        self.write(|disk| {
            if !loses {
                disk.meta.insert(name.into(), value.into());
            }
        })
    }

    fn queue_event(&self, bundle: &Bundle) -> Result<(), StorageError> {
        let text = serde_json::to_string(bundle)?;
        self.write(|disk| {
            disk.last_event += 1;
            disk.outbox.insert(disk.last_event, text.into());
        })
    }

    fn queued_events(&self) -> Result<Vec<(u64, Bundle)>, StorageError> {
        self.read(|disk| {
            let first = disk.outbox.iter().take(MAX_EVENTS);
            first.map(|(number, text)| Ok((*number, Bundle::read(text)?))).collect()
        })
    }

    fn delete_published(&self, up_to: u64) -> Result<(), StorageError> {
        self.write(|disk| disk.outbox.retain(|number, _| *number > up_to))
    }

    fn queue_notification(&self, text: &str) -> Result<u64, StorageError> {
        let loses = self.0.borrow().loses_notifications;
        self.write(|disk| {
            disk.last_notification += 1;
            if !loses {
                disk.notifications.insert(disk.last_notification, text.into());
            }
            disk.last_notification
        })
    }

    fn queued_notifications(&self) -> Result<Vec<(u64, String)>, StorageError> {
        self.read(|disk| Ok(disk.notifications.iter().map(|(number, text)| (*number, text.to_string())).collect()))
    }

    fn update_notification(&self, number: u64, text: &str) -> Result<(), StorageError> {
        self.write(|disk| {
            if let Some(known) = disk.notifications.get_mut(&number) {
                *known = text.into();
            }
        })
    }

    fn delete_notification(&self, number: u64) -> Result<(), StorageError> {
        self.write(|disk| {
            disk.notifications.remove(&number);
        })
    }
}
