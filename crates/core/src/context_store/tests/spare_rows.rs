//! The live rows of ended contexts, which later contexts take over.

use super::*;
use crate::context_store::spare_rows::{MAX_BYTES, MAX_SPARE};

impl Fixture {
    fn ended(&mut self, number: u8, now: Timestamp) {
        self.leased(&admission(number), now);
        self.commit(&admission(number).id, 1, ReportedOutcome::Succeeded, now);
    }

    fn acknowledge_all(&mut self) {
        while let Some(batch) = self.store.outbox.batch() {
            self.store.acknowledge(batch.last).unwrap();
        }
    }

    /// The contexts with live rows.
    fn rows(&self) -> Vec<ContextId> {
        self.storage.read(|disk| disk.live.values().map(|row| row.id.clone()).collect())
    }
}

#[test]
fn a_context_takes_over_the_row_of_one_that_the_hub_knows() {
    let mut fixture = Fixture::new();
    fixture.ended(1, at(0));
    fixture.ended(2, at(10));
    assert_eq!(fixture.rows().len(), 2, "the hub does not have the events of the first yet");
    fixture.acknowledge_all();
    fixture.leased(&admission(3), at(20));
    assert_eq!(fixture.rows(), [admission(2).id, admission(3).id], "the oldest first");
    for number in 1..=2 {
        assert_eq!(fixture.status(&admission(number).id), Status::Completed);
    }
    assert_eq!(fixture.status(&admission(3).id), Status::Executing);
    fixture.commit(&admission(3).id, 1, ReportedOutcome::Succeeded, at(30));
    assert_eq!(fixture.status(&admission(3).id), Status::Completed);
}

#[test]
fn a_row_is_not_taken_over_while_the_hub_lacks_an_event() {
    let mut fixture = Fixture::new();
    fixture.ended(1, at(0));
    let last = fixture.numbers().into_iter().max().unwrap();
    fixture.store.acknowledge(last - 1).unwrap();
    fixture.leased(&admission(2), at(10));
    assert_eq!(fixture.rows(), [admission(1).id, admission(2).id]);
    let fixture = fixture.restarted(at(20));
    assert!(fixture.numbers().contains(&last));
}

#[test]
fn a_failed_admission_keeps_the_spare_row() {
    let mut fixture = Fixture::new();
    fixture.ended(1, at(0));
    fixture.acknowledge_all();
    fixture.storage.fail_write(Some(0));
    assert!(fixture.store.admit(admission(2), &raw("1"), None, false, None, at(10)).is_err());
    fixture.storage.fail_write(None);
    assert_eq!(fixture.rows(), [admission(1).id]);
    // A repeated admission inserts nothing.
    fixture.leased(&admission(1), at(20));
    fixture.leased(&admission(2), at(30));
    fixture.leased(&admission(2), at(40));
    assert_eq!(fixture.rows(), [admission(2).id]);
    assert_eq!(fixture.status(&admission(1).id), Status::Completed);
}

#[test]
fn spare_rows_survive_a_restart_and_set_no_alarm() {
    let mut fixture = Fixture::new();
    fixture.ended(1, at(0));
    fixture.acknowledge_all();
    fixture.ended(2, at(10));
    fixture.ended(3, at(20));
    fixture.acknowledge_all();
    // The rows of 2 and 3 are in the storage; the third was inserted before the hub had the events of the second.
    assert_eq!(fixture.rows(), [admission(2).id, admission(3).id]);
    let mut fixture = fixture.restarted(at(30));
    assert!(fixture.store.take_effects().publish, "the storage does not say that the hub has their events");
    fixture.acknowledge_all();
    let mut fixture = fixture.restarted(at(40));
    assert_eq!(fixture.store.take_effects(), Effects::default(), "a store at rest starts silently");
    assert!(fixture.store.alarm(at(100_000), || 0).is_empty());
    assert_eq!(fixture.alarm(), None, "and does not wake");
    fixture.leased(&admission(4), at(100_010));
    assert_eq!(fixture.rows(), [admission(3).id, admission(4).id]);
    let fixture = fixture.restarted(at(100_020));
    let subjects: Vec<String> = fixture.published().into_iter().map(|bundle| bundle.subject).collect();
    assert!(!subjects.is_empty() && subjects.iter().all(|subject| *subject == admission(4).id.as_str()));
}

#[test]
fn a_store_that_comes_to_rest_stores_once_what_the_hub_has() {
    let mut fixture = Fixture::new();
    fixture.ended(1, at(0));
    let stored = |fixture: &Fixture| fixture.storage.acknowledged().unwrap();
    assert!(fixture.store.alarm(at(1_000), || 0).is_empty());
    assert_eq!(stored(&fixture), 0, "the hub lacks events");
    let last = fixture.numbers().into_iter().max().unwrap();
    fixture.acknowledge_all();
    assert_eq!(stored(&fixture), 0, "the next admission may come first");
    assert!(fixture.store.alarm(at(10_000), || 0).is_empty());
    assert_eq!(stored(&fixture), last);
    // Nothing more is written.
    fixture.storage.fail_write(Some(0));
    fixture.store.store_acknowledged().unwrap();
    fixture.storage.fail_write(None);
    let mut fixture = fixture.restarted(at(20_000));
    assert_eq!(fixture.store.take_effects(), Effects::default());
}

