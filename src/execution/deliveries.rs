//! Delivering events to webhooks. The hub decides which deliveries are due and stores their results; the calls are made
//! here.
//!
//! A message of the queue for webhooks names a tenant. A duplicate finds nothing to do; a lost one is repeated by the
//! alarm of the hub. The queue is separate, so that a slow receiver delays no context.

use std::rc::Rc;

use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use crate::objects::events::messages::Events;
use crate::objects::events::messages::webhooks::{
    ClaimDeliveries, ConfigureWebhooks, DeliveryReport, DueDeliveries, DueDelivery, Subscriber,
};
use crate::objects::protocol::call;
use crate::objects::registry::messages::{DocumentKind, StoredDocument};
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::objects::retries::with_retries;
use crate::platform::{Failure, clock, settings, stopping};
use crate::transport;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::webhooks::Webhook;

/// The maximum number of deliveries that one consumer makes at a time.
const MAX_CONCURRENT: usize = 32;
/// The maximum number of deliveries that one consumer makes: the platform limits the calls of an invocation.
const MAX_DELIVERIES: usize = 400;
/// A consumer starts no more deliveries after this time, in milliseconds.
const MAX_RUN_MS: u64 = 5 * 60 * 1000;
/// How many times a report is retried before its claim expires.
const MAX_RETRIES: u32 = 4;

/// Reads the stored document of a webhook.
pub fn read(stored: &StoredDocument) -> Option<Webhook> {
    serde_json::from_str(stored.document.get()).ok()
}

/// Sends the webhooks of a tenant to its hub.
pub async fn configure(tenant: &TenantId, snapshot: &Snapshot) -> Result<(), Failure> {
    let subscriber = |stored: &StoredDocument| {
        let Webhook { filter, enabled, .. } = read(stored)?;
        let owner = filter.owner.clone();
        Some(Subscriber { id: stored.id.clone(), generation: stored.generation(), filter, enabled, owner })
    };
    let webhooks = snapshot.documents(DocumentKind::Webhook).filter_map(subscriber).collect();
    let unreadable = snapshot.rules.unreadable(DocumentKind::Webhook).map(Into::into).collect();
    let configure = ConfigureWebhooks { tenant: tenant.clone(), revision: snapshot.revision, webhooks, unreadable };
    call(&Events::of(tenant), &configure).await?;
    Ok(())
}

/// Makes the due deliveries of a tenant.
pub async fn deliver(tenant: &TenantId) -> Result<(), Failure> {
    let began = clock::now();
    let (mut running, mut made, mut tried) = (FuturesUnordered::new(), 0, Vec::new());
    let hub = Events::of(tenant);
    loop {
        let over = made >= MAX_DELIVERIES || clock::now().since(began) >= MAX_RUN_MS || stopping::is_under_way();
        let room = if over { 0 } else { MAX_CONCURRENT.saturating_sub(running.len()) };
        if room > 0 || !tried.is_empty() {
            let claim = ClaimDeliveries { tried: std::mem::take(&mut tried), most: room };
            // If a report is lost, its event is sent once more.
            let DueDeliveries::Due(due) = with_retries(MAX_RETRIES, || call(&hub, &claim)).await?;
            made += due.len();
            for one in due {
                running.push(send(tenant, webhook(tenant, &one.webhook).await?, one));
            }
        }
        if running.is_empty() {
            return Ok(());
        }
        let poll = std::pin::pin!(clock::pause(settings::timing().delivery_poll_ms));
        if let Either::Left((first, _)) = select(running.next(), poll).await {
            tried.extend(first.flatten());
            while let Some(Some(another)) = running.next().now_or_never() {
                tried.extend(another);
            }
        }
    }
}

/// The current webhook. `None` if it was deleted, of which the hub is informed separately.
async fn webhook(tenant: &TenantId, id: &str) -> Result<Option<Rc<Webhook>>, Failure> {
    let find =
        |snapshot: &Snapshot| snapshot.documents(DocumentKind::Webhook).find(|stored| stored.id == id).and_then(read);
    let found = find(&*snapshot::fresh(tenant).await?);
    Ok(match found {
        Some(found) => Some(found),
        None => find(&*snapshot::refreshed(tenant).await?),
    }
    .map(Rc::new))
}

async fn send(tenant: &TenantId, webhook: Option<Rc<Webhook>>, due: DueDelivery) -> Option<DeliveryReport> {
    let attempt = transport::webhook::send(tenant, &due.webhook, &*webhook?, &due.event_id, due.event.get()).await;
    Some(DeliveryReport { webhook: due.webhook, number: due.number, attempt })
}
