//! Calling services: what answers mean, and the protocols other than MCP that services speak.

pub mod callback;
pub mod connection;
pub mod openai;
pub mod response;
