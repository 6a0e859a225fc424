//! Work nobody waits for: the queue's messages, and the cron's sweep.
//!
//! A message names a store; what to run next is the store's to say. A message that comes twice finds nothing
//! to do, one that is lost is rung again by the store's alarm.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use futures_util::StreamExt;
use futures_util::future::{join_all, select};
use futures_util::stream::FuturesUnordered;

use crate::auth::key_sets;
use crate::objects::contexts::messages::{Ask, Message, Reply, Work};
use crate::objects::registry::messages::{DocumentKind, StoredDocument};
use crate::objects::registry::snapshot::Snapshot;
use crate::objects::registry::{self, snapshot};
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{Failure, clock, log_event, secret_box, settings};
use narthex_core::access::audit::Actor;
use narthex_core::access::tenant::FIRST_TENANT;
use narthex_core::base::id::StoreId;

use super::choice;
use super::deliveries;
use super::schedules;
use super::{Waiter, hint, work_on};
use crate::objects::lanes::client::is_gated;
use crate::transport::mcp::catalogue_refresh;

/// A consumer stops taking on more after this; the platform gives it 15 minutes in all.
const SHIFT_MS: u64 = 10 * 60 * 1000;
/// Contexts one consumer runs at the same time.
const AT_ONCE: usize = 8;
/// Of these, how many may stand in line for one service: its backlog must not keep others' work from being run.
const IN_LINE: usize = 6;

/// Tenants one sweep looks at: an invocation may ask so many objects and no more.
const TENANTS_AT_ONCE: usize = 100;
/// Stores that one sweep works off.
const MAX_WORKED_OFF: usize = 50;
/// How long a deleted tenant is swept, until what it had is deleted, in milliseconds.
const ENDING_MS: u64 = 3 * 86_400_000;

/// Contexts a consumer has standing in line, by the service they want.
type InLine = Rc<RefCell<BTreeMap<String, usize>>>;

/// Does what a message asks for.
pub async fn answer(message: &str) -> Result<(), Failure> {
    // A store's name has its tenant in front; a tenant alone has webhooks to be told.
    if message.contains('/') { work_off(message).await } else { deliveries::deliver(message).await }
}

/// Works off what a store has: some at a time, so that a slow one does not hold up the others.
async fn work_off(name: &str) -> Result<(), Failure> {
    let (tenant, store) = name
        .split_once('/')
        .and_then(|(tenant, code)| Some((tenant, StoreId::parse(code)?)))
        .ok_or_else(|| Failure("a message that names no store".into()))?;
    let began = clock::now();
    let in_line = InLine::default();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < AT_ONCE && clock::now().since(began) < SHIFT_MS {
            // Others' work only beside work of one's own: their own messages may wait behind it.
            match claim(tenant, store, !running.is_empty(), &in_line).await {
                Ok(Some((work, snapshot))) => running.push(run(tenant, work, snapshot, in_line.clone())),
                Ok(None) => break,
                // What runs goes on: it is not to end because nothing more can be had now.
                Err(failure) if !running.is_empty() => {
                    log_event!(WorkNotClaimed, tenant = tenant, store = store, detail = &failure);
                    break;
                }
                Err(failure) => return Err(failure),
            }
        }
        if running.is_empty() {
            return Ok(());
        }
        // What comes meanwhile rings too; where consumers are few, it is found here.
        select(running.next(), std::pin::pin!(clock::pause(settings::timing().look_again_ms))).await;
    }
}

async fn run(tenant: &str, work: Work, snapshot: Rc<Snapshot>, in_line: InLine) {
    let service = (work.lease == 0).then(|| work.admission.service.clone());
    if let Some(service) = &service {
        *in_line.borrow_mut().entry(service.clone()).or_default() += 1;
    }
    let id = work.admission.id.clone();
    if let Err(failure) =
        work_on(tenant.into(), work, snapshot, None, settings::timing().retry_stays_ms, Waiter::nobody()).await
    {
        // Its lease runs out, and the store sees to it.
        log_event!(AttemptNotCommitted, tenant = tenant, context = &id, detail = &failure);
    }
    if let Some(service) = service
        && let Some(count) = in_line.borrow_mut().get_mut(&service)
    {
        *count = count.saturating_sub(1);
    }
}

fn crowded(in_line: &InLine) -> Vec<String> {
    in_line.borrow().iter().filter(|(_, count)| **count >= IN_LINE).map(|(id, _)| id.clone()).collect()
}

