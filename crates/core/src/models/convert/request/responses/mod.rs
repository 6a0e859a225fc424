//! Responses to Chat Completions, and on to Messages.

mod content;
mod items;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::super::Limits;
use super::super::members::Member::{Converted, Dropped, Only, Same};
use super::super::members::{Faults, Member, set, take, word};
use super::chat_to_messages::{self, Turn};
use super::messages_to_chat::streamed;
use super::{CHAT, MESSAGES, chat_messages};
use crate::base::json::Fault;
use items::Target;

/// The members of a request. All others are refused.
const MEMBERS: [(&str, Member); 26] = [
    ("model", Converted),
    ("input", Converted),
    ("instructions", Converted),
    ("max_output_tokens", Converted),
    ("temperature", Same),
    ("top_p", Same),
    ("stream", Converted),
    ("stream_options", Dropped),
    ("tools", Converted),
    ("tool_choice", Converted),
    ("parallel_tool_calls", Converted),
    ("reasoning", Converted),
    ("text", Converted),
    ("include", Converted),
    // The response shows it again, and nothing else depends on it.
    ("metadata", Dropped),
    // What the client says about itself.
    ("client_metadata", Dropped),
    ("service_tier", Same),
    ("user", Same),
    ("safety_identifier", Same),
    ("prompt_cache_key", Same),
    ("prompt_cache_options", Same),
    ("prompt_cache_retention", Same),
    ("store", Only("false")),
    ("background", Only("false")),
    ("truncation", Only("\"disabled\"")),
    ("top_logprobs", Only("0")),
];

/// Converts a request to Chat Completions.
///
/// # Errors
/// What Chat Completions cannot express.
pub fn to_chat(mut body: Value, model: &str) -> Result<Value, Vec<Fault>> {
    let mut faults = Faults::new(CHAT);
    let turns = items::turns(&mut body, Target::Chat, &mut faults);
    let mut to = members(&mut body, &mut faults);
    let messages = turns.into_iter().map(Turn::into_value).collect();
    to.insert("messages".into(), chat_messages::settled(messages).into());
    to.insert("model".into(), model.into());
    if to.get("stream") == Some(&true.into()) {
        streamed(&mut to);
    }
    if !to.contains_key("tools") {
        for name in ["tool_choice", "parallel_tool_calls"] {
            to.remove(name);
        }
    }
    faults.finish(to.into())
}

/// Converts a request to Messages.
///
/// # Errors
/// What Messages cannot express.
pub fn to_messages(mut body: Value, model: &str, limits: &Limits) -> Result<Value, Vec<Fault>> {
    let mut faults = Faults::new(MESSAGES);
    let turns = items::turns(&mut body, Target::Messages, &mut faults);
    let is_shown = body.pointer("/reasoning/summary").is_some_and(|summary| !summary.is_null());
    let chat = members(&mut body, &mut faults);
    let known = faults.list.len();
    let request = chat_to_messages::convert(chat.into(), turns, model, limits, is_shown, &mut faults);
    for mut fault in faults.list.split_off(known) {
        fault.pointer = original(&fault.pointer);
        if faults.list.iter().all(|known| known.pointer != fault.pointer) {
            faults.list.push(fault);
        }
    }
    faults.finish(request)
}

/// The place in the client's request of what a chat request has at a place.
fn original(pointer: &str) -> String {
    const NAMES: [(&str, &str); 11] = [
        ("#/response_format/json_schema", "#/text/format"),
        ("#/response_format", "#/text/format"),
        ("#/reasoning_effort", "#/reasoning/effort"),
        ("#/verbosity", "#/text/verbosity"),
        ("#/max_completion_tokens", "#/max_output_tokens"),
        ("/tool_calls/0/id", "/call_id"),
        ("/tool_calls/0", ""),
        ("/tool_call_id", "/call_id"),
        ("/function", ""),
        ("/image_url/url", "/image_url"),
        ("/file/file_data", "/file_data"),
    ];
    NAMES.iter().fold(pointer.into(), |pointer: String, (chat, name)| pointer.replace(chat, name))
}

