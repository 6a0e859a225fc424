//! A storage in memory for tests, with the keys and the write behavior of a store's tables.
//!
//! It outlives the context store that uses it. A snapshot taken before a turn is the state after a crash that came
//! before the turn's writes were on disk. The alarm is part of it, as the platform writes it together with the rows.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::value::RawValue;

use crate::base::id::{ContextId, row_key, ulid};
use crate::base::service_id::ServiceId;
use crate::base::storage_error::StorageError;
use crate::base::time::Timestamp;
use crate::base::write_fault::WriteFault;
use crate::context::Head;
use crate::context::status::{Priority, Status};
use crate::context_store::result_pieces::{Layout, joined};
use crate::context_store::{DueContext, EndedContext, Insertion, ReadyContext, Storage, StoredContext};
use crate::events::bundle::MAX_RESULT_BYTES;

/// Maximum number of bytes of a result in one row: so few that most results are in pieces here.
const ROW_BYTES: usize = 7;

#[derive(Debug, Clone)]
pub struct LiveRow {
    pub id: ContextId,
    pub service: ServiceId,
    pub status: Status,
    pub priority: Priority,
    pub due: Timestamp,
    pub expires: Timestamp,
    pub head: String,
    pub parameters: Rc<str>,
    pub acknowledged: u64,
}

#[derive(Debug, Clone)]
pub struct DoneRow {
    pub id: ContextId,
    pub head: String,
    pub parameters: Rc<str>,
    pub result: Option<String>,
}

/// The contents of the disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub live: BTreeMap<u64, Rc<LiveRow>>,
    pub done: BTreeMap<u64, Rc<DoneRow>>,
    /// Results that do not fit in the rows of their contexts, by the same keys.
    pub pieces: BTreeMap<u64, Rc<[String]>>,
    pub claims: BTreeMap<String, (ContextId, String, Timestamp)>,
    pub reserved: u64,
    pub alarm: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
pub struct MemoryStorage(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    disk: Disk,
    touched: Vec<ContextId>,
    cleaned: Vec<ContextId>,
    fault: WriteFault,
    loses_claims: bool,
    loses_reservations: bool,
    loses_pieces: bool,
    exaggerates: bool,
    overwrites_others: bool,
}

impl MemoryStorage {
    pub fn snapshot(&self) -> Disk {
        self.0.borrow().disk.clone()
    }

    pub fn restore(&self, disk: Disk) {
        let mut state = self.0.borrow_mut();
        state.disk = disk;
        state.touched.clear();
        state.cleaned.clear();
    }

    pub fn read<T>(&self, read: impl FnOnce(&Disk) -> T) -> T {
        read(&self.0.borrow().disk)
    }

    /// Changes the stored head of a context.
    #[cfg(test)]
    pub fn edit_head(&self, id: &ContextId, edit: impl Fn(&str) -> String) {
        let disk = &mut self.0.borrow_mut().disk;
        if let Some(row) = disk.live.values_mut().find(|row| row.id == *id) {
            let row = Rc::make_mut(row);
            row.head = edit(&row.head);
        }
        if let Some(row) = disk.done.values_mut().find(|row| row.id == *id) {
            let row = Rc::make_mut(row);
            row.head = edit(&row.head);
        }
    }

    pub fn set_alarm(&self, at: Option<Timestamp>) {
        self.0.borrow_mut().disk.alarm = at;
    }

    pub fn alarm(&self) -> Option<Timestamp> {
        self.0.borrow().disk.alarm
    }

    /// Takes the ids of the contexts that were written, and of those whose live rows were deleted or overwritten, since
    /// the last call.
    pub fn take_touched(&self) -> (Vec<ContextId>, Vec<ContextId>) {
        let mut state = self.0.borrow_mut();
        (std::mem::take(&mut state.touched), std::mem::take(&mut state.cleaned))
    }

    /// Makes the nth write from now fail and change nothing; `None` removes the fault.
    pub fn fail_write(&self, nth: Option<u32>) {
        self.0.borrow_mut().fault = WriteFault::at(nth);
    }

    /// A defect for the simulation to find: idempotency keys are not written.
    pub fn lose_claims(&self) {
        self.0.borrow_mut().loses_claims = true;
    }

