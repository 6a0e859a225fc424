//! The actions of a driver, each as a future of what it results in.

use std::rc::Rc;

use serde_json::value::RawValue;

use crate::objects::contexts::client::{call as call_store, call_with_retry, call_with_revision};
use crate::objects::contexts::messages::{
    Admit, ChangeReply, CommitReply, Lease, PutBack, Record, Refuse, Renew, Work,
};
use crate::objects::lanes::client::{self as lanes, Lane};
use crate::objects::lanes::messages::Acquire;
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::platform::{Failure, clock, log_event, settings};
use narthex_core::base::id::ContextId;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::retries::Retries;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::context::lease::LeaseNumber;
use narthex_core::context::{Admission, ContextError, Head, view};
use narthex_core::execution::driver::{
    self, AdmissionResult, Call, CommitReceipt, Event, LeaseResult, Permit, RefusalReceipt, RenewResult, Renewal,
    Unreachable, Withheld,
};
use narthex_core::lane::call_outcome::CallOutcome;

use super::attempt::attempt;
use super::{Client, Completion, Timings, WaitOutcome};

/// What all actions of a context need.
pub struct Job {
    pub tenant: TenantId,
    id: ContextId,
    owner: PrincipalId,
    pub client: Client,
}

impl Job {
    pub fn new(tenant: TenantId, admission: &Admission, client: Client) -> Self {
        Self { tenant, id: admission.id.clone(), owner: admission.owner.clone(), client }
    }
}

/// What an action resulted in.
#[derive(Default)]
pub struct Done {
    pub event: Option<Event>,
    /// An object could not be reached.
    pub failure: Option<Failure>,
    /// The services that the driver is to know from now on.
    pub snapshot: Option<Rc<Snapshot>>,
    /// The view and the result of the context, which has ended.
    pub ended: Option<(Box<RawValue>, Option<Box<RawValue>>)>,
    pub timings: Timings,
}

impl Done {
    pub fn event(event: Event) -> Self {
        Self { event: Some(event), ..Self::default() }
    }

    fn reply<T>(reply: Result<T, impl Into<Failure>>, event: impl FnOnce(Result<T, Unreachable>) -> Event) -> Self {
        match reply {
            Ok(reply) => Self::event(event(Ok(reply))),
            Err(failure) => Self { failure: Some(failure.into()), ..Self::event(event(Err(Unreachable))) },
        }
    }
}

pub async fn acquire(job: Rc<Job>, lane: Option<Rc<Lane>>, acquire: Acquire) -> Done {
    let Some(lane) = lane else { return Done::event(Event::Acquired(Err(Unreachable))) };
    let decision = lane.acquire(&acquire).await;
    Done::event(Event::Acquired(decision.map_err(|failure| {
        let (context, service) = (&job.id, lane.service());
        log_event!(LaneNotReached, tenant = &job.tenant, context = context, service = service, detail = &failure);
        Unreachable
    })))
}

pub async fn leave_queue(job: Rc<Job>, snapshot: Rc<Snapshot>, at: usize) -> Done {
    if let Some(entry) = snapshot.services.get(at) {
        lanes::leave(&job.tenant, entry, &job.id).await;
    }
    Done::default()
}

pub async fn lease(job: Rc<Job>, mut snapshot: Rc<Snapshot>) -> Done {
    let lease = Lease { id: job.id.clone(), lease_ms: settings::timing().lease_ms };
    let reply = call_with_revision(&job.tenant, &job.id, &mut snapshot, &lease).await;
    // The services may have changed while the context waited, and an address of before must not be called.
    Done { snapshot: Some(snapshot), ..Done::reply(reply.map(LeaseResult::from), Event::Leased) }
}

pub async fn call(job: Rc<Job>, snapshot: Rc<Snapshot>, call: Call) -> Done {
    let before = clock::now();
    // Without an entry there is no event: the driver has found it in the same snapshot.
    let Some(entry) = snapshot.services.get(call.at) else { return Done::default() };
    let result = attempt(&job.tenant, &call, &snapshot, entry, job.client.clone()).await;
    let timings = Timings { upstream: clock::now().since(before), ..Timings::default() };
    Done { timings, ..Done::event(Event::Responded(Box::new(result))) }
}

/// Takes the work back from a service that connects.
pub async fn withdraw(job: Rc<Job>, snapshot: Rc<Snapshot>, at: usize, lease: LeaseNumber) -> Done {
    if let Some(entry) = snapshot.services.get(at) {
        lanes::withdraw(&job.tenant, entry, &job.id, Some(lease), true).await;
    }
    Done::default()
}

pub async fn renew(job: Rc<Job>, renewal: Renewal) -> Done {
    let renew = Renew { id: job.id.clone(), hold: renewal.hold, lease_ms: settings::timing().lease_ms };
    let reply = call_store(&job.tenant, &job.id, &renew).await.map_err(|failure| {
        log_event!(LeaseNotRenewed, tenant = &job.tenant, context = &job.id, detail = &failure);
        Unreachable
    });
    Done::event(Event::Renewed(renewal, reply.map(RenewResult::from)))
}