/// All members but the messages, as Chat Completions has them.
fn members(body: &mut Value, faults: &mut Faults) -> Map<String, Value> {
    let mut to = faults.members(body, &MEMBERS);
    for (name, chat) in [
        ("max_output_tokens", "max_completion_tokens"),
        ("stream", "stream"),
        ("parallel_tool_calls", "parallel_tool_calls"),
    ] {
        set(&mut to, chat, take(body, name));
    }
    let tools: Vec<Value> = faults
        .array(take(body, "tools"), "#/tools")
        .into_iter()
        .map(|(pointer, item)| tool(item, &pointer, faults))
        .collect();
    if !tools.is_empty() {
        to.insert("tools".into(), tools.into());
    }
    set(&mut to, "tool_choice", choice(take(body, "tool_choice"), faults));
    let mut reasoning = take(body, "reasoning");
    if !reasoning.is_null() {
        faults.known(&reasoning, "#/reasoning", &["effort", "summary", "generate_summary"]);
        set(&mut to, "reasoning_effort", take(&mut reasoning, "effort"));
    }
    let mut text = take(body, "text");
    if !text.is_null() {
        faults.known(&text, "#/text", &["format", "verbosity"]);
        set(&mut to, "verbosity", take(&mut text, "verbosity"));
        set(&mut to, "response_format", format(take(&mut text, "format"), faults));
    }
    for (pointer, name) in faults.array(take(body, "include"), "#/include") {
        if name != "reasoning.encrypted_content" {
            faults.refuse(pointer);
        }
    }
    to
}

fn tool(mut tool: Value, pointer: &str, faults: &mut Faults) -> Value {
    if tool.is_object() && word(&tool, "type") != "function" {
        faults.refuse(format!("{pointer}/type"));
        return refused_tool();
    }
    let names = ["type", "name", "description", "parameters", "strict", "defer_loading"];
    faults.known(&tool, pointer, &names);
    if tool.get("defer_loading") == Some(&true.into()) {
        faults.refuse(format!("{pointer}/defer_loading"));
    }
    let mut function = Map::new();
    for name in ["name", "description", "parameters", "strict"] {
        set(&mut function, name, take(&mut tool, name));
    }
    json!({"type": "function", "function": function})
}

/// Stands for a tool that was refused, so that it has no second fault.
fn refused_tool() -> Value {
    json!({"type": "function", "function": {"name": ""}})
}

/// A choice of one tool names it at another place.
fn choice(mut choice: Value, faults: &mut Faults) -> Value {
    match word(&choice, "type") {
        "function" => {
            faults.known(&choice, "#/tool_choice", &["type", "name"]);
            json!({"type": "function", "function": {"name": take(&mut choice, "name")}})
        }
        "allowed_tools" => {
            faults.known(&choice, "#/tool_choice", &["type", "mode", "tools"]);
            let tools: Vec<Value> = faults
                .array(take(&mut choice, "tools"), "#/tool_choice/tools")
                .into_iter()
                .map(|(pointer, item)| tool(item, &pointer, faults))
                .collect();
            let mode = take(&mut choice, "mode");
            json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}})
        }
        "" => choice,
        _ => {
            faults.refuse("#/tool_choice/type");
            Value::Null
        }
    }
}

/// A schema stands one level higher in Responses.
fn format(mut format: Value, faults: &mut Faults) -> Value {
    if word(&format, "type") != "json_schema" {
        return format;
    }
    let names = ["name", "description", "schema", "strict"];
    faults.known(&format, "#/text/format", &[&["type"], names.as_slice()].concat());
    let mut definition = Map::new();
    for name in names {
        set(&mut definition, name, take(&mut format, name));
    }
    json!({"type": "json_schema", "json_schema": definition})
}
