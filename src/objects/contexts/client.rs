//! Calls of the store of a context.

use std::rc::Rc;

use crate::objects::protocol::{Address, Done, Pending, WriteRequest, call_enclosed, enclosed, read_reply, send};
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::objects::reply::{ReadReply, Reply, refusal};
use crate::objects::retries::with_retries;
use crate::platform::Failure;
use crate::platform::objects::CallError;
use narthex_core::base::id::{ContextId, StoreId};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::registry::revision::Revision;

use super::messages::{Contexts, LearnRevision, Message, Stale};
use super::preconditions::{AnyRevision, KnownRevision, StoreRequest};

/// How many times a commit is retried before its lease expires.
const MAX_RETRIES: u32 = 4;
/// How many times a request is sent at most while the registry changes.
const MAX_REVISIONS: u32 = 3;

fn envelope(revision: Revision) -> Message<()> {
    Message { revision, ask: () }
}

/// Sends a request to a store, which answers it under any revision.
pub fn call_store<R>(store: &Address<Contexts>, request: &R) -> Pending<R::Reply>
where
    R: StoreRequest<Fence = AnyRevision>,
{
    call_enclosed(store, &envelope(Revision::INITIAL), request)
}

/// As [`call_store`], for the store of a context.
pub async fn call<R>(tenant: &TenantId, id: &ContextId, request: &R) -> Result<R::Reply, CallError>
where
    R: StoreRequest<Fence = AnyRevision>,
{
    call_store(&Contexts::holding(tenant, id)?, request).await
}

/// As [`call`], with retries. For requests that must not be lost and have no effect when repeated.
pub async fn call_with_retry<R>(tenant: &TenantId, id: &ContextId, request: &R) -> Result<R::Reply, CallError>
where
    R: StoreRequest<Fence = AnyRevision>,
{
    let reply = reply_with_retry(tenant, id, request, request.timeout_ms()).await?;
    read_reply(R::NAME, &reply)
}

/// The reply as text: the same code for all requests, which keeps the program small.
async fn reply_with_retry(
    tenant: &TenantId,
    id: &ContextId,
    request: &dyn WriteRequest,
    timeout_ms: u64,
) -> Result<String, CallError> {
    let store = Contexts::holding(tenant, id)?;
    with_retries(MAX_RETRIES, || send(&store, enclosed(&envelope(Revision::INITIAL), request), timeout_ms)).await
}

/// Informs a store of the revision of its registry.
pub fn push(store: &Address<Contexts>, revision: Revision) -> Pending<Done> {
    call_enclosed(store, &envelope(revision), &LearnRevision)
}

/// Sends a request that was decided under this revision.
pub fn call_under<R>(store: &Address<Contexts>, revision: Revision, request: &R) -> Pending<Reply<R::Reply, Stale>>
where
    R: StoreRequest<Fence = KnownRevision>,
    Reply<R::Reply, Stale>: ReadReply,
{
    call_enclosed(store, &envelope(revision), request)
}

/// Sends a request that depends neither on the registry's content nor on the credentials of a caller.
pub async fn call_under_any<R>(
    store: &Address<Contexts>,
    mut revision: Revision,
    request: &R,
) -> Result<R::Reply, Failure>
where
    R: StoreRequest<Fence = KnownRevision>,
{
    for _ in 0..MAX_REVISIONS {
        match reply_or_revision(store, revision, request, request.timeout_ms()).await? {
            Ok(reply) => return Ok(read_reply(R::NAME, &reply)?),
            Err(newer) => revision = newer,
        }
    }
    Err(changes_too_fast())
}

/// Sends a request that does not depend on the registry's content to the store of a context. Fetches a new snapshot if
/// the store knows a newer one.
pub async fn call_with_revision<R>(
    tenant: &TenantId,
    id: &ContextId,
    snapshot: &mut Rc<Snapshot>,
    request: &R,
) -> Result<R::Reply, Failure>
where
    R: StoreRequest<Fence = KnownRevision>,
{
    let reply = reply_under_current(tenant, id, snapshot, request, request.timeout_ms()).await?;
    Ok(read_reply(R::NAME, &reply)?)
}

async fn reply_under_current(
    tenant: &TenantId,
    id: &ContextId,
    snapshot: &mut Rc<Snapshot>,
    request: &dyn WriteRequest,
    timeout_ms: u64,
) -> Result<String, Failure> {
    let store = Contexts::holding(tenant, id)?;
    for _ in 0..MAX_REVISIONS {
        match reply_or_revision(&store, snapshot.revision, request, timeout_ms).await? {
            Ok(reply) => return Ok(reply),
            Err(_) => *snapshot = snapshot::refreshed(tenant).await?,
        }
    }
    Err(changes_too_fast())
}

/// The reply as text, or the revision of a store that knows a newer one.
async fn reply_or_revision(
    store: &Address<Contexts>,
    revision: Revision,
    request: &dyn WriteRequest,
    timeout_ms: u64,
) -> Result<Result<String, Revision>, CallError> {
    let reply = send(store, enclosed(&envelope(revision), request), timeout_ms).await?;
    Ok(match refusal::<Stale>(&reply) {
        Some(Ok(Stale::Stale { revision })) => Err(revision),
        Some(Err(_)) | None => Ok(reply),
    })
}

fn changes_too_fast() -> Failure {
    Failure("the registry changes faster than it can be read".into())
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
