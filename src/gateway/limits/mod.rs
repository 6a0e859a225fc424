//! Charges requests to rate limits. A token is taken from the isolate's lease; only when that is used up is the object
//! of the limit asked (`narthex_core::limits::quota_lease` decides when).
//!
//! Request limits of a tenant, role or key count every request with valid credentials; those of a service or capability
//! count requests that create a context. Concurrency limits apply to requests that create a context, from before its
//! admission until the response: after a 202 it holds no permit. A request with several calls, such as an MCP batch, is
//! charged for each.

pub mod addresses;
pub mod logins;
mod pool_ref;
pub mod request_quotas;

use std::cell::RefCell;
use std::collections::HashMap;

use futures_channel::oneshot;
use futures_util::future::{join_all, select};

use crate::objects::limits::messages::{Acquire, AcquireReply, Release, Renew, Report, Take, TakeReply};
use crate::objects::registry::snapshot::Snapshot;
use crate::platform::{Failure, clock, random, settings, tasks};
use narthex_core::access::principal::Principal;
use narthex_core::base::object_name::ObjectName;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::limits::concurrency::LimitPermitNumber;
use narthex_core::limits::policy::{LimitKind, retry_after};
use narthex_core::limits::quota_lease::{LeaseRequest, LocalQuota, TakeResult};
use narthex_core::limits::quota_pool::{LeaseReport, QUOTA_LEASE_MS, QuotaLeaseNumber, QuotaState};
use narthex_core::registry::later::Unreadable;

use super::answer::internal;
use super::call::Call;
use pool_ref::PoolRef;
pub use request_quotas::Charge;

/// The maximum number of pools that an isolate knows; beyond it all are forgotten, with their tokens.
const MAX_LOCAL_QUOTAS: usize = 10_000;
/// A request that waits for another's lease looks at this interval, and waits for this long at most, in milliseconds.
const POLL_INTERVAL_MS: u64 = 5;
const MAX_WAIT_MS: u64 = 8_000;
/// Tokens that were not used for this long are returned, in milliseconds.
const IDLE_MS: u64 = 500;

thread_local! {
    static LOCAL_QUOTAS: RefCell<HashMap<ObjectName, LocalQuota>> = RefCell::default();
}

fn with_local_quota<T>(bucket: &ObjectName, work: impl FnOnce(&mut LocalQuota) -> T) -> T {
    LOCAL_QUOTAS.with_borrow_mut(|locals| {
        if let Some(local) = locals.get_mut(bucket) {
            return work(local);
        }
        if locals.len() >= MAX_LOCAL_QUOTAS {
            locals.clear();
        }
        work(locals.entry(bucket.clone()).or_default())
    })
}

/// The outcome of one limit.
enum Outcome {
    /// A token of this lease.
    Token(QuotaLeaseNumber, QuotaState),
    Permit(LimitPermitNumber, QuotaState),
    Refused(QuotaState),
}

/// Charges a request to the limits of its principal.
pub async fn request(call: &Call, principal: &Principal, snapshot: &Snapshot) -> Result<(), Problem> {
    let unknown = snapshot.rules.unknown_limit(principal);
    if snapshot.rules.limits.is_empty() && unknown.is_none() {
        return Ok(());
    }
    // Otherwise a limit that was set too low could not be changed.
    if call.path.starts_with("/v1/limits") && principal.may("limits:write") {
        return Ok(());
    }
    refuse(unknown)?;
    let requests = snapshot.rules.limits.iter().filter(|policy| policy.limit.kind == LimitKind::Requests);
    let pools = requests.filter_map(|policy| {
        let value = policy.limit.pool_of_principal(&principal.principal, &principal.role)?;
        Some(PoolRef::of(policy, &principal.tenant, &value))
    });
    charge(call, pools.collect()).await
}

/// Charges the creation of a context to its limits.
pub async fn work(
    call: &Call,
    principal: &Principal,
    snapshot: &Snapshot,
    service: &ServiceId,
    capability: &str,
) -> Result<(), Problem> {
    check_known(Some(principal), snapshot, service, capability)?;
    let pools = snapshot.rules.limits.iter().filter_map(|policy| {
        let of_principal = || policy.limit.pool_of_principal(&principal.principal, &principal.role);
        let requester = if policy.limit.kind == LimitKind::Concurrent { of_principal() } else { None };
        let value = requester.or_else(|| policy.limit.pool_of_work(service, capability))?;
        Some(PoolRef::of(policy, &principal.tenant, &value))
    });
    let charged = charge(call, pools.collect()).await;
    call.limits.end_work();
    charged
}

