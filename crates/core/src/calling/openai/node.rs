//! JSON that arrives in pieces: which values continue, which are replaced, and how much is held.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The members of an object under assembly.
pub type Members = BTreeMap<String, Node>;
/// One level of an object, with its members as they came.
pub type Parts<'a> = BTreeMap<String, &'a RawValue>;

/// Members whose text continues from piece to piece. All other text is complete, and repeated by some servers in every
/// piece.
const CONTINUED_MEMBERS: [&str; 16] = [
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

/// Types of list parts that continue the previous part of the same type.
const CONTINUED_TYPES: [&str; 7] =
    ["text", "thinking", "reasoning", "output_text", "summary_text", "reasoning.text", "reasoning.summary"];

/// Lists that some servers repeat in full in every piece. Their items are kept as they came, without duplicates.
const REPEATED_LISTS: [&str; 2] = ["annotations", "citations"];

/// How many levels below a message values may continue. Deeper values are kept as they came.
const LEVELS: usize = 8;
/// How far back in a list the continued part is searched.
const MAX_PARTS_SEARCHED: usize = 16;
/// The memory overhead of an object and of a value, in bytes.
const OBJECT_COST: usize = 400;
const VALUE_COST: usize = 48;

/// The size of what is held of a response.
#[derive(Debug, Default, Clone, Copy)]
pub struct HeldSize {
    /// Its text, in bytes of JSON.
    pub bytes: usize,
    /// Its memory overhead beside its text, in bytes.
    pub cost: usize,
}

impl HeldSize {
    fn text(&mut self, text: &str) {
        // A control character takes six bytes of JSON, a quotation mark two.
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

    /// Counts an object.
    pub fn object(&mut self) {
        self.cost += OBJECT_COST;
    }

    fn key(&mut self, key: &str) {
        self.bytes += key.len() + 4;
        self.value();
    }
}

/// A value under assembly.
#[derive(Debug)]
pub enum Node {
    /// As it came.
    Raw(Box<RawValue>),
    Text(String),
    Object(Members),
    List(Vec<Node>),
}

/// How repeated members are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repetition {
    /// As pieces: strings continue, lists grow.
    Pieces,
    /// As complete values: the latest counts.
    Whole,
}

/// Whether a value is empty. An empty value never replaces another.
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

/// The members of an object; `None` if it is not one.
pub fn parts(raw: &RawValue) -> Option<Parts<'_>> {
    serde_json::from_str(raw.get()).ok()
}

