//! The faults of a world: their probabilities, and statistics of what happened.

use std::collections::BTreeMap;

use narthex_core::execution::driver::{Action, ClientAnswer, Permit};

use narthex_core::calling::response::CallResult;
use narthex_core::registry::revision::Revision;

use crate::dice::Dice;
use crate::messages::{Actor, Ask, Event};
use crate::worker::Worker;
use crate::world::World;

/// The probabilities of faults, in per mille.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    pub lose: u64,
    pub double: u64,
    pub delay: u64,
    /// An object crashes in a turn.
    pub crash: u64,
    /// A worker crashes at a step.
    pub die: u64,
    /// A write fails.
    pub disk: u64,
    /// Clocks jump.
    pub clock: u64,
    /// A service behaves badly.
    pub service: u64,
    /// The registry changes.
    pub registry: u64,
    /// For a while, many messages of the registry to the first store, the hub and the lanes are lost, though its
    /// replies reach the store: how many are lost.
    pub cut: u64,
}

impl Faults {
    /// Messages and machines do not fail.
    pub fn is_quiet(&self) -> bool {
        let Self { lose, double, delay, crash, die, disk, clock, cut, service: _, registry: _ } = *self;
        [lose, double, delay, crash, die, disk, clock, cut].into_iter().all(|chance| chance == 0)
    }
}

/// What happened in a world, or in many.
#[derive(Debug, Clone, Default)]
pub struct Statistics {
    /// The actions of workers and consumers, and what they met.
    pub happened: BTreeMap<&'static str, u64>,
    pub worlds: u64,
    pub steps: u64,
    pub contexts: u64,
    pub executions: u64,
    pub crashes: u64,
    pub deaths: u64,
    pub lost: u64,
    pub doubled: u64,
    pub delayed: u64,
    pub jumps: u64,
    pub alarms: u64,
    pub dead_alarms: u64,
    pub disk: u64,
    pub late: u64,
}

impl Statistics {
    pub fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    pub fn add(&mut self, other: &Statistics) {
        for (what, times) in &other.happened {
            *self.happened.entry(what).or_default() += times;
        }
        self.worlds += other.worlds;
        self.steps += other.steps;
        self.contexts += other.contexts;
        self.executions += other.executions;
        self.crashes += other.crashes;
        self.deaths += other.deaths;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.delayed += other.delayed;
        self.jumps += other.jumps;
        self.alarms += other.alarms;
        self.dead_alarms += other.dead_alarms;
        self.disk += other.disk;
        self.late += other.late;
    }
}

/// The faults of one world: some worlds have none, some one kind, some all. In some, only services and the registry are
/// at fault: there, more can be demanded.
pub fn faults(dice: &mut Dice) -> Faults {
    let is_quiet = dice.chance(150);
    let mut often = |levels: &[u64]| dice.pick(levels);
    let faults = Faults {
        lose: often(&[0, 0, 20, 80]),
        double: often(&[0, 0, 20, 100]),
        delay: often(&[0, 20, 100]),
        crash: often(&[0, 0, 30, 120]),
        die: often(&[0, 0, 20, 80]),
        disk: often(&[0, 0, 0, 10]),
        clock: often(&[0, 0, 0, 300]),
        service: often(&[0, 200, 600]),
        registry: often(&[0, 0, 500, 800]),
        cut: 0,
    };
    if dice.chance(80) {
        let cut = dice.pick(&[700, 950, 1_000]);
        let (crash, clock, double) = (dice.pick(&[0, 20]), dice.pick(&[0, 500]), dice.pick(&[0, 100]));
        return Faults { cut, delay: 350, registry: 850, crash, clock, double, ..Faults::default() };
    }
    if is_quiet {
        return Faults { service: faults.service, registry: faults.registry, ..Faults::default() };
    }
    faults
}

/// The kind of an action, for the statistics.
pub fn kind(action: &Action) -> &'static str {
    match action {
        Action::Acquire { .. } => "acquire",
        Action::LeaveQueue { .. } => "leave queue",
        Action::Lease => "lease",
        Action::AnnounceAttempt { .. } => "announce attempt",
        Action::Call(_) => "call",
        Action::StopCall { withdraw: None, .. } => "stop call",
        Action::StopCall { withdraw: Some(_), .. } => "withdraw",
        Action::Renew(_) => "renew",
        Action::RenewPermit(_) => "renew permit",
        Action::Release { permit: Permit { is_probe: true, .. }, .. } => "release probe",
        Action::Release { .. } => "release",
        Action::ReportCalls { .. } => "report calls",
        Action::Admit(_) => "admit",
        Action::Commit(_) => "commit",
        Action::Record(_) => "record",
        Action::PutBack { until: None } => "put back",
        Action::PutBack { until: Some(_) } => "put back until",
        Action::Refuse(_) => "refuse",
        Action::Refresh => "refresh",
        Action::Answer(ClientAnswer::Ended) => "answer with the end",
        Action::Answer(ClientAnswer::Continues) => "answer at the store",
        Action::Answer(ClientAnswer::NotStored) => "answer without a context",
    }
}

impl World {
    /// The faults end, and everything that they broke recovers.
    pub fn calm(&mut self) {
        self.note(|| "calm".into());
        self.faults = Faults::default();
        self.is_calm = true;
        // The clock may have jumped over the planned time.
        self.calm_at = self.now;
        self.last_until(self.now + 30_000);
        self.calm_registry();
        // A hanging call would block a limited service until its deadline.
        for (worker, call) in self.calls() {
            let at = self.now + 1_000;
            self.schedule(at, Event::Answered { worker, call, answer: CallResult::Broken });
        }
        self.end_deliveries();
        for store in 0..self.stores.len() {
            self.stores[store].offset = 0;
            // A store whose alarm was lost is woken only by cron.
            if self.stores[store].asleep.is_some() {
                self.ask(Actor::None, store, Revision::INITIAL, Ask::Sweep);
            }
        }
        for service in 0..self.services.len() {
            self.services[service].lane.offset = 0;
            if self.services[service].lane.connections.is_some() {
                self.schedule(self.now, Event::ConnectionChanges { service });
            }
        }
    }

    fn calls(&self) -> Vec<(u64, u64)> {
        let calling = |(key, worker): (&u64, &Worker)| Some((*key, worker.calling.as_ref()?.number));
        self.workers.iter().filter_map(calling).collect()
    }

    /// The clock of the world jumps, or that of one store or lane drifts.
    pub fn jump(&mut self) {
        if self.is_calm {
            return;
        }
        self.statistics.jumps += 1;
        if self.dice.chance(500) {
            self.now += self.dice.between(1_000, 20_000);
            self.note(|| "the clock jumps".into());
        } else if self.dice.chance(500) {
            let service = self.dice.below(self.services.len() as u64) as usize;
            self.services[service].lane.offset = self.dice.below(500) as i64 - 250;
            self.note(|| format!("the clock of lane {service} is {} ms off", self.services[service].lane.offset));
        } else if self.dice.chance(300) {
            self.registry.offset = self.dice.below(500) as i64 - 250;
            self.note(|| format!("the clock of the registry is {} ms off", self.registry.offset));
        } else {
            let store = self.dice.below(self.stores.len() as u64) as usize;
            self.stores[store].offset = self.dice.below(500) as i64 - 250;
            self.note(|| format!("the clock of store {store} is {} ms off", self.stores[store].offset));
        }
    }
}
