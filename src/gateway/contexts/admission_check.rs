//! The check before a context is admitted to a service that has a lane: whether the queue has room, and whether the
//! first attempt may start at once.

use crate::execution::gate;
use crate::objects::lanes::client::{self as lanes, AcquireResult, Permit, PermitRequest};
use crate::objects::registry::snapshot::Entry;
use crate::platform::log_event;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::context::Admission;
use narthex_core::execution::known_service::KnownService;
use narthex_core::http::problem::{Code, Problem};

pub enum AdmissionCheck {
    /// The attempt may start as soon as the context exists.
    Start(Option<Permit>),
    /// The context is admitted; the lane queues it or rejects the attempt later.
    Queue,
}

/// Asks the service's lane for a permit, if the service has a lane. `here`: this Worker would make the attempt.
pub async fn check(
    tenant: &TenantId,
    admission: &Admission,
    entry: &Entry,
    here: bool,
) -> Result<AdmissionCheck, Problem> {
    if !entry.is_gated() {
        return Ok(AdmissionCheck::Start(None));
    }
    Ok(match lanes::acquire(&PermitRequest::new(tenant, entry, admission, false), 0).await {
        Ok(AcquireResult::Free) => AdmissionCheck::Start(None),
        Ok(AcquireResult::Permit(permit)) if here => AdmissionCheck::Start(Some(permit)),
        Ok(AcquireResult::Permit(permit)) => {
            // The Worker that takes the context from the queue acquires its own permit.
            gate::release_unused(Some(permit)).await;
            AdmissionCheck::Start(None)
        }
        Ok(AcquireResult::Full { retry_after_ms }) => {
            let seconds = retry_after_ms.div_ceil(1000).max(1);
            let detail = format!(
                "The queue of {} is full. Try again in {seconds} s, or with a higher priority.",
                entry.service().id
            );
            return Err(Problem::new(Code::QueueFull, detail).with_header("Retry-After", seconds.to_string()));
        }
        Ok(AcquireResult::Waiting | AcquireResult::Open { .. } | AcquireResult::TooLate) => AdmissionCheck::Queue,
        Err(failure) => {
            log_event!(
                LaneNotReached,
                tenant = tenant,
                context = &admission.id,
                service = &admission.service,
                detail = &failure,
            );
            AdmissionCheck::Queue
        }
    })
}
