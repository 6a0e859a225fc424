//! Observed statuses, which lanes report.
//!
//! An observed status does not increment the revision: no store checks it, and a flapping service must not flood the
//! stores. It has a counter of its own, which isolates compare when they refresh.

use std::collections::BTreeMap;

use serde_json::json;

use super::Registry;
use super::messages::{ReportStatus, StatusReply};
use super::storage::Storage;
use crate::base::service_id::ServiceId;
use crate::base::storage_error::StorageError;
use crate::base::time::Timestamp;
use crate::events::bundle::RegistryEvent;
use crate::lane::observed::ObservedStatus;
use crate::services::outline::ServiceOutline;

/// Which statuses have changed since this instance began.
#[derive(Debug)]
pub(super) struct Changes {
    since: u64,
    /// The value of the counter after the last change.
    by_service: BTreeMap<ServiceId, u64>,
}

impl Changes {
    pub(super) fn since(since: u64) -> Self {
        Self { since, by_service: BTreeMap::new() }
    }
}

impl<S: Storage> Registry<S> {
    pub(super) fn measured_of(&self, id: &ServiceId) -> ObservedStatus {
        self.storage.measured(id).ok().flatten().unwrap_or_default()
    }

    /// Stores a lane's report, and the event about it, in one transaction.
    ///
    /// # Errors
    /// The storage fails.
    pub fn measure(&mut self, report: &ReportStatus, now: Timestamp) -> Result<StatusReply, StorageError> {
        let ReportStatus { service: id, moved_at, measured, reason } = report;
        let Some(registered) = self.service(id)? else {
            return Ok(StatusReply::Absent);
        };
        if moved_at.is_some_and(|moved_at| moved_at < registered.moved_at) {
            // Late: another program runs at the present address. Its lane reports once it has learned of it.
            return Ok(StatusReply::Recorded);
        }
        let known = self.measured_of(id);
        if measured.version <= known.version {
            // Repeated, or overtaken by a newer report.
            return Ok(StatusReply::Recorded);
        }
        let changed = (measured.status, measured.breaker, measured.breaker_until)
            != (known.status, known.breaker, known.breaker_until);
        let service = &registered.service;
        let data = json!({
            "id": id,
            "status": service.status(measured),
            "previous": service.status(&known),
            "breaker": measured.breaker,
            "breaker_until": measured.breaker_until.map(Timestamp::text),
            "reason": reason,
            "at": now.text(),
        });
        self.transaction(now, |registry| {
            registry.storage.put_measured(id, measured)?;
            if changed { registry.queue_event(id.as_str(), RegistryEvent::ServiceStatus, &data, now) } else { Ok(()) }
        })?;
        self.soft += 1;
        self.observed.by_service.insert(id.clone(), self.soft);
        Ok(StatusReply::Recorded)
    }

    /// Configures every lane that probes or has connections, in case its alarm was lost. Nothing waits for this, so it
    /// is not stored.
    pub(super) fn sweep_lanes(&mut self) {
        let works_by_itself = |service: &ServiceOutline| service.probed || service.transport.connects();
        let services = self.outlines().unwrap_or_default().into_iter().map(|outline| outline.service);
        self.effects.lanes.extend(services.filter(works_by_itself).map(|service| service.id));
    }

    /// The statuses that have changed since the counter had this value; all if that is unknown.
    pub(super) fn measured_since(&self, soft: Option<u64>) -> Result<Vec<(ServiceId, ObservedStatus)>, StorageError> {
        let Some(known) = soft.filter(|known| *known >= self.observed.since && *known <= self.soft) else {
            return self.storage.all_measured();
        };
        let changed = self.observed.by_service.iter().filter(|(_, changed)| **changed > known);
        let mut measured = Vec::new();
        for (service, _) in changed {
            measured.extend(self.storage.measured(service)?.map(|observed| (service.clone(), observed)));
        }
        Ok(measured)
    }
}
