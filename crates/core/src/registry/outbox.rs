//! The registry's events on their way to the hub: in order, and each stored until the hub has it.

use serde_json::value::{RawValue, to_raw_value};

use super::Registry;
use super::storage::Storage;
use crate::base::storage_error::StorageError;
use crate::base::time::Timestamp;
use crate::events::bundle::Bundle;

/// Events for the hub: `count` items numbered from `first` to `last`, in order, in a list of bundles.
#[derive(Debug, Clone)]
pub struct Batch {
    pub first: u64,
    pub last: u64,
    pub count: u64,
    pub bundles: Box<RawValue>,
}

#[derive(Debug)]
pub(super) struct Outbox {
    /// A batch was sent, and its reply has not arrived.
    in_flight: bool,
    /// There may be events to send.
    has_events: bool,
}

impl Default for Outbox {
    /// A previous instance may have left events.
    fn default() -> Self {
        Self { in_flight: false, has_events: true }
    }
}

impl Outbox {
    pub(super) fn may_have_events(&mut self) {
        self.has_events = true;
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight
    }
}

impl<S: Storage> Registry<S> {
    /// The next batch, unless one is under way, or stores that can be reached do not know the change yet. One that
    /// cannot be read now is read at the next alarm.
    pub(super) fn next_batch(&mut self, now: Timestamp) -> Option<Batch> {
        if self.outbox.in_flight || !self.outbox.has_events {
            return None;
        }
        let queued = self.storage.queued_events();
        if queued.as_ref().is_ok_and(Vec::is_empty) {
            self.outbox.has_events = false;
            return None;
        }
        self.arm(now.plus_ms(self.config.timing.event_retry_ms));
        let queued = queued.ok()?;
        if !self.followers.were_pushed(now) {
            return None;
        }
        self.outbox.has_events = false;
        let ((first, _), (last, _)) = (queued.first()?, queued.last()?);
        let (first, last, count) = (*first, *last, queued.len() as u64);
        let numbered = |(number, mut bundle): (u64, Bundle)| {
            for item in &mut bundle.items {
                item.number = number;
            }
            bundle
        };
        let bundles: Vec<Bundle> = queued.into_iter().map(numbered).collect();
        let bundles = to_raw_value(&bundles).ok()?;
        self.outbox.in_flight = true;
        Some(Batch { first, last, count, bundles })
    }

    /// The hub has everything up to `head`, or did not reply: then the alarm sends the batch again.
    ///
    /// # Errors
    /// The storage cannot be written. The events are sent again, which the hub recognizes.
    pub fn published(&mut self, head: Option<u64>, now: Timestamp) -> Result<(), StorageError> {
        self.outbox.in_flight = false;
        match head {
            Some(head) => {
                self.storage.delete_published(head)?;
                self.outbox.has_events = true;
            }
            None => self.arm(now.plus_ms(self.config.timing.event_retry_ms)),
        }
        Ok(())
    }
}