    /// A defect for the simulation to find: reservations of numbers are not written.
    pub fn lose_reservations(&self) {
        self.0.borrow_mut().loses_reservations = true;
    }

    /// A defect for the simulation to find: the last piece of a result is not written.
    pub fn lose_pieces(&self) {
        self.0.borrow_mut().loses_pieces = true;
    }

    /// A defect for the simulation to find: rows are inserted with numbers that the hub has not acknowledged.
    pub fn exaggerate(&self) {
        self.0.borrow_mut().exaggerates = true;
    }

    /// A defect for the simulation to find: an insertion overwrites the row of a context that has not ended.
    pub fn overwrite_others(&self) {
        self.0.borrow_mut().overwrites_others = true;
    }

    fn insert_pieces(disk: &mut Disk, key: u64, pieces: &[&str], loses: bool) {
        let count = pieces.len().saturating_sub(usize::from(loses));
        if !pieces.is_empty() {
            disk.pieces.insert(key, pieces.iter().take(count).map(|piece| piece.to_string()).collect());
        }
    }

    fn write<T>(&self, id: Option<&ContextId>, write: impl FnOnce(&mut Disk) -> T) -> Result<T, StorageError> {
        let mut state = self.0.borrow_mut();
        state.fault.count()?;
        state.touched.extend(id.cloned());
        Ok(write(&mut state.disk))
    }
}

fn key(id: &ContextId) -> u64 {
    row_key(id.sort_key())
}

fn parsed(text: &str) -> Result<Head, StorageError> {
    Ok(serde_json::from_str(text)?)
}

fn raw(text: &str) -> Result<Box<RawValue>, StorageError> {
    Ok(RawValue::from_string(text.into())?)
}

fn live_row(head: &Head, parameters: Rc<str>, acknowledged: u64) -> Result<Rc<LiveRow>, StorageError> {
    Ok(Rc::new(LiveRow {
        id: head.id().clone(),
        service: head.admission.service.clone(),
        status: head.status,
        priority: head.admission.priority,
        due: head.due(),
        expires: head.admission.expires_at,
        head: serde_json::to_string(head)?,
        parameters,
        acknowledged,
    }))
}

/// Whether there is a live row of this context, and it has ended.
fn has_ended(disk: &Disk, id: &ContextId) -> bool {
    let rows = disk.done.get(&key(id)).zip(disk.live.get(&key(id)));
    rows.is_some_and(|(done, live)| done.id == *id && live.id == *id)
}

impl Storage for MemoryStorage {
    fn insert(&self, insertion: Insertion<'_>) -> Result<bool, StorageError> {
        let Insertion { head, parameters, claim, acknowledged, spare } = insertion;
        let (loses, exaggerates, overwrites_others) = {
            let state = self.0.borrow();
            (state.loses_claims, state.exaggerates, state.overwrites_others)
        };
        let row = live_row(head, parameters.get().into(), acknowledged + if exaggerates { 1_000 } else { 0 })?;
        let inserted = self.write(Some(head.id()), |disk| {
            let own = key(head.id());
            let is_taken = disk.live.contains_key(&own) || disk.done.contains_key(&own);
            if is_taken || spare.is_some_and(|spare| !has_ended(disk, spare)) {
                return false;
            }
            if let Some(overwritten) = spare.map(key) {
                let other = disk.live.keys().find(|key| overwrites_others && !disk.done.contains_key(key)).copied();
                disk.live.remove(&other.unwrap_or(overwritten));
            }
            disk.live.insert(own, row);
            if let Some((claim, until)) = claim.filter(|_| !loses) {
                disk.claims.insert(claim.scope.clone(), (head.id().clone(), claim.fingerprint.clone(), until));
            }
            true
        })?;
        self.0.borrow_mut().cleaned.extend(spare.filter(|_| inserted).cloned());
        Ok(inserted)
    }

    fn update(&self, head: &Head) -> Result<(), StorageError> {
        let text = serde_json::to_string(head)?;
        self.write(Some(head.id()), |disk| {
            if let Some(row) = disk.live.get_mut(&key(head.id())).filter(|row| row.id == *head.id()) {
                let next = LiveRow {
                    id: row.id.clone(),
                    service: head.admission.service.clone(),
                    status: head.status,
                    priority: row.priority,
                    due: head.due(),
                    expires: row.expires,
                    head: text,
                    parameters: row.parameters.clone(),
                    acknowledged: row.acknowledged,
                };
                *row = Rc::new(next);
            }
        })
    }

