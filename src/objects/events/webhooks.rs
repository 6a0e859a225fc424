//! The hub's part in webhooks: queues deliveries, notifies consumers, and records the outcomes. Workers make the calls
//! (`execution/deliveries.rs`).

use std::rc::Rc;

use serde_json::json;
use serde_json::value::RawValue;

use crate::objects::protocol::Done;
use crate::objects::shell::Handle;
use crate::platform::{Failure, clock, log_event, objects, tasks};
use narthex_core::base::time::Timestamp;
use narthex_core::events::bundle::{Bundle, EventKind, Item, RegistryEvent};
use narthex_core::webhooks::delivery::{DisableReason, WebhookState};

use super::Hub;
use super::messages::Publish;
use super::messages::webhooks::{
    ClaimDeliveries, ConfigureWebhooks, DeliveryList, DeliveryReport, DueDeliveries, ListDeliveries, ReadWebhookStates,
    Redeliver, Redelivered, WebhookStates,
};

/// The publisher name of the hub's own events.
const HUB: &str = "hub";

impl Handle<ConfigureWebhooks> for &Rc<Hub> {
    fn handle(self, configure: ConfigureWebhooks) -> Result<Done, Failure> {
        let ConfigureWebhooks { tenant, revision, webhooks, unreadable } = configure;
        self.deliveries.borrow_mut().configure(tenant, revision, (webhooks, unreadable), clock::now())?;
        self.sweep()?;
        Ok(Done::Done)
    }
}

impl Handle<ReadWebhookStates> for &Rc<Hub> {
    fn handle(self, ReadWebhookStates: ReadWebhookStates) -> Result<WebhookStates, Failure> {
        Ok(WebhookStates::WebhookStates(self.deliveries.borrow().states()))
    }
}

impl Handle<ClaimDeliveries> for &Rc<Hub> {
    fn handle(self, ClaimDeliveries { tried, most }: ClaimDeliveries) -> Result<DueDeliveries, Failure> {
        let now = clock::now();
        self.record_reports(tried, now)?;
        let due = self.deliveries.borrow_mut().claim(most, now)?;
        self.settle();
        Ok(DueDeliveries::Due(due))
    }
}

impl Handle<Redeliver> for &Rc<Hub> {
    fn handle(self, Redeliver { webhook, event_id }: Redeliver) -> Result<Redelivered, Failure> {
        self.redeliver(&webhook, &event_id, clock::now())
    }
}

impl Handle<ListDeliveries> for &Rc<Hub> {
    fn handle(self, ListDeliveries { webhook, below, limit }: ListDeliveries) -> Result<DeliveryList, Failure> {
        Ok(DeliveryList::Deliveries(self.deliveries.borrow().list(&webhook, below, limit)?))
    }
}

impl Hub {
    /// Appends a batch and its deliveries in one transaction.
    pub(super) fn append_for_webhooks(self: &Rc<Self>, now: Timestamp, publish: &Publish) -> Result<bool, Failure> {
        let (sql, mark) = (self.log.borrow().sql(), self.log.borrow().mark());
        let from = mark.next();
        let written = sql.transaction(|| {
            if !self.log.borrow_mut().append(now, publish)? {
                return Ok(None);
            }
            let batches = self.log.borrow().after(from.previous(), 1)?;
            self.deliveries.borrow_mut().write(&batches, now).map(Some)
        });
        let written = written.inspect_err(|_| self.log.borrow_mut().rewind(mark))?;
        let Some(written) = written else { return Ok(false) };
        let full = self.deliveries.borrow_mut().enqueue(written);
        for id in full {
            self.disable(&id, now, DisableReason::Backlog)?;
        }
        Ok(true)
    }

    fn record_reports(self: &Rc<Self>, tried: Vec<DeliveryReport>, now: Timestamp) -> Result<(), Failure> {
        for report in tried {
            let webhook = report.webhook.clone();
            let disables = self.deliveries.borrow_mut().report(report, now)?;
            let live = self.deliveries.borrow().queue.hook(&webhook).is_some_and(WebhookState::is_live);
            if let Some(reason) = disables.filter(|_| live) {
                self.disable(&webhook, now, reason)?;
            }
        }
        Ok(())
    }

    fn disable(self: &Rc<Self>, id: &str, now: Timestamp, reason: DisableReason) -> Result<(), Failure> {
        self.deliveries.borrow_mut().disable(id, now, reason)?;
        let (tenant, owner) = {
            let deliveries = self.deliveries.borrow();
            (deliveries.tenant.clone(), deliveries.queue.hook(id).and_then(|hook| hook.owner.clone()))
        };
        let tenant = tenant.ok_or_else(|| Failure("no webhook was configured".into()))?;
        let number = self.log.borrow().head(HUB) + 1;
        let data = RawValue::from_string(json!({"id": id, "reason": reason}).to_string())?;
        let kind = EventKind::Registry { kind: RegistryEvent::WebhookDisabled, data };
        let items = vec![Item { number, at: now, kind }];
        let bundle = Bundle { subject: id.into(), owner, items, ..Bundle::default() };
        let bundles = serde_json::value::to_raw_value(&[bundle])?;
        self.publish(&Publish { tenant, publisher: HUB.into(), first: number, last: number, count: 1, bundles })
    }

    fn redeliver(self: &Rc<Self>, webhook: &str, event_id: &str, now: Timestamp) -> Result<Redelivered, Failure> {
        if !self.deliveries.borrow().queue.hook(webhook).is_some_and(WebhookState::is_live) {
            return Ok(Redelivered::Idle);
        }
        let parts = event_id.rsplit_once('-').and_then(|(publisher, number)| Some((publisher, number.parse().ok()?)));
        let Some((publisher, number)) = parts else { return Ok(Redelivered::Absent) };
        let batches = self.log.borrow().batches_with(publisher, number)?;
        let delivery = self.deliveries.borrow_mut().enqueue_again(webhook, &batches, event_id, now)?;
        self.settle();
        Ok(delivery.map_or(Redelivered::Absent, |delivery| Redelivered::Queued(Box::new(delivery))))
    }

    pub(super) fn notify_consumers(&self) {
        if !self.deliveries.borrow_mut().queue.take_notification(clock::now()) {
            return;
        }
        let Some(tenant) = self.deliveries.borrow().tenant.clone() else { return };
        tasks::spawn(async move {
            if let Err(failure) = objects::enqueue_webhook_wakeup(&tenant).await {
                // The alarm enqueues another one.
                log_event!(QueueMessageNotSent, tenant = &tenant, queue = "webhooks", detail = &failure);
            }
        });
    }
}
