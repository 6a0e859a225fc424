//! Runs of many seeds, and replays of single ones.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::faults::Statistics;
use crate::mutants::Mutant;
use crate::world::World;

/// The first seed of every run.
const FIRST: u64 = 1;
const SEEDS: u64 = 20_000;
/// A mutant must be found within this many seeds.
const MUTANT_SEEDS: u64 = 10_000;
const THREADS: u64 = 2;
const PIECE: u64 = 1_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs seeds until one violates an invariant. Returns the smallest of those that did.
fn run(seeds: u64, mutant: Option<Mutant>, says: bool) -> (Statistics, Option<(u64, String)>) {
    let (next, found) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut statistics = Statistics::default();
    let mut worst: Option<(u64, String)> = None;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut statistics = Statistics::default();
                    loop {
                        let piece = next.fetch_add(PIECE.min(seeds / THREADS + 1), Ordering::Relaxed);
                        if piece >= seeds || found.load(Ordering::Relaxed) {
                            return (statistics, None);
                        }
                        for seed in piece..(piece + PIECE.min(seeds / THREADS + 1)).min(seeds) {
                            let mut world = World::new(FIRST + seed, mutant, false);
                            let violation = world.run();
                            statistics.add(&world.statistics);
                            if let Some(violation) = violation {
                                found.store(true, Ordering::Relaxed);
                                return (statistics, Some((FIRST + seed, violation)));
                            }
                        }
                        if says && piece % 50_000 == 0 && piece > 0 {
                            println!("{piece} seeds");
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            let (part, violation) = thread.join().unwrap();
            statistics.add(&part);
            if let Some(violation) = violation
                && worst.as_ref().is_none_or(|(seed, _)| violation.0 < *seed)
            {
                worst = Some(violation);
            }
        }
    });
    (statistics, worst)
}

#[test]
fn seeds_hold_all_invariants() {
    if let Some(seed) = setting("NARTHEX_SEED") {
        let violation = World::new(seed, None, true).run();
        assert_eq!(violation, None, "seed {seed} violates");
        return;
    }
    let seeds = setting("NARTHEX_SEEDS").unwrap_or(SEEDS);
    let (statistics, violation) = run(seeds, None, seeds > SEEDS);
    println!("{statistics:?}");
    if let Some((seed, violation)) = violation {
        panic!(
            "seed {seed} violates: {violation}\nreplay it: NARTHEX_SEED={seed} cargo test -p narthex-simulation -- --nocapture"
        );
    }
}

fn is_caught(mutant: Mutant) {
    let (statistics, violation) = run(MUTANT_SEEDS, Some(mutant), false);
    let (seed, violation) = violation.unwrap();
    println!("{mutant:?} is caught by seed {seed}, after {} worlds: {violation}", statistics.worlds);
}

#[test]
fn a_core_that_accepts_late_commits_is_caught() {
    is_caught(Mutant::LateReportsCount);
}

#[test]
fn a_core_that_forgets_keys_is_caught() {
    is_caught(Mutant::KeysAreForgotten);
}

#[test]
fn a_core_that_repeats_what_is_not_idempotent_is_caught() {
    is_caught(Mutant::UnsafeIsRepeated);
}

#[test]
fn a_core_that_numbers_events_anew_is_caught() {
    is_caught(Mutant::NumbersBeginAnew);
}

#[test]
fn a_storage_that_loses_a_piece_of_a_result_is_caught() {
    is_caught(Mutant::PiecesAreLost);
}

#[test]
fn a_lane_that_gives_a_permit_too_many_is_caught() {
    is_caught(Mutant::OnePermitTooMany);
}

#[test]
fn a_lane_that_opens_at_once_after_a_restart_is_caught() {
    is_caught(Mutant::LaneOpensAtOnce);
}

#[test]
fn a_core_whose_alarm_is_lost_in_a_crash_is_caught() {
    is_caught(Mutant::AlarmIsLostInACrash);
}
