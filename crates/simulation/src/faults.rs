//! The faults of a world: their probabilities, and statistics of what happened.

use std::collections::BTreeMap;

use narthex_core::execution::driver::{Action, ClientAnswer, Permit};

use crate::dice::Dice;

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
}

impl Faults {
    /// Messages and machines do not fail.
    pub fn is_quiet(&self) -> bool {
        let Self { lose, double, delay, crash, die, disk, clock, service: _, registry: _ } = *self;
        [lose, double, delay, crash, die, disk, clock].into_iter().all(|chance| chance == 0)
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
    };
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
