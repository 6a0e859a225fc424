//! Writes responses of Messages.

use serde_json::{Value, json};

use super::super::super::endpoint::Endpoint;
use super::super::members::take;
use super::super::tokens;
use super::piece::{Block, Meta, Piece, StopReason};

/// Writes the events of a response.
#[derive(Debug, Default)]
pub struct MessagesWriter {
    /// The index of the open block, or of the next one.
    index: u64,
    block: Option<Block>,
}

fn stop_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::End => "end_turn",
        StopReason::Length => "max_tokens",
        StopReason::ToolUse => "tool_use",
        StopReason::Refused | StopReason::Filtered => "refusal",
    }
}

/// Details of the end, which only refusals have.
fn stop_details(reason: StopReason) -> Value {
    match reason {
        StopReason::Refused | StopReason::Filtered => json!({"type": "refusal", "category": null, "explanation": null}),
        StopReason::End | StopReason::Length | StopReason::ToolUse => Value::Null,
    }
}

fn usage(meta: &Meta) -> Value {
    let mut usage = tokens::messages(&meta.usage.unwrap_or_default());
    let tier = match meta.service_tier.as_deref() {
        Some("default") => "standard".into(),
        Some("priority") => "priority".into(),
        _ => Value::Null,
    };
    if let Some(members) = usage.as_object_mut() {
        members.insert("service_tier".into(), tier);
    }
    usage
}

fn message(meta: &Meta, content: Vec<Value>) -> Value {
    json!({
        "id": format!("msg_{}", meta.id),
        "type": "message",
        "role": "assistant",
        "model": meta.model,
        "content": content,
        "container": null,
        "stop_reason": null,
        "stop_sequence": null,
        "stop_details": null,
        "usage": usage(meta),
    })
}

/// A block as it begins.
fn beginning(block: &Block) -> Value {
    match block {
        // A refusal is text here.
        Block::Text | Block::Refusal => json!({"type": "text", "text": ""}),
        Block::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
        Block::Redacted(data) => json!({"type": "redacted_thinking", "data": data}),
        Block::Tool { id, name } => json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
    }
}

fn emit(out: &mut String, data: &Value) {
    let name = super::super::members::word(data, "type");
    out.push_str(&format!("event: {name}\ndata: {data}\n\n"));
}

impl MessagesWriter {
    /// Appends the events for a piece.
    pub fn piece(&mut self, piece: Piece, meta: &Meta, out: &mut String) {
        let index = self.index;
        match piece {
            Piece::Start => emit(out, &json!({"type": "message_start", "message": message(meta, Vec::new())})),
            Piece::Open(block) => {
                let beginning = beginning(&block);
                emit(out, &json!({"type": "content_block_start", "index": index, "content_block": beginning}));
                self.block = Some(block);
            }
            Piece::Delta(text) => {
                let delta = match self.block {
                    Some(Block::Thinking) => json!({"type": "thinking_delta", "thinking": text}),
                    Some(Block::Tool { .. }) => json!({"type": "input_json_delta", "partial_json": text}),
                    Some(Block::Text | Block::Refusal | Block::Redacted(_)) | None => {
                        json!({"type": "text_delta", "text": text})
                    }
                };
                emit(out, &json!({"type": "content_block_delta", "index": index, "delta": delta}));
            }
            Piece::Signature(signature) => {
                let delta = json!({"type": "signature_delta", "signature": signature});
                emit(out, &json!({"type": "content_block_delta", "index": index, "delta": delta}));
            }
            Piece::Close => {
                emit(out, &json!({"type": "content_block_stop", "index": index}));
                self.index += 1;
            }
            Piece::Stop(reason) => {
                let (stop_reason, stop_details) = (stop_reason(reason), stop_details(reason));
                let delta = json!({"stop_reason": stop_reason, "stop_sequence": null, "stop_details": stop_details});
                let usage = tokens::messages(&meta.usage.unwrap_or_default());
                emit(out, &json!({"type": "message_delta", "delta": delta, "usage": usage}));
                emit(out, &json!({"type": "message_stop"}));
            }
            Piece::Error(error) => emit(out, &super::error::of_stream(Endpoint::Messages, &error)),
        }
    }
}

/// A whole response.
pub fn whole(pieces: Vec<Piece>, meta: &Meta) -> Value {
    let mut content: Vec<Value> = Vec::new();
    let (mut text, mut end) = (String::new(), StopReason::End);
    for piece in pieces {
        match piece {
            Piece::Open(block) => content.push(beginning(&block)),
            Piece::Delta(delta) => text.push_str(&delta),
            Piece::Close => {
                let text = std::mem::take(&mut text);
                if let Some(block) = content.last_mut() {
                    fill(block, text);
                }
            }
            Piece::Stop(reason) => end = reason,
            Piece::Start | Piece::Signature(_) | Piece::Error(_) => {}
        }
    }
    let mut response = message(meta, content);
    if let Some(members) = response.as_object_mut() {
        members.insert("stop_reason".into(), stop_reason(end).into());
        members.insert("stop_details".into(), stop_details(end));
    }
    response
}

/// Gives a block what came of it. Arguments that are not JSON, as of a call that was cut off, are kept as they came.
fn fill(block: &mut Value, text: String) {
    let kind = take(block, "type");
    let Some(members) = block.as_object_mut() else { return };
    match kind.as_str() {
        Some("tool_use") => {
            let input = serde_json::from_str(&text).ok().filter(Value::is_object);
            members.insert("input".into(), input.unwrap_or_else(|| json!({"arguments": text})));
        }
        Some("thinking") => drop(members.insert("thinking".into(), text.into())),
        Some("text") => drop(members.insert("text".into(), text.into())),
        _ => {}
    }
    members.insert("type".into(), kind);
}
