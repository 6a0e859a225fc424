//! Stored states of documents that a later version has written. They stay for that version, unless their documents are
//! written anew.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::version::Generation;

/// By the ids of their documents, with the generations that they belong to, as far as these can be read.
#[derive(Debug, Default)]
pub struct LaterStates(BTreeMap<String, Option<Generation>>);

/// The part of a state that all versions have.
#[derive(Deserialize)]
struct Configured {
    #[serde(rename = "version")]
    generation: Generation,
}

impl LaterStates {
    /// Adds a state in stored form.
    pub fn add(&mut self, id: String, text: &str) {
        let known = serde_json::from_str::<Configured>(text).ok();
        self.0.insert(id, known.map(|known| known.generation));
    }

    pub fn ids(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    pub fn remove(&mut self, id: &str) {
        self.0.remove(id);
    }

    /// Whether the state of this document stays as it is. One of another generation makes room for a new state.
    pub fn keeps(&mut self, id: &str, generation: Generation) -> bool {
        let keeps = self.0.get(id).is_some_and(|known| *known == Some(generation));
        if !keeps {
            self.0.remove(id);
        }
        keeps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_stays_until_its_document_is_written_anew() {
        let mut states = LaterStates::default();
        states.add("a".into(), r#"{"version":7,"plan":{"moon":"full"}}"#);
        states.add("b".into(), "[]");
        states.add("c".into(), r#"{"version":7}"#);
        states.remove("c");
        assert_eq!(states.ids().collect::<Vec<_>>(), ["a", "b"]);
        let keeps = |states: &mut LaterStates, id, number| states.keeps(id, Generation::from_number(number));
        assert!(keeps(&mut states, "a", 7) && keeps(&mut states, "a", 7));
        assert!(!keeps(&mut states, "b", 7) && !keeps(&mut states, "c", 7) && !keeps(&mut states, "a", 8));
        assert!(!keeps(&mut states, "a", 7) && states.ids().next().is_none());
    }
}
