//! Carries one context from its lease to its commit: decisions only, without I/O.
//!
//! Which service makes the next attempt, what an attempt resulted in, and whether another one follows. The worker that
//! holds the context performs what is decided here. How the store records it belongs to `context_store` and `context`,
//! what a service's response means to `calling`.

pub mod attempt_result;
pub mod backoff;
#[cfg(any(test, feature = "test-support"))]
pub mod fixtures;
pub mod known_service;
pub mod retry;
pub mod selection;
