use super::*;
use proptest::prelude::*;

fn admission(idempotent: bool) -> Admission {
    Admission { idempotent, ..fixtures::admission(7, Timestamp(1_000)) }
}

fn report(lease: LeaseNumber, outcome: ReportedOutcome) -> AttemptReport {
    AttemptReport::new(lease, "one".into(), (Timestamp(1_000), Timestamp(1_010)), None, outcome)
}

fn failed(code: ErrorCode, retryable: bool, untouched: bool) -> ReportedOutcome {
    let error = ContextError { code, message: "no".into(), service: None, details: None };
    ReportedOutcome::Failed { error, retryable, untouched, retry_after_ms: None }
}

fn words(head: &Head) -> Vec<&'static str> {
    head.history.iter().map(|step| step.status.as_str()).collect()
}

#[test]
fn the_straight_way() {
    let mut head = Head::admit(admission(false), Timestamp(1_000));
    let lease = head.lease(Timestamp(1_001), Timestamp(20_000)).unwrap();
    assert_eq!(
        head.report(report(lease.number, ReportedOutcome::Succeeded), Timestamp(1_011), 0),
        Ok(Transition::Ended)
    );
    assert_eq!(words(&head), ["created", "validated", "queued", "executing", "completed"]);
    assert_eq!(head.execution_time_ms(), Some(11));
}

#[test]
fn a_late_answer_of_a_lost_lease_changes_nothing() {
    let mut head = Head::admit(admission(true), Timestamp(1_000));
    let first = head.lease(Timestamp(1_000), Timestamp(5_000)).unwrap();
    assert!(matches!(head.tick(Timestamp(5_000), 3), Transition::Queued(_)));
    let second = head.lease(Timestamp(6_000), Timestamp(9_000)).unwrap();
    let before = head.clone();
    assert_eq!(
        head.report(report(first.number, ReportedOutcome::Succeeded), Timestamp(6_001), 0),
        Err(Rejection::LeaseLost)
    );
    assert_eq!(head.history, before.history);
    assert_eq!(
        head.report(report(second.number, ReportedOutcome::Succeeded), Timestamp(6_002), 0),
        Ok(Transition::Ended)
    );
    assert_eq!(head.attempts.len(), 2);
}

#[test]
fn a_context_that_is_not_idempotent_ends_unknown_when_its_worker_is_lost() {
    let mut head = Head::admit(admission(false), Timestamp(1_000));
    head.lease(Timestamp(1_000), Timestamp(5_000)).unwrap();
    assert_eq!(head.tick(Timestamp(4_999), 0), Transition::Unchanged);
    assert_eq!(head.tick(Timestamp(5_000), 0), Transition::Ended);
    assert_eq!(head.error.as_ref().unwrap().code, ErrorCode::OutcomeUnknown);
    assert_eq!(head.status, Status::Failed);
}

#[test]
fn a_context_that_is_not_idempotent_is_repeated_only_if_its_service_did_nothing() {
    let mut head = Head::admit(admission(false), Timestamp(1_000));
    let first = head.lease(Timestamp(1_000), Timestamp(5_000)).unwrap().number;
    let refused = failed(ErrorCode::ServiceUnavailable, true, true);
    assert!(matches!(head.report(report(first, refused), Timestamp(1_001), 7), Ok(Transition::Queued(_))));
    let second = head.lease(Timestamp(2_000), Timestamp(5_000)).unwrap().number;
    let broken = failed(ErrorCode::UpstreamError, true, false);
    assert_eq!(head.report(report(second, broken), Timestamp(2_001), 7), Ok(Transition::Ended));
    assert_eq!(head.status, Status::Failed);
}

