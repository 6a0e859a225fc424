//! Events: their form (CloudEvents 1.0.2), who sees which, and how streams are fanned out.

pub mod backpressure;
pub mod event;
pub mod fanout;
pub mod filter;
