//! Writes responses of Chat Completions.

use serde_json::{Map, Value, json};

use super::super::Echo;
use super::super::members::set;
use super::super::tokens;
use super::piece::{Block, Meta, Piece, StopReason};

/// Writes the chunks of a response.
#[derive(Debug)]
pub struct ChatWriter {
    echo: Echo,
    block: Option<Block>,
    calls: u64,
}

fn finish_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::End | StopReason::Refused => "stop",
        StopReason::Length => "length",
        StopReason::ToolUse => "tool_calls",
        StopReason::Filtered => "content_filter",
    }
}

/// The members that a response and each chunk of it have.
fn envelope(meta: &Meta, object: &str, choices: Vec<Value>) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("id".into(), format!("chatcmpl-{}", meta.id).into());
    members.insert("object".into(), object.into());
    members.insert("created".into(), meta.created.into());
    members.insert("model".into(), meta.model.as_str().into());
    members.insert("choices".into(), choices.into());
    set(&mut members, "service_tier", meta.service_tier.clone().into());
    members
}

impl ChatWriter {
    pub fn new(echo: Echo) -> Self {
        Self { echo, block: None, calls: 0 }
    }

    /// Appends the events for a piece.
    pub fn piece(&mut self, piece: Piece, meta: &Meta, out: &mut String) {
        match piece {
            Piece::Start => self.delta(json!({"role": "assistant", "content": ""}), meta, out),
            Piece::Open(block) => {
                if let Block::Tool { id, name } = &block {
                    let function = json!({"name": name, "arguments": ""});
                    let call = json!({"index": self.calls, "id": id, "type": "function", "function": function});
                    self.delta(json!({"tool_calls": [call]}), meta, out);
                }
                self.block = Some(block);
            }
            Piece::Delta(text) => {
                let delta = match &self.block {
                    Some(Block::Thinking) => json!({"reasoning_content": text}),
                    Some(Block::Refusal) => json!({"refusal": text}),
                    Some(Block::Tool { .. }) => {
                        json!({"tool_calls": [{"index": self.calls, "function": {"arguments": text}}]})
                    }
                    Some(Block::Text | Block::Redacted(_)) | None => json!({"content": text}),
                };
                self.delta(delta, meta, out);
            }
            Piece::Signature(_) => {}
            Piece::Close => {
                if let Some(Block::Tool { .. }) = self.block.take() {
                    self.calls += 1;
                }
            }
            Piece::Stop(reason) => self.stop(reason, meta, out),
            Piece::Error(error) => {
                let error = super::error::of_stream(super::super::super::endpoint::Endpoint::Chat, &error);
                out.push_str(&format!("data: {error}\n\n"));
            }
        }
    }

    fn chunk(&self, choices: Vec<Value>, usage: Value, meta: &Meta, out: &mut String) {
        let mut chunk = envelope(meta, "chat.completion.chunk", choices);
        if self.echo.includes_usage {
            chunk.insert("usage".into(), usage);
        }
        out.push_str(&format!("data: {}\n\n", Value::from(chunk)));
    }

    fn delta(&self, delta: Value, meta: &Meta, out: &mut String) {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": null});
        self.chunk(vec![choice], Value::Null, meta, out);
    }

    fn stop(&self, reason: StopReason, meta: &Meta, out: &mut String) {
        let choice = json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": finish_reason(reason)});
        self.chunk(vec![choice], Value::Null, meta, out);
        if self.echo.includes_usage {
            let usage = tokens::chat(&meta.usage.unwrap_or_default());
            self.chunk(Vec::new(), usage, meta, out);
        }
        out.push_str("data: [DONE]\n\n");
    }
}

/// A whole response.
pub fn whole(pieces: Vec<Piece>, meta: &Meta) -> Value {
    let (mut text, mut refusal, mut reasoning) = (String::new(), String::new(), String::new());
    let mut calls: Vec<(String, String, String)> = Vec::new();
    let (mut block, mut end) = (Block::Text, StopReason::End);
    for piece in pieces {
        match piece {
            Piece::Open(Block::Tool { id, name }) => {
                block = Block::Tool { id: String::new(), name: String::new() };
                calls.push((id, name, String::new()));
            }
            Piece::Open(opened) => block = opened,
            Piece::Delta(delta) => match (&block, calls.last_mut()) {
                (Block::Tool { .. }, Some((.., arguments))) => arguments.push_str(&delta),
                (Block::Refusal, _) => refusal.push_str(&delta),
                (Block::Thinking, _) => reasoning.push_str(&delta),
                (Block::Text | Block::Tool { .. } | Block::Redacted(_), _) => text.push_str(&delta),
            },
            Piece::Stop(reason) => end = reason,
            Piece::Start | Piece::Signature(_) | Piece::Close | Piece::Error(_) => {}
        }
    }
    let or_null = |text: String| if text.is_empty() { Value::Null } else { text.into() };
    let mut message = Map::new();
    message.insert("role".into(), "assistant".into());
    let is_empty = calls.is_empty() && refusal.is_empty();
    message.insert("content".into(), if is_empty { text.into() } else { or_null(text) });
    message.insert("refusal".into(), or_null(refusal));
    set(&mut message, "reasoning_content", or_null(reasoning));
    let calls: Vec<Value> = calls
        .into_iter()
        .map(|(id, name, arguments)| {
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        })
        .collect();
    if !calls.is_empty() {
        message.insert("tool_calls".into(), calls.into());
    }
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(end)});
    let mut response = envelope(meta, "chat.completion", vec![choice]);
    set(&mut response, "usage", meta.usage.map(|usage| tokens::chat(&usage)).into());
    response.into()
}
