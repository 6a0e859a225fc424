//! A storage in memory for tests. It outlives the lane that uses it; values are stored as text, as in the tables of an
//! object. A snapshot taken before a turn is the state after a crash that came before the turn's writes were on disk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::probing::Target;
use super::storage::{Storage, Stored, StoredState};
use crate::base::storage_error::StorageError;
use crate::base::time::Timestamp;
use crate::base::write_fault::WriteFault;
use crate::calling::connection::pool::Delivery;

/// The contents of the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    pub state: Option<String>,
    pub target: Option<String>,
    pub busy_until: Timestamp,
    pub deliveries: BTreeMap<String, Delivery>,
}

impl Disk {
    pub fn stored_state(&self) -> Option<StoredState> {
        self.state.as_ref().and_then(|text| serde_json::from_str(text).ok())
    }
}

/// What is not written, in tests that must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    UnreportedStatuses,
    BusyUntil,
    EndedDeliveries,
}

#[derive(Debug, Clone, Default)]
pub struct MemoryStorage(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    disk: Disk,
    fault: WriteFault,
    loses: Option<Loss>,
    writes: u64,
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

    /// Which write fails, counted from the next one.
    pub fn fail_write(&self, nth: Option<u32>) {
        self.0.borrow_mut().fault = WriteFault::at(nth);
    }

    /// Whether every write fails.
    pub fn set_full(&self, is_full: bool) {
        self.0.borrow_mut().fault = if is_full { WriteFault::Every } else { WriteFault::None };
    }

    pub fn lose(&self, what: Loss) {
        self.0.borrow_mut().loses = Some(what);
    }

    /// How many rows were written.
    pub fn writes(&self) -> u64 {
        self.0.borrow().writes
    }

    fn write(&self, is_lost: Option<Loss>, change: impl FnOnce(&mut Disk)) -> Result<(), StorageError> {
        let mut state = self.0.borrow_mut();
        state.fault.count()?;
        state.writes += 1;
        if is_lost.is_none() || state.loses != is_lost {
            change(&mut state.disk);
        }
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn read(&self) -> Result<Stored, StorageError> {
        let state = self.0.borrow();
        let disk = &state.disk;
        Ok(Stored {
            state: disk.state.as_deref().map(serde_json::from_str).transpose()?,
            target: disk.target.as_deref().map(serde_json::from_str).transpose()?,
            busy_until: disk.busy_until,
            deliveries: disk.deliveries.values().cloned().collect(),
        })
    }

    fn put_state(&self, state: &StoredState) -> Result<(), StorageError> {
        let forgets = self.0.borrow().loses == Some(Loss::UnreportedStatuses);
        let text = match forgets {
            true => serde_json::to_string(&StoredState { unreported: None, ..state.clone() })?,
            false => serde_json::to_string(state)?,
        };
        self.write(None, |disk| disk.state = Some(text))
    }

    fn put_target(&self, target: &Target) -> Result<(), StorageError> {
        let text = serde_json::to_string(target)?;
        self.write(None, |disk| disk.target = Some(text))
    }

    fn delete_target(&self) -> Result<(), StorageError> {
        self.write(None, |disk| disk.target = None)
    }

    fn put_busy_until(&self, until: Timestamp) -> Result<(), StorageError> {
        self.write(Some(Loss::BusyUntil), |disk| disk.busy_until = until)
    }

    fn put_delivery(&self, delivery: &Delivery) -> Result<(), StorageError> {
        let forgets = delivery.ended_at.is_some() && self.0.borrow().loses == Some(Loss::EndedDeliveries);
        self.write(None, |disk| match forgets {
            true => drop(disk.deliveries.remove(&delivery.number())),
            false => drop(disk.deliveries.insert(delivery.number(), delivery.clone())),
        })
    }

    fn delete_delivery(&self, number: &str) -> Result<(), StorageError> {
        self.write(None, |disk| drop(disk.deliveries.remove(number)))
    }

    fn delete_all(&self) -> Result<(), StorageError> {
        self.write(None, |disk| *disk = Disk::default())
    }
}
