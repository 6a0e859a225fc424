//! What clients of each format get from providers of each, whole and streamed.

mod errors;
mod from_chat;
mod from_messages;
mod interleaved;
mod pieces;
mod to_responses;

use serde_json::{Value, json};

use super::super::super::endpoint::Endpoint;
use super::super::Echo;
use super::{StreamConverter, response};

const NOW: u64 = 1_770_000_000;

/// The events of a provider, as type and data.
type Events = Vec<(String, String)>;

/// Chunks of a chat provider, which has the response `chatcmpl-1` of the model `gpt`.
fn chunks(choices: &[Value], usage: Option<Value>) -> Events {
    let chunk = |choices: Value, usage: Option<&Value>| {
        let data = json!({"id": "1", "object": "chat.completion.chunk", "created": 1_769_000_000, "model": "gpt",
                          "choices": choices, "usage": usage});
        (String::new(), data.to_string())
    };
    let mut events: Events = choices.iter().map(|choice| chunk(json!([choice]), None)).collect();
    events.extend(usage.map(|usage| chunk(json!([]), Some(&usage))));
    events.push((String::new(), "[DONE]".into()));
    events
}

fn delta(delta: Value) -> Value {
    json!({"index": 0, "delta": delta, "finish_reason": null})
}

fn finish(reason: &str) -> Value {
    json!({"index": 0, "delta": {}, "finish_reason": reason})
}

/// Events of Anthropic's.
fn events(data: &[Value]) -> Events {
    data.iter().map(|data| (data["type"].as_str().unwrap().into(), data.to_string())).collect()
}

/// The whole stream of a client.
fn stream(from: Endpoint, to: Endpoint, request: &Value, events: &Events) -> String {
    let mut converter = StreamConverter::new(from, to, Echo::of(from, request), NOW);
    let mut text: String = events.iter().map(|(name, data)| converter.event(name, data)).collect();
    text.push_str(&converter.end());
    text
}

/// The data of each event of a stream. The name of an event is the type of its data.
fn read(stream: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for event in stream.split_terminator("\n\n") {
        let (name, data) = match event.strip_prefix("event: ").and_then(|rest| rest.split_once('\n')) {
            Some((name, data)) => (Some(name), data),
            None => (None, event),
        };
        let data = data.strip_prefix("data: ").unwrap();
        let value: Value = serde_json::from_str(data).unwrap_or_else(|_| data.into());
        assert!(name.is_none_or(|name| value["type"] == name), "{event}");
        found.push(value);
    }
    found
}

fn converted(from: Endpoint, to: Endpoint, request: &Value, body: &Value) -> Value {
    response(from, to, body, &Echo::of(from, request), NOW)
}
