//! The outbox: publishes events to the hub exactly once and in order, whichever component fails.
//!
//! Event numbers only grow. They come from ranges reserved on disk, so that a restart never assigns a number twice.
//! Bundles are sent in batches, one batch at a time, in the order of their numbers. The hub stores the last number of
//! each store and skips events it already has. Unacknowledged events are sent again. Invariant:
//! `acknowledged ≤ sent ≤ next number`.

use std::collections::VecDeque;

use super::StorageError;
use crate::base::id::ContextId;
use crate::events::bundle::Bundle;

/// How many numbers are reserved at a time; each reservation writes one row.
const RESERVATION: u64 = 10_000;
/// Maximum number of items in a batch.
const MAX_ITEMS: u64 = 400;
/// A batch of this size takes no further bundle; the hub stores it in one row of at most 2 MB.
const MAX_BYTES: usize = 512 * 1024;

/// The events that the hub has not acknowledged.
#[derive(Default)]
pub struct Outbox {
    next: u64,
    reserved: u64,
    acknowledged: u64,
    pending: VecDeque<PendingBundle>,
    /// Ended contexts with the number of their last event: the live row stays until the hub has that event.
    ended: VecDeque<(u64, ContextId)>,
    flushing: bool,
}

/// A bundle in the form in which it will be sent.
struct PendingBundle {
    first: u64,
    last: u64,
    count: u64,
    text: String,
}

/// A batch for the hub. `bundles` is a JSON array of bundles; the numbers are those of the events in it.
pub struct Batch {
    pub first: u64,
    pub last: u64,
    pub count: u64,
    pub bundles: String,
}

impl Outbox {
    /// Continues above the numbers that were reserved before. The hub has every event up to `acknowledged`.
    pub fn resume(&mut self, reserved: u64, acknowledged: u64) {
        self.next = reserved;
        self.reserved = reserved;
        self.acknowledged = acknowledged;
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether the hub lacks the last event of an ended context.
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// The bound to reserve on disk before `count` more numbers are assigned. `None` if the reservation suffices.
    pub fn reservation_needed(&self, count: u64) -> Option<u64> {
        (self.next + count >= self.reserved).then_some(self.next + count + RESERVATION)
    }

    /// The reservation up to `bound` is on disk.
    pub fn set_reserved(&mut self, bound: u64) {
        self.reserved = bound;
    }

    pub fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn push(&mut self, bundle: &Bundle) -> Result<(), StorageError> {
        if let (Some(first), Some(last)) = (bundle.items.first(), bundle.items.last()) {
            let (first, last, count) = (first.number, last.number, bundle.items.len() as u64);
            let text = serde_json::to_string(bundle)?;
            self.pending.push_back(PendingBundle { first, last, count, text });
        }
        Ok(())
    }

    /// A context has ended; `last` is the number of its last event. Must be called in the order of these numbers.
    pub fn context_ended(&mut self, last: u64, id: ContextId) {
        self.ended.push_back((last, id));
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns true if the caller must flush now; then no other caller gets true until [`Outbox::finish_flush`].
    pub fn begin_flush(&mut self) -> bool {
        let begins = !self.flushing && !self.pending.is_empty();
        self.flushing |= begins;
        begins
    }

    pub fn finish_flush(&mut self) {
        self.flushing = false;
    }

    /// The next batch. It stays in the outbox until it is acknowledged.
    pub fn batch(&self) -> Option<Batch> {
        let first = self.pending.front()?.first;
        let mut batch = Batch { first, last: first, count: 0, bundles: String::from("[") };
        for bundle in &self.pending {
            if batch.count >= MAX_ITEMS || batch.bundles.len() >= MAX_BYTES {
                break;
            }
            if batch.count > 0 {
                batch.bundles.push(',');
            }
            batch.bundles.push_str(&bundle.text);
            batch.count += bundle.count;
            batch.last = bundle.last;
        }
        batch.bundles.push(']');
        Some(batch)
    }

    /// The hub has every event up to `number`: removes them and returns the contexts whose live rows are not needed.
    pub fn acknowledge(&mut self, number: u64) -> Vec<ContextId> {
        self.acknowledged = self.acknowledged.max(number);
        while self.pending.front().is_some_and(|bundle| bundle.last <= number) {
            self.pending.pop_front();
        }
        let mut published = Vec::new();
        while self.ended.front().is_some_and(|(last, _)| *last <= number) {
            if let Some((_, id)) = self.ended.pop_front() {
                published.push(id);
            }
        }
        published
    }
}
