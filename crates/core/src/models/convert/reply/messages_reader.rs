//! Reads responses of Messages.

use serde_json::Value;

use super::super::super::endpoint::Format;
use super::super::super::response_body::value_of;
use super::super::members::word;
use super::super::tokens;
use super::piece::{Block, Meta, Piece, Pieces, StopReason};

/// Reads the events of a response.
#[derive(Debug, Default)]
pub struct MessagesReader {
    stop_reason: Option<StopReason>,
    /// Why a response was refused, in Anthropic's words.
    explanation: Option<String>,
    /// The open block has no counterpart.
    is_skipped: bool,
    is_over: bool,
}

impl MessagesReader {
    /// Reads one event of a stream.
    pub fn event(&mut self, name: &str, data: &str, meta: &mut Meta, pieces: &mut Pieces) {
        let Some(value) = value_of(data.trim().as_bytes()) else {
            return pieces.unreadable(data);
        };
        let part = |name| value.get(name).unwrap_or(&Value::Null);
        match value.get("type").and_then(Value::as_str).unwrap_or(name) {
            "message_start" => {
                Self::start(part("message"), meta);
                pieces.push(Piece::Start);
            }
            "content_block_start" => self.block(part("content_block"), pieces),
            "content_block_delta" if self.is_skipped => {}
            "content_block_delta" => {
                let delta = part("delta");
                match word(delta, "type") {
                    "text_delta" => pieces.delta(word(delta, "text")),
                    "thinking_delta" => pieces.delta(word(delta, "thinking")),
                    "input_json_delta" => pieces.delta(word(delta, "partial_json")),
                    "signature_delta" => pieces.push(Piece::Signature(word(delta, "signature").into())),
                    _ => {}
                }
            }
            "content_block_stop" => pieces.close(),
            "message_delta" => {
                self.stop_reason(part("delta"));
                meta.usage = tokens::updated(meta.usage, part("usage"));
            }
            "message_stop" => self.finish(pieces),
            "error" => {
                self.is_over = true;
                pieces.push(Piece::Error(value.get("error").cloned().unwrap_or(value)));
            }
            _ => {}
        }
    }

    /// Reads a whole response.
    pub fn whole(&mut self, body: &Value, meta: &mut Meta, pieces: &mut Pieces) {
        Self::start(body, meta);
        pieces.push(Piece::Start);
        for block in body.get("content").and_then(Value::as_array).into_iter().flatten() {
            self.block(block, pieces);
            pieces.close();
        }
        self.stop_reason(body);
        self.finish(pieces);
    }

    /// The provider's stream has ended.
    pub fn end(&mut self, pieces: &mut Pieces) {
        if self.stop_reason.is_some() {
            self.finish(pieces);
        }
    }

    fn start(message: &Value, meta: &mut Meta) {
        meta.id = word(message, "id").into();
        meta.model = word(message, "model").into();
        let usage = message.get("usage").unwrap_or(&Value::Null);
        meta.usage = tokens::read(Format::Anthropic, usage);
        meta.service_tier = match word(usage, "service_tier") {
            "standard" => Some("default".into()),
            "priority" => Some("priority".into()),
            _ => None,
        };
    }

    fn block(&mut self, block: &Value, pieces: &mut Pieces) {
        self.is_skipped = false;
        match word(block, "type") {
            "text" => {
                pieces.open(Block::Text);
                pieces.delta(word(block, "text"));
            }
            "thinking" => {
                pieces.open(Block::Thinking);
                pieces.delta(word(block, "thinking"));
                match word(block, "signature") {
                    "" => {}
                    signature => pieces.push(Piece::Signature(signature.into())),
                }
            }
            "redacted_thinking" => pieces.open(Block::Redacted(word(block, "data").into())),
            "tool_use" => {
                pieces.open(Block::Tool { id: word(block, "id").into(), name: word(block, "name").into() });
                // In a stream it is empty: the arguments follow.
                if let Some(input) =
                    block.get("input").filter(|input| input.as_object().is_some_and(|it| !it.is_empty()))
                {
                    pieces.delta(&input.to_string());
                }
            }
            // Blocks of hosted tools, which no request contains.
            _ => self.is_skipped = true,
        }
    }

    fn stop_reason(&mut self, message: &Value) {
        self.stop_reason = match word(message, "stop_reason") {
            "" => self.stop_reason,
            "max_tokens" | "model_context_window_exceeded" => Some(StopReason::Length),
            "tool_use" => Some(StopReason::ToolUse),
            "refusal" => Some(StopReason::Filtered),
            _ => Some(StopReason::End),
        };
        let explanation = message.pointer("/stop_details/explanation").and_then(Value::as_str);
        self.explanation = explanation.map(Into::into).or(self.explanation.take());
    }

    fn finish(&mut self, pieces: &mut Pieces) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let reason = self.stop_reason.unwrap_or(StopReason::End);
        if let Some(explanation) = self.explanation.take().filter(|_| reason == StopReason::Filtered) {
            pieces.open(Block::Refusal);
            pieces.delta(&explanation);
        }
        pieces.stop(reason);
    }
}
