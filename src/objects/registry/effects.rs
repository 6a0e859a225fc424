//! Carries out the effects of decisions, and reports to the core what came of them.

use std::rc::Rc;

use crate::objects::contexts::client::push;
use crate::objects::contexts::messages::Contexts;
use crate::objects::events::messages::{Events, Publish, Published};
use crate::objects::protocol::call;
use crate::platform::{clock, log_event, tasks};
use narthex_core::base::time::Timestamp;
use narthex_core::registry::followers::Push;
use narthex_core::registry::{Batch, Effects, LogEntry};

use super::Inner;

/// A timer keeps the object in memory, also when its write has been answered; so it is short, and set again.
const MAX_TIMER_MS: u64 = 250;

impl Inner {
    pub(super) fn carry_out(self: &Rc<Self>, effects: Effects) {
        let Effects { alarm, pushes, batch, notifications, lanes, logs } = effects;
        if let Some(at) = alarm {
            self.registry.borrow().storage().set_alarm(at);
        }
        for entry in logs {
            self.log(&entry);
        }
        for push in pushes {
            let inner = self.clone();
            tasks::spawn(async move { inner.push(push).await });
        }
        for (number, notification) in notifications {
            let inner = self.clone();
            tasks::spawn(async move { inner.send_notification(number, notification).await });
        }
        for service in lanes {
            let inner = self.clone();
            tasks::spawn(async move {
                // The next sweep repeats it.
                let _ = inner.configure_lane(&service).await;
            });
        }
        if let Some(batch) = batch {
            let inner = self.clone();
            tasks::spawn(async move { inner.publish(batch).await });
        }
    }

    /// Asks the core again at this time, unless that happens earlier.
    pub(super) fn wake_later(self: &Rc<Self>, at: Option<Timestamp>) {
        let soon = clock::now().plus_ms(MAX_TIMER_MS);
        let at = at.map(|at| at.min(soon)).filter(|at| self.timer_at.get().is_none_or(|set| *at < set));
        let Some(at) = at else { return };
        self.timer_at.set(Some(at));
        let inner = self.clone();
        tasks::spawn(async move {
            clock::pause(at.since(clock::now())).await;
            if inner.timer_at.get() == Some(at) {
                inner.timer_at.set(None);
            }
            inner.decide(|_| ());
        });
    }

    async fn push(self: &Rc<Self>, pushed: Push) {
        let tenant = self.registry.borrow().tenant();
        let confirmed = push(&Contexts::of(&tenant, pushed.store), pushed.revision).await;
        if let Err(error) = &confirmed {
            log_event!(RevisionNotPushed, tenant = &tenant, store = pushed.store, detail = error);
        }
        self.decide(|registry| registry.pushed(pushed, confirmed.is_ok(), clock::now()));
    }

    /// Sends events to the hub. If that fails, the alarm sends them again.
    async fn publish(self: &Rc<Self>, batch: Batch) {
        let tenant = self.registry.borrow().tenant();
        let Batch { first, last, count, bundles } = batch;
        let events = Events::of(&tenant);
        let publish = Publish { tenant: tenant.clone(), publisher: "registry".into(), first, last, count, bundles };
        let head = match call(&events, &publish).await {
            Ok(Published::Published { head }) => Some(head),
            Err(error) => {
                log_event!(EventsNotPublished, tenant = &tenant, detail = &error);
                None
            }
        };
        if let Err(error) = self.decide(|registry| registry.published(head, clock::now())) {
            log_event!(PublishedEventsNotDeleted, tenant = &tenant, detail = &error);
        }
    }

    fn log(&self, entry: &LogEntry) {
        let tenant = &self.registry.borrow().tenant();
        match entry {
            LogEntry::NearlyFull { bytes, limit } => {
                log_event!(RegistryNearlyFull, tenant = tenant, bytes = *bytes, limit_bytes = *limit);
            }
            LogEntry::DocumentsLeftOut { count, first } => {
                let detail = format!("documents are left out, the first of them {}", first.join(" "));
                log_event!(RegistryTooLarge, tenant = tenant, count = *count, detail = detail);
            }
            LogEntry::ToolsDoNotFit { service, reason } => {
                log_event!(ToolsDoNotFit, tenant = tenant, service = service, detail = reason);
            }
            LogEntry::ServiceNotRead { service } => {
                log_event!(ServiceNotRead, tenant = tenant, service = service);
            }
            LogEntry::RegistrationsNotDeleted { reason } => {
                log_event!(RegistrationsNotDeleted, tenant = tenant, detail = reason);
            }
        }
    }
}
