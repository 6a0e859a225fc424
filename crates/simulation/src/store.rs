//! A store as its object runs it: a message is one turn, whose writes and alarm are on disk together or not at all.
//!
//! The object may die before that, or between any two of the effects after it; then the next message or alarm finds
//! only the shelf. A reply leaves only after the turn's writes are safe.

use narthex_core::base::id::{Region, StoreId};
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::context_store::{
    Admitted, Attempting, Broken, Callback, CalledBack, Cancelling, Changed, Claimed, Committed, Effects, Ledger,
};
use narthex_core::events::bundle::last_number;

use crate::dice::Dice;
use crate::messages::{Ask, Batch, Call, Event, Reply, Said, Work};
use crate::mutants::Mutant;
use crate::world::{PARAMETERS, World, raw, result};
use narthex_core::context_store::memory::Memory;

pub const LEASE_MS: u64 = Timing::DEFAULT.lease_ms;
const RETENTION_MS: u64 = 30 * 86_400_000;
/// As the object gathers events, and how often it tries to tell them.
const GATHER_MS: u64 = 40;
const TRIES: u64 = 5;

pub struct Store {
    pub id: StoreId,
    pub shelf: Memory,
    pub ledger: Option<Ledger<Memory>>,
    /// Which instance of the object this is.
    pub life: u64,
    /// How far its clock is from the world's.
    pub offset: i64,
    tries: u64,
    /// The batch that is on its way.
    sending: u64,
    /// Its alarm has died; only the cron's sweep can wake it.
    pub asleep: Option<u64>,
}

impl Store {
    pub fn new(shard: u16) -> Self {
        Self {
            id: StoreId { region: Region::Eu, shard },
            shelf: Memory::default(),
            ledger: None,
            life: 0,
            offset: 0,
            tries: 0,
            sending: 0,
            asleep: None,
        }
    }
}

/// How a turn of an object ends.
enum Fate {
    Well,
    /// Its writes were not on disk yet.
    Unwritten,
    /// After so many of its effects.
    After(u64),
}

impl World {
    pub fn clock(&self, store: usize) -> Timestamp {
        Timestamp(self.now.saturating_add_signed(self.stores[store].offset))
    }

    fn fate(&mut self) -> Fate {
        if !self.dice.chance(self.faults.crash) {
            return Fate::Well;
        }
        self.tally.crashes += 1;
        if self.dice.chance(400) { Fate::Unwritten } else { Fate::After(self.dice.below(4)) }
    }

    /// A new instance takes up what the last one left.
    fn wake(&mut self, at: usize) -> Result<(), Broken> {
        if self.stores[at].ledger.is_some() {
            return Ok(());
        }
        let now = self.clock(at);
        let store = &mut self.stores[at];
        store.life += 1;
        store.tries = 0;
        store.sending = 0;
        let mut ledger = Ledger::open(store.shelf.clone(), RETENTION_MS, Timing::DEFAULT, now)?;
        let Effects { alarm, tells, .. } = ledger.effects();
        store.ledger = Some(ledger);
        if let Some(alarm) = alarm {
            self.set_alarm(at, alarm);
        }
        if tells {
            self.flush_soon(at);
        }
        Ok(())
    }

    pub fn die(&mut self, at: usize) {
        self.stores[at].ledger = None;
    }

    /// One turn. Nothing when the object died before anybody could hear of it.
    fn turn<T>(&mut self, at: usize, decide: impl FnOnce(&mut Ledger<Memory>, Timestamp, u64) -> T) -> Option<T> {
        if self.wake(at).is_err() {
            return None;
        }
        let (now, random) = (self.clock(at), self.dice.throw());
        let fate = self.fate();
        let store = &mut self.stores[at];
        let before = matches!(fate, Fate::Unwritten).then(|| store.shelf.snapshot());
        let alarm_before = store.shelf.alarm();
        let ledger = store.ledger.as_mut()?;
        let decided = decide(ledger, now, random);
        let effects = ledger.effects();
        if let Some(before) = before {
            store.shelf.restore(before);
            self.die(at);
            self.note(|| format!("store {at} dies, and nothing was written"));
            return None;
        }
        if let Some(alarm) = effects.alarm {
            self.set_alarm(at, alarm);
        }
        let left = if let Fate::After(left) = fate { left } else { u64::MAX };
        if left != u64::MAX && self.mutant == Some(Mutant::AlarmIsLostInACrash) {
            self.stores[at].shelf.set_alarm(alarm_before);
        }
        self.observe(at);
        let done = self.carry_out(at, effects, left);
        if left != u64::MAX {
            self.die(at);
            self.note(|| format!("store {at} dies after {left} effects"));
        }
        (done < left).then_some(decided)
    }

    /// Carries out effects, at most so many; gives how many there were.
    fn carry_out(&mut self, at: usize, effects: Effects, most: u64) -> u64 {
        let mut done = 0;
        for _ in 0..effects.rings {
            done += 1;
            if done <= most {
                self.ring(at);
            }
        }
        if effects.tells {
            done += 1;
            if done <= most {
                self.flush_soon(at);
            }
        }
        done
    }

