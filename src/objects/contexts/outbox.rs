//! Telling the hub what happened, exactly once and in order, whoever dies on the way.
//!
//! Events have numbers that only grow, from portions reserved on disk (so a restart never gives one twice).
//! Bundles are sent one batch at a time, in the order of their numbers; the hub keeps the last number it has
//! of each store and skips what it knows. What is not acknowledged is told again. Invariant:
//! `acknowledged ≤ sent ≤ next number`.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::core::event::Bundle;
use crate::core::id::ContextId;

/// Numbers reserved at a time; one row written for each portion.
const PORTION: u64 = 10_000;
/// The largest batch, in items.
const MOST_ITEMS: usize = 400;

#[derive(Default)]
pub struct Outbox(RefCell<Inner>);

#[derive(Default)]
struct Inner {
    next: u64,
    reserved: u64,
    waiting: VecDeque<Bundle>,
    /// Ended contexts with the number of their last event: their live rows go when the hub has it.
    ended: VecDeque<(u64, ContextId)>,
    flushing: bool,
}

/// A batch on its way to the hub.
pub struct Batch {
    pub first: u64,
    pub last: u64,
    pub count: u64,
    pub bundles: Vec<Bundle>,
}

impl Outbox {
    /// Begins with what was reserved before: numbers go on beyond it.
    pub fn start(&self, reserved: u64) {
        let mut inner = self.0.borrow_mut();
        inner.next = reserved;
        inner.reserved = reserved;
    }

    /// The bound to write down before `count` more numbers are given, if they do not fit into the portion.
    pub fn reserve(&self, count: u64) -> Option<u64> {
        let mut inner = self.0.borrow_mut();
        if inner.next + count < inner.reserved {
            return None;
        }
        inner.reserved = inner.next + count + PORTION;
        Some(inner.reserved)
    }

    pub fn next_number(&self) -> u64 {
        let mut inner = self.0.borrow_mut();
        inner.next += 1;
        inner.next
    }

    pub fn push(&self, bundle: Bundle) {
        if !bundle.items.is_empty() {
            self.0.borrow_mut().waiting.push_back(bundle);
        }
    }

    /// `last` is the number of the context's last event; they come in order.
    pub fn ended(&self, last: u64, id: ContextId) {
        self.0.borrow_mut().ended.push_back((last, id));
    }

    pub fn is_empty(&self) -> bool {
        self.0.borrow().waiting.is_empty()
    }

    /// True for the one who is to flush now.
    pub fn begin(&self) -> bool {
        let mut inner = self.0.borrow_mut();
        let begins = !inner.flushing && !inner.waiting.is_empty();
        inner.flushing |= begins;
        begins
    }

    pub fn finish(&self) {
        self.0.borrow_mut().flushing = false;
    }

    /// The next batch; it stays here until it is acknowledged.
    pub fn batch(&self) -> Option<Batch> {
        let inner = self.0.borrow();
        let mut bundles = Vec::new();
        let mut count = 0;
        for bundle in &inner.waiting {
            if count >= MOST_ITEMS {
                break;
            }
            count += bundle.items.len();
            bundles.push(bundle.clone());
        }
        let first = bundles.first()?.items.first()?.number;
        let last = bundles.last()?.items.last()?.number;
        Some(Batch { first, last, count: count as u64, bundles })
    }

    /// The hub has everything up to `number`: forgets it and gives the contexts whose live rows may go.
    pub fn acknowledged(&self, number: u64) -> Vec<String> {
        let mut inner = self.0.borrow_mut();
        while inner.waiting.front().and_then(|b| b.items.last()).is_some_and(|item| item.number <= number) {
            inner.waiting.pop_front();
        }
        let mut clean = Vec::new();
        while inner.ended.front().is_some_and(|(last, _)| *last <= number) {
            if let Some((_, id)) = inner.ended.pop_front() {
                clean.push(id.to_string());
            }
        }
        clean
    }
}
