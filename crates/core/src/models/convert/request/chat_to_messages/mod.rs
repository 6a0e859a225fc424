//! Chat Completions to Messages.

mod content;
#[cfg(test)]
mod tests;
mod tools;
mod turns;

use serde_json::{Map, Value, json};

use super::super::Limits;
use super::super::effort::{self, Conditions};
use super::super::members::Member::{Converted, Dropped, Only, Same};
use super::super::members::{Faults, Member, set, take, word};
use super::MESSAGES;
use crate::base::json::Fault;

pub use content::Sender;
use turns::Conversation;
pub use turns::Turn;

/// `max_tokens` where neither the client nor the model states it. Anthropic requires it.
const DEFAULT_MAX_TOKENS: u64 = 4_096;

/// The members of a request. All others are refused.
const MEMBERS: [(&str, Member); 30] = [
    ("model", Converted),
    ("messages", Converted),
    ("max_tokens", Converted),
    ("max_completion_tokens", Converted),
    ("temperature", Converted),
    ("top_p", Converted),
    ("stop", Converted),
    ("stream", Same),
    ("stream_options", Dropped),
    ("tools", Converted),
    ("tool_choice", Converted),
    ("parallel_tool_calls", Converted),
    ("reasoning_effort", Converted),
    ("response_format", Converted),
    ("service_tier", Converted),
    ("user", Converted),
    ("safety_identifier", Converted),
    ("prompt_cache_key", Dropped),
    ("prompt_cache_options", Dropped),
    ("prompt_cache_retention", Dropped),
    ("frequency_penalty", Only("0")),
    ("presence_penalty", Only("0")),
    ("logit_bias", Only("{}")),
    ("logprobs", Only("false")),
    ("top_logprobs", Only("0")),
    ("metadata", Only("{}")),
    ("modalities", Only("[\"text\"]")),
    ("n", Only("1")),
    ("store", Only("false")),
    ("verbosity", Only("\"medium\"")),
];

/// Converts a request.
///
/// # Errors
/// What Anthropic's format cannot express.
pub fn request(mut body: Value, model: &str, limits: &Limits) -> Result<Value, Vec<Fault>> {
    let mut faults = Faults::new(MESSAGES);
    let messages = faults.array(take(&mut body, "messages"), "#/messages");
    let turns = messages.into_iter().map(|(pointer, value)| Turn::new(pointer, "content", value)).collect();
    let request = convert(body, turns, model, limits, true, &mut faults);
    faults.finish(request)
}

/// Converts the messages and the other members of a request. `is_shown`: the client is shown a summary of the
/// reasoning.
pub fn convert(
    mut body: Value,
    turns: Vec<Turn>,
    model: &str,
    limits: &Limits,
    is_shown: bool,
    faults: &mut Faults,
) -> Value {
    let mut to = faults.members(&body, &MEMBERS);
    let conversation = Conversation::read(turns, faults);
    let stated = ["max_tokens", "max_completion_tokens"].map(|name| faults.whole(&body, name));
    let most = stated.into_iter().flatten().min().or(limits.max_output_tokens).unwrap_or(DEFAULT_MAX_TOKENS);
    to.insert("model".into(), model.into());
    to.insert("max_tokens".into(), most.into());
    sampling(&mut body, &mut to, faults);
    set(&mut to, "output_config", output_config(take(&mut body, "response_format"), faults));
    match take(&mut body, "reasoning_effort") {
        Value::Null => {}
        effort => {
            let lacks_thinking = conversation.lacks_thinking();
            let conditions = Conditions { model, max_tokens: most, is_shown, lacks_thinking };
            if !effort.as_str().is_some_and(|effort| effort::to_thinking(effort, &conditions, &mut to)) {
                faults.refuse("#/reasoning_effort");
            }
        }
    }
    tools::convert(&mut body, &mut to, faults);
    set(&mut to, "service_tier", service_tier(&body, faults));
    let user = [take(&mut body, "safety_identifier"), take(&mut body, "user")].into_iter().find(|user| !user.is_null());
    if let Some(user) = user {
        to.insert("metadata".into(), json!({"user_id": user}));
    }
    conversation.write(&mut to);
    to.into()
}

/// Members that only influence which words are chosen, and where they end.
fn sampling(body: &mut Value, to: &mut Map<String, Value>, faults: &mut Faults) {
    for name in ["temperature", "top_p"] {
        match take(body, name) {
            Value::Null => {}
            value if value.as_f64().is_some_and(|number| (0.0..=1.0).contains(&number)) => {
                to.insert(name.into(), value);
            }
            _ => faults.add(format!("#/{name}"), format!("must be a number from 0 to 1 for {MESSAGES}")),
        }
    }
    match take(body, "stop") {
        Value::Null => {}
        Value::String(text) => drop(to.insert("stop_sequences".into(), json!([text]))),
        stop => {
            let items = faults.array(stop, "#/stop");
            let sequences: Vec<Value> =
                items.into_iter().map(|(pointer, sequence)| faults.string(sequence, pointer)).collect();
            to.insert("stop_sequences".into(), sequences.into());
        }
    }
}

/// Structured output. Anthropic's has no name, and is always strict.
fn output_config(mut format: Value, faults: &mut Faults) -> Value {
    if format.is_null() {
        return Value::Null;
    }
    match word(&format, "type") {
        "text" => Value::Null,
        "json_schema" => {
            faults.known(&format, "#/response_format", &["type", "json_schema"]);
            let mut definition = take(&mut format, "json_schema");
            let pointer = "#/response_format/json_schema";
            faults.known(&definition, pointer, &["name", "description", "schema", "strict"]);
            match take(&mut definition, "schema") {
                Value::Null => {
                    faults.add(format!("{pointer}/schema"), format!("is required by {MESSAGES}"));
                    Value::Null
                }
                schema => json!({"format": {"type": "json_schema", "schema": schema}}),
            }
        }
        _ => {
            faults.refuse("#/response_format/type");
            Value::Null
        }
    }
}

fn service_tier(body: &Value, faults: &mut Faults) -> Value {
    match body.get("service_tier") {
        None | Some(Value::Null) => Value::Null,
        Some(tier) => match tier.as_str() {
            Some("auto") => "auto".into(),
            Some("default") => "standard_only".into(),
            _ => {
                faults.refuse("#/service_tier");
                Value::Null
            }
        },
    }
}
