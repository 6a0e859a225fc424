//! Each request, and its reply.

use super::super::messages::{
    Admit, AnswerInput, AwaitInput, CallBack, CallbackReport, Cancel, ClaimWork, Commit, Get, GetOrigin, Lease,
    NarrowInput, PutBack, Recall, Record, Refuse, Renew, RequestInput,
};
use super::super::replies::{
    AdmitReply, CallbackReply, CancelOutcome, CancelReply, ChangeReply, ClaimReply, CommitReply, ContextReply,
    InputReply, LeaseReply, OriginReply, RecallReply, RenewReply,
};
use super::*;
use crate::base::done::Done;

const QUESTION: &str = r#"{"message":"Which?"}"#;

fn ask<R: ContextRequest>(fixture: &mut Fixture, request: R, now: Timestamp) -> R::Reply {
    request.answer(&mut fixture.store, now, 0).unwrap()
}

fn admit(number: u8, lease_ms: Option<u64>) -> Admit {
    let (admission, parameters) = (Box::new(admission(number)), raw("1"));
    Admit { admission, parameters, lease_ms, offers: false, show: false, claim: None }
}

fn commit(lease: u64, outcome: ReportedOutcome, stays_ms: u64) -> Commit {
    let result = matches!(outcome, ReportedOutcome::Succeeded).then(|| raw("7"));
    Commit { id: admission(1).id, report: report(lease, outcome, at(10)), result, stays_ms, earlier: Vec::new() }
}

fn claim_work(gated: &[&str], again_at: Option<Timestamp>) -> ClaimWork {
    let gated = gated.iter().map(|service| (*service).into()).collect();
    ClaimWork { lease_ms: LEASE_MS, gated, without: Vec::new(), again_at }
}

fn refusal() -> ContextError {
    ContextError { code: ErrorCode::CircuitOpen, message: "no".into(), service: None, details: None }
}

/// A member of a view.
fn shown(view: &RawValue, member: &str) -> serde_json::Value {
    serde_json::from_str::<serde_json::Value>(view.get()).unwrap()[member].clone()
}

#[test]
fn an_admission_shows_the_context_unless_a_commit_will() {
    let mut fixture = Fixture::new();
    let AdmitReply::Admitted { lease: None, view: Some(view) } = ask(&mut fixture, admit(1, None), at(0)) else {
        panic!("it is queued and shown");
    };
    assert_eq!(shown(&view, "status"), "queued");
    let leased = ask(&mut fixture, admit(2, Some(LEASE_MS)), at(0));
    assert!(matches!(leased, AdmitReply::Admitted { lease: Some(LeaseNumber::FIRST), view: None }));
    let leased = ask(&mut fixture, Admit { show: true, ..admit(3, Some(LEASE_MS)) }, at(0));
    assert!(matches!(leased, AdmitReply::Admitted { lease: Some(_), view: Some(_) }));
}

#[test]
fn an_idempotency_key_is_recalled() {
    let mut fixture = Fixture::new();
    let (id, claim) = (admission(1).id, key("k", "a"));
    assert!(matches!(ask(&mut fixture, Recall { claim: claim.clone() }, at(0)), RecallReply::Nothing));
    ask(&mut fixture, Admit { claim: Some(claim.clone()), ..admit(1, None) }, at(0));
    let recalled = ask(&mut fixture, Recall { claim: claim.clone() }, at(1));
    assert!(matches!(recalled, RecallReply::Replayed { id: found } if found == id));
    let other = key("k", "b");
    assert!(matches!(ask(&mut fixture, Recall { claim: other.clone() }, at(1)), RecallReply::KeyReused));
    let again = ask(&mut fixture, Admit { claim: Some(claim), ..admit(2, None) }, at(1));
    assert!(matches!(again, AdmitReply::Replayed { id: found } if found == id));
    let again = ask(&mut fixture, Admit { claim: Some(other), ..admit(2, None) }, at(1));
    assert!(matches!(again, AdmitReply::KeyReused));
}

