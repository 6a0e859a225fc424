//! Timers and restarts.

use super::*;

#[test]
fn a_renewed_lease_outlives_the_stored_time() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    fixture.leased(&admission(1), at(0));
    assert_eq!(fixture.store.renew(&id, hold(1), LEASE_MS, at(8_000)).unwrap(), Some(false));
    assert_eq!(fixture.store.renew(&id, hold(2), LEASE_MS, at(8_000)).unwrap(), None, "another number is not in force");
    fixture.store.take_effects();
    fixture.store.alarm(at(10_000), || 0);
    assert_eq!(fixture.status(&id), Status::Executing);
    assert_eq!(fixture.alarm(), Some(at(18_000)));
    fixture.store.alarm(at(18_000), || 0);
    assert_eq!(fixture.status(&id), Status::Queued);
}

#[test]
fn after_a_restart_there_is_time_to_renew() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    fixture.leased(&admission(1), at(0));
    fixture.store.renew(&id, hold(1), LEASE_MS, at(9_000)).unwrap();
    let mut fixture = fixture.restarted(at(12_000));
    assert_eq!(fixture.alarm(), Some(at(17_500)));
    fixture.store.alarm(at(12_001), || 0);
    assert_eq!(fixture.status(&id), Status::Executing);
    assert_eq!(fixture.store.renew(&id, hold(1), LEASE_MS, at(13_000)).unwrap(), Some(false));
    fixture.store.alarm(at(17_500), || 0);
    assert_eq!(fixture.status(&id), Status::Executing);
    assert!(matches!(fixture.commit(&id, 1, ReportedOutcome::Succeeded, at(20_000)), CommitResult::Accepted { .. }));
}

#[test]
fn an_admission_after_a_restart_does_not_put_off_the_alarm_of_others() {
    let mut fixture = Fixture::new();
    fixture.queued(&Admission { expires_at: at(3_000), ..admission(1) }, at(0));
    assert_eq!(fixture.alarm(), Some(at(3_000)), "its deadline comes before the next wake-up");
    let mut fixture = fixture.restarted(at(1_000));
    let later = Admission { run_at: Some(at(50_000)), ..admission(2) };
    fixture.queued(&later, at(1_000));
    assert!(fixture.alarm().is_some_and(|alarm| alarm <= at(3_000)));
}

#[test]
fn every_live_context_has_an_alarm() {
    let mut fixture = Fixture::new();
    fixture.leased(&admission(1), at(0));
    assert_eq!(fixture.alarm(), Some(at(10_000)));
    fixture.queued(&admission(2), at(100));
    assert_eq!(fixture.alarm(), Some(at(5_100)), "a wake-up is repeated if it has no effect");
    fixture.queued(&Admission { run_at: Some(at(2_000)), ..admission(3) }, at(200));
    assert_eq!(fixture.alarm(), Some(at(2_000)));
    for now in [2_000, 5_100, 10_000, 20_000, 30_000, 40_000, 50_000] {
        fixture.store.alarm(at(now), || 0);
        let alarm = fixture.alarm();
        assert!(alarm.is_some_and(|alarm| at(now) < alarm && alarm <= at(60_000)), "{alarm:?} at {now}");
    }
    fixture.store.alarm(at(60_000), || 0);
    for number in 1..=3 {
        assert_eq!(fixture.status(&admission(number).id), Status::TimedOut);
    }
    let all = fixture.store.outbox.batch().unwrap().last;
    fixture.store.acknowledge(all).unwrap();
    fixture.store.take_effects();
    fixture.store.alarm(at(70_000), || 0);
    assert_eq!(fixture.alarm(), None, "a store at rest does not wake");
}

#[test]
fn no_alarm_is_set_for_the_very_time_of_the_one_that_runs() {
    let mut fixture = Fixture::new();
    assert!(fixture.store.alarm(at(5), || 0).is_empty());
    // A retry without delay, decided while the alarm runs.
    fixture.store.arm_by(at(5));
    assert_eq!(fixture.alarm(), Some(at(6)));
    // An alarm that fires early finds nothing due, and is set again.
    fixture.leased(&admission(1), at(20_010));
    fixture.store.alarm(at(20_006), || 0);
    fixture.store.alarm(at(29_999), || 0);
    fixture.store.take_effects();
    fixture.store.alarm(at(30_009), || 0);
    assert_eq!(fixture.alarm(), Some(at(30_059)));
}

#[test]
fn a_sweep_sets_the_alarm_in_place_of_one_that_died() {
    let mut fixture = Fixture::new();
    fixture.queued(&admission(1), at(0));
    fixture.store.take_effects();
    fixture.store.sweep(at(4_000), || 0);
    assert_eq!(fixture.alarm(), None, "the alarm that is set will fire");
    fixture.store.sweep(at(20_000), || 0);
    assert_eq!(fixture.alarm(), Some(at(25_000)));
}

