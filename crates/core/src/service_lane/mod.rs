//! The lane of one service as an object keeps it: every decision that is not about a single call.
//!
//! [`crate::lane`] decides about permits, breaker and health; [`crate::calling::connection::pool`] about connections.
//! Here they meet what outlives an instance: what is stored and when, what the alarm is set for, which requests wait,
//! which status the registry has not received yet, and what ends with the service. A method changes the [`Storage`] and
//! leaves in [`Effects`] what the shell must do. Everything in memory may be lost at any moment; [`ServiceLane::open`]
//! recovers from the storage alone. Invariants:
//!
//! * a change of the status is stored before it is reported, and reported until the registry has it;
//! * while something may fall due without a request, an alarm is set;
//! * a restarted lane grants no permit before those of the previous instance are renewed or have expired;
//! * what was observed of one address is never taken for another.

mod configuration;
mod connections;
mod deliveries;
pub mod effects;
#[cfg(any(test, feature = "test-support"))]
pub mod memory;
mod permits;
pub mod probing;
pub mod reports;
mod status;
pub mod storage;
mod waits;

use crate::base::alarm::{Alarm, SLACK_MS};
use crate::base::service_id::ServiceId;
use crate::base::storage_error::StorageError;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;
use crate::lane::Lane;
use crate::lane::health::StatusReason;
use crate::lane::observed::ObservedStatus;

use connections::Connections;
use effects::{Effects, Unsaved};
use probing::{ProbeReport, Target};
use storage::{Storage, Stored, StoredState};
use waits::Waits;

pub use connections::Connection;
pub use waits::RequestNumber;

/// An alarm overdue by this much was missed, in milliseconds.
const MISSED_MS: u64 = 5_000;

/// The service that a lane belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub tenant: TenantId,
    pub service: ServiceId,
}

/// Everything that is forgotten when the service is deleted, besides the lane proper and the connections.
#[derive(Debug, Default)]
struct State {
    identity: Option<Identity>,
    /// There is a stored state.
    is_stored: bool,
    configured_at: Timestamp,
    /// When the service was given its present address: everything else refers to the service at that address.
    moved_at: Timestamp,
    /// The same as the sender of the present message knows it.
    sender_moved_at: Timestamp,
    max_concurrency: Option<u64>,
    max_queue: u64,
    grace_ms: Option<u64>,
    target: Option<Target>,
    waits: Waits,
    /// The stored value.
    busy_until: Timestamp,
    stored_heartbeat: Timestamp,
    probe_at: Option<Timestamp>,
    last_probe: Option<ProbeReport>,
    unreported: Option<StatusReason>,
    /// The published status is stored. Otherwise it must not be reported: a restarted lane would not know that the
    /// registry has it.
    is_status_stored: bool,
    is_leaving: bool,
    alarm: Alarm,
}

/// The lane of a service.
#[derive(Debug)]
pub struct ServiceLane<S> {
    storage: S,
    lane: Lane,
    connections: Connections,
    state: State,
    /// A timer runs after which an idle lane is stored as idle.
    is_clearing_busy: bool,
    effects: Effects,
    timing: Timing,
}

impl<S: Storage> ServiceLane<S> {
    /// Opens a lane from its storage, with the attachments of the sockets that outlived the last instance.
    ///
    /// # Errors
    /// The storage fails.
    pub fn open(
        storage: S,
        attachments: impl IntoIterator<Item = (u32, String)>,
        timing: Timing,
        now: Timestamp,
    ) -> Result<Self, StorageError> {
        let Stored { state, target, busy_until, deliveries } = storage.read()?;
        let is_stored = state.is_some();
        let StoredState { tenant, service, moved_at, record, probe_at, unreported, grace_ms, is_leaving } =
            state.unwrap_or_default();
        let identity = tenant.zip(service).map(|(tenant, service)| Identity { tenant, service });
        let mut effects = Effects::default();
        let connections =
            Connections::restore(attachments, deliveries, grace_ms.unwrap_or_default(), now, &mut effects.sockets);
        // Every permit granted before this instance expires within one permit lease from now.
        let closed_until = busy_until.min(now.plus_ms(timing.permit_ms));
        let mut lane = Lane::restore(record, now, closed_until, timing);
        lane.set_probe_interval(target.as_ref().and_then(|target| target.interval_ms));
        let state = State {
            identity: identity.filter(|identity| !identity.service.as_str().is_empty()),
            is_stored,
            moved_at,
            sender_moved_at: moved_at,
            grace_ms,
            target,
            busy_until,
            stored_heartbeat: lane.heartbeat_until().unwrap_or_default(),
            probe_at,
            unreported,
            is_status_stored: true,
            is_leaving,
            ..State::default()
        };
        let mut opened = Self { storage, lane, connections, state, is_clearing_busy: false, effects, timing };
        opened.apply_limits();
        // The stored alarm covers everything that follows from the stored state, but not deliveries whose connections
        // dropped with the last instance, and not the deletion of a lane that waited for permits. What is overdue may
        // have been handled by it already, and has another alarm.
        let is_covered = opened.connections.pool.in_flight() == 0 && !is_leaving;
        opened.state.alarm = Alarm::set_before(opened.due(now).filter(|due| is_covered && *due > now));
        Ok(opened)
    }

