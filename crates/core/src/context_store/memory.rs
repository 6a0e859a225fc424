//! A shelf in memory that keeps what a store's tables keep, keyed and written as they are.
//!
//! It outlives the ledger on it. A snapshot taken before a turn is what a crash leaves that came before the turn's
//! writes were on disk; the alarm belongs to it, as the platform writes it together with the rows of its turn.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::value::RawValue;

use crate::base::id::{ContextId, row_key, ulid};
use crate::base::time::Timestamp;
use crate::context::Head;
use crate::context::idempotency::Claim;
use crate::context::status::{Priority, Status};
use crate::context_store::result_pieces::{Layout, joined};
use crate::context_store::{Broken, Due, Ended, Ready, Shelf, Whole};
use crate::events::bundle::MAX_RESULT_BYTES;

/// What a row takes of a result, so that most of them lie in pieces here.
const ROW_BYTES: usize = 7;

#[derive(Debug)]
pub struct Live {
    pub id: ContextId,
    pub service: String,
    pub status: Status,
    pub priority: Priority,
    pub due: Timestamp,
    pub expires: Timestamp,
    pub head: String,
    pub parameters: Rc<str>,
}

#[derive(Debug)]
pub struct Done {
    pub id: ContextId,
    pub head: String,
    pub parameters: Rc<str>,
    pub result: Option<String>,
}

/// What is on disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub live: BTreeMap<u64, Rc<Live>>,
    pub done: BTreeMap<u64, Rc<Done>>,
    /// Results that do not fit beside their contexts, by the same keys.
    pub pieces: BTreeMap<u64, Rc<[String]>>,
    pub claims: BTreeMap<String, (ContextId, String, Timestamp)>,
    pub reserved: u64,
    pub alarm: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
pub struct Memory(Rc<RefCell<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    disk: Disk,
    touched: Vec<ContextId>,
    cleaned: Vec<ContextId>,
    /// The write that fails, counted from the next; as a full disk would.
    fails: Option<u32>,
    forgets_claims: bool,
    forgets_numbers: bool,
    loses_pieces: bool,
}

impl Memory {
    pub fn snapshot(&self) -> Disk {
        self.0.borrow().disk.clone()
    }

    pub fn restore(&self, disk: Disk) {
        let mut inner = self.0.borrow_mut();
        inner.disk = disk;
        inner.touched.clear();
        inner.cleaned.clear();
    }

    pub fn look<T>(&self, look: impl FnOnce(&Disk) -> T) -> T {
        look(&self.0.borrow().disk)
    }

    pub fn set_alarm(&self, at: Option<Timestamp>) {
        self.0.borrow_mut().disk.alarm = at;
    }

    pub fn alarm(&self) -> Option<Timestamp> {
        self.0.borrow().disk.alarm
    }

    /// Contexts written to since the last time this was asked, and those cleaned.
    pub fn take_touched(&self) -> (Vec<ContextId>, Vec<ContextId>) {
        let mut inner = self.0.borrow_mut();
        (std::mem::take(&mut inner.touched), std::mem::take(&mut inner.cleaned))
    }

    /// The nth write from now fails and changes nothing; `None` heals it.
    pub fn fail_write(&self, nth: Option<u32>) {
        self.0.borrow_mut().fails = nth;
    }

    /// A broken shelf, for the simulation to find: keys are not written down.
    pub fn forget_claims_at_once(&self) {
        self.0.borrow_mut().forgets_claims = true;
    }

    /// A broken shelf, for the simulation to find: what was reserved is not written down.
    pub fn forget_numbers(&self) {
        self.0.borrow_mut().forgets_numbers = true;
    }

    /// A broken shelf, for the simulation to find: the last piece of a result is not written down.
    pub fn lose_pieces(&self) {
        self.0.borrow_mut().loses_pieces = true;
    }

    fn keep_pieces(disk: &mut Disk, key: u64, pieces: &[&str], loses: bool) {
        let kept = pieces.len() - usize::from(loses);
        if !pieces.is_empty() {
            disk.pieces.insert(key, pieces.iter().take(kept).map(|piece| piece.to_string()).collect());
        }
    }

