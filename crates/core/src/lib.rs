//! The deciding core of Narthex: plain Rust that knows no platform.
//!
//! Clock and randomness come in as arguments, so every decision can be replayed in a test. Which room may import which
//! is listed in `docs/architecture.md`, and enforced by `npm run check`.

#![forbid(unsafe_code)]

pub mod access;
pub mod base;
pub mod calling;
pub mod context;
pub mod context_store;
#[cfg(any(test, feature = "schema"))]
pub mod contract;
pub mod events;
pub mod execution;
pub mod http;
pub mod lane;
pub mod limits;
pub mod mcp;
pub mod models;
pub mod registry;
pub mod schedules;
pub mod service_lane;
pub mod services;
pub mod usage;
pub mod webhooks;
