//! Reads responses of Chat Completions.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::super::super::endpoint::Format;
use super::super::super::response_body::{error_in, value_of};
use super::super::members::word;
use super::super::tokens;
use super::piece::{Block, Meta, Piece, Pieces, StopReason};

/// A part of the output.
#[derive(Debug, Clone)]
enum Part {
    Text(Block, String),
    Tool { slot: usize, id: String, name: String, arguments: String },
}

/// The open block.
#[derive(Debug, PartialEq, Eq)]
enum Open {
    Text(Block),
    Tool { slot: usize, arguments: Arguments },
}

/// How far the arguments of a call are: the text of a JSON object.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    is_complete: bool,
}

impl Arguments {
    fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if std::mem::take(&mut self.is_escaped) => {}
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.is_complete |= self.depth == 0;
                }
                _ => {}
            }
        }
    }
}

/// Reads the chunks of a response. Blocks come one after the other, even where a provider interleaves the calls of
/// tools: what belongs to a later call waits until the arguments of the open one are complete.
#[derive(Debug, Default)]
pub struct ChatReader {
    open: Option<Open>,
    waiting: VecDeque<Part>,
    /// The index and the id of each call, and whether it is closed.
    calls: Vec<(u64, String, bool)>,
    is_started: bool,
    finish_reason: Option<StopReason>,
    is_refused: bool,
    is_over: bool,
}

/// A member that is a string and not empty.
fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().filter(|text| !text.is_empty()).map(Into::into)
}

/// The thinking of a delta: a member of its own, or parts of its content (Mistral).
fn thinking(delta: &Value) -> Option<String> {
    let inner = |thinking: &Value| match thinking.as_array() {
        Some(parts) => parts.iter().filter_map(|part| text(part, "text")).collect(),
        None => thinking.as_str().unwrap_or_default().to_string(),
    };
    let parts = || {
        let parts = delta.get("content")?.as_array()?.iter();
        let all: String = parts.filter_map(|part| part.get("thinking")).map(inner).collect();
        Some(all).filter(|text| !text.is_empty())
    };
    text(delta, "reasoning_content").or_else(|| text(delta, "reasoning")).or_else(parts)
}

/// A content: a string, or parts with text.
fn content(value: &Value) -> Option<String> {
    let parts = value.get("content")?.as_array();
    let joined = parts.map(|parts| parts.iter().filter_map(|part| text(part, "text")).collect::<String>());
    joined.filter(|text| !text.is_empty()).or_else(|| text(value, "content"))
}

impl ChatReader {
    /// Reads one event of a stream.
    pub fn event(&mut self, name: &str, data: &str, meta: &mut Meta, pieces: &mut Pieces) {
        let data = data.trim();
        if data.eq_ignore_ascii_case("[DONE]") {
            return self.finish(pieces);
        }
        let value = value_of(data.as_bytes());
        let error = value.as_ref().and_then(error_in);
        if name == "error" || error.is_some() {
            let whole = || value.clone().unwrap_or_else(|| json!({"message": data}));
            self.is_over = true;
            return pieces.push(Piece::Error(error.cloned().unwrap_or_else(whole)));
        }
        match value {
            Some(value) => self.chunk(&value, meta, pieces),
            // Without it, the rest would make sense, but not what the provider meant.
            None => pieces.unreadable(data),
        }
    }

    /// Reads a whole response.
    pub fn whole(&mut self, body: &Value, meta: &mut Meta, pieces: &mut Pieces) {
        self.chunk(body, meta, pieces);
        self.finish(pieces);
    }

    /// The provider's stream has ended.
    pub fn end(&mut self, pieces: &mut Pieces) {
        if self.finish_reason.is_some() {
            self.finish(pieces);
        }
    }

    fn chunk(&mut self, chunk: &Value, meta: &mut Meta, pieces: &mut Pieces) {
        for (known, name) in [(&mut meta.id, "id"), (&mut meta.model, "model")] {
            if known.is_empty() {
                *known = word(chunk, name).into();
            }
        }
        if let Some(created) = chunk.get("created").and_then(Value::as_u64).filter(|_| !self.is_started) {
            meta.created = created;
        }
        meta.service_tier = text(chunk, "service_tier").or(meta.service_tier.take());
        meta.usage = chunk.get("usage").and_then(|usage| tokens::read(Format::OpenAi, usage)).or(meta.usage);
        // Only the first choice counts: more of them cannot be asked for.
        let Some(choice) = chunk.pointer("/choices/0") else { return };
        self.start(pieces);
        if let Some(delta) = choice.get("delta").or_else(|| choice.get("message")) {
            self.delta(delta, meta, pieces);
        }
        self.finish_reason = match word(choice, "finish_reason") {
            "" => self.finish_reason,
            "length" => Some(StopReason::Length),
            "tool_calls" | "function_call" => Some(StopReason::ToolUse),
            "content_filter" => Some(StopReason::Filtered),
            _ => Some(StopReason::End),
        };
    }

