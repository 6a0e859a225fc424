//! Responses of both kinds of providers for clients of the Responses API.

use super::*;

/// The members of a response beside those that say what came of it.
fn shown() -> Value {
    json!({
        "object": "response", "error": null, "incomplete_details": null, "background": false, "instructions": null,
        "max_output_tokens": null, "metadata": {}, "parallel_tool_calls": true, "previous_response_id": null,
        "prompt_cache_key": null, "prompt_cache_retention": null, "reasoning": {"effort": null, "summary": null},
        "safety_identifier": null, "service_tier": "default", "store": false, "temperature": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": 1.0,
        "truncation": "disabled", "user": null,
    })
}

fn with(members: Value) -> Value {
    let mut response = shown();
    response.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    response
}

fn message(id: &str, status: &str, text: Option<&str>) -> Value {
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    let content: Vec<Value> = text.map(part).into_iter().collect();
    json!({"type": "message", "id": id, "status": status, "role": "assistant", "content": content})
}

fn call(id: &str, status: &str, arguments: &str) -> Value {
    json!({"type": "function_call", "id": id, "status": status, "call_id": "call_1", "name": "f",
           "arguments": arguments})
}

fn usage() -> Value {
    json!({"input_tokens": 7, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}, "output_tokens": 5,
           "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 12})
}

#[test]
fn a_completion_becomes_a_response() {
    let calls = json!([{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]);
    let body = json!({
        "id": "chatcmpl-1", "created": 1_769_000_000, "model": "gpt", "service_tier": "default",
        "choices": [{"finish_reason": "tool_calls",
                     "message": {"content": "Hi.", "reasoning": "Hm.", "tool_calls": calls}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5},
    });
    let request = json!({
        "instructions": "Be kind.", "metadata": {"a": "b"}, "temperature": 0.5, "tools": [{"type": "x"}],
        "text": {"verbosity": "low"}, "reasoning": {"effort": "low"}, "stream": false,
    });
    assert_eq!(
        converted(Endpoint::Responses, Endpoint::Chat, &request, &body),
        with(json!({
            "id": "resp_chatcmpl-1", "created_at": 1_769_000_000, "model": "gpt", "status": "completed",
            "usage": usage(), "instructions": "Be kind.", "metadata": {"a": "b"}, "temperature": 0.5,
            "tools": [{"type": "x"}], "text": {"verbosity": "low", "format": {"type": "text"}},
            "reasoning": {"effort": "low"},
            "output": [
                {"type": "reasoning", "id": "rs_chatcmpl-1_0", "summary": [{"type": "summary_text", "text": "Hm."}]},
                message("msg_chatcmpl-1_1", "completed", Some("Hi.")),
                call("fc_chatcmpl-1_2", "completed", "{\"a\":1}"),
            ],
        }))
    );
}

#[test]
fn a_message_becomes_a_response_with_sealed_thinking() {
    let body = json!({"id": "msg_1", "model": "claude", "stop_reason": "end_turn", "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "redacted_thinking", "data": "data"},
        {"type": "text", "text": "Hi."},
    ]});
    let output = |request: Value| converted(Endpoint::Responses, Endpoint::Messages, &request, &body)["output"].clone();
    let summary = json!([{"type": "summary_text", "text": "Hm."}]);
    assert_eq!(
        output(json!({"include": ["reasoning.encrypted_content"]})),
        json!([
            {"type": "reasoning", "id": "rs_msg_1_0", "summary": summary,
             "encrypted_content": "anthropic.thinking.sig"},
            {"type": "reasoning", "id": "rs_msg_1_1", "summary": [], "encrypted_content": "anthropic.redacted.data"},
            message("msg_msg_1_2", "completed", Some("Hi.")),
        ])
    );
    assert_eq!(output(json!({}))[0], json!({"type": "reasoning", "id": "rs_msg_1_0", "summary": summary}));
}

#[test]
fn responses_that_are_cut_off_are_incomplete() {
    for (reason, status, details) in [
        ("end_turn", "completed", json!(null)),
        ("max_tokens", "incomplete", json!({"reason": "max_output_tokens"})),
        ("refusal", "incomplete", json!({"reason": "content_filter"})),
    ] {
        let body = json!({"id": "1", "model": "m", "stop_reason": reason, "content": [{"type": "text", "text": "a"}]});
        let made = converted(Endpoint::Responses, Endpoint::Messages, &json!({}), &body);
        assert_eq!((&made["status"], &made["incomplete_details"]), (&json!(status), &details));
        assert_eq!(made["output"][0]["status"], status);
    }
    // The model itself refused: the response is complete.
    let body = json!({"choices": [{"finish_reason": "stop", "message": {"content": null, "refusal": "No."}}]});
    let made = converted(Endpoint::Responses, Endpoint::Chat, &json!({}), &body);
    assert_eq!(made["status"], "completed");
    assert_eq!(made["output"][0]["content"], json!([{"type": "refusal", "refusal": "No."}]));
}

/// Numbers the events of a stream.
fn numbered(events: &[Value]) -> Vec<Value> {
    let number = |(at, event): (usize, &Value)| {
        let mut event = event.clone();
        event["sequence_number"] = at.into();
        event
    };
    events.iter().enumerate().map(number).collect()
}

#[test]
fn chunks_become_the_events_of_a_response() {
    let arguments = |id: Option<&str>, text: &str| {
        delta(json!({"tool_calls": [{"index": 0, "id": id, "function": {"name": "f", "arguments": text}}]}))
    };
    let provider = chunks(
        &[
            delta(json!({"role": "assistant", "content": "Hi"})),
            delta(json!({"content": "."})),
            arguments(Some("call_1"), "{\"a\":"),
            arguments(None, "1}"),
            finish("tool_calls"),
        ],
        Some(json!({"prompt_tokens": 7, "completion_tokens": 5})),
    );
    let response = |status: &str, output: Value, usage: Value| {
        with(json!({"id": "resp_1", "created_at": 1_769_000_000, "model": "gpt", "status": status, "output": output,
                    "usage": usage}))
    };
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    let of_message = |mut event: Value| {
        event.as_object_mut().unwrap().extend([
            ("item_id".into(), json!("msg_1_0")),
            ("output_index".into(), json!(0)),
            ("content_index".into(), json!(0)),
        ]);
        event
    };
    let of_call = |kind: &str, mut event: Value| {
        event["type"] = format!("response.function_call_arguments.{kind}").into();
        event["item_id"] = json!("fc_1_1");
        event["output_index"] = json!(1);
        event
    };
    let item = |kind: &str, index: u64, item: Value| {
        let kind = format!("response.output_item.{kind}");
        json!({"type": kind, "output_index": index, "item": item})
    };
    let done = json!([message("msg_1_0", "completed", Some("Hi.")), call("fc_1_1", "completed", "{\"a\":1}")]);
    let expected = numbered(&[
        json!({"type": "response.created", "response": response("in_progress", json!([]), json!(null))}),
        json!({"type": "response.in_progress", "response": response("in_progress", json!([]), json!(null))}),
        item("added", 0, message("msg_1_0", "in_progress", None)),
        of_message(json!({"type": "response.content_part.added", "part": part("")})),
        of_message(json!({"type": "response.output_text.delta", "delta": "Hi", "logprobs": []})),
        of_message(json!({"type": "response.output_text.delta", "delta": ".", "logprobs": []})),
        of_message(json!({"type": "response.output_text.done", "text": "Hi.", "logprobs": []})),
        of_message(json!({"type": "response.content_part.done", "part": part("Hi.")})),
        item("done", 0, done[0].clone()),
        item("added", 1, call("fc_1_1", "in_progress", "")),
        of_call("delta", json!({"delta": "{\"a\":"})),
        of_call("delta", json!({"delta": "1}"})),
        of_call("done", json!({"arguments": "{\"a\":1}", "name": "f"})),
        item("done", 1, done[1].clone()),
        json!({"type": "response.completed", "response": response("completed", done, usage())}),
    ]);
    assert_eq!(read(&stream(Endpoint::Responses, Endpoint::Chat, &json!({}), &provider)), expected);
}

#[test]
fn thinking_becomes_the_events_of_a_summary() {
    let provider = events(&[
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 7}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "thinking", "thinking": ""}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "Hi"}}),
        json!({"type": "content_block_stop", "index": 2}),
        json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 5}}),
        json!({"type": "message_stop"}),
    ]);
    let request = json!({"include": ["reasoning.encrypted_content"], "reasoning": {"summary": "auto"}});
    let made = read(&stream(Endpoint::Responses, Endpoint::Messages, &request, &provider));
    let kinds: Vec<&str> = made.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.reasoning_summary_part.added",
            "response.reasoning_summary_text.delta",
            "response.reasoning_summary_text.done",
            "response.reasoning_summary_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.incomplete",
        ]
    );
    assert_eq!(
        made[4],
        json!({"type": "response.reasoning_summary_text.delta", "item_id": "rs_msg_1_0", "output_index": 0,
               "summary_index": 0, "delta": "Hm.", "sequence_number": 4})
    );
    let item = json!({"type": "reasoning", "id": "rs_msg_1_0", "encrypted_content": "anthropic.thinking.sig",
                      "summary": [{"type": "summary_text", "text": "Hm."}]});
    assert_eq!(made[7]["item"], item);
    let last = &made[16]["response"];
    assert_eq!(last["output"][2], message("msg_msg_1_2", "incomplete", Some("Hi")));
    assert_eq!(last["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!((&last["created_at"], &last["usage"]), (&json!(NOW), &usage()));
}

#[test]
fn a_refusal_has_events_of_its_own() {
    let provider = chunks(&[delta(json!({"refusal": "No"})), delta(json!({"refusal": "."})), finish("stop")], None);
    let made = read(&stream(Endpoint::Responses, Endpoint::Chat, &json!({}), &provider));
    assert_eq!(made[3]["part"], json!({"type": "refusal", "refusal": ""}));
    assert_eq!(made[4]["type"], "response.refusal.delta");
    assert_eq!((&made[6]["type"], &made[6]["refusal"]), (&json!("response.refusal.done"), &json!("No.")));
    assert_eq!(
        made.last().unwrap()["response"]["output"][0]["content"],
        json!([{"type": "refusal", "refusal": "No."}])
    );
}

#[test]
fn ids_of_items_are_no_longer_than_openai_takes() {
    let body = json!({"id": "x".repeat(200), "choices": [{"finish_reason": "stop", "message": {"content": "a"}}]});
    let made = converted(Endpoint::Responses, Endpoint::Chat, &json!({}), &body);
    assert!(made["output"][0]["id"].as_str().unwrap().len() <= 64);
}
