//! What happens by time alone: leases expire, deadlines pass, retries become due, old contexts are deleted.
//!
//! One alarm covers all of it.

use super::{ContextStore, Storage, StorageError};
use crate::base::alarm::SLACK_MS;
use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;
use crate::context::status::Status;
use crate::context::{Head, Transition};
use crate::events::bundle::last_number;

/// Maximum number of wake-up messages at a time; each consumer continues as long as there is work.
const MAX_WAKEUPS: u64 = 20;
/// An alarm that was set by an earlier instance may be repeated this long after the start of the present one, in
/// milliseconds.
const REPETITION_MS: u64 = 10_000;
/// How many old contexts are deleted at a time.
const DELETE_BATCH: u64 = 500;
/// The delay before the next batch is deleted.
const NEXT_BATCH_MS: u64 = 1_000;
/// Old contexts get an alarm only if they expire within this time. The sweep of every minute covers the others, so that
/// an idle store does not write for them.
const EXPIRY_ALARM_MS: u64 = 3_600_000;

impl<S: Storage> ContextStore<S> {
    /// Ensures that an alarm fires at `at` or earlier.
    pub(super) fn arm_by(&mut self, at: Timestamp) {
        // While an alarm runs, another one set for the same time would be taken for it, and removed when it ends.
        let at = at.max(self.last_sweep_at.max(self.running_alarm).plus_ms(1));
        if let Some(at) = self.alarm.by(at) {
            self.effects.alarm = Some(at);
        }
    }

    /// Sets an alarm soon, because events are still unpublished.
    pub fn arm_soon(&mut self, now: Timestamp) {
        self.arm_by(now.plus_ms(self.timing.wakeup_retry_ms));
    }

    /// Sets the alarm for a context that was admitted or leased, and wakes a consumer if no worker runs it.
    pub(super) fn schedule(&mut self, head: &Head, now: Timestamp) {
        if head.status == Status::Queued && !self.is_offered(head.id(), now) {
            self.enqueue_wakeup_for(head, now);
        } else if let Some(until) = self.offered.get(head.id()).copied() {
            self.arm_by(head.due().max(until).min(head.admission.expires_at));
        } else {
            self.arm_by(head.due());
        }
    }

    /// Wakes a consumer for a queued context, now or when it may start.
    pub(super) fn enqueue_wakeup_for(&mut self, head: &Head, now: Timestamp) {
        if head.is_ready(now) {
            self.arm_by(now.plus_ms(self.timing.wakeup_retry_ms).min(head.admission.expires_at));
            self.enqueue_wakeups(1, now);
        } else {
            self.arm_by(head.due());
        }
    }

    fn enqueue_wakeups(&mut self, times: u64, now: Timestamp) {
        self.last_wakeup_at = now;
        self.effects.wakeups += times;
    }

    /// Queued contexts can start at `at` and not before: wakes consumers then, if the next wake-up would come later.
    pub fn wake_consumers_at(&mut self, at: Timestamp, now: Timestamp) {
        let at = at.max(now.plus_ms(SLACK_MS));
        if at < self.last_wakeup_at.plus_ms(self.timing.wakeup_retry_ms) {
            self.last_wakeup_at = Timestamp(at.0.saturating_sub(self.timing.wakeup_retry_ms));
            self.arm_by(at);
        }
    }

    fn lease_expiry(&self, id: &ContextId, stored: Timestamp) -> Timestamp {
        let renewed = self.renewed.get(id).copied();
        renewed.map_or(stored, |until| until.max(stored)).max(self.opened_at.plus_ms(self.timing.lease_grace_ms))
    }

    /// The alarm fired: processes everything that is due and sets the next alarm. Returns the errors; an error with one
    /// context does not stop the others, nor the next alarm from being set.
    pub fn alarm(&mut self, now: Timestamp, random: impl FnMut() -> u64) -> Vec<(Option<ContextId>, StorageError)> {
        let is_new = now.since(self.opened_at) < REPETITION_MS;
        self.running_alarm = self.alarm.take_running(now, !is_new);
        let errors = self.sweep(now, random);
        self.running_alarm = Timestamp(0);
        errors
    }