    pub fn set_alarm(&mut self, store: usize, at: Timestamp) {
        self.note(|| format!("the alarm of store {store} is set for {}", at.0));
        self.stores[store].shelf.set_alarm(Some(at));
        let late = if self.dice.chance(self.faults.delay) { self.dice.between(50, 4_000) } else { self.dice.below(20) };
        if self.dice.chance(self.faults.double) {
            self.tally.doubled += 1;
            let after = at.0.max(self.now) + late + self.dice.below(2_000);
            self.schedule(after, Event::AlarmAgain { store });
        }
        self.schedule(at.0.max(self.now) + late, Event::Alarm { store, at: at.0 });
    }

    /// The platform wakes the object, if this alarm was not replaced meanwhile.
    pub fn alarm(&mut self, store: usize, at: u64) {
        let shelf = self.stores[store].shelf.clone();
        if shelf.alarm() != Some(Timestamp(at)) {
            return;
        }
        if self.has_cron && self.dice.chance(self.faults.crash / 4) {
            self.tally.dead_alarms += 1;
            self.note(|| format!("the alarm of store {store} dies"));
            shelf.set_alarm(None);
            self.stores[store].asleep = Some(self.now);
            return;
        }
        shelf.set_alarm(None);
        self.run_alarm(store, at);
    }

    /// Runs the alarm's handler. The platform tries one that failed again.
    pub fn run_alarm(&mut self, store: usize, at: u64) {
        self.tally.alarms += 1;
        let mut dice = Dice::new(self.dice.throw());
        self.note(|| format!("the alarm of store {store} rings"));
        if self.turn(store, |ledger, now, _| ledger.alarm(now, || dice.throw())).is_some() {
            // One set for the very time of the one that runs is taken for itself, and ends with it.
            let shelf = &self.stores[store].shelf;
            if shelf.alarm() == Some(Timestamp(at)) {
                shelf.set_alarm(None);
                self.check_alarm(store);
            }
            self.flush_soon(store);
            return;
        }
        let again = self.now + self.dice.between(1_000, 2_500);
        let shelf = &self.stores[store].shelf;
        if shelf.alarm().is_none() {
            shelf.set_alarm(Some(Timestamp(at)));
            self.schedule(again, Event::Alarm { store, at });
        }
    }

    pub fn flush_soon(&mut self, store: usize) {
        let Some(ledger) = &mut self.stores[store].ledger else { return };
        if ledger.outbox.begin() {
            self.stores[store].tries = 0;
            let life = self.stores[store].life;
            self.schedule(self.now + GATHER_MS, Event::Flush { store, life });
        }
    }

    fn is_alive(&self, store: usize, life: u64) -> bool {
        self.stores[store].life == life && self.stores[store].ledger.is_some()
    }

    /// Sends the next batch, or is through.
    pub fn flush(&mut self, store: usize, life: u64) {
        if !self.is_alive(store, life) {
            return;
        }
        let Some(ledger) = &mut self.stores[store].ledger else { return };
        let Some(batch) = ledger.outbox.batch() else {
            ledger.outbox.finish();
            return;
        };
        let batch = Batch { first: batch.first, last: batch.last, count: batch.count, bundles: batch.bundles };
        let sending = self.number();
        self.stores[store].sending = sending;
        let travels = self.travel();
        if travels.is_empty() {
            let patience = self.patience();
            self.schedule(self.now + patience, Event::HubReplied { store, sending, head: None });
        }
        for delay in travels {
            self.schedule(self.now + delay, Event::ToHub { store, sending, batch: batch.clone() });
        }
    }

    pub fn reach_hub(&mut self, store: usize, sending: u64, batch: &Batch) {
        match self.hub.publish(store, batch) {
            Ok(head) => {
                let travels = self.travel();
                let lost = travels.is_empty();
                let delay = travels.first().copied().unwrap_or_else(|| self.patience());
                let head = (!lost).then_some(head);
                self.schedule(self.now + delay, Event::HubReplied { store, sending, head });
            }
            Err(violation) => self.violate(violation),
        }
    }

    pub fn hub_replied(&mut self, store: usize, sending: u64, head: Option<u64>) {
        let life = self.stores[store].life;
        if !self.is_alive(store, life) || self.stores[store].sending != sending {
            return;
        }
        self.stores[store].sending = 0;
        if let Some(head) = head {
            // A disk that fails here leaves rows that the next instance tells again.
            self.turn(store, |ledger, _, _| ledger.acknowledged(head));
            self.flush(store, life);
            return;
        }
        self.stores[store].tries += 1;
        if self.stores[store].tries < TRIES {
            let pause = 100 << self.stores[store].tries;
            self.schedule(self.now + pause, Event::Flush { store, life });
            return;
        }
        self.turn(store, |ledger, now, _| {
            ledger.outbox.finish();
            ledger.wake_soon(now);
        });
    }

