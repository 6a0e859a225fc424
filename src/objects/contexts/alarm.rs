//! What happens by time alone: leases end, deadlines pass, waiting attempts come due.
//!
//! One alarm covers all of it. It moves only when it must come sooner: every move is a row written.
//! The handler never fails for one context's sake, and always sets the next alarm.

use std::rc::Rc;

use crate::core::context::{Head, Verdict};
use crate::core::id::ContextId;
use crate::core::lifecycle::Status;
use crate::core::time::Timestamp;
use crate::platform::{clock, log, objects, random, tasks};

use super::{Identity, Store, last_number};

/// A doorbell that nobody answered is rung again after this, in milliseconds.
const RING_AGAIN_MS: u64 = 5_000;
/// At most this many doorbells at a time; each consumer goes on as long as there is work.
const MOST_RINGS: usize = 20;
/// After a restart leases are given this long to be renewed before they count as lost.
const GRACE_MS: u64 = 5_500;
/// An alarm this close is as good as one set anew.
const SLACK_MS: u64 = 50;

impl Store {
    /// Makes sure the object wakes by then.
    pub(super) fn wake_at(&self, at: Timestamp) {
        if self.alarm_at.get().is_none_or(|set| at.plus_ms(SLACK_MS) < set) {
            self.tables.set_alarm(at);
            self.alarm_at.set(Some(at));
        }
    }

    /// After a context was admitted or leased: wakes for it, and rings when nobody runs it.
    pub(super) fn wake_for(self: &Rc<Self>, head: &Head, now: Timestamp) {
        if head.status == Status::Queued {
            self.ring_for(head, now);
        } else {
            self.wake_at(head.due());
        }
    }

    pub(super) fn ring_for(self: &Rc<Self>, head: &Head, now: Timestamp) {
        if head.is_ready(now) {
            self.wake_at(now.plus_ms(RING_AGAIN_MS));
            self.ring(1);
        } else {
            self.wake_at(head.due());
        }
    }

    fn ring(self: &Rc<Self>, times: usize) {
        let Some(Identity { tenant, store }) = self.identity.borrow().clone() else {
            return;
        };
        self.rang_at.set(clock::now());
        let name = store.object_name(&tenant);
        tasks::spawn(async move {
            for _ in 0..times {
                if let Err(failure) = objects::ring_doorbell(&name).await {
                    // The alarm rings again.
                    log(&format!(
                        r#"{{"level":"warn","message":"doorbell failed","store":{name:?},"detail":{:?}}}"#,
                        failure.0
                    ));
                }
            }
        });
    }

    fn lease_ends(&self, id: &str, on_disk: Timestamp) -> Timestamp {
        let renewed = self.renewed.borrow().get(id).copied();
        renewed.map_or(on_disk, |until| until.max(on_disk)).max(self.woke_at.plus_ms(GRACE_MS))
    }

    /// Looks at all that is due.
    pub(super) fn sweep(self: &Rc<Self>) {
        let now = clock::now();
        let due = match self.tables.by_due() {
            Ok(due) => due,
            Err(failure) => {
                log(&format!(r#"{{"level":"error","message":"sweep failed","detail":{:?}}}"#, failure.0));
                return;
            }
        };
        // Whoever has become ready since the last look is rung for; who was rung for, only once in a while.
        let last_look = self.looked_at.replace(now);
        let again = now.since(self.rang_at.get()) >= RING_AGAIN_MS - SLACK_MS;
        let mut rings = 0;
        for row in due.iter().take_while(|row| row.due <= now) {
            if self.ended.borrow().contains(&row.id) {
                continue;
            }
            let Some(id) = ContextId::parse(&row.id) else { continue };
            match self.tick(&id, now) {
                Ok(true) => rings += usize::from(again || row.due > last_look),
                Ok(false) => {}
                Err(failure) => {
                    log(&format!(
                        r#"{{"level":"error","message":"tick failed","context":"{id}","detail":{:?}}}"#,
                        failure.0
                    ));
                }
            }
        }
        if rings > 0 {
            self.ring(rings.min(MOST_RINGS));
        }
        if let Err(failure) = self.tables.forget_claims(now) {
            log(&format!(r#"{{"level":"warn","message":"keys not forgotten","detail":{:?}}}"#, failure.0));
        }
        self.renewed.borrow_mut().retain(|_, until| *until > now);
    }

    /// One context whose time has come; true when it waits for somebody to run it.
    fn tick(self: &Rc<Self>, id: &ContextId, now: Timestamp) -> Result<bool, crate::platform::Failure> {
        let Some(mut head) = self.take_live(id)? else {
            return Ok(false);
        };
        if let Some(lease) = &mut head.lease {
            lease.until = self.lease_ends(id.as_str(), lease.until);
        }
        let known = last_number(&head);
        let verdict = head.tick(now, random::number());
        if verdict != Verdict::Unchanged {
            self.keep(&mut head, verdict, None, known)?;
        }
        Ok(head.is_ready(now))
    }

    /// Sets the alarm for whatever comes next.
    pub(super) fn arm(&self) {
        let Ok(due) = self.tables.by_due() else {
            self.wake_at(clock::now().plus_ms(RING_AGAIN_MS));
            return;
        };
        let now = clock::now();
        let next = due.iter().map(|row| {
            if self.ended.borrow().contains(&row.id) {
                // Ended, but not told: soon again.
                return now.plus_ms(RING_AGAIN_MS);
            }
            match row.status {
                Some(Status::Queued) if row.due <= now => self.rang_at.get().plus_ms(RING_AGAIN_MS).max(now),
                Some(Status::Executing) => self.lease_ends(&row.id, row.due).min(row.expires),
                _ => row.due,
            }
        });
        if let Some(next) = next.min() {
            self.wake_at(next.max(now.plus_ms(SLACK_MS)));
        }
    }
}