/// As [`work`], for a schedule. The objects are asked each time, as it is not urgent.
pub async fn scheduled(
    tenant: &TenantId,
    snapshot: &Snapshot,
    service: &ServiceId,
    capability: &str,
) -> Result<(), Problem> {
    let mut taken: Vec<(PoolRef, QuotaLeaseNumber)> = Vec::new();
    for policy in snapshot.rules.limits.iter().filter(|policy| policy.limit.kind == LimitKind::Requests) {
        let Some(value) = policy.limit.pool_of_work(service, capability) else { continue };
        let pool = PoolRef::of(policy, tenant, &value);
        match pool.call(&Take { wanted: 1, reports: Vec::new() }).await.map_err(internal)? {
            TakeReply::Given { lease, .. } => taken.push((pool, lease.number)),
            TakeReply::Refused { state } => {
                for (pool, number) in taken {
                    pool.notify(&Report(LeaseReport { number, used: 0 })).await;
                }
                return Err(exceeded(vec![(pool.name, state.reset_ms)]));
            }
        }
    }
    Ok(())
}

/// Refuses a call that a restriction of a later version may refuse. Schedules have no principal.
pub fn check_known(
    principal: Option<&Principal>,
    snapshot: &Snapshot,
    service: &ServiceId,
    capability: &str,
) -> Result<(), Problem> {
    refuse(snapshot.rules.unknown_restriction(principal, service, capability))
}

/// A limit, or another restriction, that this version cannot apply refuses what it may apply to.
fn refuse(unknown: Option<&Unreadable>) -> Result<(), Problem> {
    unknown.map_or(Ok(()), |Unreadable { kind, id, .. }| Err(Problem::later_version(&format!("The {kind} {id}"))))
}

/// Takes from every pool, or from none.
async fn charge(call: &Call, mut pools: Vec<PoolRef>) -> Result<(), Problem> {
    pools.retain(|pool| !call.limits.has(&pool.id));
    if pools.is_empty() {
        return Ok(());
    }
    let before = clock::now();
    // A call that is known to be refused takes nothing from the other pools.
    let blocked = |pool: &PoolRef| {
        with_local_quota(&pool.id, |local| local.is_blocked(before).then(|| Outcome::Refused(local.state(before))))
    };
    let mut outcomes: Vec<Option<Outcome>> = pools.iter().map(blocked).collect();
    if outcomes.iter().all(Option::is_none) {
        let taken = join_all(pools.iter().map(take)).await;
        call.limits.waited_ms.set(call.limits.waited_ms.get() + clock::now().since(before));
        outcomes = taken.into_iter().map(|taken| taken.map(Some)).collect::<Result<_, _>>().map_err(internal)?;
    }
    let mut refused = Vec::new();
    for (pool, outcome) in pools.iter().zip(&outcomes) {
        let Some(outcome) = outcome else { continue };
        let (Outcome::Token(_, standing) | Outcome::Permit(_, standing) | Outcome::Refused(standing)) = outcome;
        call.limits.note(pool, *standing);
        if let Outcome::Refused(standing) = outcome {
            refused.push((pool.name.clone(), standing.reset_ms));
        }
    }
    let granted = refused.is_empty();
    for (pool, outcome) in pools.iter().zip(&outcomes) {
        match outcome {
            Some(Outcome::Permit(permit, _)) => keep_permit(call, pool, *permit, granted),
            Some(Outcome::Token(number, _)) if !granted => put_back(pool, *number),
            Some(Outcome::Token(..) | Outcome::Refused(_)) | None => {}
        }
    }
    if granted {
        call.limits.take(pools.into_iter().map(|pool| pool.id));
        return Ok(());
    }
    Err(exceeded(refused))
}

