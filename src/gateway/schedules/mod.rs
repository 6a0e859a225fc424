//! Makes the runs of schedules that are due: a context for each, in the name of the schedule's writer, under an
//! idempotency key of the schedule and the planned time. So a run that is made twice creates one context.

use futures_util::{StreamExt, stream};

use crate::auth::check_role;
use crate::execution::schedules::configure;
use crate::objects::contexts::client::{call_under, call_under_any};
use crate::objects::contexts::messages::{Admit, AdmitReply, Contexts, Recall, RecallReply, Stale};
use crate::objects::protocol::call;
use crate::objects::registry::messages::DocumentKind;
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::objects::reply::Reply;
use crate::objects::schedules::messages::{ClaimRuns, DueRuns, Run, RunReport, Schedules};
use crate::platform::{Failure, clock, random, settings, stopping};
use narthex_core::access::principal::Principal;
use narthex_core::base::canonical;
use narthex_core::base::id::{ContextId, StoreId};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::context::create_request::NewContext;
use narthex_core::context::idempotency::Claim;
use narthex_core::context::status::Source;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::http::trace_context::TraceContext;
use narthex_core::schedules::run_state::RunOutcome;
use narthex_core::schedules::{Schedule, read_context};

use super::answer::internal;
use super::decision::{MAX_DECISIONS, RequestOrigin, Undecided, changes_too_fast, decide};
use super::{documents, later_use, limits};

/// The maximum number of runs that are made at a time.
const MAX_CONCURRENT: usize = 8;

/// Makes the due runs of a tenant.
pub async fn run(tenant: &TenantId) -> Result<(), Failure> {
    let mut ran = Vec::new();
    loop {
        let DueRuns::Runs(runs) = call(&Schedules::of(tenant), &ClaimRuns { ran }).await?;
        if runs.is_empty() || stopping::is_under_way() {
            return Ok(());
        }
        ran = stream::iter(runs).map(|run| make(tenant, run)).buffer_unordered(MAX_CONCURRENT).collect().await;
    }
}

async fn make(tenant: &TenantId, run: Run) -> RunReport {
    match create(tenant, &run).await {
        Ok(Some(context)) => {
            RunReport { run, outcome: RunOutcome::Created { context: context.to_string() }, later: false }
        }
        // Missed, or deleted since then.
        Ok(None) => RunReport { run, outcome: RunOutcome::Missed, later: false },
        Err(problem) => {
            // Failures of the gateway and of services may pass.
            let later = problem.code.status() >= 500;
            let faults: Vec<String> =
                problem.errors.iter().map(|fault| format!("{} {}", fault.pointer, fault.detail)).collect();
            let detail = if faults.is_empty() { problem.detail.to_string() } else { faults.join("; ") };
            RunReport { run, outcome: RunOutcome::Refused { code: problem.code.as_str().into(), detail }, later }
        }
    }
}

