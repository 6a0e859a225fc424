//! What of a client's request its response needs.

use serde_json::{Map, Value, json};

use super::super::endpoint::Endpoint;

/// What of a client's request its response needs.
#[derive(Debug, Clone, Default)]
pub struct Echo {
    /// Chat: the stream ends with the usage.
    pub(super) includes_usage: bool,
    /// Responses: reasoning comes in a form that the next request gives back.
    pub(super) includes_reasoning: bool,
    /// Responses: the members that it shows again.
    pub(super) members: Map<String, Value>,
}

/// The members that a response of the Responses API shows again, with their defaults (JSON).
const SHOWN: [(&str, &str); 20] = [
    ("background", "false"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("prompt_cache_key", "null"),
    ("prompt_cache_retention", "null"),
    ("reasoning", r#"{"effort": null, "summary": null}"#),
    ("safety_identifier", "null"),
    ("service_tier", "\"default\""),
    ("store", "false"),
    ("temperature", "1.0"),
    ("text", r#"{"format": {"type": "text"}}"#),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("top_p", "1.0"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
];

impl Echo {
    /// `from`: the client's format.
    pub fn of(from: Endpoint, body: &Value) -> Self {
        let is_true = |pointer| body.pointer(pointer) == Some(&Value::Bool(true));
        match from {
            Endpoint::Chat => Self { includes_usage: is_true("/stream_options/include_usage"), ..Self::default() },
            Endpoint::Responses => {
                let include = body.get("include").and_then(Value::as_array);
                let includes_reasoning =
                    include.is_some_and(|names| names.contains(&json!("reasoning.encrypted_content")));
                Self { includes_reasoning, members: shown(body), ..Self::default() }
            }
            Endpoint::Embeddings | Endpoint::Messages | Endpoint::CountTokens => Self::default(),
        }
    }
}

fn shown(body: &Value) -> Map<String, Value> {
    let member = |(name, default): &(&str, &str)| {
        let stated = body.get(*name).filter(|value| !value.is_null()).cloned();
        let value = stated.unwrap_or_else(|| serde_json::from_str(default).unwrap_or_default());
        ((*name).to_owned(), value)
    };
    let mut members: Map<String, Value> = SHOWN.iter().map(member).collect();
    // Only what is set is shown of the details.
    if let Some(Value::Object(text)) = members.get_mut("text")
        && !text.contains_key("format")
    {
        text.insert("format".into(), json!({"type": "text"}));
    }
    members
}
