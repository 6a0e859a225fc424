//! A chat completion, assembled from its chunks into the form of a response in one piece.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::calls::Calls;
use super::fault;
use super::node::{self, HeldSize, Members, Node, Parts, Repetition, grow_top, is_empty, write_members, write_text};
use super::surrogates;
use crate::calling::response::MAX_ANSWER_BYTES;

/// The maximum memory overhead of a response beside its text, in bytes.
const MAX_COST: usize = 32 * 1024 * 1024;
/// Members of a chunk that belong to the stream, not to the completion.
const OF_THE_STREAM: [&str; 4] = ["object", "obfuscation", "error", "errors"];
/// Members that are the same in every chunk, or should be: the first non-empty value counts.
const FIRST: [&str; 3] = ["id", "created", "model"];

/// Why a chunk was rejected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("a piece of the response is not a chunk of a chat completion")]
    Invalid,
    #[error("the response is too large")]
    TooLarge,
}

/// What a chunk contained.
#[derive(Debug, PartialEq, Eq)]
pub enum ChunkKind {
    Chunk,
    /// Nothing of the completion: a keep-alive.
    KeepAlive,
    /// An error in place of a chunk.
    Fault,
}

/// A completion under assembly.
#[derive(Debug, Default)]
pub struct Completion {
    head: Members,
    choices: BTreeMap<u64, Choice>,
    held: HeldSize,
    has_halves: bool,
    fault: Option<Box<RawValue>>,
}

#[derive(Debug, Default)]
struct Choice {
    message: Members,
    calls: Calls,
    /// The `message`: everything so far, or everything there is.
    whole: Members,
    finish: Option<Box<RawValue>>,
    /// Lists that only grow, as the text between their brackets.
    logprobs: Option<BTreeMap<String, String>>,
    others: Members,
}

impl Completion {
    /// Adds one chunk.
    ///
    /// # Errors
    /// The chunk is not a JSON object, or has invalid choices, or the response is too large.
    pub fn push(&mut self, chunk: &str) -> Result<ChunkKind, ChunkError> {
        let chunk = surrogates::set_aside(chunk);
        self.has_halves |= matches!(chunk, std::borrow::Cow::Owned(_));
        let members: Parts<'_> = serde_json::from_str(&chunk).map_err(|_| ChunkError::Invalid)?;
        if let Some(error) = fault::member(&members) {
            return Ok(self.fail(error));
        }
        if fault::is_one(&members) {
            let whole = serde_json::from_str(&chunk).map_err(|_| ChunkError::Invalid)?;
            return Ok(self.fail(whole));
        }
        if !members.contains_key("choices") && !members.contains_key("usage") {
            return Ok(ChunkKind::KeepAlive);
        }
        for (name, raw) in members {
            match name.as_str() {
                "choices" if !is_empty(raw) => self.push_choices(raw)?,
                "choices" => {}
                name if OF_THE_STREAM.contains(&name) => {}
                name if FIRST.contains(&name) && self.head.get(name).is_some_and(|known| !is_blank(known)) => {}
                _ => grow_top(&mut self.head, name, raw, Repetition::Whole, &mut self.held),
            }
        }
        if self.held.bytes > MAX_ANSWER_BYTES || self.held.cost > MAX_COST {
            return Err(ChunkError::TooLarge);
        }
        Ok(if self.fault.is_some() { ChunkKind::Fault } else { ChunkKind::Chunk })
    }

    fn fail(&mut self, error: &RawValue) -> ChunkKind {
        self.fault = Some(error.to_owned());
        ChunkKind::Fault
    }

    fn push_choices(&mut self, raw: &RawValue) -> Result<(), ChunkError> {
        let choices: Vec<Parts<'_>> = serde_json::from_str(raw.get()).map_err(|_| ChunkError::Invalid)?;
        for (place, choice) in choices.into_iter().enumerate() {
            let index = choice.get("index").and_then(|raw| raw.get().parse().ok());
            let index = index.unwrap_or(u64::try_from(place).unwrap_or(0));
            let (held, choices) = (&mut self.held, &mut self.choices);
            let kept = choices.entry(index).or_insert_with(|| {
                held.object();
                held.bytes += 64;
                Choice::default()
            });
            if let Some(error) = kept.push(choice, held) {
                self.fault = Some(error);
            }
            if self.held.bytes > MAX_ANSWER_BYTES || self.held.cost > MAX_COST {
                return Err(ChunkError::TooLarge);
            }
        }
        Ok(())
    }

    /// The error that came in place of a chunk.
    pub fn fault(&self) -> Option<&RawValue> {
        self.fault.as_deref()
    }

    /// Whether it is complete: each choice has a finish reason.
    pub fn is_whole(&self) -> bool {
        !self.choices.is_empty() && self.choices.values().all(|choice| choice.finish.is_some())
    }

    /// Whether it has any content.
    pub fn has_content(&self) -> bool {
        self.choices.values().any(Choice::has_content)
    }