    /// Like [`ContextStore::alarm`], but keeps the alarm that is set, unless its time has passed and it was therefore
    /// lost.
    pub fn sweep(&mut self, now: Timestamp, mut random: impl FnMut() -> u64) -> Vec<(Option<ContextId>, StorageError)> {
        self.alarm.drop_before(now.plus_ms(1));
        let mut errors = Vec::new();
        self.offered.retain(|_, until| *until > now);
        match self.storage.by_due() {
            Ok(due) => {
                // Contexts that became ready since the last sweep get a wake-up; the others only at intervals.
                let last_look = std::mem::replace(&mut self.last_sweep_at, now);
                let again = now.since(self.last_wakeup_at) >= self.timing.wakeup_retry_ms - SLACK_MS;
                let mut wakeups = 0;
                for row in due.iter().take_while(|row| row.due <= now) {
                    if self.needs_nothing(&row.id) {
                        continue;
                    }
                    match self.tick(&row.id, now, random()) {
                        Ok(true) => wakeups += u64::from(again || row.due > last_look),
                        Ok(false) => {}
                        Err(error) => errors.push((Some(row.id.clone()), error)),
                    }
                }
                if wakeups > 0 {
                    self.enqueue_wakeups(wakeups.min(MAX_WAKEUPS), now);
                }
            }
            Err(error) => errors.push((None, error)),
        }
        self.renewed.retain(|_, until| *until > now);
        errors.extend(self.storage.delete_expired_claims(now).err().map(|error| (None, error)));
        errors.extend(self.delete_expired(now).err().map(|error| (None, error)));
        errors.extend(self.delete_unused(now).err().map(|error| (None, error)));
        errors.extend(self.store_acknowledged().err().map(|error| (None, error)));
        errors.extend(self.arm_next(now).err().map(|error| (None, error)));
        errors
    }

    /// Whether a context has been ready for `ms` milliseconds without being claimed, because the consumers that were
    /// woken are busy with other stores.
    pub fn has_overdue(&self, ms: u64, now: Timestamp) -> Result<bool, StorageError> {
        let ready = |row: &super::DueContext| {
            row.status == Some(Status::Queued)
                && row.due.plus_ms(ms) <= now
                && !self.needs_nothing(&row.id)
                && !self.is_offered(&row.id, now)
        };
        Ok(self.storage.by_due()?.iter().any(ready))
    }

    /// Processes one context that is due. Returns true if it is ready to run and not offered.
    fn tick(&mut self, id: &ContextId, now: Timestamp, random: u64) -> Result<bool, StorageError> {
        let Some(mut head) = self.take_live(id)? else {
            return Ok(false);
        };
        if let Some(lease) = &mut head.lease {
            lease.until = self.lease_expiry(id, lease.until);
        }
        let known = last_number(&head);
        let transition = head.tick(now, random);
        if transition != Transition::Unchanged {
            self.persist(&mut head, transition, None, known)?;
            self.renewed.remove(id);
        }
        let waits = head.is_ready(now) && !self.is_offered(id, now);
        if waits && head.is_bound_to_worker() {
            if self.has_lost_worker(&head, now) {
                let transition = head.lose_worker(now);
                self.persist(&mut head, transition, None, known)?;
            }
            return Ok(false);
        }
        Ok(waits)
    }

    /// Whether the worker that has the content of a queued context would have leased it, or renewed its offer.
    fn has_lost_worker(&self, head: &Head, now: Timestamp) -> bool {
        let Timing { offer_ms, lease_grace_ms, .. } = self.timing;
        now >= head.due().plus_ms(offer_ms) && now >= self.opened_at.plus_ms(lease_grace_ms.max(offer_ms))
    }

    /// Deletes a batch of contexts older than the retention.
    fn delete_expired(&mut self, now: Timestamp) -> Result<(), StorageError> {
        let before = Timestamp(now.0.saturating_sub(self.retention_ms));
        self.delete_spare(before)?;
        if self.storage.delete_done(before, DELETE_BATCH)? == DELETE_BATCH {
            self.arm_by(now.plus_ms(NEXT_BATCH_MS));
        }
        Ok(())
    }

    /// Sets the alarm for the next thing that is due.
    pub(super) fn arm_next(&mut self, now: Timestamp) -> Result<(), StorageError> {
        let due = match self.storage.by_due() {
            Ok(due) => due,
            Err(error) => {
                self.arm_soon(now);
                return Err(error);
            }
        };
        let next = due.iter().filter(|row| !self.needs_nothing(&row.id)).map(|row| match row.status {
            Some(Status::Queued) => match self.offered.get(&row.id) {
                Some(until) => row.due.max(*until).min(row.expires),
                None if row.due <= now => {
                    self.last_wakeup_at.plus_ms(self.timing.wakeup_retry_ms).max(now).min(row.expires)
                }
                None => row.due,
            },
            Some(Status::Executing | Status::InputRequired) => self.lease_expiry(&row.id, row.due).min(row.expires),
            _ => row.due,
        });
        if let Some(next) = next.min() {
            self.arm_by(next.max(now.plus_ms(SLACK_MS)));
        }
        if self.outbox.has_ended() {
            self.arm_soon(now);
        }
        let oldest = self.spare.oldest().map(ContextId::created_at);
        let oldest = oldest.into_iter().chain(self.storage.oldest_done()?).min();
        let oldest = oldest.map(|at| at.plus_ms(self.retention_ms));
        if let Some(expiry) = oldest.filter(|at| at.since(now) < EXPIRY_ALARM_MS) {
            self.arm_by(expiry.max(now.plus_ms(NEXT_BATCH_MS)));
        }
        Ok(())
    }
}
