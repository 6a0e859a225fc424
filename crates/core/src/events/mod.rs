//! Events: their form (CloudEvents 1.0.2), their filters, and the fan-out of streams.

pub mod backpressure;
pub mod bundle;
pub mod close_code;
pub mod cloud_event;
pub mod event_type;
pub mod fanout;
pub mod filter;

#[cfg(test)]
mod tests;
