//! A context store with a storage in memory, which outlives it as the tables outlive their object.

mod answers;
mod background;
mod content;
mod later;
mod restarts;
mod spare_rows;

use super::*;
use crate::base::id::{Region, StoreId};
use crate::context::fixtures::lease_number;
use crate::context::idempotency::{Claim, WINDOW_MS};
use crate::context::lease::{Hold, LeaseNumber};
use crate::context::status::{ErrorCode, Priority, Status};
use crate::context::{Admission, AttemptReport, ContextError, ReportedOutcome, fixtures};
use crate::context_store::memory::MemoryStorage;
use crate::context_store::messages::{Commit, Record};
use crate::events::bundle::Bundle;

const START: u64 = 1_700_000_000_000;
const LEASE_MS: u64 = Timing::DEFAULT.lease_ms;
const RETENTION_MS: u64 = 86_400_000;

fn at(ms: u64) -> Timestamp {
    Timestamp(START + ms)
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.into()).unwrap()
}

/// A context store and its storage.
struct Fixture {
    storage: MemoryStorage,
    store: ContextStore<MemoryStorage>,
}

impl Fixture {
    fn new() -> Self {
        Self::on(MemoryStorage::default(), at(0))
    }

    fn on(storage: MemoryStorage, now: Timestamp) -> Self {
        let store = ContextStore::open(storage.clone(), RETENTION_MS, Timing::DEFAULT, now).unwrap();
        Self { storage, store }
    }

    /// The object crashes, and the next message starts a new instance.
    fn restarted(self, now: Timestamp) -> Self {
        Self::on(self.storage, now)
    }

    fn leased(&mut self, admission: &Admission, now: Timestamp) -> Option<LeaseNumber> {
        match self.store.admit(admission.clone(), &raw("1"), Some(LEASE_MS), false, None, now).unwrap() {
            AdmitResult::Admitted { lease, .. } => lease,
            other => panic!("{other:?}"),
        }
    }

    fn queued(&mut self, admission: &Admission, now: Timestamp) {
        let admitted = self.store.admit(admission.clone(), &raw("1"), None, false, None, now).unwrap();
        assert!(matches!(admitted, AdmitResult::Admitted { lease: None, .. }));
    }

    fn claim_next(&mut self, now: Timestamp) -> Option<ContextId> {
        match self.store.claim_next(LEASE_MS, &[], &[], now).unwrap() {
            WorkClaim::Nothing => None,
            WorkClaim::Leased(attempting) => Some(attempting.head.id().clone()),
            WorkClaim::Offered(_) => panic!("nothing is gated"),
        }
    }

    fn commit(&mut self, id: &ContextId, lease: u64, outcome: ReportedOutcome, now: Timestamp) -> CommitResult {
        let result = matches!(outcome, ReportedOutcome::Succeeded).then(|| raw("7"));
        let commit = Commit { result, ..commit(id, report(lease, outcome, now)) };
        self.store.commit(commit, now, 0).unwrap()
    }

    fn head(&self, id: &ContextId) -> Head {
        self.store.get(id).unwrap().unwrap().head
    }

    fn status(&self, id: &ContextId) -> Status {
        self.head(id).status
    }

    /// The new time of the alarm, if it was set.
    fn alarm(&mut self) -> Option<Timestamp> {
        self.store.take_effects().alarm
    }

    fn published(&self) -> Vec<Bundle> {
        self.store.outbox.batch().map(|batch| serde_json::from_str(&batch.bundles).unwrap()).unwrap_or_default()
    }

    fn numbers(&self) -> Vec<u64> {
        self.published().iter().flat_map(|bundle| bundle.items.iter().map(|item| item.number)).collect()
    }
}

fn admission(number: u8) -> Admission {
    Admission { idempotent: true, ..fixtures::admission(number, at(0)) }
}

/// Holds a context under its `n`th lease.
fn hold(n: u64) -> Hold {
    Hold::Leased(lease_number(n))
}

fn commit(id: &ContextId, report: AttemptReport) -> Commit {
    Commit { id: id.clone(), report, result: None, stays_ms: 0, earlier: Vec::new() }
}

