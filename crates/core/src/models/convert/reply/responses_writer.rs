//! Writes responses of the Responses API.

use serde_json::{Map, Value, json};

use super::super::super::endpoint::Endpoint;
use super::super::members::{set, take};
use super::super::{Echo, sealed, tokens};
use super::piece::{Block, Meta, Piece, StopReason};

/// The most characters of a provider's id that go into ids: OpenAI takes no longer ids of items than 64.
const MAX_ID: usize = 48;

/// The open item.
#[derive(Debug)]
struct Item {
    id: String,
    block: Block,
    text: String,
    /// Its thinking, in the form that comes back with the next request.
    sealed: Option<String>,
}

/// Writes the events of a response.
#[derive(Debug)]
pub struct ResponsesWriter {
    echo: Echo,
    /// Events are not needed, only the response.
    is_whole: bool,
    sequence_number: u64,
    /// The items that are done.
    output: Vec<Value>,
    item: Option<Item>,
    /// The open item is closed, but its status depends on the next piece.
    is_closing: bool,
    is_started: bool,
    end: StopReason,
}

impl ResponsesWriter {
    pub fn new(echo: Echo, is_whole: bool) -> Self {
        Self {
            echo,
            is_whole,
            sequence_number: 0,
            output: Vec::new(),
            item: None,
            is_closing: false,
            is_started: false,
            end: StopReason::End,
        }
    }

    /// A whole response.
    pub fn whole(mut self, pieces: Vec<Piece>, meta: &Meta) -> Value {
        let mut events = String::new();
        for piece in pieces {
            self.piece(piece, meta, &mut events);
        }
        self.response(meta, status(self.end))
    }

    /// Appends the events for a piece.
    pub fn piece(&mut self, piece: Piece, meta: &Meta, out: &mut String) {
        if std::mem::take(&mut self.is_closing) {
            let is_cut = matches!(piece, Piece::Stop(StopReason::Length | StopReason::Filtered));
            self.close(if is_cut { "incomplete" } else { "completed" }, out);
        }
        match piece {
            Piece::Start => {
                self.is_started = true;
                for name in ["response.created", "response.in_progress"] {
                    self.emit(out, name, |writer| json!({"response": writer.response(meta, "in_progress")}));
                }
            }
            Piece::Open(block) => self.open(block, meta, out),
            Piece::Delta(text) => self.delta(text, out),
            Piece::Signature(signature) => {
                if let Some(item) = &mut self.item {
                    item.sealed = Some(sealed::signature(&signature));
                }
            }
            Piece::Close => self.is_closing = true,
            Piece::Stop(reason) => {
                self.end = reason;
                let status = status(reason);
                let name = format!("response.{status}");
                self.emit(out, &name, |writer| json!({"response": writer.response(meta, status)}));
            }
            Piece::Error(error) => self.fail(&error, meta, out),
        }
    }

    fn fail(&mut self, error: &Value, meta: &Meta, out: &mut String) {
        let mut known = super::error::of_stream(Endpoint::Responses, error);
        let mut known = take(&mut known, "error");
        let (code, message) = (take(&mut known, "code"), take(&mut known, "message"));
        if !self.is_started {
            return self.emit(out, "error", |_| json!({"code": code, "message": message, "param": null}));
        }
        self.emit(out, "response.failed", |writer| {
            let mut response = writer.response(meta, "failed");
            if let Some(members) = response.as_object_mut() {
                let code = if code.is_null() { "server_error".into() } else { code };
                members.insert("error".into(), json!({"code": code, "message": message}));
            }
            json!({"response": response})
        });
    }

    /// Appends an event. `data` makes its members beside the type and the number.
    fn emit(&mut self, out: &mut String, name: &str, data: impl FnOnce(&Self) -> Value) {
        if self.is_whole {
            return;
        }
        let mut data = data(self);
        if let Some(members) = data.as_object_mut() {
            members.insert("type".into(), name.into());
            members.insert("sequence_number".into(), self.sequence_number.into());
        }
        self.sequence_number += 1;
        out.push_str(&format!("event: {name}\ndata: {data}\n\n"));
    }

