//! Callbacks, input requests, cancellation.

use super::super::CallbackResult;
use super::super::messages::CallbackReport;
use super::*;

fn accepted(lease_ms: Option<u64>) -> ReportedOutcome {
    ReportedOutcome::Accepted { lease_ms, location: Some("/jobs/1".into()) }
}

fn asks() -> ReportedOutcome {
    ReportedOutcome::InputRequired { request: raw(r#"{"message":"Which?"}"#), state: None }
}

fn end(outcome: ReportedOutcome) -> CallbackReport {
    let result = matches!(outcome, ReportedOutcome::Succeeded).then(|| raw("7"));
    CallbackReport::Outcome { outcome, result, stated: None }
}

fn call_back(fixture: &mut Fixture, lease: u64, callback: CallbackReport, now: Timestamp) -> CallbackResult {
    fixture.store.callback(&admission(1).id, lease_number(lease), callback, now, 0).unwrap()
}

#[test]
fn a_callback_ends_the_accepted_work() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    fixture.leased(&admission(1), at(0));
    fixture.commit(&id, 1, accepted(None), at(10));
    assert_eq!(fixture.status(&id), Status::Executing);
    assert!(matches!(
        call_back(&mut fixture, 1, end(ReportedOutcome::Succeeded), at(30_000)),
        CallbackResult::Accepted(_)
    ));
    assert!(matches!(
        call_back(&mut fixture, 1, end(ReportedOutcome::Succeeded), at(30_001)),
        CallbackResult::Repeated(_)
    ));
    assert_eq!(fixture.store.get(&id).unwrap().unwrap().result.unwrap().get(), "7");
}

#[test]
fn a_callback_of_a_lost_lease_changes_nothing() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    fixture.leased(&admission(1), at(0));
    fixture.commit(&id, 1, accepted(Some(5_000)), at(10));
    fixture.store.alarm(at(5_510), || 0);
    assert_eq!(fixture.status(&id), Status::Queued, "it did not report in time");
    assert!(matches!(
        call_back(&mut fixture, 1, end(ReportedOutcome::Succeeded), at(5_600)),
        CallbackResult::LeaseLost(_)
    ));
    assert_eq!(fixture.claim_next(at(5_700)), Some(id.clone()));
    assert!(matches!(
        call_back(&mut fixture, 1, end(ReportedOutcome::Succeeded), at(5_800)),
        CallbackResult::LeaseLost(_)
    ));
    assert_eq!(fixture.status(&id), Status::Executing);
    let absent = fixture
        .store
        .callback(&admission(2).id, LeaseNumber::FIRST, end(ReportedOutcome::Succeeded), at(6_000), 0)
        .unwrap();
    assert!(matches!(absent, CallbackResult::NotFound));
}

#[test]
fn a_callback_may_arrive_before_the_workers_report_of_the_acceptance() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    fixture.leased(&admission(1), at(0));
    assert!(matches!(call_back(&mut fixture, 1, end(ReportedOutcome::Succeeded), at(5)), CallbackResult::Accepted(_)));
    assert!(matches!(fixture.commit(&id, 1, accepted(None), at(10)), CommitResult::Rejected(_)));
    assert_eq!(fixture.status(&id), Status::Completed);
}

