//! Calls of the store of a context.

use std::rc::Rc;

use crate::objects::protocol::{Address, Named, exchange, with_retries};
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::objects::reply::Reply;
use crate::platform::Failure;
use crate::platform::objects::CallError;
use narthex_core::base::id::{ContextId, StoreId};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::registry::revision::Revision;

use super::messages::{Contexts, Message, Stale};
use super::preconditions::{AnyRevision, KnownRevision, StoreRequest};

/// How often a commit is retried before its lease expires.
const MAX_RETRIES: u32 = 4;
/// How often a request is sent again because the registry has changed.
const MAX_REVISIONS: u32 = 3;

/// Calls a store with a request that it answers under any revision.
pub async fn call_store<R>(store: &Address<Contexts>, request: &R) -> Result<R::Reply, CallError>
where
    R: StoreRequest<Fence = AnyRevision>,
{
    send(store, Revision::INITIAL, request).await
}

/// Informs a store of this revision.
pub async fn push<R>(store: &Address<Contexts>, revision: Revision, request: &R) -> Result<R::Reply, CallError>
where
    R: StoreRequest<Fence = AnyRevision>,
{
    send(store, revision, request).await
}

async fn send<R>(store: &Address<Contexts>, revision: Revision, request: &R) -> Result<R::Reply, CallError>
where
    R: StoreRequest,
{
    exchange(store, &Message { revision, ask: Named(request) }, request.timeout_ms()).await
}

/// Calls a store with a request that was decided under this revision.
pub async fn call_under<R>(
    store: &Address<Contexts>,
    revision: Revision,
    request: &R,
) -> Result<Reply<R::Reply, Stale>, CallError>
where
    R: StoreRequest<Fence = KnownRevision>,
{
    exchange(store, &Message { revision, ask: Named(request) }, request.timeout_ms()).await
}

/// Calls a store with a request that depends neither on the registry's content nor on the credentials of the caller.
pub async fn call_under_any<R>(
    store: &Address<Contexts>,
    mut revision: Revision,
    request: &R,
) -> Result<R::Reply, Failure>
where
    R: StoreRequest<Fence = KnownRevision>,
{
    for _ in 0..MAX_REVISIONS {
        match call_under(store, revision, request).await? {
            Reply(Ok(reply)) => return Ok(reply),
            Reply(Err(Stale::Stale { revision: newer })) => revision = newer,
        }
    }
    Err(changes_too_fast())
}

/// Calls the store of a context with a request that does not depend on the registry's content. Fetches a new snapshot
/// if the store knows a newer one.
pub async fn call_with_revision<R>(
    tenant: &TenantId,
    id: &ContextId,
    snapshot: &mut Rc<Snapshot>,
    request: &R,
) -> Result<R::Reply, Failure>
where
    R: StoreRequest<Fence = KnownRevision>,
{
    let store = Contexts::holding(tenant, id)?;
    for _ in 0..MAX_REVISIONS {
        match call_under(&store, snapshot.revision, request).await? {
            Reply(Ok(reply)) => return Ok(reply),
            Reply(Err(Stale::Stale { .. })) => *snapshot = snapshot::refreshed(tenant).await?,
        }
    }
    Err(changes_too_fast())
}

fn changes_too_fast() -> Failure {
    Failure("the registry changes faster than it can be read".into())
}

/// Calls the store of a context until it replies. For requests that must not be lost and have no effect when repeated.
pub async fn call_with_retry<R>(tenant: &TenantId, id: &ContextId, request: &R) -> Result<R::Reply, CallError>
where
    R: StoreRequest<Fence = AnyRevision>,
{
    let store = Contexts::holding(tenant, id)?;
    with_retries(MAX_RETRIES, || call_store(&store, request)).await
}

/// Whether the store that an id names has ever held a context of this tenant. Every id from outside must be checked
/// before its store is called, as a call would create the store.
pub async fn is_store_of(tenant: &TenantId, id: &ContextId, snapshot: &mut Rc<Snapshot>) -> Result<bool, Failure> {
    let Some(store) = id.store() else { return Ok(false) };
    has_store(tenant, store, snapshot).await
}

/// Whether a tenant has this store. It may have been created just now by another isolate.
pub async fn has_store(tenant: &TenantId, store: StoreId, snapshot: &mut Rc<Snapshot>) -> Result<bool, Failure> {
    if snapshot.stores.contains(&store) {
        return Ok(true);
    }
    *snapshot = snapshot::refreshed(tenant).await?;
    Ok(snapshot.stores.contains(&store))
}
