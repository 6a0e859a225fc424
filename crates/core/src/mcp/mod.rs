//! The Model Context Protocol, as far as no platform is needed: what a message is, which era it belongs to, whether
//! its headers say what its body says, what a tool looks like.
//!
//! One URL serves revision 2026-07-28 ("modern": each request says for itself what it is) and those of 2025
//! and 2024 ("legacy": they begin with `initialize`). Kept out: who may ask, and everything that takes time.

pub mod allowed_origin;
pub mod app_uris;
pub mod call_result;
pub mod client;
pub mod client_capabilities;
pub mod cursor_trail;
pub mod definitions;
pub mod elicitation;
pub mod error;
pub mod instructions;
pub mod list_pages;
pub mod message;
pub mod names;
pub mod omissions;
pub mod param_headers;
pub mod passthrough;
pub mod request_headers;
pub mod request_state;
pub mod resource_links;
pub mod responses;
pub mod revision;
mod schema_root;
pub mod session;
pub mod subscription;
pub mod task;
pub mod tool;

/// The modern revision.
pub const MODERN: &str = "2026-07-28";
/// The legacy revisions, the latest first.
pub const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// Those in which several messages may come in one body.
pub const BATCHED: [&str; 2] = ["2025-03-26", "2024-11-05"];
