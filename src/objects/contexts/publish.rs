//! Sends unpublished events to the hub.

use std::rc::Rc;

use serde_json::value::RawValue;

use crate::objects::events::messages::{Events, Publish, Published};
use crate::objects::protocol::call;
use crate::objects::retries::pause_after;
use crate::platform::{clock, log_event, tasks};
use narthex_core::base::retries::Retries;

use super::{Identity, Store};

/// Events are collected for this long and sent together, so that they become one row in the hub.
const GATHER_MS: u64 = 40;
/// How many times an unreachable hub is tried again before the alarm takes over.
const MAX_RETRIES: u32 = 4;

impl Store {
    pub(super) fn flush_soon(self: &Rc<Self>) {
        if self.contexts.borrow_mut().outbox.begin_flush() {
            let store = self.clone();
            tasks::spawn(async move {
                clock::pause(GATHER_MS).await;
                let sent = store.send_out().await;
                store.contexts.borrow_mut().outbox.finish_flush();
                // Events added during the flush found it in progress. If the hub is unreachable, the alarm retries.
                if sent {
                    store.flush_soon();
                }
            });
        }
    }

    /// Sends all queued events. If a flush is already running, waits for it.
    pub(super) async fn flush(self: &Rc<Self>) {
        while !self.contexts.borrow().outbox.is_empty() {
            if self.contexts.borrow_mut().outbox.begin_flush() {
                self.send_out().await;
                self.contexts.borrow_mut().outbox.finish_flush();
                return;
            }
            clock::pause(5).await;
        }
    }

    /// Returns true when no events are left to send.
    async fn send_out(self: &Rc<Self>) -> bool {
        let Some(Identity { tenant, store }) = self.identity.borrow().clone() else {
            return false;
        };
        let mut retries = Retries::up_to(MAX_RETRIES);
        loop {
            let Some(batch) = self.contexts.borrow().outbox.batch() else { return true };
            let Ok(bundles) = RawValue::from_string(batch.bundles) else { return false };
            let publish = Publish {
                tenant: tenant.clone(),
                publisher: store.code(),
                first: batch.first,
                last: batch.last,
                count: batch.count,
                bundles,
            };
            match call(&Events::of(&tenant), &publish).await {
                Ok(Published::Published { head }) => {
                    retries = Retries::up_to(MAX_RETRIES);
                    if let Err(error) = self.decide(|contexts| contexts.acknowledge(head)) {
                        // Their rows stay until other contexts take them over.
                        log_event!(PublishedEventsNotDeleted, tenant = &tenant, store = store, detail = &error);
                    }
                }
                Err(error) => {
                    log_event!(EventsNotPublished, tenant = &tenant, store = store, detail = &error);
                    if !pause_after(&mut retries, &error).await {
                        self.decide(|contexts| contexts.arm_soon(clock::now()));
                        return false;
                    }
                }
            }
        }
    }
}