/// The text of a string; `None` if it is not one.
pub fn text(raw: &RawValue) -> Option<String> {
    raw.get().starts_with('"').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

impl Node {
    /// A value at its first occurrence; objects and lists are opened where something in them may continue.
    fn of(raw: &RawValue, how: Repetition, levels: usize, held: &mut HeldSize) -> Self {
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
            Some(b'[') if levels > 0 && how == Repetition::Pieces => {
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

    /// Whether the value is empty.
    pub fn is_blank_node(&self) -> bool {
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

    /// Writes the value as JSON.
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

    fn grow(&mut self, name: &str, more: &RawValue, how: Repetition, levels: usize, held: &mut HeldSize) {
        if is_empty(more) {
            return;
        }
        match (&mut *self, more.get().as_bytes().first(), how) {
            (Node::Object(members), Some(b'{'), _) => {
                if let Some(parts) = parts(more) {
                    grow_members(members, parts, how, levels.saturating_sub(1), held);
                }
            }
            (Node::Text(kept), Some(b'"'), Repetition::Pieces) if CONTINUED_MEMBERS.contains(&name) => {
                if let Some(text) = text(more) {
                    held.text(&text);
                    kept.push_str(&text);
                }
            }
            (Node::List(items), Some(b'"'), Repetition::Pieces) if name == "content" => {
                if let Some(text) = text(more) {
                    continue_text(items, text, held);
                }
            }
            (Node::List(items), Some(b'['), Repetition::Pieces) => {
                if let Ok(more) = serde_json::from_str(more.get()) {
                    join(items, more, levels.saturating_sub(1), held);
                }
            }
            (Node::Text(kept), Some(b'['), Repetition::Pieces) if name == "content" && !kept.is_empty() => {
                let mut items = Vec::new();
                continue_text(&mut items, std::mem::take(kept), held);
                *self = Node::List(items);
                self.grow(name, more, how, levels, held);
            }
            _ => self.replace(more, how, levels, held),
        }
    }

    fn replace(&mut self, more: &RawValue, how: Repetition, levels: usize, held: &mut HeldSize) {
        match self {
            Node::Raw(kept) if kept.get() == more.get() => return,
            // A zero does not replace an earlier count.
            Node::Raw(kept) if how == Repetition::Whole && is_zero(more) && !is_empty(kept) => return,
            Node::Raw(kept) => held.bytes = held.bytes.saturating_sub(kept.get().len()),
            Node::Text(kept) => held.bytes = held.bytes.saturating_sub(kept.len()),
            Node::Object(_) | Node::List(_) => {}
        }
        held.cost = held.cost.saturating_sub(VALUE_COST);
        *self = Node::of(more, how, levels, held);
    }
}

/// Adds members to an object.
pub fn grow_members(kept: &mut Members, more: Parts<'_>, how: Repetition, levels: usize, held: &mut HeldSize) {
    for (name, raw) in more {
        grow_member(kept, name, raw, how, levels, held);
    }
}

/// Adds one member to an object.
pub fn grow_member(
    kept: &mut Members,
    name: String,
    raw: &RawValue,
    how: Repetition,
    levels: usize,
    held: &mut HeldSize,
) {
    let levels = if REPEATED_LISTS.contains(&name.as_str()) { levels.min(1) } else { levels };
    match kept.get_mut(&name) {
        Some(node) => node.grow(&name, raw, how, levels, held),
        None => {
            held.key(&name);
            kept.insert(name, Node::of(raw, how, levels, held));
        }
    }
}

/// As [`grow_member`], directly below a message.
pub fn grow_top(kept: &mut Members, name: String, raw: &RawValue, how: Repetition, held: &mut HeldSize) {
    grow_member(kept, name, raw, how, LEVELS, held);
}

/// Appends text to a list of parts.
fn continue_text(items: &mut Vec<Node>, more: String, held: &mut HeldSize) {
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

/// A part of a list, as far as it identifies the part that it continues.
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
                is_last && known.is_none() && of("type") == Some(kind) && CONTINUED_TYPES.contains(&kind)
            }
        }
    }
}

/// Appends parts to a list, or continues its parts.
fn join(items: &mut Vec<Node>, more: Vec<&RawValue>, levels: usize, held: &mut HeldSize) {
    for (place, raw) in more.into_iter().enumerate() {
        let Some(members) = parts(raw).filter(|_| levels > 0) else {
            let mut lately = items.iter().rev().take(MAX_PARTS_SEARCHED);
            let again = |item: &Node| matches!(item, Node::Raw(kept) if kept.get() == raw.get());
            if !raw.get().starts_with('{') || !lately.any(again) {
                held.bytes += 1;
                items.push(Node::of(raw, Repetition::Pieces, 0, held));
            }
            continue;
        };
        let said = |name| members.get(name).and_then(|raw| text(raw)).filter(|text| !text.is_empty());
        let index = members.get("index").map(|raw| raw.get()).filter(|index| *index != "null");
        let part = Part { index, kind: said("type"), id: said("id") };
        let mut lately = items.iter_mut().rev().take(MAX_PARTS_SEARCHED).enumerate();
        let same = lately.find_map(|(back, item)| match item {
            Node::Object(kept) if part.continues(kept, back == 0 && place == 0) => Some(kept),
            _ => None,
        });
        match same {
            Some(kept) => grow_members(kept, members, Repetition::Pieces, levels - 1, held),
            None => {
                held.bytes += 3;
                items.push(Node::of(raw, Repetition::Pieces, levels, held));
            }
        }
    }
}

/// Writes a text as a JSON string.
pub fn write_text(text: &str, to: &mut String) {
    // A string always has a JSON text.
    to.push_str(&serde_json::to_string(text).unwrap_or_else(|_| "\"\"".into()));
}

/// Writes an object as JSON.
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
