//! Contexts that a later version has written, and this one cannot read.

use super::*;

/// A head as a later version writes it.
fn dreaming(head: &str) -> String {
    head.replace(r#""status":""#, r#""status":"dreaming/"#)
}

#[test]
fn a_live_context_of_a_later_version_is_left_to_it_and_stops_nothing() {
    let mut fixture = Fixture::new();
    let (later, own) = (admission(1).id, admission(2).id);
    fixture.queued(&admission(1), at(0));
    fixture.queued(&admission(2), at(1));
    fixture.storage.edit_head(&later, dreaming);
    let mut fixture = fixture.restarted(at(2));
    assert_eq!(fixture.claim_next(at(10)), Some(own.clone()));
    assert_eq!(fixture.claim_next(at(11)), None);
    fixture.commit(&own, 1, ReportedOutcome::Succeeded, at(12));
    fixture.store.acknowledge(fixture.store.outbox.batch().unwrap().last).unwrap();
    // Its time does not come, and no alarm is set for it.
    fixture.alarm();
    assert!(fixture.store.alarm(at(100_000), || 0).is_empty());
    assert_eq!(fixture.alarm(), None);
    assert!(!fixture.store.has_overdue(0, at(100_000)).unwrap());
    assert_eq!(fixture.storage.read(|disk| disk.live.len()), 2, "the row of the other is spare");
    assert!(fixture.store.get(&later).is_err() && fixture.store.get(&own).unwrap().is_some());
}

#[test]
fn a_context_that_a_later_version_has_ended_is_not_run_again() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    fixture.leased(&admission(1), at(0));
    fixture.commit(&id, 1, ReportedOutcome::Succeeded, at(10));
    fixture.storage.edit_head(&id, |head| head.replace(r#""status":"completed""#, r#""status":"dreaming""#));
    let mut fixture = fixture.restarted(at(20));
    assert!(fixture.store.alarm(at(100_000), || 0).is_empty());
    assert_eq!(fixture.claim_next(at(100_001)), None);
    // It is published by the version that can read it.
    assert!(fixture.published().is_empty());
    fixture.storage.edit_head(&id, |head| head.replace(r#""status":"dreaming""#, r#""status":"completed""#));
    let fixture = fixture.restarted(at(200_000));
    assert_eq!((fixture.status(&id), fixture.numbers().is_empty()), (Status::Completed, false));
}
