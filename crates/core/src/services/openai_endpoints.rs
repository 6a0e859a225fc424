//! What endpoints of models offer: their capabilities, and their paths below the version of the API.

use semver::Version;
use serde_json::value::RawValue;

use crate::services::capability::{Capability, TaskSupport};
use crate::services::schema::Formats;

/// The capabilities, with the path of each below the endpoint's address.
const OPERATIONS: [(&str, &str); 6] = [
    ("chat", "chat/completions"),
    ("embed", "embeddings"),
    ("respond", "responses"),
    ("messages", "messages"),
    ("count_tokens", "messages/count_tokens"),
    ("models", "models"),
];
/// Capabilities for model clients, which are no tools of MCP.
const NO_TOOLS: [&str; 3] = ["respond", "messages", "count_tokens"];

const CHAT_INPUT: &str = r#"{"type":"object","required":["messages"],"properties":{"model":{"type":"string"},"messages":{"type":"array","minItems":1,"items":{"type":"object","required":["role"]}}}}"#;
const CHAT_OUTPUT: &str = r#"{"type":"object","required":["choices"],"properties":{"choices":{"type":"array"}}}"#;
const EMBED_INPUT: &str = r#"{"type":"object","required":["input"],"properties":{"model":{"type":"string"},"input":{"type":["string","array"]}}}"#;
const EMBED_OUTPUT: &str = r#"{"type":"object","required":["data"],"properties":{"data":{"type":"array"}}}"#;
const RESPOND_INPUT: &str =
    r#"{"type":"object","properties":{"model":{"type":"string"},"input":{"type":["string","array"]}}}"#;
const RESPOND_OUTPUT: &str = r#"{"type":"object","required":["output"],"properties":{"output":{"type":"array"}}}"#;
const MESSAGES_INPUT: &str = r#"{"type":"object","required":["messages"],"properties":{"model":{"type":"string"},"max_tokens":{"type":"integer"},"messages":{"type":"array","minItems":1,"items":{"type":"object","required":["role"]}}}}"#;
const MESSAGES_OUTPUT: &str = r#"{"type":"object","required":["content"],"properties":{"content":{"type":"array"}}}"#;
const COUNT_OUTPUT: &str =
    r#"{"type":"object","required":["input_tokens"],"properties":{"input_tokens":{"type":"integer"}}}"#;
const MODELS_INPUT: &str = r#"{"type":"object","additionalProperties":false}"#;

/// The path of a capability below the endpoint's address.
pub fn path(capability: &str) -> Option<&'static str> {
    OPERATIONS.iter().find(|(name, _)| *name == capability).map(|(_, path)| *path)
}

/// Whether a capability of such an endpoint is a tool of MCP if its registration does not say.
pub fn is_usually_tool(capability: &str) -> bool {
    !NO_TOOLS.contains(&capability)
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

fn capability(name: &str, description: &str, input: &str, output: Option<&str>, timeout_seconds: u64) -> Capability {
    Capability {
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
        content: None,
        price: None,
    }
}

/// The capabilities of an OpenAI-compatible service that does not list any, and the defaults of those that a
/// registration names.
pub fn capabilities(has_responses: bool) -> Vec<Capability> {
    let mut all = vec![
        capability("chat", "Answers a conversation (chat completions).", CHAT_INPUT, Some(CHAT_OUTPUT), 300),
        capability("embed", "Turns text into vectors (embeddings).", EMBED_INPUT, Some(EMBED_OUTPUT), 60),
        capability("models", "Lists the available models.", MODELS_INPUT, None, 30),
    ];
    if has_responses {
        all.push(capability("respond", "Responds (Responses API).", RESPOND_INPUT, Some(RESPOND_OUTPUT), 300));
    }
    all
}

/// As [`capabilities`], of a service with Anthropic's API.
pub fn anthropic_capabilities() -> Vec<Capability> {
    vec![
        capability("messages", "Answers a conversation (Messages API).", MESSAGES_INPUT, Some(MESSAGES_OUTPUT), 300),
        capability("count_tokens", "Counts the tokens of a request.", MESSAGES_INPUT, Some(COUNT_OUTPUT), 30),
        capability("models", "Lists the available models.", MODELS_INPUT, None, 30),
    ]
}