    /// Takes the effects that have accumulated since the last call.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// The service, once a message has named it.
    pub fn identity(&self) -> Option<&Identity> {
        self.state.identity.as_ref()
    }

    /// The observed status, as last published.
    pub fn observed(&self) -> ObservedStatus {
        self.lane.observed()
    }

    /// The alarm fired: does what is due. Returns where to probe the service now. `pinged`: when the ping of a socket
    /// was last answered.
    ///
    /// The next alarm is set by [`Self::settle`], as after every turn.
    pub fn alarm(&mut self, now: Timestamp, random: u64, pinged: impl Fn(u32) -> Option<Timestamp>) -> Option<Target> {
        self.state.alarm.fired(now);
        let due_probe = self.take_due_probe(now, random);
        self.check_connections(now, pinged);
        self.expire_deliveries(now);
        self.report_again(now);
        due_probe
    }

    /// Ends every turn, also one that failed: grants permits, stores what must be stored, and sets the alarm.
    pub fn settle(&mut self, now: Timestamp) {
        self.apply_limits();
        for (context, decision) in self.lane.grant_permits(now) {
            self.effects.decisions.extend(self.state.waits.answer(&context, decision));
        }
        if self.state.is_leaving {
            self.end_waits(Timestamp(now.0.saturating_sub(self.timing.queue_check_ms)));
            let deleted = self.delete(now);
            self.keep_failure(Unsaved::Deletion, deleted);
        }
        self.update_busy_until(now);
        if !self.state.is_leaving {
            self.publish_status(now);
        }
        if self.lane.should_persist(now) {
            let stored = self.store(now);
            self.keep_failure(Unsaved::State, stored);
        }
        self.arm(now);
    }

    /// When the next work falls due, even without any request.
    fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let again = self.state.unreported.map(|_| now.plus_ms(self.timing.status_retry_ms));
        let update = self.lane.next_update_at(now).filter(|_| !self.state.is_leaving);
        let leaves = match (self.state.is_leaving, self.is_needed(now)) {
            (false, _) => None,
            (true, true) => self.lane.next_grant_at(now),
            // A deletion that failed is repeated.
            (true, false) => Some(now.plus_ms(self.timing.status_retry_ms)),
        };
        [again, update, self.state.probe_at, self.connections.due(), leaves].into_iter().flatten().min()
    }

    /// Ensures that the object wakes in time. An alarm that is long overdue was lost, or set for a later time by an
    /// earlier instance, which knew of evidence that was not stored.
    fn arm(&mut self, now: Timestamp) {
        if self.state.identity.is_none() {
            return;
        }
        self.state.alarm.drop_before(Timestamp(now.0.saturating_sub(MISSED_MS)));
        let due = self.due(now).map(|due| due.max(now.plus_ms(SLACK_MS)));
        if let Some(alarm) = due.and_then(|due| self.state.alarm.by(due)) {
            self.effects.alarm = Some(alarm);
        }
    }

    /// Stores the lane's state.
    fn store(&mut self, now: Timestamp) -> Result<(), StorageError> {
        let Some(Identity { tenant, service }) = self.state.identity.clone() else { return Ok(()) };
        let record = self.lane.to_record();
        let heartbeat = record.evidence.heartbeat_until().unwrap_or_default();
        let State { moved_at, probe_at, unreported, grace_ms, is_leaving, .. } = self.state;
        let (tenant, service) = (Some(tenant), Some(service));
        self.storage.put_state(&StoredState {
            tenant,
            service,
            moved_at,
            record,
            probe_at,
            unreported,
            grace_ms,
            is_leaving,
        })?;
        self.lane.persisted(now);
        self.state.stored_heartbeat = heartbeat;
        self.state.is_stored = true;
        self.state.is_status_stored = true;
        Ok(())
    }

    /// A write that no request waits for.
    fn keep_failure(&mut self, what: Unsaved, written: Result<(), StorageError>) {
        self.effects.failures.extend(written.err().map(|error| (what, error)));
    }
}

#[cfg(test)]
mod tests;
