//! What the audit log says of a change: who, from where, and what became of what.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::base::canonical::digest;
use crate::base::time::{Timestamp, as_text};

/// A value longer than this, as JSON, is told by its size and digest.
const LONGEST: usize = 1000;
/// What says nothing of a change: it follows from the entry itself.
const LEFT_OUT: [&str; 2] = ["created_at", "updated_at"];

/// Who does something, by which request, from where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    pub actor: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub request_id: String,
    pub address: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    Refused,
}

/// One entry, as it is kept and as it is shown.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    pub id: String,
    #[serde(serialize_with = "as_text")]
    pub at: Timestamp,
    pub actor: &'a str,
    /// What people called it then: the name of an API key or a client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_name: Option<&'a str>,
    /// `role.created`
    pub action: &'a str,
    /// `roles/auditor`: the path below `/v1`.
    pub object: &'a str,
    pub request_id: &'a str,
    pub address: &'a str,
    pub outcome: Outcome,
    pub changes: &'a Map<String, Value>,
}

/// By what people can tell that a secret was changed, or that two are the same, without learning it: it depends on
/// `salt`, which nobody outside knows, so that it cannot be guessed.
pub fn fingerprint(salt: &str, secret: &str) -> String {
    let digest = digest(&format!("{salt} {secret}"));
    format!("fingerprint:{}", digest.get(..12).unwrap_or_default())
}

fn shown(value: &Value) -> Value {
    let text = value.to_string();
    if text.len() <= LONGEST {
        return value.clone();
    }
    json!({"bytes": text.len(), "sha256": digest(&text)})
}

/// The members that differ, each with what it was and what it is; `null` is nothing.
pub fn changes(before: &Value, after: &Value) -> Map<String, Value> {
    let none = Map::new();
    let (before, after) = (before.as_object().unwrap_or(&none), after.as_object().unwrap_or(&none));
    let mut changes = Map::new();
    for name in before.keys().chain(after.keys()) {
        let member = |object: &Map<String, Value>| object.get(name).cloned().unwrap_or_default();
        let (from, to) = (member(before), member(after));
        if from != to && !LEFT_OUT.contains(&name.as_str()) {
            changes.insert(name.clone(), json!({"from": shown(&from), "to": shown(&to)}));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_and_nothing_else() {
        let before = json!({"a": 1, "b": [1], "c": "x", "updated_at": 1});
        let after = json!({"a": 1, "b": [2], "d": null, "e": true, "updated_at": 2});
        let told = Value::from(changes(&before, &after));
        let expected = json!({
            "b": {"from": [1], "to": [2]},
            "c": {"from": "x", "to": null},
            "e": {"from": null, "to": true},
        });
        assert_eq!(told, expected);
        assert!(changes(&Value::Null, &Value::Null).is_empty());
    }

    #[test]
    fn what_is_long_is_told_by_its_digest() {
        let long = json!({"schema": "x".repeat(2000)});
        let told = changes(&Value::Null, &long);
        assert_eq!(told["schema"]["to"]["bytes"], 2002);
        assert_eq!(told["schema"]["to"]["sha256"].as_str().unwrap().len(), 64);
    }

    #[test]
    fn a_fingerprint_tells_secrets_apart_and_nothing_of_them() {
        assert_eq!(fingerprint("salt", "secret"), fingerprint("salt", "secret"));
        assert_ne!(fingerprint("salt", "secret"), fingerprint("salt", "secrets"));
        assert_ne!(fingerprint("salt", "secret"), fingerprint("pepper", "secret"));
        assert_eq!(fingerprint("salt", "secret").len(), "fingerprint:".len() + 12);
    }
}
