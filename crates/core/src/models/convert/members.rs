//! The members of a request: which of them have a counterpart in the other format, and the faults of those that have
//! none.

use serde_json::{Map, Value};

use crate::base::json::{Fault, child};

/// What becomes of a member.
#[derive(Debug, Clone, Copy)]
pub enum Member {
    /// It is copied under its own name.
    Same,
    /// Its own code converts it.
    Converted,
    /// It is dropped. The documentation of the folder lists these under "Lossy".
    Dropped,
    /// It is refused, unless it has this value (JSON), which changes nothing.
    Only(&'static str),
}

/// The faults of a request, with the readers that find them.
#[derive(Debug)]
pub struct Faults {
    pub list: Vec<Fault>,
    /// The name of the provider's format.
    to: &'static str,
}

impl Faults {
    pub fn new(to: &'static str) -> Self {
        Self { list: Vec::new(), to }
    }

    pub fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.list.push(Fault::new(pointer, detail));
    }

    /// Refuses a value that the provider's format cannot express.
    pub fn refuse(&mut self, pointer: impl Into<String>) {
        self.add(pointer, format!("has no counterpart in {}", self.to));
    }

    /// The result of a conversion, if it has no faults.
    pub fn finish(self, value: Value) -> Result<Value, Vec<Fault>> {
        if self.list.is_empty() { Ok(value) } else { Err(self.list) }
    }

    /// Reads the members of a request by their table. Returns those that are copied.
    pub fn members(&mut self, body: &Value, table: &[(&str, Member)]) -> Map<String, Value> {
        let mut copied = Map::new();
        let Some(members) = body.as_object() else {
            self.add("#", "must be an object");
            return copied;
        };
        for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
            match table.iter().find(|(known, _)| known == name) {
                Some((_, Member::Same)) => drop(copied.insert(name.clone(), value.clone())),
                Some((_, Member::Converted | Member::Dropped)) => {}
                Some((_, Member::Only(text))) if is_value(value, text) => {}
                Some((_, Member::Only(text))) => {
                    let detail = format!("must be {text}: other values have no counterpart in {}", self.to);
                    self.add(child("#", name), detail);
                }
                None => self.refuse(child("#", name)),
            }
        }
        copied
    }

    /// Refuses all members of an object but these. Returns whether it is an object.
    pub fn known(&mut self, value: &Value, pointer: &str, names: &[&str]) -> bool {
        let Some(members) = value.as_object() else {
            self.add(pointer, "must be an object");
            return false;
        };
        for (name, _) in members.iter().filter(|(name, value)| !value.is_null() && !names.contains(&name.as_str())) {
            self.refuse(child(pointer, name));
        }
        true
    }

    /// The members of an array, with their pointers. Null is an empty one.
    pub fn array(&mut self, value: Value, pointer: &str) -> Vec<(String, Value)> {
        match value {
            Value::Array(items) => {
                items.into_iter().enumerate().map(|(at, item)| (format!("{pointer}/{at}"), item)).collect()
            }
            Value::Null => Vec::new(),
            _ => {
                self.add(pointer, "must be an array");
                Vec::new()
            }
        }
    }

    /// A string that must be there.
    pub fn string(&mut self, value: Value, pointer: impl Into<String>) -> Value {
        if !value.is_string() {
            self.add(pointer, "must be a string");
        }
        value
    }

    /// A whole number; `None` if it is missing or null.
    pub fn whole(&mut self, body: &Value, name: &str) -> Option<u64> {
        let value = body.get(name).filter(|value| !value.is_null())?;
        if value.as_u64().is_none() {
            self.add(child("#", name), "must be a whole number");
        }
        value.as_u64()
    }
}

/// Whether a value is that of a JSON text; numbers are compared by their value.
fn is_value(value: &Value, text: &str) -> bool {
    match (value.as_f64(), text.parse::<f64>()) {
        (Some(one), Ok(other)) => one == other,
        _ => serde_json::from_str::<Value>(text).is_ok_and(|other| *value == other),
    }
}

/// Moves a member out of an object; null if it has none.
pub fn take(value: &mut Value, name: &str) -> Value {
    value.get_mut(name).map(Value::take).unwrap_or_default()
}

/// A member that is a string; empty if it is none.
pub fn word<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Sets a member, unless its value is null.
pub fn set(members: &mut Map<String, Value>, name: &str, value: Value) {
    if !value.is_null() {
        members.insert(name.into(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_are_copied_dropped_or_refused_by_their_table() {
        let table = [
            ("a", Member::Same),
            ("b", Member::Converted),
            ("c", Member::Dropped),
            ("d", Member::Only("0")),
            ("e", Member::Only("[\"text\"]")),
        ];
        let mut faults = Faults::new("the other format");
        let body = json!({"a": 1, "b": 2, "c": 3, "d": 0.0, "e": ["text"], "f": null});
        assert_eq!(Value::from(faults.members(&body, &table)), json!({"a": 1}));
        assert!(faults.list.is_empty());
        faults.members(&json!({"d": 0.5, "e": ["audio"], "x/y": 1}), &table);
        let pointers: Vec<&str> = faults.list.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["#/d", "#/e", "#/x~1y"]);
        assert_eq!(faults.list[2].detail, "has no counterpart in the other format");
    }
}
