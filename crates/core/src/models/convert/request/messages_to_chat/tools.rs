//! Tools, and the choice between them.

use serde_json::{Map, Value, json};

use super::super::super::members::{Faults, set, take, word};

/// Converts `tools` and `tool_choice`. Without tools, OpenAI refuses a choice.
pub fn convert(body: &mut Value, to: &mut Map<String, Value>, faults: &mut Faults) {
    let tools: Vec<Value> = faults
        .array(take(body, "tools"), "#/tools")
        .into_iter()
        .map(|(pointer, item)| tool(item, &pointer, faults))
        .collect();
    let has_tools = !tools.is_empty();
    if has_tools {
        to.insert("tools".into(), tools.into());
    }
    let mut choice = take(body, "tool_choice");
    if choice.is_null() {
        return;
    }
    faults.known(&choice, "#/tool_choice", &["type", "name", "disable_parallel_tool_use"]);
    let is_single = choice.get("disable_parallel_tool_use") == Some(&true.into());
    let chosen = match word(&choice, "type") {
        "auto" => "auto".into(),
        "any" => "required".into(),
        "none" => "none".into(),
        "tool" => {
            let name = faults.string(take(&mut choice, "name"), "#/tool_choice/name");
            json!({"type": "function", "function": {"name": name}})
        }
        _ => {
            faults.refuse("#/tool_choice/type");
            return;
        }
    };
    if has_tools {
        to.insert("tool_choice".into(), chosen);
        if is_single {
            to.insert("parallel_tool_calls".into(), false.into());
        }
    }
}

fn tool(mut tool: Value, pointer: &str, faults: &mut Faults) -> Value {
    if !matches!(word(&tool, "type"), "" | "custom") {
        faults.refuse(format!("{pointer}/type"));
        return Value::Null;
    }
    const NAMES: [&str; 10] = [
        "type",
        "name",
        "description",
        "input_schema",
        "strict",
        "cache_control",
        "eager_input_streaming",
        "defer_loading",
        "allowed_callers",
        "input_examples",
    ];
    faults.known(&tool, pointer, &NAMES);
    // These are the defaults.
    for (name, default) in
        [("defer_loading", json!(false)), ("allowed_callers", json!(["direct"])), ("input_examples", json!([]))]
    {
        if tool.get(name).is_some_and(|value| !value.is_null() && *value != default) {
            faults.refuse(format!("{pointer}/{name}"));
        }
    }
    let mut function = Map::new();
    function.insert("name".into(), faults.string(take(&mut tool, "name"), format!("{pointer}/name")));
    set(&mut function, "description", take(&mut tool, "description"));
    set(&mut function, "parameters", take(&mut tool, "input_schema"));
    set(&mut function, "strict", take(&mut tool, "strict"));
    json!({"type": "function", "function": function})
}