    /// Appends an event of the open item.
    fn emit_of_item(&mut self, out: &mut String, name: &str, data: impl FnOnce(&Item) -> Value) {
        self.emit(out, name, |writer| {
            let Some(item) = &writer.item else { return json!({}) };
            let mut data = data(item);
            if let Some(members) = data.as_object_mut() {
                members.insert("output_index".into(), writer.output.len().into());
                if name != "response.output_item.added" && name != "response.output_item.done" {
                    members.insert("item_id".into(), item.id.as_str().into());
                }
            }
            data
        });
    }

    fn open(&mut self, block: Block, meta: &Meta, out: &mut String) {
        let prefix = match block {
            Block::Text | Block::Refusal => "msg",
            Block::Thinking | Block::Redacted(_) => "rs",
            Block::Tool { .. } => "fc",
        };
        let base: String = meta.id.chars().take(MAX_ID).collect();
        let sealed = match &block {
            Block::Redacted(data) => Some(sealed::redacted(data)),
            Block::Text | Block::Refusal | Block::Thinking | Block::Tool { .. } => None,
        };
        let id = format!("{prefix}_{base}_{}", self.output.len());
        self.item = Some(Item { id, block, text: String::new(), sealed });
        self.emit_of_item(
            out,
            "response.output_item.added",
            |item| json!({"item": item.value("in_progress", Vec::new(), false)}),
        );
        if self.is_message() {
            self.emit_of_item(
                out,
                "response.content_part.added",
                |item| json!({"content_index": 0, "part": item.part()}),
            );
        }
    }

    fn is_message(&self) -> bool {
        self.item.as_ref().is_some_and(|item| matches!(item.block, Block::Text | Block::Refusal))
    }

    fn delta(&mut self, text: String, out: &mut String) {
        let is_first = self.item.as_ref().is_some_and(|item| item.text.is_empty());
        if is_first && matches!(&self.item, Some(Item { block: Block::Thinking, .. })) {
            self.emit_of_item(
                out,
                "response.reasoning_summary_part.added",
                |item| json!({"summary_index": 0, "part": item.part()}),
            );
        }
        let Some(item) = &mut self.item else { return };
        item.text.push_str(&text);
        let (name, mut data) = match item.block {
            Block::Text => ("response.output_text.delta", json!({"content_index": 0, "logprobs": []})),
            Block::Refusal => ("response.refusal.delta", json!({"content_index": 0})),
            Block::Thinking => ("response.reasoning_summary_text.delta", json!({"summary_index": 0})),
            Block::Tool { .. } => ("response.function_call_arguments.delta", json!({})),
            Block::Redacted(_) => return,
        };
        if let Some(members) = data.as_object_mut() {
            members.insert("delta".into(), text.into());
        }
        self.emit_of_item(out, name, |_| data);
    }

    /// Completes the open item.
    fn close(&mut self, status: &str, out: &mut String) {
        let Some(item) = &self.item else { return };
        let has_text = !item.text.is_empty();
        match item.block {
            Block::Text => self.emit_of_item(
                out,
                "response.output_text.done",
                |item| json!({"content_index": 0, "logprobs": [], "text": item.text}),
            ),
            Block::Refusal => self.emit_of_item(
                out,
                "response.refusal.done",
                |item| json!({"content_index": 0, "refusal": item.text}),
            ),
            Block::Thinking if has_text => {
                self.emit_of_item(
                    out,
                    "response.reasoning_summary_text.done",
                    |item| json!({"summary_index": 0, "text": item.text}),
                );
                self.emit_of_item(
                    out,
                    "response.reasoning_summary_part.done",
                    |item| json!({"summary_index": 0, "part": item.part()}),
                );
            }
            Block::Tool { .. } => self.emit_of_item(
                out,
                "response.function_call_arguments.done",
                |item| json!({"arguments": item.text, "name": item.name()}),
            ),
            Block::Thinking | Block::Redacted(_) => {}
        }
        if self.is_message() {
            self.emit_of_item(
                out,
                "response.content_part.done",
                |item| json!({"content_index": 0, "part": item.part()}),
            );
        }
        let shows_sealed = self.echo.includes_reasoning;
        let done = self.item.as_ref().map(|item| item.value(status, item.parts(), shows_sealed)).unwrap_or_default();
        self.emit_of_item(out, "response.output_item.done", |_| json!({"item": done}));
        self.item = None;
        self.output.push(done);
    }

