//! Asking the store that keeps a context.

use std::rc::Rc;

use crate::objects::contexts::messages::{Ask, Message, Reply};
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{Failure, clock};
use narthex_core::base::id::{ContextId, StoreId};

/// Times a commit is tried before its lease is left to run out.
const TRIES: u32 = 4;

/// Where a store is created, if this is its first call.
pub fn hint(store: StoreId) -> &'static str {
    store.region.location_hint()
}

fn patience(ask: &Ask) -> u64 {
    match ask {
        Ask::Wait { milliseconds, .. } | Ask::Follow { milliseconds, .. } | Ask::Hear { milliseconds, .. } => {
            PATIENCE_MS + milliseconds
        }
        _ => PATIENCE_MS,
    }
}

async fn send(tenant: &str, id: &ContextId, message: &Message) -> Result<Reply, Failure> {
    let store = id.store().ok_or_else(|| Failure("a context without a store".into()))?;
    objects::send(Kind::Contexts, &store.object_name(tenant), hint(store), message, patience(&message.ask)).await
}

/// Asks once, with a revision the caller vouches for.
pub async fn ask(tenant: &str, id: &ContextId, revision: u64, ask: Ask) -> Result<Reply, Failure> {
    send(tenant, id, &Message { revision, ask }).await
}

/// Asks what does not depend on the registry's content, refetching the snapshot when the store knows a newer one.
pub async fn ask_decided(
    tenant: &str,
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

/// Whether the store that an id names has ever kept a context of this tenant. Asked of every id that comes from outside
/// before its store is: a store that is asked is made by that.
pub async fn is_store_of(tenant: &str, id: &ContextId, snapshot: &mut Rc<Snapshot>) -> Result<bool, Failure> {
    let Some(store) = id.store() else { return Ok(false) };
    if snapshot.stores.contains(&store) {
        return Ok(true);
    }
    // It may have been made a moment ago elsewhere.
    *snapshot = snapshot::refreshed(tenant).await?;
    Ok(snapshot.stores.contains(&store))
}

/// Asks until there is a reply: for what must not be lost, and changes nothing when it comes twice.
pub async fn ask_stubbornly(tenant: &str, id: &ContextId, ask: Ask) -> Result<Reply, Failure> {
    ask_and_keep(tenant, id, ask).await.map(|(reply, _)| reply)
}

/// As [`ask_stubbornly`], for who needs what was sent afterwards too.
pub async fn ask_and_keep(tenant: &str, id: &ContextId, ask: Ask) -> Result<(Reply, Ask), Failure> {
    let message = Message { revision: 0, ask };
    let mut tries = 0;
    loop {
        match send(tenant, id, &message).await {
            Ok(reply) => return Ok((reply, message.ask)),
            Err(failure) if tries == TRIES => return Err(failure),
            Err(_) => {
                tries += 1;
                clock::pause(100 << tries).await;
            }
        }
    }
}
