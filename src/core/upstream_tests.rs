use super::*;

fn http(status: u16, is_json: bool, body: &[u8]) -> Answer {
    Answer::Http { status, is_json, retry_after_ms: None, body: body.to_vec() }
}

fn failure(answer: Answer) -> (ErrorCode, bool, bool) {
    match read("one", answer, None).outcome {
        Outcome::Failed { error, retryable, untouched, .. } => (error.code, retryable, untouched),
        Outcome::Succeeded => panic!("succeeded"),
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
        Outcome::Succeeded => panic!("succeeded"),
    }
}

#[test]
fn a_result_must_match_the_output_schema() {
    let schema = Schema::compile(r#"{"type":"object","required":["text"]}"#).unwrap();
    assert!(read("one", http(200, true, br#"{"result":{"text":""}}"#), Some(&schema)).result.is_some());
    assert!(read("one", http(200, true, br#"{"result":{}}"#), Some(&schema)).result.is_none());
}
