//! Any chunks of a completion reassemble to it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A text with its cuts into pieces of any size.
fn cut(text: &str, cuts: &[usize]) -> Vec<String> {
    let (mut pieces, mut rest): (Vec<String>, Vec<char>) = (Vec::new(), text.chars().collect());
    for cut in cuts {
        let left = rest.split_off((*cut).min(rest.len()));
        pieces.push(rest.into_iter().collect());
        rest = left;
    }
    pieces.push(rest.into_iter().collect());
    pieces
}

prop_compose! {
    fn a_call()(id in "call_[a-z]{4}", name in "[a-z]{1,8}", arguments in "\\PC{0,20}") -> Value {
        json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
    }
}

prop_compose! {
    fn a_choice()(
        content in prop::option::of("\\PC{0,30}"),
        refusal in prop::option::of("\\PC{1,10}"),
        reasoning in prop::option::of("\\PC{1,20}"),
        calls in prop::collection::vec(a_call(), 0..4),
        finish in "stop|length|tool_calls|content_filter",
        tokens in prop::option::of(prop::collection::vec("\\PC{1,4}", 1..6)),
    ) -> Value {
        let mut message = json!({"role": "assistant", "content": content});
        for (name, text) in [("refusal", refusal), ("reasoning_content", reasoning)] {
            if let Some(text) = text {
                message[name] = text.into();
            }
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        let mut choice = json!({"message": message, "finish_reason": finish});
        if let Some(tokens) = tokens {
            choice["logprobs"] = json!({"content": tokens.iter().map(|token| json!({"token": token, "logprob": -0.25})).collect::<Vec<_>>()});
        }
        choice
    }
}

/// Chunks by which a server could send a choice.
fn chunks_of(index: usize, choice: &Value, cuts: &[usize]) -> Vec<Value> {
    let chunk = |delta: Value| json!({"choices": [{"index": index, "delta": delta, "finish_reason": null}]});
    let message = &choice["message"];
    let mut chunks = vec![chunk(json!({"role": "assistant", "content": message["content"].as_str().map(|_| "")}))];
    for name in ["reasoning_content", "content", "refusal"] {
        let Some(text) = message[name].as_str() else { continue };
        chunks.extend(cut(text, cuts).into_iter().map(|piece| chunk(json!({name: piece}))));
    }
    for (at, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
        let mut first = call.clone();
        first["index"] = at.into();
        first["function"]["arguments"] = "".into();
        chunks.push(chunk(json!({"tool_calls": [first]})));
        for piece in cut(call["function"]["arguments"].as_str().unwrap(), cuts) {
            chunks.push(chunk(json!({"tool_calls": [{"index": at, "function": {"arguments": piece}}]})));
        }
    }
    for token in choice["logprobs"]["content"].as_array().into_iter().flatten() {
        let logprobs = json!({"content": [token]});
        chunks.push(json!({"choices": [{"index": index, "delta": {}, "logprobs": logprobs, "finish_reason": null}]}));
    }
    chunks.push(json!({"choices": [{"index": index, "delta": {}, "finish_reason": choice["finish_reason"]}]}));
    chunks
}

proptest! {
    #[test]
    fn any_chunks_of_a_completion_give_it_back(
        choices in prop::collection::vec(a_choice(), 1..4),
        cuts in prop::collection::vec(0usize..6, 0..6),
        turns in prop::collection::vec(0usize..4, 0..60),
    ) {
        let mut waiting: Vec<std::collections::VecDeque<Value>> =
            choices.iter().enumerate().map(|(index, choice)| chunks_of(index, choice, &cuts).into()).collect();
        let mut completion = Completion::default();
        let mut turns = turns.into_iter().chain(0..).map(|turn| turn % choices.len());
        while waiting.iter().any(|chunks| !chunks.is_empty()) {
            let turn = turns.next().unwrap_or(0);
            if let Some(mut chunk) = waiting[turn].pop_front() {
                chunk["id"] = "c1".into();
                completion.push(&chunk.to_string()).unwrap();
            }
        }
        completion.push(r#"{"id":"c1","choices":[],"usage":{"total_tokens":9}}"#).unwrap();
        prop_assert!(completion.is_whole());
        let mut expected = choices;
        for (index, choice) in expected.iter_mut().enumerate() {
            choice["index"] = index.into();
        }
        let whole: Value = serde_json::from_str(&completion.text()).unwrap();
        let head = json!({"id": "c1", "object": "chat.completion", "usage": {"total_tokens": 9}, "choices": expected});
        prop_assert_eq!(whole, head);
    }

    #[test]
    fn any_text_may_come_as_a_chunk(text in "\\PC{0,40}", nested in "[\\[\\]{}\":a1,]{0,40}") {
        let mut completion = Completion::default();
        let _ = completion.push(&text);
        let _ = completion.push(&nested);
        let _ = completion.push(&format!(r#"{{"choices":[{nested}]}}"#));
        let _ = completion.push(&format!(r#"{{"choices":[{{"delta":{nested}}}]}}"#));
        let _ = completion.push(&format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{nested}],"content":[{nested}]}}}}]}}"#));
        let _ = serde_json::from_str::<Value>(&completion.text()).unwrap();
    }
}
