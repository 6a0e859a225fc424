//! A stream of events for a whole response that was kept: what a repeated request for a stream gets. Each part of it
//! comes in one piece.

use serde_json::{Map, Value, json};

use super::endpoint::Endpoint;

/// The events. `shows_usage`: the client of Chat Completions asked for usage. `None`: the endpoint has no streams, or
/// the response has another form.
pub fn events(endpoint: Endpoint, whole: &Value, shows_usage: bool) -> Option<String> {
    let mut out = String::new();
    match endpoint {
        Endpoint::Chat => chat(whole, shows_usage, &mut out)?,
        Endpoint::Messages => message(whole, &mut out)?,
        Endpoint::Responses => Response { out: &mut out, number: 0 }.write(whole)?,
        Endpoint::Embeddings | Endpoint::CountTokens => return None,
    }
    Some(out)
}

fn unnamed(out: &mut String, data: &Value) {
    out.push_str(&format!("data: {data}\n\n"));
}

fn named(out: &mut String, name: &str, mut data: Value) {
    if let Some(members) = data.as_object_mut() {
        members.insert("type".into(), name.into());
    }
    out.push_str(&format!("event: {name}\ndata: {data}\n\n"));
}

/// The same value with other members.
fn with(value: &Value, members: Value) -> Value {
    let mut all = value.as_object().cloned().unwrap_or_default();
    if let Value::Object(members) = members {
        all.extend(members);
    }
    Value::Object(all)
}

fn without(value: &Value, names: &[&str]) -> Map<String, Value> {
    let mut all = value.as_object().cloned().unwrap_or_default();
    all.retain(|name, _| !names.contains(&name.as_str()));
    all
}

