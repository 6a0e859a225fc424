//! The tokens of a call, as the formats report them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::endpoint::Format;

/// The tokens of a call, in one meaning whatever the format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(default)]
pub struct TokenUsage {
    /// All of the input.
    pub input_tokens: u64,
    /// The part of the input that was read from the provider's cache.
    pub cached_input_tokens: u64,
    /// The part of the input that was written to the provider's cache.
    pub cache_write_tokens: u64,
    /// All of the output.
    pub output_tokens: u64,
    /// The part of the output that is reasoning.
    pub reasoning_tokens: u64,
    /// Whether the provider did not report it, or not all of it.
    pub estimated: bool,
}

impl TokenUsage {
    /// Parts are no more than the whole.
    pub(super) fn consistent(self) -> Self {
        let cached = self.cached_input_tokens.min(self.input_tokens);
        Self {
            cached_input_tokens: cached,
            cache_write_tokens: self.cache_write_tokens.min(self.input_tokens - cached),
            reasoning_tokens: self.reasoning_tokens.min(self.output_tokens),
            ..self
        }
    }

    /// Adds the tokens of another call. A sum is estimated if a part of it is.
    pub fn add(&mut self, other: &Self) {
        let Self { input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, estimated } =
            self;
        for (to, from) in [
            (input_tokens, other.input_tokens),
            (cached_input_tokens, other.cached_input_tokens),
            (cache_write_tokens, other.cache_write_tokens),
            (output_tokens, other.output_tokens),
            (reasoning_tokens, other.reasoning_tokens),
        ] {
            *to = to.saturating_add(from);
        }
        *estimated |= other.estimated;
    }
}

/// What a call used, with what only its price needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    pub tokens: TokenUsage,
    /// The part of `cache_write_tokens` that is kept for an hour.
    pub long_cache_writes: u64,
    /// Searches of the web that the provider made.
    pub web_searches: u64,
}

impl Used {
    /// Reads the `usage` object of a response, or of a part of a stream; `None` if it reports no tokens.
    pub fn read(format: Format, usage: &Value) -> Option<Self> {
        let count = |pointer: &str| usage.pointer(pointer).and_then(whole);
        let used = match format {
            Format::OpenAi => {
                let input = count("/prompt_tokens").or_else(|| count("/input_tokens"));
                let output = count("/completion_tokens").or_else(|| count("/output_tokens"));
                input.or(output)?;
                let cached = count("/prompt_tokens_details/cached_tokens")
                    .or_else(|| count("/input_tokens_details/cached_tokens"))
                    .or_else(|| count("/prompt_cache_hit_tokens"));
                let reasoning = count("/completion_tokens_details/reasoning_tokens")
                    .or_else(|| count("/output_tokens_details/reasoning_tokens"));
                Self {
                    tokens: TokenUsage {
                        input_tokens: input.unwrap_or_default(),
                        cached_input_tokens: cached.unwrap_or_default(),
                        output_tokens: output.unwrap_or_default(),
                        reasoning_tokens: reasoning.unwrap_or_default(),
                        ..TokenUsage::default()
                    },
                    ..Self::default()
                }
            }
            Format::Anthropic => {
                let (input, output) = (count("/input_tokens"), count("/output_tokens"));
                input.or(output)?;
                let cached = count("/cache_read_input_tokens").unwrap_or_default();
                let written = count("/cache_creation_input_tokens").unwrap_or_default();
                Self {
                    tokens: TokenUsage {
                        input_tokens: input.unwrap_or_default().saturating_add(cached).saturating_add(written),
                        cached_input_tokens: cached,
                        cache_write_tokens: written,
                        output_tokens: output.unwrap_or_default(),
                        ..TokenUsage::default()
                    },
                    long_cache_writes: count("/cache_creation/ephemeral_1h_input_tokens").unwrap_or_default(),
                    web_searches: count("/server_tool_use/web_search_requests").unwrap_or_default(),
                }
            }
        };
        Some(used.consistent())
    }

    /// Parts are no more than the whole.
    fn consistent(self) -> Self {
        let tokens = self.tokens.consistent();
        Self { tokens, long_cache_writes: self.long_cache_writes.min(tokens.cache_write_tokens), ..self }
    }

    /// With what a later part of a stream reports: its counts are totals, and those that it omits stay.
    pub fn updated(self, format: Format, usage: &Value) -> Self {
        let Some(later) = Self::read(format, usage) else { return self };
        if format == Format::OpenAi {
            return later;
        }
        let count = |pointer: &str, known| usage.pointer(pointer).and_then(whole).unwrap_or(known);
        let known = self.tokens;
        let plain = known.input_tokens.saturating_sub(known.cached_input_tokens + known.cache_write_tokens);
        let cached = count("/cache_read_input_tokens", known.cached_input_tokens);
        let written = count("/cache_creation_input_tokens", known.cache_write_tokens);
        let updated = Self {
            tokens: TokenUsage {
                input_tokens: count("/input_tokens", plain).saturating_add(cached).saturating_add(written),
                cached_input_tokens: cached,
                cache_write_tokens: written,
                output_tokens: count("/output_tokens", known.output_tokens),
                ..later.tokens
            },
            long_cache_writes: count("/cache_creation/ephemeral_1h_input_tokens", self.long_cache_writes),
            web_searches: later.web_searches.max(self.web_searches),
        };
        updated.consistent()
    }

