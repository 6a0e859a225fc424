//! What bounds a tenant's registry.

pub mod size;
