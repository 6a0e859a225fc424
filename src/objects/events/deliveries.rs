//! Webhook deliveries: a row for each waiting delivery, written with the event itself, and one for each finished
//! delivery. The queue (`narthex_core::webhooks::delivery_queue`) decides.

use serde_json::value::RawValue;

use crate::platform::objects::Kind;
use crate::platform::sql::{Row, Sql};
use crate::platform::{Failure, random};
use narthex_core::base::later_states::LaterStates;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::events::bundle::{Bundle, Item};
use narthex_core::events::sequence::Sequence;
use narthex_core::registry::revision::Revision;
use narthex_core::webhooks::delivery::{DisableReason, WebhookState};
use narthex_core::webhooks::delivery_queue::{Claim, DeliveryQueue, Disposition, MAX_WAITING, PendingDelivery};

use super::log::Batch;
use super::messages::webhooks::{Delivery, DeliveryReport, DeliveryState, DueDelivery, HookState, Subscriber};

const CREATE: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS webhooks (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, document TEXT NOT NULL) \
     STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS waiting (number INTEGER PRIMARY KEY, webhook TEXT NOT NULL, \
     document TEXT NOT NULL, event TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS delivered (number INTEGER PRIMARY KEY, webhook TEXT NOT NULL, at INTEGER NOT NULL, \
     document TEXT NOT NULL) STRICT",
];

/// Rows deleted at a time.
const ROWS_PER_DELETION: u64 = 500;

pub struct Deliveries {
    sql: Sql,
    pub queue: DeliveryQueue,
    /// The number of the next delivery.
    next: u64,
    /// Set once a webhook was configured.
    pub tenant: Option<TenantId>,
    /// Webhooks whose states a later version has written: they stay for that version, unless they are written anew.
    unreadable: LaterStates,
    /// The registry revision of the latest configuration.
    revision: Revision,
}

/// Deliveries that are written but not queued yet.
pub type WrittenDeliveries = Vec<(String, u64, PendingDelivery)>;

fn document<T: serde::de::DeserializeOwned>(row: &Row, at: u32) -> Result<T, Failure> {
    Ok(serde_json::from_str(&row.text(at).unwrap_or_default())?)
}

/// A delivery without attempts.
fn new_delivery(batch: &Batch, bundle: &Bundle, item: &Item, sequence: Sequence, now: Timestamp) -> Delivery {
    Delivery {
        event_id: format!("{}-{}", batch.publisher, item.number),
        event_type: item.kind.event_type().as_str().into(),
        subject: bundle.subject.clone(),
        sequence,
        created_at: now,
        attempts: 0,
        refused: None,
        first_at: None,
        last: None,
        state: DeliveryState::Waiting,
        due: Some(now),
    }
}

impl Deliveries {
    pub fn open(state: &wasm_bindgen::JsValue, pauses_ms: &[u64], timing: Timing) -> Result<Self, Failure> {
        let sql = Sql::of(state, Kind::Events);
        for statement in CREATE {
            sql.run(statement, &[])?;
        }
        let mut queue = DeliveryQueue::new(pauses_ms.to_vec(), timing.batch_wakeup_retry_ms);
        let (mut tenant, mut unreadable) = (None, LaterStates::default());
        for row in sql.rows("SELECT id, tenant, document FROM webhooks", &[])? {
            tenant = row.text(1).map(TenantId::from_stored);
            let id = row.text(0).unwrap_or_default();
            match document(&row, 2) {
                Ok(hook) => queue.restore(id, hook),
                Err(_) => unreadable.add(id, &row.text(2).unwrap_or_default()),
            }
        }
        for row in sql.rows("SELECT number, webhook, document FROM waiting", &[])? {
            let Ok(delivery) = document::<Delivery>(&row, 2) else { continue };
            let mut waiting =
                PendingDelivery::new(delivery.attempts, delivery.first_at, delivery.due.unwrap_or_default());
            waiting.rejected = delivery.refused.unwrap_or(delivery.attempts);
            waiting.unreachable = delivery.last.is_some_and(|last| last.unreachable());
            queue.add(&row.text(1).unwrap_or_default(), row.integer(0).unwrap_or_default(), waiting);
        }
        let last = "SELECT max((SELECT coalesce(max(number), 0) FROM waiting), \
                    (SELECT coalesce(max(number), 0) FROM delivered))";
        let next = sql.first(last, &[])?.and_then(|row| row.integer(0)).unwrap_or(0) + 1;
        Ok(Self { sql, queue, next, tenant, unreadable, revision: Revision::INITIAL })
    }

    fn store_webhook(&self, id: &str) -> Result<(), Failure> {
        let Some(hook) = self.queue.hook(id) else { return Ok(()) };
        self.sql.run(
            "INSERT INTO webhooks (id, tenant, document) VALUES (?, ?, ?) \
             ON CONFLICT (id) DO UPDATE SET document = excluded.document",
            &[id.into(), self.tenant.as_ref().into(), (&serde_json::to_string(hook)?).into()],
        )
    }

