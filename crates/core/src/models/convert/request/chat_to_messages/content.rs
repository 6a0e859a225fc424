//! The content of a message: text, pictures and documents.

use serde_json::{Value, json};

use super::super::super::members::{Faults, set, take, word};

/// Who sends a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    System,
    User,
    Assistant,
    Tool,
}

/// The blocks of a content. Empty texts are left out: Anthropic refuses them.
pub fn blocks(content: Value, pointer: &str, sender: Sender, faults: &mut Faults) -> Vec<Value> {
    match content {
        Value::Null => Vec::new(),
        Value::String(text) => self::text(text.into()).into_iter().collect(),
        Value::Array(_) => faults
            .array(content, pointer)
            .into_iter()
            .filter_map(|(pointer, part)| self::part(part, &pointer, sender, faults))
            .collect(),
        _ => {
            faults.add(pointer, "must be a string or an array");
            Vec::new()
        }
    }
}

fn text(text: Value) -> Option<Value> {
    (text != "").then(|| json!({"type": "text", "text": text}))
}

fn part(mut part: Value, pointer: &str, sender: Sender, faults: &mut Faults) -> Option<Value> {
    let takes_files = matches!(sender, Sender::User | Sender::Tool);
    // Null stands for a part whose fault is known.
    match word(&part, "type") {
        "" if part.is_null() => None,
        "text" => {
            faults.known(&part, pointer, &["type", "text", "prompt_cache_breakpoint"]);
            text(faults.string(take(&mut part, "text"), format!("{pointer}/text")))
        }
        "refusal" if sender == Sender::Assistant => {
            faults.known(&part, pointer, &["type", "refusal"]);
            text(faults.string(take(&mut part, "refusal"), format!("{pointer}/refusal")))
        }
        "image_url" if takes_files => {
            faults.known(&part, pointer, &["type", "image_url", "prompt_cache_breakpoint"]);
            let mut image = take(&mut part, "image_url");
            faults.known(&image, &format!("{pointer}/image_url"), &["url", "detail"]);
            picture(take(&mut image, "url"), &format!("{pointer}/image_url"), faults)
        }
        "file" if takes_files => {
            faults.known(&part, pointer, &["type", "file", "prompt_cache_breakpoint"]);
            document(take(&mut part, "file"), &format!("{pointer}/file"), faults)
        }
        "thinking" | "redacted_thinking" if sender == Sender::Assistant => {
            faults.known(&part, pointer, &["type", "thinking", "signature", "data"]);
            Some(part)
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

/// The media type and the data of a data URL; otherwise the text itself.
fn data_url(mut text: String) -> Result<(String, String), String> {
    let media =
        text.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")).map(|(media, _)| media.to_owned());
    let Some(media) = media else { return Err(text) };
    text.drain(.."data:;base64,".len() + media.len());
    Ok((media, text))
}

fn picture(url: Value, pointer: &str, faults: &mut Faults) -> Option<Value> {
    let Value::String(url) = faults.string(url, format!("{pointer}/url")) else { return None };
    let source = match data_url(url) {
        Ok((media, data)) => {
            let media = if media == "image/jpg" { "image/jpeg".into() } else { media };
            json!({"type": "base64", "media_type": media, "data": data})
        }
        Err(url) if url.starts_with("https://") || url.starts_with("http://") => json!({"type": "url", "url": url}),
        Err(_) => {
            faults.add(format!("{pointer}/url"), "must be an HTTP URL, or a data URL in base64");
            return None;
        }
    };
    Some(json!({"type": "image", "source": source}))
}

fn document(mut file: Value, pointer: &str, faults: &mut Faults) -> Option<Value> {
    let is_stored = file.get("file_id").is_some_and(|id| !id.is_null());
    if !faults.known(&file, pointer, &["file_data", "filename"]) || is_stored {
        return None;
    }
    let Value::String(data) = faults.string(take(&mut file, "file_data"), format!("{pointer}/file_data")) else {
        return None;
    };
    match data_url(data) {
        Ok((media, data)) if media == "application/pdf" => {
            let mut block =
                json!({"type": "document", "source": {"type": "base64", "media_type": media, "data": data}});
            if let Some(members) = block.as_object_mut() {
                set(members, "title", take(&mut file, "filename"));
            }
            Some(block)
        }
        _ => {
            faults.add(format!("{pointer}/file_data"), "must be a data URL of a PDF, in base64");
            None
        }
    }
}