    fn write<T>(&self, id: Option<&ContextId>, write: impl FnOnce(&mut Disk) -> T) -> Result<T, Broken> {
        let mut inner = self.0.borrow_mut();
        match inner.fails.take() {
            Some(0) => return Err(Broken("the disk is full".into())),
            Some(more) => inner.fails = Some(more - 1),
            None => {}
        }
        inner.touched.extend(id.cloned());
        Ok(write(&mut inner.disk))
    }
}

fn key(id: &ContextId) -> u64 {
    row_key(id.sort_key())
}

fn parsed(text: &str) -> Result<Head, Broken> {
    Ok(serde_json::from_str(text)?)
}

fn raw(text: &str) -> Result<Box<RawValue>, Broken> {
    Ok(RawValue::from_string(text.into())?)
}

fn live_row(head: &Head, parameters: Rc<str>) -> Result<Rc<Live>, Broken> {
    Ok(Rc::new(Live {
        id: head.id().clone(),
        service: head.admission.service.clone(),
        status: head.status,
        priority: head.admission.priority,
        due: head.due(),
        expires: head.admission.expires_at,
        head: serde_json::to_string(head)?,
        parameters,
    }))
}

impl Shelf for Memory {
    fn insert(&self, head: &Head, parameters: &RawValue, claim: Option<(&Claim, Timestamp)>) -> Result<bool, Broken> {
        let row = live_row(head, parameters.get().into())?;
        let forgets = self.0.borrow().forgets_claims;
        self.write(Some(head.id()), |disk| {
            let key = key(head.id());
            if disk.live.contains_key(&key) || disk.done.contains_key(&key) {
                return false;
            }
            disk.live.insert(key, row);
            if let Some((claim, until)) = claim.filter(|_| !forgets) {
                disk.claims.insert(claim.scope.clone(), (head.id().clone(), claim.fingerprint.clone(), until));
            }
            true
        })
    }

    fn update(&self, head: &Head) -> Result<(), Broken> {
        let text = serde_json::to_string(head)?;
        self.write(Some(head.id()), |disk| {
            if let Some(row) = disk.live.get_mut(&key(head.id())).filter(|row| row.id == *head.id()) {
                let next = Live {
                    id: row.id.clone(),
                    service: head.admission.service.clone(),
                    status: head.status,
                    priority: row.priority,
                    due: head.due(),
                    expires: row.expires,
                    head: text,
                    parameters: row.parameters.clone(),
                };
                *row = Rc::new(next);
            }
        })
    }

    fn finish(&self, head: &Head, result: Option<&RawValue>) -> Result<(), Broken> {
        let text = serde_json::to_string(head)?;
        let Layout { beside, pieces } = Layout::of(result, ROW_BYTES);
        let loses = self.0.borrow().loses_pieces;
        self.write(Some(head.id()), |disk| {
            let key = key(head.id());
            let Some(row) = disk.live.get(&key).filter(|row| row.id == *head.id()) else { return Ok(()) };
            let (id, parameters) = (row.id.clone(), row.parameters.clone());
            if disk.done.contains_key(&key) {
                return Err(Broken("UNIQUE constraint failed: done.key".into()));
            }
            let done = Done { id, head: text, parameters, result: beside.map(Into::into) };
            disk.done.insert(key, Rc::new(done));
            Self::keep_pieces(disk, key, &pieces, loses);
            Ok(())
        })?
    }

    fn insert_done(&self, head: &Head, parameters: &RawValue, result: Option<&RawValue>) -> Result<bool, Broken> {
        let text = serde_json::to_string(head)?;
        let Layout { beside, pieces } = Layout::of(result, ROW_BYTES);
        let loses = self.0.borrow().loses_pieces;
        self.write(Some(head.id()), |disk| {
            let key = key(head.id());
            if disk.done.contains_key(&key) {
                return false;
            }
            let (parameters, result) = (parameters.get().into(), beside.map(Into::into));
            disk.done.insert(key, Rc::new(Done { id: head.id().clone(), head: text, parameters, result }));
            Self::keep_pieces(disk, key, &pieces, loses);
            true
        })
    }

    fn clean(&self, ids: &[ContextId]) -> Result<(), Broken> {
        self.write(None, |disk| {
            for id in ids {
                disk.live.remove(&key(id));
            }
        })?;
        self.0.borrow_mut().cleaned.extend(ids.iter().cloned());
        Ok(())
    }

    fn live_head(&self, id: &ContextId) -> Result<Option<Head>, Broken> {
        self.look(|disk| disk.live.get(&key(id)).filter(|row| row.id == *id).map(|row| parsed(&row.head)).transpose())
    }

