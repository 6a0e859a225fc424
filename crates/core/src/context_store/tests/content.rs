//! What is stored of contexts whose content is not kept, and attempts that a worker reports together.

use super::*;
use crate::base::content::Content;
use crate::context::AttemptOutcome;
use crate::context_store::messages::CallbackReport;

fn private(number: u8) -> Admission {
    let meta = Some(raw(r#"{"secret":1}"#));
    Admission { content: Content::None, idempotent: true, meta, ..admission(number) }
}

/// Everything that is stored.
fn stored(fixture: &Fixture) -> String {
    fixture.storage.read(|disk| format!("{:?} {:?}", disk.live, disk.done))
}

fn failed_with_words() -> ReportedOutcome {
    let details = Some(raw(r#""secret""#));
    let error = ContextError { code: ErrorCode::UpstreamError, message: "own words".into(), service: None, details };
    ReportedOutcome::Failed { error, retryable: false, untouched: false, retry_after_ms: None }
}

fn admit(fixture: &mut Fixture, number: u8, lease_ms: Option<u64>, now: Timestamp) -> ContextId {
    let admission = private(number);
    let id = admission.id.clone();
    fixture.store.admit(admission, &raw(r#""secret""#), lease_ms, lease_ms.is_none(), None, now).unwrap();
    id
}

#[test]
fn nothing_of_the_content_is_stored_whatever_a_worker_sends() {
    let mut fixture = Fixture::new();
    let id = admit(&mut fixture, 1, Some(LEASE_MS), at(0));
    let beat = CallbackReport::Beat { lease_ms: None, progress: Some(raw(r#""secret""#)) };
    fixture.store.callback(&id, LeaseNumber::FIRST, beat, at(1), 0).unwrap();
    let asked = fixture.store.ask_for_input(&id, LeaseNumber::FIRST, raw(r#""secret""#), at(2)).unwrap();
    assert!(matches!(asked, ChangeResult::Rejected(..)));
    let outcome = ReportedOutcome::Succeeded;
    let early = CallbackReport::Outcome { outcome: outcome.clone(), result: Some(raw(r#""secret""#)), stated: None };
    let called = fixture.store.callback(&id, LeaseNumber::FIRST, early, at(3), 0).unwrap();
    assert!(matches!(called, CallbackResult::LeaseLost(_)));
    let done = Commit { result: Some(raw(r#""secret""#)), ..commit(&id, report(1, outcome.clone(), at(4))) };
    assert!(matches!(fixture.store.commit(done, at(4), 0).unwrap(), CommitResult::Accepted { .. }));
    let record_of = |number, outcome| record(private(number), report(1, outcome, at(5)), Some(raw(r#""secret""#)));
    fixture.store.record(Record { parameters: raw(r#""secret""#), ..record_of(2, outcome) }).unwrap();
    fixture.store.record(record_of(3, failed_with_words())).unwrap();
    assert_eq!(
        [1, 2, 3].map(|number| fixture.status(&private(number).id)),
        [Status::Completed, Status::Completed, Status::Failed]
    );
    assert_eq!(fixture.head(&private(3).id).error.unwrap().message, "own words");
    assert!(!stored(&fixture).contains("secret") && !format!("{:?}", fixture.store.take_effects()).contains("secret"));
}

#[test]
fn work_that_would_continue_later_has_failed() {
    let request = ReportedOutcome::InputRequired { request: raw(r#""secret""#), state: None };
    for (number, outcome) in [(1, ReportedOutcome::Accepted { lease_ms: None, location: None }), (2, request)] {
        let mut fixture = Fixture::new();
        let id = admit(&mut fixture, number, Some(LEASE_MS), at(0));
        fixture.commit(&id, 1, outcome, at(1));
        let head = fixture.head(&id);
        assert_eq!(
            (head.status, head.error.map(|error| error.code)),
            (Status::Failed, Some(ErrorCode::ContentNotKept))
        );
        assert!(!stored(&fixture).contains("secret"));
    }
}

#[test]
fn no_other_worker_gets_a_context_whose_content_is_with_its_worker() {
    let mut fixture = Fixture::new();
    let queued = admit(&mut fixture, 1, None, at(0));
    let leased = admit(&mut fixture, 2, Some(LEASE_MS), at(0));
    for now in [at(1), at(9_000), at(30_000)] {
        assert_eq!(fixture.claim_next(now), None);
    }
    // Its own worker leases it, however late.
    let mut other = Fixture::new();
    let id = admit(&mut other, 1, None, at(0));
    assert!(other.store.lease(&id, LEASE_MS, at(9_900)).unwrap().is_some());
    // The workers are gone.
    fixture.store.alarm(at(31_000), || 0);
    let codes = [queued, leased].map(|id| fixture.head(&id).error.unwrap().code);
    assert_eq!(codes, [ErrorCode::ServiceUnavailable, ErrorCode::OutcomeUnknown]);
}

#[test]
fn a_restart_gives_the_worker_of_a_queued_context_time_to_renew_its_offer() {
    let mut fixture = Fixture::new();
    let id = admit(&mut fixture, 1, None, at(0));
    let offer_ms = Timing::DEFAULT.offer_ms;
    let mut fixture = fixture.restarted(at(offer_ms + 1_000));
    fixture.store.alarm(at(offer_ms + 1_100), || 0);
    assert_eq!(fixture.status(&id), Status::Queued);
    assert_eq!(fixture.store.renew(&id, Hold::Offered, LEASE_MS, at(offer_ms + 2_000)).unwrap(), Some(false));
    fixture.store.alarm(at(2 * offer_ms + 1_500), || 0);
    assert_eq!(fixture.status(&id), Status::Queued);
    fixture.store.alarm(at(3 * offer_ms), || 0);
    assert_eq!(fixture.status(&id), Status::Failed);
}

#[test]
fn a_failed_attempt_is_repeated_by_its_own_worker() {
    let mut fixture = Fixture::new();
    let id = admit(&mut fixture, 1, Some(LEASE_MS), at(0));
    let failure = Commit { stays_ms: u64::MAX, ..commit(&id, report(1, failed(true, true), at(1))) };
    let CommitResult::Accepted { retry_ms: Some(ms), .. } = fixture.store.commit(failure, at(1), 150).unwrap() else {
        panic!("it is repeated");
    };
    assert_eq!(fixture.claim_next(at(ms + 2)), None);
    assert!(fixture.store.lease(&id, LEASE_MS, at(ms + 2)).unwrap().is_some());
}

#[test]
fn attempts_that_failed_before_are_numbered_and_published() {
    let mut fixture = Fixture::new();
    fixture.leased(&admission(1), at(0));
    let id = admission(1).id;
    let earlier = vec![report(1, failed(false, false), at(1)), report(1, failed(false, false), at(2))];
    let late = Commit { earlier: earlier.clone(), ..commit(&id, report(9, ReportedOutcome::Succeeded, at(3))) };
    assert!(
        matches!(fixture.store.commit(late, at(3), 0).unwrap(), CommitResult::Rejected(head) if head.attempts.is_empty())
    );
    let done = Commit { earlier: earlier.clone(), ..commit(&id, report(1, ReportedOutcome::Succeeded, at(3))) };
    fixture.store.commit(done, at(3), 0).unwrap();
    let recorded = Record { earlier, ..record(admission(2), report(1, ReportedOutcome::Succeeded, at(3)), None) };
    fixture.store.record(recorded).unwrap();
    for id in [id, admission(2).id] {
        let attempts = fixture.head(&id).attempts;
        let outcomes: Vec<_> = attempts.iter().map(|attempt| (attempt.number, attempt.outcome)).collect();
        let expected = [AttemptOutcome::Failed, AttemptOutcome::Failed, AttemptOutcome::Succeeded];
        assert_eq!(outcomes, [(1, expected[0]), (2, expected[1]), (3, expected[2])]);
        let numbers: Vec<u64> = attempts.iter().map(|attempt| attempt.event).collect();
        assert!(numbers.windows(2).all(|pair| 0 < pair[0] && pair[0] < pair[1]), "{numbers:?}");
    }
}
