//! The contract, held to the types of the code. Only tests compile this room.
//!
//! [`views`] compares what serde writes, as `schemars` derives it from a type, with a schema of `console/openapi.json`
//! or `console/asyncapi.json`. The tests of the core's own types are here; those of the gateway's views are in
//! `src/gateway/contract_tests.rs`. Rules of requests belong in the rooms that read them.

mod shape;
pub mod views;

#[cfg(test)]
mod events_tests;
#[cfg(test)]
mod models_tests;
#[cfg(test)]
mod problems_tests;
#[cfg(test)]
mod requests_tests;
#[cfg(test)]
mod views_tests;

use std::sync::LazyLock;

use serde_json::{Value, json};

/// One of the contract's two documents.
pub struct Document {
    /// Its path in the repository.
    pub path: &'static str,
    pub root: Value,
}

pub static OPENAPI: LazyLock<Document> =
    LazyLock::new(|| Document::new("console/openapi.json", include_str!("../../../../console/openapi.json")));

pub static ASYNCAPI: LazyLock<Document> =
    LazyLock::new(|| Document::new("console/asyncapi.json", include_str!("../../../../console/asyncapi.json")));

impl Document {
    fn new(path: &'static str, text: &str) -> Self {
        Self { path, root: serde_json::from_str(text).unwrap_or_default() }
    }

    /// The value at a JSON Pointer; null if there is none.
    pub fn at(&self, pointer: &str) -> &Value {
        self.root.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// What a `$ref` leads to, or the value itself.
    pub fn follow<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.follow(self.at(reference.trim_start_matches('#'))),
            None => value,
        }
    }

    /// A schema by its name, or by its name and a JSON Pointer in it: `Key`, `Issuer/properties/claims`.
    pub fn schema(&self, name: &str) -> Value {
        json!({"$ref": format!("#/components/schemas/{name}")})
    }
}