/// RFC 9457, with the type that draft-ietf-httpapi-ratelimit-headers registers.
pub fn exceeded(refused: Vec<(String, u64)>) -> Problem {
    let reset_ms = refused.iter().map(|(_, reset_ms)| *reset_ms).max().unwrap_or_default();
    let seconds = retry_after(reset_ms, random::number());
    let violated: Box<[String]> = refused.into_iter().map(|(name, _)| name).collect();
    let detail = format!("Over the limit: {}. Try again in {seconds} s.", violated.join(", "));
    Problem { named: violated, ..Problem::new(Code::RateLimited, detail) }
        .with_header("Retry-After", seconds.to_string())
}

async fn take(pool: &PoolRef) -> Result<Outcome, Failure> {
    if pool.kind == LimitKind::Concurrent {
        return Ok(match pool.call(&Acquire).await? {
            AcquireReply::Permit { permit, state } => Outcome::Permit(permit, state),
            AcquireReply::Refused { state } => Outcome::Refused(state),
        });
    }
    let until = clock::now().plus_ms(MAX_WAIT_MS);
    loop {
        let now = clock::now();
        match with_local_quota(&pool.id, |local| (local.take(now), local.state(now))) {
            (TakeResult::Taken(number), standing) => return Ok(Outcome::Token(number, standing)),
            (TakeResult::Exhausted, standing) => return Ok(Outcome::Refused(standing)),
            _ if now >= until => return Err(Failure("no lease of a limit arrived in time".into())),
            // The I/O of another request cannot be awaited, but its result can be polled.
            (TakeResult::Wait, _) => clock::pause(POLL_INTERVAL_MS).await,
            (TakeResult::Request(request), _) => {
                if let Some(outcome) = ask(pool, request, now).await? {
                    return Ok(outcome);
                }
            }
        }
    }
}

/// Asks the object for tokens. `None` if they arrived too late to be used.
async fn ask(pool: &PoolRef, request: LeaseRequest, asked_at: Timestamp) -> Result<Option<Outcome>, Failure> {
    let LeaseRequest { wanted, reports } = request;
    let reply = pool.call(&Take { wanted, reports }).await;
    let now = clock::now();
    match reply {
        Ok(TakeReply::Given { lease, state }) => {
            if lease.tokens > 1 {
                watch(pool, lease.number);
            }
            Ok(with_local_quota(&pool.id, |local| {
                let usable = local.receive(lease, state, asked_at, now);
                usable.then(|| Outcome::Token(lease.number, local.state(now)))
            }))
        }
        Ok(TakeReply::Refused { state }) => {
            with_local_quota(&pool.id, |local| local.block(state, now));
            Ok(Some(Outcome::Refused(state)))
        }
        Err(error) => {
            with_local_quota(&pool.id, LocalQuota::request_failed);
            Err(error.into())
        }
    }
}

/// Returns the unused tokens of a lease, so that other isolates need not wait until it expires.
fn watch(pool: &PoolRef, number: QuotaLeaseNumber) {
    let pool = pool.clone();
    tasks::keep_running(async move {
        for _ in 0..=QUOTA_LEASE_MS / IDLE_MS {
            clock::pause(IDLE_MS).await;
            let now = clock::now();
            let (report, has) =
                with_local_quota(&pool.id, |local| (local.release_unused(number, now), local.has_unreported(number)));
            match report {
                Some(report) => return pool.notify(&Report(report)).await,
                None if has => {}
                None => return,
            }
        }
    });
}

fn put_back(pool: &PoolRef, number: QuotaLeaseNumber) {
    let report: Option<LeaseReport> = with_local_quota(&pool.id, |local| local.return_token(number));
    if let Some(report) = report {
        let pool = pool.clone();
        tasks::keep_running(async move { pool.notify(&Report(report)).await });
    }
}

/// Renews a permit until the request has its response, and returns it then; at once if another limit refused.
fn keep_permit(call: &Call, pool: &PoolRef, permit: LimitPermitNumber, granted: bool) {
    let (sender, mut answered) = oneshot::channel();
    if granted {
        call.limits.keep(pool.id.clone(), sender);
    }
    let pool = pool.clone();
    tasks::keep_running(async move {
        loop {
            match select(&mut answered, std::pin::pin!(clock::pause(settings::timing().renew_ms))).await {
                futures_util::future::Either::Left(_) => return pool.notify(&Release { permit }).await,
                futures_util::future::Either::Right(_) => pool.notify(&Renew { permit }).await,
            }
        }
    });
}