/// The next thing to do: of this store, or when `others` is set, of any.
async fn claim(
    tenant: &str,
    store: StoreId,
    others: bool,
    in_line: &InLine,
) -> Result<Option<(Work, Rc<Snapshot>)>, Failure> {
    let mut snapshot = snapshot::fresh(tenant).await?;
    let mut stores = vec![store];
    if others {
        stores.extend(snapshot.stores.iter().copied().filter(|other| *other != store));
    }
    for store in stores {
        let name = store.object_name(tenant);
        loop {
            let gated = snapshot
                .services
                .iter()
                .filter(|entry| is_gated(entry) || entry.is_offline())
                .map(|entry| entry.service().id.clone());
            // All that waits for a service that is away would be taken and put back, again and again.
            let (mut without, again_at) = choice::shut(&snapshot, clock::now());
            without.extend(crowded(in_line));
            let claim = Ask::Claim { lease_ms: settings::timing().lease_ms, gated: gated.collect(), without, again_at };
            let message = Message { revision: snapshot.revision, ask: claim };
            match objects::send(Kind::Contexts, &name, hint(store), &message, PATIENCE_MS).await? {
                Reply::Leased(work) | Reply::Offered(work) => return Ok(Some((*work, snapshot))),
                Reply::Stale { .. } => snapshot = snapshot::refreshed(tenant).await?,
                _ => break,
            }
        }
    }
    Ok(None)
}

/// Every minute: wakes what a dead alarm left asleep, of every tenant; of some at a time where there are many. And works
/// off the stores whose contexts wait behind others' slow ones: the platform gives a queue no further consumer before a
/// batch has ended.
pub async fn sweep() -> Result<(), Failure> {
    let own = snapshot::refreshed(FIRST_TENANT).await?;
    let mut waiting = sweep_tenant(FIRST_TENANT).await?;
    if settings::current().oauth && secret_box::newest().is_some() {
        // Whoever asks for its keys sees to it that they are encrypted under the newest key.
        key_sets::own_keys().await?;
    }
    let now = clock::now();
    let tenants: Vec<&StoredDocument> = own
        .documents
        .iter()
        .filter(|stored| stored.kind == DocumentKind::Tenant)
        .filter(|stored| stored.deleted_at.is_none_or(|at| now.since(at) < ENDING_MS))
        .collect();
    let pages = tenants.len().div_ceil(TENANTS_AT_ONCE).max(1);
    let page = usize::try_from(now.0 / 60_000).unwrap_or(0) % pages;
    let sweeps = tenants.chunks(TENANTS_AT_ONCE).nth(page).unwrap_or_default().iter().map(|stored| async move {
        let swept = async {
            if stored.deleted_at.is_some() {
                close(&stored.id).await?;
            }
            sweep_tenant(&stored.id).await
        };
        swept.await.unwrap_or_else(|failure| {
            log_event!(TenantNotSwept, tenant = &stored.id, detail = &failure);
            Vec::new()
        })
    });
    waiting.extend(join_all(sweeps).await.into_iter().flatten());
    let worked_off = waiting.iter().take(MAX_WORKED_OFF).map(|name| async move {
        if let Err(failure) = work_off(name).await {
            let (tenant, store) = name.split_once('/').unzip();
            log_event!(QueuedWorkNotRun, tenant = tenant, store = store, detail = &failure);
        }
    });
    join_all(worked_off).await;
    Ok(())
}

/// Ends a deleted tenant, in case that was not reached when it was deleted.
async fn close(tenant: &str) -> Result<(), Failure> {
    let by = Actor { actor: "gateway".into(), ..Actor::default() };
    let message = registry::messages::Message { tenant: tenant.into(), ask: registry::messages::Ask::Close, by };
    let _: registry::messages::Reply = objects::send(Kind::Registry, tenant, "", &message, PATIENCE_MS).await?;
    Ok(())
}

/// Sweeps what a tenant has. Gives the stores that have something waiting.
async fn sweep_tenant(tenant: &str) -> Result<Vec<String>, Failure> {
    let snapshot = snapshot::refreshed(tenant).await?;
    let sweeps = snapshot.stores.iter().map(|store| {
        let name = store.object_name(tenant);
        let message = Message { revision: snapshot.revision, ask: Ask::Sweep };
        async move {
            match objects::send(Kind::Contexts, &name, "", &message, PATIENCE_MS).await {
                Ok(Reply::Waits) => return Some(name),
                Ok(_) => {}
                Err(failure) => {
                    log_event!(StoreNotSwept, tenant = tenant, store = *store, detail = &failure);
                }
            }
            None
        }
    });
    let waiting = join_all(sweeps).await.into_iter().flatten().collect();
    let ask = registry::messages::Message::new(tenant, registry::messages::Ask::Sweep);
    let _: registry::messages::Reply = objects::send(Kind::Registry, tenant, "", &ask, PATIENCE_MS).await?;
    catalogue_refresh::sweep(tenant, &snapshot).await;
    if snapshot.documents(DocumentKind::Schedule).next().is_some() {
        schedules::configure(tenant, &snapshot).await?;
    }
    // Which is a sweep of the hub as well.
    deliveries::configure(tenant, &snapshot).await?;
    Ok(waiting)
}
