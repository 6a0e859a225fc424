//! Tool calls in a chat completion, assembled from their pieces.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::node::{self, HeldSize, Members, Node, Parts, Repetition, grow_top};
use crate::base::order;

/// Calls in the order they began. A piece names its call by `index`, by `id`, by both or, at some servers, by neither.
#[derive(Debug, Default)]
pub struct Calls {
    calls: Vec<Call>,
    /// The latest call with an index, or an id.
    by_index: BTreeMap<u64, usize>,
    by_id: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Call {
    index: Option<u64>,
    members: Members,
}

fn function_name(members: &Parts<'_>) -> String {
    let function = members.get("function").and_then(|raw| node::parts(raw));
    function.and_then(|function| function.get("name").and_then(|raw| node::text(raw))).unwrap_or_default()
}

impl Call {
    fn text(&self, name: &str) -> &str {
        match self.members.get(name) {
            Some(Node::Text(text)) => text,
            _ => "",
        }
    }

    fn function_name(&self) -> &str {
        match self.members.get("function") {
            Some(Node::Object(function)) => match function.get("name") {
                Some(Node::Text(name)) => name,
                _ => "",
            },
            _ => "",
        }
    }

    /// Whether a piece with these may belong to this call. Neither changes within a call.
    fn fits(&self, id: &str, name: &str) -> bool {
        let same = |known: &str, said: &str| known.is_empty() || said.is_empty() || known == said;
        match !id.is_empty() && self.text("id") == id {
            true => true,
            false => same(self.text("id"), id) && same(self.function_name(), name),
        }
    }
}

impl Calls {
    /// Whether there are no calls.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Adds a piece: one item of a delta's `tool_calls`.
    pub fn push(&mut self, piece: &RawValue, held: &mut HeldSize) {
        let Some(mut members) = node::parts(piece) else { return };
        let index = members.remove("index").and_then(|raw| raw.get().parse().ok());
        let id = members.get("id").and_then(|raw| node::text(raw)).unwrap_or_default();
        let at = self.find(index, &id, &function_name(&members)).unwrap_or_else(|| {
            held.object();
            held.bytes += 3;
            self.calls.push(Call { index, members: Members::new() });
            self.calls.len() - 1
        });
        if let Some(index) = index {
            self.by_index.insert(index, at);
        }
        if !id.is_empty() {
            self.by_id.entry(id).or_insert(at);
        }
        if let Some(call) = self.calls.get_mut(at) {
            for (name, raw) in members {
                grow_top(&mut call.members, name, raw, Repetition::Pieces, held);
            }
        }
    }

    fn find(&self, index: Option<u64>, id: &str, name: &str) -> Option<usize> {
        let fits = |at: &usize| self.calls.get(*at).is_some_and(|call| call.fits(id, name));
        let by_id = self.by_id.get(id).copied();
        match index {
            Some(index) => match self.by_index.get(&index).copied() {
                Some(at) => Some(at).filter(fits).or(by_id.filter(fits)),
                // Some servers send the same id for all calls.
                None => by_id.filter(|at| self.calls.get(*at).is_some_and(|call| call.index.is_none())),
            },
            None if id.is_empty() => self.calls.len().checked_sub(1).filter(fits),
            None => by_id,
        }
    }

    /// Writes the calls as in a message: ordered by index, without it.
    pub fn write(&mut self, to: &mut String) {
        order::sort_by_key(&mut self.calls, |call| call.index.unwrap_or(u64::MAX));
        to.push('[');
        for (place, call) in self.calls.iter_mut().enumerate() {
            if place > 0 {
                to.push(',');
            }
            if call.members.contains_key("function") && call.text("type").is_empty() {
                call.members.insert("type".into(), Node::Text("function".into()));
            }
            node::write_members(&call.members, to);
        }
        to.push(']');
    }
}
