//! What an OpenAI-compatible endpoint offers, how it is asked, and how an answer that comes in pieces is put together.

use std::collections::BTreeMap;

use semver::Version;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::capability::{Capability, TaskSupport};

/// Its capabilities, with the path each has below the endpoint's address.
const OPERATIONS: [(&str, &str); 3] = [("chat", "chat/completions"), ("embed", "embeddings"), ("models", "models")];

const CHAT_INPUT: &str = r#"{"type":"object","required":["messages"],"properties":{"model":{"type":"string"},"messages":{"type":"array","minItems":1,"items":{"type":"object","required":["role"]}}}}"#;
const CHAT_OUTPUT: &str = r#"{"type":"object","required":["choices"],"properties":{"choices":{"type":"array"}}}"#;
const EMBED_INPUT: &str = r#"{"type":"object","required":["input"],"properties":{"model":{"type":"string"},"input":{"type":["string","array"]}}}"#;
const EMBED_OUTPUT: &str = r#"{"type":"object","required":["data"],"properties":{"data":{"type":"array"}}}"#;
const MODELS_INPUT: &str = r#"{"type":"object","additionalProperties":false}"#;

/// The path of a capability below the endpoint's address.
pub fn path(capability: &str) -> Option<&'static str> {
    OPERATIONS.iter().find(|(name, _)| *name == capability).map(|(_, path)| *path)
}

/// The names a service of this kind may offer.
pub fn names() -> impl Iterator<Item = &'static str> {
    OPERATIONS.iter().map(|(name, _)| *name)
}

/// Whether it is asked with GET, and so without a body.
pub fn reads_only(capability: &str) -> bool {
    capability == "models"
}

pub fn url(base: &str, path: &str) -> String {
    format!("{}/{path}", base.trim_end_matches('/'))
}

fn schema(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.into()).ok()
}

/// Schemas for a capability that was registered without.
pub fn fill_in(capability: &mut Capability) {
    let (input, output) = match capability.name.as_str() {
        "chat" => (CHAT_INPUT, Some(CHAT_OUTPUT)),
        "embed" => (EMBED_INPUT, Some(EMBED_OUTPUT)),
        _ => (MODELS_INPUT, None),
    };
    if capability.input_schema.is_none() {
        capability.input_schema = schema(input);
    }
    if capability.output_schema.is_none() {
        capability.output_schema = output.and_then(schema);
    }
}

/// What such a service offers when it does not say.
pub fn capabilities() -> Vec<Capability> {
    let of = |name: &str, description: &str, durable: bool, timeout_seconds: u64| {
        let mut capability = Capability {
            name: name.into(),
            version: Version::new(1, 0, 0),
            description: description.into(),
            input_schema: None,
            output_schema: None,
            // Asked twice it answers twice and changes nothing.
            idempotent: true,
            durable,
            timeout_seconds,
            permissions: Vec::new(),
            task_support: TaskSupport::Optional,
            tool: None,
        };
        fill_in(&mut capability);
        capability
    };
    vec![
        of("chat", "Answers a conversation (chat completions).", true, 300),
        of("embed", "Turns text into vectors (embeddings).", true, 60),
        of("models", "Lists the models there are.", false, 30),
    ]
}

