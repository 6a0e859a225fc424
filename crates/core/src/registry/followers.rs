//! The stores that follow a registry, and which of them know its revision.
//!
//! A store admits contexts under the revision that it knows, for at most `registry_silence_ms` after it sent its last
//! question to the registry that was answered ([`super::known_revision`]). So a change is effective at a store once the
//! store has confirmed the revision, or once that time is over: then it must ask before it admits anything. The answer
//! to a write waits until one of the two holds for every store.

use std::collections::BTreeMap;

use super::revision::Revision;
use crate::base::id::StoreId;
use crate::base::retries::doubling_pause_ms;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;

/// The pause before the first repetition of a push, in milliseconds; it doubles with each failure.
const FIRST_PAUSE_MS: u64 = 200;
const MAX_PAUSE_MS: u64 = 3_200;

/// A message to a store: the revision that it must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Push {
    pub store: StoreId,
    pub revision: Revision,
}

#[derive(Debug)]
struct Follower {
    /// The store knows this revision or a newer one.
    confirmed: Option<Revision>,
    /// The answers to its questions, the latest last: which revision each had, and until when the store may admit by
    /// it. `None` stands for what an earlier instance has answered.
    answers: Vec<(Option<Revision>, Timestamp)>,
    /// The revision of the last push that was sent.
    pushed: Option<Revision>,
    in_flight: u32,
    /// The revision of the last push that was not confirmed.
    failed: Option<Revision>,
    failures: u32,
    retry_at: Timestamp,
}

#[derive(Debug)]
pub struct Followers {
    revision: Revision,
    /// A write of this instance may wait until the stores know the revision. What they know may also shrink: by a late
    /// report of an older push, or when the clock goes back.
    is_awaited: bool,
    stores: BTreeMap<StoreId, Follower>,
    trust_ms: u64,
}

impl Followers {
    /// After a start: nothing is known of the stores, so each may admit under an older revision.
    pub fn new(revision: Revision, stores: &[StoreId], timing: &Timing, now: Timestamp) -> Self {
        let mut followers = Self { revision, is_awaited: false, stores: BTreeMap::new(), trust_ms: trust_ms(timing) };
        for store in stores {
            followers.answer(*store, None, now);
        }
        followers
    }

    /// The registry has a new revision.
    pub fn changed(&mut self, revision: Revision) {
        self.revision = revision;
        self.is_awaited = true;
    }

    /// An answer waits for the present revision, which may be that of an earlier write.
    pub fn expect(&mut self) {
        self.is_awaited = true;
    }

    /// The registry answers the question of a store, which may be a new one, with its present revision.
    pub fn answered(&mut self, store: StoreId, now: Timestamp) {
        self.answer(store, Some(self.revision), now);
    }

    fn answer(&mut self, store: StoreId, revision: Option<Revision>, now: Timestamp) {
        let until = now.plus_ms(self.trust_ms);
        let follower = self.stores.entry(store).or_insert(Follower {
            confirmed: None,
            answers: Vec::new(),
            pushed: None,
            in_flight: 0,
            failed: None,
            failures: 0,
            retry_at: Timestamp(0),
        });
        // The clock may have gone back.
        follower.answers.retain(|(known, ends)| *ends > now && *known != revision);
        follower.answers.push((revision, until));
    }

    /// Takes the messages to be sent now.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Push> {
        let revision = self.revision;
        let mut due = Vec::new();
        if !self.is_awaited {
            return due;
        }
        for (store, follower) in &mut self.stores {
            if follower.knows(revision, now) {
                continue;
            }
            let is_newer = follower.pushed.is_none_or(|pushed| pushed < revision);
            if is_newer || (follower.in_flight == 0 && follower.retry_at <= now) {
                follower.pushed = Some(revision);
                follower.in_flight += 1;
                due.push(Push { store: *store, revision });
            }
        }
        due
    }

    /// A store has confirmed a push, or it is not known whether it received it.
    pub fn pushed(&mut self, push: Push, is_confirmed: bool, now: Timestamp) {
        // A store of an earlier version relies on a push as on an answer, whether or not its reply arrives.
        self.answer(push.store, Some(push.revision), now);
        let Some(follower) = self.stores.get_mut(&push.store) else { return };
        follower.in_flight = follower.in_flight.saturating_sub(1);
        if is_confirmed {
            follower.confirmed = follower.confirmed.max(Some(push.revision));
            follower.failures = 0;
        } else {
            let pause_ms = doubling_pause_ms(FIRST_PAUSE_MS, follower.failures, MAX_PAUSE_MS);
            follower.failures += 1;
            follower.failed = follower.failed.max(Some(push.revision));
            follower.retry_at = now.plus_ms(pause_ms);
        }
    }

    /// Whether no store admits anything under an older revision than this one.
    pub fn know(&self, revision: Revision, now: Timestamp) -> bool {
        self.stores.values().all(|follower| follower.knows(revision, now))
    }

    /// Whether each store that does not know the revision has been pushed to in vain. After a start, no write waits.
    pub fn were_pushed(&self, now: Timestamp) -> bool {
        let was_pushed = |follower: &Follower| follower.failed == Some(self.revision);
        !self.is_awaited
            || self.stores.values().all(|follower| follower.knows(self.revision, now) || was_pushed(follower))
    }

    /// When [`Followers::take_due`] or [`Followers::know`] changes although no message arrives.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let waiting = self.stores.values().filter(|follower| self.is_awaited && !follower.knows(self.revision, now));
        let next = |follower: &Follower| {
            // Any of them may be the last that an earlier write waits for.
            let ends = follower.older_answers(self.revision).filter(|until| *until > now).min().unwrap_or(now);
            if follower.in_flight == 0 { follower.retry_at.min(ends) } else { ends }
        };
        waiting.map(next).min()
    }
}

impl Follower {
    fn knows(&self, revision: Revision, now: Timestamp) -> bool {
        self.confirmed.is_some_and(|confirmed| confirmed >= revision)
            || self.admits_until(revision).is_none_or(|until| until <= now)
    }

    /// Until when the store may admit under an older revision than this one. An answer with this revision or a newer
    /// one changes nothing: either it arrives, and the store knows, or the earlier answers stand.
    fn admits_until(&self, revision: Revision) -> Option<Timestamp> {
        self.older_answers(revision).max()
    }

    /// Until when the store may admit by each answer that is older than this revision.
    fn older_answers(&self, revision: Revision) -> impl Iterator<Item = Timestamp> + '_ {
        let is_older =
            move |known: &Option<Revision>| known.map_or(revision > Revision::INITIAL, |known| known < revision);
        self.answers.iter().filter(move |(known, _)| is_older(known)).map(|(_, until)| *until)
    }
}

/// How long a store may admit after the registry answered it, in milliseconds: a little longer than the store itself
/// counts, because clocks are not equally fast.
fn trust_ms(timing: &Timing) -> u64 {
    timing.registry_silence_ms + timing.registry_silence_ms / 20
}

#[cfg(test)]
mod tests;
