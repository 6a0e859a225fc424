//! The limits of a tenant's registry: how large its documents may be, one by one and together.
//!
//! What a document may contain is decided in the room of its kind: `services`, `access`, `limits`, `webhooks`,
//! `schedules`.

pub mod size;