#[test]
fn a_deadline_ends_queued_and_running_contexts() {
    let mut waiting = Head::admit(admission(true), Timestamp(1_000));
    assert_eq!(waiting.tick(Timestamp(61_000), 0), Transition::Ended);
    assert_eq!((waiting.status, waiting.attempts.len()), (Status::TimedOut, 0));
    let mut running = Head::admit(admission(true), Timestamp(1_000));
    running.lease(Timestamp(1_000), Timestamp(70_000)).unwrap();
    assert_eq!(running.tick(Timestamp(61_000), 0), Transition::Ended);
    assert_eq!((running.status, running.attempts.len()), (Status::TimedOut, 1));
}

#[test]
fn a_start_in_the_future_is_waited_for() {
    let later = Admission { run_at: Some(Timestamp(30_000)), ..admission(true) };
    let mut head = Head::admit(later, Timestamp(1_000));
    assert_eq!(head.due(), Timestamp(30_000));
    assert_eq!(head.lease(Timestamp(29_999), Timestamp(50_000)), Err(Rejection::WrongState));
    assert!(head.lease(Timestamp(30_000), Timestamp(50_000)).is_ok());
}

#[derive(Debug, Clone)]
enum Act {
    Lease,
    Report(LeaseNumber, u8),
    Tick,
    Cancel,
    Sleep(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Lease),
        3 => (1u64..6, 0u8..4).prop_map(|(lease, kind)| Act::Report(fixtures::lease_number(lease), kind)),
        2 => Just(Act::Tick),
        1 => Just(Act::Cancel),
        3 => (0u64..20_000).prop_map(Act::Sleep),
    ]
}

proptest! {
    #[test]
    fn one_final_state_that_never_changes(acts in prop::collection::vec(act(), 0..60), idempotent: bool, seed: u64) {
        let mut now = Timestamp(1_000);
        let mut head = Head::admit(admission(idempotent), now);
        let mut begun = 0;
        for act in acts {
            let before = serde_json::to_string(&head).unwrap();
            let was_final = head.status.is_final();
            match act {
                Act::Lease => begun += u64::from(head.lease(now, now.plus_ms(4_000)).is_ok()),
                Act::Report(lease, 0) => { let _ = head.report(report(lease, ReportedOutcome::Succeeded), now, seed); }
                Act::Report(lease, kind) => {
                    let outcome = failed(ErrorCode::UpstreamError, kind != 1, kind == 3);
                    let _ = head.report(report(lease, outcome), now, seed);
                }
                Act::Tick => { head.tick(now, seed); }
                Act::Cancel => { let _ = head.cancel(now); }
                Act::Sleep(ms) => now = now.plus_ms(ms),
            }
            if was_final {
                prop_assert_eq!(&before, &serde_json::to_string(&head).unwrap());
            }
            for pair in head.history.windows(2) {
                prop_assert!(pair[0].status.may_become(pair[1].status));
                prop_assert!(pair[0].at <= pair[1].at);
            }
            prop_assert!(head.attempts.len() as u64 <= head.admission.retry.max_attempts);
            prop_assert_eq!(head.lease.is_some(), head.status == Status::Executing);
            prop_assert!(head.status.is_final() || head.due() <= head.admission.expires_at);
            prop_assert_eq!(head.latest_lease.map_or(0, LeaseNumber::get), begun);
        }
        // Whatever happened, the clock alone ends the context.
        now = now.plus_ms(120_000);
        head.tick(now, seed);
        prop_assert!(head.status.is_final());
        if !idempotent {
            let touched = head.attempts.iter().filter(|a| a.outcome == AttemptOutcome::Lost).count();
            prop_assert!(touched <= 1);
        }
    }

    #[test]
    fn stored_and_read_again_it_is_the_same(seed: u64) {
        let mut head = Head::admit(admission(true), Timestamp(1_000));
        head.lease(Timestamp(1_000), Timestamp(2_000)).unwrap();
        head.tick(Timestamp(2_000), seed);
        let text = serde_json::to_string(&head).unwrap();
        let again: Head = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(text, serde_json::to_string(&again).unwrap());
    }
}

