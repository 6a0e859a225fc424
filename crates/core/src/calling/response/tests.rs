use super::*;

fn http(status: u16, is_json: bool, body: &[u8]) -> CallResult {
    CallResult::Http { status, is_json, retry_after_ms: None, location: None, body: body.to_vec() }
}

fn failure(answer: CallResult) -> (ErrorCode, bool, bool) {
    match read(&"one".into(), answer, None).outcome {
        ReportedOutcome::Failed { error, retryable, untouched, .. } => (error.code, retryable, untouched),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_result_is_taken_as_it_was_written() {
    let verdict = read(&"one".into(), http(200, true, br#"{"result": {"n": 1.0}}"#), None);
    assert_eq!(verdict.result.unwrap().get(), r#"{"n": 1.0}"#);
    let verdict = read(&"one".into(), http(200, true, br#"{"result": null}"#), None);
    assert_eq!(verdict.result.unwrap().get(), "null");
}

#[test]
fn unusable_results_are_invalid_responses() {
    for answer in [
        http(200, false, b"<html>"),
        http(200, true, b"<html>"),
        http(200, true, b""),
        http(200, true, b"[]"),
        http(200, true, b"{}"),
        http(200, true, br#"{"error":{}}"#),
        http(200, true, &[b'['; 200_000]),
        http(204, true, b""),
        CallResult::TooLarge { status: 200 },
    ] {
        assert_eq!(failure(answer), (ErrorCode::UpstreamInvalidResponse, false, false));
    }
}

/// Whether only another service could do better.
fn only_elsewhere(answer: CallResult) -> bool {
    read(&"one".into(), answer, None).try_elsewhere
}

#[test]
fn another_service_may_be_tried_after_an_unusable_result() {
    for answer in
        [http(200, false, b"<html>"), http(200, true, b"{"), http(204, true, b""), CallResult::TooLarge { status: 200 }]
    {
        assert!(only_elsewhere(answer));
    }
}

#[test]
fn one_character_does_not_cost_an_answer() {
    for (body, expected) in [
        (&b"\xef\xbb\xbf{\"result\":1}"[..], "1"),
        (br#"{"result":1,"result":2}"#, "2"),
        (br#"{"result":"cut \ud83d"}"#, r#""cut \ufffd""#),
        (b"{\"result\":\"\xff\"}", "\"\u{fffd}\""),
    ] {
        assert_eq!(read(&"one".into(), http(200, true, body), None).result.unwrap().get(), expected);
    }
    let body = br#"{"choices":[],"usage":1,"usage":2,"x":"\ude00"}"#;
    let whole = read_openai(&"one".into(), http(200, true, body), None).result.unwrap();
    assert_eq!(whole.get(), r#"{"choices":[],"usage":2,"x":"\ufffd"}"#);
}

#[test]
fn permanent_errors_are_not_retried_at_the_same_service() {
    let quota = br#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#;
    let too_long = br#"{"error":{"message":"too many tokens","code":"context_length_exceeded"}}"#;
    for answer in [
        http(429, true, quota),
        http(400, true, too_long),
        http(401, true, b"{}"),
        http(402, true, br#"{"error":{"message":"no credit"}}"#),
        http(404, true, b"{}"),
        http(413, true, b"{}"),
        http(302, false, b""),
    ] {
        assert!(only_elsewhere(answer.clone()), "{answer:?}");
        assert!(!failure(answer).1);
    }
    for answer in [
        http(400, true, br#"{"error":{"message":"longer than the model takes"}}"#),
        http(422, true, b"{}"),
        http(500, true, br#"{"error":{"code":"x","message":"y","retryable":false}}"#),
        http(429, true, br#"{"error":{"retryable":false}}"#),
        http(200, true, br#"{"error":{"code":"x","message":"y","retryable":false}}"#),
    ] {
        assert!(!only_elsewhere(answer.clone()) && !failure(answer.clone()).1, "{answer:?}");
    }
    // Its own statement takes precedence over the status.
    assert_eq!(failure(http(409, true, br#"{"error":{"retryable":true}}"#)), (ErrorCode::UpstreamError, true, false));
    let of = |body: &str| {
        let verdict = read_openai(&"one".into(), http(200, true, body.as_bytes()), None);
        (matches!(verdict.outcome, ReportedOutcome::Failed { retryable: true, .. }), verdict.try_elsewhere)
    };
    assert_eq!(of(r#"{"error":{"message":"longer than the model takes","code":400}}"#), (false, false));
    assert_eq!(of(r#"{"error":{"message":"no such model","code":404}}"#), (false, true));
    assert_eq!(of(r#"{"error":{"message":"too busy","type":"overloaded_error"}}"#), (true, false));
    for none in ["null", "\"\"", "{}", "false", r#"{"message":null,"code":""}"#] {
        let body = format!(r#"{{"choices":[],"error":{none}}}"#);
        assert!(read_openai(&"one".into(), http(200, true, body.as_bytes()), None).result.is_some(), "{none}");
    }
}

#[test]
fn a_503_is_retried_if_it_states_that_nothing_was_done() {
    let of = |status, retry_after_ms, body: &str| {
        failure(CallResult::Http { status, is_json: true, retry_after_ms, location: None, body: body.into() })
    };
    for status in [503, 529] {
        assert_eq!(of(status, None, "{}"), (ErrorCode::ServiceUnavailable, true, false));
        assert_eq!(of(status, Some(0), "{}"), (ErrorCode::ServiceUnavailable, true, true));
        assert_eq!(of(status, None, r#"{"error":{"retryable":true}}"#), (ErrorCode::ServiceUnavailable, true, true));
        assert_eq!(of(status, None, r#"{"retryable":true}"#), (ErrorCode::ServiceUnavailable, true, false));
    }
    assert_eq!(of(500, Some(0), r#"{"error":{"retryable":true}}"#), (ErrorCode::UpstreamError, true, false));
}

#[test]
fn a_services_words_are_in_the_message_and_in_the_details() {
    let of = |answer: CallResult| match read(&"one".into(), answer, None).outcome {
        ReportedOutcome::Failed { error, .. } => {
            (error.message, error.details.map(|details| details.get().to_string()))
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        of(http(404, false, b"<html><title>Not Found</title></html>")),
        (
            "The service responded with status 404: Not Found".into(),
            Some(r#""<html><title>Not Found</title></html>""#.into())
        )
    );
    assert_eq!(of(http(500, false, b"")), ("The service responded with status 500.".into(), None));
    for (body, message) in [
        (r#"{"error":{"code":-32000,"message":"out of paper"}}"#, "out of paper"),
        (r#"{"error":"out of paper"}"#, "out of paper"),
        (r#"{"error":{"detail":["out of paper"]}}"#, "out of paper"),
        (r#"{"error":{"code":7}}"#, "7"),
        (r#"{"error":7}"#, "The service reported an error without a message."),
    ] {
        let (stated_cause, details) = of(http(200, true, body.as_bytes()));
        assert_eq!(stated_cause, message, "{body}");
        assert!(details.is_some_and(|details| body.contains(&details)), "{body}");
    }
}

#[test]
fn a_place_too_long_to_keep_is_not_kept() {
    let of = |length| {
        let location = Some("x".repeat(length));
        let answer = CallResult::Http { status: 202, is_json: false, retry_after_ms: None, location, body: Vec::new() };
        match read(&"one".into(), answer, None).outcome {
            ReportedOutcome::Accepted { location, .. } => location.is_some(),
            other => panic!("{other:?}"),
        }
    };
    assert!(of(MAX_LOCATION_BYTES) && !of(MAX_LOCATION_BYTES + 1));
}

#[test]
fn statuses_say_whether_it_may_be_tried_again() {
    assert_eq!(failure(http(500, true, b"{}")), (ErrorCode::UpstreamError, true, false));
    assert_eq!(failure(http(404, false, b"no")), (ErrorCode::UpstreamError, false, false));
    assert_eq!(failure(http(429, false, b"")), (ErrorCode::ServiceUnavailable, true, true));
    assert_eq!(failure(http(504, false, b"")), (ErrorCode::UpstreamTimeout, true, false));
    assert_eq!(failure(CallResult::Refused), (ErrorCode::ServiceUnavailable, true, true));
    assert_eq!(failure(CallResult::Broken), (ErrorCode::ServiceUnavailable, true, false));
    assert_eq!(failure(CallResult::Lost), (ErrorCode::OutcomeUnknown, true, false));
    assert_eq!(failure(CallResult::TimedOut { deadline: true }), (ErrorCode::DeadlineExceeded, false, false));
}

#[test]
fn a_services_own_error_is_kept() {
    let body = br#"{"error":{"code":"no_credit","message":"Pay first.","retryable":true}}"#;
    match read(&"one".into(), http(200, true, body), None).outcome {
        ReportedOutcome::Failed { error, retryable, .. } => {
            assert_eq!((error.message.as_str(), retryable), ("Pay first.", true));
            assert!(error.details.unwrap().get().contains("no_credit"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_result_must_match_the_output_schema() {
    let schema = Schema::compile(r#"{"type":"object","required":["text"]}"#).unwrap();
    assert!(read(&"one".into(), http(200, true, br#"{"result":{"text":""}}"#), Some(&schema)).result.is_some());
    assert!(read(&"one".into(), http(200, true, br#"{"result":{}}"#), Some(&schema)).result.is_none());
}

#[test]
fn a_202_is_work_in_the_background_whatever_its_body() {
    for (body, promised) in [
        (&b""[..], None),
        (b"<html>", None),
        (b"{}", None),
        (br#"{"lease_seconds":30}"#, Some(30_000)),
        (br#"{"lease_seconds":1}"#, None),
    ] {
        match read(&"one".into(), http(202, false, body), None).outcome {
            ReportedOutcome::Accepted { lease_ms, location: None } => assert_eq!(lease_ms, promised),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_request_for_input_has_a_message_and_a_schema_that_compiles() {
    let asks = |body: &str| {
        let body = format!(r#"{{"input_required":{body}}}"#);
        matches!(
            read(&"one".into(), http(200, true, body.as_bytes()), None).outcome,
            ReportedOutcome::InputRequired { .. }
        )
    };
    assert!(asks(r#"{"message":"Which one?"}"#));
    assert!(asks(r#"{"message":"Which one?","schema":{"enum":["a","b"]},"more":1}"#));
    for bad in ["1", "{}", r#"{"message":""}"#, r#"{"message":"a","schema":{"type":"no"}}"#] {
        assert!(!asks(bad), "{bad}");
    }
}

#[test]
fn of_openais_answers_all_is_the_result() {
    let schema = Schema::compile(r#"{"required":["choices"]}"#).unwrap();
    let verdict = read_openai(&"one".into(), http(200, true, br#" {"choices": [1.0]} "#), Some(&schema));
    assert_eq!(verdict.result.unwrap().get(), r#"{"choices": [1.0]}"#);

    let failed = |answer: CallResult| match read_openai(&"one".into(), answer, Some(&schema)).outcome {
        ReportedOutcome::Failed { error, retryable, .. } => (error.code, retryable),
        other => panic!("{other:?}"),
    };
    assert_eq!(failed(http(200, true, br#"{"error":{"message":"busy"}}"#)), (ErrorCode::UpstreamError, true));
    for body in [&b"{}"[..], b"[]", b"", b"data: {}"] {
        assert_eq!(failed(http(200, true, body)), (ErrorCode::UpstreamInvalidResponse, false));
    }
    assert_eq!(failed(http(200, false, b"{}")), (ErrorCode::UpstreamInvalidResponse, false));
    assert_eq!(failed(http(202, true, br#"{"choices":[]}"#)), (ErrorCode::UpstreamError, false));
    assert!(read_openai(&"one".into(), http(200, true, br#"[{"id":"a"}]"#), None).result.is_some());
    assert_eq!(failed(http(429, true, b"{}")), (ErrorCode::ServiceUnavailable, true));
    assert_eq!(failed(http(401, true, b"{}")), (ErrorCode::UpstreamError, false));
    assert_eq!(failed(CallResult::TimedOut { deadline: true }), (ErrorCode::DeadlineExceeded, false));
}

#[test]
fn a_service_that_was_not_called_may_be_replaced_by_another_and_did_nothing() {
    let not_called = |why| read(&"one".into(), CallResult::NotCalled(why), None).outcome;
    match not_called(NotCalled::Address(AddressError::IpAddress)) {
        ReportedOutcome::Failed { error, retryable: true, untouched: true, .. } => {
            assert_eq!(error.code, ErrorCode::AddressRefused);
            assert!(error.message.contains("IP address"), "{}", error.message);
        }
        other => panic!("{other:?}"),
    }
    match not_called(NotCalled::Document) {
        ReportedOutcome::Failed { error, retryable: true, untouched: true, .. } => {
            // As with secrets, the service is not to blame: its breaker stays closed.
            assert_eq!(error.code, ErrorCode::Internal)
        }
        other => panic!("{other:?}"),
    }
    match not_called(NotCalled::Secrets) {
        ReportedOutcome::Failed { error, retryable: true, untouched: true, .. } => {
            assert_eq!(error.code, ErrorCode::Internal)
        }
        other => panic!("{other:?}"),
    }
}
