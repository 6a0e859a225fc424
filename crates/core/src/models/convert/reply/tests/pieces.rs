//! Whole responses, and streams cut anywhere, say the same.

use proptest::prelude::*;

use super::*;

const PAIRS: [(Endpoint, Endpoint); 4] = [
    (Endpoint::Chat, Endpoint::Messages),
    (Endpoint::Messages, Endpoint::Chat),
    (Endpoint::Responses, Endpoint::Chat),
    (Endpoint::Responses, Endpoint::Messages),
];

/// Cuts a text into pieces of these lengths, again and again.
fn cut(mut text: &str, lengths: &[usize]) -> Vec<String> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if text.is_empty() {
            break;
        }
        let (piece, rest) = text.split_at((*length).min(text.len()));
        pieces.push(piece.to_owned());
        text = rest;
    }
    pieces
}

/// A response of Chat Completions with reasoning, text and a call, whole and streamed.
fn chat_response(reasoning: &str, text: &str, arguments: &str, lengths: &[usize]) -> (Value, Events) {
    let call = |id: &str, name: &str, arguments: &str| {
        let function = json!({"name": name, "arguments": arguments});
        json!({"index": 0, "id": id, "function": function})
    };
    let mut choices: Vec<Value> = Vec::new();
    let of = |name: &str, text: &str| cut(text, lengths).into_iter().map(|piece| json!({name: piece})).collect();
    for deltas in [of("reasoning_content", reasoning), of("content", text)] {
        let deltas: Vec<Value> = deltas;
        choices.extend(deltas.into_iter().map(delta));
    }
    choices.push(delta(json!({"tool_calls": [call("c", "f", "")]})));
    choices.extend(cut(arguments, lengths).iter().map(|piece| delta(json!({"tool_calls": [call("", "", piece)]}))));
    choices.push(finish("tool_calls"));
    let message = json!({"content": text, "reasoning_content": reasoning, "tool_calls": [call("c", "f", arguments)]});
    let body = json!({"id": "1", "model": "gpt", "created": 1_769_000_000,
                      "choices": [{"message": message, "finish_reason": "tool_calls"}]});
    (body, chunks(&choices, None))
}

/// The content of a client's message that a stream gives.
fn assembled(events: &[Value]) -> Vec<Value> {
    let mut content: Vec<Value> = Vec::new();
    let mut text = String::new();
    for event in events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => content.push(event["content_block"].clone()),
            "content_block_delta" => {
                let delta = &event["delta"];
                let piece = ["text", "thinking", "partial_json"].iter().find_map(|name| delta[*name].as_str());
                text.push_str(piece.unwrap());
            }
            "content_block_stop" => {
                let (block, text) = (content.last_mut().unwrap(), std::mem::take(&mut text));
                match block["type"].as_str().unwrap().to_owned().as_str() {
                    "tool_use" => block["input"] = serde_json::from_str(&text).unwrap(),
                    kind => block[kind] = text.into(),
                }
            }
            _ => {}
        }
    }
    content
}

proptest! {
    #[test]
    fn a_stream_says_the_same_as_the_whole_response(
        text in "[a-z]{0,12}",
        reasoning in "[a-z]{0,12}",
        value in "[a-z]{0,12}",
        lengths in prop::collection::vec(1usize..4, 1..20),
    ) {
        let (body, events) = chat_response(&reasoning, &text, &json!({"a": value}).to_string(), &lengths);
        let request = json!({});
        let made = read(&stream(Endpoint::Responses, Endpoint::Chat, &request, &events));
        let whole = converted(Endpoint::Responses, Endpoint::Chat, &request, &body);
        prop_assert_eq!(&made.last().unwrap()["response"], &whole);
        let made = read(&stream(Endpoint::Messages, Endpoint::Chat, &request, &events));
        let whole = converted(Endpoint::Messages, Endpoint::Chat, &request, &body);
        prop_assert_eq!(Value::from(assembled(&made)), whole["content"].clone());
    }

    #[test]
    fn any_events_are_read(
        events in prop::collection::vec(
            ("(error|ping|message_stop)?", "[\\[\\]{}\":a-z0,]{0,12}|\\[DONE\\]"), 0..12,
        ),
    ) {
        for (from, to) in PAIRS {
            stream(from, to, &json!({}), &events);
        }
    }
}
