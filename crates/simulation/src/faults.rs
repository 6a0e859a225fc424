//! The faults of a world: their probabilities, and statistics of what happened.

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
}

/// What happened in a world, or in many.
#[derive(Debug, Clone, Copy, Default)]
pub struct Statistics {
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
    pub fn add(&mut self, other: &Statistics) {
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

/// The faults of one world: some worlds have none, some one kind, some all.
pub fn faults(dice: &mut Dice) -> Faults {
    let mut often = |levels: &[u64]| dice.pick(levels);
    Faults {
        lose: often(&[0, 0, 20, 80]),
        double: often(&[0, 0, 20, 100]),
        delay: often(&[0, 20, 100]),
        crash: often(&[0, 0, 30, 120]),
        die: often(&[0, 0, 20, 80]),
        disk: often(&[0, 0, 0, 10]),
        clock: often(&[0, 0, 0, 300]),
        service: often(&[0, 200, 600]),
    }
}