#[test]
fn endless_input_requests_end_and_the_row_stays_small() {
    let question = || RawValue::from_string(r#"{"message":"Which?"}"#.into()).unwrap();
    let asks = |state: Option<String>| ReportedOutcome::InputRequired { request: question(), state };
    let mut long = admission(false);
    long.expires_at = Timestamp(90_000_000);
    let mut head = Head::admit(long, Timestamp(1_000));
    let mut now = Timestamp(2_000);
    for _ in 0..MAX_INPUT_REQUESTS {
        let lease = head.lease(now, now.plus_ms(10_000)).unwrap();
        let transition = head.report(report(lease.number, asks(Some("s".repeat(1000)))), now, 0);
        assert_eq!(transition, Ok(Transition::Ongoing));
        now = now.plus_ms(1_000);
        head.answer(RawValue::from_string(format!("\"{}\"", "x".repeat(200_000))).unwrap(), now).unwrap();
    }
    assert!(serde_json::to_string(&head).unwrap().len() < 300_000);
    let lease = head.lease(now, now.plus_ms(10_000)).unwrap();
    // Neither through an answer nor from an open attempt.
    assert_eq!(head.ask_for_input(lease.number, question(), now), Err(Rejection::WrongState));
    assert_eq!(head.report(report(lease.number, asks(None)), now, 0), Ok(Transition::Ended));
    let error = head.error.as_ref().unwrap();
    assert_eq!((head.status, error.code), (Status::Failed, ErrorCode::UpstreamInvalidResponse));
    // Data for another attempt is not kept beyond the end.
    assert!(serde_json::to_string(&head).unwrap().len() < 100_000);
    assert!(head.input.is_none() && head.input_state.is_none());
}

#[test]
fn a_service_would_fail_in_the_same_way_again_by_its_own_refusal_or_an_answer_of_no_use() {
    let attempt = |code, status_code, outcome| Attempt {
        number: 1,
        service: "one".into(),
        outcome,
        code: Some(code),
        started_at: Timestamp(1_000),
        ended_at: Timestamp(1_010),
        status_code,
        event: 0,
    };
    let failed = |code, status| attempt(code, status, AttemptOutcome::Failed).is_hopeless();
    for status in [302, 400, 401, 402, 404, 422, 501] {
        assert!(failed(ErrorCode::UpstreamError, Some(status)), "{status}");
    }
    assert!(failed(ErrorCode::UpstreamInvalidResponse, Some(200)));
    for status in [408, 425, 429, 500, 503, 521, 529] {
        assert!(!failed(ErrorCode::UpstreamError, Some(status)), "{status}");
    }
    assert!(!failed(ErrorCode::UpstreamError, Some(200)));
    assert!(!failed(ErrorCode::ServiceUnavailable, None));
    assert!(!attempt(ErrorCode::UpstreamTimeout, None, AttemptOutcome::TimedOut).is_hopeless());
}

// The versions before and after read this form too.
#[test]
fn the_latest_lease_is_stored_as_its_number_or_zero() {
    let mut head = Head::admit(admission(true), Timestamp(1_000));
    let stored = |head: &Head| serde_json::to_value(head).unwrap();
    let read = |head: &Head| serde_json::from_value::<Head>(stored(head)).unwrap().latest_lease;
    assert_eq!((stored(&head)["leases"].as_u64(), read(&head)), (Some(0), None));
    let lease = head.lease(Timestamp(1_001), Timestamp(20_000)).unwrap();
    assert_eq!((stored(&head)["leases"].as_u64(), read(&head)), (Some(1), Some(LeaseNumber::FIRST)));
    assert_eq!(stored(&head)["lease"], serde_json::json!({"number": 1, "since": 1_001, "until": 20_000}));
    let reported = serde_json::to_value(report(lease.number, ReportedOutcome::Succeeded)).unwrap();
    assert_eq!(reported["lease"].as_u64(), Some(1));
}
