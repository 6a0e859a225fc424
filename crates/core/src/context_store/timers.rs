//! What happens by time alone: leases end, deadlines pass, waiting attempts come due, old contexts go.
//!
//! One alarm covers all of it. It moves only when it must come sooner: every move is a row written.

use super::{Broken, Ledger, Shelf};
use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::context::status::Status;
use crate::context::{Head, Verdict};
use crate::events::bundle::last_number;

/// At most this many doorbells at a time; each consumer goes on as long as there is work.
const MAX_RINGS: u64 = 20;
/// How much sooner an alarm may come than it was set for, as clocks differ, in milliseconds.
const EARLY_MS: u64 = 500;
/// An alarm this close is as good as one set anew.
const SLACK_MS: u64 = 50;
/// Old contexts deleted at a time.
const PIECE: u64 = 500;
/// The next piece follows after this.
const NEXT_PIECE_MS: u64 = 1_000;
/// Old contexts have an alarm of their own only when they are due within this; later ones are left to the sweep of
/// every minute, so that a store at rest does not write for them.
const SOON_MS: u64 = 3_600_000;

impl<S: Shelf> Ledger<S> {
    /// Makes sure the store wakes by then.
    pub(super) fn wake_at(&mut self, at: Timestamp) {
        // While an alarm runs, one set for its very time is taken for itself, and ends with it.
        let at = at.max(self.looked_at.max(self.woken_for).plus_ms(1));
        if self.alarm_at.is_none_or(|set| at.plus_ms(SLACK_MS) < set) {
            self.alarm_at = Some(at);
            self.effects.alarm = Some(at);
        }
    }

    /// Wakes again before long: something is still to be told.
    pub fn wake_soon(&mut self, now: Timestamp) {
        self.wake_at(now.plus_ms(self.timing.ring_again_ms));
    }

    /// After a context was admitted or leased: wakes for it, and rings when nobody runs it.
    pub(super) fn wake_for(&mut self, head: &Head, now: Timestamp) {
        if head.status == Status::Queued && !self.is_offered(head.id(), now) {
            self.ring_for(head, now);
        } else if let Some(until) = self.offered.get(head.id()).copied() {
            self.wake_at(head.due().max(until).min(head.admission.expires_at));
        } else {
            self.wake_at(head.due());
        }
    }

    pub(super) fn ring_for(&mut self, head: &Head, now: Timestamp) {
        if head.is_ready(now) {
            self.wake_at(now.plus_ms(self.timing.ring_again_ms).min(head.admission.expires_at));
            self.ring(1, now);
        } else {
            self.wake_at(head.due());
        }
    }

    fn ring(&mut self, times: u64, now: Timestamp) {
        self.rang_at = now;
        self.effects.rings += times;
    }

    /// What waits can be begun at this time, and not before: then is when to ring again, if that is sooner.
    pub fn ring_at(&mut self, at: Timestamp, now: Timestamp) {
        let at = at.max(now.plus_ms(SLACK_MS));
        if at < self.rang_at.plus_ms(self.timing.ring_again_ms) {
            self.rang_at = Timestamp(at.0.saturating_sub(self.timing.ring_again_ms));
            self.wake_at(at);
        }
    }

    fn lease_ends(&self, id: &ContextId, on_shelf: Timestamp) -> Timestamp {
        let renewed = self.renewed.get(id).copied();
        renewed.map_or(on_shelf, |until| until.max(on_shelf)).max(self.woke_at.plus_ms(self.timing.lease_grace_ms))
    }

    /// The alarm has come: looks at all that is due, and sets the next one. Gives what went wrong on the way; one
    /// context's trouble keeps no other from its turn, nor the next alarm from being set.
    pub fn alarm(&mut self, now: Timestamp, random: impl FnMut() -> u64) -> Vec<(Option<ContextId>, Broken)> {
        // It may come a moment before its time, as this clock tells it; or once more, long before the next. Whom it
        // brought to life does not know what it was set for.
        let set = self.alarm_at.take().filter(|at| at.since(now) < EARLY_MS);
        let born = self.woke_at == now;
        self.woken_for = if born { now.plus_ms(EARLY_MS) } else { set.unwrap_or(now) };
        let trouble = self.sweep(now, random);
        self.woken_for = Timestamp(0);
        trouble
    }

