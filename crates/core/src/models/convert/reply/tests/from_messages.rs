//! Anthropic's responses for clients of Chat Completions.

use super::*;

fn whole(body: &Value) -> Value {
    converted(Endpoint::Chat, Endpoint::Messages, &json!({}), body)
}

fn streamed(request: &Value, data: &[Value]) -> Vec<Value> {
    read(&stream(Endpoint::Chat, Endpoint::Messages, request, &events(data)))
}

fn start() -> Value {
    json!({"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [], "stop_reason": null,
        "usage": {"input_tokens": 25, "cache_read_input_tokens": 5, "output_tokens": 1, "service_tier": "standard"},
    }})
}

fn block(index: u64, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn piece(index: u64, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn close(index: u64) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn end(reason: &str) -> [Value; 2] {
    [
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null},
               "usage": {"output_tokens": 15}}),
        json!({"type": "message_stop"}),
    ]
}

/// The choice of each chunk.
fn choices(chunks: &[Value]) -> Vec<(Value, Value)> {
    let choice = |chunk: &Value| (chunk["choices"][0]["delta"].clone(), chunk["choices"][0]["finish_reason"].clone());
    chunks.iter().filter(|chunk| chunk["choices"][0].is_object()).map(choice).collect()
}

#[test]
fn a_message_becomes_a_completion() {
    let body = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn",
        "stop_sequence": null,
        "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "text", "text": "Hi"},
                    {"type": "text", "text": " there.", "citations": []}],
        "usage": {"input_tokens": 10, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 60,
                  "output_tokens": 20, "service_tier": "standard"},
    });
    assert_eq!(
        whole(&body),
        json!({
            "id": "chatcmpl-msg_1", "object": "chat.completion", "created": NOW, "model": "claude",
            "service_tier": "default",
            "choices": [{"index": 0, "finish_reason": "stop", "logprobs": null, "message": {
                "role": "assistant", "content": "Hi there.", "refusal": null, "reasoning_content": "Hm.",
            }}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
                      "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
                      "completion_tokens_details": {"reasoning_tokens": 0}},
        })
    );
}

#[test]
fn calls_become_tool_calls() {
    let body = json!({"id": "msg_1", "model": "claude", "stop_reason": "tool_use", "content": [
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
    ]});
    let call = |id: &str, name: &str, arguments: &str| {
        let function = json!({"name": name, "arguments": arguments});
        json!({"id": id, "type": "function", "function": function})
    };
    let made = whole(&body);
    assert_eq!(
        made["choices"][0],
        json!({"index": 0, "finish_reason": "tool_calls", "logprobs": null, "message": {
            "role": "assistant", "content": null, "refusal": null,
            "tool_calls": [call("toolu_1", "f", "{\"a\":1}"), call("toolu_2", "g", "{}")],
        }})
    );
    assert_eq!(made.get("usage"), None);
}

#[test]
fn reasons_to_stop_are_converted() {
    for (reason, expected) in [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
    ] {
        let body = json!({"content": [{"type": "text", "text": "a"}], "stop_reason": reason});
        assert_eq!(whole(&body)["choices"][0]["finish_reason"], expected);
        let [delta, stop] = end(reason);
        assert_eq!(choices(&streamed(&json!({}), &[start(), delta, stop])).last().unwrap().1, expected);
    }
}

#[test]
fn a_refusal_keeps_its_explanation() {
    let details = json!({"type": "refusal", "category": "cyber", "explanation": "No."});
    let body = json!({"content": [], "stop_reason": "refusal", "stop_details": details});
    assert_eq!(whole(&body)["choices"][0]["message"], json!({"role": "assistant", "content": null, "refusal": "No."}));
    let delta = json!({"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": details}});
    let made = choices(&streamed(&json!({}), &[start(), delta, json!({"type": "message_stop"})]));
    assert_eq!(made[1].0, json!({"refusal": "No."}));
}

/// A stream with all kinds of blocks.
fn all_blocks() -> Vec<Value> {
    let [delta, stop] = end("tool_use");
    vec![
        start(),
        block(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        json!({"type": "ping"}),
        piece(0, json!({"type": "thinking_delta", "thinking": "Hm."})),
        piece(0, json!({"type": "signature_delta", "signature": "s"})),
        close(0),
        block(1, json!({"type": "redacted_thinking", "data": "d"})),
        close(1),
        block(2, json!({"type": "text", "text": ""})),
        piece(2, json!({"type": "text_delta", "text": "Hi"})),
        piece(2, json!({"type": "citations_delta", "citation": {}})),
        close(2),
        block(3, json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})),
        piece(3, json!({"type": "input_json_delta", "partial_json": "{}"})),
        close(3),
        block(4, json!({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}})),
        piece(4, json!({"type": "input_json_delta", "partial_json": ""})),
        piece(4, json!({"type": "input_json_delta", "partial_json": "{\"a\":"})),
        piece(4, json!({"type": "input_json_delta", "partial_json": "1}"})),
        close(4),
        block(5, json!({"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}})),
        close(5),
        delta,
        stop,
    ]
}

#[test]
fn a_stream_becomes_chunks() {
    let request = json!({"stream": true, "stream_options": {"include_usage": true}});
    let made = streamed(&request, &all_blocks());
    let arguments = |index: u64, text: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]});
    let call = |index: u64, id: &str, name: &str| {
        let function = json!({"name": name, "arguments": ""});
        json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]})
    };
    let expected = [
        json!({"role": "assistant", "content": ""}),
        json!({"reasoning_content": "Hm."}),
        json!({"content": "Hi"}),
        call(0, "toolu_1", "f"),
        arguments(0, "{\"a\":"),
        arguments(0, "1}"),
        call(1, "toolu_2", "g"),
        arguments(1, "{}"),
    ];
    let mut expected: Vec<(Value, Value)> = expected.map(|delta| (delta, Value::Null)).into();
    expected.push((json!({}), json!("tool_calls")));
    assert_eq!(choices(&made), expected);
    assert_eq!(
        made[0],
        json!({"id": "chatcmpl-msg_1", "object": "chat.completion.chunk", "created": NOW, "model": "claude",
        "service_tier": "default", "usage": null, "choices": [
            {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null},
        ]})
    );
    let last = &made[made.len() - 2];
    assert_eq!(last["choices"], json!([]));
    assert_eq!(
        last["usage"],
        json!({"prompt_tokens": 30, "completion_tokens": 15, "total_tokens": 45,
               "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0},
               "completion_tokens_details": {"reasoning_tokens": 0}})
    );
    assert_eq!(made.last().unwrap(), "[DONE]");
}

#[test]
fn usage_comes_only_if_the_client_asked_for_it() {
    let [delta, stop] = end("end_turn");
    let made = streamed(&json!({"stream": true}), &[start(), delta, stop]);
    assert_eq!(made.len(), 3);
    assert!(made.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[test]
fn a_stream_that_is_cut_is_not_completed() {
    let text = piece(0, json!({"type": "text_delta", "text": "Hi"}));
    let made = streamed(&json!({}), &[start(), block(0, json!({"type": "text", "text": ""})), text]);
    assert_eq!(choices(&made).last().unwrap(), &(json!({"content": "Hi"}), Value::Null));
    // Only its last event is missing: nothing of it is.
    let [delta, _] = end("end_turn");
    assert_eq!(streamed(&json!({}), &[start(), delta]).last().unwrap(), "[DONE]");
}