fn record(admission: Admission, report: AttemptReport, result: Option<Box<RawValue>>) -> Record {
    Record { admission: Box::new(admission), parameters: raw("1"), report, result, earlier: Vec::new() }
}

fn report(lease: u64, outcome: ReportedOutcome, now: Timestamp) -> AttemptReport {
    let lease = lease_number(lease);
    AttemptReport::new(lease, "one".into(), (now, now), None, outcome)
}

fn failed(retryable: bool, untouched: bool) -> ReportedOutcome {
    let error = ContextError { code: ErrorCode::UpstreamError, message: "no".into(), service: None, details: None };
    ReportedOutcome::Failed { error, retryable, untouched, retry_after_ms: None }
}

fn key(scope: &str, fingerprint: &str) -> Claim {
    Claim { scope: scope.into(), fingerprint: fingerprint.into() }
}

#[test]
fn a_repeated_admission_returns_the_same_lease() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.leased(&admission(1), at(0)), Some(LeaseNumber::FIRST));
    assert_eq!(fixture.leased(&admission(1), at(5)), Some(LeaseNumber::FIRST));
    assert_eq!(fixture.numbers().len(), 4, "published once");
}

#[test]
fn a_repeated_admission_does_not_return_the_lease_of_another_worker() {
    let mut fixture = Fixture::new();
    fixture.queued(&admission(1), at(0));
    assert!(fixture.claim_next(at(10)).is_some());
    // The admission asked for no lease; the first one belongs to a consumer.
    fixture.queued(&admission(1), at(20));
    assert_eq!(fixture.status(&admission(1).id), Status::Executing);
}

#[test]
fn a_repeated_admission_after_the_end_creates_no_second_context() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    fixture.leased(&admission(1), at(0));
    fixture.commit(&id, 1, ReportedOutcome::Succeeded, at(10));
    assert_eq!(fixture.leased(&admission(1), at(20)), None);
    let all = fixture.store.outbox.batch().unwrap().last;
    fixture.store.acknowledge(all).unwrap();
    assert_eq!(fixture.leased(&admission(1), at(30)), None, "and none when its row is spare");
    fixture.leased(&admission(2), at(40));
    assert!(fixture.storage.read(|disk| disk.live.values().all(|row| row.id != id)));
    assert_eq!(fixture.leased(&admission(1), at(50)), None, "or that of another");
    assert_eq!(fixture.status(&id), Status::Completed);
}

#[test]
fn two_ids_of_one_row_are_not_the_same_context() {
    let mut fixture = Fixture::new();
    let mut random = [1; 10];
    random[9] = 2;
    let other = ContextId::new(StoreId { region: Region::Eu, shard: 0 }, at(0), random);
    let other = Admission { id: other, ..admission(1) };
    fixture.leased(&admission(1), at(0));
    let admitted = fixture.store.admit(other, &raw("1"), None, false, None, at(1)).unwrap();
    assert!(matches!(admitted, AdmitResult::IdTaken));
}

#[test]
fn a_key_stands_for_one_context_and_one_request() {
    let mut fixture = Fixture::new();
    let mut admit = |number, claim: &Claim, now| {
        fixture.store.admit(admission(number), &raw("1"), None, false, Some(claim), now).unwrap()
    };
    assert!(matches!(admit(1, &key("k", "a"), at(0)), AdmitResult::Admitted { .. }));
    assert!(matches!(admit(1, &key("k", "a"), at(1)), AdmitResult::Admitted { .. }), "its own repeat");
    assert!(matches!(admit(2, &key("k", "a"), at(2)), AdmitResult::Replayed(id) if id == admission(1).id));
    assert!(matches!(admit(3, &key("k", "b"), at(3)), AdmitResult::KeyReused));
    assert!(matches!(admit(4, &key("other", "b"), at(4)), AdmitResult::Admitted { .. }));
    let later = at(WINDOW_MS + 1);
    assert!(matches!(admit(5, &key("k", "b"), later), AdmitResult::Admitted { .. }), "its time is over");
}

