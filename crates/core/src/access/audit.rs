//! Entries of the audit log: who changed what, and from where.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::base::canonical::digest;
use crate::base::time::{Timestamp, as_text};

/// A value whose JSON is longer than this is replaced by its size and digest.
const MAX_VALUE_BYTES: usize = 1000;
/// Members that are omitted, because they follow from the entry itself.
const OMITTED: [&str; 2] = ["created_at", "updated_at"];

/// Who acts, by which request, from where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub actor: String,
    /// The display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub request_id: String,
    pub address: String,
}

/// Whether an action was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    Done,
    Refused,
}

/// An entry, as it is stored and shown.
#[derive(Debug, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct AuditEntry<'a> {
    pub id: String,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "String"))]
    pub at: Timestamp,
    pub actor: &'a str,
    /// The name of the API key or client at that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_name: Option<&'a str>,
    /// For example `role.created`.
    pub action: &'a str,
    /// The path below `/v1`, for example `roles/auditor`.
    pub object: &'a str,
    pub request_id: &'a str,
    pub address: &'a str,
    pub outcome: AuditOutcome,
    pub changes: &'a Map<String, Value>,
}

/// A fingerprint by which people recognize a changed secret, or two equal ones, without learning the secret. It depends
/// on `salt`, which is secret, so that it cannot be used to guess the secret.
pub fn fingerprint(salt: &str, secret: &str) -> String {
    let digest = digest(&format!("{salt} {secret}"));
    format!("fingerprint:{}", digest.get(..12).unwrap_or_default())
}

fn shown(value: &Value) -> Value {
    let text = value.to_string();
    if text.len() <= MAX_VALUE_BYTES {
        return value.clone();
    }
    json!({"bytes": text.len(), "sha256": digest(&text)})
}

/// The members that differ, with the old and the new value; `null` if absent.
pub fn changes(before: &Value, after: &Value) -> Map<String, Value> {
    let none = Map::new();
    let (before, after) = (before.as_object().unwrap_or(&none), after.as_object().unwrap_or(&none));
    let mut changes = Map::new();
    for name in before.keys().chain(after.keys()) {
        let member = |object: &Map<String, Value>| object.get(name).cloned().unwrap_or_default();
        let (from, to) = (member(before), member(after));
        if from != to && !OMITTED.contains(&name.as_str()) {
            changes.insert(name.clone(), json!({"from": shown(&from), "to": shown(&to)}));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differences_are_recorded() {
        let before = json!({"a": 1, "b": [1], "c": "x", "updated_at": 1});
        let after = json!({"a": 1, "b": [2], "d": null, "e": true, "updated_at": 2});
        let shown = Value::from(changes(&before, &after));
        let expected = json!({
            "b": {"from": [1], "to": [2]},
            "c": {"from": "x", "to": null},
            "e": {"from": null, "to": true},
        });
        assert_eq!(shown, expected);
        assert!(changes(&Value::Null, &Value::Null).is_empty());
    }

    #[test]
    fn long_values_are_replaced_by_their_digest() {
        let long = json!({"schema": "x".repeat(2000)});
        let shown = changes(&Value::Null, &long);
        assert_eq!(shown["schema"]["to"]["bytes"], 2002);
        assert_eq!(shown["schema"]["to"]["sha256"].as_str().unwrap().len(), 64);
    }

    #[test]
    fn a_fingerprint_distinguishes_secrets_without_revealing_them() {
        assert_eq!(fingerprint("salt", "secret"), fingerprint("salt", "secret"));
        assert_ne!(fingerprint("salt", "secret"), fingerprint("salt", "secrets"));
        assert_ne!(fingerprint("salt", "secret"), fingerprint("pepper", "secret"));
        assert_eq!(fingerprint("salt", "secret").len(), "fingerprint:".len() + 12);
    }
}
