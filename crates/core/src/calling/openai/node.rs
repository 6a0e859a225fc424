//! JSON that comes in pieces: what continues, what is replaced, and how much of it is held.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

pub type Members = BTreeMap<String, Node>;
/// One level of an object, its members as they came.
pub type Parts<'a> = BTreeMap<String, &'a RawValue>;

/// Members whose text continues from piece to piece. Any other text is said whole, and by some servers in every piece.
const CONTINUING: [&str; 16] = [
    "content",
    "refusal",
    "reasoning_content",
    "reasoning",
    "reasoning_text",
    "thinking",
    "thought",
    "text",
    "summary",
    "arguments",
    "input",
    "partial_json",
    "transcript",
    "data",
    "code",
    "output",
];

/// Parts of a list that continue the one before when they are of its type.
const CONTINUING_TYPES: [&str; 7] =
    ["text", "thinking", "reasoning", "output_text", "summary_text", "reasoning.text", "reasoning.summary"];

/// Lists of which some servers send all so far in every piece. Their items are kept as they came, each once.
const REPEATED: [&str; 2] = ["annotations", "citations"];

/// Levels below a message in which something may continue. What lies deeper is kept as it came.
const LEVELS: usize = 8;
/// How far back in a list the part is looked for that another continues.
const LOOKED_BACK: usize = 16;
/// What an object and a value cost beside their text, in bytes.
const OBJECT_COST: usize = 400;
const VALUE_COST: usize = 48;

/// What is held of an answer.
#[derive(Debug, Default, Clone, Copy)]
pub struct Held {
    /// Its text, in bytes of JSON.
    pub bytes: usize,
    /// What holding it costs beside its text, in bytes.
    pub cost: usize,
}

impl Held {
    fn text(&mut self, text: &str) {
        // A control character is six bytes of JSON, a quotation mark two.
        let more = |byte: u8| match byte {
            0..0x20 => 5,
            b'"' | b'\\' => 1,
            _ => 0,
        };
        self.bytes += text.len() + text.bytes().map(more).sum::<usize>();
    }

    fn value(&mut self) {
        self.cost += VALUE_COST;
    }

    pub fn object(&mut self) {
        self.cost += OBJECT_COST;
    }

    fn key(&mut self, key: &str) {
        self.bytes += key.len() + 4;
        self.value();
    }
}

#[derive(Debug)]
pub enum Node {
    /// As it came.
    Raw(Box<RawValue>),
    Text(String),
    Object(Members),
    List(Vec<Node>),
}

/// How members that come again are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// They are pieces: texts continue, lists grow.
    Pieces,
    /// They are said whole each time: the latest counts.
    Whole,
}

/// Whether a value says nothing. It never takes the place of one that does.
pub fn is_empty(raw: &RawValue) -> bool {
    let text = raw.get();
    if text.len() > 16 {
        return false;
    }
    let inner = |open: char, close: char| text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    matches!(text, "null" | "\"\"") || inner('{', '}').or(inner('[', ']')).is_some_and(|rest| rest.trim().is_empty())
}

fn is_zero(raw: &RawValue) -> bool {
    matches!(raw.get(), "0" | "0.0")
}

pub fn parts(raw: &RawValue) -> Option<Parts<'_>> {
    serde_json::from_str(raw.get()).ok()
}

