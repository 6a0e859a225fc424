//! The ledger: every decision about the contexts of one store, and what is remembered between them.
//!
//! It keeps contexts on a [`Shelf`], which is the store's tables on the platform and a map in a simulation. A method
//! takes the time, changes the shelf by one atomic write, and leaves in [`Effects`] what its shell has to do: set the
//! alarm, ring for somebody to run what waits, tell the hub, wake who waits for an end. Everything in memory may be
//! lost at any moment; [`Ledger::open`] takes up from the shelf alone. Kept by all of it:
//!
//! * a context that was admitted ends, exactly once, by its deadline at the latest;
//! * every step and attempt has a number, and is told in the order of the numbers until the hub has it;
//! * whatever is on the shelf and not ended has an alarm to come.

mod callbacks;
#[cfg(any(test, feature = "test-support"))]
pub mod memory;
mod outbox;
pub mod result_pieces;
mod storage;
mod timers;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use serde_json::value::RawValue;

use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;
use crate::context::idempotency::{Claim, WINDOW_MS};
use crate::context::status::Status;
use crate::context::{Admission, Background, Cancelled, ContextError, Head, Refused, Report, Verdict};
use crate::events::bundle::{self, EventResult, last_number};

pub use callbacks::{Callback, CalledBack};
pub use outbox::{Batch, Outbox};
pub use storage::{Broken, Due, Ended, Ready, Shelf, Whole};

/// Heads remembered at most.
const MAX_HELD: usize = 2_000;
/// Events of one context at most, between two writes.
const MAX_EVENTS: u64 = 8;

/// What ends a wait for a context before its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Until {
    /// Its service has told of progress after the event of this number.
    pub news_after: Option<u64>,
    /// It asks for input once more than so many times.
    pub asked: Option<usize>,
    /// Its service has taken the work on, to end it later.
    pub taken: bool,
}

/// What the store's object must do now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Wake by then, in place of any later alarm.
    pub alarm: Option<Timestamp>,
    /// Doorbells to ring.
    pub rings: u64,
    /// There is something to tell.
    pub tells: bool,
    /// These have ended or ask for input: who waits for them is woken.
    pub rested: Vec<ContextId>,
}

/// What admitting came to.
#[derive(Debug)]
pub enum Admitted {
    Now {
        head: Rc<Head>,
        lease: Option<u64>,
    },
    /// The key of the id belongs to another context.
    Taken,
    /// The idempotency key stands for this context.
    Replayed(ContextId),
    /// The idempotency key stands for another request.
    KeyReused,
}

/// What an idempotency key stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Recalled {
    Nothing,
    Context(ContextId),
    AnotherRequest,
}

/// An attempt to be made.
#[derive(Debug)]
pub struct Attempting {
    pub head: Head,
    pub parameters: Box<RawValue>,
}

/// What is to run next.
#[derive(Debug)]
pub enum Claimed {
    Nothing,
    /// Leased to the asker.
    Leased(Box<Attempting>),
    /// Its service asks for a permit first: kept for the asker meanwhile, not leased.
    Offered(Box<Attempting>),
}

/// What a report came to.
#[derive(Debug)]
pub enum Committed {
    Taken { head: Box<Head>, retry_ms: Option<u64> },
    Refused(Box<Head>),
}

/// What asking to cancel came to.
#[derive(Debug)]
pub enum Cancelling {
    Absent,
    AlreadyEnded(Box<Head>),
    Now(Box<Head>, Option<Background>),
    Asked(Box<Head>),
}

/// What became of something asked of a context that waits.
#[derive(Debug)]
pub enum Changed {
    Done(Box<Head>),
    /// It has ended, or is in no state for this.
    Refused(Box<Head>, Refused),
    Absent,
}

pub struct Ledger<S> {
    shelf: S,
    pub outbox: Outbox,
    /// Ended contexts whose live rows are not cleaned yet.
    ended: HashSet<ContextId>,
    /// Leases kept alive beyond what is on the shelf.
    renewed: HashMap<ContextId, Timestamp>,
    /// Waiting contexts that somebody is about to begin.
    offered: HashMap<ContextId, Timestamp>,
    /// Heads of leased contexts as they are on the shelf.
    held: HashMap<ContextId, Rc<Head>>,
    woke_at: Timestamp,
    alarm_at: Option<Timestamp>,
    /// While an alarm runs: the time it was set for.
    woken_for: Timestamp,
    rang_at: Timestamp,
    looked_at: Timestamp,
    retention_ms: u64,
    timing: Timing,
    effects: Effects,
}

