//! Carries out what follows from the turns of a lane.

use std::rc::Rc;

use crate::objects::registry::client;
use crate::objects::registry::snapshot;
use crate::platform::log::{self, Field, Message};
use crate::platform::{Failure, clock, tasks};
use narthex_core::calling::connection::close_code::ConnectionCloseCode;
use narthex_core::events::viewer::Viewer;
use narthex_core::registry::messages::ReportStatus;
use narthex_core::registry::replies::StatusReply;
use narthex_core::service_lane::Identity;
use narthex_core::service_lane::effects::{Effects, SocketAction, Unsaved};

use super::Inner;

impl Inner {
    /// Lets the lane settle after a change. Returns true if the registry must be notified before the reply.
    pub(super) fn settle(self: &Rc<Self>) -> bool {
        self.lane.borrow_mut().settle(clock::now());
        self.carry_out()
    }

    /// As [`Inner::settle`]; the registry is notified in the background.
    pub(super) fn settle_in_background(self: &Rc<Self>) {
        if self.settle() {
            let inner = self.clone();
            tasks::spawn(async move { inner.report_status().await });
        }
    }

    /// Returns true if the registry must be notified before the reply.
    fn carry_out(self: &Rc<Self>) -> bool {
        let effects = self.lane.borrow_mut().take_effects();
        for (what, error) in &effects.failures {
            self.log(message_about(*what), &Failure(error.0.clone()));
        }
        if let Some(at) = effects.alarm {
            self.tables.set_alarm(at);
        }
        for action in &effects.sockets {
            match action {
                SocketAction::Send(slot, text) => self.sockets.send(&[*slot], text),
                SocketAction::Attach(slot, text) => self.sockets.attach(*slot, text),
                SocketAction::Close(slot, why) => self.sockets.close(*slot, why.code(), why.reason()),
            }
        }
        self.carry_out_in_background(effects)
    }

    fn carry_out_in_background(self: &Rc<Self>, effects: Effects) -> bool {
        let Effects { decisions, reports, must_report, report_latency, check_permissions, clear_busy, .. } = effects;
        for (request, decision) in decisions {
            self.waits.answer(request, decision);
        }
        for report in reports {
            let inner = self.clone();
            tasks::spawn(async move { inner.pass_on(report).await });
        }
        if report_latency {
            let inner = self.clone();
            tasks::spawn(async move { inner.report_latency().await });
        }
        if check_permissions {
            let inner = self.clone();
            tasks::spawn(async move { inner.check_permissions().await });
        }
        if clear_busy {
            let inner = self.clone();
            tasks::spawn(async move {
                clock::pause(inner.timing.lane_idle_ms).await;
                inner.lane.borrow_mut().clear_busy(clock::now());
                inner.settle_in_background();
            });
        }
        must_report
    }

    /// Reports the status to the registry before the request that caused the change is answered.
    pub(super) async fn report_status(self: &Rc<Self>) {
        let Some(report) = self.lane.borrow().status_report() else { return };
        let reply = self.send_status(&report).await;
        self.lane.borrow_mut().status_reported(&report, reply.as_ref(), clock::now());
        // Another change is reported by its own turn, or by the alarm.
        self.settle();
    }

    async fn report_latency(&self) {
        let report = self.lane.borrow().latency_report();
        if let Some(report) = report {
            // Another report follows if this one is lost.
            self.send_status(&report).await;
        }
    }

    /// `None` if the registry could not be reached.
    async fn send_status(&self, report: &ReportStatus) -> Option<StatusReply> {
        let Identity { tenant, .. } = self.lane.borrow().identity()?.clone();
        let reply = client::ask(&tenant, report).await;
        reply.inspect_err(|error| self.log(Message::RegistryNotNotified, &Failure(error.to_string()))).ok()
    }

    /// Closes the connections whose credentials no longer permit them, as far as the registry knows, in case a
    /// revocation message was lost.
    async fn check_permissions(self: Rc<Self>) {
        let Some(Identity { tenant, service }) = self.lane.borrow().identity().cloned() else { return };
        let Ok(snapshot) = snapshot::refreshed(&tenant).await else { return };
        let needed = format!("services:connect:{service}");
        let is_refused = |viewer: &Viewer| {
            viewer.principal.key().is_some()
                && snapshot.principal(&tenant, &viewer.principal).is_none_or(|principal| !principal.may(&needed))
        };
        self.lane.borrow_mut().close_connections(ConnectionCloseCode::CredentialsEnded, clock::now(), is_refused);
        self.settle_in_background();
    }

    pub(super) fn log(&self, message: Message, failure: &Failure) {
        let identity = self.lane.borrow().identity().cloned();
        let tenant = identity.as_ref().map(|own| &own.tenant);
        let service = identity.as_ref().map(|own| &own.service);
        let fields =
            [(Field::tenant, tenant.into()), (Field::service, service.into()), (Field::detail, failure.into())];
        log::write(message, &fields);
    }
}

fn message_about(what: Unsaved) -> Message {
    match what {
        Unsaved::State => Message::LaneNotSaved,
        Unsaved::Deletion => Message::LaneNotDeleted,
        Unsaved::Delivery => Message::DeliveryNotSaved,
        Unsaved::DeletedDelivery => Message::DeliveryNotDeleted,
    }
}
