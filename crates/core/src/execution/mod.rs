//! Carries one context from its lease to its commit: decisions only, without I/O.
//!
//! Which service makes the next attempt, what an attempt resulted in, and whether another one follows; and which
//! contexts a queue's consumer runs at the same time. The worker that holds the context performs what is decided here.
//! How the store records it belongs to `context_store` and `context`, what a service's response means to `calling`.

pub mod admission_check;
pub mod attempt_result;
pub mod backoff;
pub mod consumer;
pub mod driver;
#[cfg(any(test, feature = "test-support"))]
pub mod fixtures;
pub mod hand_over;
pub mod input_request;
pub mod known_service;
pub mod retry;
pub mod selection;