    /// The response that an endpoint without streaming would have sent.
    pub fn text(mut self) -> String {
        let mut whole = String::with_capacity(self.held.bytes + 256);
        whole.push_str(r#"{"choices":["#);
        for (place, (index, choice)) in std::mem::take(&mut self.choices).into_iter().enumerate() {
            if place > 0 {
                whole.push(',');
            }
            choice.write(index, &mut whole);
        }
        whole.push_str(r#"],"object":"chat.completion""#);
        for (name, node) in &self.head {
            whole.push(',');
            write_text(name, &mut whole);
            whole.push(':');
            node.write(&mut whole);
        }
        whole.push('}');
        if self.has_halves { surrogates::put_back(&whole) } else { whole }
    }
}

/// Empty, or a number in its place.
fn is_blank(node: &Node) -> bool {
    node.is_blank_node() || matches!(node, Node::Raw(raw) if raw.get() == "0")
}

impl Choice {
    /// Adds a chunk of this choice; returns the error that it ended with, if any.
    fn push(&mut self, choice: Parts<'_>, held: &mut HeldSize) -> Option<Box<RawValue>> {
        let fault = fault::member(&choice).map(RawValue::to_owned);
        for (name, raw) in choice {
            match name.as_str() {
                "index" | "error" | "errors" | "obfuscation" => {}
                "delta" => self.push_delta(raw, held),
                "message" => {
                    for (name, raw) in node::parts(raw).unwrap_or_default() {
                        grow_top(&mut self.whole, name, raw, Repetition::Whole, held);
                    }
                }
                "finish_reason" => {
                    // Some servers send it as a string.
                    if !is_empty(raw) && raw.get() != "\"null\"" {
                        self.finish = Some(raw.to_owned());
                    }
                }
                "logprobs" => self.push_logprobs(raw, held),
                "text" => grow_top(&mut self.others, name, raw, Repetition::Pieces, held),
                _ => grow_top(&mut self.others, name, raw, Repetition::Whole, held),
            }
        }
        let erred = self.finish.as_ref().is_some_and(|finish| finish.get() == "\"error\"");
        let unnamed =
            || RawValue::from_string(r#"{"message":"The response ended with finish_reason error."}"#.into()).ok();
        fault.or_else(|| if erred { unnamed() } else { None })
    }

    fn push_delta(&mut self, delta: &RawValue, held: &mut HeldSize) {
        for (name, raw) in node::parts(delta).unwrap_or_default() {
            match name.as_str() {
                "obfuscation" => {}
                "tool_calls" if !is_empty(raw) => {
                    let calls: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
                    for call in calls {
                        self.calls.push(call, held);
                    }
                }
                _ => grow_top(&mut self.message, name, raw, Repetition::Pieces, held),
            }
        }
    }

    fn push_logprobs(&mut self, raw: &RawValue, held: &mut HeldSize) {
        let Some(lists) = node::parts(raw) else {
            if self.logprobs.is_none() && !self.others.contains_key("logprobs") {
                grow_top(&mut self.others, "logprobs".into(), raw, Repetition::Whole, held);
            }
            return;
        };
        let kept = self.logprobs.get_or_insert_default();
        for (name, raw) in lists {
            let inner = raw.get().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            match (inner.map(str::trim), kept.get_mut(&name)) {
                (Some(""), Some(_)) | (None, Some(_)) => {}
                (Some(more), Some(list)) if list.starts_with('[') => {
                    held.bytes += more.len() + 1;
                    if list.len() > 1 {
                        list.push(',');
                    }
                    list.push_str(more);
                }
                (Some(more), _) => {
                    held.bytes += more.len() + name.len() + 6;
                    kept.insert(name, format!("[{more}"));
                }
                // A value that is not a list is ignored until one comes.
                (None, None) => {
                    held.bytes += name.len() + 8;
                    kept.insert(name, "null".into());
                }
            }
        }
    }

    fn has_content(&self) -> bool {
        let said = |members: &Members| members.iter().any(|(name, node)| name != "role" && !node.is_blank_node());
        self.finish.is_some() || !self.calls.is_empty() || said(&self.message) || said(&self.whole)
    }

    fn write(mut self, index: u64, to: &mut String) {
        let mut message = std::mem::take(&mut self.message);
        for (name, node) in std::mem::take(&mut self.whole) {
            if message.get(&name).is_none_or(Node::is_blank_node) {
                message.insert(name, node);
            }
        }
        let null = || Node::Raw(RawValue::NULL.to_owned());
        message.entry("content".into()).or_insert_with(null);
        if message.get("role").is_none_or(Node::is_blank_node) {
            message.insert("role".into(), Node::Text("assistant".into()));
        }
        if !self.calls.is_empty() {
            message.remove("tool_calls");
        }
        let finish = self.finish.as_deref().map_or("null", RawValue::get);
        to.push_str(&format!(r#"{{"index":{index},"finish_reason":{finish},"message":"#));
        write_members(&message, to);
        if !self.calls.is_empty() {
            to.pop();
            to.push_str(r#","tool_calls":"#);
            self.calls.write(to);
            to.push('}');
        }
        if let Some(logprobs) = self.logprobs {
            self.others.remove("logprobs");
            to.push_str(r#","logprobs":{"#);
            for (place, (name, list)) in logprobs.iter().enumerate() {
                if place > 0 {
                    to.push(',');
                }
                write_text(name, to);
                to.push(':');
                to.push_str(list);
                if list.starts_with('[') {
                    to.push(']');
                }
            }
            to.push('}');
        }
        for (name, node) in &self.others {
            to.push(',');
            write_text(name, to);
            to.push(':');
            node.write(to);
        }
        to.push('}');
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod chunks_tests;
