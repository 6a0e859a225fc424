//! What a lane learns of its service, and what ends with it.

use super::storage::Storage;
use super::{Identity, ServiceLane, State, StorageError};
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;
use crate::calling::connection::close_code::ConnectionCloseCode;
use crate::lane::health::StatusReason;
use crate::lane::queue::QueueLimits;
use crate::lane::{Lane, LaneRecord};
use crate::registry::notifications::LaneSettings;

impl<S: Storage> ServiceLane<S> {
    /// Learns the identity of the lane from a message, and the sender's settings unless newer ones are known.
    ///
    /// # Errors
    /// The storage fails.
    pub fn learn(&mut self, tenant: &TenantId, settings: &LaneSettings, now: Timestamp) -> Result<(), StorageError> {
        self.identify(tenant, settings);
        self.state.sender_moved_at = settings.moved_at;
        if settings.moved_at > self.state.moved_at {
            self.moves(settings, now)?;
        }
        if settings.configured_at >= self.state.configured_at {
            self.state.configured_at = settings.configured_at;
            self.state.max_concurrency = settings.max_concurrency;
            self.state.max_queue = settings.max_queue;
            self.apply_limits();
        }
        Ok(())
    }

    /// Whether the sender of the present message knows the service at an earlier address.
    pub(super) fn is_sender_late(&self) -> bool {
        self.state.sender_moved_at < self.state.moved_at
    }

    fn identify(&mut self, tenant: &TenantId, settings: &LaneSettings) {
        if self.state.identity.is_none() {
            self.state.identity = Some(Identity { tenant: tenant.clone(), service: settings.service.clone() });
        }
    }

    /// The service has another address, or was registered anew. If that cannot be stored, the next message tries again.
    fn moves(&mut self, settings: &LaneSettings, now: Timestamp) -> Result<(), StorageError> {
        let State { moved_at, is_leaving, grace_ms, probe_at, .. } = self.state;
        let stored = self.begin_anew(settings, now);
        if stored.is_err() {
            (self.state.moved_at, self.state.is_leaving, self.state.grace_ms) = (moved_at, is_leaving, grace_ms);
            self.state.probe_at = probe_at;
        }
        stored
    }

    /// Forgets what was observed of the previous address, and how it was probed: the registry says how this one is.
    fn begin_anew(&mut self, settings: &LaneSettings, now: Timestamp) -> Result<(), StorageError> {
        self.state.moved_at = settings.moved_at;
        self.lane.reset();
        self.state.last_probe = None;
        self.state.is_leaving = false;
        self.state.probe_at = None;
        if self.state.target.is_some() {
            self.storage.delete_target()?;
            self.state.target = None;
            self.lane.set_probe_interval(None);
        }
        let has_other_transport = settings.grace_ms != self.state.grace_ms;
        if has_other_transport {
            self.close_connections(ConnectionCloseCode::Changed, now, |_| true);
            self.state.grace_ms = settings.grace_ms;
            self.connections.pool.set_grace(settings.grace_ms.unwrap_or_default());
        }
        let was_published = self.lane.observed().version > 0;
        if was_published {
            // A registry that registered the service anew has forgotten its status.
            self.state.unreported = Some(StatusReason::Stale);
        }
        // Otherwise a restarted lane would forget the observations once more, or delete what belongs to the service
        // that was registered anew.
        if has_other_transport || was_published || self.state.is_stored {
            self.store(now)?;
        }
        self.effects.must_report |= was_published;
        Ok(())
    }

    /// A message says that the service was deleted. It is ignored if it is late: the service was registered anew since.
    ///
    /// # Errors
    /// The storage fails.
    pub fn forget(&mut self, tenant: &TenantId, settings: &LaneSettings, now: Timestamp) -> Result<(), StorageError> {
        if settings.moved_at < self.state.moved_at {
            return Ok(());
        }
        self.identify(tenant, settings);
        // What was sent about that registration before is late.
        self.state.moved_at = settings.moved_at;
        self.delete(now)
    }

    /// Whether the state of a deleted service is still needed. A lane that forgets running calls would grant too many
    /// permits to a service that is registered anew; one that forgets deliveries would dispatch them again at the
    /// request of a late message.
    pub(super) fn is_needed(&self, now: Timestamp) -> bool {
        let queue = self.lane.queue();
        self.connections.pool.remembers_deliveries() || queue.in_flight() > 0 || queue.is_closed(now)
    }

    /// Deletes the lane's state once nothing depends on it any longer; connections are closed after their deliveries
    /// have finished.
    ///
    /// # Errors
    /// The storage fails.
    pub(super) fn delete(&mut self, now: Timestamp) -> Result<(), StorageError> {
        if self.connections.pool.in_flight() == 0 {
            self.close_connections(ConnectionCloseCode::Gone, now, |_| true);
        }
        if self.is_needed(now) {
            return self.leave_later(now);
        }
        self.storage.delete_all()?;
        self.end_waits(now);
        self.effects.alarm = None;
        self.state = State::default();
        self.connections.pool.set_grace(0);
        self.lane = Lane::restore(LaneRecord::default(), now, Timestamp(0), self.timing);
        self.apply_limits();
        Ok(())
    }

    /// The lane is deleted once nothing needs it. Until then it neither probes the service nor reports on it, and
    /// requests do not wait for its permits.
    fn leave_later(&mut self, now: Timestamp) -> Result<(), StorageError> {
        if self.state.is_leaving {
            return Ok(());
        }
        let State { unreported, probe_at, .. } = self.state;
        self.state.is_leaving = true;
        self.state.unreported = None;
        self.state.probe_at = None;
        self.end_waits(now);
        let stored = self.store(now);
        if stored.is_err() {
            self.state.is_leaving = false;
            (self.state.unreported, self.state.probe_at) = (unreported, probe_at);
        }
        stored
    }

    /// Applies the present limit: the service's own, or for a service that connects, the capacity of its connections.
    pub(super) fn apply_limits(&mut self) {
        let (most, max_queue, pool) = (self.state.max_concurrency, self.state.max_queue, &self.connections.pool);
        let connects = self.state.grace_ms.is_some();
        let max_concurrency = if connects { Some(pool.room(most)) } else { most };
        let limits = max_concurrency.map(|max_concurrency| QueueLimits { max_concurrency, max_queue });
        let status = connects.then(|| pool.health());
        self.lane.set_limits(limits);
        self.lane.set_connection_status(status);
    }
}