impl<S: Shelf> Ledger<S> {
    /// Takes up what the last one left: all that it had not told lies among the live.
    pub fn open(shelf: S, retention_ms: u64, timing: Timing, now: Timestamp) -> Result<Self, Broken> {
        let mut ledger = Self {
            shelf,
            outbox: Outbox::default(),
            ended: HashSet::new(),
            renewed: HashMap::new(),
            offered: HashMap::new(),
            held: HashMap::new(),
            woke_at: now,
            alarm_at: None,
            woken_for: Timestamp(0),
            rang_at: Timestamp(0),
            looked_at: Timestamp(0),
            retention_ms,
            timing,
            effects: Effects::default(),
        };
        ledger.outbox.start(ledger.shelf.reserved()?);
        ledger.recover()?;
        // Which alarm the last one had set is not known: the next one that is set must not take its place too late.
        ledger.arm(now)?;
        Ok(ledger)
    }

    /// How long ended contexts are kept from now on.
    pub fn retain(&mut self, retention_ms: u64) {
        self.retention_ms = retention_ms;
    }

    fn recover(&mut self) -> Result<(), Broken> {
        let mut untold: Vec<(Head, Option<Box<RawValue>>, bool)> = Vec::new();
        for (head, small) in self.shelf.untold()? {
            self.ended.insert(head.id().clone());
            untold.push((head, small, true));
        }
        for head in self.shelf.live_heads()? {
            if !self.ended.contains(head.id()) {
                untold.push((head, None, false));
            }
        }
        // Each item on its own, in the order of the numbers: the hub takes them only so.
        let mut bundles: Vec<bundle::Bundle> = Vec::new();
        untold.sort_by_key(|(head, ..)| last_number(head));
        for (head, small, has_ended) in &untold {
            let whole = bundle::bundle(head, EventResult::stored(head, small.as_deref()), 0);
            let mut after = None;
            for item in &whole.items {
                bundles.push(bundle::Bundle { items: vec![item.clone()], previous_number: after, ..whole.clone() });
                after = Some(item.number);
            }
            if *has_ended {
                self.outbox.ended(last_number(head), head.id().clone());
            }
        }
        bundles.sort_by_key(|bundle| bundle.items.first().map(|item| item.number));
        for bundle in bundles {
            self.outbox.push(&bundle)?;
        }
        self.effects.tells = !self.outbox.is_empty();
        Ok(())
    }

    pub fn shelf(&self) -> &S {
        &self.shelf
    }

    /// What there is to do since the last time this was asked.
    pub fn effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Makes a context exist: leased to the asker, offered to it, or waiting for whoever comes.
    pub fn admit(
        &mut self,
        admission: Admission,
        parameters: &RawValue,
        lease_ms: Option<u64>,
        offers: bool,
        claim: Option<&Claim>,
        now: Timestamp,
    ) -> Result<Admitted, Broken> {
        match self.recalled(claim, Some(&admission.id), now)? {
            Recalled::Nothing => {}
            Recalled::Context(id) => return Ok(Admitted::Replayed(id)),
            Recalled::AnotherRequest => return Ok(Admitted::KeyReused),
        }
        let now = now.max(admission.created_at);
        let id = admission.id.clone();
        let mut head = Head::admit(admission, now);
        if let Some(ms) = lease_ms {
            // A start in the future is not leased but waits for its time.
            let _ = head.lease(now, now.plus_ms(ms));
        }
        self.number(&mut head)?;
        let claim = claim.map(|claim| (claim, now.plus_ms(WINDOW_MS)));
        if !self.shelf.insert(&head, parameters, claim)? {
            // Asked twice, because the first reply was lost: it exists. Its first lease is the asker's, if it asked
            // for one and got it with the admission; else somebody has begun it meanwhile.
            return Ok(match self.any_head(&id)? {
                Some(known) => {
                    let leases = lease_ms.is_some() && known.admission.run_at.is_none();
                    let lease = known.lease.map(|lease| lease.number).filter(|number| leases && *number == 1);
                    Admitted::Now { head: Rc::new(known), lease }
                }
                None => Admitted::Taken,
            });
        }
        self.tell(&head, None, 0)?;
        if offers {
            self.offer(id, now);
        }
        self.wake_for(&head, now);
        let lease = head.lease.map(|lease| lease.number);
        let head = Rc::new(head);
        if lease.is_some() {
            self.hold(head.clone());
        }
        Ok(Admitted::Now { head, lease })
    }

