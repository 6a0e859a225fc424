//! What an OpenAI-compatible endpoint offers, how it is asked, and how an answer that comes in pieces is put together.

mod calls;
pub mod completion;
pub mod fault;
mod node;
pub mod stream;
mod surrogates;

use std::collections::BTreeMap;

use semver::Version;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::core::capability::{Capability, TaskSupport};
use crate::core::schema::Formats;

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

/// What such a service offers when it does not say, and what each has when a registration names it and says no more.
pub fn capabilities() -> Vec<Capability> {
    let of = |name: &str, description: &str, input: &str, output: Option<&str>, timeout_seconds: u64| Capability {
        name: name.into(),
        version: Version::new(1, 0, 0),
        description: description.into(),
        input_schema: schema(input),
        output_schema: output.and_then(schema),
        format: Formats::Annotate,
        // Asked twice it answers twice and changes nothing.
        idempotent: true,
        durable: !reads_only(name),
        timeout_seconds,
        permissions: Vec::new(),
        task_support: TaskSupport::Optional,
        tool: None,
    };
    vec![
        of("chat", "Answers a conversation (chat completions).", CHAT_INPUT, Some(CHAT_OUTPUT), 300),
        of("embed", "Turns text into vectors (embeddings).", EMBED_INPUT, Some(EMBED_OUTPUT), 60),
        of("models", "Lists the models there are.", MODELS_INPUT, None, 30),
    ]
}

/// How an endpoint is asked for a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// In pieces, with the usage at their end.
    Stream,
    /// In pieces. Some endpoints refuse `stream_options`.
    StreamAlone,
    Whole,
}

impl Asks {
    /// How to ask instead, after an answer that refuses to stream. Nothing: that is not what it refuses.
    pub fn after_refusal(self, status: u16, body: &[u8], parameters: &str) -> Option<Self> {
        if self == Asks::Whole || !matches!(status, 400 | 404 | 405 | 415 | 422 | 501) {
            return None;
        }
        let text = String::from_utf8_lossy(body.get(..REFUSAL_BYTES).unwrap_or(body)).to_ascii_lowercase();
        if self == Asks::Stream && text.contains("stream_options") {
            // What the caller wants of the stream is the caller's to change.
            return (!members(parameters)?.contains_key("stream_options")).then_some(Asks::StreamAlone);
        }
        mentions_streams(&text).then_some(Asks::Whole)
    }
}

/// As much of a refusal is looked at.
const REFUSAL_BYTES: usize = 8 * 1024;

/// Whether a text has a word that begins with "stream", as "upstream" does not.
fn mentions_streams(text: &str) -> bool {
    text.match_indices("stream").any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(char::is_alphanumeric)
    })
}

fn members(parameters: &str) -> Option<BTreeMap<String, Box<RawValue>>> {
    serde_json::from_str(parameters).ok()
}

/// The model that parameters name.
pub fn model_of(parameters: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        model: Option<String>,
    }
    serde_json::from_str::<Named>(parameters).ok()?.model
}

/// The request's body: the parameters with the model that is used when none is named. Whether it streams is the
/// gateway's to say.
pub fn body(capability: &str, parameters: &str, model: Option<&str>, asks: Asks) -> Option<String> {
    let mut members = members(parameters)?;
    members.remove("stream");
    if asks == Asks::Whole {
        members.remove("stream_options");
    }
    if let Some(model) = model {
        let text = serde_json::to_string(model).ok()?;
        members.entry("model".into()).or_insert(schema(&text)?);
    }
    if capability == "chat" && asks != Asks::Whole {
        members.insert("stream".into(), schema("true")?);
        if asks == Asks::Stream {
            members.entry("stream_options".into()).or_insert(schema(r#"{"include_usage":true}"#)?);
        }
    }
    serde_json::to_string(&members).ok()
}

#[cfg(test)]
mod tests;