#[test]
fn a_shorter_promise_moves_the_alarm() {
    let mut fixture = Fixture::new();
    fixture.leased(&admission(1), at(0));
    fixture.commit(&admission(1).id, 1, accepted(None), at(10));
    fixture.store.alarm(at(LEASE_MS), || 0);
    assert_eq!(fixture.alarm(), Some(at(60_000)), "it has all of the context's time");
    let beat = CallbackReport::Beat { lease_ms: Some(5_000), progress: Some(raw(r#"{"percent":1}"#)) };
    assert!(matches!(call_back(&mut fixture, 1, beat, at(20_000)), CallbackResult::Accepted(_)));
    assert_eq!(fixture.alarm(), Some(at(25_000)));
}

#[test]
fn an_answer_continues_the_context() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    fixture.leased(&admission(1), at(0));
    fixture.commit(&id, 1, asks(), at(10));
    assert_eq!(fixture.store.take_effects().settled.first(), Some(&id));
    let waits = |fixture: &Fixture, asked| {
        fixture.store.should_wait(&id, WaitCondition { input_requests: asked, ..WaitCondition::default() }).unwrap()
    };
    assert!(!waits(&fixture, Some(0)) && waits(&fixture, Some(1)) && waits(&fixture, None));
    assert!(matches!(fixture.store.answer(&id, raw("2"), at(20)).unwrap(), ChangeResult::Done(_)));
    assert_eq!(fixture.store.take_effects().wakeups, 1);
    assert!(matches!(
        fixture.store.answer(&id, raw("3"), at(21)).unwrap(),
        ChangeResult::Rejected(_, Rejection::WrongState)
    ));
    let WorkClaim::Leased(attempting) = fixture.store.claim_next(LEASE_MS, &[], &[], at(22)).unwrap() else {
        panic!("it waits for its next attempt");
    };
    assert_eq!(attempting.head.input.unwrap().get(), "2");
}

#[test]
fn an_unanswered_input_request_ends_at_the_deadline() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    fixture.leased(&admission(1), at(0));
    fixture.commit(&id, 1, asks(), at(10));
    fixture.store.alarm(at(60_000), || 0);
    assert_eq!(fixture.status(&id), Status::TimedOut);
    assert!(matches!(
        fixture.store.answer(&id, raw("2"), at(60_001)).unwrap(),
        ChangeResult::Rejected(_, Rejection::Ended)
    ));
}

#[test]
fn cancelling_ends_a_queued_context_and_asks_a_running_one_to_stop() {
    let mut fixture = Fixture::new();
    let cancel = |fixture: &mut Fixture, number, now| fixture.store.cancel(&admission(number).id, now).unwrap();
    assert!(matches!(cancel(&mut fixture, 1, at(0)), CancelResult::NotFound));
    fixture.queued(&admission(1), at(0));
    assert!(matches!(cancel(&mut fixture, 1, at(1)), CancelResult::Cancelled(_, None)));
    assert!(matches!(cancel(&mut fixture, 1, at(2)), CancelResult::AlreadyEnded(_)));

    fixture.leased(&admission(2), at(0));
    let id = admission(2).id;
    assert!(matches!(cancel(&mut fixture, 2, at(1)), CancelResult::Requested(_)));
    assert_eq!(fixture.store.renew(&id, hold(1), LEASE_MS, at(4_000)).unwrap(), Some(true), "its worker is notified");
    assert!(matches!(
        fixture.commit(&id, 1, failed(true, true), at(4_001)),
        CommitResult::Accepted { retry_ms: None, .. }
    ));
    assert_eq!(fixture.status(&id), Status::Cancelled);

    fixture.leased(&admission(3), at(0));
    fixture.commit(&admission(3).id, 1, accepted(None), at(1));
    let cancelled = cancel(&mut fixture, 3, at(2));
    assert!(matches!(cancelled, CancelResult::Cancelled(_, Some(background)) if background.location.is_some()));

    fixture.leased(&admission(4), at(0));
    fixture.commit(&admission(4).id, 1, asks(), at(1));
    assert!(matches!(cancel(&mut fixture, 4, at(2)), CancelResult::Cancelled(_, None)));
}

#[test]
fn an_open_attempt_continues_with_the_answer_under_its_lease() {
    let mut fixture = Fixture::new();
    let id = admission(1).id;
    fixture.leased(&admission(1), at(0));
    let ask = |fixture: &mut Fixture, lease, now| {
        fixture.store.ask_for_input(&id, lease_number(lease), raw(r#"{"message":"Which?"}"#), now).unwrap()
    };
    assert!(matches!(ask(&mut fixture, 2, at(5)), ChangeResult::Rejected(..)), "another lease");
    assert!(matches!(ask(&mut fixture, 1, at(10)), ChangeResult::Done(_)));
    assert_eq!(fixture.status(&id), Status::InputRequired);
    assert!(
        fixture.store.awaits_input(&id, lease_number(1)).unwrap()
            && !fixture.store.awaits_input(&id, lease_number(2)).unwrap()
    );
    assert_eq!(fixture.store.renew(&id, hold(1), LEASE_MS, at(4_000)).unwrap(), Some(false));
    fixture.store.alarm(at(LEASE_MS + 100), || 0);
    assert_eq!(fixture.status(&id), Status::InputRequired, "its lease was renewed");
    fixture.store.take_effects();
    assert!(matches!(fixture.store.answer(&id, raw("8"), at(9_000)).unwrap(), ChangeResult::Done(_)));
    assert_eq!(
        fixture.store.take_effects().settled,
        std::slice::from_ref(&id),
        "the attempt that waits for the answer is woken"
    );
    assert_eq!(fixture.store.input_for(&id, lease_number(1)).unwrap().flatten().unwrap().get(), "8");
    assert_eq!(fixture.claim_next(at(9_001)), None, "no other worker starts it");
    assert!(matches!(fixture.commit(&id, 1, ReportedOutcome::ToolResult, at(9_100)), CommitResult::Accepted { .. }));
    assert_eq!(fixture.status(&id), Status::Completed);
    assert!(fixture.store.input_for(&id, lease_number(1)).unwrap().is_none());
}

#[test]
fn an_attempt_that_stays_open_and_is_lost_is_what_any_lost_attempt_is() {
    for idempotent in [true, false] {
        let mut fixture = Fixture::new();
        let open = Admission { idempotent, ..admission(1) };
        fixture.leased(&open, at(0));
        fixture.store.ask_for_input(&open.id, LeaseNumber::FIRST, raw(r#"{"message":"Which?"}"#), at(10)).unwrap();
        fixture.store.alarm(at(LEASE_MS + 100), || 0);
        assert_eq!(fixture.status(&open.id), if idempotent { Status::Queued } else { Status::Failed });
        assert!(matches!(
            fixture.store.answer(&open.id, raw("8"), at(LEASE_MS + 200)).unwrap(),
            ChangeResult::Rejected(..)
        ));
    }
}

#[test]
fn an_attempt_that_stays_open_can_be_cancelled_and_can_end_unanswered() {
    let mut fixture = Fixture::new();
    for number in [1, 2] {
        fixture.leased(&admission(number), at(0));
        fixture
            .store
            .ask_for_input(&admission(number).id, LeaseNumber::FIRST, raw(r#"{"message":"Which?"}"#), at(10))
            .unwrap();
    }
    assert!(matches!(fixture.store.cancel(&admission(1).id, at(20)).unwrap(), CancelResult::Cancelled(_, None)));
    assert_eq!(
        fixture.store.renew(&admission(1).id, hold(1), LEASE_MS, at(30)).unwrap(),
        None,
        "its worker is notified"
    );
    assert!(matches!(
        fixture.commit(&admission(2).id, 1, ReportedOutcome::Succeeded, at(40)),
        CommitResult::Accepted { .. }
    ));
    let head = fixture.store.get(&admission(2).id).unwrap().unwrap().head;
    assert!(head.history.windows(2).all(|pair| pair[0].status.may_become(pair[1].status)));
}

/// An attempt that asks for input during its call.
fn asking(fixture: &mut Fixture, number: u8) -> ContextId {
    let id = admission(number).id;
    fixture.leased(&admission(number), at(0));
    fixture.store.ask_for_input(&id, LeaseNumber::FIRST, raw(r#"{"message":"Which?"}"#), at(10)).unwrap();
    id
}

#[test]
fn a_request_for_input_whose_reply_was_lost_may_be_repeated() {
    let mut fixture = Fixture::new();
    let id = asking(&mut fixture, 1);
    let before = fixture.head(&id);
    let same = fixture.store.ask_for_input(&id, LeaseNumber::FIRST, raw(r#"{"message":"Which?"}"#), at(20)).unwrap();
    assert!(matches!(same, ChangeResult::Done(_)));
    assert_eq!((fixture.head(&id).history.len(), fixture.status(&id)), (before.history.len(), Status::InputRequired));
    let other = fixture.store.ask_for_input(&id, LeaseNumber::FIRST, raw(r#"{"message":"Who?"}"#), at(30)).unwrap();
    assert!(matches!(other, ChangeResult::Rejected(..)));
}

#[test]
fn an_attempt_that_waits_for_input_when_its_context_ends_has_an_event() {
    let mut fixture = Fixture::new();
    let id = asking(&mut fixture, 1);
    fixture.store.renew(&id, hold(1), 120_000, at(20)).unwrap();
    fixture.store.alarm(admission(1).expires_at.plus_ms(100), || 0);
    let ended = fixture.store.get(&id).unwrap().unwrap().head;
    assert_eq!(ended.status, Status::TimedOut);
    let [attempt] = ended.attempts.as_slice() else { panic!("one attempt") };
    let last = ended.history.last().unwrap().event;
    assert!(attempt.event > 0 && attempt.event < last, "{} comes before {last}", attempt.event);
    assert!(fixture.numbers().contains(&attempt.event));
}

#[test]
fn a_cancelled_context_neither_waits_for_input_nor_for_a_background() {
    let input = ReportedOutcome::InputRequired { request: raw(r#"{"message":"Which?"}"#), state: None };
    for outcome in [input, ReportedOutcome::Accepted { lease_ms: None, location: None }] {
        let mut fixture = Fixture::new();
        let id = admission(1).id;
        fixture.leased(&admission(1), at(0));
        assert!(matches!(fixture.store.cancel(&id, at(10)).unwrap(), CancelResult::Requested(_)));
        fixture.commit(&id, 1, outcome, at(20));
        assert_eq!(fixture.store.get(&id).unwrap().unwrap().head.status, Status::Cancelled);
    }
}

#[test]
fn an_attempt_that_ends_unanswered_has_its_event_after_it_was_resumed() {
    let mut fixture = Fixture::new();
    let id = asking(&mut fixture, 1);
    fixture.commit(&id, 1, failed(false, false), at(20));
    let ended = fixture.store.get(&id).unwrap().unwrap().head;
    let last: Vec<u64> = ended.history.iter().rev().take(2).map(|step| step.event).collect();
    let [attempt] = ended.attempts.as_slice() else { panic!("one attempt") };
    assert!(last[1] < attempt.event && attempt.event < last[0], "{last:?} {}", attempt.event);
}