#[test]
fn a_commit_returns_the_state_and_when_the_sender_makes_the_next_attempt() {
    let mut fixture = Fixture::new();
    ask(&mut fixture, admit(1, Some(LEASE_MS)), at(0));
    let committed = ask(&mut fixture, commit(1, failed(true, true), 60_000), at(10));
    let CommitReply::Committed { view, ended: false, retry_ms: Some(pause) } = committed else {
        panic!("{committed:?}");
    };
    assert_eq!(shown(&view, "status"), "queued");
    let lease = Lease { id: admission(1).id, lease_ms: LEASE_MS };
    let LeaseReply::Leased(work) = ask(&mut fixture, lease.clone(), at(10 + pause)) else { panic!("it is ready") };
    assert_eq!((work.attempt, work.hold, work.parameters.get()), (2, hold(2), "1"));
    assert_eq!((work.tried, work.hopeless), (vec!["one".into()], Vec::new()));
    assert!(matches!(ask(&mut fixture, lease, at(11 + pause)), LeaseReply::Nothing), "it is leased");
    let late = ask(&mut fixture, commit(1, ReportedOutcome::Succeeded, 0), at(20 + pause));
    assert!(matches!(late, CommitReply::Refused { view } if shown(&view, "status") == "executing"));
    let committed = ask(&mut fixture, commit(2, ReportedOutcome::Succeeded, 0), at(20 + pause));
    assert!(matches!(committed, CommitReply::Committed { ended: true, retry_ms: None, .. }));
}

#[test]
fn a_record_is_stored_once_and_can_be_read() {
    let mut fixture = Fixture::new();
    let (admission, parameters) = (Box::new(admission(1)), raw("1"));
    let report = report(1, ReportedOutcome::Succeeded, at(10));
    let record = Record { admission, parameters, report, result: Some(raw("7")), earlier: Vec::new() };
    assert_eq!(ask(&mut fixture, record.clone(), at(20)), Done::Done);
    assert_eq!(ask(&mut fixture, record, at(30)), Done::Done);
    let get = Get { id: super::admission(1).id };
    let ContextReply::Context(found) = ask(&mut fixture, get, at(30)) else { panic!("it is stored") };
    assert_eq!((found.status, found.ended, found.parameters.get()), (Status::Completed, true, "1"));
    assert_eq!((shown(&found.view, "status"), found.result.unwrap().get()), ("completed".into(), "7"));
    let unknown = Get { id: super::admission(2).id };
    assert!(matches!(ask(&mut fixture, unknown, at(30)), ContextReply::Nothing));
}

#[test]
fn work_is_claimed_renewed_and_put_back() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    assert!(matches!(ask(&mut fixture, claim_work(&[], None), at(0)), ClaimReply::Nothing));
    ask(&mut fixture, admit(1, None), at(0));
    let ClaimReply::Offered(work) = ask(&mut fixture, claim_work(&["one"], None), at(1)) else { panic!("gated") };
    assert_eq!((work.attempt, work.hold), (1, Hold::Offered));
    assert!(matches!(ask(&mut fixture, claim_work(&[], None), at(2)), ClaimReply::Nothing), "it is offered");
    let renew = |hold| Renew { id: id.clone(), hold, lease_ms: LEASE_MS };
    assert!(matches!(ask(&mut fixture, renew(Hold::Offered), at(3)), RenewReply::Renewed { cancel: false }));
    assert_eq!(ask(&mut fixture, PutBack { id: id.clone(), until: None }, at(4)), Done::Done);
    let ClaimReply::Leased(work) = ask(&mut fixture, claim_work(&[], None), at(5)) else { panic!("it is free") };
    assert_eq!(work.hold, hold(1));
    let cancelled = ask(&mut fixture, Cancel { id: id.clone() }, at(6));
    assert!(matches!(cancelled, CancelReply::Cancelled { outcome: CancelOutcome::Asked, background: None, .. }));
    assert!(matches!(ask(&mut fixture, renew(hold(1)), at(7)), RenewReply::Renewed { cancel: true }));
    assert!(matches!(ask(&mut fixture, renew(hold(2)), at(7)), RenewReply::Nothing), "no such lease");
}

#[test]
fn a_claim_without_some_services_wakes_a_consumer_when_they_may_be_tried_again() {
    let mut fixture = Fixture::new();
    ask(&mut fixture, admit(1, None), at(0));
    fixture.store.take_effects();
    let claim = ClaimWork { without: vec!["one".into()], ..claim_work(&[], Some(at(500))) };
    assert!(matches!(ask(&mut fixture, claim, at(1)), ClaimReply::Nothing));
    assert!(fixture.alarm().is_some_and(|alarm| alarm <= at(500)));
}

