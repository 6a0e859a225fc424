//! The ledger on a shelf in memory, which outlives it as tables outlive their object.

mod background;
mod restarts;

use semver::Version;

use super::*;
use crate::base::id::{Region, StoreId};
use crate::context::Outcome;
use crate::context::retry::Retry;
use crate::context::status::{ErrorCode, Priority, Source, Status};
use crate::context_store::memory::Memory;
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

/// A ledger, and the shelf it is on.
struct Kept {
    shelf: Memory,
    ledger: Ledger<Memory>,
}

impl Kept {
    fn new() -> Self {
        Self::on(Memory::default(), at(0))
    }

    fn on(shelf: Memory, now: Timestamp) -> Self {
        let ledger = Ledger::open(shelf.clone(), RETENTION_MS, Timing::DEFAULT, now).unwrap();
        Self { shelf, ledger }
    }

    /// The object dies, and the next message makes a new one.
    fn restarted(self, now: Timestamp) -> Self {
        Self::on(self.shelf, now)
    }

    fn leased(&mut self, admission: &Admission, now: Timestamp) -> Option<u64> {
        match self.ledger.admit(admission.clone(), &raw("1"), Some(LEASE_MS), false, None, now).unwrap() {
            Admitted::Now { lease, .. } => lease,
            other => panic!("{other:?}"),
        }
    }

    fn queued(&mut self, admission: &Admission, now: Timestamp) {
        let admitted = self.ledger.admit(admission.clone(), &raw("1"), None, false, None, now).unwrap();
        assert!(matches!(admitted, Admitted::Now { lease: None, .. }));
    }

    fn claimed(&mut self, now: Timestamp) -> Option<ContextId> {
        match self.ledger.claim(LEASE_MS, &[], &[], now).unwrap() {
            Claimed::Nothing => None,
            Claimed::Leased(attempting) => Some(attempting.head.id().clone()),
            Claimed::Offered(_) => panic!("nothing is gated"),
        }
    }

    fn commit(&mut self, id: &ContextId, lease: u64, outcome: Outcome, now: Timestamp) -> Committed {
        let result = matches!(outcome, Outcome::Succeeded).then(|| raw("7"));
        self.ledger.commit(id, report(lease, outcome, now), result.as_deref(), 0, now, 0).unwrap()
    }

    fn head(&self, id: &ContextId) -> Head {
        self.ledger.whole(id).unwrap().unwrap().head
    }

    fn status(&self, id: &ContextId) -> Status {
        self.head(id).status
    }

    /// The time the next alarm is set for, as the platform knows it.
    fn alarm(&mut self) -> Option<Timestamp> {
        self.ledger.effects().alarm
    }

    fn told(&self) -> Vec<Bundle> {
        self.ledger.outbox.batch().map(|batch| serde_json::from_str(&batch.bundles).unwrap()).unwrap_or_default()
    }

    fn numbers(&self) -> Vec<u64> {
        self.told().iter().flat_map(|bundle| bundle.items.iter().map(|item| item.number)).collect()
    }
}

fn admission(number: u8) -> Admission {
    let store = StoreId { region: Region::Eu, shard: 0 };
    Admission {
        id: ContextId::new(store, at(0), [number; 10]),
        tenant: "default".into(),
        owner: "key:a".into(),
        capability: "echo".into(),
        owner_name: None,
        replay_of: None,
        asked_service: None,
        asked_version: None,
        asked_tags: Vec::new(),
        service: "one".into(),
        version: Version::new(1, 0, 0),
        idempotent: true,
        retry: Retry::default(),
        priority: Priority::Normal,
        source: Source::User,
        metadata: None,
        idempotency_key: None,
        created_at: at(0),
        expires_at: at(60_000),
        run_at: None,
        trace: String::new(),
        trace_state: None,
        client: None,
        session: None,
        unasked: false,
        log_level: None,
        meta: None,
        origin: String::new(),
    }
}