    /// A message comes in; its reply goes out when the turn is safe.
    pub fn reach_store(&mut self, store: usize, call: Call, ask: Ask) {
        self.note(|| format!("store {store} gets {ask:?}"));
        if self.dice.chance(self.faults.disk) {
            self.tally.disk += 1;
            let nth = self.dice.below(3) as u32;
            self.stores[store].shelf.fail_write(Some(nth));
        }
        let (ask, watched) = self.mutate(store, ask);
        let sweeps = matches!(ask, Ask::Sweep);
        let decided = self.turn(store, |ledger, now, random| answer(ledger, ask, now, random));
        self.stores[store].shelf.fail_write(None);
        if sweeps && decided.is_some() {
            // In the moment of its death a clock that is behind takes it for one to come.
            let died = self.stores[store].asleep;
            self.stores[store].asleep = died.filter(|at| self.now < at + 1_000);
            self.check_alarm(store);
            self.flush_soon(store);
        }
        if let Some((id, before)) = watched {
            self.must_be_unchanged(store, &id, &before);
        }
        let reply = decided.and_then(Result::ok).unwrap_or(Reply::Failed);
        self.note(|| format!("store {store} replies {reply:?}"));
        self.reply(call, reply);
    }
}

/// From a message to the ledger's decision, as the object does it.
#[expect(clippy::too_many_lines, reason = "one arm for each message")]
fn answer(ledger: &mut Ledger<Memory>, ask: Ask, now: Timestamp, random: u64) -> Result<Reply, Broken> {
    Ok(match ask {
        Ask::Admit { admission, lease_ms, offers, claim } => {
            match ledger.admit(*admission, &raw(PARAMETERS), lease_ms, offers, claim.as_ref(), now)? {
                Admitted::Now { lease, .. } => Reply::Admitted { lease },
                Admitted::Taken => Reply::Taken,
                Admitted::Replayed(id) => Reply::Replayed(id),
                Admitted::KeyReused => Reply::KeyReused,
            }
        }
        Ask::Record { admission, report } => {
            let result = result(&report.outcome);
            ledger.record(*admission, &raw(PARAMETERS), report, result.as_deref())?;
            Reply::Done
        }
        Ask::Commit { id, report, stays_ms } => {
            let result = result(&report.outcome);
            match ledger.commit(&id, report, result.as_deref(), stays_ms, now, random)? {
                Committed::Taken { retry_ms, .. } => Reply::Committed { retry_ms },
                Committed::Refused(_) => Reply::Refused,
            }
        }
        Ask::Lease { id } => {
            let leased = ledger.lease(&id, LEASE_MS, now)?;
            leased.map_or(Reply::Nothing, |attempting| Reply::Leased(work(*attempting)))
        }
        Ask::Renew { id, lease } => {
            let held = ledger.renew(&id, lease, LEASE_MS, now)?;
            held.map_or(Reply::Nothing, |cancel| Reply::Renewed { cancel })
        }
        Ask::Claim { gated, without } => match ledger.claim(LEASE_MS, &gated, &without, now)? {
            Claimed::Nothing => Reply::Nothing,
            Claimed::Leased(attempting) => Reply::Leased(work(*attempting)),
            Claimed::Offered(attempting) => Reply::Offered(work(*attempting)),
        },
        Ask::PutBack { id, until } => {
            ledger.put_back(&id, until, now)?;
            Reply::Done
        }
        Ask::Refuse { id, error } => changed(ledger.refuse(&id, error, now)?),
        Ask::CallBack { id, lease, said } => {
            let callback = match said {
                Said::Outcome(outcome) => {
                    let result = result(&outcome);
                    Callback::Outcome { outcome, result }
                }
                Said::Beat { lease_ms, progress } => Callback::Beat { lease_ms, progress },
            };
            match ledger.called_back(&id, lease, callback, now, random)? {
                CalledBack::Taken(_) | CalledBack::Again(_) => Reply::CalledBack { counts: true },
                CalledBack::Lost(_) => Reply::CalledBack { counts: false },
                CalledBack::Absent => Reply::Nothing,
            }
        }
        Ask::Answer { id } => changed(ledger.answered(&id, raw(PARAMETERS), now)?),
        Ask::Cancel { id } => match ledger.cancel(&id, now)? {
            Cancelling::Absent => Reply::Nothing,
            Cancelling::AlreadyEnded(_) | Cancelling::Now(..) | Cancelling::Asked(_) => Reply::Done,
        },
        Ask::Get { id } => ledger.whole(&id)?.map_or(Reply::Nothing, |whole| Reply::Context(whole.head.status)),
        Ask::Sweep => {
            let mut seed = random;
            ledger.sweep(now, || {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                seed >> 11
            });
            Reply::Done
        }
    })
}

fn work(Attempting { head, .. }: Attempting) -> Box<Work> {
    debug_assert!(last_number(&head) > 0);
    let tried = head.attempts.iter().filter(|attempt| attempt.failed()).map(|attempt| attempt.service.clone());
    Box::new(Work {
        tried: tried.collect(),
        lease: head.lease.map_or(0, |lease| lease.number),
        attempt: head.attempts.len() as u64 + 1,
        admission: head.admission,
    })
}

fn changed(changed: Changed) -> Reply {
    match changed {
        Changed::Done(_) => Reply::Done,
        Changed::Refused(..) => Reply::Refused,
        Changed::Absent => Reply::Nothing,
    }
}
