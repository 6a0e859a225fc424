//! The way to a service that asks for a permit first: through its lane, or not at all now.
//!
//! A context that stands in line waits as `queued`, offered to the worker that stands there for it; the offer and
//! whatever lease there is are kept alive meanwhile. When the worker is gone, the store offers the context to another.

use crate::objects::contexts::messages::{Ask, Reply, Work};
use crate::objects::registry::snapshot::Entry;
use crate::platform::{Failure, clock, log_event, random, settings};
use narthex_core::base::time::Timestamp;
use narthex_core::context::ContextError;
use narthex_core::context::status::ErrorCode;
use narthex_core::lane::call_outcome::{CallOutcome, Signal};

use super::{News, Timings, Waiter, Worked, ask_stubbornly, holding};
use crate::objects::lanes::client::{self as lanes, Asking, Entered, Permit};

pub enum Gate {
    Open(Option<Permit>),
    /// The attempt is not made, by this worker or at all; the store knows.
    Shut,
    /// The attempt was leased already; it ends with this.
    Refused(ContextError),
}

/// Passes the gate of a service, or says why not.
pub async fn pass(tenant: &str, work: &Work, entry: &Entry, waiter: &mut Waiter) -> Result<Gate, Failure> {
    let (admission, service) = (&work.admission, &entry.service().id);
    let asking = Asking::about(tenant, entry, admission, true);
    let timing = settings::timing();
    loop {
        let turn = if waiter.waits() { timing.long_turn_ms } else { timing.turn_ms };
        let turn = turn.min(admission.expires_at.since(clock::now()));
        let acquiring = lanes::acquire(&asking, turn);
        let Some(entered) = holding(tenant, admission, work.lease, None, waiter, acquiring).await else {
            // Cancelled, ended, or somebody else's.
            lanes::leave(tenant, entry, &admission.id).await;
            waiter.tell(News::GoesOn);
            return Ok(Gate::Shut);
        };
        match entered {
            Ok(Entered::Free) => return Ok(Gate::Open(None)),
            Ok(Entered::Permit(permit)) => return Ok(Gate::Open(Some(permit))),
            Ok(Entered::Waiting | Entered::Full { .. }) if waiter.waits() || work.lease > 0 => {}
            Ok(Entered::Waiting | Entered::Full { .. }) => {
                put_back(tenant, work, None).await?;
                return Ok(Gate::Shut);
            }
            Ok(Entered::Open { until }) => return closed_off(tenant, work, entry, until, waiter).await,
            Ok(Entered::TooLate) => {
                let message = "What is left of its time is less than the service takes.";
                return refuse(tenant, work, error(ErrorCode::DeadlineExceeded, message, entry), waiter).await;
            }
            // Without a limit the lane's word is only advice.
            Err(failure) if !lanes::is_limited(entry) => {
                log_event!(
                    LaneNotReached,
                    tenant = tenant,
                    context = &admission.id,
                    service = service,
                    detail = &failure
                );
                return Ok(Gate::Open(None));
            }
            Err(failure) => {
                log_event!(
                    LaneNotReached,
                    tenant = tenant,
                    context = &admission.id,
                    service = service,
                    detail = &failure
                );
                waiter.pause(timing.lane_away_ms).await;
            }
        }
        if admission.expires_at <= clock::now() {
            // Its store ends it.
            waiter.tell(News::GoesOn);
            return Ok(Gate::Shut);
        }
    }
}

/// Who waits is told at once; what nobody waits for comes back when the service may be tried again.
async fn closed_off(
    tenant: &str,
    work: &Work,
    entry: &Entry,
    until: Timestamp,
    waiter: &mut Waiter,
) -> Result<Gate, Failure> {
    // Not all in the same moment.
    let until = until.plus_ms(random::number() % 500);
    if !waiter.waits() && work.lease == 0 && until < work.admission.expires_at {
        put_back(tenant, work, Some(until)).await?;
        return Ok(Gate::Shut);
    }
    let message = "Its circuit is open: the service failed too often, and is not called for a while.";
    refuse(tenant, work, error(ErrorCode::CircuitOpen, message, entry), waiter).await
}

/// Nobody waits, and the only services that could do it are offline: the context is looked at again later, as long as
/// it has time.
pub async fn wait_for_service(tenant: &str, work: &Work) -> Result<(), Failure> {
    let offline_ms = settings::timing().offline_ms;
    put_back(tenant, work, Some(clock::now().plus_ms(offline_ms + random::number() % (offline_ms / 3 + 1)))).await
}

fn error(code: ErrorCode, message: &str, entry: &Entry) -> ContextError {
    ContextError { code, message: message.into(), service: Some(entry.service().id.clone()), details: None }
}

async fn put_back(tenant: &str, work: &Work, until: Option<Timestamp>) -> Result<(), Failure> {
    let put_back = Ask::PutBack { id: work.admission.id.clone(), until };
    ask_stubbornly(tenant, &work.admission.id, put_back).await.map(drop)
}

async fn refuse(tenant: &str, work: &Work, error: ContextError, waiter: &mut Waiter) -> Result<Gate, Failure> {
    if work.lease > 0 {
        return Ok(Gate::Refused(error));
    }
    let id = &work.admission.id;
    match ask_stubbornly(tenant, id, Ask::Refuse { id: id.clone(), error }).await? {
        Reply::Changed { view, ended: true } => {
            waiter.tell(News::Ended(Worked { view, result: None, timings: Timings::default() }));
        }
        _ => waiter.tell(News::GoesOn),
    }
    Ok(Gate::Shut)
}

/// Gives a permit back with which no call was made.
pub async fn unused(permit: Option<Permit>) {
    if let Some(permit) = permit {
        permit.release(CallOutcome { outcome: Signal::Ignored, latency_ms: 0, at: clock::now() }).await;
    }
}
