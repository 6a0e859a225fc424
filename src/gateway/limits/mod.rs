//! Rate limits as requests meet them. A token is taken from what the isolate has; only when that is spent is the
//! limit's object asked (`narthex_core::limits::quota_lease` says when).
//!
//! Limits on requests of a tenant, role or key count every request whose credentials are good; those of a service or
//! capability count what creates a context. Limits at a time are held by what creates a context, from before it is
//! admitted until it is answered: one that is answered with 202 holds none any more. What makes several calls, as a batch
//! of MCP does, takes what is due for each.

pub mod addresses;
mod due;
pub mod held;
pub mod logins;
mod policies;

use std::cell::RefCell;
use std::collections::HashMap;

use futures_channel::oneshot;
use futures_util::future::{join_all, select};

use crate::objects::limits::messages::{Ask, Reply};
use crate::objects::registry::snapshot::Snapshot;
use crate::platform::{Failure, clock, random, settings};
use narthex_core::access::principal::Principal;
use narthex_core::base::time::Timestamp;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::limits::policy::{LimitKind, retry_after};
use narthex_core::limits::quota_lease::{LeaseRequest, LocalQuota, TakeResult};
use narthex_core::limits::quota_pool::{LeaseReport, QUOTA_LEASE_MS, QuotaState};

use super::answer::internal;
use super::call::Call;
use due::Due;

pub use policies::{delete, get, list, put};

/// Buckets an isolate knows; more are forgotten together, with what it had of them.
const MAX_LOCAL_QUOTAS: usize = 10_000;
/// Who waits for what another asked for looks this often, in milliseconds, and so long in all.
const LOOK_MS: u64 = 5;
const MAX_WAIT_MS: u64 = 8_000;
/// What was not used for this long goes back, in milliseconds.
const IDLE_MS: u64 = 500;

thread_local! {
    static LOCAL_QUOTAS: RefCell<HashMap<String, LocalQuota>> = RefCell::default();
}

fn with_local_quota<T>(bucket: &str, work: impl FnOnce(&mut LocalQuota) -> T) -> T {
    LOCAL_QUOTAS.with_borrow_mut(|locals| {
        if let Some(local) = locals.get_mut(bucket) {
            return work(local);
        }
        if locals.len() >= MAX_LOCAL_QUOTAS {
            locals.clear();
        }
        work(locals.entry(bucket.into()).or_default())
    })
}

/// What came of one limit.
enum Outcome {
    /// A token of this portion.
    Token(u64, QuotaState),
    Permit(u64, QuotaState),
    Refused(QuotaState),
}

/// Holds a request of this principal against the limits that bind it.
pub async fn asker(call: &Call, principal: &Principal, snapshot: &Snapshot) -> Result<(), Problem> {
    if snapshot.limits.is_empty() {
        return Ok(());
    }
    // A limit that was set too low has to be taken back by somebody.
    if call.path.starts_with("/v1/limits") && principal.may("limits:write") {
        return Ok(());
    }
    let requests = snapshot.limits.iter().filter(|policy| policy.limit.kind == LimitKind::Requests);
    let dues = requests.filter_map(|policy| {
        let value = policy.limit.pool_of_principal(&principal.principal, &principal.role)?;
        Some(Due::of(policy, &principal.tenant, &value))
    });
    hold(call, dues.collect()).await
}

/// Holds what creates a context against the limits on that.
pub async fn work(
    call: &Call,
    principal: &Principal,
    snapshot: &Snapshot,
    service: &str,
    capability: &str,
) -> Result<(), Problem> {
    let dues = snapshot.limits.iter().filter_map(|policy| {
        let asker = || policy.limit.pool_of_principal(&principal.principal, &principal.role);
        let of_asker = if policy.limit.kind == LimitKind::Concurrent { asker() } else { None };
        let value = of_asker.or_else(|| policy.limit.pool_of_work(service, capability))?;
        Some(Due::of(policy, &principal.tenant, &value))
    });
    let held = hold(call, dues.collect()).await;
    call.limits.end_work();
    held
}

/// As [`work`], for what no request creates: the objects are asked, as nobody waits for it.
pub async fn unasked(tenant: &str, snapshot: &Snapshot, service: &str, capability: &str) -> Result<(), Problem> {
    let mut taken: Vec<(Due, u64)> = Vec::new();
    for policy in snapshot.limits.iter().filter(|policy| policy.limit.kind == LimitKind::Requests) {
        let Some(value) = policy.limit.pool_of_work(service, capability) else { continue };
        let due = Due::of(policy, tenant, &value);
        match due.ask(Ask::Take { wanted: 1, reports: Vec::new() }).await.map_err(internal)? {
            Reply::Given { portion, .. } => taken.push((due, portion.number)),
            Reply::Refused { standing } => {
                for (due, number) in taken {
                    due.tell(Ask::Report(LeaseReport { number, used: 0 })).await;
                }
                return Err(exceeded(vec![(due.name, standing.reset_ms)]));
            }
            _ => return Err(Problem::internal("the limit answered something else")),
        }
    }
    Ok(())
}

