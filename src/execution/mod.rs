//! Carries one context from admission to commit.
//!
//! The object decides and stores; the calls are made here. The holder of the lease reports, and the store accepts
//! reports only under the lease in force, so two workers on one context cannot both end it. How a service is called
//! belongs to `transport`, routes and admission to `gateway`.

mod attempt;
pub mod background;
pub mod client_stream;
pub mod deliveries;
pub mod gate;
pub mod notifications;
mod observer;
mod redaction;
pub mod schedules;
mod waiting_client;
pub mod write_behind;

use std::rc::Rc;

use futures_util::future::{Either, join, select};
use serde_json::value::RawValue;

use crate::objects::contexts::client::{call, call_with_retry, call_with_revision};
use crate::objects::contexts::messages::{Commit, CommitReply, Lease, LeaseReply, Renew, RenewReply, Work};
use crate::objects::lanes::client::{self as lanes, Permit};
use crate::objects::registry::snapshot::{self, Entry, Snapshot};
use crate::platform::{Failure, clock, log_event, random, settings};
use narthex_core::base::id::ContextId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::context::lease::{Hold, LeaseNumber};
use narthex_core::context::{Admission, ContextError};
use narthex_core::execution::attempt_result::AttemptResult;
use narthex_core::execution::known_service::KnownService;
use narthex_core::execution::retry;
use narthex_core::execution::selection::{self, Selection};
use narthex_core::services::Service;
use semver::Version;

use attempt::attempt;
use gate::Gate;

pub use attempt::resolve_destination;
pub use waiting_client::{WaitOutcome, WaitingClient};

/// The path where services call back.
pub const CALLBACK_PATH: &str = "/v1/callbacks/";

/// A context that has ended.
pub struct Completion {
    /// Without parameters and result.
    pub view: Box<RawValue>,
    pub result: Option<Box<RawValue>>,
    pub timings: Timings,
}

/// Milliseconds spent waiting for others.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    pub admit: u64,
    pub upstream: u64,
    pub commit: u64,
}

/// Renews a lease or an offer, and a permit, until the work is done. Returns `None` if the context was cancelled or
/// belongs to another worker.
async fn with_renewal<T>(
    tenant: &TenantId,
    admission: &Admission,
    hold: Hold,
    permit: Option<&Permit>,
    waiter: &mut WaitingClient,
    running: impl Future<Output = T>,
) -> Option<T> {
    let mut running = std::pin::pin!(running);
    let Timing { lease_ms, renew_ms, .. } = settings::timing();
    // The permit may be older than the call: admission and lease came after it.
    let mut renew_at = permit.map_or_else(clock::now, Permit::granted_at).plus_ms(renew_ms);
    loop {
        let left = renew_at.since(clock::now());
        if let Either::Left((done, _)) = select(running.as_mut(), std::pin::pin!(waiter.pause(left))).await {
            return Some(done);
        }
        if clock::now() < renew_at {
            continue;
        }
        let renew = Renew { id: admission.id.clone(), hold, lease_ms };
        match call(tenant, &admission.id, &renew).await {
            // Cancelled, or the lease is lost: the result of this attempt no longer counts.
            Ok(RenewReply::Renewed { cancel: true } | RenewReply::Nothing) => return None,
            Ok(RenewReply::Renewed { cancel: false }) => {}
            Err(failure) => {
                log_event!(LeaseNotRenewed, tenant = tenant, context = &admission.id, detail = &failure);
            }
        }
        if let Some(permit) = permit {
            permit.renew().await;
        }
        renew_at = clock::now().plus_ms(renew_ms);
    }
}

/// A context that is leased or offered to this worker.
struct Worker {
    tenant: TenantId,
    work: Work,
    snapshot: Rc<Snapshot>,
    /// For the service that the context was admitted to.
    permit: Option<Permit>,
    stays_ms: u64,
    waiter: WaitingClient,
    timings: Timings,
}

/// Whether a service may be called now.
enum Passage {
    Open,
    /// No attempt is made, by this worker or at all. The store has been informed.
    Blocked,
    /// The attempt ends with this.
    Refused(ContextError),
}

/// Works on a context until it ends, belongs to another worker, or must wait longer than `stays_ms`. The context is
/// leased or offered to this worker. `permit` is for the service of its admission.
pub async fn work_on(
    tenant: TenantId,
    work: Work,
    snapshot: Rc<Snapshot>,
    permit: Option<Permit>,
    stays_ms: u64,
    waiter: WaitingClient,
) -> Result<(), Failure> {
    let mut worker = Worker { tenant, work, snapshot, permit, stays_ms, waiter, timings: Timings::default() };
    while let Some(pause_ms) = worker.make_attempt().await? {
        worker.waiter.pause_all(pause_ms).await;
        worker.work.tried.push(worker.work.admission.service.clone());
        worker.work.attempt += 1;
        worker.work.hold = Hold::Offered;
        worker.snapshot = snapshot::fresh(&worker.tenant).await?;
    }
    Ok(())
}