    fn finish(&self, head: &Head, result: Option<&RawValue>) -> Result<(), StorageError> {
        let text = serde_json::to_string(head)?;
        let Layout { beside, pieces } = Layout::of(result, ROW_BYTES);
        let loses = self.0.borrow().loses_pieces;
        self.write(Some(head.id()), |disk| {
            let key = key(head.id());
            let Some(row) = disk.live.get(&key).filter(|row| row.id == *head.id()) else { return Ok(()) };
            let (id, parameters) = (row.id.clone(), row.parameters.clone());
            if disk.done.contains_key(&key) {
                return Err(StorageError("UNIQUE constraint failed: done.key".into()));
            }
            let done = DoneRow { id, head: text, parameters, result: beside.map(Into::into) };
            disk.done.insert(key, Rc::new(done));
            Self::insert_pieces(disk, key, &pieces, loses);
            Ok(())
        })?
    }

    fn insert_done(&self, head: &Head, parameters: &RawValue, result: Option<&RawValue>) -> Result<bool, StorageError> {
        let text = serde_json::to_string(head)?;
        let Layout { beside, pieces } = Layout::of(result, ROW_BYTES);
        let loses = self.0.borrow().loses_pieces;
        self.write(Some(head.id()), |disk| {
            let key = key(head.id());
            if disk.done.contains_key(&key) || disk.live.contains_key(&key) {
                return false;
            }
            let (parameters, result) = (parameters.get().into(), beside.map(Into::into));
            disk.done.insert(key, Rc::new(DoneRow { id: head.id().clone(), head: text, parameters, result }));
            Self::insert_pieces(disk, key, &pieces, loses);
            true
        })
    }

    fn clean(&self, ids: &[ContextId], max_bytes: usize) -> Result<Vec<ContextId>, StorageError> {
        let unfit = |row: &LiveRow| row.status == Status::Queued || row.head.len() + row.parameters.len() > max_bytes;
        let deleted = self.write(None, |disk| {
            let mut deleted = ids.to_vec();
            deleted.retain(|id| has_ended(disk, id) && disk.live.get(&key(id)).is_some_and(|row| unfit(row)));
            for id in &deleted {
                disk.live.remove(&key(id));
            }
            deleted
        })?;
        self.0.borrow_mut().cleaned.extend(deleted.iter().cloned());
        Ok(deleted)
    }

    fn acknowledged(&self) -> Result<u64, StorageError> {
        self.read(|disk| Ok(disk.live.values().next_back().map_or(0, |row| row.acknowledged)))
    }

    fn set_acknowledged(&self, number: u64) -> Result<(), StorageError> {
        self.write(None, |disk| {
            if let Some(row) = disk.live.values_mut().next_back() {
                *row = Rc::new(LiveRow { acknowledged: number, ..(**row).clone() });
            }
        })
    }

    fn live_head(&self, id: &ContextId) -> Result<Option<Head>, StorageError> {
        self.read(|disk| disk.live.get(&key(id)).filter(|row| row.id == *id).map(|row| parsed(&row.head)).transpose())
    }

    fn done_head(&self, id: &ContextId) -> Result<Option<Head>, StorageError> {
        self.read(|disk| disk.done.get(&key(id)).filter(|row| row.id == *id).map(|row| parsed(&row.head)).transpose())
    }

    fn live(&self, id: &ContextId) -> Result<Option<StoredContext>, StorageError> {
        self.read(|disk| {
            let Some(row) = disk.live.get(&key(id)).filter(|row| row.id == *id) else { return Ok(None) };
            Ok(Some(StoredContext { head: parsed(&row.head)?, parameters: raw(&row.parameters)?, result: None }))
        })
    }

    fn done(&self, id: &ContextId) -> Result<Option<StoredContext>, StorageError> {
        self.read(|disk| {
            let Some(row) = disk.done.get(&key(id)).filter(|row| row.id == *id) else { return Ok(None) };
            let pieces = disk.pieces.get(&key(id)).map(|pieces| pieces.iter().cloned());
            let whole = pieces.and_then(|pieces| joined(pieces, ROW_BYTES));
            let result = row.result.as_deref().or(whole.as_deref()).map(raw).transpose()?;
            Ok(Some(StoredContext { head: parsed(&row.head)?, parameters: raw(&row.parameters)?, result }))
        })
    }