/// Takes what is due of every limit, or of none.
async fn hold(call: &Call, mut dues: Vec<Due>) -> Result<(), Problem> {
    dues.retain(|due| !call.limits.has(&due.bucket));
    if dues.is_empty() {
        return Ok(());
    }
    let before = clock::now();
    // What is known to be refused takes nothing of the others.
    let shut = |due: &Due| {
        with_local_quota(&due.bucket, |local| local.is_blocked(before).then(|| Outcome::Refused(local.state(before))))
    };
    let mut outcomes: Vec<Option<Outcome>> = dues.iter().map(shut).collect();
    if outcomes.iter().all(Option::is_none) {
        let taken = join_all(dues.iter().map(|due| take(call, due))).await;
        call.limits.waited_ms.set(call.limits.waited_ms.get() + clock::now().since(before));
        outcomes = taken.into_iter().map(|taken| taken.map(Some)).collect::<Result<_, _>>().map_err(internal)?;
    }
    let mut refused = Vec::new();
    for (due, outcome) in dues.iter().zip(&outcomes) {
        let Some(outcome) = outcome else { continue };
        let (Outcome::Token(_, standing) | Outcome::Permit(_, standing) | Outcome::Refused(standing)) = outcome;
        call.limits.note(due, *standing);
        if let Outcome::Refused(standing) = outcome {
            refused.push((due.name.clone(), standing.reset_ms));
        }
    }
    let granted = refused.is_empty();
    for (due, outcome) in dues.iter().zip(&outcomes) {
        match outcome {
            Some(Outcome::Permit(permit, _)) => keep_permit(call, due, *permit, granted),
            Some(Outcome::Token(number, _)) if !granted => put_back(call, due, *number),
            Some(Outcome::Token(..) | Outcome::Refused(_)) | None => {}
        }
    }
    if granted {
        call.limits.take(dues.into_iter().map(|due| due.bucket));
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

async fn take(call: &Call, due: &Due) -> Result<Outcome, Failure> {
    if due.kind == LimitKind::Concurrent {
        return match due.ask(Ask::Acquire).await? {
            Reply::Permit { permit, standing } => Ok(Outcome::Permit(permit, standing)),
            Reply::Refused { standing } => Ok(Outcome::Refused(standing)),
            _ => Err(Failure("the limit answered something else".into())),
        };
    }
    let until = clock::now().plus_ms(MAX_WAIT_MS);
    loop {
        let now = clock::now();
        match with_local_quota(&due.bucket, |local| (local.take(now), local.state(now))) {
            (TakeResult::Taken(number), standing) => return Ok(Outcome::Token(number, standing)),
            (TakeResult::Exhausted, standing) => return Ok(Outcome::Refused(standing)),
            _ if now >= until => return Err(Failure("nobody was told of a limit".into())),
            // Another request's I/O cannot be waited for; what it brings can.
            (TakeResult::Wait, _) => clock::pause(LOOK_MS).await,
            (TakeResult::Request(request), _) => {
                if let Some(outcome) = ask(call, due, request, now).await? {
                    return Ok(outcome);
                }
            }
        }
    }
}

/// Asks the object for tokens; gives nothing when what it gave came too late to be used.
async fn ask(call: &Call, due: &Due, request: LeaseRequest, asked_at: Timestamp) -> Result<Option<Outcome>, Failure> {
    let LeaseRequest { wanted, reports } = request;
    let reply = due.ask(Ask::Take { wanted, reports }).await;
    let now = clock::now();
    match reply {
        Ok(Reply::Given { portion, standing }) => {
            if portion.tokens > 1 {
                watch(call, due, portion.number);
            }
            Ok(with_local_quota(&due.bucket, |local| {
                let usable = local.receive(portion, standing, asked_at, now);
                usable.then(|| Outcome::Token(portion.number, local.state(now)))
            }))
        }
        Ok(Reply::Refused { standing }) => {
            with_local_quota(&due.bucket, |local| local.block(standing, now));
            Ok(Some(Outcome::Refused(standing)))
        }
        other => {
            with_local_quota(&due.bucket, LocalQuota::request_failed);
            other.and_then(|_| Err(Failure("the limit answered something else".into())))
        }
    }
}

/// Gives back what nobody here uses of a portion, so that others need not wait until it is over.
fn watch(call: &Call, due: &Due, number: u64) {
    let due = due.clone();
    call.keep_running(async move {
        for _ in 0..=QUOTA_LEASE_MS / IDLE_MS {
            clock::pause(IDLE_MS).await;
            let now = clock::now();
            let (report, has) = with_local_quota(&due.bucket, |local| {
                (local.release_unused(number, now), local.has_unreported(number))
            });
            match report {
                Some(report) => return due.tell(Ask::Report(report)).await,
                None if has => {}
                None => return,
            }
        }
    });
}

fn put_back(call: &Call, due: &Due, number: u64) {
    let report: Option<LeaseReport> = with_local_quota(&due.bucket, |local| local.return_token(number));
    if let Some(report) = report {
        let due = due.clone();
        call.keep_running(async move { due.tell(Ask::Report(report)).await });
    }
}

/// Keeps a permit alive until the request is answered, and gives it back then; at once when it was not granted, as
/// another limit refused.
fn keep_permit(call: &Call, due: &Due, permit: u64, granted: bool) {
    let (sender, mut answered) = oneshot::channel();
    if granted {
        call.limits.keep(due.bucket.clone(), sender);
    }
    let due = due.clone();
    call.keep_running(async move {
        loop {
            match select(&mut answered, std::pin::pin!(clock::pause(settings::timing().renew_ms))).await {
                futures_util::future::Either::Left(_) => return due.tell(Ask::Release { permit }).await,
                futures_util::future::Either::Right(_) => due.tell(Ask::Renew { permit }).await,
            }
        }
    });
}
