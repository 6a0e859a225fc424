//! Before a context is admitted to a service that has a lane: whether there is room, and whether it may begin at once.

use crate::execution::gate;
use crate::objects::lanes::client::{self as lanes, Asking, Entered, Permit};
use crate::objects::registry::snapshot::Entry;
use crate::platform::log_event;
use narthex_core::context::Admission;
use narthex_core::http::problem::{Code, Problem};

pub enum Entrance {
    /// The attempt may begin as soon as the context exists.
    Now(Option<Permit>),
    /// The context is admitted, and stands in line or is refused there.
    Later,
}

/// Asks the lane of a service, if it has one. `here` when this worker would make the attempt.
pub async fn enter(tenant: &str, admission: &Admission, entry: &Entry, here: bool) -> Result<Entrance, Problem> {
    if !lanes::is_gated(entry) {
        return Ok(Entrance::Now(None));
    }
    Ok(match lanes::acquire(&Asking::about(tenant, entry, admission, false), 0).await {
        Ok(Entered::Free) => Entrance::Now(None),
        Ok(Entered::Permit(permit)) if here => Entrance::Now(Some(permit)),
        Ok(Entered::Permit(permit)) => {
            // Whoever takes it from the queue asks again.
            gate::unused(Some(permit)).await;
            Entrance::Now(None)
        }
        Ok(Entered::Full { retry_after_ms }) => {
            let seconds = retry_after_ms.div_ceil(1000).max(1);
            let detail = format!(
                "{} has as many contexts waiting as it takes. Try again in {seconds} s, or with a higher priority.",
                entry.service().id
            );
            return Err(Problem::new(Code::QueueFull, detail).with_header("Retry-After", seconds.to_string()));
        }
        Ok(Entered::Waiting | Entered::Open { .. } | Entered::TooLate) => Entrance::Later,
        Err(failure) => {
            log_event!(
                LaneNotReached,
                tenant = tenant,
                context = &admission.id,
                service = &admission.service,
                detail = &failure,
            );
            Entrance::Later
        }
    })
}