/// The request's body: the parameters with the model that is used when none is named. Whether it streams is the
/// gateway's to say.
pub fn body(capability: &str, parameters: &str, model: Option<&str>, streams: bool) -> Option<String> {
    let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(parameters).ok()?;
    members.remove("stream");
    if !streams {
        members.remove("stream_options");
    }
    if let Some(model) = model {
        let text = serde_json::to_string(model).ok()?;
        members.entry("model".into()).or_insert(schema(&text)?);
    }
    if capability == "chat" && streams {
        members.insert("stream".into(), schema("true")?);
        members.entry("stream_options".into()).or_insert(schema(r#"{"include_usage":true}"#)?);
    }
    serde_json::to_string(&members).ok()
}

/// The end of a stream.
pub const DONE: &str = "[DONE]";

/// A chat completion that is put together from its chunks.
#[derive(Debug, Default)]
pub struct Chat {
    head: Map<String, Value>,
    choices: BTreeMap<u64, Map<String, Value>>,
    /// An error that came instead of a chunk.
    error: Option<Value>,
}

/// A chunk that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a piece of the answer is no chunk of a chat completion")]
pub struct NoChunk;

impl Chat {
    pub fn push(&mut self, chunk: &str) -> Result<(), NoChunk> {
        let Ok(Value::Object(chunk)) = serde_json::from_str(chunk) else { return Err(NoChunk) };
        for (name, value) in chunk {
            match (name.as_str(), value) {
                ("error", error) if !error.is_null() => self.error = Some(error),
                ("choices", Value::Array(choices)) => {
                    for choice in choices {
                        self.push_choice(choice)?;
                    }
                }
                ("object" | "error" | "choices", _) => {}
                (_, Value::Null) => {}
                (_, value) => {
                    self.head.insert(name, value);
                }
            }
        }
        Ok(())
    }

    fn push_choice(&mut self, choice: Value) -> Result<(), NoChunk> {
        let Value::Object(choice) = choice else { return Err(NoChunk) };
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
        let kept = self.choices.entry(index).or_default();
        for (name, value) in choice {
            match (name.as_str(), value) {
                ("index", _) | (_, Value::Null) => {}
                ("delta", delta) => merge("", kept.entry("message").or_insert(Value::Null), delta),
                (name, value) => merge(name, kept.entry(name).or_insert(Value::Null), value),
            }
        }
        Ok(())
    }

    /// Whether it has come to an end: each choice says why it stopped.
    pub fn is_whole(&self) -> bool {
        self.error.is_some()
            || !self.choices.is_empty() && self.choices.values().all(|choice| choice.contains_key("finish_reason"))
    }

    /// What an endpoint that does not stream would have answered.
    pub fn text(self) -> String {
        if let Some(error) = self.error {
            return Value::Object(Map::from_iter([("error".into(), error)])).to_string();
        }
        let mut whole = self.head;
        whole.insert("object".into(), "chat.completion".into());
        let choices = self.choices.into_iter().map(|(index, mut choice)| {
            choice.insert("index".into(), index.into());
            Value::Object(choice)
        });
        whole.insert("choices".into(), choices.collect());
        Value::Object(whole).to_string()
    }
}

/// In a list that is longer nothing is looked for: it would take too long, and no answer has so many calls of tools.
const MOST_JOINED: usize = 1000;

/// Texts are continued, lists joined by their items' `index`, the rest replaced.
fn merge(name: &str, target: &mut Value, delta: Value) {
    match (target, delta) {
        (_, Value::Null) => {}
        // Said whole, and by some in every chunk.
        (target, delta) if matches!(name, "role" | "type" | "id" | "index" | "finish_reason") => *target = delta,
        (Value::String(text), Value::String(more)) => text.push_str(&more),
        (Value::Object(members), Value::Object(more)) => {
            for (name, value) in more {
                merge(&name, members.entry(name.as_str()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(items), Value::Array(more)) => {
            for item in more {
                let index = item.get("index").filter(|_| items.len() < MOST_JOINED).cloned();
                let same = index.and_then(|index| items.iter_mut().find(|kept| kept.get("index") == Some(&index)));
                match same {
                    Some(kept) => merge("", kept, item),
                    None => items.push(item),
                }
            }
        }
        (target @ Value::Null, Value::Object(more)) => {
            *target = Value::Object(Map::new());
            merge(name, target, Value::Object(more));
        }
        (target @ Value::Null, Value::Array(more)) => {
            *target = Value::Array(Vec::new());
            merge(name, target, Value::Array(more));
        }
        (target, delta) => *target = delta,
    }
}

#[cfg(test)]
#[path = "openai_tests.rs"]
mod tests;
