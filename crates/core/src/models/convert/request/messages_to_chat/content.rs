//! The content of a message: text, pictures and documents.

use serde_json::{Map, Value, json};

use super::super::super::members::{Faults, set, take, word};

/// The texts of a system prompt.
pub fn texts(content: Value, pointer: &str, faults: &mut Faults) -> Vec<Value> {
    match content {
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(_) => vec![json!({"type": "text", "text": content})],
        content => faults
            .array(content, pointer)
            .into_iter()
            .filter_map(|(pointer, block)| {
                if block.is_object() && word(&block, "type") != "text" {
                    faults.refuse(pointer);
                    return None;
                }
                part(block, &pointer, faults)
            })
            .collect(),
    }
}

/// A block as a part of a user's or a tool's message.
pub fn part(mut block: Value, pointer: &str, faults: &mut Faults) -> Option<Value> {
    match word(&block, "type") {
        "text" => {
            faults.known(&block, pointer, &["type", "text", "cache_control", "citations"]);
            let text = faults.string(take(&mut block, "text"), format!("{pointer}/text"));
            Some(json!({"type": "text", "text": text}))
        }
        "image" => {
            faults.known(&block, pointer, &["type", "source", "cache_control"]);
            let url = url(take(&mut block, "source"), &format!("{pointer}/source"), false, faults)?;
            Some(json!({"type": "image_url", "image_url": {"url": url}}))
        }
        "document" => {
            faults.known(&block, pointer, &["type", "source", "title", "cache_control", "citations"]);
            if block.pointer("/citations/enabled") == Some(&true.into()) {
                faults.refuse(format!("{pointer}/citations"));
            }
            let data = url(take(&mut block, "source"), &format!("{pointer}/source"), true, faults)?;
            let mut file = Map::new();
            file.insert("filename".into(), "document.pdf".into());
            set(&mut file, "filename", take(&mut block, "title"));
            file.insert("file_data".into(), data);
            Some(json!({"type": "file", "file": file}))
        }
        _ if block.is_object() => {
            faults.refuse(pointer);
            None
        }
        _ => {
            faults.add(pointer, "must be an object");
            None
        }
    }
}

/// The URL of a source. Chat Completions takes documents only by their data, and only PDF.
fn url(mut source: Value, pointer: &str, is_document: bool, faults: &mut Faults) -> Option<Value> {
    let kind = word(&source, "type");
    let is_pdf = word(&source, "media_type") == "application/pdf";
    match kind {
        "base64" if is_pdf || !is_document => {
            faults.known(&source, pointer, &["type", "media_type", "data"]);
            let media = faults.string(take(&mut source, "media_type"), format!("{pointer}/media_type"));
            let data = faults.string(take(&mut source, "data"), format!("{pointer}/data"));
            let (media, data) = (media.as_str()?, data.as_str()?);
            Some(format!("data:{media};base64,{data}").into())
        }
        "url" if !is_document => {
            faults.known(&source, pointer, &["type", "url"]);
            Some(faults.string(take(&mut source, "url"), format!("{pointer}/url")))
        }
        _ => {
            faults.refuse(format!("{pointer}/type"));
            None
        }
    }
}