fn report(lease: u64, outcome: Outcome, now: Timestamp) -> Report {
    Report { lease, service: "one".into(), started_at: now, ended_at: now, status_code: None, outcome }
}

fn failed(retryable: bool, untouched: bool) -> Outcome {
    let error = ContextError { code: ErrorCode::UpstreamError, message: "no".into(), service: None, details: None };
    Outcome::Failed { error, retryable, untouched, retry_after_ms: None }
}

fn key(scope: &str, fingerprint: &str) -> Claim {
    Claim { scope: scope.into(), fingerprint: fingerprint.into() }
}

#[test]
fn an_admission_that_is_repeated_gives_the_same_lease() {
    let mut kept = Kept::new();
    assert_eq!(kept.leased(&admission(1), at(0)), Some(1));
    assert_eq!(kept.leased(&admission(1), at(5)), Some(1));
    assert_eq!(kept.numbers().len(), 4, "told once");
}

#[test]
fn an_admission_that_is_repeated_gives_no_lease_that_somebody_else_has() {
    let mut kept = Kept::new();
    kept.queued(&admission(1), at(0));
    assert!(kept.claimed(at(10)).is_some());
    // Its asker wanted no lease the first time; the first one is a consumer's.
    kept.queued(&admission(1), at(20));
    assert_eq!(kept.status(&admission(1).id), Status::Executing);
}

#[test]
fn an_admission_that_is_repeated_after_its_end_makes_no_second_context() {
    let mut kept = Kept::new();
    let id = admission(1).id;
    kept.leased(&admission(1), at(0));
    kept.commit(&id, 1, Outcome::Succeeded, at(10));
    assert_eq!(kept.leased(&admission(1), at(20)), None);
    let all = kept.ledger.outbox.batch().unwrap().last;
    kept.ledger.acknowledged(all).unwrap();
    assert_eq!(kept.leased(&admission(1), at(30)), None, "and none when its row is cleaned");
    assert_eq!(kept.status(&id), Status::Completed);
}

#[test]
fn two_ids_of_one_row_are_not_the_same_context() {
    let mut kept = Kept::new();
    let mut random = [1; 10];
    random[9] = 2;
    let other = ContextId::new(StoreId { region: Region::Eu, shard: 0 }, at(0), random);
    let other = Admission { id: other, ..admission(1) };
    kept.leased(&admission(1), at(0));
    let admitted = kept.ledger.admit(other, &raw("1"), None, false, None, at(1)).unwrap();
    assert!(matches!(admitted, Admitted::Taken));
}

#[test]
fn a_key_stands_for_one_context_and_one_request() {
    let mut kept = Kept::new();
    let mut admit = |number, claim: &Claim, now| {
        kept.ledger.admit(admission(number), &raw("1"), None, false, Some(claim), now).unwrap()
    };
    assert!(matches!(admit(1, &key("k", "a"), at(0)), Admitted::Now { .. }));
    assert!(matches!(admit(1, &key("k", "a"), at(1)), Admitted::Now { .. }), "its own repeat");
    assert!(matches!(admit(2, &key("k", "a"), at(2)), Admitted::Replayed(id) if id == admission(1).id));
    assert!(matches!(admit(3, &key("k", "b"), at(3)), Admitted::KeyReused));
    assert!(matches!(admit(4, &key("other", "b"), at(4)), Admitted::Now { .. }));
    let later = at(WINDOW_MS + 1);
    assert!(matches!(admit(5, &key("k", "b"), later), Admitted::Now { .. }), "its time is over");
}

#[test]
fn a_key_is_still_known_after_a_restart() {
    let mut kept = Kept::new();
    kept.ledger.admit(admission(1), &raw("1"), None, false, Some(&key("k", "a")), at(0)).unwrap();
    let kept = kept.restarted(at(10));
    let recalled = kept.ledger.recalled(Some(&key("k", "a")), None, at(20)).unwrap();
    assert_eq!(recalled, Recalled::Context(admission(1).id));
}

