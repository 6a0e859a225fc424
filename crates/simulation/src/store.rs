//! A store as its object runs it: a message is one turn, whose writes and alarm are stored together or not at all.
//!
//! The object may crash before the write, or between any two effects after it; then the next message or alarm finds
//! only the storage. A reply is sent only after the writes of its turn.

use std::collections::BTreeMap;

use narthex_core::base::id::{Region, StoreId};
use narthex_core::base::retries::CallFault;
use narthex_core::base::storage_error::StorageError;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::context_store::memory::MemoryStorage;
use narthex_core::context_store::preconditions::Fence;
use narthex_core::context_store::{ContextStore, Effects};
use narthex_core::registry::known_revision::KnownRevision;
use narthex_core::registry::revision::Revision;

use crate::dice::Dice;
use crate::messages::{Ask, Batch, Call, Event, Reply, answer};
use crate::mutants::Mutant;
use crate::questions::Question;
use crate::registry_object::REGISTRY;
use crate::world::World;

pub const LEASE_MS: u64 = Timing::DEFAULT.lease_ms;
pub const RETENTION_MS: u64 = 30 * 86_400_000;
/// So few that the stores of a world reach it.
const MAX_SPARE: usize = 2;
/// How long the object gathers events before it publishes them, and how often it tries.
const GATHER_MS: u64 = 40;
const MAX_ATTEMPTS: u64 = 5;

pub struct Store {
    pub id: StoreId,
    pub storage: MemoryStorage,
    pub contexts: Option<ContextStore<MemoryStorage>>,
    /// What this instance knows of the registry.
    pub known: KnownRevision,
    /// Requests that wait until the registry has answered, by the number of the question.
    pub questions: BTreeMap<u64, Question>,
    /// The number of this instance of the object.
    pub life: u64,
    /// The difference between its clock and the world's.
    pub offset: i64,
    tries: u64,
    /// The number of the batch in transit.
    sending: u64,
    /// Its alarm was lost; only the sweep by cron can wake it.
    pub asleep: Option<u64>,
}

impl Store {
    pub fn new(shard: u16) -> Self {
        Self {
            id: StoreId { region: Region::Eu, shard },
            storage: MemoryStorage::default(),
            contexts: None,
            known: KnownRevision::default(),
            questions: BTreeMap::new(),
            life: 0,
            offset: 0,
            tries: 0,
            sending: 0,
            asleep: None,
        }
    }
}

/// How a turn of an object ends.
pub enum Fate {
    Well,
    /// A crash before the writes were on disk.
    Unwritten,
    /// A crash after this many effects.
    After(u64),
}

impl World {
    pub fn clock(&self, store: usize) -> Timestamp {
        Timestamp(self.now.saturating_add_signed(self.stores[store].offset))
    }

    pub fn fate(&mut self) -> Fate {
        if !self.dice.chance(self.faults.crash) {
            return Fate::Well;
        }
        self.statistics.crashes += 1;
        if self.dice.chance(400) { Fate::Unwritten } else { Fate::After(self.dice.below(4)) }
    }

    /// Starts a new instance from the storage, if there is none.
    pub fn wake(&mut self, at: usize) -> Result<(), StorageError> {
        if self.stores[at].contexts.is_some() {
            return Ok(());
        }
        let now = self.clock(at);
        let store = &mut self.stores[at];
        store.life += 1;
        store.tries = 0;
        store.sending = 0;
        let mut contexts = ContextStore::open(store.storage.clone(), RETENTION_MS, Timing::DEFAULT, now)?;
        contexts.limit_spare_rows(MAX_SPARE);
        let Effects { alarm, publish, .. } = contexts.take_effects();
        store.contexts = Some(contexts);
        if let Some(alarm) = alarm {
            self.set_alarm(at, alarm);
        }
        if publish {
            self.flush_soon(at);
        }
        Ok(())
    }

    pub fn die(&mut self, at: usize) {
        self.stores[at].contexts = None;
        self.stores[at].known = KnownRevision::default();
        self.questions_stop(at);
    }

