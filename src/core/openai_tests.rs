use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::schema::Schema;
use super::*;

fn put_together(chunks: &[Value]) -> Value {
    let mut chat = Chat::default();
    for chunk in chunks {
        chat.push(&chunk.to_string()).unwrap();
    }
    assert!(chat.is_whole());
    serde_json::from_str(&chat.text()).unwrap()
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
    let delta = |calls: Value| json!({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]});
    let whole = put_together(&[
        delta(json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "add", "arguments": ""}}])),
        delta(json!([{"index": 0, "function": {"arguments": "{\"x\""}}])),
        delta(json!([{"index": 1, "id": "b", "type": "function", "function": {"name": "sub", "arguments": "{}"}}])),
        delta(json!([{"index": 0, "function": {"arguments": ":1}"}}])),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
    ]);
    let calls = &whole["choices"][0]["message"]["tool_calls"];
    assert_eq!(calls[0]["function"], json!({"name": "add", "arguments": "{\"x\":1}"}));
    assert_eq!(calls[0]["id"], "a");
    assert_eq!(calls[1]["function"]["name"], "sub");
}

#[test]
fn an_error_in_the_stream_is_the_answer() {
    let mut chat = Chat::default();
    chat.push(r#"{"choices":[{"index":0,"delta":{"content":"Hel"}}]}"#).unwrap();
    assert!(!chat.is_whole());
    chat.push(r#"{"error":{"message":"overloaded"}}"#).unwrap();
    assert!(chat.is_whole());
    assert_eq!(chat.text(), r#"{"error":{"message":"overloaded"}}"#);
    assert_eq!(Chat::default().push("[1]"), Err(NoChunk));
}

#[test]
fn the_gateway_says_whether_it_streams() {
    let asked =
        r#"{"messages":[{"role":"user","content":"é"}],"stream":true,"stream_options":{"x":1},"temperature":0.10}"#;
    assert_eq!(
        body("chat", asked, Some("small"), false).unwrap(),
        r#"{"messages":[{"role":"user","content":"é"}],"model":"small","temperature":0.10}"#
    );
    let streamed = body("chat", r#"{"messages":[],"model":"large"}"#, Some("small"), true).unwrap();
    assert_eq!(streamed, r#"{"messages":[],"model":"large","stream":true,"stream_options":{"include_usage":true}}"#);
    assert_eq!(body("embed", r#"{"input":"a"}"#, None, true).unwrap(), r#"{"input":"a"}"#);
    assert_eq!(body("chat", "[]", None, true), None);
}

#[test]
fn what_it_offers_can_be_compiled_and_called() {
    for capability in capabilities() {
        assert!(path(&capability.name).is_some());
        for schema in [&capability.input_schema, &capability.output_schema].into_iter().flatten() {
            Schema::compile(schema.get()).unwrap();
        }
    }
    assert_eq!(url("https://llm.example.com/v1/", "models"), "https://llm.example.com/v1/models");
    assert_eq!(path("other"), None);
}

proptest! {
    #[test]
    fn any_pieces_of_a_text_give_the_text(pieces in prop::collection::vec("\\PC{0,6}", 0..10)) {
        let mut chat = Chat::default();
        for piece in &pieces {
            let chunk = json!({"choices": [{"index": 0, "delta": {"content": piece}}]});
            chat.push(&chunk.to_string()).unwrap();
        }
        chat.push(r#"{"choices":[{"index":0,"finish_reason":"stop"}]}"#).unwrap();
        let whole: Value = serde_json::from_str(&chat.text()).unwrap();
        let content = whole["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_string();
        prop_assert_eq!(content, pieces.concat());
    }

    #[test]
    fn any_text_may_come_as_a_chunk(text in "\\PC{0,40}", nested in "[\\[\\]{}\":a1,]{0,40}") {
        let mut chat = Chat::default();
        let _ = chat.push(&text);
        let _ = chat.push(&nested);
        let _ = chat.push(&format!(r#"{{"choices":[{nested}]}}"#));
        let _ = serde_json::from_str::<Value>(&chat.text()).unwrap();
    }
}
