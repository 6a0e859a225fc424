use super::*;
use proptest::prelude::*;

/// One text as the whole of an answer to request 1.
fn one(text: &str) -> Result<Option<Incoming>, Broken> {
    let mut messages = Messages::new(Expected::of("tools/call", 1));
    messages.push_whole(text.as_bytes());
    match messages.take()? {
        Some(message) => Ok(Some(message)),
        None => messages.ended().map_or(Ok(None), Err),
    }
}

fn no_message(why: &str) -> Broken {
    Broken::NoMessage(why.into())
}

fn why(text: &str) -> String {
    match one(text) {
        Err(Broken::NoMessage(why)) => why,
        other => panic!("{text}: {other:?}"),
    }
}

fn error(text: &str) -> RpcError {
    match one(text) {
        Ok(Some(Incoming::Response(Err(error)))) => error,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn messages_are_told_apart() {
    assert!(matches!(one(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Ok(Some(Incoming::Response(Ok(_))))));
    let error = error(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"no","data":{"supported":[]}}}"#);
    assert_eq!((error.code, error.message.as_str()), (-32022, "no"));
    let asked = one(r#"{"jsonrpc":"2.0","id":"a","method":"elicitation/create","params":{}}"#);
    assert!(matches!(asked, Ok(Some(Incoming::Request { .. }))));
    let told = one(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#);
    assert!(matches!(told, Ok(Some(Incoming::Notification { .. }))));
    let long = format!(r#"{{"jsonrpc":"2.0","method":"notifications/{}"}}"#, "x".repeat(500));
    assert!(matches!(one(&long), Ok(Some(Incoming::Notification { .. }))));
}

#[test]
fn what_is_no_message_is_told_by_what_is_wrong_with_it() {
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
        (r#"{"jsonrpc":"2.0","id":2,"result":{}}"#, "it answers a request with the id 2, which was not asked"),
    ] {
        assert_eq!(why(text), expected, "{text}");
    }
}

#[test]
fn an_id_is_known_however_it_is_written() {
    for id in ["1", r#""1""#, "1.0", r#"" 1""#, r#""1.0""#, "1e0"] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
        assert!(matches!(one(&text), Ok(Some(Incoming::Response(Ok(_))))), "{id}");
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":"no"}}}}"#);
        assert_eq!(error(&text).code, 1, "{id}");
    }
    for id in ["2", r#""2""#, r#""""#, r#""a""#, "1.5", "-1", "true", "[1]", r#""NaN""#, r#""inf""#] {
        assert!(one(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)).is_err(), "{id}");
    }
}

#[test]
fn what_an_error_says_is_kept_however_it_is_written() {
    let told = |error_text: &str| error(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error_text}}}"#));
    for (text, code, message) in [
        (r#"{"code":"-32001","message":"no paper"}"#, -32001, "no paper"),
        (r#"{"code":-32001.0,"message":"no paper","data":[1]}"#, -32001, "no paper"),
        (r#"{"code":"E_PAPER","message":"no paper"}"#, -32603, "no paper"),
        (r#"{"message":"no paper"}"#, -32603, "no paper"),
        (r#""no paper""#, -32603, "no paper"),
        (r#"{"code":-32000}"#, -32000, "The server gave no message."),
        (r#"{"code":-32000,"message":null}"#, -32000, "The server gave no message."),
        ("7", -32603, "The server gave no message."),
    ] {
        let told = told(text);
        assert_eq!((told.code, told.message.as_str()), (code, message), "{text}");
        assert_eq!(RpcError::read(&told.whole).unwrap().code, code, "{text}");
    }
    assert!(told(r#"{"code":-32001.0,"message":"no paper","data":[1]}"#).whole.get().contains(r#""data":[1]"#));
    let body = br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"out of paper"}}"#;
    assert_eq!(RpcError::of_body(body).unwrap().message, "out of paper");
    assert!(RpcError::of_body(br#"{"error":{"code":-32603,"message":"of another protocol"}}"#).is_none());
}

#[test]
fn a_long_error_is_cut_and_not_lost() {
    let long = "paper ".repeat(500);
    let told = error(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32000,"message":"{long}"}}}}"#));
    assert!(told.message.starts_with("paper paper") && told.message.ends_with('…'), "{}", told.message);
    assert_eq!(told.message.chars().count(), MAX_MESSAGE + 1);
    assert_eq!(told.kept().get(), told.whole.get());
    for (message, data) in [("x".repeat(3000), "y".repeat(3000)), ("\u{1F600}".repeat(3000), String::new())] {
        let text = serde_json::json!({"code": -32000, "message": message, "data": data}).to_string();
        let told = error(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{text}}}"#));
        let kept = told.kept();
        assert!(kept.get().len() <= MAX_DETAILS_BYTES, "{}", kept.get().len());
        let kept = RpcError::read(&kept).unwrap();
        assert!(kept.code == -32000 && kept.message.ends_with('…'), "{}", kept.message);
    }
}

#[test]
fn one_character_does_not_cost_a_message() {
    let read = |text: &str| match one(text) {
        Ok(Some(Incoming::Response(Ok(result)))) => result.get().to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(read(r#"{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}"#), r#"{"a":2}"#);
    assert_eq!(read("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"), "{}");
    assert_eq!(read(r#"{"jsonrpc":"2.0","id":1,"result":{"a":"\ud83d"}}"#), r#"{"a":"\ufffd"}"#);
}

#[test]
fn a_batch_is_read_message_by_message() {
    let batch = r#"[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","id":1,"result":{}}]"#;
    let mut messages = Messages::new(Expected::small(1));
    messages.push_whole(batch.as_bytes());
    assert!(matches!(messages.take(), Ok(Some(Incoming::Notification { .. }))));
    assert!(matches!(messages.take(), Ok(Some(Incoming::Response(Ok(_))))));
    let mut messages = Messages::new(Expected::small(1));
    messages.push(format!("data: {batch}\n\n").as_bytes()).unwrap();
    assert!(matches!(messages.take(), Ok(Some(Incoming::Notification { .. }))));
    assert!(matches!(messages.take(), Ok(Some(Incoming::Response(Ok(_))))));
}

#[test]
fn a_stream_is_read_as_it_comes_and_is_bounded() {
    let mut messages = Messages::new(Expected::small(1));
    messages.push(b"id: 0\ndata:\n\n: hello\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"a\"}\n").unwrap();
    assert!(messages.take().unwrap().is_none());
    messages.push(b"\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n").unwrap();
    assert!(matches!(messages.take(), Ok(Some(Incoming::Notification { .. }))));
    assert!(matches!(messages.take(), Ok(Some(Incoming::Response(_)))));
    let endless = vec![b'x'; MAX_ASIDE_BYTES + 1];
    assert_eq!(messages.push(&endless), Err(Broken::TooLarge));
    let mut messages = Messages::new(Expected::of("tools/call", 1));
    assert_eq!(messages.push(&endless), Ok(()));
    assert_eq!(messages.push(&vec![b'x'; MAX_ANSWER_BYTES]), Err(Broken::TooLarge));
}

#[test]
fn what_is_no_message_of_a_stream_is_passed_over() {
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
            let mut messages = Messages::new(Expected::small(1));
            messages.push(format!("{before}{event}{response}").as_bytes()).unwrap();
            let Ok(Some(Incoming::Response(Ok(result)))) = messages.take() else { panic!("{before:?}") };
            assert_eq!(result.get(), "{}");
        }
    }
    // What names the request is its response, however wrong.
    let mut messages = Messages::new(Expected::small(1));
    messages.push(b"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[]}\n\n").unwrap();
    assert_eq!(messages.take().unwrap_err(), no_message("its result is an array, not an object"));
}

#[test]
fn a_stream_that_ends_without_its_response_says_what_came_instead() {
    let ended = |text: &str| {
        let mut messages = Messages::new(Expected::small(1));
        messages.push(text.as_bytes()).unwrap();
        assert!(messages.take().unwrap().is_none());
        messages.ended()
    };
    assert_eq!(ended(""), None);
    assert_eq!(ended("event: ping\ndata: 1\n\n"), None);
    assert_eq!(ended("data: nonsense\n\n"), Some(no_message("it is not JSON")));
    // The rest of it can still be asked for.
    assert_eq!(ended("id: 7\ndata: nonsense\n\n"), None);
}

#[test]
fn what_is_said_beside_a_response_is_smaller_than_one() {
    let long = "x".repeat(MAX_ASIDE_BYTES);
    let result = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"a":"{long}"}}}}"#);
    assert!(matches!(one(&result), Ok(Some(Incoming::Response(Ok(_))))));
    for begun in [r#"{"jsonrpc":"2.0","#, r#"{"jsonrpc":"2.0","id":"a","#] {
        let told = format!(r#"{begun}"method":"notifications/message","params":{{"data":"{long}"}}}}"#);
        assert!(matches!(one(&told), Err(Broken::TooLarge)));
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_refused(text in "\\PC{0,60}", id in "[0-9\"a]{0,3}", result in "[{}\\[\\]1a\":]{0,8}") {
        let _ = one(&text);
        let _ = one(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
        let _ = one(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{result}}}"#));
        let mut messages = Messages::new(Expected::small(1));
        let _ = messages.push(text.as_bytes());
        while let Ok(Some(_)) = messages.take() {}
    }
}
