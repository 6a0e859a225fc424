//! The revision of a tenant's registry, and its limits: how large its documents may be, one by one and together.
//!
//! What a document may contain is decided in the room of its kind: `services`, `access`, `limits`, `webhooks`,
//! `schedules`.

pub mod revision;
pub mod size;
