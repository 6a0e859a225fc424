//! `durable: false`: run first and recorded after the response, without a call of an object in between.
//!
//! If the wait ends before the service responds, the context is admitted then, under the lease that its worker already
//! holds: a 202 always names a stored context.

use std::rc::Rc;

use futures_util::future::{Either, select};
use serde_json::value::RawValue;

use crate::objects::contexts::client::{call_with_retry, call_with_revision};
use crate::objects::contexts::messages::{Admit, AdmitReply, Record, Work};
use crate::objects::lanes::client as lanes;
use crate::objects::registry::snapshot::Snapshot;
use crate::platform::{Failure, clock, settings};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::context::lease::{Hold, LeaseNumber};
use narthex_core::context::view;
use narthex_core::context::{Admission, Head};
use narthex_core::execution::attempt_result::AttemptResult;

use super::{Completion, Timings, WaitOutcome, WaitingClient, attempt, commit, with_renewal};

/// The first and only lease. The store that is to admit the context gives it the same number.
const LEASE: LeaseNumber = LeaseNumber::FIRST;

/// Runs the context. `service` is the index of the selected service in the snapshot.
pub async fn run(
    tenant: TenantId,
    mut admission: Admission,
    parameters: Box<RawValue>,
    mut snapshot: Rc<Snapshot>,
    service: usize,
    mut waiter: WaitingClient,
) -> Result<(), Failure> {
    // A context that is not stored cannot be retried.
    admission.retry.max_attempts = 1;
    let held = snapshot.clone();
    let entry = held.services.get(service).ok_or_else(|| Failure("a service went missing".into()))?;
    let work = Work::first(admission, parameters, Hold::Leased(LEASE));
    let before = clock::now();
    let attempted = {
        let mut running = std::pin::pin!(attempt(&tenant, &work, LEASE, &held, entry, waiter.client()));
        let early = match select(running.as_mut(), std::pin::pin!(waiter.wait_over())).await {
            Either::Left((attempted, _)) => Some(attempted),
            Either::Right(_) => None,
        };
        match early {
            Some(attempted) if attempted.report.outcome.ends() => attempted,
            // The wait is over, or the service needs more than one call: the context must be stored now.
            early => {
                admit(&tenant, &work, &mut snapshot).await?;
                waiter.answer(WaitOutcome::Continues);
                let attempted = match early {
                    Some(attempted) => Some(attempted),
                    None => with_renewal(&tenant, &work.admission, work.hold, None, &mut waiter, running).await,
                };
                let attempted =
                    attempted.unwrap_or_else(|| AttemptResult::cancelled(&work.admission, LEASE, before, clock::now()));
                let report = lanes::note(&tenant, entry, attempted.sample(Some(entry.service()), false));
                let committed =
                    commit(&tenant, &work.admission.id, attempted, 0, Timings::default(), &mut waiter).await;
                if let Some(report) = report {
                    report.await;
                }
                return committed.map(drop);
            }
        }
    };
    let report = lanes::note(&tenant, entry, attempted.sample(Some(entry.service()), false));
    record(&tenant, work, attempted, &mut waiter).await?;
    if let Some(report) = report {
        report.await;
    }
    Ok(())
}

/// Admits the running context, under the lease that its worker already holds.
async fn admit(tenant: &TenantId, work: &Work, snapshot: &mut Rc<Snapshot>) -> Result<(), Failure> {
    let admit = Admit {
        admission: Box::new(work.admission.clone()),
        parameters: work.parameters.clone(),
        lease_ms: Some(settings::timing().lease_ms),
        offers: false,
        show: false,
        claim: None,
    };
    match call_with_revision(tenant, &work.admission.id, snapshot, &admit).await? {
        AdmitReply::Admitted { lease: Some(LEASE), .. } => Ok(()),
        AdmitReply::Admitted { .. } | AdmitReply::Taken | AdmitReply::Replayed { .. } | AdmitReply::KeyReused => {
            Err(Failure("a context that runs could not be admitted".into()))
        }
    }
}

async fn record(
    tenant: &TenantId,
    work: Work,
    attempted: AttemptResult,
    waiter: &mut WaitingClient,
) -> Result<(), Failure> {
    let Work { admission, parameters, .. } = work;
    let AttemptResult { report, result, .. } = attempted;
    let upstream = report.ended_at.since(report.started_at);
    let head = Head::from_record(admission.clone(), report.clone())
        .map_err(|_| Failure("a context could not be ended".into()))?;
    let timings = Timings { upstream, ..Timings::default() };
    waiter.answer(WaitOutcome::Ended(Completion { view: view::to_view(&head)?, result: result.clone(), timings }));
    let id = admission.id.clone();
    let record = Record { admission: Box::new(admission), parameters, report, result };
    call_with_retry(tenant, &id, &record).await?;
    Ok(())
}
