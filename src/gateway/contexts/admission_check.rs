//! Asks the lane of a service before a context is admitted to it. What the answer means is decided in the core.

use crate::objects::lanes::client::Lane;
use crate::objects::lanes::messages::Acquire;
use crate::objects::registry::snapshot::Entry;
use crate::platform::{clock, log_event};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::context::Admission;
use narthex_core::execution::admission_check::{AdmissionCheck, with_lane, without_lane};
use narthex_core::execution::driver::{Permit, Unreachable};
use narthex_core::http::problem::{Code, Problem};

pub enum AdmissionStart {
    /// The attempt may start as soon as the context exists.
    Now(Option<Permit>),
    /// The context is admitted; the lane queues it or rejects the attempt later.
    Queued,
}

/// Asks the service's lane for a permit, if the service has a lane. `here`: this Worker would make the attempt.
pub async fn check(
    tenant: &TenantId,
    admission: &Admission,
    entry: &Entry,
    here: bool,
) -> Result<AdmissionStart, Problem> {
    let lane = Lane::of(tenant, entry);
    let checked = match without_lane(entry, clock::now()) {
        Some(checked) => checked,
        None => {
            let reply = lane.acquire(&Acquire::of(admission, false, 0)).await.map_err(|failure| {
                let (context, service) = (&admission.id, &admission.service);
                log_event!(LaneNotReached, tenant = tenant, context = context, service = service, detail = &failure);
                Unreachable
            });
            with_lane(entry, reply, here, clock::now())
        }
    };
    Ok(match checked {
        AdmissionCheck::Start(permit) => AdmissionStart::Now(permit),
        AdmissionCheck::Return(permit) => {
            lane.release_unused(permit.number).await;
            AdmissionStart::Now(None)
        }
        AdmissionCheck::Queue => AdmissionStart::Queued,
        AdmissionCheck::Full { retry_after_ms } => {
            let seconds = retry_after_ms.div_ceil(1000).max(1);
            let service = &entry.service().id;
            let detail =
                format!("The queue of {service} is full. Try again in {seconds} s, or with a higher priority.");
            return Err(Problem::new(Code::QueueFull, detail).with_header("Retry-After", seconds.to_string()));
        }
    })
}
