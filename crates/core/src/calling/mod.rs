//! Calling services: what responses mean, and the protocols other than MCP.

pub mod callback;
pub mod connection;
pub mod openai;
pub mod response;
