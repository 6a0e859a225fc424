//! Telling the hub what happened, exactly once and in order, whoever dies on the way.
//!
//! Events have numbers that only grow, from portions reserved on disk (so a restart never gives one twice).
//! Bundles are sent one batch at a time, in the order of their numbers; the hub keeps the last number it has
//! of each store and skips what it knows. What is not acknowledged is told again. Invariant:
//! `acknowledged ≤ sent ≤ next number`.

use std::collections::VecDeque;

use super::Broken;
use crate::base::id::ContextId;
use crate::events::bundle::Bundle;

/// Numbers reserved at a time; one row written for each portion.
const PORTION: u64 = 10_000;
/// The largest batch, in items.
const MAX_ITEMS: u64 = 400;
/// A batch grows no further beyond this; the hub keeps it in one row of at most 2 MB.
const MAX_BYTES: usize = 512 * 1024;

#[derive(Default)]
pub struct Outbox {
    next: u64,
    reserved: u64,
    waiting: VecDeque<Waiting>,
    /// Ended contexts with the number of their last event: their live rows go when the hub has it.
    ended: VecDeque<(u64, ContextId)>,
    flushing: bool,
}

/// A bundle as it will be sent.
struct Waiting {
    first: u64,
    last: u64,
    count: u64,
    text: String,
}

/// A batch on its way to the hub: bundles as a JSON list.
pub struct Batch {
    pub first: u64,
    pub last: u64,
    pub count: u64,
    pub bundles: String,
}

impl Outbox {
    /// Begins with what was reserved before: numbers go on beyond it.
    pub fn start(&mut self, reserved: u64) {
        self.next = reserved;
        self.reserved = reserved;
    }

    /// The bound to write down before `count` more numbers are given, if they do not fit into the portion.
    pub fn lacks(&self, count: u64) -> Option<u64> {
        (self.next + count >= self.reserved).then_some(self.next + count + PORTION)
    }

    /// The bound is on disk.
    pub fn reserved(&mut self, bound: u64) {
        self.reserved = bound;
    }

    pub fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn push(&mut self, bundle: &Bundle) -> Result<(), Broken> {
        if let (Some(first), Some(last)) = (bundle.items.first(), bundle.items.last()) {
            let (first, last, count) = (first.number, last.number, bundle.items.len() as u64);
            let text = serde_json::to_string(bundle)?;
            self.waiting.push_back(Waiting { first, last, count, text });
        }
        Ok(())
    }

    /// `last` is the number of the context's last event; they come in order.
    pub fn ended(&mut self, last: u64, id: ContextId) {
        self.ended.push_back((last, id));
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True for the one who is to flush now.
    pub fn begin(&mut self) -> bool {
        let begins = !self.flushing && !self.waiting.is_empty();
        self.flushing |= begins;
        begins
    }

    pub fn finish(&mut self) {
        self.flushing = false;
    }

    /// The next batch; it stays here until it is acknowledged.
    pub fn batch(&self) -> Option<Batch> {
        let first = self.waiting.front()?.first;
        let mut batch = Batch { first, last: first, count: 0, bundles: String::from("[") };
        for bundle in &self.waiting {
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

    /// The hub has everything up to `number`: forgets it and gives the contexts whose live rows may go.
    pub fn acknowledged(&mut self, number: u64) -> Vec<ContextId> {
        while self.waiting.front().is_some_and(|bundle| bundle.last <= number) {
            self.waiting.pop_front();
        }
        let mut clean = Vec::new();
        while self.ended.front().is_some_and(|(last, _)| *last <= number) {
            if let Some((_, id)) = self.ended.pop_front() {
                clean.push(id);
            }
        }
        clean
    }
}