    fn done_head(&self, id: &ContextId) -> Result<Option<Head>, Broken> {
        self.look(|disk| disk.done.get(&key(id)).filter(|row| row.id == *id).map(|row| parsed(&row.head)).transpose())
    }

    fn live(&self, id: &ContextId) -> Result<Option<Whole>, Broken> {
        self.look(|disk| {
            let Some(row) = disk.live.get(&key(id)).filter(|row| row.id == *id) else { return Ok(None) };
            Ok(Some(Whole { head: parsed(&row.head)?, parameters: raw(&row.parameters)?, result: None }))
        })
    }

    fn done(&self, id: &ContextId) -> Result<Option<Whole>, Broken> {
        self.look(|disk| {
            let Some(row) = disk.done.get(&key(id)).filter(|row| row.id == *id) else { return Ok(None) };
            let pieces = disk.pieces.get(&key(id)).map(|pieces| pieces.iter().cloned());
            let whole = pieces.and_then(|pieces| joined(pieces, ROW_BYTES));
            let result = row.result.as_deref().or(whole.as_deref()).map(raw).transpose()?;
            Ok(Some(Whole { head: parsed(&row.head)?, parameters: raw(&row.parameters)?, result }))
        })
    }

    fn untold(&self) -> Result<Vec<Ended>, Broken> {
        self.look(|disk| {
            let ended = disk.done.iter().filter(|(key, _)| disk.live.contains_key(key));
            let small = |row: &Done| row.result.clone().filter(|result| result.len() <= MAX_RESULT_BYTES);
            ended.map(|(_, row)| Ok((parsed(&row.head)?, small(row).as_deref().map(raw).transpose()?))).collect()
        })
    }

    fn live_heads(&self) -> Result<Vec<Head>, Broken> {
        self.look(|disk| disk.live.values().map(|row| parsed(&row.head)).collect())
    }

    fn by_due(&self) -> Result<Vec<Due>, Broken> {
        let mut due: Vec<Due> = self.look(|disk| {
            let due = |row: &Rc<Live>| {
                let Live { id, status, due, expires, .. } = &**row;
                Due { id: id.clone(), status: Some(*status), due: *due, expires: *expires }
            };
            disk.live.values().map(due).collect()
        });
        due.sort_by_key(|row| row.due);
        Ok(due)
    }

    fn ready(&self, now: Timestamp, without: &[String], most: u64) -> Result<Vec<Ready>, Broken> {
        self.look(|disk| {
            let mut ready: Vec<(Reverse<Priority>, u64, &Rc<Live>)> = disk
                .live
                .iter()
                .filter(|(_, row)| row.status == Status::Queued && row.due <= now && !without.contains(&row.service))
                .map(|(key, row)| (Reverse(row.priority), *key, row))
                .collect();
            ready.sort_by_key(|(priority, key, _)| (*priority, *key));
            let ready = ready.into_iter().take(usize::try_from(most).unwrap_or(usize::MAX));
            Ok(ready.map(|(.., row)| Ready { id: row.id.clone(), service: row.service.clone() }).collect())
        })
    }

    fn claimed(&self, scope: &str, now: Timestamp) -> Result<Option<(ContextId, String)>, Broken> {
        self.look(|disk| {
            let claim = disk.claims.get(scope).filter(|(.., until)| *until > now);
            Ok(claim.map(|(id, fingerprint, _)| (id.clone(), fingerprint.clone())))
        })
    }

    fn forget_claims(&self, now: Timestamp) -> Result<(), Broken> {
        self.write(None, |disk| disk.claims.retain(|_, (.., until)| *until > now))
    }

    fn oldest_done(&self) -> Result<Option<Timestamp>, Broken> {
        self.look(|disk| Ok(disk.done.values().next().map(|row| row.id.created_at())))
    }

    fn forget_done(&self, before: Timestamp, most: u64) -> Result<u64, Broken> {
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

    fn reserved(&self) -> Result<u64, Broken> {
        self.look(|disk| Ok(disk.reserved))
    }

    fn reserve(&self, bound: u64) -> Result<(), Broken> {
        let forgets = self.0.borrow().forgets_numbers;
        self.write(None, |disk| disk.reserved = if forgets { 0 } else { bound })
    }
}