pub fn text(raw: &RawValue) -> Option<String> {
    raw.get().starts_with('"').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

impl Node {
    /// A value as it is first seen; objects and lists are opened where something in them may continue.
    fn of(raw: &RawValue, how: As, levels: usize, held: &mut Held) -> Self {
        held.value();
        match raw.get().as_bytes().first() {
            Some(b'"') => {
                if let Some(text) = text(raw) {
                    held.text(&text);
                    return Node::Text(text);
                }
            }
            Some(b'{') if levels > 0 => {
                if let Some(parts) = parts(raw) {
                    held.object();
                    let mut members = Members::new();
                    grow_members(&mut members, parts, how, levels - 1, held);
                    return Node::Object(members);
                }
            }
            Some(b'[') if levels > 0 && how == As::Pieces => {
                if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) {
                    let mut list = Vec::new();
                    join(&mut list, items, levels - 1, held);
                    return Node::List(list);
                }
            }
            _ => {}
        }
        held.bytes += raw.get().len();
        Node::Raw(raw.to_owned())
    }

    pub fn says_nothing(&self) -> bool {
        match self {
            Node::Raw(raw) => is_empty(raw),
            Node::Text(text) => text.is_empty(),
            Node::Object(members) => members.is_empty(),
            Node::List(items) => items.is_empty(),
        }
    }

    fn as_text(&self) -> Option<&str> {
        match self {
            Node::Text(text) => Some(text),
            Node::Raw(_) | Node::Object(_) | Node::List(_) => None,
        }
    }

    pub fn write(&self, to: &mut String) {
        match self {
            Node::Raw(raw) => to.push_str(raw.get()),
            Node::Text(text) => write_text(text, to),
            Node::Object(members) => write_members(members, to),
            Node::List(items) => {
                to.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        to.push(',');
                    }
                    item.write(to);
                }
                to.push(']');
            }
        }
    }

    fn grow(&mut self, name: &str, more: &RawValue, how: As, levels: usize, held: &mut Held) {
        if is_empty(more) {
            return;
        }
        match (&mut *self, more.get().as_bytes().first(), how) {
            (Node::Object(members), Some(b'{'), _) => {
                if let Some(parts) = parts(more) {
                    grow_members(members, parts, how, levels.saturating_sub(1), held);
                }
            }
            (Node::Text(kept), Some(b'"'), As::Pieces) if CONTINUING.contains(&name) => {
                if let Some(text) = text(more) {
                    held.text(&text);
                    kept.push_str(&text);
                }
            }
            (Node::List(items), Some(b'"'), As::Pieces) if name == "content" => {
                if let Some(text) = text(more) {
                    continue_text(items, text, held);
                }
            }
            (Node::List(items), Some(b'['), As::Pieces) => {
                if let Ok(more) = serde_json::from_str(more.get()) {
                    join(items, more, levels.saturating_sub(1), held);
                }
            }
            (Node::Text(kept), Some(b'['), As::Pieces) if name == "content" && !kept.is_empty() => {
                let mut items = Vec::new();
                continue_text(&mut items, std::mem::take(kept), held);
                *self = Node::List(items);
                self.grow(name, more, how, levels, held);
            }
            _ => self.replace(more, how, levels, held),
        }
    }

    fn replace(&mut self, more: &RawValue, how: As, levels: usize, held: &mut Held) {
        match self {
            Node::Raw(kept) if kept.get() == more.get() => return,
            // A count that was given is not taken back by one that was not made.
            Node::Raw(kept) if how == As::Whole && is_zero(more) && !is_empty(kept) => return,
            Node::Raw(kept) => held.bytes = held.bytes.saturating_sub(kept.get().len()),
            Node::Text(kept) => held.bytes = held.bytes.saturating_sub(kept.len()),
            Node::Object(_) | Node::List(_) => {}
        }
        held.cost = held.cost.saturating_sub(VALUE_COST);
        *self = Node::of(more, how, levels, held);
    }
}

/// Takes in members of an object that came before, or did not.
pub fn grow_members(kept: &mut Members, more: Parts<'_>, how: As, levels: usize, held: &mut Held) {
    for (name, raw) in more {
        grow_member(kept, name, raw, how, levels, held);
    }
}

pub fn grow_member(kept: &mut Members, name: String, raw: &RawValue, how: As, levels: usize, held: &mut Held) {
    let levels = if REPEATED.contains(&name.as_str()) { levels.min(1) } else { levels };
    match kept.get_mut(&name) {
        Some(node) => node.grow(&name, raw, how, levels, held),
        None => {
            held.key(&name);
            kept.insert(name, Node::of(raw, how, levels, held));
        }
    }
}