    /// What there is to say of an idempotency key; nothing when it is new, or stands for `own`.
    pub fn recalled(&self, claim: Option<&Claim>, own: Option<&ContextId>, now: Timestamp) -> Result<Recalled, Broken> {
        let Some(claim) = claim else { return Ok(Recalled::Nothing) };
        Ok(match self.shelf.claimed(&claim.scope, now)? {
            Some((id, _)) if Some(&id) == own => Recalled::Nothing,
            Some((id, fingerprint)) if fingerprint == claim.fingerprint => Recalled::Context(id),
            Some(_) => Recalled::AnotherRequest,
            None => Recalled::Nothing,
        })
    }

    /// Remembers the head of a leased context, which will be asked for next.
    fn hold(&mut self, head: Rc<Head>) {
        if self.held.len() >= MAX_HELD {
            self.held.clear();
        }
        self.held.insert(head.id().clone(), head);
    }

    /// A live context's head, to be changed: what was remembered of it no longer holds.
    fn take_live(&mut self, id: &ContextId) -> Result<Option<Head>, Broken> {
        if let Some(head) = self.held.remove(id) {
            return Ok(Some(Rc::unwrap_or_clone(head)));
        }
        if self.ended.contains(id) {
            return Ok(None);
        }
        self.shelf.live_head(id)
    }

    /// A context's head, whether it lives or has ended.
    fn any_head(&self, id: &ContextId) -> Result<Option<Head>, Broken> {
        let live = if self.ended.contains(id) { None } else { self.shelf.live_head(id)? };
        live.map_or_else(|| self.shelf.done_head(id), |live| Ok(Some(live)))
    }

    fn offer(&mut self, id: ContextId, now: Timestamp) {
        self.offered.insert(id, now.plus_ms(self.timing.offer_ms));
    }

    fn is_offered(&self, id: &ContextId, now: Timestamp) -> bool {
        self.offered.get(id).is_some_and(|until| *until > now)
    }

    /// A waiting context with its parts, to be begun.
    fn take_waiting(&mut self, id: &ContextId) -> Result<Option<Whole>, Broken> {
        self.held.remove(id);
        if self.ended.contains(id) { Ok(None) } else { self.shelf.live(id) }
    }

    /// Begins the next attempt of a context that waits.
    pub fn lease(&mut self, id: &ContextId, lease_ms: u64, now: Timestamp) -> Result<Option<Box<Attempting>>, Broken> {
        let Some(Whole { mut head, parameters, .. }) = self.take_waiting(id)? else {
            return Ok(None);
        };
        let known = last_number(&head);
        if head.lease(now, now.plus_ms(lease_ms)).is_err() {
            return Ok(None);
        }
        self.offered.remove(id);
        self.number(&mut head)?;
        self.shelf.update(&head)?;
        self.tell(&head, None, known)?;
        self.wake_for(&head, now);
        Ok(Some(Box::new(Attempting { head, parameters })))
    }

    /// Whatever should run next, but not at one of the services `without`. What goes to one of the `gated` services is
    /// only offered.
    pub fn claim(
        &mut self,
        lease_ms: u64,
        gated: &[String],
        without: &[String],
        now: Timestamp,
    ) -> Result<Claimed, Broken> {
        self.offered.retain(|_, until| *until > now);
        for Ready { id, service } in self.shelf.ready(now, without, 8 + self.offered.len() as u64)? {
            if self.is_offered(&id, now) || self.ended.contains(&id) {
                continue;
            }
            if gated.contains(&service) {
                let Some(Whole { head, parameters, .. }) = self.take_waiting(&id)? else { continue };
                self.offer(id, now);
                return Ok(Claimed::Offered(Box::new(Attempting { head, parameters })));
            }
            if let Some(attempting) = self.lease(&id, lease_ms, now)? {
                return Ok(Claimed::Leased(attempting));
            }
        }
        Ok(Claimed::Nothing)
    }

