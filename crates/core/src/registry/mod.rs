//! The limits of a tenant's registry.

pub mod size;
