//! The messages of a conversation.

use serde_json::{Map, Value, json};

use super::super::super::members::{Faults, take, word};
use super::super::chat_messages::content;
use super::content::{part, texts};

/// How the block of a system prompt begins by which Claude Code tells Anthropic, not the model, what called. It differs
/// in each request, so that no provider could cache the prompt behind it.
const BILLING: &str = "x-anthropic-billing-header";

/// The system prompt, as a message.
pub fn system(system: Value, faults: &mut Faults) -> Vec<Value> {
    let mut texts = texts(system, "#/system", faults);
    texts.retain(|text| !word(text, "text").starts_with(BILLING));
    if texts.is_empty() { Vec::new() } else { vec![json!({"role": "system", "content": content(texts)})] }
}

pub fn messages(messages: Value, faults: &mut Faults) -> Vec<Value> {
    let mut turns = Vec::new();
    let items = faults.array(messages, "#/messages");
    if let Some((pointer, last)) = items.last()
        && word(last, "role") == "assistant"
    {
        faults.add(
            format!("{pointer}/role"),
            "must not be assistant at the end: the provider does not continue a message",
        );
    }
    for (pointer, message) in items {
        turn(message, &pointer, &mut turns, faults);
    }
    turns
}

fn turn(mut message: Value, pointer: &str, turns: &mut Vec<Value>, faults: &mut Faults) {
    if !faults.known(&message, pointer, &["role", "content"]) {
        return;
    }
    let (content, at) = (take(&mut message, "content"), format!("{pointer}/content"));
    match word(&message, "role") {
        "system" => {
            let texts = texts(content, &at, faults);
            turns.push(json!({"role": "system", "content": self::content(texts)}));
        }
        "user" => user(content, &at, turns, faults),
        "assistant" => turns.extend(assistant(content, &at, faults)),
        _ => faults.refuse(format!("{pointer}/role")),
    }
}

/// The blocks of a content.
fn blocks(content: Value, pointer: &str, faults: &mut Faults) -> Vec<(String, Value)> {
    match content {
        Value::String(text) => vec![(pointer.into(), json!({"type": "text", "text": text}))],
        content => faults.array(content, pointer),
    }
}

/// A user's message: the results of tools come first, because they must follow their calls.
fn user(content: Value, pointer: &str, turns: &mut Vec<Value>, faults: &mut Faults) {
    let mut parts = Vec::new();
    for (pointer, mut block) in blocks(content, pointer, faults) {
        if word(&block, "type") != "tool_result" {
            parts.extend(part(block, &pointer, faults));
            continue;
        }
        faults.known(&block, &pointer, &["type", "tool_use_id", "content", "is_error", "cache_control"]);
        let id = faults.string(take(&mut block, "tool_use_id"), format!("{pointer}/tool_use_id"));
        let result: Vec<Value> = blocks(take(&mut block, "content"), &format!("{pointer}/content"), faults)
            .into_iter()
            .filter_map(|(pointer, block)| part(block, &pointer, faults))
            .collect();
        turns.push(json!({"role": "tool", "tool_call_id": id, "content": self::content(result)}));
    }
    if !parts.is_empty() {
        turns.push(json!({"role": "user", "content": self::content(parts)}));
    }
}

/// An assistant's message. The texts of one turn are pieces of one text.
fn assistant(content: Value, pointer: &str, faults: &mut Faults) -> Option<Value> {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for (pointer, mut block) in blocks(content, pointer, faults) {
        match word(&block, "type") {
            "text" => {
                faults.known(&block, &pointer, &["type", "text", "cache_control", "citations"]);
                let piece = faults.string(take(&mut block, "text"), format!("{pointer}/text"));
                text.push_str(piece.as_str().unwrap_or_default());
            }
            // Only the model that signed it can read it.
            "thinking" | "redacted_thinking" => {}
            "tool_use" => {
                faults.known(&block, &pointer, &["type", "id", "name", "input", "cache_control", "caller"]);
                calls.push(call(block, &pointer, faults));
            }
            _ if block.is_object() => faults.refuse(pointer),
            _ => faults.add(pointer, "must be an object"),
        }
    }
    let mut message = Map::new();
    message.insert("role".into(), "assistant".into());
    if text.is_empty() && calls.is_empty() {
        return None;
    }
    message.insert("content".into(), if text.is_empty() { Value::Null } else { text.into() });
    if !calls.is_empty() {
        message.insert("tool_calls".into(), calls.into());
    }
    Some(message.into())
}

fn call(mut block: Value, pointer: &str, faults: &mut Faults) -> Value {
    if block.get("caller").is_some_and(|caller| !caller.is_null() && word(caller, "type") != "direct") {
        faults.refuse(format!("{pointer}/caller"));
    }
    let id = faults.string(take(&mut block, "id"), format!("{pointer}/id"));
    let name = faults.string(take(&mut block, "name"), format!("{pointer}/name"));
    let input = match take(&mut block, "input") {
        Value::Null => "{}".into(),
        input => input.to_string(),
    };
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": input}})
}
