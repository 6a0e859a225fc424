//! Compiled schemas of an isolate: each text is compiled once, whatever else changes in the registry.

use std::cell::OnceCell;

use serde_json::value::RawValue;

use narthex_core::services::Service;
use narthex_core::services::schema::Schema;

/// The schemas of one capability, compiled on first use.
#[derive(Default)]
pub struct Schemas {
    pub input: OnceCell<Option<Schema>>,
    pub output: OnceCell<Option<Schema>>,
}

/// Whether the compiled schemas of one service also fit the other: comparing is faster than compiling.
pub fn have_same_schemas(service: &Service, other: &Service) -> bool {
    let same = |schema: &Option<Box<RawValue>>, other: &Option<Box<RawValue>>| {
        schema.as_deref().map(RawValue::get) == other.as_deref().map(RawValue::get)
    };
    let pairs = || service.capabilities.iter().zip(&other.capabilities);
    service.capabilities.len() == other.capabilities.len()
        && pairs().all(|(a, b)| {
            a.format == b.format && same(&a.input_schema, &b.input_schema) && same(&a.output_schema, &b.output_schema)
        })
}
