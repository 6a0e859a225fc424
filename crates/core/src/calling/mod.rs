//! Calling services: what responses mean, and the protocols other than MCP.
//!
//! MCP is in `mcp::client`; whether a call may start is decided in `lane`, and whether it is repeated in `context`.
//! Sending is elsewhere (`src/transport`).

pub mod callback;
pub mod connection;
pub mod openai;
pub mod response;
