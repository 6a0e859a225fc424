//! Tools, and the choice between them.

use serde_json::{Map, Value, json};

use super::super::super::members::{Faults, set, take, word};

/// Converts `tools`, `tool_choice` and `parallel_tool_calls`. Without tools the other two mean nothing.
pub fn convert(body: &mut Value, to: &mut Map<String, Value>, faults: &mut Faults) {
    let tools: Vec<Value> = faults
        .array(take(body, "tools"), "#/tools")
        .into_iter()
        .map(|(pointer, item)| tool(item, &pointer, faults))
        .collect();
    let mut choice = choice(take(body, "tool_choice"), faults);
    let is_parallel = match take(body, "parallel_tool_calls") {
        Value::Null => true,
        Value::Bool(is_parallel) => is_parallel,
        _ => {
            faults.add("#/parallel_tool_calls", "must be true or false");
            true
        }
    };
    if !is_parallel {
        let chosen = choice.get_or_insert_with(|| json!({"type": "auto"}));
        if let Some(members) = chosen.as_object_mut().filter(|members| members.get("type") != Some(&"none".into())) {
            members.insert("disable_parallel_tool_use".into(), true.into());
        }
    }
    if tools.is_empty() {
        return;
    }
    to.insert("tools".into(), tools.into());
    set(to, "tool_choice", choice.unwrap_or_default());
}

fn tool(mut tool: Value, pointer: &str, faults: &mut Faults) -> Value {
    if tool.is_object() && word(&tool, "type") != "function" {
        faults.refuse(format!("{pointer}/type"));
        return Value::Null;
    }
    faults.known(&tool, pointer, &["type", "function"]);
    let (mut function, pointer) = (take(&mut tool, "function"), format!("{pointer}/function"));
    if !faults.known(&function, &pointer, &["name", "description", "parameters", "strict"]) {
        return Value::Null;
    }
    let mut members = Map::new();
    members.insert("name".into(), faults.string(take(&mut function, "name"), format!("{pointer}/name")));
    set(&mut members, "description", take(&mut function, "description"));
    members.insert("input_schema".into(), schema(take(&mut function, "parameters")));
    set(&mut members, "strict", take(&mut function, "strict"));
    members.into()
}

/// The schema of a tool's input: Anthropic requires that its type is stated.
fn schema(parameters: Value) -> Value {
    match parameters {
        Value::Null => json!({"type": "object", "properties": {}}),
        Value::Object(mut members) => {
            members.entry("type").or_insert_with(|| "object".into());
            members.into()
        }
        other => other,
    }
}

fn choice(mut choice: Value, faults: &mut Faults) -> Option<Value> {
    let kind = match choice.as_str() {
        Some("auto") => "auto",
        Some("none") => "none",
        Some("required") => "any",
        _ if choice.is_null() => return None,
        _ if word(&choice, "type") == "function" => {
            faults.known(&choice, "#/tool_choice", &["type", "function"]);
            let mut function = take(&mut choice, "function");
            faults.known(&function, "#/tool_choice/function", &["name"]);
            let name = faults.string(take(&mut function, "name"), "#/tool_choice/function/name");
            return Some(json!({"type": "tool", "name": name}));
        }
        _ => {
            faults.refuse(if choice.is_object() { "#/tool_choice/type" } else { "#/tool_choice" });
            return None;
        }
    };
    Some(json!({"type": kind}))
}
