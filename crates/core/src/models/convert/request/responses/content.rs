//! The content of an item, as the parts of a chat message.

use serde_json::{Map, Value, json};

use super::super::super::members::{Faults, set, take, word};
use super::super::chat_to_messages::Sender;

/// A content. Its parts keep their places: null stands for one that was refused. One text alone becomes a string.
pub fn content(content: Value, pointer: &str, sender: Sender, faults: &mut Faults) -> Value {
    if content.is_string() {
        return content;
    }
    if content.is_null() {
        faults.add(pointer, "must be a string or an array");
    }
    let mut parts: Vec<Value> = faults
        .array(content, pointer)
        .into_iter()
        .map(|(pointer, part)| self::part(part, &pointer, sender, faults).unwrap_or_default())
        .collect();
    match parts.as_mut_slice() {
        [part] if word(part, "type") == "text" => take(part, "text"),
        _ => parts.into(),
    }
}

fn part(mut part: Value, pointer: &str, sender: Sender, faults: &mut Faults) -> Option<Value> {
    let takes_files = matches!(sender, Sender::User | Sender::Tool);
    match word(&part, "type") {
        "input_text" | "output_text" | "text" => {
            faults.known(&part, pointer, &["type", "text", "annotations", "logprobs", "prompt_cache_breakpoint"]);
            let text = faults.string(take(&mut part, "text"), format!("{pointer}/text"));
            Some(json!({"type": "text", "text": text}))
        }
        "refusal" if sender == Sender::Assistant => {
            faults.known(&part, pointer, &["type", "refusal"]);
            let refusal = faults.string(take(&mut part, "refusal"), format!("{pointer}/refusal"));
            Some(json!({"type": "refusal", "refusal": refusal}))
        }
        "input_image" if takes_files => {
            faults.known(&part, pointer, &["type", "image_url", "detail", "prompt_cache_breakpoint"]);
            let mut image = Map::new();
            if part.get("file_id").is_none_or(Value::is_null) {
                image.insert("url".into(), faults.string(take(&mut part, "image_url"), format!("{pointer}/image_url")));
            }
            // Chat Completions does not know "original".
            let detail = take(&mut part, "detail");
            set(&mut image, "detail", if detail == "original" { "high".into() } else { detail });
            image.contains_key("url").then(|| json!({"type": "image_url", "image_url": image}))
        }
        "input_file" if takes_files => {
            faults.known(&part, pointer, &["type", "file_data", "filename", "detail", "prompt_cache_breakpoint"]);
            let mut file = Map::new();
            if ["file_id", "file_url"].iter().all(|name| part.get(name).is_none_or(Value::is_null)) {
                file.insert(
                    "file_data".into(),
                    faults.string(take(&mut part, "file_data"), format!("{pointer}/file_data")),
                );
            }
            set(&mut file, "filename", take(&mut part, "filename"));
            file.contains_key("file_data").then(|| json!({"type": "file", "file": file}))
        }
        _ if part.is_object() => {
            faults.refuse(pointer);
            None
        }
        _ => {
            faults.add(pointer, "must be an object");
            None
        }
    }
}
