//! Errors, before and within a stream.

use super::super::error;
use super::*;

#[test]
fn errors_of_anthropic_become_those_of_openai() {
    let body = |kind: &str, message: &str| json!({"type": "error", "error": {"type": kind, "message": message}});
    for (status, kind, message, expected, code) in [
        (400, "invalid_request_error", "Bad.", "invalid_request_error", json!(null)),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 2 > 1",
            "invalid_request_error",
            json!("context_length_exceeded"),
        ),
        (403, "permission_error", "No.", "permission_error", json!(null)),
        (404, "not_found_error", "model: x", "invalid_request_error", json!("model_not_found")),
        (413, "request_too_large", "Big.", "invalid_request_error", json!(null)),
        (429, "rate_limit_error", "Slow.", "rate_limit_error", json!("rate_limit_exceeded")),
        (500, "api_error", "Oh.", "server_error", json!("server_error")),
        (529, "overloaded_error", "Overloaded", "server_error", json!("server_error")),
    ] {
        let made = error(Endpoint::Chat, status, &body(kind, message), "req_1");
        assert_eq!(
            made,
            json!({"error": {"message": message, "type": expected, "param": null, "code": code}}),
            "{status}"
        );
        assert_eq!(error(Endpoint::Responses, status, &body(kind, message), "req_1"), made);
    }
}

#[test]
fn errors_of_openai_become_those_of_anthropic() {
    for (status, kind) in [
        (400, "invalid_request_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
    ] {
        let body = json!({"error": {"message": "Oh.", "type": "some_error", "param": "n", "code": "c"}});
        assert_eq!(
            error(Endpoint::Messages, status, &body, "req_1"),
            json!({"type": "error", "error": {"type": kind, "message": "Oh."}, "request_id": "req_1"})
        );
    }
    let made = error(Endpoint::Messages, 502, &json!(null), "r");
    assert_eq!(made["error"]["message"], "The provider's response has the status 502.");
    let made = error(Endpoint::Messages, 400, &json!({"error": "Plain words."}), "r");
    assert_eq!(made["error"]["message"], "Plain words.");
}

#[test]
fn an_error_of_openai_stays_one_for_clients_of_responses() {
    let body = json!({"error": {"message": "Oh.", "type": "invalid_request_error", "param": "n", "code": "bad_n"}});
    assert_eq!(error(Endpoint::Responses, 400, &body, "r"), body);
}

#[test]
fn an_error_ends_a_stream_in_each_format() {
    let anthropic = events(&[
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude"}}),
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        json!({"type": "message_stop"}),
    ]);
    let made = read(&stream(Endpoint::Chat, Endpoint::Messages, &json!({}), &anthropic));
    assert_eq!(
        made[1..],
        [json!({"error": {"message": "Overloaded", "type": "server_error", "param": null, "code": "server_error"}})]
    );
    let made = read(&stream(Endpoint::Responses, Endpoint::Messages, &json!({}), &anthropic));
    assert_eq!(made.len(), 3);
    assert_eq!(made[2]["type"], "response.failed");
    assert_eq!(made[2]["response"]["status"], "failed");
    assert_eq!(made[2]["response"]["error"], json!({"code": "server_error", "message": "Overloaded"}));

    let mut openai = chunks(&[delta(json!({"content": "a"}))], None);
    openai
        .insert(1, (String::new(), json!({"error": {"message": "Slow.", "code": "rate_limit_exceeded"}}).to_string()));
    let made = read(&stream(Endpoint::Messages, Endpoint::Chat, &json!({}), &openai));
    assert_eq!(
        made.last().unwrap(),
        &json!({"type": "error", "error": {"type": "rate_limit_error", "message": "Slow."}})
    );
    assert_eq!(made.len(), 4);
    let plain = vec![("error".into(), "too busy".into())];
    let made = read(&stream(Endpoint::Messages, Endpoint::Chat, &json!({}), &plain));
    assert_eq!(made, [json!({"type": "error", "error": {"type": "api_error", "message": "too busy"}})]);
    let made = read(&stream(Endpoint::Responses, Endpoint::Chat, &json!({}), &plain));
    assert_eq!(
        made,
        [json!({"type": "error", "code": "server_error", "message": "too busy", "param": null, "sequence_number": 0})]
    );
}