pub async fn renew_permit(job: Rc<Job>, lane: Option<Rc<Lane>>, permit: Permit) -> Done {
    if let Some(lane) = lane {
        lane.renew(permit.number, &job.owner).await;
    }
    Done::default()
}

pub async fn release(lane: Option<Rc<Lane>>, permit: Permit, outcome: CallOutcome) -> Done {
    if let Some(lane) = lane {
        lane.release(permit.number, outcome).await;
    }
    Done::event(Event::Released(permit))
}

pub async fn report_calls(job: Rc<Job>, snapshot: Rc<Snapshot>, at: usize, successes: u64, last: CallOutcome) -> Done {
    if let Some(entry) = snapshot.services.get(at) {
        lanes::report_calls(&job.tenant, entry, successes, last).await;
    }
    Done::event(Event::CallsReported)
}

/// How many times the admission of a running context is repeated. Without it the result of its call would be lost.
const MAX_ADMIT_RETRIES: u32 = 4;

/// Admits the running context, under the lease that its worker already holds.
pub async fn admit(job: Rc<Job>, mut snapshot: Rc<Snapshot>, work: Rc<Work>) -> Done {
    let admit = Admit {
        admission: Box::new(work.admission.clone()),
        parameters: work.parameters.clone(),
        lease_ms: Some(settings::timing().lease_ms),
        offers: false,
        show: false,
        claim: None,
    };
    let mut retries = Retries::up_to(MAX_ADMIT_RETRIES);
    let result = loop {
        match call_with_revision(&job.tenant, &job.id, &mut snapshot, &admit).await {
            // The store recognizes the id, if it has admitted the context and the reply was lost.
            Err(_) if retries.allow_another() => clock::pause(retries.pause_ms()).await,
            reply => break reply.map(|reply| AdmissionResult::of(&reply)),
        }
    };
    let is_rejected = matches!(result, Ok(result) if result != AdmissionResult::Admitted(work.hold.lease()));
    let mut done = Done::reply(result, Event::Admitted);
    if is_rejected {
        done.failure = Some(Failure("a context that runs could not be admitted".into()));
    }
    done
}

pub async fn commit(job: Rc<Job>, commit: driver::Commit) -> Done {
    let before = clock::now();
    let (commit, withheld) = commit.split(job.id.clone());
    let reply = call_with_retry(&job.tenant, &job.id, &commit).await;
    let timings = Timings { commit: clock::now().since(before), ..Timings::default() };
    let receipt = reply.as_ref().map(CommitReceipt::of).map_err(Clone::clone);
    let ended = match reply {
        Ok(CommitReply::Committed { view, ended: true, .. }) => {
            Some((shown(view, &withheld), commit.result.or(withheld.result)))
        }
        Ok(CommitReply::Committed { ended: false, .. } | CommitReply::Refused { .. }) | Err(_) => None,
    };
    Done { ended, timings, ..Done::reply(receipt, Event::Committed) }
}

/// The view as the client gets it, with the words of the service if these are not kept.
fn shown(view: Box<RawValue>, withheld: &Withheld) -> Box<RawValue> {
    let shown = withheld.error.as_ref().and_then(|error| view::with_error(&view, error).ok());
    shown.unwrap_or(view)
}

/// Answers the client with the end of the context, and then stores both.
pub async fn record(job: Rc<Job>, record: Box<Record>) -> Done {
    let stored = async {
        let upstream = record.report.ended_at.since(record.report.started_at);
        let head = Head::from_record((*record.admission).clone(), record.earlier.clone(), record.report.clone())
            .map_err(|_| Failure("a context could not be ended".into()))?;
        let (view, result) = (view::to_view(&head)?, record.result.clone());
        let timings = Timings { upstream, ..Timings::default() };
        job.client.answer(WaitOutcome::Ended(Completion { view, result, timings }));
        call_with_retry(&job.tenant, &job.id, &record.without_words()).await?;
        Ok::<_, Failure>(())
    };
    Done::reply(stored.await, Event::Recorded)
}

pub async fn put_back(job: Rc<Job>, until: Option<Timestamp>) -> Done {
    let reply = call_with_retry(&job.tenant, &job.id, &PutBack { id: job.id.clone(), until }).await;
    Done::reply(reply.map(|_| ()), Event::PutBack)
}

pub async fn refuse(job: Rc<Job>, error: ContextError) -> Done {
    let reply = call_with_retry(&job.tenant, &job.id, &Refuse { id: job.id.clone(), error }).await;
    let receipt = reply.as_ref().map(RefusalReceipt::of).map_err(Clone::clone);
    let ended = match reply {
        Ok(ChangeReply::Changed { view, ended: true }) => Some((view, None)),
        Ok(ChangeReply::Changed { ended: false, .. } | ChangeReply::Refused { .. } | ChangeReply::Nothing) | Err(_) => {
            None
        }
    };
    Done { ended, ..Done::reply(receipt, Event::Refused) }
}

pub async fn refresh(job: Rc<Job>) -> Done {
    match snapshot::fresh(&job.tenant).await {
        Ok(snapshot) => Done { snapshot: Some(snapshot), ..Done::event(Event::Refreshed(Ok(()))) },
        Err(failure) => Done { failure: Some(failure), ..Done::event(Event::Refreshed(Err(Unreachable))) },
    }
}
