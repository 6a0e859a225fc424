//! The context store: every decision about the contexts of one store, and the memory between decisions. The lifecycle
//! of a single context belongs to `context`.
//!
//! It keeps contexts in a [`Storage`]: the store's tables on the platform, a map in the simulation. A method takes the
//! time, changes the storage in one atomic write, and leaves in [`Effects`] what the shell must do: set the alarm, wake
//! a consumer, publish events, wake waiting clients. Everything in memory may be lost at any moment;
//! [`ContextStore::open`] recovers from the storage alone. Invariants:
//!
//! * an admitted context ends exactly once, at its deadline at the latest;
//! * every step and attempt has a number, and is published in the order of the numbers until the hub has it;
//! * every stored context that has not ended has an alarm set.

mod admission;
pub mod answers;
mod callbacks;
pub mod listing;
#[cfg(any(test, feature = "test-support"))]
pub mod memory;
pub mod messages;
mod outbox;
mod outcome;
pub mod preconditions;
pub mod replies;
pub mod result_pieces;
mod spare_rows;
mod storage;
mod timers;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use serde_json::value::RawValue;

use crate::base::alarm::Alarm;
use crate::base::id::ContextId;
use crate::base::order;
use crate::base::storage_error::StorageError;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;
use crate::context::status::Status;
use crate::context::{Head, Rejection};
use crate::events::bundle::{self, EventResult, last_number};

pub use admission::{AdmitResult, ClaimLookup, NextAttempt, WorkClaim};
pub use answers::ContextRequest;
pub use callbacks::CallbackResult;
pub use outbox::{Batch, Outbox};
pub use outcome::{CancelResult, CommitResult};
use spare_rows::SpareRows;
pub use storage::{DueContext, EndedContext, Insertion, ReadyContext, Storage, StoredContext};

/// Maximum number of heads of leased contexts kept in memory.
const MAX_CACHED_HEADS: usize = 2_000;
/// Maximum number of events of one context between two writes.
const MAX_EVENTS: u64 = 8;

/// What ends a wait for a context before the context ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct WaitCondition {
    /// Its service has reported progress after the event with this number.
    pub progress_after: Option<u64>,
    /// It has asked for input more often than this.
    pub input_requests: Option<usize>,
    /// Its service has accepted the work and will finish it in the background.
    pub accepted: bool,
}

/// What the shell must do now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Set the alarm to this time, replacing a later one.
    pub alarm: Option<Timestamp>,
    /// Number of wake-up messages to send to consumers.
    pub wakeups: u64,
    /// There are events to publish.
    pub publish: bool,
    /// Contexts that have ended or ask for input: wake the clients that wait for them.
    pub settled: Vec<ContextId>,
}

/// The result of a change to a context that has not ended.
#[derive(Debug)]
pub enum ChangeResult {
    Done(Box<Head>),
    /// The context has ended, or its state does not allow the change.
    Rejected(Box<Head>, Rejection),
    NotFound,
}

/// The decisions about the contexts of one store. The shell carries out [`ContextStore::take_effects`] after each call.
pub struct ContextStore<S> {
    storage: S,
    pub outbox: Outbox,
    /// Ended contexts that still have a live row.
    ended: HashSet<ContextId>,
    /// Those of which the hub has every event: the next admission overwrites the row of one.
    spare: SpareRows,
    /// The number of the last event of a context that has, or had, a live row.
    last_of_rows: u64,
    /// The number up to which the storage says that the hub has every event.
    stored_acknowledged: u64,
    /// The hub may have been sent the events in the outbox before, by an earlier instance.
    publishes_again: bool,
    /// Contexts with live rows that only a later version can read. They are left to it.
    set_aside: HashSet<ContextId>,
    /// Leases renewed beyond the time that is stored.
    renewed: HashMap<ContextId, Timestamp>,
    /// Queued contexts reserved for a worker, until the given time.
    offered: HashMap<ContextId, Timestamp>,
    /// Heads of leased contexts as they are stored.
    leased_heads: HashMap<ContextId, Rc<Head>>,
    opened_at: Timestamp,
    alarm: Alarm,
    /// While an alarm runs: the time it was set for.
    running_alarm: Timestamp,
    last_wakeup_at: Timestamp,
    last_sweep_at: Timestamp,
    retention_ms: u64,
    timing: Timing,
    effects: Effects,
}

impl<S: Storage> ContextStore<S> {
    /// Recovers from `storage`. Every event that may be unpublished belongs to a live row. `retention_ms`: how long
    /// ended contexts are kept.
    pub fn open(storage: S, retention_ms: u64, timing: Timing, now: Timestamp) -> Result<Self, StorageError> {
        let mut store = Self {
            storage,
            outbox: Outbox::default(),
            ended: HashSet::new(),
            spare: SpareRows::new(now),
            last_of_rows: 0,
            stored_acknowledged: 0,
            publishes_again: false,
            set_aside: HashSet::new(),
            renewed: HashMap::new(),
            offered: HashMap::new(),
            leased_heads: HashMap::new(),
            opened_at: now,
            alarm: Alarm::default(),
            running_alarm: Timestamp(0),
            last_wakeup_at: Timestamp(0),
            last_sweep_at: Timestamp(0),
            retention_ms,
            timing,
            effects: Effects::default(),
        };
        store.stored_acknowledged = store.storage.acknowledged()?;
        store.outbox.resume(store.storage.reserved_number()?, store.stored_acknowledged);
        store.recover()?;
        // The alarm of the previous instance is unknown: the next one that is set must not replace it with a later one.
        store.arm_next(now)?;
        Ok(store)
    }

