//! The whole response that a stream of Messages or Responses stands for, as it is kept. A stream of Chat Completions is
//! put together by `calling::openai`.

use serde_json::{Map, Value};

use super::endpoint::Endpoint;

/// Puts the events of a stream together.
#[derive(Debug)]
pub enum Assembly {
    Messages(Box<Message>),
    /// The last event has the response.
    Response(Option<Value>),
}

/// A message, as far as it has come.
#[derive(Debug, Default)]
pub struct Message {
    members: Map<String, Value>,
    blocks: Vec<Block>,
    has_ended: bool,
}

/// A block of its content.
#[derive(Debug, Default)]
struct Block {
    members: Map<String, Value>,
    /// The input of a call, as far as it has come.
    input: String,
}

/// The members of blocks that come in pieces, by the member of the delta that has the piece.
const TEXTS: [&str; 3] = ["text", "thinking", "signature"];

impl Assembly {
    /// For streams of an endpoint. `None`: it has none, or they are put together elsewhere.
    pub fn of(endpoint: Endpoint) -> Option<Self> {
        match endpoint {
            Endpoint::Messages => Some(Self::Messages(Box::default())),
            Endpoint::Responses => Some(Self::Response(None)),
            Endpoint::Chat | Endpoint::Embeddings | Endpoint::CountTokens => None,
        }
    }

    /// Takes the data of an event.
    pub fn event(&mut self, data: &str) {
        let Ok(Value::Object(event)) = serde_json::from_str(data) else { return };
        match self {
            Self::Messages(message) => message.event(event),
            Self::Response(response) => {
                let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
                if matches!(kind, "response.completed" | "response.incomplete" | "response.failed") {
                    *response = event.get("response").cloned();
                }
            }
        }
    }

    /// The whole response, if it has come to its end.
    pub fn whole(self) -> Option<Value> {
        match self {
            Self::Messages(message) => message.whole(),
            Self::Response(response) => response,
        }
    }
}

fn object(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

impl Message {
    fn event(&mut self, mut event: Map<String, Value>) {
        let kind = event.remove("type");
        match kind.as_ref().and_then(Value::as_str).unwrap_or_default() {
            "message_start" => self.members = object(event.remove("message")),
            "content_block_start" => {
                let members = object(event.remove("content_block"));
                self.blocks.push(Block { members, input: String::new() });
            }
            "content_block_delta" => {
                let at = event.get("index").and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok());
                let delta = object(event.remove("delta"));
                if let Some(block) = at.and_then(|at| self.blocks.get_mut(at)) {
                    block.delta(delta);
                }
            }
            "message_delta" => self.delta(event),
            "message_stop" => self.has_ended = true,
            _ => {}
        }
    }

    /// The members that only the end has, and the final usage.
    fn delta(&mut self, mut event: Map<String, Value>) {
        let usage = object(event.remove("usage"));
        self.members.extend(object(event.remove("delta")));
        self.members.extend(event);
        let known = self.members.entry("usage").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(known) = known {
            known.extend(usage.into_iter().filter(|(_, value)| !value.is_null()));
        }
    }

    fn whole(mut self) -> Option<Value> {
        if !self.has_ended || self.members.is_empty() {
            return None;
        }
        let content = self.blocks.into_iter().map(Block::whole).collect();
        self.members.insert("content".into(), Value::Array(content));
        Some(Value::Object(self.members))
    }
}

impl Block {
    fn delta(&mut self, mut delta: Map<String, Value>) {
        for name in TEXTS {
            if let Some(Value::String(more)) = delta.remove(name) {
                match self.members.get_mut(name) {
                    Some(Value::String(text)) => text.push_str(&more),
                    _ => drop(self.members.insert(name.into(), more.into())),
                }
            }
        }
        if let Some(Value::String(more)) = delta.remove("partial_json") {
            self.input.push_str(&more);
        }
        if let Some(citation) = delta.remove("citation") {
            let citations = self.members.entry("citations").or_insert_with(|| Value::Array(Vec::new()));
            match citations {
                Value::Array(all) => all.push(citation),
                other => *other = Value::Array(vec![citation]),
            }
        }
    }

    fn whole(mut self) -> Value {
        if !self.input.is_empty() {
            // A call that was cut off has half of it.
            let input = serde_json::from_str(&self.input).unwrap_or(Value::String(self.input));
            self.members.insert("input".into(), input);
        }
        Value::Object(self.members)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn assembled(endpoint: Endpoint, events: &[Value]) -> Option<Value> {
        let mut assembly = Assembly::of(endpoint).unwrap();
        for event in events {
            assembly.event(&event.to_string());
        }
        assembly.whole()
    }

    fn message_events() -> Vec<Value> {
        let delta = |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
        let start =
            |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
        vec![
            json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "stop_reason": null, "usage": {"input_tokens": 9, "output_tokens": 1}}}),
            start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta(0, json!({"type": "thinking_delta", "thinking": "I th"})),
            delta(0, json!({"type": "thinking_delta", "thinking": "ink"})),
            delta(0, json!({"type": "signature_delta", "signature": "sig"})),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "ping"}),
            start(1, json!({"type": "text", "text": ""})),
            delta(1, json!({"type": "text_delta", "text": "Hé"})),
            delta(1, json!({"type": "citations_delta", "citation": {"cited_text": "x"}})),
            delta(1, json!({"type": "text_delta", "text": "llo"})),
            start(2, json!({"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}})),
            delta(2, json!({"type": "input_json_delta", "partial_json": "{\"a\":"})),
            delta(2, json!({"type": "input_json_delta", "partial_json": "1.50}"})),
            delta(7, json!({"type": "text_delta", "text": "nowhere"})),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {"output_tokens": 20, "cache_read_input_tokens": null}, "context_management": {"applied_edits": []}}),
            json!({"type": "message_stop"}),
        ]
    }

    #[test]
    fn a_message_is_put_together() {
        let whole = assembled(Endpoint::Messages, &message_events()).unwrap();
        let expected = json!({
            "id": "msg_1", "type": "message", "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I think", "signature": "sig"},
                {"type": "text", "text": "Héllo", "citations": [{"cited_text": "x"}]},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": 1.5}},
            ],
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": {"input_tokens": 9, "output_tokens": 20},
            "context_management": {"applied_edits": []},
        });
        assert_eq!(whole, expected);
    }

    #[test]
    fn a_stream_that_ends_early_has_no_whole_response() {
        let events = message_events();
        for end in 0..events.len() {
            assert_eq!(assembled(Endpoint::Messages, &events[..end]), None);
        }
        assert_eq!(assembled(Endpoint::Messages, &[json!({"type": "message_stop"}), json!(1)]), None);
        assert_eq!(assembled(Endpoint::Responses, &[json!({"type": "response.created", "response": {}})]), None);
    }

    #[test]
    fn the_last_event_of_a_response_has_all_of_it() {
        for kind in ["completed", "incomplete", "failed"] {
            let events = [
                json!({"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}),
                json!({"type": format!("response.{kind}"), "response": {"id": "resp_1", "status": kind}}),
            ];
            assert_eq!(assembled(Endpoint::Responses, &events), Some(json!({"id": "resp_1", "status": kind})));
        }
        assert!(Assembly::of(Endpoint::Embeddings).is_none() && Assembly::of(Endpoint::Chat).is_none());
    }

    #[test]
    fn half_of_an_input_is_kept_as_text() {
        let mut events = message_events();
        events.retain(|event| event["delta"]["partial_json"] != "1.50}");
        let whole = assembled(Endpoint::Messages, &events).unwrap();
        assert_eq!(whole["content"][2]["input"], "{\"a\":");
    }
}