#[test]
fn a_waiting_context_is_refused_or_cancelled_once() {
    let mut fixture = Fixture::new();
    let refuse = |number| Refuse { id: admission(number).id, error: refusal() };
    assert!(matches!(ask(&mut fixture, refuse(1), at(0)), ChangeReply::Nothing));
    ask(&mut fixture, admit(1, None), at(0));
    let refused = ask(&mut fixture, refuse(1), at(1));
    assert!(matches!(refused, ChangeReply::Changed { view, ended: true } if shown(&view, "status") == "failed"));
    assert!(matches!(ask(&mut fixture, refuse(1), at(2)), ChangeReply::Refused { .. }));
    let cancel = |number| Cancel { id: admission(number).id };
    let ended = ask(&mut fixture, cancel(1), at(3));
    assert!(matches!(ended, CancelReply::Cancelled { outcome: CancelOutcome::Ended, .. }));
    assert!(matches!(ask(&mut fixture, cancel(2), at(3)), CancelReply::Nothing));
    ask(&mut fixture, admit(2, None), at(3));
    let cancelled = ask(&mut fixture, cancel(2), at(4));
    assert!(matches!(cancelled, CancelReply::Cancelled { outcome: CancelOutcome::Now, .. }));
}

#[test]
fn a_callback_learns_whether_it_counts() {
    let mut fixture = Fixture::new();
    let end = |number, lease| CallBack {
        id: admission(number).id,
        lease: lease_number(lease),
        callback: CallbackReport::Outcome { outcome: ReportedOutcome::Succeeded, result: Some(raw("7")), stated: None },
    };
    assert!(matches!(ask(&mut fixture, end(1, 1), at(0)), CallbackReply::Nothing));
    ask(&mut fixture, admit(1, Some(LEASE_MS)), at(0));
    ask(&mut fixture, commit(1, ReportedOutcome::Accepted { lease_ms: None, location: None }, 0), at(10));
    let late = ask(&mut fixture, end(1, 2), at(20));
    assert!(matches!(late, CallbackReply::CalledBack { status: Status::Executing, counts: false }));
    for now in [30, 40] {
        let counted = ask(&mut fixture, end(1, 1), at(now));
        assert!(matches!(counted, CallbackReply::CalledBack { status: Status::Completed, counts: true }));
    }
}

#[test]
fn an_attempt_gets_the_answer_to_its_input_request() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    ask(&mut fixture, admit(1, Some(LEASE_MS)), at(0));
    let wait = |lease| AwaitInput { id: admission(1).id, lease: lease_number(lease), milliseconds: 0 };
    let request = RequestInput { id: id.clone(), lease: lease_number(1), request: raw(QUESTION) };
    let changed = ask(&mut fixture, request, at(1));
    assert!(
        matches!(changed, ChangeReply::Changed { view, ended: false } if shown(&view, "status") == "input_required")
    );
    assert!(matches!(ask(&mut fixture, wait(1), at(2)), InputReply::Heard { input: None }));
    let narrow = NarrowInput { id: id.clone(), from: raw(QUESTION), to: raw("{}") };
    assert!(matches!(ask(&mut fixture, narrow.clone(), at(3)), ChangeReply::Changed { ended: false, .. }));
    assert!(matches!(ask(&mut fixture, narrow, at(3)), ChangeReply::Refused { .. }), "it is another request now");
    let answered = ask(&mut fixture, AnswerInput { id, input: raw("3") }, at(4));
    assert!(matches!(answered, ChangeReply::Changed { ended: false, .. }));
    let InputReply::Heard { input: Some(input) } = ask(&mut fixture, wait(1), at(5)) else { panic!("answered") };
    assert_eq!(input.get(), "3");
    assert!(matches!(ask(&mut fixture, wait(2), at(5)), InputReply::Nothing), "no such lease");
}

#[test]
fn the_origin_is_the_admission_with_its_parameters() {
    let mut fixture = Fixture::new();
    let origin = GetOrigin { id: admission(1).id };
    assert!(matches!(ask(&mut fixture, origin.clone(), at(0)), OriginReply::Nothing));
    ask(&mut fixture, admit(1, None), at(0));
    let OriginReply::Origin(found) = ask(&mut fixture, origin, at(1)) else { panic!("it exists") };
    assert_eq!((found.admission.id, found.parameters.get(), found.ended), (admission(1).id, "1", false));
}
