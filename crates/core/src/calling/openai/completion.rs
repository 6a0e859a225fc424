//! A chat completion, put together from its chunks as the endpoint would have said it in one piece.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::calls::Calls;
use super::fault;
use super::node::{self, As, Held, Members, Node, Parts, grow_top, is_empty, write_members, write_text};
use super::surrogates;
use crate::calling::response::MAX_ANSWER_BYTES;

/// What holding an answer may cost beside its text, in bytes.
const MAX_COST: usize = 32 * 1024 * 1024;
/// Members of a chunk that belong to the stream, not to the completion.
const OF_THE_STREAM: [&str; 4] = ["object", "obfuscation", "error", "errors"];
/// Members that are the same in every chunk, or should be: the first that says something counts.
const FIRST: [&str; 3] = ["id", "created", "model"];

/// Why a chunk was not taken in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoChunk {
    #[error("a piece of the answer is no chunk of a chat completion")]
    Invalid,
    #[error("the answer is too large")]
    TooLarge,
}

/// What a chunk was.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    Chunk,
    /// It says nothing of the completion: a sign of life.
    Nothing,
    /// An error in place of a chunk.
    Fault,
}

#[derive(Debug, Default)]
pub struct Completion {
    head: Members,
    choices: BTreeMap<u64, Choice>,
    held: Held,
    has_halves: bool,
    fault: Option<Box<RawValue>>,
}

#[derive(Debug, Default)]
struct Choice {
    message: Members,
    calls: Calls,
    /// What came as `message`: all so far, or all there is.
    whole: Members,
    finish: Option<Box<RawValue>>,
    /// Lists that only grow, as the text between their brackets.
    logprobs: Option<BTreeMap<String, String>>,
    others: Members,
}

impl Completion {
    /// Takes in one chunk.
    ///
    /// # Errors
    /// It is no JSON object, or has choices that are none, or the answer is larger than is kept.
    pub fn push(&mut self, chunk: &str) -> Result<Taken, NoChunk> {
        let chunk = surrogates::set_aside(chunk);
        self.has_halves |= matches!(chunk, std::borrow::Cow::Owned(_));
        let members: Parts<'_> = serde_json::from_str(&chunk).map_err(|_| NoChunk::Invalid)?;
        if let Some(error) = fault::member(&members) {
            return Ok(self.fail(error));
        }
        if fault::is_one(&members) {
            let whole = serde_json::from_str(&chunk).map_err(|_| NoChunk::Invalid)?;
            return Ok(self.fail(whole));
        }
        if !members.contains_key("choices") && !members.contains_key("usage") {
            return Ok(Taken::Nothing);
        }
        for (name, raw) in members {
            match name.as_str() {
                "choices" if !is_empty(raw) => self.push_choices(raw)?,
                "choices" => {}
                name if OF_THE_STREAM.contains(&name) => {}
                name if FIRST.contains(&name) && self.head.get(name).is_some_and(|known| !is_blank(known)) => {}
                _ => grow_top(&mut self.head, name, raw, As::Whole, &mut self.held),
            }
        }
        if self.held.bytes > MAX_ANSWER_BYTES || self.held.cost > MAX_COST {
            return Err(NoChunk::TooLarge);
        }
        Ok(if self.fault.is_some() { Taken::Fault } else { Taken::Chunk })
    }

    fn fail(&mut self, error: &RawValue) -> Taken {
        self.fault = Some(error.to_owned());
        Taken::Fault
    }

    fn push_choices(&mut self, raw: &RawValue) -> Result<(), NoChunk> {
        let choices: Vec<Parts<'_>> = serde_json::from_str(raw.get()).map_err(|_| NoChunk::Invalid)?;
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
                return Err(NoChunk::TooLarge);
            }
        }
        Ok(())
    }

    /// The error that came in place of a chunk.
    pub fn fault(&self) -> Option<&RawValue> {
        self.fault.as_deref()
    }

    /// Whether it has come to an end: each choice says why it stopped.
    pub fn is_whole(&self) -> bool {
        !self.choices.is_empty() && self.choices.values().all(|choice| choice.finish.is_some())
    }

    /// Whether anything was said.
    pub fn says_something(&self) -> bool {
        self.choices.values().any(Choice::says_something)
    }

    /// What an endpoint that does not stream would have answered.
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

/// Nothing, or a number in place of one.
fn is_blank(node: &Node) -> bool {
    node.says_nothing() || matches!(node, Node::Raw(raw) if raw.get() == "0")
}

impl Choice {
    /// Takes in what a chunk says of it; gives the error it says it ended with.
    fn push(&mut self, choice: Parts<'_>, held: &mut Held) -> Option<Box<RawValue>> {
        let fault = fault::member(&choice).map(RawValue::to_owned);
        for (name, raw) in choice {
            match name.as_str() {
                "index" | "error" | "errors" | "obfuscation" => {}
                "delta" => self.push_delta(raw, held),
                "message" => {
                    for (name, raw) in node::parts(raw).unwrap_or_default() {
                        grow_top(&mut self.whole, name, raw, As::Whole, held);
                    }
                }
                "finish_reason" => {
                    // Some say it in a word.
                    if !is_empty(raw) && raw.get() != "\"null\"" {
                        self.finish = Some(raw.to_owned());
                    }
                }
                "logprobs" => self.push_logprobs(raw, held),
                "text" => grow_top(&mut self.others, name, raw, As::Pieces, held),
                _ => grow_top(&mut self.others, name, raw, As::Whole, held),
            }
        }
        let erred = self.finish.as_ref().is_some_and(|finish| finish.get() == "\"error\"");
        let unnamed =
            || RawValue::from_string(r#"{"message":"The answer ended with finish_reason error."}"#.into()).ok();
        fault.or_else(|| if erred { unnamed() } else { None })
    }

    fn push_delta(&mut self, delta: &RawValue, held: &mut Held) {
        for (name, raw) in node::parts(delta).unwrap_or_default() {
            match name.as_str() {
                "obfuscation" => {}
                "tool_calls" if !is_empty(raw) => {
                    let calls: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
                    for call in calls {
                        self.calls.push(call, held);
                    }
                }
                _ => grow_top(&mut self.message, name, raw, As::Pieces, held),
            }
        }
    }

    fn push_logprobs(&mut self, raw: &RawValue, held: &mut Held) {
        let Some(lists) = node::parts(raw) else {
            if self.logprobs.is_none() && !self.others.contains_key("logprobs") {
                grow_top(&mut self.others, "logprobs".into(), raw, As::Whole, held);
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
                // What is no list says nothing, until one comes.
                (None, None) => {
                    held.bytes += name.len() + 8;
                    kept.insert(name, "null".into());
                }
            }
        }
    }

    fn says_something(&self) -> bool {
        let said = |members: &Members| members.iter().any(|(name, node)| name != "role" && !node.says_nothing());
        self.finish.is_some() || !self.calls.is_empty() || said(&self.message) || said(&self.whole)
    }

    fn write(mut self, index: u64, to: &mut String) {
        let mut message = std::mem::take(&mut self.message);
        for (name, node) in std::mem::take(&mut self.whole) {
            if message.get(&name).is_none_or(Node::says_nothing) {
                message.insert(name, node);
            }
        }
        let null = || Node::Raw(RawValue::NULL.to_owned());
        message.entry("content".into()).or_insert_with(null);
        if message.get("role").is_none_or(Node::says_nothing) {
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
