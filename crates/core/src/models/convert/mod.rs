//! Requests and responses of models between formats: a client's Chat Completions, Responses or Messages, a provider's
//! Chat Completions or Messages.
//!
//! What the provider's format cannot express is refused, each with its place: members that are not in the tables of
//! `request`, parts and blocks of other kinds, hosted tools. Nothing else is dropped but what "Lossy" lists.
//!
//! Strings are opaque: they are moved, joined and prefixed. These are read: the beginning of data URLs, ids, names,
//! `user_id`, and the arguments of calls, which are the text of a JSON object in OpenAI's formats.
//!
//! # Reasons to stop
//!
//! | Messages | Chat Completions | Responses |
//! |---|---|---|
//! | `end_turn`, `stop_sequence`, `pause_turn` | `stop` | `completed` |
//! | `max_tokens`, `model_context_window_exceeded` | `length` | `incomplete`: `max_output_tokens` |
//! | `tool_use` | `tool_calls` | `completed` |
//! | `refusal` | `content_filter` | `incomplete`: `content_filter` |
//!
//! From Chat Completions, `stop` is `end_turn`, or `tool_use` where tools were called, or `refusal` where the model
//! refused. `function_call` is `tool_use`.
//!
//! How much a model reasons is converted by the table of `effort`.
//!
//! # Lossy
//!
//! To Messages:
//! * System and developer messages go to the beginning, wherever they stand.
//! * An assistant message at the end is continued, not answered.
//! * A refusal of an earlier turn becomes text. The reasoning of earlier turns is dropped, but for that which Responses
//!   got from Anthropic and gives back as `encrypted_content`.
//! * A budget for thinking is left out while the results of tools come without the thinking before their calls, and
//!   where `max_tokens` leaves no room for it.
//! * Empty texts, `detail` of pictures, `annotations`, the `name` of tool messages, hints for caches
//!   (`prompt_cache_*`), `stream_options.include_obfuscation`, and `user` where `safety_identifier` is set.
//! * The name and the description of an output's schema, and its `strict`: Anthropic's are always strict.
//! * In the ids of calls, characters other than letters, digits, `_` and `-` become `_`.
//!
//! To Chat Completions:
//! * Marks for caches (`cache_control`), `eager_input_streaming`, citations of earlier turns, `display` of thinking.
//! * Thinking and reasoning of earlier turns, and edits of the context that clear it.
//! * The block of a system prompt that begins `x-anthropic-billing-header`: it is for Anthropic.
//! * Thinking that is `adaptive` without an effort, or `disabled`: the model's default applies.
//! * `is_error` of a tool's result: its content says so.
//! * Pictures and documents in a tool's result go to the user message behind the results.
//! * The order of text and calls within a turn.
//! * A `user_id` of more than 64 bytes becomes its SHA-256, in hex.
//!
//! From Responses, also: ids, statuses and phases of items, `reasoning.summary` to Chat Completions, `detail` of files,
//! `"detail": "original"` (becomes `high`), and that tools are strict by default.
//!
//! To clients of OpenAI's formats:
//! * Which stop sequence ended a message, citations, signatures (but see above), the order of text and calls (Chat).
//! * How long cache writes live.
//!
//! To clients of Messages: annotations, `logprobs`, `system_fingerprint`, all choices but the first. Thinking comes
//! without a signature. A stop sequence is reported as `end_turn`. In a stream, the input's usage comes at the end.
//! Arguments of a call that are no JSON object, as those of a call that was cut off, come as `{"arguments": "…"}`.

mod echo;
mod effort;
mod members;
mod reply;
mod request;
mod sealed;
mod tokens;

use serde_json::Value;

use super::endpoint::Endpoint;
use crate::base::json::Fault;

pub use echo::Echo;
pub use reply::{StreamConverter, error, response};

/// What is known of the model that a request goes to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    pub max_output_tokens: Option<u64>,
}

/// Converts a request in the format of `from` for a provider's `to`. `model` is the provider's name of the model.
///
/// # Errors
/// All that the provider's format cannot express, by its place.
pub fn request(from: Endpoint, to: Endpoint, body: Value, model: &str, limits: &Limits) -> Result<Value, Vec<Fault>> {
    match (from, to) {
        (Endpoint::Chat, Endpoint::Messages) => request::chat_to_messages(body, model, limits),
        (Endpoint::Messages, Endpoint::Chat) => request::messages_to_chat(body, model),
        (Endpoint::Responses, Endpoint::Chat) => request::responses_to_chat(body, model),
        (Endpoint::Responses, Endpoint::Messages) => request::responses_to_messages(body, model, limits),
        _ => Err(vec![Fault::new("#", format!("cannot be converted from {from:?} to {to:?}"))]),
    }
}
