//! A service as an isolate knows it: its document, and what was observed of it.

use crate::base::time::Timestamp;
use crate::lane::breaker::BreakerState;
use crate::lane::live::Live;
use crate::lane::observed::{HealthStatus, ObservedStatus};
use crate::services::outline::ServiceOutline;

pub trait KnownService {
    fn service(&self) -> &ServiceOutline;
    fn live(&self) -> &Live;

    /// The observed status, as far as this isolate knows it.
    fn measured(&self) -> ObservedStatus {
        self.live().measured()
    }

    /// Whether it must not be called without a permit.
    fn is_limited(&self) -> bool {
        let service = self.service();
        service.limits.max_concurrency.is_some() || service.transport.connects()
    }

    /// Whether a call to it needs a request to its lane first: it has a concurrency limit, it connects by itself, or
    /// its breaker is not closed.
    fn is_gated(&self) -> bool {
        self.is_limited() || self.measured().breaker != BreakerState::Closed
    }

    /// Whether it was observed to be offline: it gets no work.
    fn is_offline(&self) -> bool {
        self.measured().evidence == HealthStatus::Offline
    }

    /// Whether no call would pass now: this version cannot read it, it is offline, or its breaker is open or half open
    /// with a call in progress.
    fn is_blocked(&self, now: Timestamp) -> bool {
        self.service().is_unreadable() || self.is_offline() || self.half_opens_at(now).is_some()
    }

    /// When its breaker may half-open, while it blocks calls.
    fn half_opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.live().half_opens_at(now)
    }
}
