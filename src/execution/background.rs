//! Work nobody waits for: the queue's messages, and the cron's sweep.
//!
//! A message names a store; what to run next is the store's to say. A message that comes twice finds nothing
//! to do, one that is lost is rung again by the store's alarm.

use std::rc::Rc;

use futures_util::StreamExt;
use futures_util::future::{join_all, select};
use futures_util::stream::FuturesUnordered;

use crate::auth::FIRST_TENANT;
use crate::core::id::StoreId;
use crate::objects::contexts::messages::{Ask, Message, Reply, Work};
use crate::objects::events;
use crate::objects::registry::snapshot::Snapshot;
use crate::objects::registry::{self, snapshot};
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{Failure, clock, log};

use super::{LEASE_MS, Waiter, hint, work_on};

/// A consumer stops taking on more after this; the platform gives it 15 minutes in all.
const SHIFT_MS: u64 = 10 * 60 * 1000;
/// A retry that comes sooner than this is waited for.
const STAYS_MS: u64 = 5_000;
/// Contexts one consumer runs at the same time.
const AT_ONCE: usize = 8;
/// A consumer with room looks for more after this.
const LOOK_AGAIN_MS: u64 = 2_000;

/// Works off what a store has: some at a time, so that a slow one does not hold up the others.
pub async fn work_off(name: &str) -> Result<(), Failure> {
    let (tenant, store) = name
        .split_once('/')
        .and_then(|(tenant, code)| Some((tenant, StoreId::parse(code)?)))
        .ok_or_else(|| Failure("a message that names no store".into()))?;
    let began = clock::now();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < AT_ONCE && clock::now().since(began) < SHIFT_MS {
            // Others' work only beside work of one's own: their own messages may wait behind it.
            let Some((work, snapshot)) = claim(tenant, store, !running.is_empty()).await? else { break };
            running.push(async move {
                if let Err(failure) = work_on(tenant.into(), work, snapshot, STAYS_MS, Waiter::nobody()).await {
                    // Its lease runs out, and the store sees to it.
                    log(&format!(r#"{{"level":"error","message":"attempt not committed","detail":{:?}}}"#, failure.0));
                }
            });
        }
        if running.is_empty() {
            return Ok(());
        }
        // What comes meanwhile rings too; where consumers are few, it is found here.
        select(running.next(), std::pin::pin!(clock::pause(LOOK_AGAIN_MS))).await;
    }
}

/// The next thing to do: of this store, or when `others` is set, of any.
async fn claim(tenant: &str, store: StoreId, others: bool) -> Result<Option<(Work, Rc<Snapshot>)>, Failure> {
    let mut snapshot = snapshot::fresh(tenant).await?;
    let mut stores = vec![store];
    if others {
        stores.extend(snapshot.stores.iter().copied().filter(|other| *other != store));
    }
    for store in stores {
        let name = store.object_name(tenant);
        loop {
            let message =
                Message { revision: snapshot.revision, ask: Ask::Claim { lease_ms: LEASE_MS, gated: Vec::new() } };
            match objects::send(Kind::Contexts, &name, hint(store), &message, PATIENCE_MS).await? {
                Reply::Leased(work) => return Ok(Some((*work, snapshot))),
                Reply::Stale { .. } => snapshot = snapshot::refreshed(tenant).await?,
                _ => break,
            }
        }
    }
    Ok(None)
}

/// Every minute: wakes what a dead alarm left asleep.
pub async fn sweep() -> Result<(), Failure> {
    let tenant = FIRST_TENANT;
    let snapshot = snapshot::refreshed(tenant).await?;
    let sweeps = snapshot.stores.iter().map(|store| {
        let name = store.object_name(tenant);
        let message = Message { revision: snapshot.revision, ask: Ask::Sweep };
        async move {
            let swept: Result<Reply, _> = objects::send(Kind::Contexts, &name, "", &message, PATIENCE_MS).await;
            if let Err(failure) = swept {
                log(&format!(r#"{{"level":"warn","message":"not swept","store":{name:?},"detail":{:?}}}"#, failure.0));
            }
        }
    });
    join_all(sweeps).await;
    let ask = registry::messages::Message { tenant: tenant.into(), ask: registry::messages::Ask::Sweep };
    let _: registry::messages::Reply = objects::send(Kind::Registry, tenant, "", &ask, PATIENCE_MS).await?;
    let _: events::messages::Reply =
        objects::send(Kind::Events, tenant, "", &events::messages::Ask::Sweep, PATIENCE_MS).await?;
    Ok(())
}
