//! The gate of a service that is called by permit: a permit from its lane, or no call now.
//!
//! A context in the wait queue is `queued`, and offered to the worker that waits for its permit. The worker renews the
//! offer and the lease, if it has one. If the worker dies, the store offers the context to another.

use crate::objects::contexts::client::call_with_retry;
use crate::objects::contexts::messages::{ChangeReply, PutBack, Refuse, Work};
use crate::objects::registry::snapshot::Entry;
use crate::platform::{Failure, clock, log_event, random, settings};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::context::ContextError;
use narthex_core::context::status::ErrorCode;
use narthex_core::execution::backoff::Backoff;
use narthex_core::execution::known_service::KnownService;
use narthex_core::lane::call_outcome::{CallOutcome, Signal};

use super::{Completion, Timings, WaitOutcome, WaitingClient, with_renewal};
use crate::objects::lanes::client::{self as lanes, AcquireResult, Permit, PermitRequest};

pub enum Gate {
    Open(Option<Permit>),
    /// No attempt is made, by this worker or at all. The store has been informed.
    Blocked,
    /// The context was leased already; its attempt ends with this error.
    Refused(ContextError),
}

/// Passes the gate of a service, or returns why not.
pub async fn pass(tenant: &TenantId, work: &Work, entry: &Entry, waiter: &mut WaitingClient) -> Result<Gate, Failure> {
    let (admission, service) = (&work.admission, &entry.service().id);
    let request = PermitRequest::new(tenant, entry, admission, true);
    let timing = settings::timing();
    let (mut backoff, mut pause_ms) = (Backoff::default(), 0);
    loop {
        let turn = if waiter.waits() { timing.client_queue_wait_ms } else { timing.queue_wait_ms };
        let turn = turn.min(admission.expires_at.since(clock::now()));
        // Within the renewal, so that the pause costs neither the offer nor the lease.
        let acquiring = async {
            if pause_ms > 0 {
                clock::pause(std::mem::take(&mut pause_ms)).await;
            }
            lanes::acquire(&request, turn).await
        };
        let Some(entered) = with_renewal(tenant, admission, work.hold, None, waiter, acquiring).await else {
            // Cancelled, ended, or taken by another worker.
            lanes::leave(tenant, entry, &admission.id).await;
            waiter.answer(WaitOutcome::Continues);
            return Ok(Gate::Blocked);
        };
        match entered {
            Ok(AcquireResult::Free) => return Ok(Gate::Open(None)),
            Ok(AcquireResult::Permit(permit)) => return Ok(Gate::Open(Some(permit))),
            Ok(AcquireResult::Waiting | AcquireResult::Full { .. }) if waiter.waits() || !work.hold.is_offered() => {
                backoff = Backoff::default();
            }
            Ok(AcquireResult::Waiting | AcquireResult::Full { .. }) => {
                put_back(tenant, work, None).await?;
                return Ok(Gate::Blocked);
            }
            Ok(AcquireResult::Open { until }) => return breaker_open(tenant, work, entry, until, waiter).await,
            Ok(AcquireResult::TooLate) => {
                let message = "The remaining time is shorter than a typical call to this service.";
                return refuse(tenant, work, error(ErrorCode::DeadlineExceeded, message, entry), waiter).await;
            }
            Err(failure) => {
                log_event!(
                    LaneNotReached,
                    tenant = tenant,
                    context = &admission.id,
                    service = service,
                    detail = &failure
                );
                // Without a limit the permit is advisory.
                if !entry.is_limited() {
                    return Ok(Gate::Open(None));
                }
                pause_ms = admission.expires_at.since(clock::now()).min(backoff.next_ms(timing.lane_retry_ms));
            }
        }
        if admission.expires_at <= clock::now() {
            // The store ends it.
            waiter.answer(WaitOutcome::Continues);
            return Ok(Gate::Blocked);
        }
    }
}

/// Waiting clients are answered at once. Other contexts return to the queue until the service may be called.
async fn breaker_open(
    tenant: &TenantId,
    work: &Work,
    entry: &Entry,
    until: Timestamp,
    waiter: &mut WaitingClient,
) -> Result<Gate, Failure> {
    // Spread, so that they do not return in the same moment.
    let until = until.plus_ms(random::number() % 500);
    if !waiter.waits() && work.hold.is_offered() && until < work.admission.expires_at {
        put_back(tenant, work, Some(until)).await?;
        return Ok(Gate::Blocked);
    }
    let message = "The circuit breaker of this service is open: it has failed too often and is not called for a while.";
    refuse(tenant, work, error(ErrorCode::CircuitOpen, message, entry), waiter).await
}

/// Puts a context without a waiting client back into the queue while only offline services could run it, as long as its
/// deadline allows.
pub async fn wait_for_service(tenant: &TenantId, work: &Work) -> Result<(), Failure> {
    let offline_retry_ms = settings::timing().offline_retry_ms;
    put_back(tenant, work, Some(clock::now().plus_ms(offline_retry_ms + random::number() % (offline_retry_ms / 3 + 1))))
        .await
}

fn error(code: ErrorCode, message: &str, entry: &Entry) -> ContextError {
    ContextError { code, message: message.into(), service: Some(entry.service().id.clone()), details: None }
}

async fn put_back(tenant: &TenantId, work: &Work, until: Option<Timestamp>) -> Result<(), Failure> {
    let id = &work.admission.id;
    call_with_retry(tenant, id, &PutBack { id: id.clone(), until }).await?;
    Ok(())
}

async fn refuse(
    tenant: &TenantId,
    work: &Work,
    error: ContextError,
    waiter: &mut WaitingClient,
) -> Result<Gate, Failure> {
    if !work.hold.is_offered() {
        return Ok(Gate::Refused(error));
    }
    let id = &work.admission.id;
    match call_with_retry(tenant, id, &Refuse { id: id.clone(), error }).await? {
        ChangeReply::Changed { view, ended: true } => {
            waiter.answer(WaitOutcome::Ended(Completion { view, result: None, timings: Timings::default() }));
        }
        ChangeReply::Changed { ended: false, .. } | ChangeReply::Refused { .. } | ChangeReply::Nothing => {
            waiter.answer(WaitOutcome::Continues)
        }
    }
    Ok(Gate::Blocked)
}

/// Releases a permit without a call.
pub async fn release_unused(permit: Option<Permit>) {
    if let Some(permit) = permit {
        permit.release(CallOutcome { outcome: Signal::Ignored, latency_ms: 0, at: clock::now() }).await;
    }
}
