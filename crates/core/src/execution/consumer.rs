//! A consumer: it runs the contexts of one store, several at a time, so that a slow one does not delay the others.
//!
//! It tells its shell which store to claim a context of and which claimed context to run, and learns what came of it.
//! Invariants:
//!
//! * at most [`MAX_CONCURRENT`] contexts run, and at most [`MAX_QUEUED_PER_SERVICE`] of them wait for the same service;
//! * at most one claim is in progress;
//! * it claims contexts of other stores only while others run, and only if its own store had none just before;
//! * it ends once nothing runs and its own store has nothing more that it may run.

use std::collections::BTreeMap;

use super::known_service::KnownService;
use super::selection;
use crate::base::id::StoreId;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;

/// A consumer accepts no more work after this time. The platform ends it after 15 minutes.
pub const MAX_RUN_MS: u64 = 10 * 60 * 1000;
/// The maximum number of contexts that one consumer runs at a time.
pub const MAX_CONCURRENT: usize = 8;
/// The maximum number of these in one service's queue, so that its backlog does not delay the work of other services.
pub const MAX_QUEUED_PER_SERVICE: usize = 6;

/// Numbers the contexts that one consumer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunNumber(u64);

/// What happened to a consumer.
#[derive(Debug)]
pub enum ConsumerEvent<'a> {
    Started,
    /// The store that was asked gave a context.
    Claimed {
        /// Its service, if the context is only offered: it waits for a permit.
        offered_for: Option<ServiceId>,
    },
    /// The store that was asked has nothing to run.
    NothingReady {
        /// The stores of the tenant.
        stores: &'a [StoreId],
    },
    ClaimFailed,
    RunEnded {
        number: RunNumber,
    },
    /// It is the time of [`Consumer::wake_at`].
    TimePassed,
}

/// What the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerAction {
    /// Run the context that was just claimed.
    Run { number: RunNumber },
    /// Claim the next context of this store, but none for the services `at_limit`.
    Claim { store: StoreId, at_limit: Vec<ServiceId> },
    /// Nothing is left.
    Finish,
    /// The claim failed and nothing runs: the queue is to deliver the message again.
    Fail,
}

/// The consumer of one message, without I/O.
#[derive(Debug)]
pub struct Consumer {
    store: StoreId,
    began_at: Timestamp,
    poll_ms: u64,
    /// The contexts that run, with the service whose wait queue they may be in.
    running: BTreeMap<RunNumber, Option<ServiceId>>,
    last_number: u64,
    /// The store that is being asked for a context.
    asked: Option<StoreId>,
    /// The stores that are asked after it, last one first.
    others: Vec<StoreId>,
    /// When its own store is asked next. `None` while there is no room: the end of a run sets it again.
    look_at: Option<Timestamp>,
    /// Since its own store was asked, a run has ended.
    run_ended: bool,
    /// It only ends what runs.
    is_stopped: bool,
}

impl Consumer {
    /// A consumer for a message that names `store`.
    pub fn new(store: StoreId, now: Timestamp, timing: &Timing) -> Self {
        Self {
            store,
            began_at: now,
            poll_ms: timing.work_poll_ms,
            running: BTreeMap::new(),
            last_number: 0,
            asked: None,
            others: Vec::new(),
            look_at: None,
            run_ended: false,
            is_stopped: false,
        }
    }

    /// Takes no more work: what runs is ended, and what is queued is left to others.
    pub fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// What follows from an event, to be done in this order. After [`ConsumerAction::Finish`] and
    /// [`ConsumerAction::Fail`] the consumer has ended.
    pub fn on(&mut self, event: ConsumerEvent<'_>, now: Timestamp) -> Vec<ConsumerAction> {
        let mut actions = Vec::new();
        match event {
            ConsumerEvent::Started => self.look_at = Some(now),
            ConsumerEvent::TimePassed => {}
            ConsumerEvent::Claimed { offered_for } => {
                self.last_number += 1;
                let number = RunNumber(self.last_number);
                self.running.insert(number, offered_for);
                actions.push(ConsumerAction::Run { number });
                self.end_round(now);
            }
            ConsumerEvent::NothingReady { stores } => self.nothing_ready(stores, now),
            // If a run has ended during the claim, its own store is asked first: the claim may be of another.
            ConsumerEvent::ClaimFailed if self.running.is_empty() && !self.run_ended => {
                return vec![ConsumerAction::Fail];
            }
            // The failed claim does not affect the contexts that run.
            ConsumerEvent::ClaimFailed => self.end_round(self.next_look(now)),
            ConsumerEvent::RunEnded { number } => {
                self.running.remove(&number);
                self.run_ended = true;
                self.look_at = Some(now);
            }
        }
        actions.extend(self.next_action(now));
        actions
    }

