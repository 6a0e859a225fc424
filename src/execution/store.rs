//! Calls of the store of a context.

use std::rc::Rc;

use crate::objects::contexts::messages::{Ask, Message, Reply};
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::platform::objects::{self, CALL_TIMEOUT_MS, Kind};
use crate::platform::{Failure, clock};
use narthex_core::base::id::{ContextId, StoreId};
use narthex_core::base::tenant_id::TenantId;

/// How often a commit is retried before its lease expires.
const MAX_RETRIES: u32 = 4;

/// Where a store is created by its first call.
pub fn location_hint(store: StoreId) -> &'static str {
    store.region.location_hint()
}

fn timeout_ms(ask: &Ask) -> u64 {
    match ask {
        Ask::Wait { milliseconds, .. } | Ask::Follow { milliseconds, .. } | Ask::Hear { milliseconds, .. } => {
            CALL_TIMEOUT_MS + milliseconds
        }
        _ => CALL_TIMEOUT_MS,
    }
}

async fn send(tenant: &TenantId, id: &ContextId, message: &Message) -> Result<Reply, Failure> {
    let store = id.store().ok_or_else(|| Failure("a context without a store".into()))?;
    objects::send(Kind::Contexts, &store.object_name(tenant), location_hint(store), message, timeout_ms(&message.ask))
        .await
}

/// Calls the store once, with a request that it answers under any revision.
pub async fn call_store(tenant: &TenantId, id: &ContextId, ask: Ask) -> Result<Reply, Failure> {
    send(tenant, id, &Message::unfenced(ask)).await
}

/// Calls the store with a request that does not depend on the registry's content. Fetches a new snapshot if the store
/// knows a newer one.
pub async fn call_with_revision(
    tenant: &TenantId,
    id: &ContextId,
    snapshot: &mut Rc<Snapshot>,
    ask: Ask,
) -> Result<Reply, Failure> {
    let mut message = Message { revision: snapshot.revision, ask };
    for _ in 0..3 {
        match send(tenant, id, &message).await? {
            Reply::Stale { .. } => {
                *snapshot = snapshot::refreshed(tenant).await?;
                message.revision = snapshot.revision;
            }
            reply => return Ok(reply),
        }
    }
    Err(Failure("the registry changes faster than it can be read".into()))
}

/// Whether the store that an id names has ever held a context of this tenant. Every id from outside must be checked
/// before its store is called, as a call would create the store.
pub async fn is_store_of(tenant: &TenantId, id: &ContextId, snapshot: &mut Rc<Snapshot>) -> Result<bool, Failure> {
    let Some(store) = id.store() else { return Ok(false) };
    if snapshot.stores.contains(&store) {
        return Ok(true);
    }
    // It may have been created just now by another isolate.
    *snapshot = snapshot::refreshed(tenant).await?;
    Ok(snapshot.stores.contains(&store))
}

/// Calls the store until it replies. For requests that it answers under any revision, that must not be lost, and that
/// have no effect when repeated.
pub async fn call_with_retry(tenant: &TenantId, id: &ContextId, ask: Ask) -> Result<Reply, Failure> {
    call_keeping_request(tenant, id, ask).await.map(|(reply, _)| reply)
}

/// As [`call_with_retry`], and returns the request as well.
pub async fn call_keeping_request(tenant: &TenantId, id: &ContextId, ask: Ask) -> Result<(Reply, Ask), Failure> {
    let message = Message::unfenced(ask);
    let mut tries = 0;
    loop {
        match send(tenant, id, &message).await {
            Ok(reply) => return Ok((reply, message.ask)),
            Err(failure) if tries == MAX_RETRIES => return Err(failure),
            Err(_) => {
                tries += 1;
                clock::pause(100 << tries).await;
            }
        }
    }
}
