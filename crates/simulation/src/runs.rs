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

/// What worlds must contain, so that their silence means something.
const HAPPENS: [&str; 38] = [
    "acquire",
    "leave queue",
    "lease",
    "announce attempt",
    "call",
    "stop call",
    "withdraw",
    "renew",
    "renew permit",
    "release probe",
    "release",
    "report calls",
    "admit",
    "commit",
    "record",
    "put back",
    "put back until",
    "refuse",
    "refresh",
    "answer with the end",
    "answer at the store",
    "answer without a context",
    "input answered",
    "open breaker",
    "stale",
    "question",
    "push",
    "push failed",
    "notification",
    "write",
    "write refused",
    "answered",
    "answered late",
    "registry disk",
    "socket opened",
    "sockets closed",
    "status reported",
    "lane deleted",
];

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
    for what in HAPPENS.into_iter().filter(|_| violation.is_none()) {
        assert!(seeds < SEEDS || statistics.happened.get(what).is_some_and(|times| *times > 0), "{what} never happens");
    }
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

macro_rules! mutants {
    ($($name:ident: $mutant:ident;)*) => {
        $(#[test]
        fn $name() {
            is_caught(Mutant::$mutant);
        })*
    };
}

mutants! {
    a_core_that_accepts_late_commits_is_caught: LateReportsCount;
    a_core_that_forgets_keys_is_caught: KeysAreForgotten;
    a_core_that_repeats_what_is_not_idempotent_is_caught: UnsafeIsRepeated;
    a_gateway_that_does_not_say_what_is_kept_is_caught: AdmitsAsKept;
    a_core_that_numbers_events_anew_is_caught: NumbersBeginAnew;
    a_storage_that_loses_a_piece_of_a_result_is_caught: PiecesAreLost;
    a_storage_that_acknowledges_too_much_is_caught: AcknowledgesTooMuch;
    a_storage_that_takes_the_rows_of_others_is_caught: TakesRowsOfOthers;
    a_lane_that_gives_a_permit_too_many_is_caught: OnePermitTooMany;
    a_lane_that_opens_at_once_after_a_restart_is_caught: LaneOpensAtOnce;
    a_lane_that_forgets_alarms_is_caught: LaneForgetsAlarms;
    a_lane_that_forgets_reports_is_caught: LaneForgetsReports;
    a_core_whose_alarm_is_lost_in_a_crash_is_caught: AlarmIsLostInACrash;
    a_driver_that_ignores_cancellation_is_caught: IgnoresCancellation;
    a_driver_that_ignores_a_lost_lease_is_caught: IgnoresLostLease;
    a_driver_that_lets_calls_go_on_is_caught: LetsCallsGoOn;
    a_driver_that_calls_without_a_permit_is_caught: CallsWithoutPermit;
    a_driver_that_ignores_an_open_breaker_is_caught: IgnoresOpenBreaker;
    a_driver_that_forgets_tried_services_is_caught: ForgetsTriedServices;
    a_driver_that_forgets_hopeless_services_is_caught: ForgetsHopelessServices;
    a_driver_that_retries_unsafely_is_caught: RetriesUnsafely;
    a_driver_that_ignores_retry_after_is_caught: IgnoresRetryAfter;
    a_driver_that_exceeds_the_retry_budget_is_caught: ExceedsRetryBudget;
    a_driver_that_never_renews_leases_is_caught: NeverRenewsLeases;
    a_driver_that_never_renews_permits_is_caught: NeverRenewsPermits;
    a_driver_that_keeps_permits_is_caught: KeepsPermits;
    a_driver_that_keeps_probes_is_caught: KeepsProbes;
    a_driver_that_returns_permits_early_is_caught: ReturnsPermitsEarly;
    a_driver_that_forgets_clients_is_caught: ForgetsClients;
    a_driver_that_answers_before_admission_is_caught: AnswersBeforeAdmission;
    a_driver_that_answers_with_false_ends_is_caught: AnswersWithFalseEnds;
    a_driver_that_never_admits_is_caught: NeverAdmits;
    a_driver_that_does_not_wait_for_permits_is_caught: DoesNotWaitForPermits;
    a_driver_that_wakes_late_is_caught: WakesLate;
    a_driver_that_never_wakes_is_caught: NeverWakes;
    a_driver_that_tears_streams_is_caught: TearsStreams;
    a_driver_that_calls_old_services_is_caught: CallsOldServices;
    a_driver_that_forgets_reports_is_caught: ForgetsReports;
    a_consumer_that_claims_twice_is_caught: ConsumerClaimsTwice;
    a_consumer_that_finishes_early_is_caught: ConsumerFinishesEarly;
    a_consumer_that_drops_work_is_caught: ConsumerDropsWork;
    a_lane_that_forgets_ended_deliveries_is_caught: ForgetsEndedDeliveries;
    a_lane_that_dispatches_late_is_caught: DispatchesLate;
    a_lane_that_exceeds_credits_is_caught: ExceedsCredits;
    a_registry_that_answers_before_stores_know_is_caught: AnswersBeforeStoresKnow;
    a_registry_that_refuses_before_stores_know_is_caught: RefusesBeforeStoresKnow;
    a_registry_that_takes_pushes_for_confirmed_is_caught: PushesCountAsConfirmed;
    a_registry_that_trusts_silent_stores_is_caught: TrustsSilentStores;
    a_registry_that_answers_before_notifying_is_caught: AnswersBeforeNotifying;
    a_store_that_takes_pushes_for_answers_is_caught: PushesCountAsAnswers;
    a_store_that_counts_from_the_answer_is_caught: QuestionsCountWhenAnswered;
    an_isolate_that_counts_from_the_reply_is_caught: SnapshotsAgeFromReplies;
    a_registry_that_notifies_once_is_caught: NotifiesOnce;
    a_storage_that_forgets_notifications_is_caught: NotificationsAreForgotten;
    a_registry_that_forgets_alarms_is_caught: RegistryForgetsAlarms;
    a_registry_that_drops_events_is_caught: RegistryDropsEvents;
    a_storage_that_forgets_what_was_changed_is_caught: ChangesAreForgotten;
    a_copy_that_keeps_what_was_deleted_is_caught: CopiesKeepDeleted;
    a_storage_that_forgets_revisions_is_caught: RevisionsAreForgotten;
}