/// Creates the context of a run. `None` if the schedule was deleted or the run was missed.
async fn create(tenant: &TenantId, run: &Run) -> Result<Option<ContextId>, Problem> {
    let settings = settings::current();
    // The current permissions of the writer count, not those when the schedule was written.
    let mut snapshot = snapshot::refreshed(tenant).await.map_err(internal)?;
    // Counted once, however often it is decided about.
    let mut counted = false;
    for _ in 0..MAX_DECISIONS {
        let Some((_, schedule)) = documents::find::<Schedule>(&snapshot, &run.schedule) else {
            // The scheduler has not been informed yet.
            configure(tenant, &snapshot).await.map_err(internal)?;
            let is_later = snapshot.rules.is_unreadable(DocumentKind::Schedule.as_str(), &run.schedule);
            // It is tried again, by a version that can.
            return if is_later { Err(Problem::later_version("The schedule")) } else { Ok(None) };
        };
        let key = format!("schedules/{}/{}", run.schedule, run.planned_at.text());
        let fingerprint = canonical::fingerprint(schedule.context.get()).unwrap_or_default();
        let claim = Claim::new(tenant, &schedule.principal, "/v1/schedules", &key, fingerprint);
        let store = claim.store(settings.home_region);
        if run.is_missed(clock::now()) {
            return made_before(tenant, &snapshot, store, claim).await;
        }
        let principal = writer(tenant, &snapshot, &schedule)?;
        let new = read_context(&schedule.context).map_err(Problem::invalid)?;
        let new = NewContext { source: Source::Scheduled, ..new };
        let decision = match decide(&origin(&schedule, store), &principal, &snapshot, &new).await {
            Ok(decision) => decision,
            Err(Undecided::Refused(problem)) => return Err(problem),
            Err(Undecided::Outdated) => {
                snapshot = snapshot::refreshed(tenant).await.map_err(internal)?;
                continue;
            }
        };
        let mut admission = decision.admission;
        later_use::refuse_schedule(&admission)?;
        limits::check_known(None, &snapshot, &admission.service, &admission.capability)?;
        if !std::mem::replace(&mut counted, true) {
            limits::scheduled(tenant, &snapshot, &admission.service, &admission.capability).await?;
        }
        admission.id = ContextId::new(store, admission.created_at, random::bytes());
        admission.idempotency_key = Some(key);
        let id = admission.id.clone();
        let admit = Admit {
            admission: Box::new(admission),
            parameters: serde_json::value::RawValue::from_string(new.parameters.into())
                .map_err(|error| Problem::internal(error.to_string()))?,
            lease_ms: None,
            offers: false,
            show: false,
            claim: Some(claim),
        };
        match call_under(&Contexts::of(tenant, store), snapshot.revision, &admit).await.map_err(internal)? {
            Reply(Ok(AdmitReply::Admitted { .. })) => return Ok(Some(id)),
            Reply(Ok(AdmitReply::Replayed { id })) => return Ok(Some(id)),
            Reply(Ok(AdmitReply::KeyReused)) => {
                let detail = "This run was created before the schedule was changed.";
                return Err(Problem::new(Code::IdempotencyKeyReused, detail));
            }
            Reply(Ok(AdmitReply::Taken)) => {}
            Reply(Err(Stale::Stale { .. })) => snapshot = snapshot::refreshed(tenant).await.map_err(internal)?,
        }
    }
    Err(changes_too_fast())
}

/// Whose permissions a schedule uses.
fn writer(tenant: &TenantId, snapshot: &Snapshot, schedule: &Schedule) -> Result<Principal, Problem> {
    let writer = &schedule.principal;
    let principal = snapshot.principal(tenant, writer).ok_or_else(|| {
        match writer.key().is_some_and(|id| snapshot.has_unreadable_key(id)) {
            true => Problem::later_version(&format!("The key of {writer}")),
            false => Problem::new(Code::Unauthenticated, format!("{writer} has expired or was revoked.")),
        }
    })?;
    check_role(&principal, snapshot)?;
    Ok(principal)
}

/// The context of a run that is too late, if another Worker made it in time and died before it reported it.
async fn made_before(
    tenant: &TenantId,
    snapshot: &Snapshot,
    store: StoreId,
    claim: Claim,
) -> Result<Option<ContextId>, Problem> {
    if !snapshot.stores.contains(&store) {
        return Ok(None);
    }
    // The context of a key does not depend on the revision.
    let recalled = call_under_any(&Contexts::of(tenant, store), snapshot.revision, &Recall { claim }).await;
    Ok(match recalled.map_err(internal)? {
        RecallReply::Replayed { id } => Some(id),
        RecallReply::KeyReused | RecallReply::Nothing => None,
    })
}

fn origin(schedule: &Schedule, store: StoreId) -> RequestOrigin {
    let trace = TraceContext::accept(None, None, random::bytes());
    RequestOrigin {
        store,
        now: clock::now(),
        trace: trace.header(),
        trace_state: None,
        gateway: schedule.origin.clone(),
    }
}