#[test]
fn rows_that_cannot_be_deleted_are_taken_over() {
    let mut fixture = Fixture::new();
    let large = raw(&format!("\"{}\"", "x".repeat(MAX_BYTES)));
    fixture.store.admit(admission(1), &large, Some(LEASE_MS), false, None, at(0)).unwrap();
    fixture.commit(&admission(1).id, 1, ReportedOutcome::Succeeded, at(1));
    let last = fixture.numbers().into_iter().max().unwrap();
    fixture.storage.fail_write(Some(0));
    assert!(fixture.store.acknowledge(last).is_err());
    fixture.storage.fail_write(None);
    fixture.leased(&admission(2), at(10));
    assert_eq!(fixture.rows(), [admission(2).id]);
}

#[test]
fn large_rows_and_those_of_contexts_that_ended_in_the_queue_are_deleted() {
    let mut fixture = Fixture::new();
    let large = raw(&format!("\"{}\"", "x".repeat(MAX_BYTES)));
    fixture.store.admit(admission(1), &large, Some(LEASE_MS), false, None, at(0)).unwrap();
    fixture.commit(&admission(1).id, 1, ReportedOutcome::Succeeded, at(1));
    fixture.queued(&admission(2), at(2));
    fixture.store.cancel(&admission(2).id, at(3)).unwrap();
    fixture.ended(3, at(4));
    assert_eq!(fixture.rows().len(), 3);
    fixture.acknowledge_all();
    assert_eq!(fixture.rows(), [admission(3).id]);
}

#[test]
fn at_most_so_many_rows_are_spare() {
    let mut fixture = Fixture::new();
    let admissions = (0..=MAX_SPARE).map(|n| Admission {
        id: ContextId::new(StoreId { region: Region::Na, shard: 0 }, at(n as u64), [7; 10]),
        ..admission(1)
    });
    let admissions: Vec<Admission> = admissions.collect();
    for admission in &admissions {
        fixture.leased(admission, at(1_000));
        fixture.commit(&admission.id, 1, ReportedOutcome::Succeeded, at(1_000));
    }
    fixture.acknowledge_all();
    assert_eq!(fixture.rows().len(), MAX_SPARE);
    for admission in &admissions {
        assert_eq!(fixture.status(&admission.id), Status::Completed);
    }
}

#[test]
fn spare_rows_that_are_not_needed_for_a_minute_are_deleted_but_for_some() {
    let mut fixture = Fixture::new();
    for number in 1..=30 {
        fixture.leased(&admission(number), at(0));
    }
    for number in 1..=30 {
        fixture.commit(&admission(number).id, 1, ReportedOutcome::Succeeded, at(0));
    }
    fixture.acknowledge_all();
    fixture.store.alarm(at(60_000), || 0);
    assert_eq!(fixture.rows().len(), 30, "they have just become spare");
    // Ten at once are needed again.
    for number in 31..=40 {
        fixture.leased(&Admission { expires_at: at(100_000), ..admission(number) }, at(90_000));
    }
    for number in 31..=40 {
        fixture.commit(&admission(number).id, 1, ReportedOutcome::Succeeded, at(90_000));
    }
    fixture.acknowledge_all();
    fixture.store.alarm(at(119_999), || 0);
    assert_eq!(fixture.rows().len(), 30);
    fixture.store.alarm(at(120_000), || 0);
    assert_eq!(fixture.rows().len(), 10 + 8);
    fixture.store.alarm(at(180_000), || 0);
    assert_eq!(fixture.rows().len(), 8);
    fixture.store.alarm(at(240_000), || 0);
    assert_eq!(fixture.rows().len(), 8);
    for number in 1..=40 {
        assert_eq!(fixture.status(&admission(number).id), Status::Completed);
    }
}

#[test]
fn contexts_without_a_row_make_no_store_write_what_the_hub_has() {
    let mut fixture = Fixture::new();
    fixture.ended(1, at(0));
    fixture.acknowledge_all();
    fixture.store.alarm(at(10_000), || 0);
    let stored = fixture.storage.acknowledged().unwrap();
    fixture.store.record(record(admission(2), report(1, ReportedOutcome::Succeeded, at(11_000)), None)).unwrap();
    fixture.acknowledge_all();
    fixture.store.alarm(at(20_000), || 0);
    assert_eq!(fixture.storage.acknowledged().unwrap(), stored);
    assert_eq!(fixture.restarted(at(30_000)).store.take_effects(), Effects::default());
}

#[test]
fn spare_rows_are_deleted_with_their_contexts() {
    let mut fixture = Fixture::new();
    fixture.ended(1, at(0));
    fixture.acknowledge_all();
    assert!(fixture.store.alarm(at(RETENTION_MS - 10), || 0).is_empty());
    assert_eq!(fixture.rows(), [admission(1).id]);
    assert!(fixture.store.alarm(at(RETENTION_MS + 10), || 0).is_empty());
    assert!(fixture.storage.read(|disk| disk.live.is_empty() && disk.done.is_empty()));
}

#[test]
fn many_that_ended_in_the_queue_do_not_hide_one_that_waits() {
    let mut fixture = Fixture::new();
    for number in 1..=40 {
        fixture.queued(&Admission { priority: Priority::High, ..admission(number) }, at(0));
        fixture.store.cancel(&admission(number).id, at(1)).unwrap();
    }
    fixture.queued(&Admission { priority: Priority::Low, ..admission(99) }, at(2));
    assert_eq!(fixture.claim_next(at(10)), Some(admission(99).id));
}
