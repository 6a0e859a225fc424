//! The observed status, and its way to the registry.

use super::effects::Unsaved;
use super::storage::Storage;
use super::{ServiceLane, StorageError};
use crate::base::time::Timestamp;
use crate::lane::health::StatusReason;
use crate::lane::observed::HealthStatus;
use crate::registry::messages::ReportStatus;
use crate::registry::replies::StatusReply;

impl<S: Storage> ServiceLane<S> {
    /// Records a heartbeat that is valid for `lease_ms`. Returns until when.
    ///
    /// # Errors
    /// The storage fails.
    pub fn heartbeat(
        &mut self,
        status: HealthStatus,
        lease_ms: u64,
        now: Timestamp,
    ) -> Result<Timestamp, StorageError> {
        let until = now.plus_ms(lease_ms);
        if self.is_sender_late() {
            return Ok(until);
        }
        self.lane.heartbeat(status, lease_ms, now);
        if until > self.state.stored_heartbeat {
            self.store(now)?;
        }
        Ok(until)
    }

    /// Publishes a change of the status: it is stored before it is reported.
    pub(super) fn publish_status(&mut self, now: Timestamp) {
        let Some(update) = self.lane.status_update(now) else { return };
        if !update.changed {
            // A change that is still to be reported comes first, and has the latency.
            self.effects.report_latency |= self.state.unreported.is_none();
            return;
        }
        self.state.unreported = Some(update.reason);
        self.state.is_status_stored = false;
        self.report_again(now);
    }

    /// Reports the status that the registry has not received yet. If it cannot be stored, the alarm tries again.
    pub(super) fn report_again(&mut self, now: Timestamp) {
        if self.state.unreported.is_none() {
            return;
        }
        if !self.state.is_status_stored {
            let stored = self.store(now);
            self.keep_failure(Unsaved::State, stored);
        }
        self.effects.must_report |= self.state.is_status_stored;
    }

    /// The change of the status that the registry has not received yet, if it is stored.
    pub fn status_report(&self) -> Option<ReportStatus> {
        let reason = self.state.unreported.filter(|_| self.state.is_status_stored)?;
        self.report(Some(reason))
    }

    /// A new latency, for which no request waits.
    pub fn latency_report(&self) -> Option<ReportStatus> {
        self.report(None)
    }

    fn report(&self, reason: Option<StatusReason>) -> Option<ReportStatus> {
        let service = self.state.identity.as_ref()?.service.clone();
        Some(ReportStatus { service, moved_at: Some(self.state.moved_at), measured: self.lane.observed(), reason })
    }

    /// The registry has answered a report of the status, or has not (`None`): then the alarm reports it again.
    pub fn status_reported(&mut self, report: &ReportStatus, reply: Option<&StatusReply>, now: Timestamp) {
        // A late report was ignored, or says nothing about the service that was registered anew since.
        let is_present = report.moved_at == Some(self.state.moved_at);
        match reply {
            Some(StatusReply::Absent) if is_present => {
                let deleted = self.delete(now);
                self.keep_failure(Unsaved::Deletion, deleted);
            }
            Some(StatusReply::Recorded) if is_present && self.lane.observed().version == report.measured.version => {
                self.state.unreported = None;
                let stored = self.store(now);
                self.keep_failure(Unsaved::State, stored);
            }
            // The status has changed again, and is reported by what changed it; or the alarm reports it again.
            Some(StatusReply::Recorded | StatusReply::Absent) | None => {}
        }
    }
}