    /// All webhooks of the tenant, as configured under this revision, and those that are left to a later version.
    pub fn configure(
        &mut self,
        tenant: TenantId,
        revision: Revision,
        (all, set_aside): (Vec<Subscriber>, Vec<String>),
        now: Timestamp,
    ) -> Result<(), Failure> {
        if revision < self.revision {
            return Ok(());
        }
        self.revision = revision;
        self.tenant = Some(tenant);
        let known: Vec<String> = self.queue.ids().into_iter().chain(self.unreadable.ids().cloned()).collect();
        for id in known {
            // A webhook that a later version has written stays as it was: its deliveries wait for that version.
            if !all.iter().any(|subscriber| subscriber.id == id) && !set_aside.contains(&id) {
                self.delete(&id)?;
            }
        }
        self.queue.set_aside(set_aside);
        for Subscriber { id, generation, filter, enabled, owner } in all {
            if self.unreadable.keeps(&id, generation) {
                continue;
            }
            if self.queue.configure(&id, generation, filter, enabled, owner) {
                self.store_webhook(&id)?;
                if !enabled {
                    self.give_up(&id, now)?;
                }
            }
        }
        Ok(())
    }

    fn delete(&mut self, id: &str) -> Result<(), Failure> {
        self.queue.remove(id);
        self.unreadable.remove(id);
        self.sql.run("DELETE FROM webhooks WHERE id = ?", &[id.into()])?;
        self.sql.run("DELETE FROM waiting WHERE webhook = ?", &[id.into()])?;
        self.sql.run("DELETE FROM delivered WHERE webhook = ?", &[id.into()])
    }

    /// Whether a webhook gets another delivery: one that is set aside is not disabled when its queue is full.
    fn takes(&self, id: &str) -> bool {
        !self.queue.is_set_aside(id) || self.queue.count(id) < MAX_WAITING
    }

    pub fn disable(&mut self, id: &str, now: Timestamp, reason: DisableReason) -> Result<(), Failure> {
        self.queue.disable(id, now, reason);
        self.store_webhook(id)?;
        self.give_up(id, now)
    }

    /// Fails all waiting deliveries of a webhook.
    fn give_up(&mut self, id: &str, now: Timestamp) -> Result<(), Failure> {
        if self.queue.give_up(id).is_empty() {
            return Ok(());
        }
        self.sql.run(
            "INSERT INTO delivered (number, webhook, at, document) SELECT number, webhook, CAST(? AS INTEGER), \
             json_set(document, '$.state', 'failed', '$.due', NULL) FROM waiting WHERE webhook = ?",
            &[now.0.into(), id.into()],
        )?;
        self.sql.run("DELETE FROM waiting WHERE webhook = ?", &[id.into()])
    }

    /// Writes a row for each webhook that matches an event. They are queued once the transaction has committed.
    pub fn write(&mut self, batches: &[Batch], now: Timestamp) -> Result<WrittenDeliveries, Failure> {
        let mut written = WrittenDeliveries::new();
        for batch in batches {
            for (sequence, bundle, item, before) in batch.events() {
                let webhooks: Vec<String> = self.queue.subscribers(bundle, item).map(Into::into).collect();
                if webhooks.is_empty() {
                    continue;
                }
                let text = batch.event(bundle, item, before, sequence);
                let delivery = new_delivery(batch, bundle, item, sequence, now);
                for id in webhooks.into_iter().filter(|id| self.takes(id)).collect::<Vec<_>>() {
                    written.push(self.insert(id, &delivery, &text)?);
                }
            }
        }
        Ok(written)
    }

    fn insert(
        &mut self,
        id: String,
        delivery: &Delivery,
        event: &str,
    ) -> Result<(String, u64, PendingDelivery), Failure> {
        let number = self.next;
        self.next += 1;
        self.sql.run(
            "INSERT INTO waiting (number, webhook, document, event) VALUES (CAST(? AS INTEGER), ?, ?, ?)",
            &[number.into(), (&id).into(), (&serde_json::to_string(delivery)?).into(), event.into()],
        )?;
        Ok((id, number, PendingDelivery::new(0, None, delivery.due.unwrap_or_default())))
    }

    /// Queues written deliveries. Returns webhooks whose backlog is too large.
    pub fn enqueue(&mut self, written: WrittenDeliveries) -> Vec<String> {
        let mut full = Vec::new();
        for (id, number, waiting) in written {
            self.queue.add(&id, number, waiting);
            if self.queue.count(&id) > MAX_WAITING && !full.contains(&id) {
                full.push(id);
            }
        }
        full
    }

