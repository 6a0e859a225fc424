//! Work without a waiting client: the queues' messages, and the sweep by cron.
//!
//! A message names a store, and the store decides which context runs next. A duplicate message finds nothing to do; a
//! lost one is repeated by the store's alarm.

use std::rc::Rc;

use futures_util::StreamExt;
use futures_util::future::{Either, join_all, select};
use futures_util::stream::FuturesUnordered;

use crate::auth::key_sets;
use crate::objects::contexts::client::{call_store, call_under};
use crate::objects::contexts::messages::{ClaimReply, ClaimWork, Contexts, Stale, Sweep, SweepReply, Work};
use crate::objects::registry::messages::{self as requests, Close, DocumentKind, StoredDocument};
use crate::objects::registry::snapshot::Snapshot;
use crate::objects::registry::{self, snapshot};
use crate::objects::reply::Reply;
use crate::platform::{Failure, clock, log_event, secret_box, settings, stopping};
use narthex_core::access::audit::Actor;
use narthex_core::base::id::StoreId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::execution::consumer::{ClaimTerms, Consumer, ConsumerAction, ConsumerEvent, RunNumber};

use super::deliveries;
use super::schedules;
use super::{Client, work_on};
use crate::transport::mcp::catalogue_refresh;

/// The maximum number of tenants in one sweep: the platform limits the number of subrequests of an invocation.
const MAX_TENANTS_PER_SWEEP: usize = 100;
/// The maximum number of stores whose contexts one sweep runs.
const MAX_STORES_PER_SWEEP: usize = 50;
/// How long a deleted tenant is swept, in milliseconds. By then its data is deleted.
const DELETION_SWEEP_MS: u64 = 3 * 86_400_000;

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

/// What a consumer does, all at the same time: it runs contexts, and claims the next one.
enum Task {
    Claim { store: StoreId, at_limit: Vec<ServiceId> },
    Run { number: RunNumber, work: Box<Work>, snapshot: Rc<Snapshot> },
}

/// What happened to a consumer.
enum Progress {
    Started,
    Claimed(Box<Work>, Rc<Snapshot>),
    NothingReady(Rc<Snapshot>),
    ClaimFailed(Failure),
    RunEnded(RunNumber),
    TimePassed,
}

impl Progress {
    fn event(&self) -> ConsumerEvent<'_> {
        match self {
            Progress::Started => ConsumerEvent::Started,
            Progress::Claimed(work, _) => {
                let offered_for = work.hold.is_offered().then(|| work.admission.service.clone());
                ConsumerEvent::Claimed { offered_for }
            }
            Progress::NothingReady(snapshot) => ConsumerEvent::NothingReady { stores: &snapshot.stores },
            Progress::ClaimFailed(_) => ConsumerEvent::ClaimFailed,
            Progress::RunEnded(number) => ConsumerEvent::RunEnded { number: *number },
            Progress::TimePassed => ConsumerEvent::TimePassed,
        }
    }
}

/// Runs the contexts of a store, several at a time, so that a slow one does not delay the others.
async fn run_store(tenant: &TenantId, store: StoreId) -> Result<(), Failure> {
    let mut consumer = Consumer::new(store, clock::now(), &settings::timing());
    let mut tasks = FuturesUnordered::new();
    let mut progress = Progress::Started;
    loop {
        if stopping::is_under_way() {
            consumer.stop();
        }
        let actions = consumer.on(progress.event(), clock::now());
        let (mut claimed, mut failed) = (None, None);
        match progress {
            Progress::Claimed(work, snapshot) => claimed = Some((work, snapshot)),
            Progress::ClaimFailed(failure) => failed = Some(failure),
            Progress::Started | Progress::NothingReady(_) | Progress::RunEnded(_) | Progress::TimePassed => {}
        }
        for action in actions {
            match action {
                ConsumerAction::Claim { store, at_limit } => {
                    tasks.push(perform(tenant, Task::Claim { store, at_limit }));
                }
                ConsumerAction::Run { number } => {
                    let task = claimed.take().map(|(work, snapshot)| Task::Run { number, work, snapshot });
                    tasks.extend(task.map(|task| perform(tenant, task)));
                }
                ConsumerAction::Finish => return Ok(()),
                ConsumerAction::Fail => return failed.map_or(Ok(()), Err),
            }
        }
        if let Some(failure) = failed {
            log_event!(WorkNotClaimed, tenant = tenant, store = store, detail = &failure);
        }
        progress = match consumer.wake_at() {
            None => tasks.next().await.unwrap_or(Progress::TimePassed),
            Some(at) => {
                let pause = std::pin::pin!(clock::pause(at.since(clock::now())));
                match select(tasks.next(), pause).await {
                    Either::Left((ended, _)) => ended.unwrap_or(Progress::TimePassed),
                    Either::Right(_) => Progress::TimePassed,
                }
            }
        };
    }
}

async fn perform(tenant: &TenantId, task: Task) -> Progress {
    match task {
        Task::Claim { store, at_limit } => claim(tenant, store, &at_limit).await.unwrap_or_else(Progress::ClaimFailed),
        Task::Run { number, work, snapshot } => {
            run(tenant, *work, snapshot).await;
            Progress::RunEnded(number)
        }
    }
}

async fn run(tenant: &TenantId, work: Work, snapshot: Rc<Snapshot>) {
    let id = work.admission.id.clone();
    if let Err(failure) = work_on(tenant.clone(), work, snapshot, None, Client::none()).await {
        // Its lease expires, and the store takes care of it.
        log_event!(AttemptNotCommitted, tenant = tenant, context = &id, detail = &failure);
    }
}

/// Claims the next context of a store.
async fn claim(tenant: &TenantId, store: StoreId, at_limit: &[ServiceId]) -> Result<Progress, Failure> {
    let mut snapshot = snapshot::fresh(tenant).await?;
    let address = Contexts::of(tenant, store);
    loop {
        let ClaimTerms { gated, without, again_at } = ClaimTerms::of(&snapshot.services, at_limit, clock::now());
        let claim = ClaimWork { lease_ms: settings::timing().lease_ms, gated, without, again_at };
        match call_under(&address, snapshot.revision, &claim).await? {
            Reply(Ok(ClaimReply::Leased(work) | ClaimReply::Offered(work))) => {
                return Ok(Progress::Claimed(work, snapshot));
            }
            Reply(Ok(ClaimReply::Nothing)) => return Ok(Progress::NothingReady(snapshot)),
            Reply(Err(Stale::Stale { .. })) => snapshot = snapshot::refreshed(tenant).await?,
        }
    }
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
    let unreadable = snapshot.rules.unreadable(DocumentKind::Schedule).next();
    if unreadable.is_some() || snapshot.documents(DocumentKind::Schedule).next().is_some() {
        schedules::configure(tenant, &snapshot).await?;
    }
    // This sweeps the hub as well.
    deliveries::configure(tenant, &snapshot).await?;
    Ok(waiting)
}