    /// Keeps a lease alive, or with the number 0 an offer. Gives whether the context is to be cancelled; nothing when
    /// it is no longer the asker's.
    pub fn renew(&mut self, id: &ContextId, lease: u64, lease_ms: u64, now: Timestamp) -> Result<Option<bool>, Broken> {
        let head = if self.ended.contains(id) { None } else { self.shelf.live_head(id)? };
        let Some(head) = head else { return Ok(None) };
        if lease == 0 {
            let waits = head.is_ready(now);
            if waits {
                self.offer(id.clone(), now);
            }
            return Ok(waits.then_some(false));
        }
        if head.lease.is_none_or(|held| held.number != lease) {
            return Ok(None);
        }
        self.renewed.insert(id.clone(), now.plus_ms(lease_ms));
        Ok(Some(head.cancel_requested))
    }

    /// Takes in how an attempt ended. The asker makes the next one itself if it comes within `stays_ms`.
    pub fn commit(
        &mut self,
        id: &ContextId,
        report: Report,
        result: Option<&RawValue>,
        stays_ms: u64,
        now: Timestamp,
        random: u64,
    ) -> Result<Committed, Broken> {
        let Some(mut head) = self.take_live(id)? else {
            let ended = self.shelf.done_head(id)?.ok_or_else(|| Broken(format!("{id} is not here")))?;
            return Ok(Committed::Refused(Box::new(ended)));
        };
        let known = last_number(&head);
        let verdict = match head.report(report, now, random) {
            Ok(verdict) => verdict,
            Err(Refused::Ended | Refused::LeaseLost | Refused::NotNow) => {
                return Ok(Committed::Refused(Box::new(head)));
            }
        };
        let result = result.filter(|_| head.error.is_none());
        self.keep(&mut head, verdict, result, known)?;
        self.renewed.remove(id);
        let retry_ms = match verdict {
            Verdict::Waits(at) => Some(at.since(now)).filter(|ms| *ms <= stays_ms),
            Verdict::Ended | Verdict::LivesOn | Verdict::Unchanged => None,
        };
        if let Some(ms) = retry_ms {
            self.offered.insert(id.clone(), now.plus_ms(ms + self.timing.offer_ms));
        } else if matches!(verdict, Verdict::Waits(_)) {
            self.ring_for(&head, now);
        }
        Ok(Committed::Taken { head: Box::new(head), retry_ms })
    }

    /// Writes a decision down and tells of it.
    fn keep(&mut self, head: &mut Head, verdict: Verdict, result: Option<&RawValue>, known: u64) -> Result<(), Broken> {
        self.number(head)?;
        if head.status.is_final() || head.status == Status::InputRequired {
            self.effects.rested.push(head.id().clone());
        }
        match verdict {
            Verdict::Ended => {
                self.shelf.finish(head, result)?;
                self.ended.insert(head.id().clone());
                self.offered.remove(head.id());
                self.outbox.ended(last_number(head), head.id().clone());
            }
            Verdict::LivesOn => {
                self.shelf.update(head)?;
                // Its service may have promised to report sooner than anybody was to look.
                self.wake_at(head.due());
            }
            // Whoever let it wait knows who begins it, and when.
            Verdict::Waits(_) | Verdict::Unchanged => self.shelf.update(head)?,
        }
        self.tell(head, result, known)
    }

    /// Keeps what was executed without being admitted first.
    pub fn record(
        &mut self,
        admission: Admission,
        parameters: &RawValue,
        report: Report,
        result: Option<&RawValue>,
    ) -> Result<(), Broken> {
        let mut head =
            Head::recorded(admission, report).map_err(|_| Broken("a record that could not have ended".into()))?;
        self.number(&mut head)?;
        // When it was there already, the first reply was lost.
        if self.shelf.insert_done(&head, parameters, result)? {
            self.tell(&head, result, 0)?;
        }
        Ok(())
    }