    /// As [`Ledger::alarm`], where the alarm that is set stays, unless its time has passed: such a one has died.
    pub fn sweep(&mut self, now: Timestamp, mut random: impl FnMut() -> u64) -> Vec<(Option<ContextId>, Broken)> {
        self.alarm_at = self.alarm_at.filter(|at| *at > now);
        let mut trouble = Vec::new();
        self.offered.retain(|_, until| *until > now);
        match self.shelf.by_due() {
            Ok(due) => {
                // Whoever has become ready since the last look is rung for; who was rung for, only once in a while.
                let last_look = std::mem::replace(&mut self.looked_at, now);
                let again = now.since(self.rang_at) >= self.timing.ring_again_ms - SLACK_MS;
                let mut rings = 0;
                for row in due.iter().take_while(|row| row.due <= now) {
                    if self.ended.contains(&row.id) {
                        continue;
                    }
                    match self.tick(&row.id, now, random()) {
                        Ok(true) => rings += u64::from(again || row.due > last_look),
                        Ok(false) => {}
                        Err(broken) => trouble.push((Some(row.id.clone()), broken)),
                    }
                }
                if rings > 0 {
                    self.ring(rings.min(MAX_RINGS), now);
                }
            }
            Err(broken) => trouble.push((None, broken)),
        }
        self.renewed.retain(|_, until| *until > now);
        trouble.extend(self.shelf.forget_claims(now).err().map(|broken| (None, broken)));
        trouble.extend(self.forget(now).err().map(|broken| (None, broken)));
        trouble.extend(self.arm(now).err().map(|broken| (None, broken)));
        trouble
    }

    /// Whether something has been ready to run for this long, in milliseconds, and nobody has taken it: whoever was
    /// rung for is busy with other stores' contexts.
    pub fn is_kept_waiting(&self, ms: u64, now: Timestamp) -> Result<bool, Broken> {
        let ready = |row: &super::Due| {
            row.status == Some(Status::Queued)
                && row.due.plus_ms(ms) <= now
                && !self.ended.contains(&row.id)
                && !self.is_offered(&row.id, now)
        };
        Ok(self.shelf.by_due()?.iter().any(ready))
    }

    /// One context whose time has come; true when it waits for somebody to run it.
    fn tick(&mut self, id: &ContextId, now: Timestamp, random: u64) -> Result<bool, Broken> {
        let Some(mut head) = self.take_live(id)? else {
            return Ok(false);
        };
        if let Some(lease) = &mut head.lease {
            lease.until = self.lease_ends(id, lease.until);
        }
        let known = last_number(&head);
        let verdict = head.tick(now, random);
        if verdict != Verdict::Unchanged {
            self.keep(&mut head, verdict, None, known)?;
            self.renewed.remove(id);
        }
        Ok(head.is_ready(now) && !self.is_offered(id, now))
    }

    /// Deletes a piece of what is past its time.
    fn forget(&mut self, now: Timestamp) -> Result<(), Broken> {
        let before = Timestamp(now.0.saturating_sub(self.retention_ms));
        if self.shelf.forget_done(before, PIECE)? == PIECE {
            self.wake_at(now.plus_ms(NEXT_PIECE_MS));
        }
        Ok(())
    }

    /// Sets the alarm for whatever comes next.
    pub(super) fn arm(&mut self, now: Timestamp) -> Result<(), Broken> {
        let due = match self.shelf.by_due() {
            Ok(due) => due,
            Err(broken) => {
                self.wake_soon(now);
                return Err(broken);
            }
        };
        let next = due.iter().map(|row| {
            if self.ended.contains(&row.id) {
                // Ended, but not told: soon again.
                return now.plus_ms(self.timing.ring_again_ms);
            }
            match row.status {
                Some(Status::Queued) => match self.offered.get(&row.id) {
                    Some(until) => row.due.max(*until).min(row.expires),
                    None if row.due <= now => self.rang_at.plus_ms(self.timing.ring_again_ms).max(now).min(row.expires),
                    None => row.due,
                },
                Some(Status::Executing | Status::InputRequired) => self.lease_ends(&row.id, row.due).min(row.expires),
                _ => row.due,
            }
        });
        if let Some(next) = next.min() {
            self.wake_at(next.max(now.plus_ms(SLACK_MS)));
        }
        let oldest = self.shelf.oldest_done()?.map(|at| at.plus_ms(self.retention_ms));
        if let Some(goes) = oldest.filter(|at| at.since(now) < SOON_MS) {
            self.wake_at(goes.max(now.plus_ms(NEXT_PIECE_MS)));
        }
        Ok(())
    }
}
