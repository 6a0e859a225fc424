//! What happens by time alone, and what a restart finds.

use super::*;

#[test]
fn a_lease_that_is_renewed_outlives_what_is_on_the_shelf() {
    let mut kept = Kept::new();
    let id = admission(1).id;
    kept.leased(&admission(1), at(0));
    assert_eq!(kept.ledger.renew(&id, 1, LEASE_MS, at(8_000)).unwrap(), Some(false));
    assert_eq!(kept.ledger.renew(&id, 2, LEASE_MS, at(8_000)).unwrap(), None, "another number is not in force");
    kept.ledger.effects();
    kept.ledger.alarm(at(10_000), || 0);
    assert_eq!(kept.status(&id), Status::Executing);
    assert_eq!(kept.alarm(), Some(at(18_000)));
    kept.ledger.alarm(at(18_000), || 0);
    assert_eq!(kept.status(&id), Status::Queued);
}

#[test]
fn after_a_restart_there_is_time_to_renew() {
    let mut kept = Kept::new();
    let id = admission(1).id;
    kept.leased(&admission(1), at(0));
    kept.ledger.renew(&id, 1, LEASE_MS, at(9_000)).unwrap();
    let mut kept = kept.restarted(at(12_000));
    assert_eq!(kept.alarm(), Some(at(17_500)));
    kept.ledger.alarm(at(12_001), || 0);
    assert_eq!(kept.status(&id), Status::Executing);
    assert_eq!(kept.ledger.renew(&id, 1, LEASE_MS, at(13_000)).unwrap(), Some(false));
    kept.ledger.alarm(at(17_500), || 0);
    assert_eq!(kept.status(&id), Status::Executing);
    assert!(matches!(kept.commit(&id, 1, Outcome::Succeeded, at(20_000)), Committed::Taken { .. }));
}

#[test]
fn an_admission_after_a_restart_does_not_put_off_the_alarm_of_others() {
    let mut kept = Kept::new();
    kept.queued(&Admission { expires_at: at(3_000), ..admission(1) }, at(0));
    assert_eq!(kept.alarm(), Some(at(3_000)), "its deadline comes before the next ringing");
    let mut kept = kept.restarted(at(1_000));
    let later = Admission { run_at: Some(at(50_000)), ..admission(2) };
    kept.queued(&later, at(1_000));
    assert!(kept.alarm().is_some_and(|alarm| alarm <= at(3_000)));
}

#[test]
fn whatever_lives_has_an_alarm() {
    let mut kept = Kept::new();
    kept.leased(&admission(1), at(0));
    assert_eq!(kept.alarm(), Some(at(10_000)));
    kept.queued(&admission(2), at(100));
    assert_eq!(kept.alarm(), Some(at(5_100)), "rung again, if nobody comes");
    kept.queued(&Admission { run_at: Some(at(2_000)), ..admission(3) }, at(200));
    assert_eq!(kept.alarm(), Some(at(2_000)));
    for now in [2_000, 5_100, 10_000, 20_000, 30_000, 40_000, 50_000] {
        kept.ledger.alarm(at(now), || 0);
        let alarm = kept.alarm();
        assert!(alarm.is_some_and(|alarm| at(now) < alarm && alarm <= at(60_000)), "{alarm:?} at {now}");
    }
    kept.ledger.alarm(at(60_000), || 0);
    for number in 1..=3 {
        assert_eq!(kept.status(&admission(number).id), Status::TimedOut);
    }
    let all = kept.ledger.outbox.batch().unwrap().last;
    kept.ledger.acknowledged(all).unwrap();
    kept.ledger.effects();
    kept.ledger.alarm(at(70_000), || 0);
    assert_eq!(kept.alarm(), None, "a store at rest does not wake");
}

#[test]
fn no_alarm_is_set_for_the_very_time_of_the_one_that_runs() {
    let mut kept = Kept::new();
    assert!(kept.ledger.alarm(at(5), || 0).is_empty());
    // A retry without a pause, decided while the alarm runs.
    kept.ledger.wake_at(at(5));
    assert_eq!(kept.alarm(), Some(at(6)));
    // One that comes a moment before its time finds nothing due, and is set again.
    kept.leased(&admission(1), at(10));
    kept.ledger.alarm(at(6), || 0);
    kept.ledger.alarm(at(9_999), || 0);
    kept.ledger.effects();
    kept.ledger.alarm(at(10_009), || 0);
    assert_eq!(kept.alarm(), Some(at(10_059)));
}

#[test]
fn a_sweep_sets_the_alarm_in_place_of_one_that_died() {
    let mut kept = Kept::new();
    kept.queued(&admission(1), at(0));
    kept.ledger.effects();
    kept.ledger.sweep(at(4_000), || 0);
    assert_eq!(kept.alarm(), None, "the one that is set will come");
    kept.ledger.sweep(at(20_000), || 0);
    assert_eq!(kept.alarm(), Some(at(25_000)));
}

