//! Responses of Chat Completions for clients of Anthropic's Messages.

use super::*;

fn whole(body: &Value) -> Value {
    converted(Endpoint::Messages, Endpoint::Chat, &json!({}), body)
}

fn streamed(events: &Events) -> Vec<Value> {
    read(&stream(Endpoint::Messages, Endpoint::Chat, &json!({}), events))
}

fn call(index: u64, id: Option<&str>, name: Option<&str>, arguments: &str) -> Value {
    delta(json!({"tool_calls": [{"index": index, "id": id, "type": "function",
                                 "function": {"name": name, "arguments": arguments}}]}))
}

fn usage() -> Value {
    json!({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
           "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 0},
           "completion_tokens_details": {"reasoning_tokens": 5}})
}

fn anthropic_usage() -> Value {
    json!({"input_tokens": 40, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 60, "output_tokens": 20,
           "output_tokens_details": {"thinking_tokens": 5}})
}

#[test]
fn a_completion_becomes_a_message() {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-5", "service_tier": "default",
        "choices": [{"index": 0, "finish_reason": "stop", "logprobs": null, "message": {
            "role": "assistant", "content": "Hi.", "refusal": null, "annotations": [], "reasoning_content": "Hm.",
        }}],
        "usage": usage(),
    });
    let mut usage = anthropic_usage();
    usage["service_tier"] = "standard".into();
    assert_eq!(
        whole(&body),
        json!({
            "id": "msg_chatcmpl-1", "type": "message", "role": "assistant", "model": "gpt-5", "container": null,
            "stop_reason": "end_turn", "stop_sequence": null, "stop_details": null, "usage": usage,
            "content": [{"type": "thinking", "thinking": "Hm.", "signature": ""}, {"type": "text", "text": "Hi."}],
        })
    );
}

#[test]
fn tool_calls_become_blocks() {
    let call = |id: &str, name: &str, arguments: &str| {
        let function = json!({"name": name, "arguments": arguments});
        json!({"id": id, "type": "function", "function": function})
    };
    let message = json!({"role": "assistant", "content": null, "tool_calls": [
        call("call_1", "f", "{\"a\":1}"), call("", "g", ""), call("call_3", "h", "{\"cut"),
    ]});
    // Some providers say "stop" where tools were called.
    let body = json!({"id": "1", "choices": [{"finish_reason": "stop", "message": message}]});
    let made = whole(&body);
    assert_eq!(made["stop_reason"], "tool_use");
    assert_eq!(
        made["content"],
        json!([
            {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "call_1_1", "name": "g", "input": {}},
            {"type": "tool_use", "id": "call_3", "name": "h", "input": {"arguments": "{\"cut"}},
        ])
    );
    assert_eq!(made["usage"]["input_tokens"], 0);
}

#[test]
fn reasons_to_stop_are_converted() {
    for (reason, expected) in [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "refusal"),
        ("eos", "end_turn"),
    ] {
        let body = json!({"choices": [{"finish_reason": reason, "message": {"content": "a"}}]});
        assert_eq!(whole(&body)["stop_reason"], expected);
        let made = streamed(&chunks(&[delta(json!({"content": "a"})), finish(reason)], None));
        assert_eq!(made[made.len() - 2]["delta"]["stop_reason"], expected);
    }
}

#[test]
fn a_refusal_becomes_text() {
    let body = json!({"choices": [{"finish_reason": "stop", "message": {"content": null, "refusal": "No."}}]});
    let made = whole(&body);
    assert_eq!(made["content"], json!([{"type": "text", "text": "No."}]));
    assert_eq!(made["stop_reason"], "refusal");
    assert_eq!(made["stop_details"], json!({"type": "refusal", "category": null, "explanation": null}));
}

