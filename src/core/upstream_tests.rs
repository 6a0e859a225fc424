use super::*;

fn http(status: u16, is_json: bool, body: &[u8]) -> Answer {
    Answer::Http { status, is_json, retry_after_ms: None, location: None, body: body.to_vec() }
}

fn failure(answer: Answer) -> (ErrorCode, bool, bool) {
    match read("one", answer, None).outcome {
        Outcome::Failed { error, retryable, untouched, .. } => (error.code, retryable, untouched),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_result_is_taken_as_it_was_written() {
    let verdict = read("one", http(200, true, br#"{"result": {"n": 1.0}}"#), None);
    assert_eq!(verdict.result.unwrap().get(), r#"{"n": 1.0}"#);
    let verdict = read("one", http(200, true, br#"{"result": null}"#), None);
    assert_eq!(verdict.result.unwrap().get(), "null");
}

#[test]
fn what_is_not_an_answer_is_an_invalid_response() {
    for answer in [
        http(200, false, b"<html>"),
        http(200, true, b"<html>"),
        http(200, true, b""),
        http(200, true, b"[]"),
        http(200, true, b"{}"),
        http(200, true, br#"{"result":1,"result":2}"#),
        http(200, true, br#"{"error":{}}"#),
        http(200, true, &[b'['; 200_000]),
        http(204, true, b""),
        Answer::TooLarge { status: 200 },
    ] {
        assert_eq!(failure(answer), (ErrorCode::UpstreamInvalidResponse, false, false));
    }
}

#[test]
fn statuses_say_whether_it_may_be_tried_again() {
    assert_eq!(failure(http(500, true, b"{}")), (ErrorCode::UpstreamError, true, false));
    assert_eq!(failure(http(404, false, b"no")), (ErrorCode::UpstreamError, false, false));
    assert_eq!(failure(http(429, false, b"")), (ErrorCode::ServiceUnavailable, true, true));
    assert_eq!(failure(http(504, false, b"")), (ErrorCode::UpstreamTimeout, true, false));
    assert_eq!(failure(Answer::Refused), (ErrorCode::ServiceUnavailable, true, true));
    assert_eq!(failure(Answer::Broken), (ErrorCode::ServiceUnavailable, true, false));
    assert_eq!(failure(Answer::Lost), (ErrorCode::OutcomeUnknown, true, false));
    assert_eq!(failure(Answer::TimedOut { deadline: true }), (ErrorCode::DeadlineExceeded, false, false));
}

#[test]
fn a_services_own_error_is_kept() {
    let body = br#"{"error":{"code":"no_credit","message":"Pay first.","retryable":true}}"#;
    match read("one", http(200, true, body), None).outcome {
        Outcome::Failed { error, retryable, .. } => {
            assert_eq!((error.message.as_str(), retryable), ("Pay first.", true));
            assert!(error.details.unwrap().get().contains("no_credit"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_result_must_match_the_output_schema() {
    let schema = Schema::compile(r#"{"type":"object","required":["text"]}"#).unwrap();
    assert!(read("one", http(200, true, br#"{"result":{"text":""}}"#), Some(&schema)).result.is_some());
    assert!(read("one", http(200, true, br#"{"result":{}}"#), Some(&schema)).result.is_none());
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
        match read("one", http(202, false, body), None).outcome {
            Outcome::Accepted { lease_ms, location: None } => assert_eq!(lease_ms, promised),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_request_for_input_has_a_message_and_a_schema_that_compiles() {
    let asks = |body: &str| {
        let body = format!(r#"{{"input_required":{body}}}"#);
        matches!(read("one", http(200, true, body.as_bytes()), None).outcome, Outcome::InputRequired { .. })
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
    let verdict = read_openai("one", http(200, true, br#" {"choices": [1.0]} "#), Some(&schema));
    assert_eq!(verdict.result.unwrap().get(), r#"{"choices": [1.0]}"#);

    let failed = |answer: Answer| match read_openai("one", answer, Some(&schema)).outcome {
        Outcome::Failed { error, retryable, .. } => (error.code, retryable),
        other => panic!("{other:?}"),
    };
    assert_eq!(failed(http(200, true, br#"{"error":{"message":"busy"}}"#)), (ErrorCode::UpstreamError, true));
    for body in [&b"{}"[..], b"[]", b"", b"data: {}"] {
        assert_eq!(failed(http(200, true, body)), (ErrorCode::UpstreamInvalidResponse, false));
    }
    assert_eq!(failed(http(200, false, b"{}")), (ErrorCode::UpstreamInvalidResponse, false));
    assert_eq!(failed(http(202, true, br#"{"choices":[]}"#)), (ErrorCode::UpstreamError, false));
    assert_eq!(failed(http(429, true, b"{}")), (ErrorCode::ServiceUnavailable, true));
    assert_eq!(failed(http(401, true, b"{}")), (ErrorCode::UpstreamError, false));
    assert_eq!(failed(Answer::TimedOut { deadline: true }), (ErrorCode::DeadlineExceeded, false));
}

#[test]
fn a_service_that_was_not_called_may_be_replaced_by_another_and_did_nothing() {
    let not_called = |why| read("one", Answer::NotCalled(why), None).outcome;
    match not_called(NotCalled::Address(Refusal::IpAddress)) {
        Outcome::Failed { error, retryable: true, untouched: true, .. } => {
            assert_eq!(error.code, ErrorCode::AddressRefused);
            assert!(error.message.contains("IP address"), "{}", error.message);
        }
        other => panic!("{other:?}"),
    }
    match not_called(NotCalled::Secrets) {
        Outcome::Failed { error, retryable: true, untouched: true, .. } => assert_eq!(error.code, ErrorCode::Internal),
        other => panic!("{other:?}"),
    }
}