    /// Runs one turn. `None` if the object crashed before its reply was sent.
    fn turn<T>(
        &mut self,
        at: usize,
        decide: impl FnOnce(&mut ContextStore<MemoryStorage>, Timestamp, u64) -> T,
    ) -> Option<T> {
        self.break_disk(at);
        if self.wake(at).is_err() {
            self.stores[at].storage.fail_write(None);
            return None;
        }
        let (now, random) = (self.clock(at), self.dice.throw());
        let fate = self.fate();
        let store = &mut self.stores[at];
        let before = matches!(fate, Fate::Unwritten).then(|| store.storage.snapshot());
        let alarm_before = store.storage.alarm();
        let contexts = store.contexts.as_mut()?;
        let decided = decide(contexts, now, random);
        let effects = contexts.take_effects();
        store.storage.fail_write(None);
        if let Some(before) = before {
            store.storage.restore(before);
            self.die(at);
            self.note(|| format!("store {at} crashes, and nothing was written"));
            return None;
        }
        if let Some(alarm) = effects.alarm {
            self.set_alarm(at, alarm);
        }
        let left = if let Fate::After(left) = fate { left } else { u64::MAX };
        if left != u64::MAX && self.mutant == Some(Mutant::AlarmIsLostInACrash) {
            self.stores[at].storage.set_alarm(alarm_before);
        }
        self.observe(at, &effects.settled);
        let done = self.carry_out(at, effects, left);
        if left != u64::MAX {
            self.die(at);
            self.note(|| format!("store {at} crashes after {left} effects"));
        }
        (done < left).then_some(decided)
    }

    /// Carries out at most `most` effects. Returns how many there were.
    fn carry_out(&mut self, at: usize, effects: Effects, most: u64) -> u64 {
        let mut done = 0;
        for _ in 0..effects.wakeups {
            done += 1;
            if done <= most {
                self.enqueue_wakeup(at);
            }
        }
        if effects.publish {
            done += 1;
            if done <= most {
                self.flush_soon(at);
            }
        }
        done
    }

    pub fn set_alarm(&mut self, store: usize, at: Timestamp) {
        self.note(|| format!("the alarm of store {store} is set for {}", at.0));
        self.stores[store].storage.set_alarm(Some(at));
        let late = self.alarm_delay();
        if self.dice.chance(self.faults.double) {
            self.statistics.doubled += 1;
            let after = at.0.max(self.now) + late + self.dice.below(2_000);
            self.schedule(after, Event::AlarmAgain { store, at: at.0 });
        }
        self.schedule(at.0.max(self.now) + late, Event::Alarm { store, at: at.0 });
    }

    /// How late the platform fires an alarm.
    pub fn alarm_delay(&mut self) -> u64 {
        if self.dice.chance(self.faults.delay) { self.dice.between(50, 4_000) } else { self.dice.below(20) }
    }

    /// The platform fires the alarm, unless it was replaced.
    pub fn alarm(&mut self, store: usize, at: u64) {
        let storage = self.stores[store].storage.clone();
        if storage.alarm() != Some(Timestamp(at)) {
            return;
        }
        if self.has_cron && self.dice.chance(self.faults.crash / 4) {
            self.statistics.dead_alarms += 1;
            self.note(|| format!("store {store} crashes in its alarm"));
            storage.set_alarm(None);
            self.stores[store].asleep = Some(self.now);
            return;
        }
        storage.set_alarm(None);
        self.run_alarm(store, at);
    }

    /// Runs the alarm handler. The platform repeats one that failed.
    pub fn run_alarm(&mut self, store: usize, at: u64) {
        self.statistics.alarms += 1;
        let mut dice = Dice::new(self.dice.throw());
        self.note(|| format!("the alarm of store {store} rings"));
        if self.turn(store, |contexts, now, _| contexts.alarm(now, || dice.throw())).is_some() {
            // An alarm set for the time of the running one would be taken for it, and removed when it ends.
            let storage = &self.stores[store].storage;
            if storage.alarm() == Some(Timestamp(at)) {
                storage.set_alarm(None);
                self.check_alarm(store);
            }
            self.flush_soon(store);
            return;
        }
        let again = self.now + self.dice.between(1_000, 2_500);
        let storage = &self.stores[store].storage;
        if storage.alarm().is_none() {
            storage.set_alarm(Some(Timestamp(at)));
            self.schedule(again, Event::Alarm { store, at });
        }
    }

    pub fn flush_soon(&mut self, store: usize) {
        let Some(contexts) = &mut self.stores[store].contexts else { return };
        if contexts.outbox.begin_flush() {
            self.stores[store].tries = 0;
            let life = self.stores[store].life;
            self.schedule(self.now + GATHER_MS, Event::Flush { store, life });
        }
    }

