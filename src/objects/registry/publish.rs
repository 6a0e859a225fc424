//! Publishes the registry's changes: the revision to stores, and events to the hub.

use futures_util::future::join_all;
use serde_json::value::RawValue;

use crate::objects::contexts::client::push;
use crate::objects::contexts::messages::Contexts;
use crate::objects::events::messages::{Events, Publish, Published};
use crate::objects::protocol::call;
use crate::objects::retries::pause_after;
use crate::platform::{Failure, clock, log_event, settings};
use narthex_core::base::retries::Retries;
use narthex_core::events::bundle::{Bundle, EventKind, Item, RegistryEvent};

use super::Inner;

impl Inner {
    /// Pushes the revision to every store, and waits for all of them.
    pub(super) async fn push(&self) {
        let Ok(stores) = self.tables.stores() else { return };
        let tenant = self.tenant();
        let revision = self.revision.get();
        let pushes = stores.iter().map(|store| {
            let (address, tenant) = (Contexts::of(&tenant, *store), &tenant);
            async move {
                let mut retries = Retries::up_to(1);
                while let Err(error) = push(&address, revision).await {
                    log_event!(RevisionNotPushed, tenant = tenant, store = *store, detail = &error);
                    if !pause_after(&mut retries, &error).await {
                        return;
                    }
                }
            }
        });
        join_all(pushes).await;
    }

    pub(super) fn queue_event(
        &self,
        subject: &str,
        kind: RegistryEvent,
        data: &serde_json::Value,
    ) -> Result<(), Failure> {
        let kind = EventKind::Registry { kind, data: RawValue::from_string(data.to_string())? };
        let item = Item { number: 0, at: clock::now(), kind };
        let bundle = Bundle {
            subject: subject.into(),
            owner: None,
            owner_name: None,
            replay_of: None,
            capability: None,
            service: None,
            trace: None,
            previous_number: None,
            items: vec![item],
        };
        self.tables.queue_event(&bundle)
    }

    /// Sends unpublished events to the hub; the alarm retries after a failure.
    pub(super) async fn publish_events(&self) {
        if self.publishing.replace(true) {
            return;
        }
        while let Ok(queued) = self.tables.queued_events() {
            let (Some((first, _)), Some((last, _))) = (queued.first(), queued.last()) else {
                break;
            };
            let (first, last, count) = (*first, *last, queued.len() as u64);
            let bundles: Vec<Bundle> = queued
                .into_iter()
                .map(|(number, mut bundle)| {
                    for item in &mut bundle.items {
                        item.number = number;
                    }
                    bundle
                })
                .collect();
            let Ok(bundles) = serde_json::value::to_raw_value(&bundles) else {
                break;
            };
            let tenant = self.tenant();
            let events = Events::of(&tenant);
            let publish = Publish { tenant, publisher: "registry".into(), first, last, count, bundles };
            match call(&events, &publish).await {
                Ok(Published::Published { head }) if self.tables.delete_published(head).is_ok() => {}
                _ => {
                    self.tables.set_alarm(clock::now().plus_ms(settings::timing().event_retry_ms));
                    break;
                }
            }
        }
        self.publishing.set(false);
    }
}
