use super::super::next_run::LATE_MS;
use super::*;

fn utc(_: &str, _: Timestamp) -> i64 {
    0
}

fn state(missed: MissedRuns) -> RunState {
    let plan = Plan::Every { seconds: 60, from: Timestamp(0) };
    RunState::new(Generation::from_number(1), plan, missed, true, Timestamp(0), None)
}

fn planned(claimed: &[ClaimedRun]) -> Vec<Timestamp> {
    claimed.iter().map(|one| one.planned_at).collect()
}

/// The planned times of the runs claimed at `now` that are made.
fn made(state: &mut RunState, now: u64) -> Vec<u64> {
    let claimed = state.claim(Timestamp(now), LATE_MS).into_iter();
    claimed.filter(|one| !one.is_missed(Timestamp(now))).map(|one| one.planned_at.0).collect()
}

fn created() -> RunOutcome {
    RunOutcome::Created { context: "ctx_1".into() }
}

#[test]
fn each_planned_time_is_taken_up_once_however_often_it_is_woken() {
    let mut state = state(MissedRuns::Skip);
    assert_eq!(state.next_wakeup(&utc), Some(Timestamp(60_000)));
    assert!(!state.advance(Timestamp(59_999), LATE_MS, &utc));
    assert!(state.advance(Timestamp(60_005), LATE_MS, &utc));
    assert!(!state.advance(Timestamp(60_010), LATE_MS, &utc));
    assert_eq!(planned(&state.claim(Timestamp(60_010), LATE_MS)), [Timestamp(60_000)]);
    assert!(state.claim(Timestamp(60_011), LATE_MS).is_empty());
    state.report(Timestamp(60_000), created(), false, Timestamp(60_100));
    state.report(Timestamp(60_000), RunOutcome::Missed, false, Timestamp(60_200));
    assert_eq!(state.past, [PastRun { planned_at: Timestamp(60_000), outcome: created() }]);
    assert_eq!(state.next_wakeup(&utc), Some(Timestamp(120_000)));
}

#[test]
fn an_unreported_run_is_claimed_again() {
    let mut state = state(MissedRuns::Skip);
    state.advance(Timestamp(60_000), LATE_MS, &utc);
    state.claim(Timestamp(60_000), LATE_MS);
    assert!(!state.is_due(Timestamp(119_999)));
    assert_eq!(planned(&state.claim(Timestamp(120_000), LATE_MS)), [Timestamp(60_000)]);
}

#[test]
fn a_run_that_cannot_be_made_is_retried_for_a_while() {
    let mut state = state(MissedRuns::Skip);
    state.advance(Timestamp(60_000), LATE_MS, &utc);
    let refused = || RunOutcome::Refused { code: "no_service_available".into(), detail: String::new() };
    let mut now = Timestamp(60_000);
    for _ in 0..MAX_TRIES {
        assert_eq!(planned(&state.claim(now, LATE_MS)), [Timestamp(60_000)]);
        state.report(Timestamp(60_000), refused(), true, now);
        assert!(state.past.is_empty() && !state.is_due(now));
        now = now.plus_ms(RETRY_DELAY_MS);
    }
    state.report(Timestamp(60_000), refused(), true, now);
    assert_eq!(state.past[0].outcome, refused());
}

#[test]
fn a_new_version_forgets_due_runs_and_keeps_past_ones() {
    let mut known = state(MissedRuns::RunAll);
    known.advance(Timestamp(300_000), LATE_MS, &utc);
    known.report(Timestamp(60_000), created(), false, Timestamp(300_000));
    let plan = Plan::Every { seconds: 60, from: Timestamp(400_000) };
    let renewed =
        RunState::new(Generation::from_number(2), plan, MissedRuns::Skip, false, Timestamp(400_000), Some(known));
    assert_eq!((renewed.past.len(), renewed.next_wakeup(&utc)), (1, None));
}

#[test]
fn a_run_that_waited_too_long_was_missed() {
    let mut skips = state(MissedRuns::Skip);
    assert!(skips.advance(Timestamp(60_000), LATE_MS, &utc));
    // It became due in time, and was claimed more than a minute later.
    let [run] = skips.claim(Timestamp(120_001), LATE_MS)[..] else { panic!("one run") };
    assert!(run.is_missed(Timestamp(120_001)) && !run.is_missed(Timestamp(120_000)));
    // It was claimed in time, and made too late.
    let mut slow = state(MissedRuns::Skip);
    slow.advance(Timestamp(60_000), LATE_MS, &utc);
    let [run] = slow.claim(Timestamp(60_001), LATE_MS)[..] else { panic!("one run") };
    assert!(!run.is_missed(Timestamp(60_001)) && run.is_missed(Timestamp(120_001)));
}

#[test]
fn of_what_waited_too_long_one_or_all_are_made_up_for() {
    let late = |missed| {
        let mut state = state(missed);
        for minute in 1..=3 {
            state.advance(Timestamp(minute * 60_000), LATE_MS, &utc);
        }
        state
    };
    // Three became due in time, and were claimed when all were late, or before the last one was.
    assert_eq!(made(&mut late(MissedRuns::Skip), 250_000), [] as [u64; 0]);
    assert_eq!(made(&mut late(MissedRuns::Skip), 200_000), [180_000]);
    assert_eq!(made(&mut late(MissedRuns::RunOnce), 250_000), [180_000]);
    assert_eq!(made(&mut late(MissedRuns::RunOnce), 200_000), [180_000]);
    assert_eq!(made(&mut late(MissedRuns::RunAll), 250_000), [60_000, 120_000, 180_000]);
}

#[test]
fn a_retried_run_is_not_missed() {
    let mut state = state(MissedRuns::Skip);
    state.advance(Timestamp(60_000), LATE_MS, &utc);
    state.claim(Timestamp(60_000), LATE_MS);
    state.report(Timestamp(60_000), RunOutcome::Missed, true, Timestamp(110_000));
    assert_eq!(made(&mut state, 140_000), [60_000]);
}

// The versions of the Worker before and after read this form too.
#[test]
fn the_generation_is_stored_as_version() {
    let state = state(MissedRuns::Skip);
    let stored = serde_json::to_value(&state).unwrap();
    assert_eq!(stored["version"].as_u64(), Some(1));
    assert_eq!(serde_json::from_value::<RunState>(stored).unwrap(), state);
}
