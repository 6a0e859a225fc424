//! Services and work for tests.

use semver::Version;
use serde_json::value::RawValue;

use super::known_service::KnownService;
use crate::base::time::Timestamp;
use crate::context::fixtures::admission;
use crate::context::lease::{Hold, LeaseNumber};
use crate::context::retry::Retry;
use crate::context_store::replies::Work;
use crate::lane::breaker::BreakerState;
use crate::lane::live::Live;
use crate::lane::observed::{HealthStatus, ObservedStatus};
use crate::services::capability::{Capability, TaskSupport};
use crate::services::outline::{ServiceOutline, TransportOutline};
use crate::services::schema::Formats;
use crate::services::transport::Transport;
use crate::services::{Service, ServiceKind, ServiceLimits};

pub const NOW: Timestamp = Timestamp(1_000_000);

#[derive(Debug)]
pub struct Known {
    pub service: ServiceOutline,
    pub live: Live,
}

impl KnownService for Known {
    fn service(&self) -> &ServiceOutline {
        &self.service
    }

    fn live(&self) -> &Live {
        &self.live
    }
}

/// A service that offers version 1.0.0 of `echo`, of which nothing was observed.
pub fn known(id: &str) -> Known {
    let offer = Capability {
        name: "echo".into(),
        version: Version::new(1, 0, 0),
        description: String::new(),
        input_schema: None,
        output_schema: None,
        format: Formats::default(),
        idempotent: false,
        durable: true,
        timeout_seconds: 60,
        permissions: Vec::new(),
        task_support: TaskSupport::default(),
        tool: None,
        content: None,
        price: None,
    };
    let service = Service {
        models: None,
        id: id.into(),
        name: id.into(),
        kind: ServiceKind::Tool,
        description: String::new(),
        tags: Vec::new(),
        metadata: None,
        transport: Transport::Http { url: "https://a.example.com/".into() },
        capabilities: vec![offer],
        health: None,
        limits: ServiceLimits { max_concurrency: None, max_queue: 100 },
        retry: Retry::default(),
        weight: 1,
        tier: 0,
        check_arguments: true,
        content: None,
        draining: false,
        catalogue: None,
    };
    Known { service: service.outline(), live: Live::default() }
}

impl Known {
    fn observed(self, change: impl FnOnce(&mut ObservedStatus)) -> Self {
        let mut measured = self.live.measured();
        measured.version += 1;
        change(&mut measured);
        self.live.update_observed(measured);
        self
    }

    pub fn open(self, until: Timestamp) -> Self {
        self.observed(|measured| {
            measured.breaker = BreakerState::Open;
            measured.breaker_until = Some(until);
        })
    }

    pub fn half_open(self) -> Self {
        self.observed(|measured| measured.breaker = BreakerState::HalfOpen)
    }

    pub fn offline(self) -> Self {
        self.observed(|measured| measured.evidence = HealthStatus::Offline)
    }

    pub fn latency(self, milliseconds: u64) -> Self {
        self.observed(|measured| measured.latency_ms = Some(milliseconds))
    }

    pub fn draining(mut self) -> Self {
        self.service.draining = true;
        self
    }

    /// A later version has written it, and this one cannot read it.
    pub fn unreadable(mut self) -> Self {
        let names = self.service.capabilities.iter().map(|capability| capability.name.clone()).collect();
        self.service = ServiceOutline::unreadable(self.service.id, names);
        self
    }

    /// It connects by itself.
    pub fn connecting(mut self) -> Self {
        self.service.transport = TransportOutline::Socket { grace_seconds: 10 };
        self
    }

    /// It sent a `Retry-After` of this length at [`NOW`].
    pub fn resting(self, milliseconds: u64) -> Self {
        self.live.cool_down_until.set(NOW.plus_ms(milliseconds));
        self
    }
}

/// A leased context that was admitted to the service `one`, at its first attempt.
pub fn work() -> Work {
    Work {
        admission: admission(1, NOW),
        parameters: RawValue::NULL.to_owned(),
        hold: Hold::Leased(LeaseNumber::FIRST),
        attempt: 1,
        tried: Vec::new(),
        hopeless: Vec::new(),
        input: None,
        input_state: None,
    }
}

/// The same context after attempts at these services.
pub fn work_after(tried: &[&str]) -> Work {
    let tried: Vec<_> = tried.iter().map(|id| (*id).into()).collect();
    Work { attempt: 1 + tried.len() as u64, tried, ..work() }
}
