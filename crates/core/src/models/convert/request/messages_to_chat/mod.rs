//! Messages to Chat Completions.

mod content;
#[cfg(test)]
mod tests;
mod tools;
mod turns;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::super::effort;
use super::super::members::Member::{Converted, Dropped, Only, Same};
use super::super::members::{Faults, Member, set, take, word};
use super::{CHAT, chat_messages};
use crate::base::json::Fault;

/// The members of a request. All others are refused.
const MEMBERS: [(&str, Member); 18] = [
    ("model", Converted),
    ("messages", Converted),
    ("system", Converted),
    ("max_tokens", Converted),
    ("temperature", Same),
    ("top_p", Same),
    ("stop_sequences", Converted),
    ("stream", Converted),
    ("tools", Converted),
    ("tool_choice", Converted),
    ("thinking", Converted),
    ("output_config", Converted),
    ("output_format", Converted),
    ("service_tier", Converted),
    ("metadata", Converted),
    ("context_management", Converted),
    ("cache_control", Dropped),
    ("speed", Only("\"standard\"")),
];

/// The most stop sequences that OpenAI takes.
const MAX_STOPS: usize = 4;
/// The longest `user` that OpenAI takes, in bytes.
const MAX_USER: usize = 64;

/// Converts a request.
///
/// # Errors
/// What Chat Completions cannot express.
pub fn request(mut body: Value, model: &str) -> Result<Value, Vec<Fault>> {
    let mut faults = Faults::new(CHAT);
    let mut to = faults.members(&body, &MEMBERS);
    to.insert("model".into(), model.into());
    let mut messages = turns::system(take(&mut body, "system"), &mut faults);
    messages.append(&mut turns::messages(take(&mut body, "messages"), &mut faults));
    to.insert("messages".into(), chat_messages::settled(messages).into());
    set(&mut to, "max_completion_tokens", take(&mut body, "max_tokens"));
    stops(take(&mut body, "stop_sequences"), &mut to, &mut faults);
    match take(&mut body, "stream") {
        Value::Bool(true) => streamed(&mut to),
        stream => set(&mut to, "stream", stream),
    }
    tools::convert(&mut body, &mut to, &mut faults);
    reasoning(&mut body, &mut to, &mut faults);
    match word(&body, "service_tier") {
        _ if body.get("service_tier").is_none_or(Value::is_null) => {}
        "auto" => drop(to.insert("service_tier".into(), "auto".into())),
        "standard_only" => drop(to.insert("service_tier".into(), "default".into())),
        _ => faults.refuse("#/service_tier"),
    }
    let mut metadata = take(&mut body, "metadata");
    if !metadata.is_null() {
        faults.known(&metadata, "#/metadata", &["user_id"]);
        set(&mut to, "user", user(take(&mut metadata, "user_id")));
    }
    if body.get("context_management").is_some_and(|management| !only_clears_thinking(management)) {
        faults.refuse("#/context_management");
    }
    faults.finish(to.into())
}

/// Asks for a stream that reports its usage.
pub fn streamed(to: &mut Map<String, Value>) {
    to.insert("stream".into(), true.into());
    to.insert("stream_options".into(), json!({"include_usage": true}));
}

/// Edits that clear thinking change nothing: the thinking of earlier turns is not sent.
fn only_clears_thinking(management: &Value) -> bool {
    let edits = management.get("edits").and_then(Value::as_array);
    let is_alone = management.as_object().is_none_or(|members| members.keys().all(|name| name == "edits"));
    management.is_null()
        || is_alone
            && edits.is_some_and(|edits| edits.iter().all(|edit| word(edit, "type").starts_with("clear_thinking_")))
}

fn stops(sequences: Value, to: &mut Map<String, Value>, faults: &mut Faults) {
    let sequences: Vec<Value> = faults
        .array(sequences, "#/stop_sequences")
        .into_iter()
        .map(|(pointer, sequence)| faults.string(sequence, pointer))
        .collect();
    match sequences.len() {
        0 => {}
        1..=MAX_STOPS => drop(to.insert("stop".into(), sequences.into())),
        _ => faults.add("#/stop_sequences", format!("must have at most {MAX_STOPS} items for {CHAT}")),
    }
}

/// `thinking` and `output_config`. Thinking that is adaptive or disabled is left to the model's default.
fn reasoning(body: &mut Value, to: &mut Map<String, Value>, faults: &mut Faults) {
    let thinking = take(body, "thinking");
    let mut config = take(body, "output_config");
    if !thinking.is_null() {
        faults.known(&thinking, "#/thinking", &["type", "budget_tokens", "display"]);
        match word(&thinking, "type") {
            "adaptive" | "disabled" => {}
            "enabled" => match thinking.get("budget_tokens").and_then(Value::as_u64) {
                Some(budget) => drop(to.insert("reasoning_effort".into(), effort::of_budget(budget).into())),
                None => faults.add("#/thinking/budget_tokens", "must be a whole number"),
            },
            _ => faults.refuse("#/thinking/type"),
        }
    }
    let mut formats = vec![("#/output_format", take(body, "output_format"))];
    if !config.is_null() {
        faults.known(&config, "#/output_config", &["effort", "format"]);
        // The efforts have the same names in both formats.
        set(to, "reasoning_effort", take(&mut config, "effort"));
        formats.push(("#/output_config/format", take(&mut config, "format")));
    }
    for (pointer, mut format) in formats.into_iter().filter(|(_, format)| !format.is_null()) {
        faults.known(&format, pointer, &["type", "schema"]);
        if word(&format, "type") != "json_schema" {
            faults.refuse(format!("{pointer}/type"));
            continue;
        }
        let definition = json!({"name": "response", "schema": take(&mut format, "schema"), "strict": true});
        to.insert("response_format".into(), json!({"type": "json_schema", "json_schema": definition}));
    }
}

/// The id of a user. A longer one than OpenAI takes is replaced by its SHA-256: that names the same user.
fn user(id: Value) -> Value {
    match id {
        Value::String(id) if id.len() > MAX_USER => {
            Sha256::digest(id.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
        }
        id => id,
    }
}