#[test]
fn what_matters_more_is_claimed_first_and_the_older_among_equals() {
    let mut kept = Kept::new();
    let ranks = [(1, Priority::Low), (2, Priority::Normal), (3, Priority::Normal), (4, Priority::Critical)];
    for (number, priority) in ranks {
        kept.queued(&Admission { priority, ..admission(number) }, at(0));
    }
    let order: Vec<ContextId> = std::iter::from_fn(|| kept.claimed(at(1))).collect();
    assert_eq!(order, [4, 2, 3, 1].map(|number| admission(number).id));
}

#[test]
fn what_goes_to_a_gated_service_is_offered_to_one_at_a_time() {
    let mut kept = Kept::new();
    kept.queued(&admission(1), at(0));
    let gated = ["one".to_string()];
    let claim = |kept: &mut Kept, now| kept.ledger.claim(LEASE_MS, &gated, &[], now).unwrap();
    assert!(matches!(claim(&mut kept, at(1)), Claimed::Offered(attempting) if attempting.head.lease.is_none()));
    assert!(matches!(claim(&mut kept, at(2)), Claimed::Nothing));
    // Kept for whoever says that it still stands in line.
    assert_eq!(kept.ledger.renew(&admission(1).id, 0, LEASE_MS, at(9_000)).unwrap(), Some(false));
    assert!(matches!(claim(&mut kept, at(18_000)), Claimed::Nothing));
    assert!(matches!(claim(&mut kept, at(19_001)), Claimed::Offered(_)));
    assert_eq!(kept.ledger.lease(&admission(1).id, LEASE_MS, at(19_002)).unwrap().unwrap().head.leases, 1);
    assert_eq!(kept.ledger.renew(&admission(1).id, 0, LEASE_MS, at(19_003)).unwrap(), None);
}

#[test]
fn a_service_that_is_left_out_keeps_nobody_elses_work_from_being_run() {
    let mut kept = Kept::new();
    kept.queued(&admission(1), at(0));
    kept.queued(&Admission { service: "two".into(), ..admission(2) }, at(0));
    let claimed = kept.ledger.claim(LEASE_MS, &[], &["one".into()], at(1)).unwrap();
    assert!(matches!(claimed, Claimed::Leased(attempting) if *attempting.head.id() == admission(2).id));
    assert!(matches!(kept.ledger.claim(LEASE_MS, &[], &["one".into()], at(2)).unwrap(), Claimed::Nothing));
}

#[test]
fn an_offer_that_is_given_back_is_there_for_others() {
    let mut kept = Kept::new();
    let id = admission(1).id;
    kept.ledger.admit(admission(1), &raw("1"), None, true, None, at(0)).unwrap();
    assert_eq!(kept.claimed(at(1)), None);
    kept.ledger.put_back(&id, Some(at(3_000)), at(2)).unwrap();
    assert_eq!(kept.claimed(at(2_999)), None, "not before its time");
    assert_eq!(kept.claimed(at(3_000)), Some(id));
}

#[test]
fn what_waits_can_be_refused_and_what_runs_cannot() {
    let mut kept = Kept::new();
    let error = || ContextError { code: ErrorCode::CircuitOpen, message: "no".into(), service: None, details: None };
    kept.queued(&admission(1), at(0));
    let refused = kept.ledger.refuse(&admission(1).id, error(), at(1)).unwrap();
    assert!(matches!(refused, Changed::Done(head) if head.status == Status::Failed && head.attempts.is_empty()));
    let again = kept.ledger.refuse(&admission(1).id, error(), at(2)).unwrap();
    assert!(matches!(again, Changed::Refused(_, Refused::Ended)));
    kept.leased(&admission(2), at(0));
    let running = kept.ledger.refuse(&admission(2).id, error(), at(3)).unwrap();
    assert!(matches!(running, Changed::Refused(_, Refused::NotNow)));
    assert!(matches!(kept.ledger.refuse(&admission(3).id, error(), at(4)).unwrap(), Changed::Absent));
}

