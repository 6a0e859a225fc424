//! Where servers of OpenAI's format differ, for requests that the gateway writes itself.

use serde_json::Value;

const COMPLETION_TOKENS: &str = "max_completion_tokens";
/// The name that servers knew first. Many know no other, and then put no bound on their output.
const TOKENS: &str = "max_tokens";

/// Whether a model belongs to a family that refuses `max_tokens`, wherever it is served: `o1`, `o3`, `gpt-5` and later.
fn requires_completion_tokens(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
    let generation: Option<u64> = name.strip_prefix("gpt-").and_then(number);
    generation.is_some_and(|generation| generation >= 5) || name.strip_prefix('o').and_then(number).is_some()
}

/// Whether a host is OpenAI's, or Azure's for its models.
fn is_openais(host: &str) -> bool {
    host.ends_with(".openai.com") || host.ends_with(".azure.com")
}

/// Adapts a chat to the server at `host`. `stream_usage`: whether it may be asked for usage in streams.
pub fn adapt(body: &mut Value, host: &str, model: &str, stream_usage: bool) {
    let Some(members) = body.as_object_mut() else { return };
    if !stream_usage {
        members.remove("stream_options");
    }
    if !is_openais(host)
        && !requires_completion_tokens(model)
        && let Some(bound) = members.remove(COMPLETION_TOKENS)
    {
        members.insert(TOKENS.into(), bound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_bound_of_the_output_has_the_name_that_the_server_knows() {
        for (host, model, name) in [
            ("api.openai.com", "gpt-4o", COMPLETION_TOKENS),
            ("eu.api.openai.com", "gpt-4o", COMPLETION_TOKENS),
            ("x.openai.azure.com", "gpt-4o", COMPLETION_TOKENS),
            ("proxy.example.com", "gpt-5-mini", COMPLETION_TOKENS),
            ("proxy.example.com", "openai/gpt-5", COMPLETION_TOKENS),
            ("proxy.example.com", "gpt-10", COMPLETION_TOKENS),
            ("proxy.example.com", "o3-mini", COMPLETION_TOKENS),
            ("proxy.example.com", "gpt-4o", TOKENS),
            ("proxy.example.com", "gpt-oss-120b", TOKENS),
            ("127.0.0.1", "olmo-2", TOKENS),
            ("notopenai.com", "mistral-large", TOKENS),
        ] {
            let mut body = json!({"max_completion_tokens": 7, "stream_options": {"include_usage": true}});
            adapt(&mut body, host, model, true);
            assert_eq!(body, json!({name: 7, "stream_options": {"include_usage": true}}), "{host} {model}");
        }
    }

    #[test]
    fn a_server_is_asked_for_usage_only_where_it_may_be() {
        let mut body = json!({"stream_options": {"include_usage": true}, "stream": true});
        adapt(&mut body, "127.0.0.1", "m", false);
        assert_eq!(body, json!({"stream": true}));
    }
}
