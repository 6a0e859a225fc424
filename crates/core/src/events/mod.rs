//! Events: their form (CloudEvents 1.0.2), their filters, and the fan-out of streams.
//!
//! Deliveries to webhooks are in `webhooks`, figures from events in `usage`, the outbox of a store in
//! `context_store`. The log and the sockets are elsewhere (`src/objects/events`).

pub mod backpressure;
pub mod bundle;
pub mod close_code;
pub mod cloud_event;
pub mod event_type;
pub mod fanout;
pub mod filter;
pub mod log_position;
pub mod sequence;
pub mod subscribers;
pub mod viewer;

#[cfg(test)]
mod tests;