#[test]
fn wake_ups_are_repeated_at_intervals() {
    let mut fixture = Fixture::new();
    fixture.queued(&admission(1), at(0));
    assert_eq!(fixture.store.take_effects().wakeups, 1);
    fixture.store.alarm(at(1_000), || 0);
    // The first sweep after a start sends wake-ups, as earlier ones are unknown.
    fixture.store.take_effects();
    fixture.store.alarm(at(2_000), || 0);
    assert_eq!(fixture.store.take_effects().wakeups, 0);
    fixture.store.alarm(at(6_001), || 0);
    assert_eq!(fixture.store.take_effects().wakeups, 1);
}

#[test]
fn a_restart_publishes_what_no_row_says_was_acknowledged() {
    let mut fixture = Fixture::new();
    fixture.leased(&admission(1), at(0));
    fixture.commit(&admission(1).id, 1, ReportedOutcome::Succeeded, at(10));
    let first = fixture.store.outbox.batch().unwrap();
    fixture.store.acknowledge(first.last).unwrap();
    fixture.leased(&admission(2), at(20));
    fixture.commit(&admission(2).id, 1, failed(false, false), at(30));
    fixture.queued(&admission(3), at(40));
    let unpublished = fixture.numbers();
    assert_eq!(unpublished.len(), 6 + 3);

    let mut fixture = fixture.restarted(at(50));
    assert!(fixture.store.take_effects().publish);
    assert_eq!(fixture.numbers(), unpublished);
    let ended = fixture.published().iter().filter(|bundle| bundle.subject == admission(2).id.as_str()).count();
    assert_eq!(ended, 6, "each on its own, in the order of the numbers");
    fixture.store.acknowledge(unpublished[8]).unwrap();
    let mut fixture = fixture.restarted(at(60));
    assert!(fixture.numbers().is_empty(), "stored, as it was published again");
    fixture.queued(&admission(4), at(70));
    let new = fixture.numbers();
    assert!(new.iter().all(|number| *number > unpublished[8]));
    let fixture = fixture.restarted(at(80));
    assert_eq!(fixture.numbers(), new);
}

#[test]
fn numbers_only_grow_over_restarts() {
    let mut fixture = Fixture::new();
    let mut last = 0;
    for number in 1..20 {
        fixture.leased(&admission(number), at(u64::from(number)));
        let numbers: Vec<u64> = fixture.head(&admission(number).id).history.iter().map(|step| step.event).collect();
        assert!(numbers.iter().all(|number| *number > last));
        last = numbers[3];
        if number % 3 == 0 {
            fixture = fixture.restarted(at(100));
        }
        if number % 5 == 0 {
            // The next reservation does not reach the disk.
            fixture.storage.fail_write(Some(0));
            let broken = fixture.store.admit(admission(100 + number), &raw("1"), None, false, None, at(100));
            assert!(broken.is_err());
        }
    }
}

#[test]
fn a_reservation_that_failed_is_made_again() {
    let mut fixture = Fixture::new();
    fixture.storage.fail_write(Some(0));
    assert!(fixture.store.admit(admission(1), &raw("1"), None, false, None, at(0)).is_err());
    fixture.queued(&admission(1), at(1));
    let reserved = fixture.storage.reserved_number().unwrap();
    assert!(fixture.numbers().iter().all(|number| *number < reserved));
}

#[test]
fn old_contexts_are_deleted_in_batches_and_never_before_they_were_published() {
    let mut fixture = Fixture::new();
    for number in 1..=3 {
        fixture.leased(&admission(number), at(0));
        fixture.commit(&admission(number).id, 1, ReportedOutcome::Succeeded, at(10));
    }
    let old = at(RETENTION_MS + 1);
    fixture.store.alarm(old, || 0);
    assert_eq!(fixture.status(&admission(1).id), Status::Completed, "the hub does not have its events");
    let all = fixture.store.outbox.batch().unwrap().last;
    fixture.store.acknowledge(all).unwrap();
    assert_eq!(fixture.storage.delete_done(at(1), 2).unwrap(), 0, "their live rows are spare");
    fixture.store.alarm(old, || 0);
    assert!(fixture.storage.read(|disk| disk.live.is_empty() && disk.done.is_empty()));
    assert!(fixture.store.get(&admission(3).id).unwrap().is_none());
}

#[test]
fn consumers_are_woken_when_an_unavailable_service_may_be_tried() {
    let mut fixture = Fixture::new();
    fixture.queued(&admission(1), at(0));
    assert_eq!(fixture.store.take_effects().wakeups, 1);
    fixture.store.wake_consumers_at(at(2_000), at(10));
    assert_eq!(fixture.alarm(), Some(at(2_000)));
    fixture.store.alarm(at(2_000), || 0);
    assert_eq!(fixture.store.take_effects().wakeups, 1);
    // Later than the next wake-up anyway: nothing changes.
    fixture.store.wake_consumers_at(at(8_000), at(2_010));
    assert_eq!(fixture.alarm(), None);
}