    /// The response, as far as it is.
    fn response(&self, meta: &Meta, status: &str) -> Value {
        let is_over = status != "in_progress";
        let reason = match self.end {
            StopReason::Length => json!({"reason": "max_output_tokens"}),
            StopReason::Filtered => json!({"reason": "content_filter"}),
            StopReason::End | StopReason::ToolUse | StopReason::Refused => Value::Null,
        };
        let mut members = self.echo.members.clone();
        for (name, value) in [
            ("id", format!("resp_{}", meta.id).into()),
            ("object", "response".into()),
            ("created_at", meta.created.into()),
            ("status", status.into()),
            ("error", Value::Null),
            ("incomplete_details", reason),
            ("model", meta.model.as_str().into()),
            ("output", self.output.as_slice().into()),
            ("usage", meta.usage.filter(|_| is_over).map(|usage| tokens::responses(&usage)).into()),
        ] {
            members.insert(name.into(), value);
        }
        set(&mut members, "service_tier", meta.service_tier.clone().into());
        members.into()
    }
}

fn status(reason: StopReason) -> &'static str {
    match reason {
        StopReason::End | StopReason::ToolUse | StopReason::Refused => "completed",
        StopReason::Length | StopReason::Filtered => "incomplete",
    }
}

impl Item {
    fn name(&self) -> &str {
        match &self.block {
            Block::Tool { name, .. } => name,
            Block::Text | Block::Refusal | Block::Thinking | Block::Redacted(_) => "",
        }
    }

    /// The part of the content or of the summary, with the text that has come.
    fn part(&self) -> Value {
        match self.block {
            Block::Refusal => json!({"type": "refusal", "refusal": self.text}),
            Block::Thinking | Block::Redacted(_) => json!({"type": "summary_text", "text": self.text}),
            Block::Text | Block::Tool { .. } => {
                json!({"type": "output_text", "text": self.text, "annotations": [], "logprobs": []})
            }
        }
    }

    /// Its parts when it is done.
    fn parts(&self) -> Vec<Value> {
        match self.block {
            Block::Text | Block::Refusal => vec![self.part()],
            Block::Thinking if !self.text.is_empty() => vec![self.part()],
            Block::Thinking | Block::Redacted(_) | Block::Tool { .. } => Vec::new(),
        }
    }

    fn value(&self, status: &str, parts: Vec<Value>, shows_sealed: bool) -> Value {
        let mut members = Map::new();
        members.insert("id".into(), self.id.as_str().into());
        let (kind, named) = match &self.block {
            Block::Text | Block::Refusal => (
                "message",
                [("status", status.into()), ("role", "assistant".into()), ("content", parts.into())].to_vec(),
            ),
            Block::Thinking | Block::Redacted(_) => ("reasoning", [("summary", parts.into())].to_vec()),
            Block::Tool { id, name } => {
                let call = [
                    ("status", status.into()),
                    ("call_id", id.as_str().into()),
                    ("name", name.as_str().into()),
                    ("arguments", self.text.as_str().into()),
                ];
                ("function_call", call.to_vec())
            }
        };
        members.insert("type".into(), kind.into());
        members.extend(named.into_iter().map(|(name, value): (&str, Value)| (name.to_owned(), value)));
        set(&mut members, "encrypted_content", self.sealed.clone().filter(|_| shows_sealed).into());
        members.into()
    }
}