impl Worker {
    /// Makes the next attempt. Returns the pause before the one after it if this worker is to make that too.
    async fn make_attempt(&mut self) -> Result<Option<u64>, Failure> {
        let before = clock::now();
        let snapshot = self.snapshot.clone();
        let chosen = selection::select_service(&self.work, &snapshot.services, before, random::number());
        if matches!(chosen, Selection::Unavailable) && self.work.hold.is_offered() && !self.waiter.waits() {
            gate::wait_for_service(&self.tenant, &self.work).await?;
            return Ok(None);
        }
        let chosen = chosen.service(&snapshot.services);
        let passage = match chosen {
            Some((entry, _)) => self.pass_gate(entry).await?,
            None => Passage::Open,
        };
        let refused = match passage {
            Passage::Open => None,
            Passage::Blocked => return Ok(None),
            Passage::Refused(error) => Some(error),
        };
        let Some(lease) = self.lease().await? else { return Ok(None) };
        let admission = &self.work.admission;
        let attempted = match (chosen, refused) {
            (_, Some(error)) => AttemptResult::ended_without_call(admission, lease, before, clock::now(), error),
            (None, None) => AttemptResult::no_service(admission, lease, before, clock::now()),
            (Some((entry, version)), None) => self.call(lease, &snapshot, entry, version, before).await,
        };
        self.report(&snapshot, chosen.map(|(entry, _)| entry), attempted, before).await
    }

    /// Acquires a permit if the service is called by permit.
    async fn pass_gate(&mut self, entry: &Entry) -> Result<Passage, Failure> {
        if entry.service().id != self.work.admission.service {
            gate::release_unused(self.permit.take()).await;
        }
        if self.permit.is_none() && entry.is_gated() {
            match gate::pass(&self.tenant, &self.work, entry, &mut self.waiter).await? {
                Gate::Open(passed) => self.permit = passed,
                Gate::Blocked => return Ok(Passage::Blocked),
                Gate::Refused(error) => return Ok(Passage::Refused(error)),
            }
        }
        Ok(Passage::Open)
    }

    /// The lease of the context, which is taken now if it is only offered. None if another worker leased it, or it was
    /// cancelled.
    async fn lease(&mut self) -> Result<Option<LeaseNumber>, Failure> {
        if let Hold::Leased(lease) = self.work.hold {
            return Ok(Some(lease));
        }
        let id = &self.work.admission.id;
        let lease = Lease { id: id.clone(), lease_ms: settings::timing().lease_ms };
        match call_with_revision(&self.tenant, id, &mut self.snapshot.clone(), &lease).await {
            Ok(LeaseReply::Leased(leased)) if !leased.hold.is_offered() => {
                self.work = *leased;
                Ok(self.work.hold.lease())
            }
            other => {
                gate::release_unused(self.permit.take()).await;
                self.waiter.answer(WaitOutcome::Continues);
                other.map(|_| None)
            }
        }
    }

    /// Calls the service, and renews the lease and the permit until it responds.
    async fn call(
        &mut self,
        lease: LeaseNumber,
        snapshot: &Snapshot,
        entry: &Entry,
        version: &Version,
        before: Timestamp,
    ) -> AttemptResult {
        let Self { tenant, work, permit, waiter, .. } = self;
        work.admission.service.clone_from(&entry.service().id);
        work.admission.version.clone_from(version);
        let running = attempt(tenant, work, lease, snapshot, entry, waiter.client());
        let done = with_renewal(tenant, &work.admission, work.hold, permit.as_ref(), waiter, running).await;
        if done.is_none() && entry.service().transport.connects() {
            // It may have been handed over just before.
            lanes::withdraw(tenant, entry, &work.admission.id, true).await;
        }
        done.unwrap_or_else(|| AttemptResult::cancelled(&work.admission, lease, before, clock::now()))
    }

    /// Reports an attempt to the store and to the service's lane.
    async fn report(
        &mut self,
        snapshot: &Snapshot,
        entry: Option<&Entry>,
        mut attempted: AttemptResult,
        before: Timestamp,
    ) -> Result<Option<u64>, Failure> {
        let called = clock::now();
        self.timings.upstream += called.since(before);
        let is_probe = self.permit.as_ref().is_some_and(Permit::is_probe);
        let sample = attempted.sample(entry.map(Entry::service), is_probe);
        let mut lane_report = None;
        if let Some(entry) = entry {
            retry::decide(&mut attempted, &mut self.work, &snapshot.services, entry, called);
            match self.permit.take() {
                // The next call must see the result of the probe.
                Some(probe) if probe.is_probe() => probe.release(sample).await,
                Some(held) => self.permit = Some(held),
                None => lane_report = lanes::note(&self.tenant, entry, sample),
            }
        }
        let released = self.permit.take();
        let releasing = async {
            if let Some(permit) = released {
                permit.release(sample).await;
            }
        };
        let id = &self.work.admission.id;
        let committing = commit(&self.tenant, id, attempted, self.stays_ms, self.timings, &mut self.waiter);
        let (pause, ()) = join(committing, releasing).await;
        if let Some(report) = lane_report {
            report.await;
        }
        pause
    }
}

/// Reports an attempt. Returns the pause before the next one if this worker is to make it.
async fn commit(
    tenant: &TenantId,
    id: &ContextId,
    attempted: AttemptResult,
    stays_ms: u64,
    mut timings: Timings,
    waiter: &mut WaitingClient,
) -> Result<Option<u64>, Failure> {
    let before = clock::now();
    let AttemptResult { report, result, .. } = attempted;
    let commit = Commit { id: id.clone(), report, result, stays_ms };
    let reply = call_with_retry(tenant, id, &commit).await?;
    timings.commit += clock::now().since(before);
    match reply {
        CommitReply::Committed { retry_ms: Some(ms), .. } => return Ok(Some(ms)),
        CommitReply::Committed { view, ended: true, .. } => {
            waiter.answer(WaitOutcome::Ended(Completion { view, result: commit.result, timings }))
        }
        CommitReply::Committed { ended: false, .. } | CommitReply::Refused { .. } => {
            waiter.answer(WaitOutcome::Continues)
        }
    }
    Ok(None)
}

/// The services that the principal can see.
pub fn services(snapshot: &Snapshot) -> impl Iterator<Item = &Service> {
    snapshot.services.iter().map(Entry::service)
}
