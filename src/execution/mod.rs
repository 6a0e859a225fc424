//! Carries one context from admission to commit.
//!
//! The core's driver decides, the object decides and stores, and the calls are made here. The holder of the lease
//! reports, and the store accepts reports only under the lease in force, so two workers on one context cannot both end
//! it. How a service is called belongs to `transport`, routes and admission to `gateway`.

mod actions;
mod attempt;
pub mod background;
mod client;
pub mod client_stream;
pub mod deliveries;
pub mod model_use;
pub mod notifications;
mod observer;
mod redaction;
pub mod schedules;
mod worker;

use serde_json::value::RawValue;

use crate::objects::registry::snapshot::{Entry, Snapshot};
use narthex_core::services::outline::ServiceOutline;

pub use attempt::resolve_destination;
pub use client::{Client, WaitOutcome};
pub use worker::{run_before_storing, work_on};

/// The path where services call back.
pub const CALLBACK_PATH: &str = "/v1/callbacks/";

/// A context that has ended.
pub struct Completion {
    /// Without parameters and result.
    pub view: Box<RawValue>,
    pub result: Option<Box<RawValue>>,
    pub timings: Timings,
}

/// Milliseconds spent waiting for others.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    pub admit: u64,
    pub upstream: u64,
    pub commit: u64,
}

/// The services that the principal can see.
pub fn services(snapshot: &Snapshot) -> impl Iterator<Item = &ServiceOutline> {
    snapshot.services.iter().map(Entry::service)
}