#[test]
fn a_late_commit_changes_nothing() {
    let mut kept = Kept::new();
    let id = admission(1).id;
    kept.leased(&admission(1), at(0));
    kept.ledger.alarm(at(LEASE_MS), || 0);
    assert_eq!(kept.claimed(at(LEASE_MS + 1)), Some(id.clone()));
    let before = serde_json::to_string(&kept.head(&id)).unwrap();
    let late = kept.commit(&id, 1, Outcome::Succeeded, at(LEASE_MS + 2));
    assert!(matches!(late, Committed::Refused(head) if head.status == Status::Executing));
    assert_eq!(serde_json::to_string(&kept.head(&id)).unwrap(), before);
    assert!(matches!(kept.commit(&id, 2, Outcome::Succeeded, at(LEASE_MS + 3)), Committed::Taken { .. }));
    let twice = kept.commit(&id, 2, failed(false, false), at(LEASE_MS + 4));
    assert!(matches!(twice, Committed::Refused(head) if head.status == Status::Completed));
    let whole = kept.ledger.whole(&id).unwrap().unwrap();
    assert_eq!(whole.result.unwrap().get(), "7");
}

#[test]
fn a_retry_stays_with_its_worker_when_it_comes_soon() {
    let mut kept = Kept::new();
    let id = admission(1).id;
    kept.leased(&admission(1), at(0));
    let failure = report(1, failed(true, false), at(10));
    let committed = kept.ledger.commit(&id, failure, None, 5_000, at(10), 150).unwrap();
    assert!(matches!(committed, Committed::Taken { retry_ms: Some(150), .. }));
    assert_eq!(kept.ledger.effects().rings, 0, "nobody else is needed");
    assert_eq!(kept.claimed(at(200)), None, "and nobody else gets it");
    assert!(kept.ledger.lease(&id, LEASE_MS, at(200)).unwrap().is_some());
    let failure = report(2, failed(true, false), at(300));
    kept.ledger.effects();
    let committed = kept.ledger.commit(&id, failure, None, 0, at(300), 1).unwrap();
    assert!(matches!(committed, Committed::Taken { retry_ms: None, .. }));
    assert_eq!(kept.claimed(at(300)), None);
    assert_eq!(kept.claimed(at(301)), Some(id));
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let mut kept = Kept::new();
    let id = admission(1).id;
    kept.leased(&admission(1), at(0));
    kept.shelf.fail_write(Some(0));
    let refused = kept.ledger.commit(&id, report(1, Outcome::Succeeded, at(5)), None, 0, at(5), 0);
    assert!(refused.is_err());
    assert_eq!(kept.status(&id), Status::Executing);
    assert!(matches!(kept.commit(&id, 1, Outcome::Succeeded, at(6)), Committed::Taken { .. }));
}

#[test]
fn what_was_executed_before_is_recorded_once() {
    let mut kept = Kept::new();
    for _ in 0..2 {
        let done = report(1, Outcome::Succeeded, at(5));
        kept.ledger.record(admission(1), &raw("1"), done, Some(&raw("7"))).unwrap();
    }
    assert_eq!(kept.status(&admission(1).id), Status::Completed);
    assert_eq!(kept.numbers().len(), 6);
}

#[test]
fn what_nobody_takes_for_a_while_is_kept_waiting() {
    let mut kept = Kept::new();
    let one = admission(1);
    kept.queued(&one, at(0));
    assert!(!kept.ledger.is_kept_waiting(10_000, at(9_999)).unwrap());
    assert!(kept.ledger.is_kept_waiting(10_000, at(10_000)).unwrap());
    kept.claimed(at(10_000)).unwrap();
    assert!(!kept.ledger.is_kept_waiting(10_000, at(30_000)).unwrap());
}
