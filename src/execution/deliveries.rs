//! Telling webhooks of events. The hub says what is due and keeps what becomes of it; the calls are made here.
//!
//! A message of the queue for webhooks names a tenant. One that comes twice finds nothing to do, one that is lost is
//! rung again by the hub's alarm. The queue is one of its own, so that a slow receiver holds up no context.

use std::rc::Rc;

use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use crate::objects::events::messages::{Ask, Due, Reply, Subscriber, Tried};
use crate::objects::registry::messages::{DocumentKind, StoredDocument};
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{Failure, clock};
use crate::transport;
use narthex_core::webhooks::Webhook;

/// Deliveries of one consumer under way at the same time.
const AT_ONCE: usize = 32;
/// Deliveries one consumer makes before it leaves the rest to the next: an invocation may only make so many calls.
const MAX_DELIVERIES: usize = 400;
/// A consumer with room looks for more after this, in milliseconds.
const LOOK_AGAIN_MS: u64 = 1_000;
/// And how long it goes on, in milliseconds.
const SHIFT_MS: u64 = 5 * 60 * 1000;
/// Times a report is tried before its claim is left to run out.
const TRIES: u32 = 4;

/// A webhook as it is kept.
pub fn read(stored: &StoredDocument) -> Option<Webhook> {
    serde_json::from_str(stored.document.get()).ok()
}

/// Asks the tenant's hub.
pub async fn ask_hub(tenant: &str, ask: &Ask) -> Result<Reply, Failure> {
    objects::send(Kind::Events, tenant, "", ask, PATIENCE_MS).await
}

/// Tells the hub which webhooks there are.
pub async fn configure(tenant: &str, snapshot: &Snapshot) -> Result<(), Failure> {
    let subscriber = |stored: &StoredDocument| {
        let Webhook { filter, enabled, .. } = read(stored)?;
        let owner = filter.owner.clone();
        Some(Subscriber { id: stored.id.clone(), version: stored.generation(), filter, enabled, owner })
    };
    let webhooks = snapshot.documents(DocumentKind::Webhook).filter_map(subscriber).collect();
    ask_hub(tenant, &Ask::Webhooks { tenant: tenant.into(), revision: snapshot.revision, webhooks }).await?;
    Ok(())
}

/// Delivers what is due for a tenant's webhooks.
pub async fn deliver(tenant: &str) -> Result<(), Failure> {
    let began = clock::now();
    let (mut running, mut made, mut tried) = (FuturesUnordered::new(), 0, Vec::new());
    loop {
        let over = made >= MAX_DELIVERIES || clock::now().since(began) >= SHIFT_MS;
        let room = if over { 0 } else { AT_ONCE.saturating_sub(running.len()) };
        if room > 0 || !tried.is_empty() {
            let ask = Ask::Deliver { tried: std::mem::take(&mut tried), most: room };
            let Reply::Due(due) = ask_stubbornly(tenant, &ask).await? else {
                return Err(Failure("the hub answered something else".into()));
            };
            made += due.len();
            for one in due {
                running.push(send(tenant, webhook(tenant, &one.webhook).await?, one));
            }
        }
        if running.is_empty() {
            return Ok(());
        }
        if let Either::Left((first, _)) = select(running.next(), std::pin::pin!(clock::pause(LOOK_AGAIN_MS))).await {
            tried.extend(first.flatten());
            while let Some(Some(another)) = running.next().now_or_never() {
                tried.extend(another);
            }
        }
    }
}

/// The webhook as it is now; nothing when it is gone, which the hub hears of by itself.
async fn webhook(tenant: &str, id: &str) -> Result<Option<Rc<Webhook>>, Failure> {
    let find =
        |snapshot: &Snapshot| snapshot.documents(DocumentKind::Webhook).find(|stored| stored.id == id).and_then(read);
    let found = find(&*snapshot::fresh(tenant).await?);
    Ok(match found {
        Some(found) => Some(found),
        None => find(&*snapshot::refreshed(tenant).await?),
    }
    .map(Rc::new))
}

async fn send(tenant: &str, webhook: Option<Rc<Webhook>>, due: Due) -> Option<Tried> {
    let attempt = transport::webhook::send(tenant, &due.webhook, &*webhook?, &due.event_id, due.event.get()).await;
    Some(Tried { webhook: due.webhook, number: due.number, attempt })
}

/// A report that is lost means that its event is sent once more.
async fn ask_stubbornly(tenant: &str, ask: &Ask) -> Result<Reply, Failure> {
    let mut tries = 0;
    loop {
        match ask_hub(tenant, ask).await {
            Ok(reply) => return Ok(reply),
            Err(failure) if tries == TRIES => return Err(failure),
            Err(_) => {
                tries += 1;
                clock::pause(100 << tries).await;
            }
        }
    }
}
