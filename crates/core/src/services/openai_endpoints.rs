//! What an OpenAI-compatible endpoint offers: its capabilities, and their paths below its address.

use semver::Version;
use serde_json::value::RawValue;

use crate::services::capability::{Capability, TaskSupport};
use crate::services::schema::Formats;

/// The capabilities, with the path of each below the endpoint's address.
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

/// The capability names that a service of this kind may offer.
pub fn names() -> impl Iterator<Item = &'static str> {
    OPERATIONS.iter().map(|(name, _)| *name)
}

/// Whether the capability is called by GET, and so without a body.
pub fn reads_only(capability: &str) -> bool {
    capability == "models"
}

/// The URL of a path below the endpoint's address.
pub fn url(base: &str, path: &str) -> String {
    format!("{}/{path}", base.trim_end_matches('/'))
}

fn schema(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.into()).ok()
}

/// The capabilities of a service that does not list any, and the defaults of those that a registration names.
pub fn capabilities() -> Vec<Capability> {
    let of = |name: &str, description: &str, input: &str, output: Option<&str>, timeout_seconds: u64| Capability {
        name: name.into(),
        version: Version::new(1, 0, 0),
        description: description.into(),
        input_schema: schema(input),
        output_schema: output.and_then(schema),
        format: Formats::Annotate,
        // A repeated call gets another response and changes nothing.
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
        of("models", "Lists the available models.", MODELS_INPUT, None, 30),
    ]
}
