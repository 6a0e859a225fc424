//! The Model Context Protocol, as far as no platform is needed: what a message is, which era it belongs to, whether
//! its headers say what its body says, what a tool looks like.
//!
//! One URL serves revision 2026-07-28 ("modern": each request says for itself what it is) and those of 2025
//! and 2024 ("legacy": they begin with `initialize`). Kept out: who may ask, and everything that takes time.

pub mod able;
pub mod apps;
pub mod client;
pub mod definition;
pub mod era;
pub mod error;
pub mod header;
pub mod instructions;
pub mod left_out;
pub mod links;
pub mod message;
pub mod mirror;
pub mod names;
pub mod origin;
pub mod outcome;
pub mod pages;
pub mod passing;
pub mod question;
pub mod reply;
mod schema_root;
pub mod session;
pub mod state;
pub mod subscription;
pub mod task;
pub mod tool;
pub mod trail;

/// The modern revision.
pub const MODERN: &str = "2026-07-28";
/// The legacy revisions, the latest first.
pub const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// Those in which several messages may come in one body.
pub const BATCHED: [&str; 2] = ["2025-03-26", "2024-11-05"];