    /// When the consumer looks for work again without another event.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.look_at.filter(|_| self.asked.is_none())
    }

    /// The store that was asked has nothing.
    fn nothing_ready(&mut self, stores: &[StoreId], now: Timestamp) {
        let own = self.store;
        if self.asked.take() == Some(own) {
            self.others = stores.iter().rev().copied().filter(|other| *other != own).collect();
        }
        // Work of other stores only beside work of this one: their own messages may wait behind it.
        if self.others.is_empty() || self.running.is_empty() {
            self.end_round(self.next_look(now));
        }
    }

    /// When to look again after finding nothing. New work sends messages too. Where the platform runs few consumers, it
    /// is found by looking again.
    fn next_look(&self, now: Timestamp) -> Timestamp {
        if self.run_ended { now } else { now.plus_ms(self.poll_ms) }
    }

    /// Begins with its own store again at this time.
    fn end_round(&mut self, look_at: Timestamp) {
        self.asked = None;
        self.others.clear();
        self.look_at = Some(look_at);
    }

    fn next_action(&mut self, now: Timestamp) -> Option<ConsumerAction> {
        if self.asked.is_some() {
            return None;
        }
        let is_over = self.is_stopped || now.since(self.began_at) >= MAX_RUN_MS;
        let has_room = self.running.len() < MAX_CONCURRENT && !is_over;
        if has_room && let Some(other) = self.others.pop() {
            return Some(self.claim(other));
        }
        let is_due = self.look_at.take_if(|at| *at <= now).is_some();
        if has_room && is_due {
            self.run_ended = false;
            return Some(self.claim(self.store));
        }
        self.running.is_empty().then_some(ConsumerAction::Finish)
    }

    fn claim(&mut self, store: StoreId) -> ConsumerAction {
        self.asked = Some(store);
        ConsumerAction::Claim { store, at_limit: self.at_queue_limit() }
    }

    /// The services whose contexts fill their share of this consumer. No run starts during a claim, so this holds until
    /// the claim ends.
    fn at_queue_limit(&self) -> Vec<ServiceId> {
        let mut queued: BTreeMap<&ServiceId, usize> = BTreeMap::new();
        for service in self.running.values().flatten() {
            *queued.entry(service).or_default() += 1;
        }
        queued.into_iter().filter(|(_, count)| *count >= MAX_QUEUED_PER_SERVICE).map(|(id, _)| id.clone()).collect()
    }
}

/// Which contexts a claim may take.
#[derive(Debug, PartialEq, Eq)]
pub struct ClaimTerms {
    /// Contexts for these services are offered instead of leased.
    pub gated: Vec<ServiceId>,
    /// Contexts for these services are skipped.
    pub without: Vec<ServiceId>,
    /// When one of the skipped services may be called again.
    pub again_at: Option<Timestamp>,
}

impl ClaimTerms {
    /// The terms by what is known of the services. `at_limit` is that of [`ConsumerAction::Claim`].
    pub fn of<S: KnownService>(services: &[S], at_limit: &[ServiceId], now: Timestamp) -> Self {
        let gated = services.iter().filter(|service| service.is_gated() || service.is_offline());
        let gated = gated.map(|service| service.service().id.clone()).collect();
        // Contexts for an unavailable service would be claimed and put back again and again.
        let (mut without, again_at) = selection::unavailable_services(services, now);
        without.extend_from_slice(at_limit);
        Self { gated, without, again_at }
    }
}

#[cfg(test)]
mod tests;
