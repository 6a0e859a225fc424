//! The messages of a conversation.

use serde_json::{Map, Value, json};

use super::super::super::members::{Faults, take, word};
use super::content::{Sender, blocks};

/// A chat message, with its place in the client's request.
pub struct Turn {
    pointer: String,
    /// The pointer of its content.
    content: String,
    value: Value,
}

impl Turn {
    /// `content`: the name that the content has in the client's request.
    pub fn new(pointer: String, content: &str, value: Value) -> Self {
        Self { content: format!("{pointer}/{content}"), pointer, value }
    }

    /// The chat message.
    pub fn into_value(self) -> Value {
        self.value
    }
}

/// The conversation in Anthropic's format: system prompts come first, and roles alternate.
#[derive(Default)]
pub struct Conversation {
    system: Vec<Value>,
    messages: Vec<(&'static str, Vec<Value>)>,
}

impl Conversation {
    pub fn read(turns: Vec<Turn>, faults: &mut Faults) -> Self {
        let mut conversation = Self::default();
        for turn in turns {
            conversation.turn(turn, faults);
        }
        conversation
    }

    fn turn(&mut self, Turn { pointer, content: content_pointer, mut value }: Turn, faults: &mut Faults) {
        let content = take(&mut value, "content");
        let read = |sender, faults: &mut Faults| blocks(content, &content_pointer, sender, faults);
        match word(&value, "role") {
            "system" | "developer" => {
                faults.known(&value, &pointer, &["role"]);
                self.system.append(&mut read(Sender::System, faults));
            }
            "user" => {
                faults.known(&value, &pointer, &["role"]);
                let blocks = read(Sender::User, faults);
                self.add("user", blocks);
            }
            "assistant" => {
                let blocks = read(Sender::Assistant, faults);
                self.add("assistant", blocks);
                let blocks = assistant(value, &pointer, faults);
                self.add("assistant", blocks);
            }
            "tool" => {
                faults.known(&value, &pointer, &["role", "tool_call_id", "name"]);
                let id = call_id(take(&mut value, "tool_call_id"), &format!("{pointer}/tool_call_id"), faults);
                let mut result = json!({"type": "tool_result", "tool_use_id": id});
                let blocks = read(Sender::Tool, faults);
                if let Some(members) = result.as_object_mut().filter(|_| !blocks.is_empty()) {
                    members.insert("content".into(), blocks.into());
                }
                self.add("user", vec![result]);
            }
            _ if value.is_object() => faults.refuse(format!("{pointer}/role")),
            _ => faults.add(pointer, "must be an object"),
        }
    }

    /// Adds blocks of a role. Anthropic wants the results of parallel calls in one message.
    fn add(&mut self, role: &'static str, mut blocks: Vec<Value>) {
        match self.messages.last_mut() {
            _ if blocks.is_empty() => {}
            Some((last, known)) if *last == role => known.append(&mut blocks),
            _ => self.messages.push((role, blocks)),
        }
    }

    /// Whether the results of tools come last, and the call of these tools does not begin with thinking.
    pub fn lacks_thinking(&self) -> bool {
        let begins =
            |blocks: &[Value], kinds: &[&str]| blocks.first().is_some_and(|block| kinds.contains(&word(block, "type")));
        match self.messages.as_slice() {
            [.., (_, calls), ("user", results)] => {
                begins(results, &["tool_result"]) && !begins(calls, &["thinking", "redacted_thinking"])
            }
            _ => false,
        }
    }

    pub fn write(self, to: &mut Map<String, Value>) {
        if !self.system.is_empty() {
            to.insert("system".into(), self.system.into());
        }
        let messages: Vec<Value> =
            self.messages.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
        to.insert("messages".into(), messages.into());
    }
}

/// The blocks of an assistant message beside its content.
fn assistant(mut message: Value, pointer: &str, faults: &mut Faults) -> Vec<Value> {
    // Reasoning comes without the signature that Anthropic requires.
    const DROPPED: [&str; 4] = ["annotations", "reasoning", "reasoning_content", "reasoning_details"];
    faults.known(&message, pointer, &[&["role", "refusal", "tool_calls"], DROPPED.as_slice()].concat());
    let mut found = match take(&mut message, "refusal") {
        Value::Null => Vec::new(),
        refusal => blocks(refusal, &format!("{pointer}/refusal"), Sender::Assistant, faults),
    };
    for (pointer, call) in faults.array(take(&mut message, "tool_calls"), &format!("{pointer}/tool_calls")) {
        found.extend(tool_use(call, &pointer, faults));
    }
    found
}

fn tool_use(mut call: Value, pointer: &str, faults: &mut Faults) -> Option<Value> {
    if call.is_object() && !matches!(word(&call, "type"), "function" | "") {
        faults.refuse(format!("{pointer}/type"));
        return None;
    }
    faults.known(&call, pointer, &["id", "type", "function", "index"]);
    let id = call_id(take(&mut call, "id"), &format!("{pointer}/id"), faults);
    let (mut function, pointer) = (take(&mut call, "function"), format!("{pointer}/function"));
    faults.known(&function, &pointer, &["name", "arguments"]);
    let name = faults.string(take(&mut function, "name"), format!("{pointer}/name"));
    let input = match word(&function, "arguments") {
        "" => json!({}),
        text => serde_json::from_str(text).ok().filter(Value::is_object).unwrap_or_default(),
    };
    if input.is_null() {
        faults.add(format!("{pointer}/arguments"), "must be a JSON object, as a string");
    }
    Some(json!({"type": "tool_use", "id": id, "name": name, "input": input}))
}

/// The id of a call. Anthropic takes fewer characters than some of those who make ids.
fn call_id(id: Value, pointer: &str, faults: &mut Faults) -> Value {
    let Value::String(id) = faults.string(id, pointer) else { return Value::Null };
    let replaced =
        |letter: char| if matches!(letter, '_' | '-') || letter.is_ascii_alphanumeric() { letter } else { '_' };
    id.chars().map(replaced).collect::<String>().into()
}
