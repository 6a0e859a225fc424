//! Callbacks, input, cancelling.

use super::super::{Callback, CalledBack};
use super::*;

fn accepted(lease_ms: Option<u64>) -> Outcome {
    Outcome::Accepted { lease_ms, location: Some("/jobs/1".into()) }
}

fn asks() -> Outcome {
    Outcome::InputRequired { request: raw(r#"{"message":"Which?"}"#), state: None }
}

fn end(outcome: Outcome) -> Callback {
    let result = matches!(outcome, Outcome::Succeeded).then(|| raw("7"));
    Callback::Outcome { outcome, result }
}

fn call_back(kept: &mut Kept, lease: u64, callback: Callback, now: Timestamp) -> CalledBack {
    kept.ledger.called_back(&admission(1).id, lease, callback, now, 0).unwrap()
}

#[test]
fn a_callback_ends_what_its_service_took_on() {
    let mut kept = Kept::new();
    let id = admission(1).id;
    kept.leased(&admission(1), at(0));
    kept.commit(&id, 1, accepted(None), at(10));
    assert_eq!(kept.status(&id), Status::Executing);
    assert!(matches!(call_back(&mut kept, 1, end(Outcome::Succeeded), at(30_000)), CalledBack::Taken(_)));
    assert!(matches!(call_back(&mut kept, 1, end(Outcome::Succeeded), at(30_001)), CalledBack::Again(_)));
    assert_eq!(kept.ledger.whole(&id).unwrap().unwrap().result.unwrap().get(), "7");
}

#[test]
fn a_callback_of_a_lost_lease_changes_nothing() {
    let mut kept = Kept::new();
    let id = admission(1).id;
    kept.leased(&admission(1), at(0));
    kept.commit(&id, 1, accepted(Some(5_000)), at(10));
    kept.ledger.alarm(at(5_510), || 0);
    assert_eq!(kept.status(&id), Status::Queued, "it did not report in time");
    assert!(matches!(call_back(&mut kept, 1, end(Outcome::Succeeded), at(5_600)), CalledBack::Lost(_)));
    assert_eq!(kept.claimed(at(5_700)), Some(id.clone()));
    assert!(matches!(call_back(&mut kept, 1, end(Outcome::Succeeded), at(5_800)), CalledBack::Lost(_)));
    assert_eq!(kept.status(&id), Status::Executing);
    let absent = kept.ledger.called_back(&admission(2).id, 1, end(Outcome::Succeeded), at(6_000), 0).unwrap();
    assert!(matches!(absent, CalledBack::Absent));
}

#[test]
fn a_callback_may_come_before_its_worker_says_that_it_was_taken_on() {
    let mut kept = Kept::new();
    let id = admission(1).id;
    kept.leased(&admission(1), at(0));
    assert!(matches!(call_back(&mut kept, 1, end(Outcome::Succeeded), at(5)), CalledBack::Taken(_)));
    assert!(matches!(kept.commit(&id, 1, accepted(None), at(10)), Committed::Refused(_)));
    assert_eq!(kept.status(&id), Status::Completed);
}

#[test]
fn a_shorter_promise_moves_the_alarm() {
    let mut kept = Kept::new();
    kept.leased(&admission(1), at(0));
    kept.commit(&admission(1).id, 1, accepted(None), at(10));
    kept.ledger.alarm(at(LEASE_MS), || 0);
    assert_eq!(kept.alarm(), Some(at(60_000)), "it has all of the context's time");
    let beat = Callback::Beat { lease_ms: Some(5_000), progress: Some(raw(r#"{"percent":1}"#)) };
    assert!(matches!(call_back(&mut kept, 1, beat, at(20_000)), CalledBack::Taken(_)));
    assert_eq!(kept.alarm(), Some(at(25_000)));
}

#[test]
fn an_answer_lets_what_asked_go_on() {
    let mut kept = Kept::new();
    let id = admission(1).id;
    kept.leased(&admission(1), at(0));
    kept.commit(&id, 1, asks(), at(10));
    assert_eq!(kept.ledger.effects().rested.first(), Some(&id));
    let goes_on = |kept: &Kept, asked| kept.ledger.goes_on(&id, Until { asked, ..Until::default() }).unwrap();
    assert!(!goes_on(&kept, Some(0)) && goes_on(&kept, Some(1)) && goes_on(&kept, None));
    assert!(matches!(kept.ledger.answered(&id, raw("2"), at(20)).unwrap(), Changed::Done(_)));
    assert_eq!(kept.ledger.effects().rings, 1);
    assert!(matches!(kept.ledger.answered(&id, raw("3"), at(21)).unwrap(), Changed::Refused(_, Refused::NotNow)));
    let Claimed::Leased(attempting) = kept.ledger.claim(LEASE_MS, &[], &[], at(22)).unwrap() else {
        panic!("it waits for its next attempt");
    };
    assert_eq!(attempting.head.input.unwrap().get(), "2");
}

#[test]
fn a_question_that_nobody_answers_ends_with_its_deadline() {
    let mut kept = Kept::new();
    let id = admission(1).id;
    kept.leased(&admission(1), at(0));
    kept.commit(&id, 1, asks(), at(10));
    kept.ledger.alarm(at(60_000), || 0);
    assert_eq!(kept.status(&id), Status::TimedOut);
    assert!(matches!(kept.ledger.answered(&id, raw("2"), at(60_001)).unwrap(), Changed::Refused(_, Refused::Ended)));
}

#[test]
fn cancelling_ends_what_waits_and_asks_what_runs_to_stop() {
    let mut kept = Kept::new();
    let cancel = |kept: &mut Kept, number, now| kept.ledger.cancel(&admission(number).id, now).unwrap();
    assert!(matches!(cancel(&mut kept, 1, at(0)), Cancelling::Absent));
    kept.queued(&admission(1), at(0));
    assert!(matches!(cancel(&mut kept, 1, at(1)), Cancelling::Now(_, None)));
    assert!(matches!(cancel(&mut kept, 1, at(2)), Cancelling::AlreadyEnded(_)));

    kept.leased(&admission(2), at(0));
    let id = admission(2).id;
    assert!(matches!(cancel(&mut kept, 2, at(1)), Cancelling::Asked(_)));
    assert_eq!(kept.ledger.renew(&id, 1, LEASE_MS, at(4_000)).unwrap(), Some(true), "its worker hears of it");
    assert!(matches!(kept.commit(&id, 1, failed(true, true), at(4_001)), Committed::Taken { retry_ms: None, .. }));
    assert_eq!(kept.status(&id), Status::Cancelled);

    kept.leased(&admission(3), at(0));
    kept.commit(&admission(3).id, 1, accepted(None), at(1));
    let told = cancel(&mut kept, 3, at(2));
    assert!(matches!(told, Cancelling::Now(_, Some(background)) if background.location.is_some()));

    kept.leased(&admission(4), at(0));
    kept.commit(&admission(4).id, 1, asks(), at(1));
    assert!(matches!(cancel(&mut kept, 4, at(2)), Cancelling::Now(_, None)));
}

#[test]
fn an_attempt_that_stays_open_goes_on_with_the_answer_under_its_lease() {
    let mut kept = Kept::new();
    let id = admission(1).id;
    kept.leased(&admission(1), at(0));
    let ask = |kept: &mut Kept, lease, now| kept.ledger.ask(&id, lease, raw(r#"{"message":"Which?"}"#), now).unwrap();
    assert!(matches!(ask(&mut kept, 2, at(5)), Changed::Refused(..)), "another lease");
    assert!(matches!(ask(&mut kept, 1, at(10)), Changed::Done(_)));
    assert_eq!(kept.status(&id), Status::InputRequired);
    assert!(kept.ledger.asks(&id, 1).unwrap() && !kept.ledger.asks(&id, 2).unwrap());
    assert_eq!(kept.ledger.renew(&id, 1, LEASE_MS, at(4_000)).unwrap(), Some(false));
    kept.ledger.alarm(at(LEASE_MS + 100), || 0);
    assert_eq!(kept.status(&id), Status::InputRequired, "its lease was renewed");
    kept.ledger.effects();
    assert!(matches!(kept.ledger.answered(&id, raw("8"), at(9_000)).unwrap(), Changed::Done(_)));
    assert_eq!(kept.ledger.effects().rested, std::slice::from_ref(&id), "whoever waits for the answer is woken");
    assert_eq!(kept.ledger.heard(&id, 1).unwrap().flatten().unwrap().get(), "8");
    assert_eq!(kept.claimed(at(9_001)), None, "nobody else begins it");
    assert!(matches!(kept.commit(&id, 1, Outcome::ToolResult, at(9_100)), Committed::Taken { .. }));
    assert_eq!(kept.status(&id), Status::Completed);
    assert!(kept.ledger.heard(&id, 1).unwrap().is_none());
}

#[test]
fn an_attempt_that_stays_open_and_is_lost_is_what_any_lost_attempt_is() {
    for idempotent in [true, false] {
        let mut kept = Kept::new();
        let open = Admission { idempotent, ..admission(1) };
        kept.leased(&open, at(0));
        kept.ledger.ask(&open.id, 1, raw(r#"{"message":"Which?"}"#), at(10)).unwrap();
        kept.ledger.alarm(at(LEASE_MS + 100), || 0);
        assert_eq!(kept.status(&open.id), if idempotent { Status::Queued } else { Status::Failed });
        assert!(matches!(kept.ledger.answered(&open.id, raw("8"), at(LEASE_MS + 200)).unwrap(), Changed::Refused(..)));
    }
}

#[test]
fn an_attempt_that_stays_open_can_be_cancelled_and_can_end_unanswered() {
    let mut kept = Kept::new();
    for number in [1, 2] {
        kept.leased(&admission(number), at(0));
        kept.ledger.ask(&admission(number).id, 1, raw(r#"{"message":"Which?"}"#), at(10)).unwrap();
    }
    assert!(matches!(kept.ledger.cancel(&admission(1).id, at(20)).unwrap(), Cancelling::Now(_, None)));
    assert_eq!(kept.ledger.renew(&admission(1).id, 1, LEASE_MS, at(30)).unwrap(), None, "its worker learns of it");
    assert!(matches!(kept.commit(&admission(2).id, 1, Outcome::Succeeded, at(40)), Committed::Taken { .. }));
    let head = kept.ledger.whole(&admission(2).id).unwrap().unwrap().head;
    assert!(head.history.windows(2).all(|pair| pair[0].status.may_become(pair[1].status)));
}