    fn unpublished(&self) -> Result<Vec<(ContextId, Option<EndedContext>)>, StorageError> {
        self.read(|disk| {
            let ended = disk.done.values().filter(|row| has_ended(disk, &row.id));
            let small = |row: &DoneRow| row.result.clone().filter(|result| result.len() <= MAX_RESULT_BYTES);
            let read = |row: &Rc<DoneRow>| {
                let small = small(row).as_deref().map(raw).transpose()?;
                Ok((row.id.clone(), parsed(&row.head).ok().map(|head| (head, small))))
            };
            ended.map(read).collect()
        })
    }

    fn live_heads(&self) -> Result<Vec<(ContextId, Option<Head>)>, StorageError> {
        self.read(|disk| {
            let live = disk.live.values().filter(|row| !has_ended(disk, &row.id));
            Ok(live.map(|row| (row.id.clone(), parsed(&row.head).ok())).collect())
        })
    }

    fn by_due(&self) -> Result<Vec<DueContext>, StorageError> {
        let mut due: Vec<DueContext> = self.read(|disk| {
            let due = |row: &Rc<LiveRow>| {
                let LiveRow { id, status, due, expires, .. } = &**row;
                DueContext { id: id.clone(), status: Some(*status), due: *due, expires: *expires }
            };
            disk.live.values().map(due).collect()
        });
        due.sort_by_key(|row| row.due);
        Ok(due)
    }

    fn ready(&self, now: Timestamp, without: &[ServiceId], most: u64) -> Result<Vec<ReadyContext>, StorageError> {
        self.read(|disk| {
            let mut ready: Vec<(Reverse<Priority>, u64, &Rc<LiveRow>)> = disk
                .live
                .iter()
                .filter(|(_, row)| row.status == Status::Queued && row.due <= now && row.expires > now)
                .filter(|(_, row)| !without.contains(&row.service))
                .map(|(key, row)| (Reverse(row.priority), *key, row))
                .collect();
            ready.sort_by_key(|(priority, key, _)| (*priority, *key));
            let ready = ready.into_iter().take(usize::try_from(most).unwrap_or(usize::MAX));
            Ok(ready.map(|(.., row)| ReadyContext { id: row.id.clone(), service: row.service.clone() }).collect())
        })
    }

    fn find_claim(&self, scope: &str, now: Timestamp) -> Result<Option<(ContextId, String)>, StorageError> {
        self.read(|disk| {
            let claim = disk.claims.get(scope).filter(|(.., until)| *until > now);
            Ok(claim.map(|(id, fingerprint, _)| (id.clone(), fingerprint.clone())))
        })
    }

    fn delete_expired_claims(&self, now: Timestamp) -> Result<(), StorageError> {
        self.write(None, |disk| disk.claims.retain(|_, (.., until)| *until > now))
    }

    fn oldest_done(&self) -> Result<Option<Timestamp>, StorageError> {
        self.read(|disk| {
            let mut without_row = disk.done.iter().filter(|(key, _)| !disk.live.contains_key(key));
            Ok(without_row.next().map(|(_, row)| row.id.created_at()))
        })
    }

    fn delete_done(&self, before: Timestamp, most: u64) -> Result<u64, StorageError> {
        self.write(None, |disk| {
            let first = row_key(&ulid(before, [0; 10]));
            let old = disk.done.range(..first).map(|(key, _)| *key).filter(|key| !disk.live.contains_key(key));
            let old: Vec<u64> = old.take(usize::try_from(most).unwrap_or(usize::MAX)).collect();
            for key in &old {
                disk.done.remove(key);
                disk.pieces.remove(key);
            }
            old.len() as u64
        })
    }

    fn reserved_number(&self) -> Result<u64, StorageError> {
        self.read(|disk| Ok(disk.reserved))
    }

    fn reserve_number(&self, bound: u64) -> Result<(), StorageError> {
        let loses = self.0.borrow().loses_reservations;
        self.write(None, |disk| disk.reserved = if loses { 0 } else { bound })
    }
}
