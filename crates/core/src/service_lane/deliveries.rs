//! The deliveries of a service that connects.
//!
//! A delivery is stored before it is sent and until its attempt has been over for a while. So whichever component fails
//! (the service, its connection, this object, the worker that dispatched it), the delivery is still known, and a
//! repeated request to dispatch it is recognized.

use serde_json::value::RawValue;

use super::effects::Unsaved;
use super::reports::{DeliveryReport, ReportContent};
use super::storage::Storage;
use super::{ServiceLane, StorageError};
use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::calling::connection::frame::{GatewayMessage, WithdrawalReason};
use crate::calling::connection::pool::Delivery;
use crate::context::lease::LeaseNumber;

impl<S: Storage> ServiceLane<S> {
    /// Dispatches work, not later than `until`; returns false if no connection has capacity. The row is written first:
    /// the platform holds a message back until earlier writes are on disk.
    ///
    /// # Errors
    /// The storage fails.
    pub fn dispatch(
        &mut self,
        delivery: Delivery,
        until: Option<Timestamp>,
        work: &RawValue,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        let number = delivery.number();
        if self.connections.pool.was_dispatched(&number) {
            // A repeated request, because the first reply was lost. The delivery may have ended in the meantime.
            return Ok(true);
        }
        if self.connections.pool.is_obsolete(&delivery, until, now) {
            return Ok(false);
        }
        // A new attempt of the same context: an earlier attempt that is still running is late.
        self.end_deliveries(&delivery.context, None, Some(WithdrawalReason::Over), now)?;
        let most = self.state.max_concurrency;
        let Some((slot, delivery)) = self.connections.pool.dispatch(delivery, most, now) else { return Ok(false) };
        if let Err(error) = self.storage.put_delivery(&delivery) {
            self.connections.pool.remove(&number);
            return Err(error);
        }
        self.send(slot, &GatewayMessage::Work { delivery: &number, work });
        Ok(true)
    }

    /// The attempt of a context is over, those under later leases than `lease` excepted. If it was cancelled, the
    /// service is notified.
    ///
    /// # Errors
    /// The storage fails.
    pub fn withdraw(
        &mut self,
        context: &ContextId,
        lease: Option<LeaseNumber>,
        cancelled: bool,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        self.end_deliveries(context, lease, cancelled.then_some(WithdrawalReason::Cancelled), now)?;
        if let Some(lease) = lease {
            self.connections.pool.refuse(context, lease, now);
        }
        Ok(())
    }

    fn end_deliveries(
        &mut self,
        context: &ContextId,
        up_to: Option<LeaseNumber>,
        reason: Option<WithdrawalReason>,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        for number in self.connections.pool.of_context(context, up_to) {
            self.end_delivery(&number, reason, now)?;
        }
        Ok(())
    }

    /// Ends a delivery; its service is notified if there is a reason. Its row stays for as long as the pool remembers
    /// it, so that a repeated request dispatches nothing again, even after a restart. Returns false if it had ended.
    ///
    /// # Errors
    /// The storage fails. Then the delivery is still in progress.
    pub(super) fn end_delivery(
        &mut self,
        number: &str,
        reason: Option<WithdrawalReason>,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        let Some(ended) = self.connections.pool.ended(number, now) else { return Ok(false) };
        self.storage.put_delivery(&ended)?;
        let slot = self.connections.pool.end(number, now).and_then(|(_, slot)| slot);
        if let (Some(slot), Some(reason)) = (slot, reason) {
            self.send(slot, &GatewayMessage::Cancel { delivery: number, reason });
        }
        Ok(true)
    }

    /// Handles deliveries that are overdue, that no connection resumed in time, or that ended long ago.
    pub(super) fn expire_deliveries(&mut self, now: Timestamp) {
        let over = self.connections.pool.expire(now);
        for (delivery, slot) in over.past {
            let number = delivery.number();
            self.delete_delivery(&number);
            if let Some(slot) = slot {
                self.send(slot, &GatewayMessage::Cancel { delivery: &number, reason: WithdrawalReason::Deadline });
            }
        }
        for number in over.forgotten {
            self.delete_delivery(&number);
        }
        let given_up = over.given_up.into_iter();
        self.effects.reports.extend(given_up.map(|delivery| {
            // If this fails, the delivery expires again.
            DeliveryReport { delivery, slot: None, content: ReportContent::Lost }
        }));
    }

    /// A row that cannot be deleted is deleted by a later instance, when the delivery expires there.
    fn delete_delivery(&mut self, number: &str) {
        let deleted = self.storage.delete_delivery(number);
        self.keep_failure(Unsaved::DeletedDelivery, deleted);
    }
}