#[test]
fn a_key_is_still_known_after_a_restart() {
    let mut fixture = Fixture::new();
    fixture.store.admit(admission(1), &raw("1"), None, false, Some(&key("k", "a")), at(0)).unwrap();
    let fixture = fixture.restarted(at(10));
    let recalled = fixture.store.lookup_claim(Some(&key("k", "a")), None, at(20)).unwrap();
    assert_eq!(recalled, ClaimLookup::Context(admission(1).id));
}

#[test]
fn the_highest_priority_is_claimed_first_then_the_oldest() {
    let mut fixture = Fixture::new();
    let ranks = [(1, Priority::Low), (2, Priority::Normal), (3, Priority::Normal), (4, Priority::Critical)];
    for (number, priority) in ranks {
        fixture.queued(&Admission { priority, ..admission(number) }, at(0));
    }
    let order: Vec<ContextId> = std::iter::from_fn(|| fixture.claim_next(at(1))).collect();
    assert_eq!(order, [4, 2, 3, 1].map(|number| admission(number).id));
}

#[test]
fn a_context_of_a_gated_service_is_offered_to_one_worker_at_a_time() {
    let mut fixture = Fixture::new();
    fixture.queued(&admission(1), at(0));
    let gated = ["one".into()];
    let claim = |fixture: &mut Fixture, now| fixture.store.claim_next(LEASE_MS, &gated, &[], now).unwrap();
    assert!(matches!(claim(&mut fixture, at(1)), WorkClaim::Offered(attempting) if attempting.head.lease.is_none()));
    assert!(matches!(claim(&mut fixture, at(2)), WorkClaim::Nothing));
    // The offer can be renewed.
    assert_eq!(fixture.store.renew(&admission(1).id, Hold::Offered, LEASE_MS, at(9_000)).unwrap(), Some(false));
    assert!(matches!(claim(&mut fixture, at(18_000)), WorkClaim::Nothing));
    assert!(matches!(claim(&mut fixture, at(19_001)), WorkClaim::Offered(_)));
    assert_eq!(
        fixture.store.lease(&admission(1).id, LEASE_MS, at(19_002)).unwrap().unwrap().head.latest_lease,
        Some(LeaseNumber::FIRST)
    );
    assert_eq!(fixture.store.renew(&admission(1).id, Hold::Offered, LEASE_MS, at(19_003)).unwrap(), None);
}

#[test]
fn an_excluded_service_does_not_block_the_work_of_others() {
    let mut fixture = Fixture::new();
    fixture.queued(&admission(1), at(0));
    fixture.queued(&Admission { service: "two".into(), ..admission(2) }, at(0));
    let claimed = fixture.store.claim_next(LEASE_MS, &[], &["one".into()], at(1)).unwrap();
    assert!(matches!(claimed, WorkClaim::Leased(attempting) if *attempting.head.id() == admission(2).id));
    assert!(matches!(fixture.store.claim_next(LEASE_MS, &[], &["one".into()], at(2)).unwrap(), WorkClaim::Nothing));
}

#[test]
fn a_returned_offer_is_available_to_others() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    fixture.store.admit(admission(1), &raw("1"), None, true, None, at(0)).unwrap();
    assert_eq!(fixture.claim_next(at(1)), None);
    fixture.store.put_back(&id, Some(at(3_000)), at(2)).unwrap();
    assert_eq!(fixture.claim_next(at(2_999)), None, "not before its time");
    assert_eq!(fixture.claim_next(at(3_000)), Some(id));
}

#[test]
fn a_queued_context_can_be_rejected_and_a_running_one_cannot() {
    let mut fixture = Fixture::new();
    let error = || ContextError { code: ErrorCode::CircuitOpen, message: "no".into(), service: None, details: None };
    fixture.queued(&admission(1), at(0));
    let refused = fixture.store.reject(&admission(1).id, error(), at(1)).unwrap();
    assert!(matches!(refused, ChangeResult::Done(head) if head.status == Status::Failed && head.attempts.is_empty()));
    let again = fixture.store.reject(&admission(1).id, error(), at(2)).unwrap();
    assert!(matches!(again, ChangeResult::Rejected(_, Rejection::Ended)));
    fixture.leased(&admission(2), at(0));
    let running = fixture.store.reject(&admission(2).id, error(), at(3)).unwrap();
    assert!(matches!(running, ChangeResult::Rejected(_, Rejection::WrongState)));
    assert!(matches!(fixture.store.reject(&admission(3).id, error(), at(4)).unwrap(), ChangeResult::NotFound));
}

