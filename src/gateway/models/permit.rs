//! The permit for a call of a service with a concurrency limit, or one whose breaker is not closed.

use std::pin::pin;
use std::rc::Rc;

use futures_channel::oneshot;
use futures_util::future::{Either, select};

use crate::objects::lanes::client::{self as lanes, Lane};
use crate::objects::lanes::messages::Acquire;
use crate::objects::registry::snapshot::Entry;
use crate::platform::{clock, log_event, settings, tasks};
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::context::Admission;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::lane::PermitDecision;
use narthex_core::lane::call_outcome::CallOutcome;
use narthex_core::lane::permit_number::PermitNumber;

/// A permit that is renewed until it is released or dropped.
pub struct CallPermit {
    lane: Rc<Lane>,
    number: PermitNumber,
    _renewal: oneshot::Sender<()>,
}

impl CallPermit {
    fn new(lane: Rc<Lane>, number: PermitNumber, principal: PrincipalId) -> Self {
        let (sender, mut ended) = oneshot::channel();
        let renewed = lane.clone();
        tasks::keep_running(async move {
            loop {
                let pause = pin!(clock::pause(settings::timing().renew_ms));
                match select(&mut ended, pause).await {
                    Either::Left(_) => return,
                    Either::Right(_) => renewed.renew(number, &principal).await,
                }
            }
        });
        Self { lane, number, _renewal: sender }
    }

    /// Returns the permit with the outcome of its call.
    pub async fn release(self, outcome: CallOutcome) {
        self.lane.release(self.number, outcome).await;
    }

    /// Returns the permit without a call.
    pub async fn release_unused(self) {
        self.lane.release_unused(self.number).await;
    }
}

/// Asks the lane of a service for a permit, and waits for it as long as this. `None`: none is needed.
///
/// # Errors
/// The service has no capacity, or is not called for a while.
pub async fn acquire(
    tenant: &TenantId,
    entry: &Entry,
    admission: &Admission,
    wait_ms: u64,
) -> Result<Option<CallPermit>, Problem> {
    let service = &entry.service().id;
    let lane = Rc::new(Lane::of(tenant, entry));
    let full = |detail: String, milliseconds: u64| {
        let seconds = milliseconds.div_ceil(1_000).max(1).to_string();
        Err(Problem::new(Code::NoServiceAvailable, detail).with_header("Retry-After", seconds))
    };
    let at_limit = || full(format!("The service {service} is at its limit of concurrent calls."), 1_000);
    match lane.acquire(&Acquire::of(admission, false, wait_ms)).await {
        Ok(PermitDecision::Permit { number, .. }) => Ok(Some(CallPermit::new(lane, number, admission.owner.clone()))),
        Ok(PermitDecision::Free) => Ok(None),
        Ok(PermitDecision::Waiting) => {
            lanes::leave(tenant, entry, &admission.id).await;
            at_limit()
        }
        Ok(PermitDecision::TooLate) => at_limit(),
        Ok(PermitDecision::Full { retry_after_ms }) => full(format!("The queue of {service} is full."), retry_after_ms),
        Ok(PermitDecision::Open { until }) => {
            let left = until.since(clock::now());
            full(format!("The service {service} has failed repeatedly and is not called for a while."), left)
        }
        Err(failure) => {
            log_event!(LaneNotReached, tenant = tenant, service = service, detail = &failure);
            full(format!("The limits of {service} could not be checked."), 1_000)
        }
    }
}