fn chat(whole: &Value, shows_usage: bool, out: &mut String) -> Option<()> {
    let choices = whole.get("choices")?.as_array()?;
    let head = Value::Object(without(whole, &["choices", "usage", "object"]));
    let chunk = |choices: Value| with(&head, json!({"object": "chat.completion.chunk", "choices": choices}));
    for choice in choices {
        let index = choice.get("index").cloned().unwrap_or(0.into());
        let mut delta = without(choice.get("message")?, &[]);
        if let Some(Value::Array(calls)) = delta.get_mut("tool_calls") {
            for (at, call) in calls.iter_mut().enumerate() {
                *call = with(call, json!({"index": at}));
            }
        }
        let logprobs = choice.get("logprobs").cloned().unwrap_or_default();
        unnamed(out, &chunk(json!([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": null}])));
        let reason = choice.get("finish_reason").cloned().unwrap_or_default();
        unnamed(out, &chunk(json!([{"index": index, "delta": {}, "logprobs": null, "finish_reason": reason}])));
    }
    if let Some(usage) = whole.get("usage").filter(|_| shows_usage) {
        unnamed(out, &with(&chunk(json!([])), json!({"usage": usage})));
    }
    out.push_str("data: [DONE]\n\n");
    Some(())
}

/// The members of a block that come in pieces: the name, what the block begins with, the type of the delta.
const PIECES: [(&str, &str); 3] =
    [("thinking", "thinking_delta"), ("signature", "signature_delta"), ("text", "text_delta")];

fn message(whole: &Value, out: &mut String) -> Option<()> {
    let blocks = whole.get("content")?.as_array()?;
    let ends = json!({"content": [], "stop_reason": null, "stop_sequence": null});
    named(out, "message_start", json!({"message": with(whole, ends)}));
    for (index, block) in blocks.iter().enumerate() {
        let mut begun = block.as_object().cloned().unwrap_or_default();
        let mut deltas = Vec::new();
        for (name, kind) in PIECES {
            if let Some(text) = begun.get_mut(name).filter(|text| text.is_string()) {
                let text = std::mem::replace(text, "".into());
                deltas.push(json!({"type": kind, name: text}));
            }
        }
        for citation in begun.remove("citations").and_then(|all| all.as_array().cloned()).unwrap_or_default() {
            deltas.push(json!({"type": "citations_delta", "citation": citation}));
        }
        if let Some(input) = begun.get_mut("input") {
            let input = std::mem::replace(input, json!({}));
            deltas.push(json!({"type": "input_json_delta", "partial_json": input.to_string()}));
        }
        named(out, "content_block_start", json!({"index": index, "content_block": begun}));
        for delta in deltas {
            named(out, "content_block_delta", json!({"index": index, "delta": delta}));
        }
        named(out, "content_block_stop", json!({"index": index}));
    }
    let of = |name: &str| whole.get(name).cloned().unwrap_or_default();
    let delta = json!({"stop_reason": of("stop_reason"), "stop_sequence": of("stop_sequence")});
    named(out, "message_delta", json!({"delta": delta, "usage": of("usage")}));
    named(out, "message_stop", json!({}));
    Some(())
}

/// Writes the events of Responses, which are numbered.
struct Response<'o> {
    out: &'o mut String,
    number: u64,
}

impl Response<'_> {
    fn emit(&mut self, name: &str, data: &Value) {
        named(self.out, name, with(data, json!({"sequence_number": self.number})));
        self.number += 1;
    }

    fn write(&mut self, whole: &Value) -> Option<()> {
        let items = whole.get("output")?.as_array()?;
        let begun = with(whole, json!({"output": [], "status": "in_progress", "usage": null}));
        self.emit("response.created", &json!({"response": begun}));
        self.emit("response.in_progress", &json!({"response": begun}));
        for (at, item) in items.iter().enumerate() {
            self.item(at, item);
        }
        let status = whole.get("status").and_then(Value::as_str).unwrap_or("completed");
        let end = if matches!(status, "incomplete" | "failed") { status } else { "completed" };
        self.emit(&format!("response.{end}"), &json!({"response": whole}));
        Some(())
    }

    fn item(&mut self, at: usize, item: &Value) {
        let is = |kind: &str| item.get("type").and_then(Value::as_str) == Some(kind);
        let id = item.get("id").cloned().unwrap_or_default();
        let mut begun = item.as_object().cloned().unwrap_or_default();
        for (name, empty) in [("content", json!([])), ("arguments", json!(""))] {
            if let Some(value) = begun.get_mut(name) {
                *value = empty;
            }
        }
        self.emit("response.output_item.added", &json!({"output_index": at, "item": begun}));
        let place = json!({"output_index": at, "item_id": id});
        if is("function_call") {
            let arguments = item.get("arguments").cloned().unwrap_or_default();
            let name = item.get("name").cloned().unwrap_or_default();
            self.emit("response.function_call_arguments.delta", &with(&place, json!({"delta": arguments})));
            let done = json!({"arguments": arguments, "name": name});
            self.emit("response.function_call_arguments.done", &with(&place, done));
        }
        let parts = item.get("content").and_then(Value::as_array).filter(|_| is("message"));
        for (number, part) in parts.into_iter().flatten().enumerate() {
            self.part(&with(&place, json!({"content_index": number})), part);
        }
        self.emit("response.output_item.done", &json!({"output_index": at, "item": item}));
    }

    fn part(&mut self, place: &Value, part: &Value) {
        let (member, prefix) = match part.get("type").and_then(Value::as_str) {
            Some("refusal") => ("refusal", "response.refusal"),
            _ => ("text", "response.output_text"),
        };
        let mut begun = part.as_object().cloned().unwrap_or_default();
        begun.insert(member.into(), "".into());
        self.emit("response.content_part.added", &with(place, json!({"part": begun})));
        if let Some(text) = part.get(member) {
            let logprobs = json!({"logprobs": []});
            let extra = if member == "text" { logprobs } else { json!({}) };
            self.emit(&format!("{prefix}.delta"), &with(&with(place, json!({"delta": text})), extra.clone()));
            self.emit(&format!("{prefix}.done"), &with(&with(place, json!({member: text})), extra));
        }
        self.emit("response.content_part.done", &with(place, json!({"part": part})));
    }
}

#[cfg(test)]
mod tests {
    use super::super::assembly::Assembly;
    use super::*;

    fn data(text: &str) -> Vec<Value> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.filter(|line| *line != "[DONE]").map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn again(endpoint: Endpoint, whole: &Value) -> Value {
        let mut assembly = Assembly::of(endpoint).unwrap();
        for event in data(&events(endpoint, whole, false).unwrap()) {
            assembly.event(&event.to_string());
        }
        assembly.whole().unwrap()
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let whole = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "Hello", "citations": [{"cited_text": "x"}]},
                {"type": "tool_use", "id": "t", "name": "look", "input": {"a": [1, 2]}},
                {"type": "redacted_thinking", "data": "opaque"}],
            "stop_reason": "tool_use", "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 2}});
        assert_eq!(again(Endpoint::Messages, &whole), whole);
    }

    #[test]
    fn a_response_comes_back_as_it_was() {
        let whole = json!({"id": "resp_1", "object": "response", "status": "incomplete", "output": [
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "id": "msg_1", "role": "assistant", "content": [
                {"type": "output_text", "text": "Hello", "annotations": []}, {"type": "refusal", "refusal": "no"}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "look", "arguments": "{}"}],
            "usage": {"input_tokens": 1}});
        assert_eq!(again(Endpoint::Responses, &whole), whole);
        let all = data(&events(Endpoint::Responses, &whole, false).unwrap());
        let numbers: Vec<u64> = all.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
        assert!(numbers.iter().copied().eq(0..all.len() as u64));
        let deltas: Vec<&Value> = all.iter().map(|event| &event["delta"]).filter(|delta| !delta.is_null()).collect();
        assert_eq!(deltas, [&json!("Hello"), &json!("no"), &json!("{}")]);
    }

    #[test]
    fn a_completion_comes_in_chunks() {
        let whole = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hello", "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, "finish_reason": "tool_calls"},
            {"index": 1, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1}});
        let text = events(Endpoint::Chat, &whole, true).unwrap();
        assert!(text.ends_with("data: [DONE]\n\n"));
        let all = data(&text);
        assert!(all.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == "c"));
        assert_eq!(all.len(), 5);
        assert_eq!(all[0]["choices"][0]["delta"]["tool_calls"][0]["index"], 0);
        assert_eq!(all[0]["choices"][0]["delta"]["content"], "Hello");
        assert_eq!(all[1]["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(all[3]["choices"][0]["index"], 1);
        assert_eq!((&all[4]["usage"]["prompt_tokens"], &all[4]["choices"]), (&json!(1), &json!([])));
        assert_eq!(data(&events(Endpoint::Chat, &whole, false).unwrap()).len(), 4);
    }

    #[test]
    fn other_forms_have_no_events() {
        for endpoint in [Endpoint::Chat, Endpoint::Messages, Endpoint::Responses, Endpoint::Embeddings] {
            for whole in [json!(null), json!([]), json!({"choices": 1, "content": "x", "output": {}})] {
                assert_eq!(events(endpoint, &whole, true), None, "{endpoint:?} {whole}");
            }
        }
    }
}