#[test]
fn a_late_commit_changes_nothing() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    fixture.leased(&admission(1), at(0));
    fixture.store.alarm(at(LEASE_MS), || 0);
    assert_eq!(fixture.claim_next(at(LEASE_MS + 1)), Some(id.clone()));
    let before = serde_json::to_string(&fixture.head(&id)).unwrap();
    let late = fixture.commit(&id, 1, ReportedOutcome::Succeeded, at(LEASE_MS + 2));
    assert!(matches!(late, CommitResult::Rejected(head) if head.status == Status::Executing));
    assert_eq!(serde_json::to_string(&fixture.head(&id)).unwrap(), before);
    assert!(matches!(
        fixture.commit(&id, 2, ReportedOutcome::Succeeded, at(LEASE_MS + 3)),
        CommitResult::Accepted { .. }
    ));
    let twice = fixture.commit(&id, 2, failed(false, false), at(LEASE_MS + 4));
    assert!(matches!(twice, CommitResult::Rejected(head) if head.status == Status::Completed));
    let whole = fixture.store.get(&id).unwrap().unwrap();
    assert_eq!(whole.result.unwrap().get(), "7");
}

#[test]
fn a_retry_that_is_due_soon_stays_with_its_worker() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    fixture.leased(&admission(1), at(0));
    let failure = report(1, failed(true, false), at(10));
    let committed = fixture.store.commit(Commit { stays_ms: 5_000, ..commit(&id, failure) }, at(10), 150).unwrap();
    assert!(matches!(committed, CommitResult::Accepted { retry_ms: Some(150), .. }));
    assert_eq!(fixture.store.take_effects().wakeups, 0, "no other worker is needed");
    assert_eq!(fixture.claim_next(at(200)), None, "and no other worker gets it");
    assert!(fixture.store.lease(&id, LEASE_MS, at(200)).unwrap().is_some());
    let failure = report(2, failed(true, false), at(300));
    fixture.store.take_effects();
    let committed = fixture.store.commit(commit(&id, failure), at(300), 1).unwrap();
    assert!(matches!(committed, CommitResult::Accepted { retry_ms: None, .. }));
    assert_eq!(fixture.claim_next(at(300)), None);
    assert_eq!(fixture.claim_next(at(301)), Some(id));
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    fixture.leased(&admission(1), at(0));
    fixture.storage.fail_write(Some(0));
    let refused = fixture.store.commit(commit(&id, report(1, ReportedOutcome::Succeeded, at(5))), at(5), 0);
    assert!(refused.is_err());
    assert_eq!(fixture.status(&id), Status::Executing);
    assert!(matches!(fixture.commit(&id, 1, ReportedOutcome::Succeeded, at(6)), CommitResult::Accepted { .. }));
}

#[test]
fn a_record_is_stored_once() {
    let mut fixture = Fixture::new();
    for _ in 0..2 {
        let done = report(1, ReportedOutcome::Succeeded, at(5));
        fixture.store.record(record(admission(1), done, Some(raw("7")))).unwrap();
    }
    assert_eq!(fixture.status(&admission(1).id), Status::Completed);
    assert_eq!(fixture.numbers().len(), 6);
}

#[test]
fn an_unclaimed_context_is_overdue_after_a_while() {
    let mut fixture = Fixture::new();
    let one = admission(1);
    fixture.queued(&one, at(0));
    assert!(!fixture.store.has_overdue(10_000, at(9_999)).unwrap());
    assert!(fixture.store.has_overdue(10_000, at(10_000)).unwrap());
    fixture.claim_next(at(10_000)).unwrap();
    assert!(!fixture.store.has_overdue(10_000, at(30_000)).unwrap());
}
