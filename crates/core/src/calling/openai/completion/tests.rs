use serde_json::{Value, json};

use super::*;

fn put_together(chunks: &[Value]) -> Value {
    let mut completion = Completion::default();
    for chunk in chunks {
        assert_eq!(completion.push(&chunk.to_string()), Ok(ChunkKind::Chunk), "{chunk}");
    }
    assert!(completion.is_whole());
    serde_json::from_str(&completion.text()).unwrap()
}

/// The message that results from the deltas of one choice.
fn message(deltas: &[Value]) -> Value {
    let mut chunks: Vec<Value> =
        deltas.iter().map(|delta| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})).collect();
    chunks.push(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}));
    put_together(&chunks)["choices"][0]["message"].clone()
}

#[test]
fn a_text_in_pieces_is_the_text() {
    let head = json!({"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "usage": null});
    let chunk = |choices: Value| {
        let mut chunk = head.clone();
        chunk["choices"] = choices;
        chunk
    };
    let whole = put_together(&[
        chunk(json!([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}])),
        chunk(json!([{"index": 0, "delta": {"role": "assistant", "content": "Hel"}}])),
        chunk(json!([{"index": 0, "delta": {"content": "lo"}, "finish_reason": null}])),
        chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}])),
        json!({"id": "c1", "choices": [], "usage": {"total_tokens": 9}}),
    ]);
    assert_eq!(
        whole,
        json!({
            "id": "c1", "object": "chat.completion", "created": 7, "model": "m", "usage": {"total_tokens": 9},
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        })
    );
}

#[test]
fn calls_of_tools_are_joined_by_their_index() {
    let delta = |calls: Value| json!({"tool_calls": calls});
    let message = message(&[
        delta(json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "add", "arguments": ""}}])),
        delta(json!([{"index": 0, "function": {"arguments": "{\"x\""}}])),
        delta(json!([{"index": 1, "id": "b", "type": "function", "function": {"name": "sub", "arguments": "{}"}}])),
        delta(json!([{"index": 0, "function": {"arguments": ":1}"}}])),
    ]);
    assert_eq!(
        message,
        json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "add", "arguments": "{\"x\":1}"}},
            {"id": "b", "type": "function", "function": {"name": "sub", "arguments": "{}"}},
        ]})
    );
}

/// Tool calls as servers send them, with the result: id, name and arguments of each.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of streams")]
fn tool_calls_are_distinguished_however_servers_number_them() {
    let call = |index: Value, id: &str, name: &str, arguments: &str| {
        let mut call = json!({"id": id, "function": {"name": name, "arguments": arguments}});
        if !index.is_null() {
            call["index"] = index;
        }
        call
    };
    let none = || Value::Null;
    for (what, pieces, expected) in [
        (
            "id and name empty after the first",
            vec![call(json!(0), "a", "f", "{"), call(json!(0), "", "", "1"), call(json!(0), "", "", "}")],
            json!([["a", "f", "{1}"]]),
        ),
        (
            "id and name in each",
            vec![call(json!(0), "a", "f", "{"), call(json!(0), "a", "f", "1"), call(json!(0), "a", "f", "}")],
            json!([["a", "f", "{1}"]]),
        ),
        (
            "one index, ids of their own",
            vec![call(json!(0), "a", "f", "1"), call(json!(0), "b", "f", "2"), call(json!(0), "", "", "3")],
            json!([["a", "f", "1"], ["b", "f", "23"]]),
        ),
        (
            "one index, by turns",
            vec![call(json!(0), "a", "f", "1"), call(json!(0), "b", "g", "2"), call(json!(0), "a", "", "3")],
            json!([["a", "f", "13"], ["b", "g", "2"]]),
        ),
        (
            "one index, no ids, other names",
            vec![call(json!(0), "", "f", "1"), call(json!(0), "", "g", "2"), call(json!(0), "", "", "3")],
            json!([["", "f", "1"], ["", "g", "23"]]),
        ),
        (
            "no index, ids",
            vec![call(none(), "a", "f", "1"), call(none(), "b", "f", "2"), call(none(), "a", "f", "3")],
            json!([["a", "f", "13"], ["b", "f", "2"]]),
        ),
        ("neither", vec![call(none(), "", "f", "1"), call(none(), "", "", "2")], json!([["", "f", "12"]])),
        (
            "one id for all",
            vec![call(json!(0), "a", "f", "1"), call(json!(1), "a", "f", "2"), call(json!(1), "", "", "3")],
            json!([["a", "f", "1"], ["a", "f", "23"]]),
        ),
        (
            "the second first",
            vec![call(json!(1), "b", "g", "2"), call(json!(0), "a", "f", "1")],
            json!([["a", "f", "1"], ["b", "g", "2"]]),
        ),
        (
            "an invalid index",
            vec![call(json!("x"), "a", "f", "1"), call(json!(-1), "", "", "2")],
            json!([["a", "f", "12"]]),
        ),
    ] {
        let deltas: Vec<Value> = pieces.into_iter().map(|piece| json!({"tool_calls": [piece]})).collect();
        let message = message(&deltas);
        let calls = message["tool_calls"].as_array().unwrap().iter();
        let seen: Vec<Value> = calls
            .map(|call| {
                assert_eq!((&call["type"], call.get("index")), (&json!("function"), None));
                json!([call["id"], call["function"]["name"], call["function"]["arguments"]])
            })
            .collect();
        assert_eq!(json!(seen), expected, "{what}");
    }
}

