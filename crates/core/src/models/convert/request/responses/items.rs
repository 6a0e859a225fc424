//! The items of an input, as chat messages.

use serde_json::{Map, Value, json};

use super::super::super::members::{Faults, take, word};
use super::super::super::sealed;
use super::super::chat_to_messages::{Sender, Turn};
use super::content::content;

/// The provider's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Chat,
    Messages,
}

/// The instructions and the input, each item a message of its own.
pub fn turns(body: &mut Value, target: Target, faults: &mut Faults) -> Vec<Turn> {
    let mut turns = Vec::new();
    let instructions = take(body, "instructions");
    if !instructions.is_null() {
        let text = faults.string(instructions, "#/instructions");
        turns.push(Turn::new("#/instructions".into(), "", json!({"role": "system", "content": text})));
    }
    match take(body, "input") {
        text @ Value::String(_) => {
            turns.push(Turn::new("#/input".into(), "", json!({"role": "user", "content": text})));
        }
        input => {
            for (pointer, item) in faults.array(input, "#/input") {
                turns.extend(turn(item, pointer, target, faults));
            }
        }
    }
    turns
}

fn turn(item: Value, pointer: String, target: Target, faults: &mut Faults) -> Option<Turn> {
    if !item.is_object() {
        faults.add(pointer, "must be an object");
        return None;
    }
    match word(&item, "type") {
        "message" | "" => message(item, pointer, faults),
        "function_call" => {
            let call = call(item, &pointer, faults);
            Some(Turn::new(pointer, "content", call))
        }
        "function_call_output" => {
            let output = output(item, &pointer, faults);
            Some(Turn::new(pointer, "output", output))
        }
        "reasoning" => {
            let block = reasoning(item, &pointer, faults).filter(|_| target == Target::Messages)?;
            Some(Turn::new(pointer, "content", json!({"role": "assistant", "content": [block]})))
        }
        "item_reference" => {
            let detail = "is item_reference, and the gateway keeps no responses: send the item itself, as clients do \
                          with store: false";
            faults.add(format!("{pointer}/type"), detail);
            None
        }
        _ => {
            faults.refuse(format!("{pointer}/type"));
            None
        }
    }
}

fn message(mut item: Value, pointer: String, faults: &mut Faults) -> Option<Turn> {
    faults.known(&item, &pointer, &["type", "role", "content", "id", "status", "phase"]);
    let (role, sender) = match word(&item, "role") {
        "user" => ("user", Sender::User),
        "assistant" => ("assistant", Sender::Assistant),
        // Not every provider knows developers. OpenAI reads a system message as one of theirs.
        "system" | "developer" => ("system", Sender::System),
        _ => {
            faults.refuse(format!("{pointer}/role"));
            return None;
        }
    };
    let content = content(take(&mut item, "content"), &format!("{pointer}/content"), sender, faults);
    Some(Turn::new(pointer, "content", json!({"role": role, "content": content})))
}

/// A caller other than the model itself has no counterpart.
fn refuse_caller(item: &Value, pointer: &str, faults: &mut Faults) {
    if item.get("caller").is_some_and(|caller| !caller.is_null() && word(caller, "type") != "direct") {
        faults.refuse(format!("{pointer}/caller"));
    }
}

fn call(mut item: Value, pointer: &str, faults: &mut Faults) -> Value {
    faults.known(&item, pointer, &["type", "id", "call_id", "name", "arguments", "status", "caller"]);
    refuse_caller(&item, pointer, faults);
    let mut function = Map::new();
    for name in ["name", "arguments"] {
        function.insert(name.into(), faults.string(take(&mut item, name), format!("{pointer}/{name}")));
    }
    let id = faults.string(take(&mut item, "call_id"), format!("{pointer}/call_id"));
    let call = json!({"id": id, "type": "function", "function": function});
    json!({"role": "assistant", "content": null, "tool_calls": [call]})
}

fn output(mut item: Value, pointer: &str, faults: &mut Faults) -> Value {
    faults.known(&item, pointer, &["type", "id", "call_id", "output", "status", "caller"]);
    refuse_caller(&item, pointer, faults);
    let id = faults.string(take(&mut item, "call_id"), format!("{pointer}/call_id"));
    let content = content(take(&mut item, "output"), &format!("{pointer}/output"), Sender::Tool, faults);
    json!({"role": "tool", "tool_call_id": id, "content": content})
}

/// The thinking that a reasoning item came from, if it came from Anthropic.
fn reasoning(mut item: Value, pointer: &str, faults: &mut Faults) -> Option<Value> {
    faults.known(&item, pointer, &["type", "id", "summary", "content", "encrypted_content", "status"]);
    let summary = take(&mut item, "summary");
    let texts = summary.as_array().into_iter().flatten();
    let text: String = texts.filter_map(|part| part.get("text")?.as_str()).collect();
    sealed::opened(take(&mut item, "encrypted_content"), text)
}