#[test]
fn chunks_become_events() {
    let provider = chunks(
        &[
            delta(json!({"role": "assistant", "content": ""})),
            delta(json!({"reasoning": "Hm"})),
            delta(json!({"reasoning_content": "."})),
            delta(json!({"content": "Hi"})),
            delta(json!({"content": " there."})),
            call(0, Some("call_1"), Some("f"), ""),
            call(0, None, None, "{\"a\":"),
            call(0, None, None, "1}"),
            call(1, Some("call_2"), Some("g"), "{}"),
            finish("tool_calls"),
        ],
        Some(usage()),
    );
    let started = json!({"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                         "output_tokens": 0, "output_tokens_details": {"thinking_tokens": 0}, "service_tier": null});
    let open =
        |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let more = |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let close = |index: u64| json!({"type": "content_block_stop", "index": index});
    let arguments = |text: &str| json!({"type": "input_json_delta", "partial_json": text});
    assert_eq!(
        streamed(&provider),
        [
            json!({"type": "message_start", "message": {
                "id": "msg_1", "type": "message", "role": "assistant", "model": "gpt", "content": [], "container": null,
                "stop_reason": null, "stop_sequence": null, "stop_details": null, "usage": started,
            }}),
            open(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            more(0, json!({"type": "thinking_delta", "thinking": "Hm"})),
            more(0, json!({"type": "thinking_delta", "thinking": "."})),
            close(0),
            open(1, json!({"type": "text", "text": ""})),
            more(1, json!({"type": "text_delta", "text": "Hi"})),
            more(1, json!({"type": "text_delta", "text": " there."})),
            close(1),
            open(2, json!({"type": "tool_use", "id": "call_1", "name": "f", "input": {}})),
            more(2, arguments("{\"a\":")),
            more(2, arguments("1}")),
            close(2),
            open(3, json!({"type": "tool_use", "id": "call_2", "name": "g", "input": {}})),
            more(3, arguments("{}")),
            close(3),
            json!({"type": "message_delta", "usage": anthropic_usage(),
                   "delta": {"stop_reason": "tool_use", "stop_sequence": null, "stop_details": null}}),
            json!({"type": "message_stop"}),
        ]
    );
}

#[test]
fn usage_beside_the_last_choice_counts_and_the_end_marker_may_be_missing() {
    let mut provider = chunks(&[delta(json!({"content": "a"}))], None);
    provider.pop();
    let last = json!({"id": "1", "choices": [finish("stop")], "usage": usage()});
    provider.push((String::new(), last.to_string()));
    let made = streamed(&provider);
    assert_eq!(made[made.len() - 2]["usage"], anthropic_usage());
    // Without a reason to stop, the response is not whole.
    let mut provider = chunks(&[delta(json!({"content": "a"}))], None);
    provider.pop();
    assert_eq!(streamed(&provider).last().unwrap()["type"], "content_block_delta");
}

#[test]
fn a_chunk_that_is_broken_ends_the_response() {
    let mut provider = chunks(&[delta(json!({"content": "a"})), delta(json!({"content": "b"}))], None);
    let (_, broken) = &mut provider[0];
    broken.pop();
    let made = streamed(&provider);
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["type"], "error");
    assert_eq!(made[0]["error"]["message"], "An event of the provider's stream is not JSON.");
}

#[test]
fn what_is_no_chunk_is_passed_over() {
    let mut provider: Events = vec![
        (String::new(), String::new()),
        ("ping".into(), "{\"type\":\"ping\"}".into()),
        ("ping".into(), "{".into()),
        (String::new(), json!({"id": "", "choices": [], "prompt_filter_results": [{}]}).to_string()),
        (String::new(), "not JSON".into()),
    ];
    provider.extend(chunks(&[delta(json!({"content": [{"type": "text", "text": "a"}]})), finish("stop")], None));
    let made = streamed(&provider);
    assert_eq!(made.len(), 6);
    assert_eq!(made[0]["message"]["id"], "msg_1");
    assert_eq!(made[2]["delta"]["text"], "a");
    // Nothing follows the end.
    provider.push((String::new(), json!({"choices": [delta(json!({"content": "b"}))]}).to_string()));
    assert_eq!(streamed(&provider).len(), 6);
}
