//! Durable Objects, a folder for each: its messages, its tables, and a thin shell around the core. `events` has two,
//! the hub and its shards.
//!
//! Objects decide and store; they never call a service. A shell reads a message, lets the core decide, writes once, and
//! replies. The previous and the next version must understand every message and row, because a deployment runs both for
//! a while: members are only ever added, with defaults.

pub mod alarm;
pub mod contexts;
pub mod events;
pub mod grants;
pub mod lanes;
pub mod limits;
pub mod protocol;
pub mod registry;
pub mod reply;
pub mod retries;
pub mod schedules;
pub mod secrets;
pub mod sessions;
pub mod shell;
#[cfg(test)]
mod wire_tests;
