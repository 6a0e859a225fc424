//! The model of the built-in demonstration: it knows nothing, and streams, so that a first chat needs no account.

use serde_json::{Value, json};

use super::endpoint::Endpoint;

/// How much of the last message it repeats, in characters.
const MAX_REPEATED: usize = 200;

/// A response in both forms.
#[derive(Debug, Clone, PartialEq)]
pub struct DemoAnswer {
    pub document: Value,
    pub events: Vec<String>,
}

/// Its response to a request; `None` if it does not have the endpoint. `id` is unique.
pub fn answer(endpoint: Endpoint, body: &Value, id: &str, now_seconds: u64) -> Option<DemoAnswer> {
    let said = last_message(body);
    let text = reply(&said);
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    let (input, output) = (said.split_whitespace().count().max(1), words.len());
    match endpoint {
        Endpoint::Chat => Some(chat(id, now_seconds, &text, &words, (input, output))),
        Endpoint::Messages => Some(messages(id, &text, &words, (input, output))),
        Endpoint::Responses | Endpoint::Embeddings | Endpoint::CountTokens => None,
    }
}

/// The text of the last message.
fn last_message(body: &Value) -> String {
    let messages = body.get("messages").and_then(Value::as_array);
    let content = messages.and_then(|messages| messages.last()?.get("content"));
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
            texts.collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

fn reply(said: &str) -> String {
    let repeated: String = said.chars().take(MAX_REPEATED).collect();
    let cut = if said.chars().count() > MAX_REPEATED { " …" } else { "" };
    format!(
        "Hello from the demonstration. I am built into the gateway: I know nothing, but I stream like a real model. \
         You wrote: {repeated}{cut}"
    )
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn chat(id: &str, created: u64, text: &str, words: &[&str], (input, output): (usize, usize)) -> DemoAnswer {
    let id = format!("chatcmpl-{id}");
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    let chunk = |choices: Value| json!({"id": id, "object": "chat.completion.chunk", "created": created, "model": "demo", "choices": choices});
    let choice = |delta: Value, reason: Value| chunk(json!([{"index": 0, "delta": delta, "finish_reason": reason}]));
    let mut events = vec![data(&choice(json!({"role": "assistant", "content": ""}), Value::Null))];
    events.extend(words.iter().map(|word| data(&choice(json!({"content": word}), Value::Null))));
    events.push(data(&choice(json!({}), "stop".into())));
    let mut last = chunk(json!([]));
    if let Some(members) = last.as_object_mut() {
        members.insert("usage".into(), usage.clone());
    }
    events.extend([data(&last), "data: [DONE]\n\n".into()]);
    let message = json!({"role": "assistant", "content": text});
    let document = json!({
        "id": id, "object": "chat.completion", "created": created, "model": "demo",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage,
    });
    DemoAnswer { document, events }
}

fn messages(id: &str, text: &str, words: &[&str], (input, output): (usize, usize)) -> DemoAnswer {
    let id = format!("msg_{id}");
    let event = |value: Value| {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_string();
        format!("event: {kind}\n{}", data(&value))
    };
    let message = |content: Value, reason: Value, output: usize| {
        json!({
            "id": id, "type": "message", "role": "assistant", "model": "demo", "content": content,
            "stop_reason": reason, "stop_sequence": null,
            "usage": {"input_tokens": input, "output_tokens": output},
        })
    };
    let mut events = vec![
        event(json!({"type": "message_start", "message": message(json!([]), Value::Null, 0)})),
        event(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})),
    ];
    events.extend(words.iter().map(|word| {
        let delta = json!({"type": "text_delta", "text": word});
        event(json!({"type": "content_block_delta", "index": 0, "delta": delta}))
    }));
    let delta = json!({"stop_reason": "end_turn", "stop_sequence": null});
    events.extend([
        event(json!({"type": "content_block_stop", "index": 0})),
        event(
            json!({"type": "message_delta", "delta": delta, "usage": {"input_tokens": input, "output_tokens": output}}),
        ),
        event(json!({"type": "message_stop"})),
    ]);
    let document = message(json!([{"type": "text", "text": text}]), "end_turn".into(), output);
    DemoAnswer { document, events }
}

#[cfg(test)]
mod tests {
    use super::super::stream::StreamReader;
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let body = json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "Good morning"}]}]});
        for endpoint in [Endpoint::Chat, Endpoint::Messages] {
            let DemoAnswer { document, events } = answer(endpoint, &body, "1", 7).unwrap();
            let text = document.pointer("/choices/0/message/content").or(document.pointer("/content/0/text"));
            assert!(text.unwrap().as_str().unwrap().ends_with("You wrote: Good morning"));
            let mut reader = StreamReader::new(endpoint, false);
            for event in &events {
                reader.push(event.as_bytes());
            }
            assert!(reader.is_whole());
            let tokens = reader.used(0).tokens;
            assert_eq!((tokens.input_tokens, tokens.estimated), (2, false));
            let output = document.pointer("/usage/completion_tokens").or(document.pointer("/usage/output_tokens"));
            assert_eq!(output.unwrap().as_u64(), Some(tokens.output_tokens));
        }
        assert_eq!(answer(Endpoint::Embeddings, &body, "1", 7), None);
    }

    #[test]
    fn any_request_has_a_reply_of_a_bounded_length() {
        for body in [json!(null), json!({"messages": []}), json!({"messages": [{"content": "x".repeat(10_000)}]})] {
            let answer = answer(Endpoint::Chat, &body, "1", 0).unwrap();
            assert!(answer.document.to_string().len() < 1_000);
        }
    }
}
