//! The Model Context Protocol, as far as it needs no platform: messages, revisions, headers and tools.
//!
//! One URL serves revision 2026-07-28 ("modern": each request describes itself) and those of 2025 and 2024 ("legacy":
//! they begin with `initialize`). Authorization is in `access::oauth`; sending, streams and waiting are elsewhere
//! (`src/gateway/mcp`, `src/transport/mcp`).

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
/// The legacy revisions, latest first.
pub const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// The revisions with JSON-RPC batches.
pub const BATCHED: [&str; 2] = ["2025-03-26", "2024-11-05"];
