//! Work without a waiting client: the queues' messages, and the sweep by cron.
//!
//! A message names a store, and the store decides which context runs next. A duplicate message finds nothing to do; a
//! lost one is repeated by the store's alarm.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use futures_util::StreamExt;
use futures_util::future::{join_all, select};
use futures_util::stream::FuturesUnordered;

use crate::auth::key_sets;
use crate::objects::contexts::client::{call_store, call_under};
use crate::objects::contexts::messages::{ClaimReply, ClaimWork, Contexts, Stale, Sweep, SweepReply, Work};
use crate::objects::registry::messages::{self as requests, Close, DocumentKind, StoredDocument};
use crate::objects::registry::snapshot::Snapshot;
use crate::objects::registry::{self, snapshot};
use crate::objects::reply::Reply;
use crate::platform::{Failure, clock, log_event, secret_box, settings};
use narthex_core::access::audit::Actor;
use narthex_core::base::id::StoreId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::execution::known_service::KnownService;
use narthex_core::execution::selection;

use super::deliveries;
use super::schedules;
use super::{WaitingClient, work_on};
use crate::transport::mcp::catalogue_refresh;

/// A consumer accepts no more work after this time. The platform ends it after 15 minutes.
const MAX_RUN_MS: u64 = 10 * 60 * 1000;
/// The maximum number of contexts that one consumer runs at a time.
const MAX_CONCURRENT: usize = 8;
/// The maximum number of these in one service's queue, so that its backlog does not delay the work of other services.
const MAX_QUEUED_PER_SERVICE: usize = 6;

/// The maximum number of tenants in one sweep: the platform limits the number of subrequests of an invocation.
const MAX_TENANTS_PER_SWEEP: usize = 100;
/// The maximum number of stores whose contexts one sweep runs.
const MAX_STORES_PER_SWEEP: usize = 50;
/// How long a deleted tenant is swept, in milliseconds. By then its data is deleted.
const DELETION_SWEEP_MS: u64 = 3 * 86_400_000;

/// The number of contexts of a consumer in wait queues, by service.
type QueuedByService = Rc<RefCell<BTreeMap<ServiceId, usize>>>;

/// Handles a message of a queue.
pub async fn handle(message: &str) -> Result<(), Failure> {
    // The name of a store begins with its tenant. A tenant's name alone stands for its webhooks.
    match message.split_once('/') {
        Some((tenant, code)) => {
            let store = StoreId::parse(code).ok_or_else(|| Failure("a message that names no store".into()))?;
            run_store(&TenantId::from_stored(tenant), store).await
        }
        None => deliveries::deliver(&TenantId::from_stored(message)).await,
    }
}

