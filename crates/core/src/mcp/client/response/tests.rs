use super::*;
use proptest::prelude::*;

/// A text as the whole response to request 1.
fn one(text: &str) -> Result<Option<UpstreamMessage>, ResponseError> {
    let mut messages = Messages::new(ExpectedResponse::of("tools/call", 1));
    messages.push_whole(text.as_bytes());
    match messages.take()? {
        Some(message) => Ok(Some(message)),
        None => messages.ended().map_or(Ok(None), Err),
    }
}

fn no_message(why: &str) -> ResponseError {
    ResponseError::NoMessage(why.into())
}

fn why(text: &str) -> String {
    match one(text) {
        Err(ResponseError::NoMessage(why)) => why,
        other => panic!("{text}: {other:?}"),
    }
}

fn error(text: &str) -> RpcError {
    match one(text) {
        Ok(Some(UpstreamMessage::Response(Err(error)))) => error,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn messages_are_distinguished() {
    assert!(matches!(one(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Ok(Some(UpstreamMessage::Response(Ok(_))))));
    let error = error(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"no","data":{"supported":[]}}}"#);
    assert_eq!((error.code, error.message.as_str()), (-32022, "no"));
    let asked = one(r#"{"jsonrpc":"2.0","id":"a","method":"elicitation/create","params":{}}"#);
    assert!(matches!(asked, Ok(Some(UpstreamMessage::Request { .. }))));
    let reported = one(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#);
    assert!(matches!(reported, Ok(Some(UpstreamMessage::Notification { .. }))));
    let long = format!(r#"{{"jsonrpc":"2.0","method":"notifications/{}"}}"#, "x".repeat(500));
    assert!(matches!(one(&long), Ok(Some(UpstreamMessage::Notification { .. }))));
}

#[test]
fn invalid_messages_have_a_reason() {
    for (text, expected) in [
        ("", "it is not JSON"),
        ("<html>", "it is not JSON"),
        ("[]", "it is not an object"),
        ("{}", r#"it has no member jsonrpc, which must be "2.0""#),
        (r#"{"jsonrpc":"1.0","id":1,"result":{}}"#, r#"its jsonrpc is "1.0", not "2.0""#),
        (r#"{"jsonrpc":2.0,"id":1,"result":{}}"#, r#"its jsonrpc is 2.0, not "2.0""#),
        (r#"{"id":1,"result":{}}"#, r#"it has no member jsonrpc, which must be "2.0""#),
        (r#"{"jsonrpc":"2.0","id":1}"#, "it has neither a result nor an error"),
        (r#"{"jsonrpc":"2.0","id":1,"result":[]}"#, "its result is an array, not an object"),
        (r#"{"jsonrpc":"2.0","id":1,"result":null}"#, "its result is null, not an object"),
        (r#"{"jsonrpc":"2.0","result":{}}"#, "its id is missing"),
        (r#"{"jsonrpc":"2.0","id":2,"result":{}}"#, "it responds to a request with the id 2, which was not sent"),
    ] {
        assert_eq!(why(text), expected, "{text}");
    }
}

#[test]
fn an_id_is_known_however_it_is_written() {
    for id in ["1", r#""1""#, "1.0", r#"" 1""#, r#""1.0""#, "1e0"] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
        assert!(matches!(one(&text), Ok(Some(UpstreamMessage::Response(Ok(_))))), "{id}");
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":"no"}}}}"#);
        assert_eq!(error(&text).code, 1, "{id}");
    }
    for id in ["2", r#""2""#, r#""""#, r#""a""#, "1.5", "-1", "true", "[1]", r#""NaN""#, r#""inf""#] {
        assert!(one(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)).is_err(), "{id}");
    }
}

#[test]
fn errors_are_kept_in_any_form() {
    let reported = |error_text: &str| error(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error_text}}}"#));
    for (text, code, message) in [
        (r#"{"code":"-32001","message":"no paper"}"#, -32001, "no paper"),
        (r#"{"code":-32001.0,"message":"no paper","data":[1]}"#, -32001, "no paper"),
        (r#"{"code":"E_PAPER","message":"no paper"}"#, -32603, "no paper"),
        (r#"{"message":"no paper"}"#, -32603, "no paper"),
        (r#""no paper""#, -32603, "no paper"),
        (r#"{"code":-32000}"#, -32000, "The server returned no message."),
        (r#"{"code":-32000,"message":null}"#, -32000, "The server returned no message."),
        ("7", -32603, "The server returned no message."),
    ] {
        let reported = reported(text);
        assert_eq!((reported.code, reported.message.as_str()), (code, message), "{text}");
        assert_eq!(RpcError::read(&reported.whole).unwrap().code, code, "{text}");
    }
    assert!(reported(r#"{"code":-32001.0,"message":"no paper","data":[1]}"#).whole.get().contains(r#""data":[1]"#));
    let body = br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"out of paper"}}"#;
    assert_eq!(RpcError::of_body(body).unwrap().message, "out of paper");
    assert!(RpcError::of_body(br#"{"error":{"code":-32603,"message":"of another protocol"}}"#).is_none());
}

#[test]
fn a_long_error_is_cut_and_not_lost() {
    let long = "paper ".repeat(500);
    let reported = error(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32000,"message":"{long}"}}}}"#));
    assert!(reported.message.starts_with("paper paper") && reported.message.ends_with('…'), "{}", reported.message);
    assert_eq!(reported.message.chars().count(), MAX_MESSAGE + 1);
    assert_eq!(reported.stored().get(), reported.whole.get());
    for (message, data) in [("x".repeat(3000), "y".repeat(3000)), ("\u{1F600}".repeat(3000), String::new())] {
        let text = serde_json::json!({"code": -32000, "message": message, "data": data}).to_string();
        let reported = error(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{text}}}"#));
        let stored = reported.stored();
        assert!(stored.get().len() <= MAX_DETAILS_BYTES, "{}", stored.get().len());
        let stored = RpcError::read(&stored).unwrap();
        assert!(stored.code == -32000 && stored.message.ends_with('…'), "{}", stored.message);
    }
}

#[test]
fn one_character_does_not_cost_a_message() {
    let read = |text: &str| match one(text) {
        Ok(Some(UpstreamMessage::Response(Ok(result)))) => result.get().to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(read(r#"{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}"#), r#"{"a":2}"#);
    assert_eq!(read("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"), "{}");
    assert_eq!(read(r#"{"jsonrpc":"2.0","id":1,"result":{"a":"\ud83d"}}"#), r#"{"a":"\ufffd"}"#);
}

#[test]
fn a_batch_is_read_message_by_message() {
    let batch = r#"[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","id":1,"result":{}}]"#;
    let mut messages = Messages::new(ExpectedResponse::small(1));
    messages.push_whole(batch.as_bytes());
    assert!(matches!(messages.take(), Ok(Some(UpstreamMessage::Notification { .. }))));
    assert!(matches!(messages.take(), Ok(Some(UpstreamMessage::Response(Ok(_))))));
    let mut messages = Messages::new(ExpectedResponse::small(1));
    messages.push(format!("data: {batch}\n\n").as_bytes()).unwrap();
    assert!(matches!(messages.take(), Ok(Some(UpstreamMessage::Notification { .. }))));
    assert!(matches!(messages.take(), Ok(Some(UpstreamMessage::Response(Ok(_))))));
}

#[test]
fn a_stream_is_read_as_it_comes_and_is_bounded() {
    let mut messages = Messages::new(ExpectedResponse::small(1));
    messages.push(b"id: 0\ndata:\n\n: hello\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"a\"}\n").unwrap();
    assert!(messages.take().unwrap().is_none());
    messages.push(b"\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n").unwrap();
    assert!(matches!(messages.take(), Ok(Some(UpstreamMessage::Notification { .. }))));
    assert!(matches!(messages.take(), Ok(Some(UpstreamMessage::Response(_)))));
    let endless = vec![b'x'; MAX_ASIDE_BYTES + 1];
    assert_eq!(messages.push(&endless), Err(ResponseError::TooLarge));
    let mut messages = Messages::new(ExpectedResponse::of("tools/call", 1));
    assert_eq!(messages.push(&endless), Ok(()));
    assert_eq!(messages.push(&vec![b'x'; MAX_ANSWER_BYTES]), Err(ResponseError::TooLarge));
}

#[test]
fn invalid_messages_of_a_stream_are_skipped() {
    let response = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n";
    for before in [
        "event: ping\ndata: 2026-01-01T00:00:00Z\n\n",
        "event: ping\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"not\":\"this\"}}\n\n",
        "event: error\ndata: {}\n\n",
        "event: endpoint\ndata: /messages?session=1\n\n",
        "event: Message\ndata: x\n\n",
        "data: keep-alive\n\n",
        "event: message\ndata: {}\n\n",
        "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}\n\n",
        "\u{feff}",
    ] {
        for event in ["", "event: message\n"] {
            let mut messages = Messages::new(ExpectedResponse::small(1));
            messages.push(format!("{before}{event}{response}").as_bytes()).unwrap();
            let Ok(Some(UpstreamMessage::Response(Ok(result)))) = messages.take() else { panic!("{before:?}") };
            assert_eq!(result.get(), "{}");
        }
    }
    // A message with the request's id is its response, however invalid.
    let mut messages = Messages::new(ExpectedResponse::small(1));
    messages.push(b"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[]}\n\n").unwrap();
    assert_eq!(messages.take().unwrap_err(), no_message("its result is an array, not an object"));
}

#[test]
fn a_stream_without_a_response_reports_what_came_instead() {
    let ended = |text: &str| {
        let mut messages = Messages::new(ExpectedResponse::small(1));
        messages.push(text.as_bytes()).unwrap();
        assert!(messages.take().unwrap().is_none());
        messages.ended()
    };
    assert_eq!(ended(""), None);
    assert_eq!(ended("event: ping\ndata: 1\n\n"), None);
    assert_eq!(ended("data: nonsense\n\n"), Some(no_message("it is not JSON")));
    // The rest of it can still be requested.
    assert_eq!(ended("id: 7\ndata: nonsense\n\n"), None);
}

#[test]
fn messages_beside_a_response_are_smaller() {
    let long = "x".repeat(MAX_ASIDE_BYTES);
    let result = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"a":"{long}"}}}}"#);
    assert!(matches!(one(&result), Ok(Some(UpstreamMessage::Response(Ok(_))))));
    for begun in [r#"{"jsonrpc":"2.0","#, r#"{"jsonrpc":"2.0","id":"a","#] {
        let reported = format!(r#"{begun}"method":"notifications/message","params":{{"data":"{long}"}}}}"#);
        assert!(matches!(one(&reported), Err(ResponseError::TooLarge)));
    }
}

proptest! {
    #[test]
    fn any_input_is_read_or_rejected(text in "\\PC{0,60}", id in "[0-9\"a]{0,3}", result in "[{}\\[\\]1a\":]{0,8}") {
        let _ = one(&text);
        let _ = one(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
        let _ = one(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{result}}}"#));
        let mut messages = Messages::new(ExpectedResponse::small(1));
        let _ = messages.push(text.as_bytes());
        while let Ok(Some(_)) = messages.take() {}
    }
}