    /// Sets how long ended contexts are kept from now on, in milliseconds.
    pub fn retain(&mut self, retention_ms: u64) {
        self.retention_ms = retention_ms;
    }

    fn recover(&mut self) -> Result<(), StorageError> {
        let acknowledged = self.stored_acknowledged;
        let mut published = Vec::new();
        let mut unpublished: Vec<(Head, Option<Box<RawValue>>, bool)> = Vec::new();
        for (id, ended) in self.storage.unpublished()? {
            match ended {
                Some((head, _)) if last_number(&head) <= acknowledged => published.push(id.clone()),
                Some((head, small)) => unpublished.push((head, small, true)),
                None => drop(self.set_aside.insert(id.clone())),
            }
            self.ended.insert(id);
        }
        for (id, head) in self.storage.live_heads()? {
            match head {
                _ if self.ended.contains(&id) => {}
                Some(head) => unpublished.push((head, None, false)),
                None => drop(self.set_aside.insert(id)),
            }
        }
        // One bundle per item, in the order of the numbers: the hub accepts them in no other order.
        let mut bundles: Vec<bundle::Bundle> = Vec::new();
        order::sort_by_key(&mut unpublished, |(head, ..)| last_number(head));
        for (head, small, has_ended) in &unpublished {
            self.last_of_rows = self.last_of_rows.max(last_number(head));
            let whole = bundle::bundle(head, EventResult::stored(head, small.as_deref()), acknowledged);
            let mut after = whole.previous_number;
            for item in &whole.items {
                bundles.push(bundle::Bundle { items: vec![item.clone()], previous_number: after, ..whole.clone() });
                after = Some(item.number);
            }
            if *has_ended {
                self.outbox.context_ended(last_number(head), head.id().clone());
            }
        }
        order::sort_by_key(&mut bundles, |bundle| bundle.items.first().map(|item| item.number));
        for bundle in bundles {
            self.outbox.push(&bundle)?;
        }
        self.effects.publish = !self.outbox.is_empty();
        self.publishes_again = self.effects.publish;
        // Rows that cannot be deleted stay spare.
        let _ = self.release(published);
        Ok(())
    }

    /// Whether nothing is to be done for a live row: its context has ended, or is left to a later version.
    fn needs_nothing(&self, id: &ContextId) -> bool {
        self.ended.contains(id) || self.set_aside.contains(id)
    }

    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// Takes the effects that have accumulated since the last call.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// The head of a live context, in order to change it; the cached copy is dropped.
    fn take_live(&mut self, id: &ContextId) -> Result<Option<Head>, StorageError> {
        if let Some(head) = self.leased_heads.remove(id) {
            return Ok(Some(Rc::unwrap_or_clone(head)));
        }
        self.stored_live_head(id)
    }

    /// The stored head of a context that has not ended.
    fn stored_live_head(&self, id: &ContextId) -> Result<Option<Head>, StorageError> {
        if self.ended.contains(id) { Ok(None) } else { self.storage.live_head(id) }
    }

    /// A context with its parameters and result, live or ended.
    pub fn get(&self, id: &ContextId) -> Result<Option<StoredContext>, StorageError> {
        let live = if self.ended.contains(id) { None } else { self.storage.live(id)? };
        live.map_or_else(|| self.storage.done(id), |live| Ok(Some(live)))
    }

    /// Whether a client that waits under `condition` must go on waiting.
    pub fn should_wait(&self, id: &ContextId, condition: WaitCondition) -> Result<bool, StorageError> {
        let has_progress = |head: &Head| {
            condition
                .progress_after
                .is_some_and(|after| head.progress.as_ref().is_some_and(|progress| progress.event > after))
        };
        let asks = |head: &Head| {
            head.status == Status::InputRequired
                && condition.input_requests.is_some_and(|known| head.input_requests() > known)
        };
        let met = |head: &Head| asks(head) || has_progress(head) || condition.accepted && head.background.is_some();
        Ok(self.stored_live_head(id)?.is_some_and(|head| !met(&head)))
    }

    /// Assigns numbers to the new events of a context. The numbers are reserved in the storage first.
    fn assign_numbers(&mut self, head: &mut Head) -> Result<(), StorageError> {
        if let Some(bound) = self.outbox.reservation_needed(MAX_EVENTS) {
            self.storage.reserve_number(bound)?;
            self.outbox.set_reserved(bound);
        }
        bundle::assign_numbers(head, || self.outbox.next_number());
        Ok(())
    }

    /// Puts the events with a number above `known` of a context with a live row into the outbox.
    fn publish(&mut self, head: &Head, result: Option<&RawValue>, known: u64) -> Result<(), StorageError> {
        self.last_of_rows = self.last_of_rows.max(last_number(head));
        self.publish_only(head, result, known)
    }

    fn publish_only(&mut self, head: &Head, result: Option<&RawValue>, known: u64) -> Result<(), StorageError> {
        self.outbox.push(&bundle::bundle(head, result.into(), known))?;
        self.effects.publish = true;
        Ok(())
    }

    /// The hub has stored every event up to this number.
    pub fn acknowledge(&mut self, number: u64) -> Result<(), StorageError> {
        let published = self.outbox.acknowledge(number);
        self.release(published)?;
        if self.publishes_again && self.outbox.is_empty() {
            self.store_acknowledged()?;
            self.publishes_again = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