/// Runs the contexts of a store, several at a time, so that a slow one does not delay the others.
async fn run_store(tenant: &TenantId, store: StoreId) -> Result<(), Failure> {
    let began = clock::now();
    let queued = QueuedByService::default();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < MAX_CONCURRENT && clock::now().since(began) < MAX_RUN_MS {
            // Work of other stores only beside work of this one: their own messages may wait behind it.
            match claim(tenant, store, !running.is_empty(), &queued).await {
                Ok(Some((work, snapshot))) => running.push(run(tenant, work, snapshot, queued.clone())),
                Ok(None) => break,
                // The failed claim does not affect the contexts that run.
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
        // New work sends messages too. Where the platform runs few consumers, it is found here.
        select(running.next(), std::pin::pin!(clock::pause(settings::timing().work_poll_ms))).await;
    }
}

async fn run(tenant: &TenantId, work: Work, snapshot: Rc<Snapshot>, queued: QueuedByService) {
    let service = work.hold.is_offered().then(|| work.admission.service.clone());
    if let Some(service) = &service {
        *queued.borrow_mut().entry(service.clone()).or_default() += 1;
    }
    let id = work.admission.id.clone();
    if let Err(failure) =
        work_on(tenant.clone(), work, snapshot, None, settings::timing().inline_retry_max_ms, WaitingClient::none())
            .await
    {
        // Its lease expires, and the store takes care of it.
        log_event!(AttemptNotCommitted, tenant = tenant, context = &id, detail = &failure);
    }
    if let Some(service) = service
        && let Some(count) = queued.borrow_mut().get_mut(&service)
    {
        *count = count.saturating_sub(1);
    }
}

fn at_queue_limit(queued: &QueuedByService) -> Vec<ServiceId> {
    queued.borrow().iter().filter(|(_, count)| **count >= MAX_QUEUED_PER_SERVICE).map(|(id, _)| id.clone()).collect()
}

/// The next context to run: of this store, or with `others` of any store.
async fn claim(
    tenant: &TenantId,
    store: StoreId,
    others: bool,
    queued: &QueuedByService,
) -> Result<Option<(Work, Rc<Snapshot>)>, Failure> {
    let mut snapshot = snapshot::fresh(tenant).await?;
    let mut stores = vec![store];
    if others {
        stores.extend(snapshot.stores.iter().copied().filter(|other| *other != store));
    }
    for store in stores {
        let address = Contexts::of(tenant, store);
        loop {
            let gated = snapshot
                .services
                .iter()
                .filter(|entry| entry.is_gated() || entry.is_offline())
                .map(|entry| entry.service().id.clone());
            // Contexts for an unavailable service would be claimed and put back again and again.
            let (mut without, again_at) = selection::unavailable_services(&snapshot.services, clock::now());
            without.extend(at_queue_limit(queued));
            let claim = ClaimWork { lease_ms: settings::timing().lease_ms, gated: gated.collect(), without, again_at };
            match call_under(&address, snapshot.revision, &claim).await? {
                Reply(Ok(ClaimReply::Leased(work) | ClaimReply::Offered(work))) => return Ok(Some((*work, snapshot))),
                Reply(Ok(ClaimReply::Nothing)) => break,
                Reply(Err(Stale::Stale { .. })) => snapshot = snapshot::refreshed(tenant).await?,
            }
        }
    }
    Ok(None)
}

/// Runs every minute. It repeats what lost alarms should have done, for all tenants, or for a page of them if there are
/// many. It also runs contexts that wait behind slow ones of other stores: the platform starts no further consumer of a
/// queue before a batch has ended.
pub async fn sweep() -> Result<(), Failure> {
    let own = snapshot::refreshed(&TenantId::first()).await?;
    let mut waiting = sweep_tenant(&TenantId::first()).await?;
    if settings::current().oauth && secret_box::newest().is_some() {
        // Reading the keys encrypts them under the newest key.
        key_sets::own_keys().await?;
    }
    let now = clock::now();
    let tenants: Vec<&StoredDocument> = own
        .documents
        .iter()
        .filter(|stored| stored.kind == DocumentKind::Tenant)
        .filter(|stored| stored.deleted_at.is_none_or(|at| now.since(at) < DELETION_SWEEP_MS))
        .collect();
    let pages = tenants.len().div_ceil(MAX_TENANTS_PER_SWEEP).max(1);
    let page = usize::try_from(now.0 / 60_000).unwrap_or(0) % pages;
    let sweeps = tenants.chunks(MAX_TENANTS_PER_SWEEP).nth(page).unwrap_or_default().iter().map(|stored| async move {
        let tenant = TenantId::from_stored(&*stored.id);
        let swept = async {
            if stored.deleted_at.is_some() {
                close(&tenant).await?;
            }
            sweep_tenant(&tenant).await
        };
        swept.await.unwrap_or_else(|failure| {
            log_event!(TenantNotSwept, tenant = &tenant, detail = &failure);
            Vec::new()
        })
    });
    waiting.extend(join_all(sweeps).await.into_iter().flatten());
    let runs = waiting.iter().take(MAX_STORES_PER_SWEEP).map(|(tenant, store)| async move {
        if let Err(failure) = run_store(tenant, *store).await {
            log_event!(QueuedWorkNotRun, tenant = tenant, store = *store, detail = &failure);
        }
    });
    join_all(runs).await;
    Ok(())
}

/// Ends a deleted tenant, in case that failed at its deletion.
async fn close(tenant: &TenantId) -> Result<(), Failure> {
    let by = Actor { actor: "gateway".into(), ..Actor::default() };
    let Reply(closed) = registry::client::ask_as(tenant, &by, &Close).await?;
    closed.map_err(|refusal| Failure(format!("the registry refused: {refusal:?}")))?;
    Ok(())
}

/// Sweeps a tenant's objects. Returns the stores with overdue contexts.
async fn sweep_tenant(tenant: &TenantId) -> Result<Vec<(TenantId, StoreId)>, Failure> {
    let snapshot = snapshot::refreshed(tenant).await?;
    let sweeps = snapshot.stores.iter().map(|store| {
        let address = Contexts::of(tenant, *store);
        async move {
            match call_store(&address, &Sweep).await {
                Ok(SweepReply::Waits) => return Some((tenant.clone(), *store)),
                Ok(SweepReply::Done) => {}
                Err(failure) => {
                    log_event!(StoreNotSwept, tenant = tenant, store = *store, detail = &failure);
                }
            }
            None
        }
    });
    let waiting = join_all(sweeps).await.into_iter().flatten().collect();
    registry::client::ask(tenant, &requests::Sweep).await?;
    catalogue_refresh::sweep(tenant, &snapshot).await;
    if snapshot.documents(DocumentKind::Schedule).next().is_some() {
        schedules::configure(tenant, &snapshot).await?;
    }
    // This sweeps the hub as well.
    deliveries::configure(tenant, &snapshot).await?;
    Ok(waiting)
}