#[test]
fn who_was_rung_for_is_rung_for_again_only_once_in_a_while() {
    let mut kept = Kept::new();
    kept.queued(&admission(1), at(0));
    assert_eq!(kept.ledger.effects().rings, 1);
    kept.ledger.alarm(at(1_000), || 0);
    // The first look after a start rings, as nobody knows who was rung for.
    kept.ledger.effects();
    kept.ledger.alarm(at(2_000), || 0);
    assert_eq!(kept.ledger.effects().rings, 0);
    kept.ledger.alarm(at(6_001), || 0);
    assert_eq!(kept.ledger.effects().rings, 1);
}

#[test]
fn a_restart_tells_exactly_what_was_not_acknowledged() {
    let mut kept = Kept::new();
    kept.leased(&admission(1), at(0));
    kept.commit(&admission(1).id, 1, Outcome::Succeeded, at(10));
    let first = kept.ledger.outbox.batch().unwrap();
    kept.ledger.acknowledged(first.last).unwrap();
    kept.leased(&admission(2), at(20));
    kept.commit(&admission(2).id, 1, failed(false, false), at(30));
    kept.queued(&admission(3), at(40));
    let untold = kept.numbers();
    assert_eq!(untold.len(), 6 + 3);

    let mut kept = kept.restarted(at(50));
    assert!(kept.ledger.effects().tells);
    assert_eq!(kept.numbers(), untold);
    let ended = kept.told().iter().filter(|bundle| bundle.subject == admission(2).id.as_str()).count();
    assert_eq!(ended, 6, "each on its own, in the order of the numbers");
    kept.ledger.acknowledged(untold[8]).unwrap();
    let kept = kept.restarted(at(60));
    let again: Vec<String> = kept.told().into_iter().map(|bundle| bundle.subject).collect();
    assert!(again.iter().all(|subject| *subject == admission(3).id.as_str()), "only what lives, which the hub skips");
}

#[test]
fn numbers_only_grow_over_restarts() {
    let mut kept = Kept::new();
    let mut last = 0;
    for number in 1..20 {
        kept.leased(&admission(number), at(u64::from(number)));
        let numbers: Vec<u64> = kept.head(&admission(number).id).history.iter().map(|step| step.event).collect();
        assert!(numbers.iter().all(|number| *number > last));
        last = numbers[3];
        if number % 3 == 0 {
            kept = kept.restarted(at(100));
        }
        if number % 5 == 0 {
            // The next reservation does not reach the disk.
            kept.shelf.fail_write(Some(0));
            let broken = kept.ledger.admit(admission(100 + number), &raw("1"), None, false, None, at(100));
            assert!(broken.is_err());
        }
    }
}

#[test]
fn a_reservation_that_failed_is_made_again() {
    let mut kept = Kept::new();
    kept.shelf.fail_write(Some(0));
    assert!(kept.ledger.admit(admission(1), &raw("1"), None, false, None, at(0)).is_err());
    kept.queued(&admission(1), at(1));
    let reserved = kept.shelf.reserved().unwrap();
    assert!(kept.numbers().iter().all(|number| *number < reserved));
}

#[test]
fn old_contexts_go_in_pieces_and_never_before_they_were_told() {
    let mut kept = Kept::new();
    for number in 1..=3 {
        kept.leased(&admission(number), at(0));
        kept.commit(&admission(number).id, 1, Outcome::Succeeded, at(10));
    }
    let old = at(RETENTION_MS + 1);
    kept.ledger.alarm(old, || 0);
    assert_eq!(kept.status(&admission(1).id), Status::Completed, "the hub has not heard of it");
    let all = kept.ledger.outbox.batch().unwrap().last;
    kept.ledger.acknowledged(all).unwrap();
    assert_eq!(kept.shelf.forget_done(at(1), 2).unwrap(), 2);
    kept.ledger.alarm(old, || 0);
    assert!(kept.ledger.whole(&admission(3).id).unwrap().is_none());
}

#[test]
fn what_waits_for_a_service_that_is_away_is_rung_for_when_it_may_be_tried() {
    let mut kept = Kept::new();
    kept.queued(&admission(1), at(0));
    assert_eq!(kept.ledger.effects().rings, 1);
    kept.ledger.ring_at(at(2_000), at(10));
    assert_eq!(kept.alarm(), Some(at(2_000)));
    kept.ledger.alarm(at(2_000), || 0);
    assert_eq!(kept.ledger.effects().rings, 1);
    // Later than its turn would be anyway: nothing changes.
    kept.ledger.ring_at(at(8_000), at(2_010));
    assert_eq!(kept.alarm(), None);
}