    /// Records an attempt; returns the reason if its webhook must be disabled.
    pub fn report(&mut self, report: DeliveryReport, now: Timestamp) -> Result<Option<DisableReason>, Failure> {
        let DeliveryReport { webhook, number, attempt } = report;
        let id = webhook.as_str();
        let result = self.queue.report(id, number, &attempt, now, random::number());
        let row = self.sql.first("SELECT document FROM waiting WHERE number = CAST(? AS INTEGER)", &[number.into()])?;
        let Some(row) = row.filter(|_| result.disposition != Disposition::Unknown) else { return Ok(None) };
        let mut delivery: Delivery = document(&row, 0)?;
        delivery.refused = Some(delivery.refused.unwrap_or(delivery.attempts) + usize::from(!attempt.unreachable()));
        delivery.attempts += 1;
        delivery.last = Some(attempt);
        if let Disposition::Retry { due, first_at } = result.disposition {
            (delivery.due, delivery.first_at) = (Some(due), Some(first_at));
            self.sql.run(
                "UPDATE waiting SET document = ? WHERE number = CAST(? AS INTEGER)",
                &[(&serde_json::to_string(&delivery)?).into(), number.into()],
            )?;
        } else {
            delivery.due = None;
            delivery.state = match result.disposition {
                Disposition::Delivered => DeliveryState::Delivered,
                _ => DeliveryState::Failed,
            };
            self.sql.run("DELETE FROM waiting WHERE number = CAST(? AS INTEGER)", &[number.into()])?;
            self.sql.run(
                "INSERT INTO delivered (number, webhook, at, document) VALUES (CAST(? AS INTEGER), ?, \
                 CAST(? AS INTEGER), ?)",
                &[number.into(), id.into(), now.0.into(), (&serde_json::to_string(&delivery)?).into()],
            )?;
        }
        if result.hook_changed {
            self.store_webhook(id)?;
        }
        Ok(result.disables)
    }

    /// Claims the next deliveries.
    pub fn claim(&mut self, most: usize, now: Timestamp) -> Result<Vec<DueDelivery>, Failure> {
        let claimed = self.queue.claim(most, now);
        let due = claimed.into_iter().map(|Claim { webhook, number, attempt }| {
            let statement = "SELECT document, event FROM waiting WHERE number = CAST(? AS INTEGER)";
            let Some(row) = self.sql.first(statement, &[number.into()])? else { return Ok(None) };
            let delivery: Delivery = document(&row, 0)?;
            let event = RawValue::from_string(row.text(1).unwrap_or_default())?;
            Ok(Some(DueDelivery { webhook, number, attempt, event_id: delivery.event_id, event }))
        });
        due.filter_map(Result::transpose).collect()
    }

    /// Queues an event again.
    pub fn enqueue_again(
        &mut self,
        id: &str,
        batches: &[Batch],
        event_id: &str,
        now: Timestamp,
    ) -> Result<Option<Delivery>, Failure> {
        let hook: Option<&WebhookState> = self.queue.hook(id);
        for batch in batches {
            for (sequence, bundle, item, before) in batch.events() {
                let is_same = format!("{}-{}", batch.publisher, item.number) == event_id;
                if !is_same || !hook.is_some_and(|hook| hook.filter.matches(bundle, item)) {
                    continue;
                }
                let text = batch.event(bundle, item, before, sequence);
                let delivery = new_delivery(batch, bundle, item, sequence, now);
                let written = self.insert(id.into(), &delivery, &text)?;
                self.enqueue(vec![written]);
                return Ok(Some(delivery));
            }
        }
        Ok(None)
    }

    pub fn states(&self) -> Vec<(String, HookState)> {
        let state = |id: String| {
            let hook = self.queue.hook(&id)?;
            let (generation, disabled, failing_since) = (hook.generation, hook.disabled, hook.failing_since);
            let (waiting, resting_until) = (self.queue.count(&id) as u64, hook.cool_down.map(|rest| rest.until));
            Some((id, HookState { generation, disabled, failing_since, resting_until, waiting }))
        };
        self.queue.ids().into_iter().filter_map(state).collect()
    }

    /// The deliveries of a webhook, newest first.
    pub fn list(&self, id: &str, below: u64, limit: u64) -> Result<Vec<(u64, Delivery)>, Failure> {
        let rows = self.sql.rows(
            "SELECT number, document FROM (SELECT number, webhook, document FROM waiting UNION ALL \
             SELECT number, webhook, document FROM delivered) WHERE webhook = ? AND number < ? \
             ORDER BY number DESC LIMIT CAST(? AS INTEGER)",
            &[id.into(), below.into(), limit.into()],
        )?;
        Ok(rows.iter().filter_map(|row| Some((row.integer(0)?, document(row, 1).ok()?))).collect())
    }

    /// Deletes some of the deliveries finished before this time.
    pub fn delete_old(&self, before: Timestamp) -> Result<(), Failure> {
        self.sql.run(
            "DELETE FROM delivered WHERE number IN (SELECT number FROM delivered ORDER BY number \
             LIMIT CAST(? AS INTEGER)) AND at < CAST(? AS INTEGER)",
            &[ROWS_PER_DELETION.into(), before.0.into()],
        )
    }
}