/// Deltas as servers send them, with the resulting message.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of messages")]
fn a_message_continues_its_texts_and_nothing_else() {
    for (what, deltas, expected) in [
        ("nothing", json!([{}]), json!({"content": null})),
        ("content null", json!([{"role": "assistant", "content": null}]), json!({"content": null})),
        ("refusal", json!([{"refusal": "I "}, {"refusal": "can't"}]), json!({"content": null, "refusal": "I can't"})),
        (
            "reasoning, then content",
            json!([{"reasoning_content": "Hm"}, {"reasoning_content": "!", "content": null}, {"content": "a"}]),
            json!({"content": "a", "reasoning_content": "Hm!"}),
        ),
        (
            "content null or empty in between",
            json!([{"content": "a"}, {"content": null}, {"content": ""}, {"content": "b"}]),
            json!({"content": "ab"}),
        ),
        (
            "thinking in parts, then text",
            json!([
                {"content": ""}, {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]},
                {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": ", so"}]}]},
                {"content": "Hel"}, {"content": "lo"}
            ]),
            json!({"content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Hm, so"}]}, {"type": "text", "text": "Hello"}
            ]}),
        ),
        (
            "text, then parts",
            json!([{"content": "a"}, {"content": [{"type": "text", "text": "b"}]}, {"content": [{"type": "image", "url": "x"}]},
                   {"content": [{"type": "image", "url": "y"}]}]),
            json!({"content": [{"type": "text", "text": "ab"}, {"type": "image", "url": "x"}, {"type": "image", "url": "y"}]}),
        ),
        (
            "two parts at once",
            json!([{"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]),
            json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
        ),
        (
            "reasoning by index and type",
            json!([
                {"reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0, "format": "x"}]},
                {"reasoning_details": [{"type": "reasoning.text", "text": "b", "index": 0, "format": "x", "signature": "s"}]},
                {"reasoning_details": [{"type": "reasoning.encrypted", "data": "c", "index": 0}]},
                {"reasoning_details": [{"type": "reasoning.text", "text": "d", "index": 1}]}
            ]),
            json!({"content": null, "reasoning_details": [
                {"type": "reasoning.text", "text": "ab", "index": 0, "format": "x", "signature": "s"},
                {"type": "reasoning.encrypted", "data": "c", "index": 0}, {"type": "reasoning.text", "text": "d", "index": 1}
            ]}),
        ),
        (
            "audio",
            json!([{"audio": {"id": "a1", "transcript": "Hel"}}, {"audio": {"id": "a1", "data": "QUJD", "transcript": "lo"}},
                   {"audio": {"id": "a1", "data": "REVG"}}, {"audio": {"id": "a1", "expires_at": 9}}]),
            json!({"content": null, "audio": {"id": "a1", "transcript": "Hello", "data": "QUJDREVG", "expires_at": 9}}),
        ),
        (
            "annotations, some again",
            json!([{"annotations": [{"url": "a"}]}, {"annotations": [{"url": "a"}, {"url": "b"}]}, {"annotations": []}]),
            json!({"content": null, "annotations": [{"url": "a"}, {"url": "b"}]}),
        ),
        (
            "a function in the old form",
            json!([{"function_call": {"name": "f", "arguments": "{"}}, {"function_call": {"name": "f", "arguments": "}"}}]),
            json!({"content": null, "function_call": {"name": "f", "arguments": "{}"}}),
        ),
        (
            "an unknown word in each",
            json!([{"content": "a", "language": "en"}, {"content": "b", "language": "en"}, {"language": ""}]),
            json!({"content": "ab", "language": "en"}),
        ),
        ("padding", json!([{"content": "a", "obfuscation": "xyz"}]), json!({"content": "a"})),
        ("no calls", json!([{"content": "a", "tool_calls": []}]), json!({"content": "a", "tool_calls": []})),
        ("no delta", json!([null]), json!({"content": null})),
    ] {
        let mut expected = expected;
        expected["role"] = json!("assistant");
        assert_eq!(message(deltas.as_array().unwrap()), expected, "{what}");
    }
}

#[test]
fn choices_and_their_logprobs_are_kept_apart() {
    let token = |text: &str| json!({"token": text, "logprob": -0.1, "bytes": null, "top_logprobs": []});
    let chunk = |index: u64, text: &str| {
        let logprobs = json!({"content": [token(text)], "refusal": null});
        json!({"choices": [{"index": index, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": null}]})
    };
    let end =
        |index: u64| json!({"choices": [{"index": index, "delta": {}, "logprobs": null, "finish_reason": "stop"}]});
    let whole = put_together(&[chunk(1, "c"), chunk(0, "a"), chunk(0, "b"), end(1), end(0)]);
    let choice = |index: u64, tokens: &[&str]| {
        let content: Vec<Value> = tokens.iter().map(|text| token(text)).collect();
        json!({
            "index": index, "finish_reason": "stop", "logprobs": {"content": content, "refusal": null},
            "message": {"role": "assistant", "content": tokens.concat()},
        })
    };
    assert_eq!(whole["choices"], json!([choice(0, &["a", "b"]), choice(1, &["c"])]));
    let none = put_together(&[end(0)]);
    assert_eq!(none["choices"][0]["logprobs"], Value::Null);
}

#[test]
fn complete_values_are_neither_continued_nor_replaced_by_empty_ones() {
    let whole = put_together(&[
        json!({"id": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}),
        json!({"id": "c1", "created": 7, "model": "m", "citations": ["a"], "usage": {"prompt_tokens": 3, "completion_tokens": 0},
               "x_groq": {"id": "r"}, "choices": [{"index": 0, "delta": {"content": "x"}, "content_filter_results": {"hate": {"filtered": false}}}]}),
        json!({"id": "c2", "created": 8, "model": "m", "citations": ["a", "b"], "usage": {"prompt_tokens": 0, "completion_tokens": 5},
               "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "native_finish_reason": "STOP"}], "obfuscation": "xyz"}),
        json!({"id": "", "choices": [], "usage": null, "citations": [], "x_groq": {"usage": {"queue_time": 0.5}}}),
    ]);
    let mut expected = json!({
        "id": "c1", "created": 7, "model": "m", "object": "chat.completion", "citations": ["a", "b"],
        "prompt_filter_results": [{"prompt_index": 0}], "usage": {"prompt_tokens": 3, "completion_tokens": 5},
        "x_groq": {"id": "r", "usage": {"queue_time": 0.5}},
    });
    expected["choices"] = json!([{
        "index": 0, "finish_reason": "stop", "native_finish_reason": "STOP",
        "content_filter_results": {"hate": {"filtered": false}}, "message": {"role": "assistant", "content": "x"},
    }]);
    assert_eq!(whole, expected);
}

#[test]
fn a_message_beside_the_deltas_adds_what_they_do_not_say() {
    let said = |message: Value, delta: Value| json!({"choices": [{"index": 0, "message": message, "delta": delta}]});
    let end = json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Grass is"}, "finish_reason": "stop"}]});
    let both = [
        said(json!({"content": "Grass"}), json!({"content": "Grass"})),
        said(json!({"content": "Grass is"}), json!({"content": " is"})),
        end.clone(),
    ];
    assert_eq!(put_together(&both)["choices"][0]["message"]["content"], "Grass is");
    assert_eq!(put_together(&[end])["choices"][0]["message"], json!({"role": "assistant", "content": "Grass is"}));
    let empty = [
        said(json!({"content": "Hi"}), json!({"content": ""})),
        json!({"choices": [{"index": 0, "finish_reason": "stop"}]}),
    ];
    assert_eq!(put_together(&empty)["choices"][0]["message"]["content"], "Hi");
}

#[test]
fn it_is_complete_when_each_choice_has_a_finish_reason() {
    for (reason, is_whole) in [
        (json!("stop"), true),
        (json!("length"), true),
        (json!(""), false),
        (json!(null), false),
        (json!("null"), false),
    ] {
        let mut completion = Completion::default();
        let chunk = json!({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": reason}]});
        completion.push(&chunk.to_string()).unwrap();
        assert_eq!(completion.is_whole(), is_whole, "{reason}");
        completion.push(r#"{"choices":[{"index":1,"delta":{"content":"b"}}]}"#).unwrap();
        assert!(!completion.is_whole());
    }
    assert!(!Completion::default().is_whole());
}

#[test]
fn errors_take_the_place_of_the_answer_and_signs_of_life_change_nothing() {
    let begun = || {
        let mut completion = Completion::default();
        completion.push(r#"{"choices":[{"index":0,"delta":{"content":"Hel"}}]}"#).unwrap();
        completion
    };
    for (chunk, taken) in [
        (r#"{"error":{"message":"overloaded"}}"#, Ok(ChunkKind::Fault)),
        (r#"{"error":"overloaded","choices":[]}"#, Ok(ChunkKind::Fault)),
        (r#"{"object":"error","message":"too long","code":400}"#, Ok(ChunkKind::Fault)),
        (r#"{"choices":[{"index":0,"delta":{},"finish_reason":"error","error":{"code":502}}]}"#, Ok(ChunkKind::Fault)),
        (r#"{"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}"#, Ok(ChunkKind::Fault)),
        (r#"{"error":"","choices":[{"index":0,"delta":{"content":"lo"}}]}"#, Ok(ChunkKind::Chunk)),
        (r#"{"error":null,"choices":[]}"#, Ok(ChunkKind::Chunk)),
        (r#"{"type":"ping"}"#, Ok(ChunkKind::KeepAlive)),
        ("{}", Ok(ChunkKind::KeepAlive)),
        ("[1]", Err(ChunkError::Invalid)),
        ("busy", Err(ChunkError::Invalid)),
        (r#"{"choices":[7]}"#, Err(ChunkError::Invalid)),
    ] {
        let mut completion = begun();
        assert_eq!(completion.push(chunk), taken, "{chunk}");
        assert_eq!(completion.fault().is_some(), taken == Ok(ChunkKind::Fault), "{chunk}");
    }
}

#[test]
fn half_characters_become_whole_across_chunks() {
    let mut completion = Completion::default();
    for half in [r"\ud83d", r"\ude00 cut \ud83d"] {
        completion.push(&format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{half}"}}}}]}}"#)).unwrap();
    }
    completion.push(r#"{"choices":[{"index":0,"finish_reason":"length"}]}"#).unwrap();
    let whole: Value = serde_json::from_str(&completion.text()).unwrap();
    assert_eq!(whole["choices"][0]["message"]["content"], "😀 cut \u{fffd}");
}

#[test]
fn held_data_is_bounded_and_forwarded_data_is_not() {
    let padded =
        json!({"choices": [{"index": 0, "delta": {"content": "a"}}], "obfuscation": "x".repeat(10_000)}).to_string();
    let mut completion = Completion::default();
    let chunks = MAX_ANSWER_BYTES / 5_000;
    for _ in 0..chunks {
        completion.push(&padded).unwrap();
    }
    completion.push(r#"{"choices":[{"index":0,"finish_reason":"stop"}]}"#).unwrap();
    let whole: Value = serde_json::from_str(&completion.text()).unwrap();
    assert_eq!(whole["choices"][0]["message"]["content"], "a".repeat(chunks));

    let large = json!({"choices": [{"index": 0, "delta": {"content": "\u{1}".repeat(10_000)}}]}).to_string();
    let mut completion = Completion::default();
    let taken = (0..).map(|_| completion.push(&large)).take_while(Result::is_ok).count();
    // Each of its characters takes six bytes of JSON.
    assert!((MAX_ANSWER_BYTES / 60_000 - 1..=MAX_ANSWER_BYTES / 60_000).contains(&taken), "{taken}");
}

/// Responses designed to take more memory than their length.
#[test]
fn the_memory_of_a_response_is_bounded() {
    let piece = |of: fn(usize) -> Value| {
        let mut completion = Completion::default();
        let ended = (0..2_000_000).find(|n| completion.push(&of(*n).to_string()).is_err());
        assert!(ended.is_some() && completion.held.cost <= MAX_COST + 1_000_000);
    };
    piece(|n| json!({"choices": [{"index": n, "delta": {}}]}));
    piece(|n| json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": n}]}}]}));
    piece(|n| json!({"choices": [{"index": 0, "delta": {n.to_string(): 1}}]}));
    piece(|_| json!({"choices": [{"index": 0, "delta": {"parts": [{}, {}, {}]}}]}));
    let many: Vec<Value> = (0..200_000).map(|n| json!({"index": n})).collect();
    let mut completion = Completion::default();
    assert_eq!(completion.push(&json!({"choices": many}).to_string()), Err(ChunkError::TooLarge));
}

#[test]
fn any_depth_is_kept_as_it_came() {
    let deep = format!(
        r#"{{"choices":[{{"index":9007199254740993,"delta":{{"a":{}{}}}}}]}}"#,
        "[".repeat(100),
        "]".repeat(100)
    );
    let mut completion = Completion::default();
    completion.push(&deep).unwrap();
    completion.push(&deep).unwrap();
    assert!(completion.text().contains(r#""index":9007199254740993"#));
}
