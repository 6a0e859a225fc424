//! Events: their form (CloudEvents 1.0.2), their filters, and the fan-out of streams.

pub mod backpressure;
pub mod bundle;
pub mod cloud_event;
pub mod fanout;
pub mod filter;

#[cfg(test)]
mod tests;
