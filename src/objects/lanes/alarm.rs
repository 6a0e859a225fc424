//! The timers of a lane, and its reports to the registry.
//!
//! The alarm covers what may fall due without any request: probes, expiring heartbeats, a breaker that may half-open, a
//! status change that the registry has not received. A timer in memory covers what matters only to waiting requests.

use std::rc::Rc;

use crate::objects::registry::client;
use crate::objects::registry::messages::{ReportStatus, StatusReply};
use crate::platform::log::{self, Field, Message};
use crate::platform::{Failure, clock, random, tasks};
use narthex_core::base::time::Timestamp;
use narthex_core::lane::health::StatusReason;

use super::Inner;
use super::state::Identity;
use super::tables::BUSY_UNTIL;

/// An alarm this close to the wanted time is not moved, in milliseconds.
const SLACK_MS: u64 = 50;
/// An alarm overdue by this much was missed, in milliseconds.
const MISSED_MS: u64 = 5_000;

impl Inner {
    /// When the next work falls due, even without any request.
    pub(super) fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let again = self.state.unreported.get().map(|_| now.plus_ms(self.timing.status_retry_ms));
        let update = self.lane.borrow().next_update_at(now);
        [again, update, self.state.probe_at.get(), self.connections.due()].into_iter().flatten().min()
    }

    /// Ensures that the object wakes in time; an alarm that is set is only moved to an earlier time, because every
    /// move costs a row.
    pub(super) fn arm(&self, now: Timestamp) {
        if self.state.identity.borrow().is_none() {
            return;
        }
        let Some(due) = self.due(now) else { return };
        let due = due.max(now.plus_ms(SLACK_MS));
        if self.state.alarm_at.get().is_none_or(|set| due.plus_ms(SLACK_MS) < set) {
            self.tables.set_alarm(due);
            self.state.alarm_at.set(Some(due));
        }
    }

    /// Sets the alarm again if it is long overdue.
    pub(super) fn rearm_if_missed(&self, now: Timestamp) {
        if self.state.alarm_at.get().is_some_and(|at| at.plus_ms(MISSED_MS) < now) {
            self.state.alarm_at.set(None);
        }
    }

    /// Handles the alarm.
    pub(super) async fn wake(self: &Rc<Self>) {
        self.state.alarm_at.set(None);
        let now = clock::now();
        let is_due = self.state.probe_at.get().is_some_and(|at| at <= now.plus_ms(SLACK_MS));
        let target = if is_due { self.state.target.borrow().clone() } else { None };
        if let Some(interval) = target.as_ref().and_then(|target| target.interval_ms) {
            // 90 to 110%: services registered together are not probed together.
            self.state.probe_at.set(Some(now.plus_ms(interval * (90 + random::number() % 21) / 100)));
        }
        self.check_all(now);
        // Before any await, so that the next alarm is set whatever happens in this one.
        self.settle();
        if let Some(target) = target {
            let stored = self.probe(&target).await.and_then(|_| self.store());
            if let Err(failure) = stored {
                self.log(log::Message::ProbeNotSaved, &failure);
            }
            self.settle();
        }
        if self.state.unreported.get().is_some() {
            self.notify_registry().await;
        }
        self.arm(clock::now());
    }

    /// Reports the status to the registry before the request that caused the change is answered. If this fails, the
    /// alarm reports it again.
    pub(super) async fn notify_registry(self: &Rc<Self>) {
        let Some(reason) = self.state.unreported.get() else { return };
        let version = self.lane.borrow().observed().version;
        match self.send_status(Some(reason)).await {
            // The service was deleted.
            Ok(StatusReply::Absent) => {
                if let Err(failure) = self.delete() {
                    self.log(log::Message::LaneNotDeleted, &failure);
                }
            }
            Ok(StatusReply::Recorded) if self.lane.borrow().observed().version == version => {
                self.state.unreported.set(None);
                if let Err(failure) = self.store() {
                    self.log(log::Message::LaneNotSaved, &failure);
                }
            }
            // The status has changed again, and another task reports it.
            Ok(StatusReply::Recorded) => {}
            Err(failure) => {
                self.log(log::Message::RegistryNotNotified, &failure);
                self.arm(clock::now());
            }
        }
    }

    /// Reports a new latency, for which no request waits.
    pub(super) async fn notify_registry_of_latency(self: Rc<Self>) {
        if let Err(failure) = self.send_status(None).await {
            self.log(log::Message::RegistryNotNotified, &failure);
        }
    }

    async fn send_status(&self, reason: Option<StatusReason>) -> Result<StatusReply, Failure> {
        let Some(Identity { tenant, service }) = self.state.identity.borrow().clone() else {
            return Ok(StatusReply::Recorded);
        };
        let measured = self.lane.borrow().observed();
        Ok(client::ask(&tenant, &ReportStatus { service, measured, reason }).await?)
    }

    /// While requests wait: checks again when a permit expires, and from time to time.
    pub(super) fn start_ticking(self: &Rc<Self>) {
        if self.state.waiters.borrow().is_empty() || self.is_ticking.replace(true) {
            return;
        }
        let inner = self.clone();
        tasks::spawn(async move {
            while !inner.state.waiters.borrow().is_empty() {
                let now = clock::now();
                let next = inner.lane.borrow().next_grant_at(now);
                let check_ms = inner.timing.queue_check_ms;
                clock::pause(next.map_or(check_ms, |at| at.since(now)).clamp(check_ms.min(10), check_ms)).await;
                if inner.settle() {
                    inner.notify_registry().await;
                }
            }
            inner.is_ticking.set(false);
        });
    }

    /// While permits of a limited service are out, stores the time until which one may be valid: a restarted lane
    /// grants none before.
    pub(super) fn update_busy_until(self: &Rc<Self>, now: Timestamp) {
        if self.state.grace_ms.get().is_some() {
            // Each delivery is stored by itself.
            return;
        }
        let (in_flight, is_limited, is_closed) = {
            let lane = self.lane.borrow();
            (lane.queue().in_flight(), lane.is_limited(), lane.queue().is_closed(now))
        };
        if in_flight > 0 && is_limited {
            let ends = now.plus_ms(self.timing.permit_ms);
            if self.state.busy_until.get() < ends {
                self.write_busy(ends.plus_ms(self.timing.busy_margin_ms));
            }
        } else if in_flight == 0
            && !is_closed
            && self.state.busy_until.get() > now
            && !self.is_clearing_busy.replace(true)
        {
            let inner = self.clone();
            tasks::spawn(async move {
                clock::pause(inner.timing.lane_idle_ms).await;
                inner.is_clearing_busy.set(false);
                let is_idle = inner.lane.borrow().queue().in_flight() == 0;
                if is_idle && inner.state.busy_until.get() > clock::now() {
                    inner.write_busy(Timestamp(0));
                }
            });
        }
    }

    fn write_busy(&self, until: Timestamp) {
        match self.tables.put(BUSY_UNTIL, &until) {
            Ok(()) => self.state.busy_until.set(until),
            Err(failure) => self.log(log::Message::LaneNotSaved, &failure),
        }
    }
}

impl Inner {
    pub(super) fn log(&self, message: Message, failure: &Failure) {
        let identity = self.state.identity.borrow();
        let tenant = identity.as_ref().map(|own| &own.tenant);
        let service = identity.as_ref().map(|own| &own.service);
        let fields =
            [(Field::tenant, tenant.into()), (Field::service, service.into()), (Field::detail, failure.into())];
        log::write(message, &fields);
    }
}