    fn is_alive(&self, store: usize, life: u64) -> bool {
        self.stores[store].life == life && self.stores[store].contexts.is_some()
    }

    /// Sends the next batch, if any.
    pub fn flush(&mut self, store: usize, life: u64) {
        if !self.is_alive(store, life) {
            return;
        }
        let Some(contexts) = &mut self.stores[store].contexts else { return };
        let Some(batch) = contexts.outbox.batch() else {
            contexts.outbox.finish_flush();
            return;
        };
        let batch = Batch { first: batch.first, last: batch.last, count: batch.count, bundles: batch.bundles };
        let sending = self.number();
        self.stores[store].sending = sending;
        self.send_batch(store, sending, &batch);
    }

    /// Sends a batch of a store or of the registry to the hub.
    pub fn send_batch(&mut self, source: usize, sending: u64, batch: &Batch) {
        let travels = self.travel();
        if travels.is_empty() {
            let (patience, _) = self.patience();
            self.schedule(self.now + patience, Event::HubReplied { store: source, sending, head: None });
        }
        for delay in travels {
            self.schedule(self.now + delay, Event::ToHub { store: source, sending, batch: batch.clone() });
        }
    }

    pub fn reach_hub(&mut self, store: usize, sending: u64, batch: &Batch) {
        match self.hub.publish(store, batch) {
            Ok(head) => {
                let travels = self.travel();
                let lost = travels.is_empty();
                let delay = travels.first().copied().unwrap_or_else(|| self.patience().0);
                let head = (!lost).then_some(head);
                self.schedule(self.now + delay, Event::HubReplied { store, sending, head });
            }
            Err(violation) => self.violate(violation),
        }
    }

    pub fn hub_replied(&mut self, store: usize, sending: u64, head: Option<u64>) {
        if store == REGISTRY {
            return self.registry_published(sending, head);
        }
        let life = self.stores[store].life;
        if !self.is_alive(store, life) || self.stores[store].sending != sending {
            return;
        }
        self.stores[store].sending = 0;
        if let Some(head) = head {
            self.turn(store, |contexts, _, _| contexts.acknowledge(head));
            self.flush(store, life);
            return;
        }
        self.stores[store].tries += 1;
        if self.stores[store].tries < MAX_ATTEMPTS {
            let pause = 100 << self.stores[store].tries;
            self.schedule(self.now + pause, Event::Flush { store, life });
            return;
        }
        self.turn(store, |contexts, now, _| {
            contexts.outbox.finish_flush();
            contexts.arm_soon(now);
        });
    }

    /// Perhaps lets one of the next writes fail.
    fn break_disk(&mut self, store: usize) {
        if self.dice.chance(self.faults.disk) {
            self.statistics.disk += 1;
            let nth = self.dice.below(3) as u32;
            self.stores[store].storage.fail_write(Some(nth));
        }
    }

    /// Answers a message; the reply is sent after the writes of the turn.
    pub fn answer_at_store(&mut self, store: usize, call: Call, revision: Revision, ask: Ask) {
        match ask.fence() {
            Fence::AnyRevision => {}
            Fence::Pushed => self.learn_revision(store, revision),
            Fence::KnownRevision => {
                if self.stores[store].known.accept(revision).is_err() {
                    return self.reply(call, Reply::Stale);
                }
                self.check_accepted(store, revision);
            }
        }
        let (ask, watched) = self.mutate(store, ask);
        let sweeps = matches!(ask, Ask::Sweep);
        if let Ask::Cancel(cancel) = &ask {
            self.checker.cancelled.entry(cancel.id.clone()).or_insert(Timestamp(self.now));
        }
        let admitted = if let Ask::Admit(admit) = &ask { Some(admit.admission.id.clone()) } else { None };
        let decided = self.turn(store, |contexts, now, random| answer(contexts, ask, now, random));
        if sweeps && decided.is_some() {
            // Right after the loss, a clock that is behind takes the alarm for one that is still to come.
            let died = self.stores[store].asleep;
            self.stores[store].asleep = died.filter(|at| self.now < at + 1_000);
            self.check_alarm(store);
            self.flush_soon(store);
        }
        if let Some((id, before)) = watched {
            self.must_be_unchanged(store, &id, &before);
        }
        let reply = decided.and_then(Result::ok).unwrap_or(Reply::Failed(CallFault::Failed));
        self.grant(store, admitted, &reply);
        self.note(|| format!("store {store} replies {reply:?}"));
        self.reply(call, reply);
    }
}
