//! What Chat Completions demands of a list of messages.

use serde_json::{Value, json};

use super::super::members::{take, word};

/// Puts messages into the form that Chat Completions takes: the calls of one turn stand in one message, directly before
/// their results, and the results of tools are text. Pictures and documents among the results go to the user message
/// behind them.
pub fn settled(messages: Vec<Value>) -> Vec<Value> {
    let mut settled: Vec<Value> = Vec::with_capacity(messages.len());
    let mut files = Vec::new();
    for mut message in messages {
        let role = word(&message, "role");
        if role != "tool" && !files.is_empty() {
            let parts = std::mem::take(&mut files);
            match role {
                "user" => put_first(parts, &mut message),
                _ => settled.push(json!({"role": "user", "content": parts})),
            }
        }
        match (word(&message, "role"), settled.last_mut()) {
            ("assistant", Some(last)) if word(last, "role") == "assistant" => join(last, message),
            ("tool", _) => {
                files.append(&mut split_files(&mut message));
                settled.push(message);
            }
            _ => settled.push(message),
        }
    }
    if !files.is_empty() {
        settled.push(json!({"role": "user", "content": files}));
    }
    settled
}

/// The content as parts.
fn parts(content: Value) -> Vec<Value> {
    match content {
        Value::Array(parts) => parts,
        Value::String(text) if !text.is_empty() => vec![json!({"type": "text", "text": text})],
        _ => Vec::new(),
    }
}

/// Parts as a content: one text alone is a string.
pub fn content(mut parts: Vec<Value>) -> Value {
    match parts.as_mut_slice() {
        [] => "".into(),
        [part] if word(part, "type") == "text" => take(part, "text"),
        _ => parts.into(),
    }
}

fn put_first(mut files: Vec<Value>, message: &mut Value) {
    files.append(&mut parts(take(message, "content")));
    if let Some(content) = message.get_mut("content") {
        *content = files.into();
    }
}

/// Takes what is not text out of the content of a tool message.
fn split_files(message: &mut Value) -> Vec<Value> {
    let Some(content) = message.get_mut("content") else { return Vec::new() };
    let (texts, files) = parts(content.take()).into_iter().partition(|part| word(part, "type") == "text");
    *content = self::content(texts);
    files
}

/// Appends an assistant message to another one.
fn join(first: &mut Value, mut second: Value) {
    let Some(members) = first.as_object_mut() else { return };
    let (known, added) =
        (members.get_mut("content").map(Value::take).unwrap_or_default(), take(&mut second, "content"));
    let content = match (known, added) {
        (content, Value::Null) | (Value::Null, content) => content,
        (known, added) => {
            let mut all = parts(known);
            all.append(&mut parts(added));
            self::content(all)
        }
    };
    members.insert("content".into(), content);
    let Value::Array(mut calls) = take(&mut second, "tool_calls") else { return };
    match members.get_mut("tool_calls") {
        Some(Value::Array(known)) => known.append(&mut calls),
        _ => drop(members.insert("tool_calls".into(), calls.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_one_turn_stand_in_one_message() {
        let call = |id: &str| json!({"role": "assistant", "content": null, "tool_calls": [{"id": id}]});
        let messages = vec![
            call("a"),
            json!({"role": "assistant", "content": "One."}),
            call("b"),
            json!({"role": "assistant", "content": "Two."}),
            json!({"role": "tool", "tool_call_id": "a", "content": "1"}),
        ];
        assert_eq!(
            settled(messages),
            [
                json!({"role": "assistant",
                       "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}],
                       "tool_calls": [{"id": "a"}, {"id": "b"}]}),
                json!({"role": "tool", "tool_call_id": "a", "content": "1"}),
            ]
        );
    }

    #[test]
    fn pictures_among_results_go_to_the_user_message_behind_them() {
        let text = |text: &str| json!({"type": "text", "text": text});
        let picture = json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}});
        let tool = |id: &str, content: Value| json!({"role": "tool", "tool_call_id": id, "content": content});
        let results = || vec![tool("a", json!([text("A"), picture])), tool("b", json!([picture]))];
        let mut messages = results();
        assert_eq!(
            settled(messages.clone()),
            [tool("a", json!("A")), tool("b", json!("")), json!({"role": "user", "content": [picture, picture]})]
        );
        messages.push(json!({"role": "user", "content": "Well?"}));
        let user = json!({"role": "user", "content": [picture, picture, text("Well?")]});
        assert_eq!(settled(messages)[2], user);
        let mut messages = results();
        messages.push(json!({"role": "assistant", "content": "Good."}));
        assert_eq!(settled(messages).len(), 4);
    }
}