    /// What a call used whose provider does not report it. Embeddings have no output of tokens.
    pub fn estimated(is_embedding: bool, request_bytes: u64, response_bytes: u64) -> Self {
        let output_tokens = if is_embedding { 0 } else { estimate(response_bytes) };
        let tokens = TokenUsage {
            input_tokens: estimate(request_bytes),
            output_tokens,
            estimated: true,
            ..TokenUsage::default()
        };
        Self { tokens, ..Self::default() }
    }
}

/// A count, which some servers write as a double.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|number| *number >= 0.0).map(|number| number as u64))
}

/// About how many tokens so many bytes of text are.
pub fn estimate(bytes: u64) -> u64 {
    bytes.div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn usage_has_one_meaning_in_all_formats() {
        let expected = TokenUsage {
            input_tokens: 100,
            cached_input_tokens: 60,
            output_tokens: 20,
            reasoning_tokens: 5,
            ..TokenUsage::default()
        };
        for usage in [
            json!({"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 60},
                   "completion_tokens_details": {"reasoning_tokens": 5}}),
            json!({"input_tokens": 100, "output_tokens": 20.0, "input_tokens_details": {"cached_tokens": 60},
                   "output_tokens_details": {"reasoning_tokens": 5}}),
        ] {
            assert_eq!(Used::read(Format::OpenAi, &usage).unwrap().tokens, expected);
        }
        let usage = json!({"input_tokens": 10, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 30,
                           "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
                           "output_tokens": 7, "server_tool_use": {"web_search_requests": 2}});
        let used = Used::read(Format::Anthropic, &usage).unwrap();
        assert_eq!((used.tokens.input_tokens, used.tokens.cached_input_tokens), (100, 60));
        assert_eq!((used.tokens.cache_write_tokens, used.long_cache_writes, used.web_searches), (30, 20, 2));
        assert_eq!(Used::read(Format::OpenAi, &json!({"total": 1})), None);
        assert_eq!(Used::read(Format::OpenAi, &json!(null)), None);
    }

    #[test]
    fn parts_are_no_more_than_the_whole() {
        let usage = json!({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9},
                           "completion_tokens_details": {"reasoning_tokens": 8}});
        let tokens = Used::read(Format::OpenAi, &usage).unwrap().tokens;
        assert_eq!((tokens.cached_input_tokens, tokens.reasoning_tokens), (5, 1));
    }

    #[test]
    fn later_parts_of_a_stream_update_the_first() {
        let first = json!({"input_tokens": 10, "cache_creation_input_tokens": 4, "output_tokens": 1,
                           "cache_creation": {"ephemeral_1h_input_tokens": 4}});
        let start = Used::read(Format::Anthropic, &first).unwrap();
        let end = start.updated(Format::Anthropic, &json!({"output_tokens": 50}));
        assert_eq!((end.tokens.input_tokens, end.tokens.output_tokens, end.long_cache_writes), (14, 50, 4));
        let all = json!({"input_tokens": 10, "cache_creation_input_tokens": 4, "output_tokens": 50});
        assert_eq!(start.updated(Format::Anthropic, &all).long_cache_writes, 4);
        assert_eq!(start.updated(Format::Anthropic, &json!({})), start);
    }

    #[test]
    fn counts_of_the_cache_that_a_later_part_omits_stay() {
        let first = json!({"input_tokens": 10, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 30,
                           "cache_creation": {"ephemeral_1h_input_tokens": 20}, "output_tokens": 1});
        let start = Used::read(Format::Anthropic, &first).unwrap();
        let counts = |usage: Value| {
            let Used { tokens, long_cache_writes, .. } = start.updated(Format::Anthropic, &usage);
            (tokens.input_tokens, tokens.cached_input_tokens, tokens.cache_write_tokens, long_cache_writes)
        };
        assert_eq!(counts(json!({"input_tokens": 12, "output_tokens": 5})), (102, 60, 30, 20));
        let nulls = json!({"input_tokens": 12, "cache_read_input_tokens": null, "cache_creation": null});
        assert_eq!(counts(nulls), (102, 60, 30, 20));
        assert_eq!(counts(json!({"output_tokens": 5, "cache_read_input_tokens": 0})), (40, 0, 30, 20));
        let less = json!({"input_tokens": 10, "cache_creation_input_tokens": 5});
        assert_eq!(counts(less), (75, 60, 5, 5));
    }

    #[test]
    fn what_is_not_reported_is_estimated_from_bytes() {
        let tokens = Used::estimated(false, 401, 80).tokens;
        assert_eq!((tokens.input_tokens, tokens.output_tokens, tokens.estimated), (101, 20, true));
        assert_eq!(Used::estimated(true, 401, 80_000).tokens.output_tokens, 0);
    }
}