/// As [`grow_member`], right below a message.
pub fn grow_top(kept: &mut Members, name: String, raw: &RawValue, how: As, held: &mut Held) {
    grow_member(kept, name, raw, how, LEVELS, held);
}

/// Text behind a list of parts.
fn continue_text(items: &mut Vec<Node>, more: String, held: &mut Held) {
    held.text(&more);
    if let Some(Node::Object(last)) = items.last_mut()
        && last.get("type").and_then(Node::as_text) == Some("text")
        && let Some(Node::Text(text)) = last.get_mut("text")
    {
        text.push_str(&more);
        return;
    }
    held.object();
    held.bytes += r#"{"type":"text","text":""},"#.len();
    let members = [("type", "text".to_string()), ("text", more)];
    items.push(Node::Object(members.map(|(name, text)| (name.into(), Node::Text(text))).into()));
}

/// A part of a list, as far as it says which part it continues.
struct Part<'a> {
    index: Option<&'a str>,
    kind: Option<String>,
    id: Option<String>,
}

impl Part<'_> {
    fn continues(&self, kept: &Members, is_last: bool) -> bool {
        let of = |name| kept.get(name).and_then(Node::as_text).filter(|text| !text.is_empty());
        let known = match kept.get("index") {
            Some(Node::Raw(raw)) => Some(raw.get()),
            _ => None,
        };
        let agree = |one: Option<&str>, other: Option<&str>| one.zip(other).is_none_or(|(one, other)| one == other);
        if !agree(self.id.as_deref(), of("id")) || !agree(self.kind.as_deref(), of("type")) {
            return false;
        }
        match self.index {
            Some(index) => known == Some(index),
            None => {
                let kind = self.kind.as_deref().unwrap_or_default();
                is_last && known.is_none() && of("type") == Some(kind) && CONTINUING_TYPES.contains(&kind)
            }
        }
    }
}

/// Parts that follow those of a list, or continue them.
fn join(items: &mut Vec<Node>, more: Vec<&RawValue>, levels: usize, held: &mut Held) {
    for (place, raw) in more.into_iter().enumerate() {
        let Some(members) = parts(raw).filter(|_| levels > 0) else {
            let mut lately = items.iter().rev().take(LOOKED_BACK);
            let again = |item: &Node| matches!(item, Node::Raw(kept) if kept.get() == raw.get());
            if !raw.get().starts_with('{') || !lately.any(again) {
                held.bytes += 1;
                items.push(Node::of(raw, As::Pieces, 0, held));
            }
            continue;
        };
        let said = |name| members.get(name).and_then(|raw| text(raw)).filter(|text| !text.is_empty());
        let index = members.get("index").map(|raw| raw.get()).filter(|index| *index != "null");
        let part = Part { index, kind: said("type"), id: said("id") };
        let mut lately = items.iter_mut().rev().take(LOOKED_BACK).enumerate();
        let same = lately.find_map(|(back, item)| match item {
            Node::Object(kept) if part.continues(kept, back == 0 && place == 0) => Some(kept),
            _ => None,
        });
        match same {
            Some(kept) => grow_members(kept, members, As::Pieces, levels - 1, held),
            None => {
                held.bytes += 3;
                items.push(Node::of(raw, As::Pieces, levels, held));
            }
        }
    }
}

pub fn write_text(text: &str, to: &mut String) {
    // A string always has a text.
    to.push_str(&serde_json::to_string(text).unwrap_or_else(|_| "\"\"".into()));
}

pub fn write_members(members: &Members, to: &mut String) {
    to.push('{');
    for (index, (name, node)) in members.iter().enumerate() {
        if index > 0 {
            to.push(',');
        }
        write_text(name, to);
        to.push(':');
        node.write(to);
    }
    to.push('}');
}
