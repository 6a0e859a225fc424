//! Schemas as an isolate has compiled them: once for each text, whatever else of the registry changes.

use std::cell::OnceCell;

use serde_json::value::RawValue;

use narthex_core::services::Service;
use narthex_core::services::schema::Schema;

/// The schemas of one capability, compiled when first needed.
#[derive(Default)]
pub struct Schemas {
    pub input: OnceCell<Option<Schema>>,
    pub output: OnceCell<Option<Schema>>,
}

/// Whether what was compiled for one is good for the other: compiling takes longer than comparing.
pub fn have_the_same_schemas(one: &Service, other: &Service) -> bool {
    let same = |one: &Option<Box<RawValue>>, other: &Option<Box<RawValue>>| {
        one.as_deref().map(RawValue::get) == other.as_deref().map(RawValue::get)
    };
    let pairs = || one.capabilities.iter().zip(&other.capabilities);
    one.capabilities.len() == other.capabilities.len()
        && pairs().all(|(a, b)| {
            a.format == b.format && same(&a.input_schema, &b.input_schema) && same(&a.output_schema, &b.output_schema)
        })
}