    fn start(&mut self, pieces: &mut Pieces) {
        if !std::mem::replace(&mut self.is_started, true) {
            pieces.push(Piece::Start);
        }
    }

    fn delta(&mut self, delta: &Value, meta: &Meta, pieces: &mut Pieces) {
        let reasoning = thinking(delta);
        let refusal = text(delta, "refusal");
        self.is_refused |= refusal.is_some();
        for (block, text) in [(Block::Thinking, reasoning), (Block::Text, content(delta)), (Block::Refusal, refusal)] {
            if let Some(text) = text {
                self.part(Part::Text(block, text), pieces);
            }
        }
        let calls = delta.get("tool_calls").and_then(Value::as_array);
        for (at, call) in calls.into_iter().flatten().enumerate() {
            let index = call.get("index").and_then(Value::as_u64).unwrap_or(at as u64);
            let function = call.get("function").unwrap_or(&Value::Null);
            let slot = self.slot(index, word(call, "id"));
            let id = text(call, "id").unwrap_or_else(|| format!("call_{}_{slot}", meta.id));
            let (name, arguments) = (word(function, "name").into(), word(function, "arguments").into());
            self.part(Part::Tool { slot, id, name, arguments }, pieces);
        }
    }

    /// The place of a call among all of them. Some providers give all calls the same index.
    fn slot(&mut self, index: u64, id: &str) -> usize {
        let is_same = |known: &str| id.is_empty() || known.is_empty() || known == id;
        match self.calls.iter().rposition(|(known, known_id, _)| *known == index && is_same(known_id)) {
            Some(slot) => slot,
            None => {
                self.calls.push((index, id.into(), false));
                self.calls.len() - 1
            }
        }
    }

    /// Takes the next part. While the arguments of a call are not complete, other parts wait.
    fn part(&mut self, part: Part, pieces: &mut Pieces) {
        if self.must_wait(&part) {
            return self.waiting.push_back(part);
        }
        self.emit(part, pieces);
        while !self.is_calling() {
            let Some(next) = self.waiting.pop_front() else { return };
            self.emit(next, pieces);
            if self.is_calling() {
                // More of this call may wait behind parts of others.
                let waiting = std::mem::take(&mut self.waiting);
                let (others, own): (VecDeque<Part>, VecDeque<Part>) =
                    waiting.into_iter().partition(|part| self.must_wait(part));
                self.waiting = others;
                own.into_iter().for_each(|part| self.emit(part, pieces));
            }
        }
    }

    /// The arguments of the open call are not complete.
    fn is_calling(&self) -> bool {
        matches!(&self.open, Some(Open::Tool { arguments, .. }) if !arguments.is_complete)
    }

    fn must_wait(&self, part: &Part) -> bool {
        let is_open = match (part, &self.open) {
            (Part::Tool { slot, .. }, Some(Open::Tool { slot: open, .. })) => slot == open,
            _ => false,
        };
        !is_open && self.is_calling()
    }

    fn emit(&mut self, part: Part, pieces: &mut Pieces) {
        match part {
            Part::Text(block, text) => {
                if self.open != Some(Open::Text(block.clone())) {
                    self.close(pieces);
                    pieces.open(block.clone());
                    self.open = Some(Open::Text(block));
                }
                pieces.delta(&text);
            }
            Part::Tool { slot, id, name, arguments } => {
                if let Some(Open::Tool { slot: open, arguments: known }) = &mut self.open
                    && *open == slot
                {
                    known.push(&arguments);
                } else {
                    if self.calls.get(slot).is_some_and(|(.., is_closed)| *is_closed) {
                        return;
                    }
                    self.close(pieces);
                    pieces.open(Block::Tool { id, name });
                    let mut known = Arguments::default();
                    known.push(&arguments);
                    self.open = Some(Open::Tool { slot, arguments: known });
                }
                pieces.delta(&arguments);
            }
        }
    }

    fn close(&mut self, pieces: &mut Pieces) {
        if let Some(Open::Tool { slot, .. }) = self.open.take()
            && let Some((.., is_closed)) = self.calls.get_mut(slot)
        {
            *is_closed = true;
        }
        pieces.close();
    }

    fn finish(&mut self, pieces: &mut Pieces) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.start(pieces);
        // Nothing more will come for the open call.
        while let Some(part) = self.waiting.pop_front() {
            self.close(pieces);
            self.part(part, pieces);
        }
        let reason = match self.finish_reason {
            Some(StopReason::End) | None if !self.calls.is_empty() => StopReason::ToolUse,
            Some(StopReason::End) | None if self.is_refused => StopReason::Refused,
            reason => reason.unwrap_or(StopReason::End),
        };
        pieces.stop(reason);
    }
}
