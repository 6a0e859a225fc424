//! The usage of a response, as each format writes it.
//!
//! OpenAI counts cached tokens as part of the input, Anthropic beside it.

use serde_json::{Value, json};

use super::super::endpoint::Format;
use super::super::token_usage::{TokenUsage, Used};

/// Reads a `usage` object.
pub fn read(format: Format, usage: &Value) -> Option<TokenUsage> {
    let mut tokens = Used::read(format, usage)?.tokens;
    let count = |pointer| usage.pointer(pointer).and_then(Value::as_u64);
    match format {
        Format::OpenAi => {
            let written = count("/prompt_tokens_details/cache_write_tokens").unwrap_or_default();
            tokens.cache_write_tokens = written.min(tokens.input_tokens - tokens.cached_input_tokens);
        }
        Format::Anthropic => {
            let thinking = count("/output_tokens_details/thinking_tokens").unwrap_or_default();
            tokens.reasoning_tokens = thinking.min(tokens.output_tokens);
        }
    }
    Some(tokens)
}

/// With what a later event of Anthropic's reports: its counts are totals, and those that it omits stay.
pub fn updated(known: Option<TokenUsage>, usage: &Value) -> Option<TokenUsage> {
    let Some(later) = read(Format::Anthropic, usage) else { return known };
    let used = Used { tokens: known.unwrap_or_default(), ..Used::default() };
    let tokens = used.updated(Format::Anthropic, usage).tokens;
    Some(TokenUsage { reasoning_tokens: later.reasoning_tokens, ..tokens })
}

pub fn chat(tokens: &TokenUsage) -> Value {
    json!({
        "prompt_tokens": tokens.input_tokens,
        "completion_tokens": tokens.output_tokens,
        "total_tokens": tokens.input_tokens.saturating_add(tokens.output_tokens),
        "prompt_tokens_details": {
            "cached_tokens": tokens.cached_input_tokens,
            "cache_write_tokens": tokens.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning_tokens},
    })
}

pub fn responses(tokens: &TokenUsage) -> Value {
    json!({
        "input_tokens": tokens.input_tokens,
        "input_tokens_details": {
            "cached_tokens": tokens.cached_input_tokens,
            "cache_write_tokens": tokens.cache_write_tokens,
        },
        "output_tokens": tokens.output_tokens,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning_tokens},
        "total_tokens": tokens.input_tokens.saturating_add(tokens.output_tokens),
    })
}

pub fn messages(tokens: &TokenUsage) -> Value {
    let cached = tokens.cached_input_tokens.saturating_add(tokens.cache_write_tokens);
    json!({
        "input_tokens": tokens.input_tokens.saturating_sub(cached),
        "cache_creation_input_tokens": tokens.cache_write_tokens,
        "cache_read_input_tokens": tokens.cached_input_tokens,
        "output_tokens": tokens.output_tokens,
        "output_tokens_details": {"thinking_tokens": tokens.reasoning_tokens},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_tokens_are_beside_the_input_at_anthropic_and_part_of_it_at_openai() {
        let anthropic = json!({"input_tokens": 10, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 60,
                               "output_tokens": 20, "output_tokens_details": {"thinking_tokens": 5}});
        let openai = json!({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
                            "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
                            "completion_tokens_details": {"reasoning_tokens": 5}});
        let tokens = read(Format::Anthropic, &anthropic).unwrap();
        assert_eq!(read(Format::OpenAi, &openai), Some(tokens));
        assert_eq!(chat(&tokens), openai);
        assert_eq!(messages(&tokens), anthropic);
        assert_eq!(
            responses(&tokens),
            json!({"input_tokens": 100, "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
                   "output_tokens": 20, "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 120})
        );
    }

    #[test]
    fn the_end_of_a_stream_updates_its_beginning() {
        let start =
            read(Format::Anthropic, &json!({"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1}));
        let end =
            updated(start, &json!({"output_tokens": 40, "output_tokens_details": {"thinking_tokens": 7}})).unwrap();
        assert_eq!((end.input_tokens, end.cached_input_tokens, end.output_tokens), (15, 5, 40));
        assert_eq!(end.reasoning_tokens, 7);
        assert_eq!(updated(start, &json!({})), start);
    }
}