    /// A context with all its parts, live or ended.
    pub fn whole(&self, id: &ContextId) -> Result<Option<Whole>, Broken> {
        let live = if self.ended.contains(id) { None } else { self.shelf.live(id)? };
        live.map_or_else(|| self.shelf.done(id), |live| Ok(Some(live)))
    }

    /// Whether there is something to wait for: it has not ended, and nothing has happened that ends the wait before.
    pub fn goes_on(&self, id: &ContextId, until: Until) -> Result<bool, Broken> {
        let head = if self.ended.contains(id) { None } else { self.shelf.live_head(id)? };
        let tells = |head: &Head| {
            until.news_after.is_some_and(|after| head.progress.as_ref().is_some_and(|progress| progress.event > after))
        };
        let asks = |head: &Head| {
            head.status == Status::InputRequired && until.asked.is_some_and(|asked| head.questions() > asked)
        };
        Ok(head.is_some_and(|head| !(asks(&head) || tells(&head) || until.taken && head.background.is_some())))
    }

    pub fn cancel(&mut self, id: &ContextId, now: Timestamp) -> Result<Cancelling, Broken> {
        let Some(mut head) = self.take_live(id)? else {
            let ended = self.shelf.done_head(id)?;
            return Ok(ended.map_or(Cancelling::Absent, |head| Cancelling::AlreadyEnded(Box::new(head))));
        };
        let known = last_number(&head);
        match head.cancel(now) {
            Ok(Cancelled::Now(background)) => {
                self.keep(&mut head, Verdict::Ended, None, known)?;
                Ok(Cancelling::Now(Box::new(head), background))
            }
            Ok(Cancelled::Asked) => {
                self.shelf.update(&head)?;
                Ok(Cancelling::Asked(Box::new(head)))
            }
            Err(_) => Ok(Cancelling::AlreadyEnded(Box::new(head))),
        }
    }

    /// Ends a waiting context without an attempt.
    pub fn refuse(&mut self, id: &ContextId, error: ContextError, now: Timestamp) -> Result<Changed, Broken> {
        self.change(id, |head| head.refuse(error, now))
    }

    /// Gives an offer back; with `until`, nobody begins before then.
    pub fn put_back(&mut self, id: &ContextId, until: Option<Timestamp>, now: Timestamp) -> Result<(), Broken> {
        self.offered.remove(id);
        if let Some(until) = until {
            self.change(id, |head| head.put_off(until, now))?;
        }
        Ok(())
    }

    /// Changes a live context as a whole, and writes it down.
    fn change(
        &mut self,
        id: &ContextId,
        decide: impl FnOnce(&mut Head) -> Result<Verdict, Refused>,
    ) -> Result<Changed, Broken> {
        let Some(mut head) = self.take_live(id)? else {
            let ended = self.shelf.done_head(id)?;
            return Ok(ended.map_or(Changed::Absent, |head| Changed::Refused(Box::new(head), Refused::Ended)));
        };
        let known = last_number(&head);
        Ok(match decide(&mut head) {
            Ok(verdict) => {
                self.keep(&mut head, verdict, None, known)?;
                Changed::Done(Box::new(head))
            }
            Err(refused) => Changed::Refused(Box::new(head), refused),
        })
    }

    /// Gives numbers to what has to be told, reserving them on the shelf first.
    fn number(&mut self, head: &mut Head) -> Result<(), Broken> {
        if let Some(bound) = self.outbox.lacks(MAX_EVENTS) {
            self.shelf.reserve(bound)?;
            self.outbox.reserved(bound);
        }
        bundle::assign_numbers(head, || self.outbox.next_number());
        Ok(())
    }

    fn tell(&mut self, head: &Head, result: Option<&RawValue>, known: u64) -> Result<(), Broken> {
        self.outbox.push(&bundle::bundle(head, result.into(), known))?;
        self.effects.tells = true;
        Ok(())
    }

    /// The hub has everything up to this number.
    pub fn acknowledged(&mut self, number: u64) -> Result<(), Broken> {
        let clean = self.outbox.acknowledged(number);
        if !clean.is_empty() {
            self.shelf.clean(&clean)?;
            for id in &clean {
                self.ended.remove(id);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
